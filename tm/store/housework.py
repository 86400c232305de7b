"""What the leader looks after now and then: tasks nobody takes, functions nobody calls, graphs nobody has.

Nothing here is on the way of a run. Each method is a pipeline or two of bounded size.
"""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgpack
import redis.exceptions

from tm.ids import split_job_id
from tm.store.looking import read_record

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from tm.store.store import Store

_MOST_NAMES = 10_000
_LIBRARY = re.compile(rb"tm_[0-9a-f]{10}")


@dataclass(frozen=True, slots=True)
class Waiting:
    """An attempt in a queue."""

    job: str
    run: str
    graph: str
    task: str
    since_ms: int  #: when it was queued


class Housework:
    """The store, seen by whoever tidies up."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._redis: Any = store.client
        self._names: dict[tuple[bytes, int], str] = {}

    def waiting(self, queue: str, first: int, count: int) -> tuple[list[Waiting], bool]:
        """Attempts of a queue from one position on, and whether more come behind them.

        Callbacks, which have a time-out of their own, are left out.
        """
        keys = self.store.keys
        jobs = [job.decode() for job in self._redis.zrange(keys.queued(queue), first, first + count - 1)]
        pipeline = self._redis.pipeline(transaction=False)
        parts = [(job, *split_job_id(job)) for job in jobs]
        for _, run, node, _ in parts:
            pipeline.hmget(keys.run(run), "graph", "plan", node)
        found = []
        for (job, run, node, _), (graph, version, packed) in zip(parts, pipeline.execute(), strict=True):
            record = read_record(packed)
            if record is None or not graph or not version or b"!" in version:
                continue
            name = self._name(version, node)
            if name:
                found.append(Waiting(job, run, graph.decode(), name, record.at_ms))
        return found, len(jobs) == count

    def _name(self, version: bytes, node: int) -> str:
        known = self._names.get((version, node))
        if known is None:
            if len(self._names) >= _MOST_NAMES:
                self._names.clear()
            packed = self._redis.hget(self.store.keys.plan(version.decode()), node)
            known = self._names[version, node] = str(msgpack.unpackb(packed)[0]) if packed else ""
        return known

    def give_up(self, job: str, error: bytes) -> bool:
        """Fail a queued attempt that nobody is going to take; False when somebody has."""
        return self.store.give_up(job, error)

    # Functions of old versions ----------------------------------------------------------------------------------------

    def libraries(self) -> set[str]:
        """Names of all our libraries on the server."""
        listed = self._redis.function_list(library="tm_*")
        pairs = [each if isinstance(each, dict) else dict(zip(each[::2], each[1::2], strict=True)) for each in listed]
        names = [each[b"library_name"] for each in pairs]
        return {name.decode() for name in names if _LIBRARY.fullmatch(name)}

    def unused_since(self) -> dict[str, int]:
        """When libraries were first seen unused, in ms."""
        return {name.decode(): int(at) for name, at in self._redis.hgetall(self.store.keys.unused).items()}

    def note_unused(self, changes: Mapping[str, int | None]) -> None:
        """Keep these times; None: it is used again, or gone."""
        gone = [name for name, at in changes.items() if at is None]
        kept = {name: at for name, at in changes.items() if at is not None}
        pipeline = self._redis.pipeline(transaction=False)
        if gone:
            pipeline.hdel(self.store.keys.unused, *gone)
        if kept:
            pipeline.hset(self.store.keys.unused, mapping=kept)
        pipeline.execute()

    def remove_library(self, name: str) -> None:
        """Whoever still needs it loads it again: `Library.call`."""
        with contextlib.suppress(redis.exceptions.ResponseError):  # another leader was faster
            self._redis.function_delete(name)

    # Graphs that are gone ---------------------------------------------------------------------------------------------

    def graphs_seen(self) -> dict[str, int]:
        """When each graph that is listed was last known to be loaded somewhere, in ms; 0 for never noted."""
        keys = self.store.keys
        pipeline = self._redis.pipeline(transaction=False)
        pipeline.hkeys(keys.graphs)
        pipeline.smembers(keys.names)
        pipeline.hgetall(keys.seen)
        listed, named, seen = pipeline.execute()
        return {graph.decode(): int(seen.get(graph, 0)) for graph in {*listed, *named}}

    def note_seen(self, graphs: Collection[str], now_ms: int) -> None:
        """These are loaded now."""
        if graphs:
            self._redis.hset(self.store.keys.seen, mapping=dict.fromkeys(graphs, now_ms))

    def forget_graph(self, graph: str) -> bool:
        """Take it off the list; False while it has open runs or is paused."""
        keys = self.store.keys
        if self._redis.exists(keys.open(graph)) or self._redis.hexists(keys.paused, graph):
            return False
        pipeline = self._redis.pipeline(transaction=False)
        pipeline.hdel(keys.graphs, graph)
        pipeline.srem(keys.names, graph)
        pipeline.hdel(keys.seen, graph)
        pipeline.execute()
        return True

    # Runs -------------------------------------------------------------------------------------------------------------

    def existing(self, runs: Sequence[str]) -> set[str]:
        """Those of these runs that the server still holds."""
        found: set[str] = set()
        for first in range(0, len(runs), 500):
            some = runs[first : first + 500]
            pipeline = self._redis.pipeline(transaction=False)
            for run in some:
                pipeline.exists(self.store.keys.run(run))
            found.update(run for run, held in zip(some, pipeline.execute(), strict=True) if held)
        return found
