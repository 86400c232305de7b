"""Who makes the ticks: one scheduler at a time, by a lease that the server keeps.

The server's functions check the fencing token, so two leaders can never both succeed; what is guarded here is that a
scheduler which lost touch stops believing in itself before the server lets another one in.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Protocol

from tm.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable

    from tm.store.records import Leadership

log = get_logger("scheduler")

#: a leader that is not heard of for so long is replaced
TTL_MS = 10_000
#: share of the lease after which a leader renews it: 3 s of 10
RENEW_AFTER = 0.3
#: share of the lease after which a standby asks again: 0.5 s of 10, so that it takes over within 10.5 s
ASK_AFTER = 0.05


class LeaseStore(Protocol):
    """What leading needs of the store."""

    def lead(self, who: str, ttl_ms: int) -> Leadership | None:
        """Take or renew the lease; None while somebody else holds it."""
        ...

    def resign(self, leader: Leadership) -> None:
        """Give the lease back, if it is still held."""
        ...


class Leader:
    """Holds the lease, or asks for it again and again."""

    def __init__(
        self,
        store: LeaseStore,
        who: str,
        *,
        ttl_ms: int = TTL_MS,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store, self.who, self._ttl = store, who, ttl_ms / 1000
        self._monotonic = monotonic
        self._held: Leadership | None = None
        self._confirmed = 0.0  # when the last granted request was sent: the server's lease began no earlier
        self._ask_at = 0.0

    @property
    def current(self) -> Leadership | None:
        """The leadership, unless the server may meanwhile have given it to somebody else."""
        if self._held is not None and self._monotonic() - self._confirmed >= self._ttl:
            log.warning("leadership not renewed in time; standing by", who=self.who)
            self._held = None
        return self._held

    def one_pass(self) -> Leadership | None:
        """Renew or ask if it is time to; returns who we are now: the leadership, or None for a standby.

        Raises:
            redis.exceptions.RedisError: the server cannot be asked; a leadership held so far lasts until it lapses.
        """
        now = self._monotonic()
        if now >= self._ask_at:
            before = self.current
            granted = self._store.lead(self.who, round(self._ttl * 1000))
            self._held, self._confirmed = granted, now
            self._ask_at = now + self._ttl * (RENEW_AFTER if granted else ASK_AFTER)
            if before and not granted:
                log.warning("leadership lost; standing by", who=self.who)
        return self.current

    def seconds_left(self) -> float:
        """Until `one_pass` has something to do."""
        return max(0.0, self._ask_at - self._monotonic())

    def ask_now(self) -> None:
        """Let the next pass ask the server, whenever it last did."""
        self._ask_at = 0.0

    def step_down(self) -> None:
        """The server said that somebody else leads: stand by, and ask again like any standby."""
        log.warning("another scheduler leads now; standing by", who=self.who)
        self._held = None
        self._ask_at = self._monotonic() + self._ttl * ASK_AFTER

    def resign(self) -> None:
        """Let a standby take over at once; nothing happens if we do not lead."""
        held, self._held = self._held, None
        if held is not None:
            self._store.resign(held)
