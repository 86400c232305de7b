"""How much memory executors take: seen by themselves after an attempt, and from outside while one runs.

Two limits. Beyond `max_memory` an executor is replaced once its attempt has ended: against leaks, at no cost.
Beyond `memory_limit` an attempt is ended while it runs: against one that would take the machine along. The first looks
at the process alone, for its descendants have ended with the attempt. The second counts them in, with their share of
the pages they share (PSS), or a task that forks would pay for the same page many times.

Linux; where there is no /proc nobody is ever too large.
"""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tm import children

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

#: milliseconds an attempt takes at least to be worth a look: who ends sooner cannot have touched much memory
WORTH_A_LOOK = 1
#: seconds between two looks after attempts that are not
LOOK_EVERY = 1.0
#: seconds between two looks at what runs
WATCH_EVERY = 1.0

_PAGE = os.sysconf("SC_PAGE_SIZE")


class Gauge:
    """For an executor: whether this process has grown beyond a limit. Open it in the process it is about.

    A look costs 1 us; after the shortest attempts, which are the most, it is left out.
    """

    def __init__(self, limit: int | None) -> None:
        self._limit = limit
        self._look_at = 0.0
        self._file = -1
        if limit is not None:
            with contextlib.suppress(OSError):
                self._file = os.open("/proc/self/statm", os.O_RDONLY | os.O_CLOEXEC)

    def too_large(self, milliseconds: int) -> bool:
        """To be asked after an attempt that took so long."""
        if self._file < 0 or self._limit is None:
            return False
        if milliseconds < WORTH_A_LOOK:
            now = time.monotonic()
            if now < self._look_at:
                return False
            self._look_at = now + LOOK_EVERY
        try:
            return _resident(os.pread(self._file, 256, 0)) > self._limit
        except (OSError, ValueError, IndexError):  # a task has closed what it did not open
            return False


def resident(pid: int | None = None) -> int:
    """Bytes of physical memory a process holds, shared ones included; 0 when that cannot be told."""
    try:
        return _resident(Path(f"/proc/{pid or 'self'}/statm").read_bytes())
    except (OSError, ValueError, IndexError):
        return 0


def of_family(pid: int) -> int:
    """The same for a process and all its descendants."""
    return resident(pid) + sum(map(_share, children.descendants(pid)))


class Watch:
    """For the supervisor: which running attempts are beyond the limit, if there is one; looks once a second."""

    def __init__(self, limit: int | None, *, measure: Callable[[int], int] = of_family) -> None:
        self.limit = limit
        self._measure = measure
        self._pids: dict[int, int] = {}
        self._look_at = 0.0

    def born(self, number: int, pid: int) -> None:
        """An executor is there."""
        self._pids[number] = pid

    def died(self, number: int) -> None:
        """It is gone, and its pid may be somebody else's soon."""
        self._pids.pop(number, None)

    def next_time(self, running: Callable[[], Sequence[int]]) -> float | None:
        """When `beyond` wants to be asked; `running` tells the executors that run something."""
        return self._look_at if self.limit is not None and running() else None

    def beyond(self, running: Callable[[], Sequence[int]], now: float) -> Mapping[int, int]:
        """Of the executors that run something, those beyond the limit, and how many bytes they hold."""
        if self.limit is None or now < self._look_at:
            return {}
        self._look_at = now + WATCH_EVERY
        held = {number: self._measure(self._pids[number]) for number in running() if number in self._pids}
        return {number: size for number, size in held.items() if size > self.limit}


def _resident(statm: bytes) -> int:
    return int(statm.split(None, 2)[1]) * _PAGE


def _share(pid: int) -> int:
    try:
        with Path(f"/proc/{pid}/smaps_rollup").open("rb") as lines:
            for line in lines:
                if line.startswith(b"Pss:"):
                    return int(line.split()[1]) << 10
    except (OSError, ValueError, IndexError):
        pass  # ended meanwhile, or not ours to look into
    return resident(pid)
