"""What is still to be sent to the webhook: a list that outlives whoever sends it, and how far events were read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgpack
import redis.exceptions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from redis import Redis

    from tm.store.keys import Keys


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """One message to the webhook."""

    id: str  #: the same whenever it is sent
    type: str  #: such as run.failed
    run: str
    body: str  #: JSON; the same whenever it is sent, for it is signed


@dataclass(frozen=True, slots=True, kw_only=True)
class Tries:
    """How the first message of the list has fared so far."""

    count: int = 0
    first_ms: int = 0  #: when it was tried first
    next_ms: int = 0  #: when it may be tried again


class Outbox:
    """First in, first out. All of it may be repeated; what is repeated at a wrong moment is sent twice, never lost."""

    def __init__(self, client: Redis, keys: Keys) -> None:
        self._redis: Any = client
        self._keys = keys

    def position(self) -> str:
        """The id of the last entry that was read. Before the first time, that of the last one there is."""
        known = self._redis.hget(self._keys.webhook, "cursor")
        if known is None:
            last = self._redis.xrevrange(self._keys.events, count=1)
            self._redis.hsetnx(self._keys.webhook, "cursor", last[0][0] if last else "0-0")
            known = self._redis.hget(self._keys.webhook, "cursor")
        return str(known.decode())

    def collect(self, before: str, after: str, alerts: Sequence[Alert], most: int) -> int | None:
        """Take up what the entries from one position to another call for; None when somebody else has done so.

        Returns:
            How many were left out, for there are `most` already.
        """
        with self._redis.pipeline() as pipeline:
            try:
                pipeline.watch(self._keys.webhook)
                if pipeline.hget(self._keys.webhook, "cursor") != before.encode():
                    return None
                room = max(0, most - pipeline.llen(self._keys.outbox)) if alerts else 0
                pipeline.multi()
                if alerts[:room]:
                    pipeline.rpush(self._keys.outbox, *map(_pack, alerts[:room]))
                pipeline.hset(self._keys.webhook, "cursor", after)
                pipeline.execute()
            except redis.exceptions.WatchError:
                return None
        return len(alerts) - min(room, len(alerts))

    def head(self) -> tuple[Alert, Tries] | None:
        """The next one to be sent."""
        packed = self._redis.lindex(self._keys.outbox, 0)
        if packed is None:
            return None
        alert = _unpack(packed)
        stored = self._redis.hmget(self._keys.webhook, "of", "tries", "first", "next")
        if stored[0] != alert.id.encode():
            return alert, Tries()
        count, first, after = (int(each) for each in stored[1:])
        return alert, Tries(count=count, first_ms=first, next_ms=after)

    def postpone(self, alert: Alert, tries: Tries) -> None:
        """It could not be sent; it stays the first."""
        about = {"of": alert.id, "tries": tries.count, "first": tries.first_ms, "next": tries.next_ms}
        self._redis.hset(self._keys.webhook, mapping=about)

    def remove(self, alert: Alert) -> None:
        """It was sent, or never will be."""
        self._redis.lrem(self._keys.outbox, 1, _pack(alert))

    def waiting(self) -> int:
        """How many are still to be sent."""
        return int(self._redis.llen(self._keys.outbox))


def _pack(alert: Alert) -> bytes:
    packed: bytes = msgpack.packb((alert.id, alert.type, alert.run, alert.body))
    return packed


def _unpack(packed: bytes) -> Alert:
    id_, type_, run, body = msgpack.unpackb(packed)
    return Alert(id=id_, type=type_, run=run, body=body)


__all__ = ["Alert", "Outbox", "Tries"]
