"""In an executor: what tasks print and log becomes frames for the supervisor.

`sys.stdout` and `sys.stderr` are replaced by streams that say when a line was printed; they are as complete as Python's
own. Root `logging` gets a handler. What is written past Python, by subprocesses or C code, goes into the same pipes,
which are standard output and standard error of the process. A line costs one write, an attempt that prints nothing one
question to the kernel: whether something waits in the pipes that nobody has seen, or was seen since it began.
"""

from __future__ import annotations

import contextlib
import fcntl
import io
import logging
import os
import sys
import time
from typing import Any, TextIO

import msgpack

from tm_worker import frames
from tm_worker.unread import Unread

#: descriptors of ours are above those that tasks close by number
_HIGH = 512


class Capture:
    """Captures what is printed in this process from now on.

    Standard output and standard error are pipes by now, whose other ends the supervisor reads.

    Args:
        readers: the ends that the supervisor reads, to see whether all has been read, and where it tells of its reads.
            They are closed to all but this process.
    """

    def __init__(self, readers: tuple[int, int, int]) -> None:
        self._mark = os.urandom(frames.MARK)
        self._out, self._err = (_high(descriptor) for descriptor in (1, 2))
        out, err, news = (_high(descriptor) for descriptor in readers)
        for descriptor in readers:
            os.close(descriptor)
        self._unread = Unread((out, err, news))
        self._pid = os.getpid()
        self._about: tuple[Any, ...] | None = None
        self._told = False  #: the attempt has written something, and what it is
        for descriptor in (self._out, self._err):
            os.write(descriptor, self._mark)
        self._unread.marked()
        sys.stdout = sys.__stdout__ = self._stream(1, frames.OUT, sys.stdout)  # type: ignore[misc]
        sys.stderr = sys.__stderr__ = self._stream(2, frames.ERR, sys.stderr)  # type: ignore[misc]
        self._take_over_logging()

    def begin(self, token: str, run: str, graph: str, task: str, attempt: int) -> None:
        """What is captured from now on belongs to this attempt."""
        self._about = token, run, graph, task, attempt

    def end(self) -> None:
        """The attempt has ended; call it before its report is sent, when Python's streams are flushed."""
        # who has written past Python is not known: a subprocess may have
        if not self._unread.nothing() or self._told:
            for descriptor in (self._out, self._err):
                self._send(descriptor, frames.END, msgpack.packb(self._about))
            self._unread.marked()
            self._told = False
        self._about = None

    def write(self, kind: int, data: Any) -> int:
        """Send what Python's streams have; returns how many bytes that was, which is all of it."""
        if type(data) is not bytes:
            data = bytes(data)
        size = len(data)
        if size <= frames.ROOM:
            self._say(kind, data)
        else:
            for start in range(0, size, frames.ROOM):
                self._say(kind, data[start : start + frames.ROOM])
        return size

    def log(self, level: int, logger: str, text: bytes) -> None:
        """Send a logging record; a long one in pieces at the ends of lines."""
        room = frames.ROOM - 300
        while len(text) > room:
            cut = text.rfind(b"\n", 0, room) + 1 or room
            self._say(frames.LOG, frames.pack_record(level, logger, text[:cut].removesuffix(b"\n")))
            text = text[cut:]
        self._say(frames.LOG, frames.pack_record(level, logger, text))

    def _say(self, kind: int, data: bytes) -> None:
        if not self._told and self._about is not None and os.getpid() == self._pid:
            self._told = True
            self._send(self._out, frames.BEGIN, msgpack.packb(self._about))
        self._send(self._out, kind, data)

    def _send(self, descriptor: int, kind: int, data: bytes) -> None:
        try:  # noqa: SIM105 - `suppress` takes as long as all the rest
            os.write(descriptor, frames.head(self._mark, kind, time.time_ns() // 1000, len(data)) + data)
        except OSError:
            pass  # the supervisor is gone, or a task has closed what it did not open: no reason for a task to fail

    def _stream(self, descriptor: int, kind: int, before: TextIO | None) -> io.TextIOWrapper:
        if before is not None:
            with contextlib.suppress(OSError, ValueError):
                before.flush()
        # a line that cannot be encoded is no reason for a task to fail either
        end = _End(self, descriptor, kind)
        return io.TextIOWrapper(end, encoding="utf-8", errors="backslashreplace", line_buffering=True)

    def _take_over_logging(self) -> None:
        """One handler instead of those that write to the terminal; where a user had set one, its format stays."""
        root = logging.getLogger()
        handler = _Handler(self)
        terminals = (sys.stdout, sys.stderr)
        for each in list(root.handlers):
            if not isinstance(each, logging.StreamHandler) or isinstance(each, logging.FileHandler):
                continue
            if each.get_name() == "tm":
                root.removeHandler(each)
            elif _descriptor(each.stream) in (1, 2) or each.stream in terminals:
                root.removeHandler(each)
                handler.setFormatter(each.formatter)
                handler.setLevel(each.level)
        if not root.handlers and handler.formatter is None and root.level == logging.WARNING:
            root.setLevel(logging.INFO)  # nobody has chosen; what tasks tell on purpose is to be seen
        root.addHandler(handler)


class _End(io.BufferedIOBase):
    """The end of a stream: nothing waits here, so that a line costs one call and one write."""

    def __init__(self, capture: Capture, descriptor: int, kind: int) -> None:
        super().__init__()
        self._capture, self._descriptor, self._kind = capture, descriptor, kind
        self.name = "<stdout>" if descriptor == 1 else "<stderr>"
        self.mode = "wb"

    def write(self, data: Any, /) -> int:
        return self._capture.write(self._kind, data)

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._descriptor

    def isatty(self) -> bool:
        return False


class _Handler(logging.Handler):
    """Sends records with level and logger."""

    def __init__(self, capture: Capture) -> None:
        super().__init__()
        self._capture = capture

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = self.format(record).encode(errors="backslashreplace")
            self._capture.log(record.levelno, record.name, text)
        except Exception:  # noqa: BLE001 - as logging does: a bad record is told of, and fails nobody
            self.handleError(record)


def _high(descriptor: int) -> int:
    try:
        return fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, _HIGH)
    except OSError:  # fewer are allowed
        return fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 3)


def _descriptor(stream: Any) -> int | None:
    try:
        return int(stream.fileno())
    except (AttributeError, OSError, ValueError, TypeError):
        return None
