"""Reading the config: whole, or refused with place and reason."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tm import configfile
from tm.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "config.json"


def problem(file: Path) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        configfile.parse(configfile.read(file), file)
    assert str(caught.value).startswith(f"config file {file}")
    return caught.value


def test_any_json_is_a_config(file: Path) -> None:
    for text, value in (("{}", {}), ("[1]", [1]), ("null", None), (' {"a": "ü"}\n', {"a": "ü"})):
        file.write_text(text, encoding="utf-8")
        assert configfile.parse(configfile.read(file), file) == value


def test_a_byte_order_mark_does_no_harm(file: Path) -> None:
    file.write_bytes(b'\xef\xbb\xbf{"a": 1}')
    assert configfile.parse(configfile.read(file), file) == {"a": 1}


def test_missing(file: Path) -> None:
    assert problem(file).problem == "no such file"


def test_a_directory(file: Path) -> None:
    file.mkdir()
    assert problem(file).problem == "is not a regular file"


def test_empty(file: Path) -> None:
    file.write_text(" \n")
    assert problem(file).problem == "is empty"


def test_not_json_has_line_and_column(file: Path) -> None:
    file.write_text('{\n  "a": 1\n  "b": 2\n}')
    error = problem(file)
    assert (error.line, error.column) == (3, 3)
    assert f"{file}, line 3, column 3: " in str(error)


def test_not_utf_8(file: Path) -> None:
    file.write_bytes(b'{"a": "\xff"}')
    assert "UTF-8" in problem(file).problem or "utf-8" in problem(file).problem


def test_too_large(file: Path) -> None:
    file.write_text(" " * (configfile.MAX_SIZE + 1))
    assert problem(file).problem == "has 1,048,577 bytes; at most 1,048,576 are read"


def test_nested_too_deeply(file: Path) -> None:
    file.write_text("[" * 200_000)
    assert problem(file).problem == "is nested too deeply"


def test_a_number_too_long_to_be_read(file: Path) -> None:
    file.write_text('{"a": ' + "9" * 5000 + "}")
    assert "4300 digits" in problem(file).problem
