"""What people do to graphs, queues and workers: pause, resume, purge, drain. Each call may be repeated."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tm.store import packing
from tm.store.looking import pauses_in_force
from tm.store.records import Purged

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from redis import Redis

    from tm.store.functions import Library
    from tm.store.keys import Keys
    from tm.store.records import Pause, QueuePause

#: attempts that one call ends at most; about 2 ms of the server's time
_AT_ONCE = 200
#: attempts that are listed in one round trip
_PAGE = 1000


class Operating:
    """The part of the store for who operates it."""

    client: Redis
    keys: Keys
    prefix: str
    _redis: Any
    _library: Library

    def _do(self, name: str, *args: Any) -> Any:
        return self._library.call(self.client, name, self.prefix, *args)

    # Graphs -----------------------------------------------------------------------------------------------------------

    def pause(self, graph: str, *, by: str, reason: str = "", until_ms: int | None = None) -> bool:
        """Make no more ticks of a graph ("" for all); False when it was paused, which now has this reason and end."""
        return bool(self._do("pause", graph, by, reason, "" if until_ms is None else until_ms))

    def resume(self, graph: str, *, by: str, catch_up: str = "") -> int:
        """End pauses; returns how many, or -1 when the graph is paused only as one of all."""
        return int(self._do("resume", graph, by, catch_up))

    def settle(self, pause: Pause) -> bool:
        """Forget a pause whose missed ticks have been dealt with."""
        return bool(self._do("settle", pause.graph, pause.packed))

    def pauses(self) -> dict[str, Pause]:
        """By graph ("" for all): those in force, and those that ended and have not been settled."""
        stored = self._redis.hgetall(self.keys.paused)
        return {
            packing.text(graph): packing.pause(packing.text(graph), packed) for graph, packed in sorted(stored.items())
        }

    # Queues -----------------------------------------------------------------------------------------------------------

    def pause_queue(self, queue: str, *, by: str, reason: str = "", until_ms: int | None = None) -> bool:
        """Hand out nothing of a queue; False when it was paused, which now has this reason and end."""
        until = "" if until_ms is None else until_ms
        return bool(self._do("pause_queue", queue, by, reason, until))

    def resume_queue(self, queue: str) -> bool:
        """End the pause of a queue; False when it had none."""
        return bool(self._do("resume_queue", queue))

    def queue_pauses(self, now_ms: int) -> dict[str, QueuePause]:
        """The pauses in force, by queue."""
        return pauses_in_force(self._redis.hgetall(self.keys.paused_queues), now_ms)

    def purge_queue(self, queue: str, reason: str, limit: int = _AT_ONCE) -> Purged:
        """Cancel the runs of all that waits in a queue at this moment, and give up its callbacks.

        Takes a call for every `limit` attempts; what is queued meanwhile is left alone. If it breaks off, what
        was ended stays so, and another call goes on.
        """
        upto, attempts, runs = b"", None, list[str]()
        while True:
            args = (queue, reason, limit, upto)
            upto, waited, looked_at, *more = self._do("purge_queue", *args)
            attempts = int(waited) if attempts is None else attempts
            runs += map(packing.text, more)
            if not looked_at:
                return Purged(attempts=attempts, runs=tuple(runs))

    def jobs_of(self, queue: str) -> Iterator[str]:
        """The attempts that wait in a queue, the oldest first; some may be missed while it changes."""
        first = 0
        while page := self._redis.zrange(self.keys.queued(queue), first, first + _PAGE - 1):
            yield from map(packing.text, page)
            first += len(page)

    # Workers ----------------------------------------------------------------------------------------------------------

    def drain_workers(self, workers: Sequence[str], *, by: str, limit: float | None = None) -> list[str]:
        """Ask workers to finish what they have, and to end; returns those that are there.

        Each hears of it at its next heartbeat.

        Args:
            workers: their full names.
            by: who asks.
            limit: seconds after which they give back what still runs; None: they wait for it.
        """
        limit_ms = "" if limit is None else round(limit * 1000)
        found = self._do("drain_workers", by, limit_ms, *workers)
        return [packing.text(worker) for worker in found]
