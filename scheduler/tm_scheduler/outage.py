"""When the server is away: which errors mean that, and how long to wait before the next try."""

from __future__ import annotations

import random

import redis.exceptions

#: seconds between two tries at first and at last
SHORTEST, LONGEST = 0.1, 10.0


def is_outage(error: redis.exceptions.RedisError) -> bool:
    """Whether no call would succeed now, rather than this one.

    Besides lost connections: a replica where the primary was, a disk that is full, rights that were taken away.
    """
    if isinstance(error, redis.exceptions.ReadOnlyError | redis.exceptions.NoPermissionError):
        return True
    if isinstance(error, redis.exceptions.ResponseError):
        return "MISCONF" in str(error) or "NOAUTH" in str(error)
    return True


class Backoff:
    """Growing pauses with jitter, so that many processes do not come back at one instant."""

    def __init__(self) -> None:
        self._next = SHORTEST

    def pause(self) -> float:
        """Seconds to wait before the next try."""
        pause = self._next
        self._next = min(self._next * 2, LONGEST)
        return pause * random.uniform(0.5, 1.0)  # noqa: S311 - spreads load, hides nothing

    def reset(self) -> None:
        """It worked: the next trouble begins with a short pause again."""
        self._next = SHORTEST
