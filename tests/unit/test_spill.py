"""The spill store: what comes back is what was written, or says why not."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

import msgpack
import pytest

from tm import codec
from tm.config import Settings
from tm.errors import CodecError, SpillError
from tm.spill import Reference, Spill, fetch, read_reference
from tm.wiring import open_spill

if TYPE_CHECKING:
    from pathlib import Path

LARGE = codec.encode({"rows": ["x" * 100] * 5000}, limit=codec.HARD_LIMIT)


@pytest.fixture
def spill(tmp_path: Path) -> Spill:
    return Spill(tmp_path / "spill" / "default")


def only_file(spill: Spill, run: str = "etl-1") -> Path:
    [path] = (spill.folder / run).iterdir()
    return path


def test_what_is_kept_is_read_through_its_reference(spill: Spill) -> None:
    reference = spill.keep("etl-1", LARGE)
    assert len(reference) < 100
    assert fetch(spill, reference) == LARGE
    assert fetch(Spill(spill.folder), reference) == LARGE, "from another process too"


@pytest.mark.parametrize("value", [b"", b"\xc0", b"\xc7", b"\xc7\x05", codec.encode({1, 2}), codec.encode(b"\xc7" * 9)])
def test_any_other_message_is_itself(spill: Spill, value: bytes) -> None:
    assert read_reference(value) is None
    assert fetch(spill, value) is value
    assert fetch(None, value) is value


def test_no_message_of_a_user_looks_like_a_reference() -> None:
    for value in (2**80, (1,), {1}, frozenset({1}), codec.decode(codec.encode([2**200, (b"x" * 40,)]))):
        assert read_reference(codec.encode(value)) is None


def test_files_are_for_this_user_alone_and_whole_before_they_have_their_name(spill: Spill) -> None:
    spill.keep("etl-1", LARGE)
    path = only_file(spill)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert not path.name.startswith("."), "no draft is left"


def test_the_same_message_again_is_the_same_file(spill: Spill) -> None:
    assert spill.keep("etl-1", LARGE) == spill.keep("etl-1", LARGE)
    only_file(spill)


def test_a_file_that_is_missing_is_named(spill: Spill) -> None:
    reference = spill.keep("etl-1", LARGE)
    path = only_file(spill)
    path.unlink()
    with pytest.raises(SpillError, match=rf"{path} cannot be read: No such file.*same directory on all machines"):
        fetch(spill, reference)


def test_a_file_that_was_cut_short_is_not_taken_for_a_message(spill: Spill) -> None:
    reference = spill.keep("etl-1", LARGE)
    path = only_file(spill)
    os.truncate(path, 100)
    with pytest.raises(SpillError, match=rf"{path} has 100 bytes, {len(LARGE):,} were written"):
        fetch(spill, reference)


def test_a_file_that_was_changed_is_not_taken_for_a_message(spill: Spill) -> None:
    reference = spill.keep("etl-1", LARGE)
    path = only_file(spill)
    path.write_bytes(LARGE[:-1] + b"!")
    with pytest.raises(SpillError, match=f"{path} is not what was written"):
        fetch(spill, reference)


def test_a_link_is_not_followed(spill: Spill, tmp_path: Path) -> None:
    reference = spill.keep("etl-1", LARGE)
    path = only_file(spill)
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SpillError, match="cannot be read"):
        fetch(spill, reference)


@pytest.mark.parametrize("run", ["../../etc", "..", ".", "", "a/b", "x" * 300])
def test_a_forged_reference_leads_nowhere_else(spill: Spill, run: str) -> None:
    forged = Reference(run, "0" * 32, 5).packed()
    if read_reference(forged) is None:
        return  # too long to be one of ours: an unknown message
    with pytest.raises(SpillError):
        fetch(spill, forged)
    try:
        path = spill._path(Reference(run, "0" * 32, 5))
    except SpillError:
        return
    assert path.resolve().is_relative_to(spill.folder.resolve())


@pytest.mark.parametrize("parts", [[], ["run"], ["run", "../../x", 3], ["run", 7, 3], ["run", "0" * 32, "3"], "text"])
def test_a_reference_that_makes_no_sense_is_refused(spill: Spill, parts: object) -> None:
    packed = msgpack.packb(msgpack.ExtType(codec.SPILLED, msgpack.packb(parts) + b" " * 20))
    with pytest.raises(SpillError, match="cannot be read; it was damaged"):
        fetch(spill, packed)


def test_where_there_is_no_store_the_setting_is_named(spill: Spill) -> None:
    reference = spill.keep("etl-1", LARGE)
    with pytest.raises(SpillError, match="set TM_SPILL"):
        fetch(None, reference)
    with pytest.raises(CodecError, match="TM_SPILL"):
        codec.decode(reference)


def test_a_directory_that_takes_nothing_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SpillError, match=r"cannot be kept in .*file.*\(setting TM_SPILL\): Not a directory"):
        Spill(tmp_path / "file").keep("etl-1", LARGE)


def test_runs_are_listed_and_forgotten(spill: Spill) -> None:
    assert spill.runs() == {}
    for run in ("etl-1", "etl.2", "a b"):
        spill.keep(run, LARGE)
    spill.belong_to("instance")
    assert spill.owner() == "instance"
    assert spill.runs().keys() == {"etl-1", "etl.2", "a b"}
    spill.forget("a b")
    spill.forget("never there")
    assert spill.runs().keys() == {"etl-1", "etl.2"}


def test_an_embedded_server_has_a_store_beside_it_and_a_shared_one_where_it_is_set(tmp_path: Path) -> None:
    embedded = open_spill(Settings(home=tmp_path))
    assert embedded is not None
    assert embedded.folder == tmp_path / "spill" / "default"
    assert open_spill(Settings(home=tmp_path, url="redis://host:1/0")) is None
    shared = open_spill(Settings(home=tmp_path, url="redis://host:1/0", spill=tmp_path / "nfs", namespace="blue"))
    assert shared is not None
    assert shared.folder == tmp_path / "nfs" / "blue"


def test_a_message_too_large_for_both_names_no_setting() -> None:
    with pytest.raises(CodecError, match=r"TM_MAX_MESSAGE.*TM_SPILL"):
        codec.encode(b"x" * 5000, limit=4096)
    with pytest.raises(CodecError) as refused:
        codec.encode(b"x" * (codec.HARD_LIMIT + 1), limit=codec.HARD_LIMIT)
    assert "TM_" not in str(refused.value)
