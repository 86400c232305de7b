"""Runs and their messages as the server holds them, and where the clock and the queues stand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgpack

from tm.records import Plan
from tm.spill import fetch
from tm.states import RunState, Trigger
from tm.store import packing
from tm.store.line import Line, Seen, seen_of
from tm.store.records import RunView

if TYPE_CHECKING:
    from collections.abc import Sequence

    from redis import Redis

    from tm.spill import Spill
    from tm.store.functions import Library
    from tm.store.keys import Keys


class Reading:
    """The part of the store that tells how runs stand."""

    client: Redis
    keys: Keys
    prefix: str
    _redis: Any
    _library: Library
    _spill: Spill | None

    def _call(self, name: str, *args: Any) -> Any:
        return self._library.call(self.client, name, self.prefix, *args)

    def graphs(self) -> dict[str, dict[str, Any]]:
        """What the schedulers said of their graphs, by name."""
        known = self._redis.hgetall(self.keys.graphs)
        return {packing.text(name): msgpack.unpackb(info) for name, info in sorted(known.items())}

    def graph(self, name: str) -> dict[str, Any] | None:
        """What the schedulers said of one graph; None when they know of none."""
        info = self._redis.hget(self.keys.graphs, name)
        return None if info is None else msgpack.unpackb(info)

    def plan(self, version: str) -> Plan | None:
        """The plan of a version; None when the server does not know it."""
        stored = self._redis.hgetall(self.keys.plan(version))
        if b"graph" not in stored:
            return None
        tasks = tuple(packing.unpack_node(stored[str(index).encode()]) for index in range(int(stored[b"n"])))
        return Plan(
            graph=packing.text(stored[b"graph"]),
            version=version,
            tasks=tasks,
            timeout=float(stored[b"timeout"]) or None,
            deadline=float(stored.get(b"deadline", 0)) or None,
            calls=tuple(msgpack.unpackb(stored[b"calls"])) if b"calls" in stored else (),
        )

    def server_ms(self) -> int:
        """The server's clock."""
        seconds, microseconds = self._redis.time()
        return int(seconds) * 1000 + int(microseconds) // 1000

    def cursors(self) -> dict[str, int]:
        """The last tick handled, by graph, in ms."""
        return {packing.text(graph): int(at) for graph, at in self._redis.hgetall(self.keys.cursor).items()}

    def held(self) -> dict[str, int]:
        """The tick that waits for an open run to end, by graph, in ms."""
        return {packing.text(graph): int(at) for graph, at in self._redis.hgetall(self.keys.held).items()}

    def open_runs(self, graph: str | None = None) -> list[str]:
        """Ids of open runs, oldest first within a graph."""
        graphs = [graph] if graph is not None else sorted(map(packing.text, self._redis.smembers(self.keys.names)))
        pipeline = self._redis.pipeline(transaction=False)
        for name in graphs:
            pipeline.zrange(self.keys.open(name), 0, -1)
        return [packing.text(run) for runs in pipeline.execute() for run in runs]

    def newest_open(self, graph: str | None, most: int) -> list[str]:
        """Ids of the open runs that were created last, of one graph or of all, at most so many."""
        graphs = [graph] if graph is not None else sorted(map(packing.text, self._redis.smembers(self.keys.names)))
        pipeline = self._redis.pipeline(transaction=False)
        for name in graphs:
            pipeline.zrange(self.keys.open(name), -most, -1, withscores=True)
        found = [(at, packing.text(run)) for runs in pipeline.execute() for run, at in runs]
        return [run for _, run in sorted(found)[-most:]]

    def newest(self, runs: Sequence[str], most: int) -> list[str]:
        """Those of these runs that were created last, at most so many; the last comes last."""
        if len(runs) <= most:
            return [*runs]
        pipeline = self._redis.pipeline(transaction=False)
        for run in runs:
            pipeline.hget(self.keys.run(run), "created")
        created = [0 if at is None else int(at) for at in pipeline.execute()]
        return [run for _, run in sorted(zip(created, runs, strict=True))[-most:]]

    def open_count(self, graph: str) -> int:
        """How many runs of a graph are open."""
        return int(self._redis.zcard(self.keys.open(graph)))

    def run(self, run: str) -> RunView | None:
        """A run as it is now; None when the server does not hold it (any more)."""
        stored = self._redis.hgetall(self.keys.run(run))
        if b"graph" not in stored:
            return None
        version = packing.text(stored[b"plan"])
        plan = self.plan(version)
        nodes = plan.tasks if plan else ()
        return RunView(
            id=run,
            graph=packing.text(stored[b"graph"]),
            version=version,
            state=RunState(packing.text(stored[b"state"])),
            trigger=Trigger(packing.text(stored[b"trigger"])),
            tick_ms=packing.ms(stored.get(b"tick", b"")),
            created_ms=int(stored[b"created"]),
            started_ms=packing.ms(stored.get(b"started", b"")),
            ended_ms=packing.ms(stored.get(b"ended", b"")),
            reason=packing.text(stored.get(b"reason", b"")),
            config=packing.text(stored.get(b"config", b"")),
            params=stored.get(b"params", b""),
            tasks=tuple(packing.task_view(node.name, index, stored) for index, node in enumerate(nodes)),
            retry_of=packing.text(stored.get(b"retry_of", b"")),
            pinned=b"pinned" in stored,
            noticed=plan is not None and (plan.has_callbacks or plan.deadline is not None),
        )

    def state(self, run: str) -> RunState | None:
        """The state of a run alone."""
        state = self._redis.execute_command("HGET", self.keys.run(run), "state")  # a plain one: see tm.store.lean
        return None if state is None else RunState(packing.text(state))

    def states(self, runs: Sequence[str]) -> dict[str, RunState]:
        """The states of those of these runs that the server holds."""
        pipeline = self._redis.pipeline(transaction=False)
        for run in runs:
            pipeline.hget(self.keys.run(run), "state")
        found = zip(runs, pipeline.execute(), strict=True)
        return {run: RunState(packing.text(state)) for run, state in found if state is not None}

    def result(self, run: str) -> bytes | None:
        """The message of a run's last task; None when there is none (yet, or any more).

        Raises:
            SpillError: it is in the spill store and cannot be read from there.
        """
        version = self._redis.hget(self.keys.run(run), "plan")
        if version is None:
            return None
        size = self._redis.hget(self.keys.plan(packing.text(version)), "n")
        value = None if size is None else self.output(run, int(size) - 1)
        return None if value is None else self.whole(value)

    def whole(self, message: bytes) -> bytes:
        """A message itself, where only the reference to it may be on the server.

        Raises:
            SpillError: it is in the spill store and cannot be read from there.
        """
        return fetch(self._spill, message)

    def message(self, run: str, node: int) -> bytes | None:
        """The message of one task of a run, wherever it lies; raises as `result` does."""
        value = self.output(run, node)
        return None if value is None else fetch(self._spill, value)

    def output(self, run: str, node: int) -> bytes | None:
        """The message of one task of a run, or the reference to it (`tm.spill.fetch`)."""
        value: bytes | None = self._redis.hget(self.keys.out(run), str(node))
        return value

    def look(self, run: str) -> Seen:
        """The state of a run, and the message of its last task when it has succeeded."""
        return seen_of([run], self._call("look", 0, run))[0]

    def line(self) -> Line:
        """A connection of its own to look at runs and hear of their ends; close it."""
        return Line(self.client, self._library, self.keys)

    def ended_channel(self, run: str) -> str:
        """Where the final state of a run is published."""
        return self.keys.ended(run)

    def queue_depths(self) -> dict[str, int]:
        """Attempts that wait, by queue."""
        queues = sorted(packing.text(queue) for queue in self._redis.smembers(self.keys.queues))
        pipeline = self._redis.pipeline(transaction=False)
        for queue in queues:
            pipeline.zcard(self.keys.queued(queue))
        return dict(zip(queues, pipeline.execute(), strict=True))

    def waiting(self, queue: str, count: int = 100) -> list[str]:
        """The attempts that have waited longest in a queue."""
        return [packing.text(job) for job in self._redis.zrange(self.keys.queued(queue), 0, count - 1)]
