"""What has to happen because time passes: retries that are due, leases that lapsed, lost doorbells, run deadlines.

The server's functions decide; this file only calls them often enough, and knows when not to declare anyone dead.
"""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING, Protocol

import redis.exceptions

from tm.logs import get_logger
from tm.store.outages import is_outage

if TYPE_CHECKING:
    from collections.abc import Callable

log = get_logger("scheduler")

#: seconds between two looks; a retry that is known of is looked at when it is due
PROMOTE_EVERY, REAP_EVERY, EXPIRE_EVERY, RING_EVERY = 1.0, 1.0, 1.0, 5.0
#: seconds between two looks for retries while nobody tells of them, and how long one word of them lasts
PROMOTE_ALONE, WORD_LASTS = 0.25, 2.0
#: seconds beyond a lease that workers get to be heard of after we or the server were away
PATIENCE = 5.0
#: so many calls of one duty in one pass, for the server and the ticks have other things to do
CALLS_PER_PASS = 10
#: what one call handles at most (the functions' own limit)
LIMIT = 200


class SweepStore(Protocol):
    """What sweeping needs of the store."""

    def promote(self, limit: int = ...) -> tuple[int, int | None]:
        """Queue retries that are due; returns how many, and ms until the next."""
        ...

    def reap(self, limit: int = ..., *, asked_ms: int | None = ...) -> int:
        """Declare attempts lost whose lease has lapsed."""
        ...

    def ring(self, limit: int = ...) -> int:
        """Ring lost doorbells again."""
        ...

    def expire(self, limit: int = ...) -> int:
        """End runs past their time-out."""
        ...

    def alarm(self, limit: int = ...) -> int:
        """Tell of open runs past their deadline."""
        ...


class Sweep:
    """Calls the time-driven functions, each at its own pace.

    Args:
        store: whose functions are called.
        lease: seconds a worker may be silent.
        monotonic: seconds.
        server_ms: our idea of the server's time, so that a call which was held up on its way declares nobody dead.
    """

    def __init__(
        self,
        store: SweepStore,
        *,
        lease: float,
        monotonic: Callable[[], float] = time.monotonic,
        server_ms: Callable[[], int] | None = None,
    ) -> None:
        self._server_ms = server_ms
        self._store, self._lease, self._monotonic = store, lease, monotonic
        now = monotonic()
        self._promote_at = self._reap_at = self._expire_at = self._ring_at = now
        self._last_pass = now
        self._told_until = now
        self._expected: deque[float] = deque()  # thread-safe: another thread appends
        self._failing: set[str] = set()
        self.hold_reaping()

    def hold_reaping(self) -> None:
        """Declare nobody dead for a lease and a bit: we or the server were away, and so may the heartbeats be."""
        self._reap_not_before = self._monotonic() + self._lease + PATIENCE

    def told_of_retries(self, at: float | None) -> None:
        """Somebody watches the events, and the next retry is due then (monotonic seconds); from any thread."""
        self._told_until = self._monotonic() + WORD_LASTS
        if at is not None:
            self._expected.append(at)

    def one_pass(self) -> None:
        """Do what it is time for.

        Raises:
            redis.exceptions.RedisError: the server is away; what it refuses (an error reply) is logged instead, and
                the other duties go on.
        """
        now = self._monotonic()
        # this process was stopped, or the server frozen, for longer than the beats of a living worker can bridge
        if now - self._last_pass > min(PATIENCE, self._lease / 2):
            self.hold_reaping()
        self._last_pass = now
        self._hear_of_retries()
        if now >= self._promote_at:
            self._promote_at = now + (PROMOTE_EVERY if now < self._told_until else PROMOTE_ALONE)
            self._guarded("promote", self._promote)
        if now >= self._reap_at and now >= self._reap_not_before:
            self._reap_at = now + REAP_EVERY
            self._guarded("reap", lambda: self._repeat("lost attempts", self._reap))
        if now >= self._expire_at:
            self._expire_at = now + EXPIRE_EVERY
            self._guarded("expire", lambda: self._repeat("runs timed out", self._store.expire))
            self._guarded("alarm", lambda: self._repeat("deadlines missed", self._store.alarm))
        if now >= self._ring_at:
            self._ring_at = now + RING_EVERY
            self._guarded("ring", lambda: self._repeat("doorbells rung again", self._store.ring, once=True))

    def seconds_left(self) -> float:
        """Until `one_pass` has something to do."""
        self._hear_of_retries()
        reap_at = max(self._reap_at, self._reap_not_before)
        return max(0.0, min(self._promote_at, reap_at, self._expire_at, self._ring_at) - self._monotonic())

    def _hear_of_retries(self) -> None:
        while self._expected:
            self._promote_at = min(self._promote_at, self._expected.popleft())

    def _promote(self) -> None:
        for _ in range(CALLS_PER_PASS):
            moved, wait = self._store.promote(LIMIT)
            if moved < LIMIT:
                break
        if wait is not None:
            self._promote_at = min(self._promote_at, self._monotonic() + wait / 1000)

    def _reap(self, limit: int) -> int:
        return self._store.reap(limit, asked_ms=self._server_ms() if self._server_ms else None)

    def _repeat(self, what: str, call: Callable[[int], int], *, once: bool = False) -> None:
        total = 0
        for _ in range(1 if once else CALLS_PER_PASS):
            handled = call(LIMIT)
            total += handled
            if handled < LIMIT:
                break
        if total:
            log.info(what, count=total)

    def _guarded(self, duty: str, action: Callable[[], None]) -> None:
        try:
            action()
        except redis.exceptions.ResponseError as error:
            if is_outage(error):
                raise
            if duty not in self._failing:
                log.warning("the server refused a duty; the others go on", duty=duty, error=str(error))
            self._failing.add(duty)
        else:
            self._failing.discard(duty)
