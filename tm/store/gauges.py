"""How much waits on the server and for how long: a few numbers for those who watch it, in three round trips."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from tm.ids import split_job_id
from tm.store.looking import HEAD, SAMPLES, pauses_in_force, read_record

if TYPE_CHECKING:
    from tm.store.store import Store

#: queues, and graphs, that are looked at: each costs the server two small reads or one
MOST = 1000
#: with more queues than this, only the first attempt of each is asked since when it waits
FEW = 50


class Depth(NamedTuple):
    """Something that waits."""

    size: int
    age: float  #: seconds since the oldest of it came, or could have gone; 0 if it has not


@dataclass(frozen=True, slots=True, kw_only=True)
class Gauges:
    """One look at a namespace. Ages are in seconds, by the server's clock."""

    queues: dict[str, Depth]  #: attempts that wait for a worker
    open_runs: dict[str, int]  #: by graph
    leases: Depth  #: attempts that are claimed; for how long the first one that lapsed has not been declared lost
    retries: Depth  #: attempts that wait for their time; for how long the first could have been queued
    events: Depth  #: entries of the event stream that history has not got; each holds an event or several
    events_bytes: int  #: of the server's memory that they take
    backlog: int  #: pieces of work that calls left for later ones
    pauses: int  #: of graphs, in force or not yet settled
    paused_queues: frozenset[str]  #: of which nothing is handed out
    alerts: int  #: messages that the webhook has not got
    log_chunks: int  #: pieces of what tasks printed that are not in the history
    workers: int  #: heard of within a lease


def read(store: Store, lease: float, *, now_ms: float | None = None) -> Gauges:
    """Look. The first two of the round trips cost the server a fraction of a millisecond for a hundred queues.

    Args:
        store: the namespace.
        lease: seconds; a worker that is silent for longer does not count.
        now_ms: in place of the server's clock.

    Raises:
        redis.exceptions.RedisError: the server cannot be asked.
    """
    keys, client = store.keys, store.client
    first: Any = client.pipeline(transaction=False)
    first.time()
    first.smembers(keys.queues)
    first.smembers(keys.names)
    (seconds, micros), *names = first.execute()
    now_ms = seconds * 1000 + micros / 1000 if now_ms is None else now_ms
    queues, graphs = (sorted(each.decode() for each in found)[:MOST] for found in names)
    second: Any = client.pipeline(transaction=False)
    for key in (keys.leases, keys.retry):
        second.zcard(key)
        second.zrange(key, 0, 0, withscores=True)
    second.xlen(keys.events)
    second.xrange(keys.events, count=1)
    second.memory_usage(keys.events, samples=SAMPLES)
    second.llen(keys.backlog)
    second.hlen(keys.paused)
    second.llen(keys.outbox)
    second.xlen(keys.logs)
    second.hgetall(keys.paused_queues)
    second.zcount(keys.workers, now_ms - lease * 1000, "+inf")
    for queue in queues:
        second.zcard(keys.queued(queue))
        second.zrange(keys.queued(queue), 0, (HEAD if len(queues) <= FEW else 1) - 1)
    for graph in graphs:
        second.zcard(keys.open(graph))
    leases, lease_ends, retries, retry_due, events, oldest, events_bytes, *others = second.execute()
    backlog, pauses, alerts, log_chunks, paused, workers, *rest = others
    heads = [[job.decode() for job in head] for head in rest[1 : 2 * len(queues) : 2]]
    since = _since(store, heads)
    return Gauges(
        queues={
            queue: Depth(depth, _age(at, now_ms))
            for queue, depth, at in zip(queues, rest[: 2 * len(queues) : 2], since, strict=True)
        },
        open_runs=dict(zip(graphs, rest[2 * len(queues) :], strict=True)),
        leases=Depth(leases, _age(lease_ends[0][1] if lease_ends else None, now_ms)),
        retries=Depth(retries, _age(retry_due[0][1] if retry_due else None, now_ms)),
        events=Depth(events, _age(int(oldest[0][0].partition(b"-")[0]) if oldest else None, now_ms)),
        events_bytes=events_bytes or 0,
        backlog=backlog,
        pauses=pauses,
        paused_queues=frozenset(pauses_in_force(paused, int(now_ms))),
        alerts=alerts,
        log_chunks=log_chunks,
        workers=workers,
    )


def _since(store: Store, heads: list[list[str]]) -> list[int | None]:
    """Since when the oldest of each of these is queued: scores move when a doorbell is rung again, records do not."""
    pipeline: Any = store.client.pipeline(transaction=False)
    for head in heads:
        for run, node, _ in map(split_job_id, head):
            pipeline.hget(store.keys.run(run), str(node))
    records = iter([read_record(packed) for packed in pipeline.execute(raise_on_error=False)])
    found: list[int | None] = []
    for head in heads:
        here = [next(records) for _ in head]
        found.append(min((each.at_ms for each in here if each is not None and each.state == "queued"), default=None))
    return found


def _age(at_ms: float | None, now_ms: float) -> float:
    return 0.0 if at_ms is None else max(0.0, now_ms - at_ms) / 1000
