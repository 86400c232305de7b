"""The server's clock, read once in a while and carried on by this machine's monotonic one.

Ticks, leases and retries live in the server's time. The wall clock of this machine plays no part, so it may be wrong
or be set while the scheduler runs.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Protocol

from tm.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable

log = get_logger("scheduler")

#: a jump of the server's clock beyond this is worth a line in the log
JUMP_MS = 60_000


class HasTime(Protocol):
    """What the clock needs of the store."""

    def server_ms(self) -> int:
        """Milliseconds since the epoch, by the server's clock."""
        ...


class ServerClock:
    """The server's time, to within half a round trip; steps only when `measure` finds that the server's has.

    Nothing guards against steps here: who makes ticks goes by the cursor, which never moves back.
    """

    def __init__(self, store: HasTime, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._store, self._monotonic = store, monotonic
        self._offset_ms: float | None = None

    def measure(self) -> int:
        """Read the server's clock; returns by how many milliseconds it left the path it was on (0 at first)."""
        before = self._monotonic()
        server = self._store.server_ms()
        after = self._monotonic()
        offset = server - (before + after) / 2 * 1000
        jump = 0 if self._offset_ms is None else round(offset - self._offset_ms)
        self._offset_ms = offset
        # half a round trip of uncertainty each way is no jump
        if abs(jump) > JUMP_MS + (after - before) * 1000:
            log.warning("the server's clock jumped", seconds=jump / 1000)
        return jump

    def now_ms(self) -> int:
        """The server's present."""
        return int(self._now())

    def seconds_until(self, at_ms: int) -> float:
        """How long until the server's clock shows `at_ms`; negative when it has passed."""
        return (at_ms - self._now()) / 1000

    def _now(self) -> float:
        if self._offset_ms is None:
            self.measure()
            assert self._offset_ms is not None  # noqa: S101 - for the type checker: just measured
        return self._monotonic() * 1000 + self._offset_ms
