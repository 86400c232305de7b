"""Shows on this process's own output what tasks print, and never waits for it.

A terminal may stand still (Ctrl-S, a dead connection), a pipe may have no reader. So what is written goes to a
description of our own that does not block; what it does not take is kept, within bounds, and then left out.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import select
import stat
import sys
import time
import zlib
from typing import TYPE_CHECKING

from tm.config import wants_color
from tm.loglines import Line, Stream

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tm_worker.journal import About

#: bytes that wait at most, and how many of them make readers of tasks pause
MOST, MANY = 1 << 20, 1 << 18
#: bytes that a pipe or a terminal takes at once when it is ready and cannot be told not to block
_SURE = 512
#: seconds after which somebody who takes nothing is not waited for any more
PATIENCE = 1.0
_COLORS = (36, 32, 33, 35, 34, 96, 92, 93, 95, 94)


class Echo:
    """Writes lines of tasks to standard output and standard error.

    Args:
        prefixed: each line says which task it is from; else it is as the task wrote it.
        colored: so that tasks can be told apart.
        as_json: each line is an object, as those of the services are.
        targets: other descriptors than 1 and 2.
    """

    def __init__(
        self,
        *,
        prefixed: bool,
        colored: bool = False,
        as_json: bool = False,
        targets: Mapping[int, int] | None = None,
    ) -> None:
        self._prefixed, self._colored, self._as_json = prefixed, colored, as_json
        self._last = 1
        self._sinks = {out: _Sink(target) for out, target in (targets or {1: 1, 2: 2}).items()}

    def lines(self, lines: Sequence[Line], about: About) -> None:
        """Show lines of an attempt, with the next `flush`."""
        prefix = "" if self._as_json or not self._prefixed else self._prefix(about)
        for out, some in itertools.groupby(lines, lambda line: 1 if line.stream is Stream.STDOUT else 2):
            text = "\n".join([self._text(line, about, prefix) for line in some])
            self._write(out, text.encode(errors="backslashreplace") + b"\n")

    def _text(self, line: Line, about: About, prefix: str) -> str:
        if self._as_json:
            return _document(line, about)
        if line.stream is Stream.LOG:
            return f"{prefix}{line.level_name.upper()} {line.logger}: {line.text}"
        return f"{prefix}{line.text}"

    def stray(self, out: int, data: bytes) -> None:
        """Show bytes that are of no attempt, on standard output (1) or standard error (2)."""
        if self._as_json:
            at = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime())
            data = b"".join(
                json.dumps({"at": at, "level": "info", "part": "executor", "event": line}).encode() + b"\n"
                for line in data.decode(errors="replace").splitlines()
            )
        self._write(out, data)

    def _write(self, out: int, data: bytes) -> None:
        if out != self._last:  # both may lead to the same place, and lines stay in order there
            self._sinks[self._last].flush()
            self._last = out
        self._sinks[out].write(data)

    @property
    def crowded(self) -> bool:
        """Whether so much waits that tasks had better pause; not when nobody takes anything any more."""
        return any(sink.waiting > MANY and sink.idle < PATIENCE for sink in self._sinks.values())

    @property
    def waiting(self) -> bool:
        """Whether `flush` has something to do."""
        return any(sink.waiting for sink in self._sinks.values())

    def flush(self) -> None:
        """Write what is taken now."""
        for sink in self._sinks.values():
            sink.flush()

    def _prefix(self, about: About) -> str:
        name = f"{about.graph}/{about.task}" + (f" #{about.attempt}" if about.attempt > 1 else "")
        if self._colored:
            return f"\x1b[{_COLORS[zlib.crc32(about.task.encode()) % len(_COLORS)]}m{name}\x1b[0m | "
        return f"{name} | "


def _document(line: Line, about: About) -> str:
    seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(line.at_us // 1_000_000))
    document = {
        "at": f"{seconds}.{line.at_us // 1000 % 1000:03}Z",
        "level": line.level_name,
        "part": "task",
        "event": line.text,
        "run": about.run,
        "graph": about.graph,
        "task": about.task,
        "attempt": about.attempt,
        "stream": line.stream.value,
    }
    return json.dumps(document | ({"logger": line.logger} if line.logger else {}))


class _Sink:
    """One descriptor."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor, self._blocks = _own(descriptor)
        self._pending = bytearray()
        self._left_out = 0
        self._moved_at = time.monotonic()

    @property
    def waiting(self) -> int:
        return len(self._pending)

    @property
    def idle(self) -> float:
        """Seconds since something was taken."""
        return time.monotonic() - self._moved_at

    def write(self, data: bytes) -> None:
        if len(self._pending) + len(data) > MOST:
            self.flush()
        if len(self._pending) + len(data) > MOST:
            self._left_out += data.count(b"\n")
            return
        if self._left_out:
            self._pending += b"tm: %d lines were not shown, for nobody took them; the log has them\n" % self._left_out
            self._left_out = 0
        if not self._pending:
            self._moved_at = time.monotonic()
        self._pending += data

    def flush(self) -> None:
        before = len(self._pending)
        while self._pending:
            try:
                if self._blocks and not self._ready():
                    break
                with memoryview(self._pending) as view:
                    sent = os.write(self._descriptor, view[:_SURE] if self._blocks else view)
            except BlockingIOError:
                break
            except OSError:
                sent = len(self._pending)  # nobody is there
            del self._pending[:sent]
        if len(self._pending) < before:
            self._moved_at = time.monotonic()

    def _ready(self) -> bool:
        poll = select.poll()
        poll.register(self._descriptor, select.POLLOUT)
        return bool(poll.poll(0))


def _own(descriptor: int) -> tuple[int, bool]:
    """A descriptor for the same that does not block, and whether it may block after all."""
    try:
        kind = os.fstat(descriptor).st_mode
    except OSError:
        return os.open(os.devnull, os.O_WRONLY), False
    if stat.S_ISREG(kind):
        return descriptor, False
    if sys.platform == "linux" and not stat.S_ISSOCK(kind):
        # opened again and not duplicated: a duplicate would make whoever shares the terminal not block either
        with contextlib.suppress(OSError):
            return os.open(f"/proc/self/fd/{descriptor}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY), False
    return descriptor, True


def echo_of(how: str, log_format: str) -> Echo | None:
    """As the settings say: auto, prefixed, plain or off; text or json."""
    if how == "off":
        return None
    terminal = os.isatty(1)
    return Echo(
        prefixed=how == "prefixed" or (how == "auto" and terminal),
        colored=terminal and wants_color(),
        as_json=log_format == "json",
    )
