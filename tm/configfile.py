"""The JSON file that parametrises a graph: read whole and afresh at every run, or refused with place and reason."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tm.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

#: bytes; a config is for parameters, data goes elsewhere
MAX_SIZE = 1 << 20


def read(path: Path) -> str:
    """The text of the file.

    Raises:
        ConfigError: it is missing, unreadable, too large or not UTF-8.
    """
    try:
        if not path.is_file():
            raise ConfigError(str(path), "no such file" if not path.exists() else "is not a regular file")
        size = path.stat().st_size
        if size > MAX_SIZE:
            raise ConfigError(str(path), f"has {size:,} bytes; at most {MAX_SIZE:,} are read")
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(str(path), f"is not UTF-8 (byte {error.start})") from error
    except OSError as error:
        raise ConfigError(str(path), error.strerror or str(error)) from error


def parse(text: str, path: Path) -> Any:
    """The value that a config text describes; `path` is for the error message.

    Raises:
        ConfigError: it is not JSON; with line and column.
    """
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        reason = "is empty" if not text.strip() else error.msg
        raise ConfigError(str(path), reason, line=error.lineno, column=error.colno) from error
    except RecursionError as error:
        raise ConfigError(str(path), "is nested too deeply") from error
    except ValueError as error:  # a number of more digits than Python is willing to read
        raise ConfigError(str(path), str(error)) from error
