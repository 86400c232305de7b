"""How an attempt's failure is written down: a msgpack map that the server and history keep."""

from __future__ import annotations

import traceback
from typing import TYPE_CHECKING, Any

from tm import codec
from tm.errors import CodecError

if TYPE_CHECKING:
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
