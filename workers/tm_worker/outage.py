"""Patience with a server that is away: try for ever, ever less often, and say so once."""

from __future__ import annotations

import random

import redis.exceptions

from tm.logs import get_logger
from tm.redact import redact
from tm.store.outages import in_words

log = get_logger("worker")

#: what a server that is away, starting, full, read-only or misconfigured makes redis-py raise
AWAY = (redis.exceptions.RedisError, OSError)
#: seconds; the last leaves time for work within the 5 s promised from "server back", and a herd spreads over half of it
FIRST_DELAY, LONGEST_DELAY = 0.1, 3.0


class Outage:
    """Whether the server answers, and when to try again if not.

    Args:
        where: the server, for the log.
        quiet: somebody else tells of the same outage.
    """

    def __init__(self, where: str, *, quiet: bool = False) -> None:
        self.where = redact(where)
        self._warn = log.debug if quiet else log.warning
        self._inform = log.debug if quiet else log.info
        self.retry_at: float | None = None  #: by the monotonic clock; None while the server answers
        self.recovered = 0  #: times the server came back
        self._delay = FIRST_DELAY
        self._refused = False  # the password, and we have said so

    def may_try(self, now: float) -> bool:
        """Whether it is time for a call."""
        return self.retry_at is None or now >= self.retry_at

    def failed(self, error: Exception, now: float) -> None:
        """A call failed; the next try is some time from now, at random so that workers do not come in step."""
        refused = isinstance(error, redis.exceptions.AuthenticationError)
        # a connection that is cut comes first at times, and only the next try tells that somebody has to do something
        if self.retry_at is None or (refused and not self._refused):
            self._refused = refused
            self._warn("server away, trying again until it is back", server=self.where, reason=in_words(error))
        self.retry_at = now + self._delay * random.uniform(0.5, 1.0)  # noqa: S311 - no secret
        self._delay = min(self._delay * 2, LONGEST_DELAY)

    def answered(self, now: float) -> None:
        """Something came in from the server, so there is no point in waiting longer."""
        if self.retry_at is not None:
            self.retry_at = now

    def over(self) -> None:
        """A call succeeded."""
        if self.retry_at is not None:
            self._inform("server back", server=self.where)
            self.recovered += 1
            self.retry_at = None
            self._delay = FIRST_DELAY
