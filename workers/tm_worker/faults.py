"""How an attempt's failure is written down: a msgpack map that the server and history keep."""

from __future__ import annotations

import inspect
import linecache
import traceback
from typing import TYPE_CHECKING, Any

from tm import codec
from tm.errors import CodecError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import TracebackType

#: characters kept of a message and of a traceback, whose end says most
MAX_TEXT, MAX_TRACEBACK = 10_000, 50_000


def fault(kind: str, message: str, trace: str = "", **more: int | str | None) -> bytes:
    """A failure in words; `more` are `path`, `signal`, `exit_code`, `max_rss`, where known."""
    fields: dict[str, Any] = {
        "type": _valid(kind),
        "message": _valid(message)[:MAX_TEXT],
        "traceback": _valid(trace)[-MAX_TRACEBACK:],
    }
    fields.update((name, value) for name, value in more.items() if value is not None)
    return codec.encode(fields)


def describe(error: BaseException, skip: str = "") -> bytes:
    """An exception as a failure, without the frames of the file `skip` that lead to the user's code."""
    kind = type(error)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    path = error.path if isinstance(error, CodecError) else None
    return fault(name, _message(error), _trace(error, skip), path=path and _valid(path))


def keep_sources(functions: Iterable[Callable[..., Any]]) -> None:
    """Let tracebacks show the files of these functions as they are now, also when somebody edits them later.

    A worker runs what it has loaded; with the lines of an edited file beside it, a traceback would show code that
    never ran. Executors get this with the fork.
    """
    codes = (getattr(inspect.unwrap(each), "__code__", None) for each in functions)
    for file in {code.co_filename for code in codes if code is not None}:
        linecache.getlines(file)
        entry = linecache.cache.get(file)
        if entry is not None and len(entry) == 4:
            linecache.cache[file] = (entry[0], None, entry[2], entry[3])  # without a time it is not checked again


def _message(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # noqa: BLE001 - a broken __str__ must not hide the error
        return "(its message cannot be shown)"


def _trace(error: BaseException, skip: str) -> str:
    trace: TracebackType | None = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename == skip:
        trace = trace.tb_next
    try:
        return "".join(traceback.format_exception(type(error), error, trace))
    except Exception:  # noqa: BLE001 - as above
        return ""


def _valid(text: str) -> str:
    """The text with half surrogate pairs spelled out: file names may hold them, messages may not."""
    return text.encode("utf-8", "backslashreplace").decode()
