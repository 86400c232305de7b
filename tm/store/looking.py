"""What is asked of the server only to be shown: workers, queues, leases, who leads. Nothing here changes anything.

None of it is on the way of a run; each method is one or two pipelines, whose size grows with what is shown.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgpack
import redis.exceptions

from tm import callbacks
from tm.ids import split_job_id
from tm.store import events as event_codec
from tm.store.records import QueuePause

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tm.events import Event
    from tm.store.keys import Keys

#: bytes of events that may wait for history; beyond, ticks are held until it has caught up
MAX_BACKLOG = 64 << 20
#: nodes of the stream that are measured, all there are up to the limit; few would be taken from its beginning only
SAMPLES = 20_000
#: leases that are looked at, at most; more are counted, not named
MOST_LEASES = 2000
#: doorbells that are searched for one; among more it is taken for granted
MOST_BELLS = 10_000
#: attempts at the head of a queue whose age is compared: what was put back or rung for again is not in order
HEAD = 20
#: entries of events in the first part of what is read at once
_BATCH = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaderView:
    """Who makes the ticks, or did."""

    who: str  #: empty when the last one gave it back
    token: int
    since_ms: int | None
    until_ms: int  #: when its right ends, or ended


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseView:
    """An attempt that runs."""

    run: str
    node: int
    attempt: int
    until_ms: int  #: the end of its lease


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerView:
    """A worker, as far as it was heard of."""

    name: str
    seen_ms: int  #: its last heartbeat
    alive: bool  #: the server still holds what it said of itself
    state: str = ""  #: as RQ shows it: busy, idle, suspended
    about: Mapping[str, str] = field(default_factory=dict)
    offers: frozenset[str] = frozenset()  #: see `Store.announce`

    @property
    def queues(self) -> tuple[str, ...]:
        """Those it takes work from, in strict order."""
        return tuple(name for name in self.about.get("queues", "").split(",") if name)

    @property
    def versions(self) -> dict[str, str]:
        """The versions of the graphs it has loaded, by name."""
        try:
            told = json.loads(self.about.get("versions") or "{}")
        except ValueError:
            return {}
        return {str(name): str(version) for name, version in told.items()} if isinstance(told, dict) else {}

    @property
    def draining(self) -> str:
        """Who told it to take no more work and to end; empty when nobody has (`tm workers drain`)."""
        return self.about.get("drain", "")

    @property
    def graphs(self) -> tuple[str, ...]:
        """The graphs it has loaded, or parts of them."""
        return tuple(sorted({offer.partition("/")[0] for offer in self.offers}))

    def has(self, graph: str, task: str) -> bool:
        """Whether it may be given attempts of this task."""
        return f"{graph}/{task}" in self.offers or (graph in self.offers and f"{graph}/" not in self.offers)


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueView:
    """A queue."""

    name: str
    depth: int  #: attempts that wait
    bells: int  #: doorbells that are there to be heard
    oldest_ms: int | None  #: since when the one that has waited longest was queued
    attended_ms: int | None  #: when a worker of it was last heard of; None: never
    pause: QueuePause | None = None  #: the one in force


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """What goes on now, all of one moment."""

    now_ms: int
    leader: LeaderView | None
    workers: tuple[WorkerView, ...]
    queues: tuple[QueueView, ...]
    leases: tuple[LeaseView, ...]  #: the `MOST_LEASES` that end first
    running: int  #: how many there are
    suspended: bool  #: `rq suspend` is in force
    suspended_for_ms: int | None  #: until it ends by itself
    backlog: int  #: entries of the event stream that history has not taken; each holds an event or several
    backlog_bytes: int  #: of the server's memory that they take


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkView:
    """What some worker is at."""

    worker: str
    run: str
    graph: str
    task: str  #: empty when the plan is gone
    attempt: int
    queue: str
    since_ms: int


@dataclass(frozen=True, slots=True)
class Position:
    """A place in the stream of events."""

    id: str  #: of the last entry before it
    added: int  #: entries there have been up to it


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a queued attempt stands."""

    ahead: int | None  #: attempts before it; None when it does not stand in the queue
    bell: bool  #: whether its doorbell is there to be heard


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeRecord:
    """The state of one task of one run, as it is stored (`lua/_base.lua`)."""

    state: str
    attempt: int
    fails: int  #: attempts that used up a retry
    losses: int  #: attempts that ended with their worker or process
    claimed_ms: int  #: 0 for none
    worker: str
    at_ms: int  #: when it was queued, when its retry is due, or when it ended


def read_record(packed: Any) -> NodeRecord | None:
    """The record in these bytes; None when they are none."""
    try:
        state, attempt, _token, fails, losses, claimed, worker, at = msgpack.unpackb(packed)
    except (TypeError, ValueError, msgpack.exceptions.UnpackException):
        return None
    return NodeRecord(
        state=str(state),
        attempt=attempt,
        fails=fails,
        losses=losses,
        claimed_ms=int(claimed),
        worker=str(worker),
        at_ms=int(at),
    )


def pauses_in_force(stored: Mapping[bytes, bytes], now_ms: int) -> dict[str, QueuePause]:
    """The pauses of queues that have not ended, by queue; what cannot be read pauses nothing."""
    found: dict[str, QueuePause] = {}
    for queue, packed in sorted(stored.items()):
        try:
            said = msgpack.unpackb(packed)
            until = said.get("until")
            pause = QueuePause(
                queue=_text(queue),
                by=str(said["by"]),
                reason=str(said["reason"]),
                since_ms=int(said["since"]),
                until_ms=None if until is None else int(until),
            )
        except (AttributeError, KeyError, TypeError, ValueError, msgpack.exceptions.UnpackException):
            continue
        if pause.in_force(now_ms):
            found[pause.queue] = pause
    return found


class Looking:
    """The part of the store that only looks."""

    keys: Keys
    _redis: Any

    def scene(self) -> Scene:
        """What goes on now."""
        keys, first = self.keys, self._redis.pipeline(transaction=False)
        first.time()
        first.hgetall(keys.leader)
        first.zrange(keys.workers, 0, -1, withscores=True)
        first.smembers(keys.queues)
        first.hgetall(keys.attended)
        first.zrange(keys.leases, 0, MOST_LEASES - 1, withscores=True)
        first.zcard(keys.leases)
        first.pttl("rq:suspended")
        first.hgetall(keys.paused_queues)
        first.xlen(keys.events)
        first.memory_usage(keys.events, samples=SAMPLES)
        (seconds, micros), leader, heard, names, attended, leases, running, pttl, paused, *events = first.execute()
        now_ms = int(seconds) * 1000 + int(micros) // 1000
        pauses = pauses_in_force(paused, now_ms)
        queues = sorted({*map(_text, {*names, *attended}), *pauses})
        return Scene(
            now_ms=now_ms,
            leader=_leader(leader),
            workers=self._workers({_text(name): int(at) for name, at in heard}),
            queues=self._queues(queues, {_text(name): int(at) for name, at in attended.items()}, pauses),
            leases=tuple(found for job, until in leases if (found := _lease(_text(job), int(until))) is not None),
            running=int(running),
            suspended=pttl != -2,
            suspended_for_ms=pttl if pttl >= 0 else None,
            backlog=int(events[0]),
            backlog_bytes=int(events[1] or 0),
        )

    def place(self, queue: str, job: str) -> Place:
        """Where a queued attempt stands in its queue."""
        pipeline = self._redis.pipeline(transaction=False)
        pipeline.zrank(self.keys.queued(queue), job)
        pipeline.llen(self.keys.bell(queue))
        ahead, bells = pipeline.execute(raise_on_error=False)  # RQ's list may hold something else
        bell: Any = 0
        if isinstance(bells, int) and bells <= MOST_BELLS:  # to search more takes the server more than a millisecond
            bell = self._redis.lpos(self.keys.bell(queue), self.keys.rq_id(job))
        return Place(ahead=ahead if isinstance(ahead, int) else None, bell=bell is not None)

    def lease_ms(self, job: str) -> int | None:
        """When the lease of a running attempt ends."""
        score = self._redis.zscore(self.keys.leases, job)
        return None if score is None else int(score)

    def position(self) -> Position:
        """Where the stream of events ends now, to follow it from there."""
        try:
            told = self._redis.xinfo_stream(self.keys.events)
        except redis.exceptions.ResponseError:  # nothing has happened yet
            return Position("0", 0)
        return Position(_text(told["last-generated-id"]), int(told["entries-added"]))

    def follow(self, after: Position, block_ms: int) -> tuple[list[tuple[str, Event]], Position, int]:
        """Events after a position, the one after them, and how many entries history took before they were read.

        Waits up to `block_ms` for the first. History forgets events as soon as it has them, so a reader that is slow
        misses some here, and finds them there.
        """
        first = self._redis.xread({self.keys.events: after.id}, count=_BATCH, block=block_ms)
        entries = event_codec.stream_entries(first)
        if not entries:
            return [], after, 0
        pipeline = self._redis.pipeline(transaction=True)
        pipeline.xinfo_stream(self.keys.events)
        pipeline.xrange(self.keys.events, min=f"({_text(entries[-1][0])}", max="+")
        told, rest = pipeline.execute()
        entries += rest
        missed = int(told["entries-added"]) - after.added - len(entries)
        here = Position(_text(told["last-generated-id"]), int(told["entries-added"]))
        return event_codec.read(entries), here, max(0, missed)

    def at_work(self, attempts: Sequence[LeaseView]) -> list[WorkView]:
        """Who runs these attempts, and what they are; those that have ended meanwhile are left out."""
        pipeline = self._redis.pipeline(transaction=False)
        for each in attempts:
            pipeline.hmget(self.keys.run(each.run), "plan", "graph", str(each.node))
        found = [(*_plan_of(plan), graph, packed) for plan, graph, packed in pipeline.execute()]
        graphs = self._graphs({plan for plan, spot, _, _ in found if spot is not None})
        nodes = {(plan, each.node) for (plan, spot, _, _), each in zip(found, attempts, strict=True) if spot is None}
        names, told = self._names(nodes), []
        for (plan, spot, graph, packed), each in zip(found, attempts, strict=True):
            record = read_record(packed)
            if not plan or record is None or record.attempt != each.attempt or record.state != "running":
                continue
            task, queue = names.get((plan, each.node), ("", ""))
            run = each.run
            if spot is not None:  # the id of a callback begins with the run and ends with what it tells of
                task, queue, run = (
                    f"callback ({each.run.rpartition('_')[2]})",
                    callbacks.QUEUE,
                    each.run.partition("_")[0],
                )
            told.append(
                WorkView(
                    worker=record.worker,
                    run=run,
                    graph=_text(graph) if graph is not None else graphs.get(plan, ""),
                    task=task,
                    attempt=each.attempt,
                    queue=queue,
                    since_ms=record.claimed_ms,
                )
            )
        return told

    def _graphs(self, plans: set[str]) -> dict[str, str]:
        """The graphs of plans."""
        if not plans:
            return {}
        wanted, pipeline = sorted(plans), self._redis.pipeline(transaction=False)
        for plan in wanted:
            pipeline.hget(self.keys.plan(plan), "graph")
        return {plan: _text(graph) for plan, graph in zip(wanted, pipeline.execute(), strict=True) if graph is not None}

    def _names(self, nodes: set[tuple[str, int]]) -> dict[tuple[str, int], tuple[str, str]]:
        """Task and queue of nodes of plans."""
        wanted, pipeline = sorted(nodes), self._redis.pipeline(transaction=False)
        for plan, node in wanted:
            pipeline.hget(self.keys.plan(plan), str(node))
        found = zip(wanted, pipeline.execute(), strict=True)
        nodes_of = ((which, msgpack.unpackb(packed)) for which, packed in found if packed is not None)
        return {which: (str(node[0]), str(node[1])) for which, node in nodes_of}

    def _workers(self, heard: Mapping[str, int]) -> tuple[WorkerView, ...]:
        pipeline = self._redis.pipeline(transaction=False)
        for name in heard:
            pipeline.hgetall(self.keys.worker(name))
            pipeline.smembers(self.keys.offers(name))
            pipeline.hget(f"rq:worker:{name}", "state")
        replies = pipeline.execute()
        found = []
        for index, (name, seen_ms) in enumerate(heard.items()):
            about, offers, state = replies[3 * index : 3 * index + 3]
            found.append(
                WorkerView(
                    name=name,
                    seen_ms=seen_ms,
                    alive=bool(about),
                    state=_text(state or b""),
                    about={_text(key): _text(value) for key, value in about.items()},
                    offers=frozenset(map(_text, offers)),
                )
            )
        return tuple(sorted(found, key=lambda worker: worker.name))

    def _queues(
        self, names: Sequence[str], attended: Mapping[str, int], pauses: Mapping[str, QueuePause]
    ) -> tuple[QueueView, ...]:
        pipeline = self._redis.pipeline(transaction=False)
        for name in names:
            pipeline.zcard(self.keys.queued(name))
            pipeline.llen(self.keys.bell(name))
            pipeline.zrange(self.keys.queued(name), 0, HEAD - 1)
        replies = pipeline.execute(raise_on_error=False)
        views = []
        for index, name in enumerate(names):
            depth, bells, head = replies[3 * index : 3 * index + 3]
            views.append(
                QueueView(
                    name=name,
                    depth=depth if isinstance(depth, int) else 0,
                    bells=bells if isinstance(bells, int) else 0,
                    oldest_ms=self._oldest([_text(job) for job in head] if isinstance(head, list) else []),
                    attended_ms=attended.get(name),
                    pause=pauses.get(name),
                )
            )
        return tuple(views)

    def _oldest(self, jobs: Sequence[str]) -> int | None:
        """Since when the oldest of these is queued; scores move when a doorbell is rung again, records do not."""
        if not jobs:
            return None
        pipeline = self._redis.pipeline(transaction=False)
        for parts in map(_split, jobs):
            if parts is not None:
                pipeline.hget(self.keys.run(parts[0]), str(parts[1]))
        records = [read_record(packed) for packed in pipeline.execute(raise_on_error=False)]
        return min((each.at_ms for each in records if each is not None and each.state == "queued"), default=None)


def _leader(stored: Mapping[bytes, bytes]) -> LeaderView | None:
    if not stored:
        return None
    since = stored.get(b"since")
    return LeaderView(
        who=_text(stored.get(b"id", b"")),
        token=int(stored.get(b"token", b"0")),
        since_ms=None if since is None else int(since),
        until_ms=int(stored.get(b"until", b"0")),
    )


def _plan_of(stored: bytes | None) -> tuple[str, str | None]:
    """The version of a plan, and of which node of it this is a callback."""
    version, mark, spot = _text(stored or b"").partition("!")
    return version, spot if mark else None


def _split(job: str) -> tuple[str, int, int] | None:
    try:
        return split_job_id(job)
    except ValueError:
        return None  # somebody else's


def _lease(job: str, until_ms: int) -> LeaseView | None:
    parts = _split(job)
    return None if parts is None else LeaseView(run=parts[0], node=parts[1], attempt=parts[2], until_ms=until_ms)


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
