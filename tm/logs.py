"""Logs of the services: constant events with fields, one line each, as text for people or JSON for machines.

    log = get_logger("worker")
    log.info("attempt finished", run=run, task=task, ms=12)

    2026-11-24 03:52:01.123 INFO  worker     attempt finished  run=etl-20261124T0352Z task=load ms=12

Whatever a field holds, a line stays one line without control characters, and no URL in it shows its password.
"""

from __future__ import annotations

import logging
import re
import sys
import time
from typing import TYPE_CHECKING, Any, TextIO

from tm.redact import redact

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}


def configure(level: str = "info", log_format: str = "text", *, stream: TextIO | None = None) -> None:
    """Send the logs of this process to stderr; called once by each service, repeating it replaces the first.

    Other packages are heard from warnings on.

    Args:
        level: debug, info, warning or error.
        log_format: text or json.
        stream: somewhere else than stderr.
    """
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.set_name("tm")
    handler.setFormatter(_Json() if log_format == "json" else _Text())
    root = logging.getLogger()
    for each in [each for each in root.handlers if each.get_name() == "tm"]:
        root.removeHandler(each)
    root.addHandler(handler)
    logging.getLogger("tm").setLevel(LEVELS[level])
    if log_format == "json":
        _nothing_else_is_said()


def cannot_start(part: str, error: Exception, log_format: str) -> None:
    """Say why a service does not start, in the form of its log: who collects lines of JSON gets no other."""
    if log_format == "json":
        configure(log_format="json")
        get_logger(part).error("cannot start", reason=str(error))
    else:
        print(f"tm-{part}: {error}", file=sys.stderr)


def _nothing_else_is_said() -> None:
    """Who reads lines as JSON gets no other ones: what Python itself would say goes through the log."""
    import threading

    logging.captureWarnings(True)
    sys.excepthook = _unforeseen
    threading.excepthook = lambda args: _unforeseen(args.exc_type, args.exc_value, args.exc_traceback)


def _unforeseen(kind: type[BaseException], error: BaseException | None, traceback: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        return  # whoever pressed Ctrl-C knows
    about = (kind, error or kind(), traceback)
    logging.getLogger("tm").critical("an error nobody foresaw", exc_info=about)


def get_logger(name: str) -> Log:
    """The log of one part of Taskmaster, such as "worker"."""
    return Log(logging.getLogger(f"tm.{name}"), {})


class Log:
    """Says events: a constant text, so that they can be counted, and what varies as fields."""

    def __init__(self, logger: logging.Logger, fields: Mapping[str, Any]) -> None:
        self._logger, self._fields = logger, dict(fields)

    def bind(self, **fields: Any) -> Log:
        """A log that adds these fields to everything it says."""
        return Log(self._logger, {**self._fields, **fields})

    def debug(self, event: str, /, **fields: Any) -> None:
        """Of interest when looking for a fault."""
        self._say(logging.DEBUG, event, fields)

    def info(self, event: str, /, **fields: Any) -> None:
        """A transition, as it should be."""
        self._say(logging.INFO, event, fields)

    def warning(self, event: str, /, **fields: Any) -> None:
        """Something to look at; the work goes on."""
        self._say(logging.WARNING, event, fields)

    def error(self, event: str, /, **fields: Any) -> None:
        """Something did not work and somebody has to act."""
        self._say(logging.ERROR, event, fields)

    def exception(self, event: str, /, **fields: Any) -> None:
        """An error, with the traceback of the exception that is being handled."""
        self._say(logging.ERROR, event, fields, traceback=True)

    def _say(self, level: int, event: str, fields: Mapping[str, Any], *, traceback: bool = False) -> None:
        if self._logger.isEnabledFor(level):
            extra = {"fields": {**self._fields, **fields}}
            self._logger.log(level, event, extra=extra, exc_info=traceback, stacklevel=3)


#: control characters, those that reorder or break what a terminal shows, and halves of characters
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def clean(text: str) -> str:
    """The text with control characters written out, so that nobody can forge or hide a line."""
    return _CONTROL.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    fields = getattr(record, "fields", None)
    return fields if isinstance(fields, dict) else {}


class _Text(logging.Formatter):
    """2026-11-24 03:52:01.123 INFO  scheduler  tick started  graph=etl."""

    def format(self, record: logging.LogRecord) -> str:
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(record.created))
        level = "WARN" if record.levelname == "WARNING" else record.levelname
        head = f"{when}.{int(record.msecs):03} {level:5} {record.name.removeprefix('tm.'):9}  {_event(record)}"
        fields = " ".join(f"{clean(name)}={_value(value)}" for name, value in _fields(record).items())
        lines = [f"{head}  {fields}" if fields else head]
        if record.exc_info:
            lines += [f"    {clean(redact(line))}" for line in self.formatException(record.exc_info).splitlines()]
        return "\n".join(lines)


def _value(value: Any) -> str:
    text = clean(redact(str(value)))
    if text and not re.search(r"[\s=\"]", text):
        return text
    return '"' + text.replace('"', '\\"') + '"'


class _Json(logging.Formatter):
    """One object a line: at (UTC), level, part, event, then the fields under their own names."""

    def format(self, record: logging.LogRecord) -> str:
        import json

        seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line: dict[str, Any] = {
            "at": f"{seconds}.{int(record.msecs):03}Z",
            "level": record.levelname.lower(),
            "part": record.name.removeprefix("tm."),
            "event": _event(record),
        }
        for name, value in _fields(record).items():
            line[name if name not in line else f"{name}_"] = _plain(value)
        if record.exc_info:
            line["traceback"] = redact(self.formatException(record.exc_info))
        return json.dumps(line, allow_nan=False)


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float) and value - value == 0:  # JSON has neither NaN nor infinity
        return value
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return redact(str(value))


def _event(record: logging.LogRecord) -> str:
    return clean(redact(record.getMessage()))
