"""Which errors of the server mean that it is away, and which that it refuses this very call."""

from __future__ import annotations

import redis.exceptions

#: what the server answers while it can do nothing for us, whoever asks for whatever
_AWAY = (
    "MISCONF",
    "NOAUTH",
    "WRONGPASS",
    "BUSY",
    "READONLY",
    "MASTERDOWN",
    "CLUSTERDOWN",
    "TRYAGAIN",
    "NOREPLICAS",
    "UNKILLABLE",
    "unction not found",
)


def is_outage(error: redis.exceptions.RedisError) -> bool:
    """Whether no call would succeed now, rather than this one.

    Besides lost connections: a replica where the primary was, a disk that is full, rights that were taken away.
    """
    if isinstance(error, redis.exceptions.ReadOnlyError | redis.exceptions.NoPermissionError):
        return True
    if isinstance(error, redis.exceptions.ResponseError):
        return "MISCONF" in str(error) or "NOAUTH" in str(error)
    return True


def in_words(error: Exception) -> str:
    """What the log says of an outage."""
    if isinstance(error, redis.exceptions.AuthenticationError):  # the server says what our client did, not what to do
        return "it refused the password or user in TM_URL"
    return str(error) or repr(error)


def is_refusal(error: Exception) -> bool:
    """Whether it was this call that is no good: the server, or the client before it was sent, refused what is in it."""
    if isinstance(error, redis.exceptions.DataError | TypeError | ValueError | AttributeError):
        return True
    if not isinstance(error, redis.exceptions.ResponseError) or is_outage(error):
        return False
    if isinstance(error, redis.exceptions.OutOfMemoryError):
        return False
    return not any(word in str(error) for word in _AWAY)
