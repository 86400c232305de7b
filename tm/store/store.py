"""The typed face of the server functions: every method is one round trip and safe to repeat."""

from __future__ import annotations

import secrets
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import msgpack
import redis.exceptions

from tm.callbacks import MARK as CALLBACK
from tm.errors import RefusedError
from tm.events import entry_of, order_of
from tm.states import RunState, TaskState, Trigger
from tm.store import events as event_codec
from tm.store import packing
from tm.store.functions import Library, default_library
from tm.store.keys import Keys
from tm.store.looking import SAMPLES, Looking
from tm.store.operating import Operating
from tm.store.reading import Reading
from tm.store.records import (
    Ask,
    Beat,
    Claim,
    DrainOrder,
    DueTick,
    Grace,
    Grant,
    Leadership,
    NewRun,
    Report,
    RetryRun,
    TickAnswer,
    TriggerAnswer,
    Verdict,
)
from tm.store.starting import Starting, is_unknown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from redis import Redis

    from tm.events import Event
    from tm.records import Plan
    from tm.spill import Spill

SCHEMA = 1
#: `retry` wants to be called once more
_AGAIN = 2


class Store(Starting, Reading, Looking, Operating):
    """All that Taskmaster keeps on the server, in one namespace.

    Args:
        client: a connection that returns bytes (`decode_responses=False`).
        namespace: letters, digits, `_`, `.` and `-`.
        result_ttl: seconds a run that succeeded stays on the server, with its messages.
        failed_ttl: the same for one that did not, which somebody may want to repair; by default as `result_ttl`.
        callback_timeout: seconds a callback may take that is claimed through this store.
        spill: where large messages are; without one a result that lies there cannot be had.

    Errors of the server surface as `redis.exceptions.*`; who calls decides whether to wait or to give up.
    """

    def __init__(
        self,
        client: Redis,
        namespace: str = "default",
        *,
        result_ttl: float = 600.0,
        failed_ttl: float | None = None,
        callback_timeout: float = 30.0,
        spill: Spill | None = None,
        library: Library | None = None,
    ) -> None:
        self.client = client
        self._redis: Any = client  # replies differ with every command; the methods below give them their types
        self.keys = Keys(namespace)
        self.prefix = self.keys.prefix
        self._ttl = int(result_ttl * 1000)
        self._failed_ttl = self._ttl if failed_ttl is None else max(self._ttl, int(failed_ttl * 1000))
        self._callback_timeout, self._spill = callback_timeout, spill
        self._library = library or default_library()

    # Definitions --------------------------------------------------------------------------------------------------

    def instance(self) -> str:
        """The random id this server's data got when it was first used; a new one means that it was emptied."""
        known = self._redis.hget(self.keys.meta, "instance")
        if known is None:
            self._redis.hsetnx(self.keys.meta, "schema", str(SCHEMA))
            self._redis.hsetnx(self.keys.meta, "instance", secrets.token_hex(8))
            known = self._redis.hget(self.keys.meta, "instance")
        return packing.text(known)

    def load(self) -> None:
        """Make the functions known to the server, as every other call does when it misses them."""
        self._library.load(self.client)

    # Ticks --------------------------------------------------------------------------------------------------------

    def set_cursor_if_absent(self, graph: str, at_ms: int) -> int:
        """Where the ticks of a graph begin when it is seen for the first time; returns the cursor in force."""
        self._redis.hsetnx(self.keys.cursor, graph, str(at_ms))
        return int(packing.text(self._redis.hget(self.keys.cursor, graph)))

    def tick(self, plan: Plan, leader: Leadership, ticks: Sequence[DueTick]) -> list[TickAnswer]:
        """Turn due ticks of one graph, earliest first, into runs or recorded skips."""
        return self.tick_many(leader, [(plan, ticks)])[0]

    def tick_many(self, leader: Leadership, due: Sequence[tuple[Plan, Sequence[DueTick]]]) -> list[list[TickAnswer]]:
        """The same for many graphs, in one pipeline."""
        try:
            return self._tick_many(leader, due)
        except redis.exceptions.ResponseError as error:
            if not is_unknown(error):
                raise
            self._library.load(self.client)
            for plan, _ in due:
                self.define(plan)
            return self._tick_many(leader, due)

    def _tick_many(self, leader: Leadership, due: Sequence[tuple[Plan, Sequence[DueTick]]]) -> list[list[TickAnswer]]:
        pipeline = self._redis.pipeline(transaction=False)
        for plan, ticks in due:
            args: list[Any] = [leader.who, leader.token, plan.version, self._ttl, self._failed_ttl]
            for tick in ticks:
                args += (
                    tick.run,
                    tick.at_ms,
                    tick.config,
                    tick.trigger,
                    tick.born,
                    tick.reason,
                    tick.overlap,
                    tick.most,
                )
            self._library.queue(pipeline, "tick", self.prefix, *args)
        return [[TickAnswer(packing.text(answer)) for answer in answers] for answers in pipeline.execute()]

    # Workers ------------------------------------------------------------------------------------------------------

    def announce(self, worker: str, graphs: Iterable[str], info: Mapping[str, str], ttl_ms: int) -> DrainOrder | None:
        """Say which graphs a worker has loaded; forgotten after `ttl_ms` unless said again.

        Returns the order to drain, once somebody has given it.

        "g" offers all tasks of graph g; "g", "g/" and "g/t" together offer task t alone, whatever else a run of g has.
        """
        offered = list(graphs)
        about = [part for pair in info.items() for part in pair]
        return packing.drain_order(self._call("announce", worker, ttl_ms, len(offered), *offered, *about))

    def retire(self, worker: str) -> None:
        """Forget a worker that ends."""
        self._redis.delete(self.keys.offers(worker), self.keys.worker(worker))
        self._redis.zrem(self.keys.workers, worker)

    def take(self, ask: Ask) -> Grant:
        """Claim up to `ask.count` attempts."""
        return self._granted(self._call("take", *packing.ask(ask)))

    def finish(self, ask: Ask, reports: Sequence[Report]) -> tuple[list[Verdict], Grant]:
        """Report outcomes, which drives their runs on, and claim the next work in the same round trip."""
        return self._finished(self._call("finish", *packing.finish(ask, reports)))

    def begin(self, ask: Ask, reports: Sequence[Report]) -> Callable[[], tuple[list[Verdict], Grant]]:
        """Send an ask with its reports, if any; returns what reads the answer, for who has something to do meanwhile.

        The answer is that of `finish`. The client must have `begin` and `answer`, as that of a worker has; several may
        be begun, and are answered in this order.
        """
        if not reports:
            taken = self._library.begin(self.client, "take", self.prefix, *packing.ask(ask))
            return lambda: ([], self._granted(taken()))
        finished = self._library.begin(self.client, "finish", self.prefix, *packing.finish(ask, reports))
        return lambda: self._finished(finished())

    def _finished(self, reply: Sequence[Any]) -> tuple[list[Verdict], Grant]:
        verdicts, granted = reply
        return [packing.verdict(verdict) for verdict in verdicts], self._granted(granted)

    def _granted(self, reply: Sequence[Any]) -> Grant:
        grant = packing.grant(reply)
        self._name_callbacks(grant.claims)
        return grant

    def handed(self, message: bytes) -> list[Claim]:
        """What a message on the channel of a worker hands over to it (see `Ask.ear`)."""
        claims = packing.handed(message)
        self._name_callbacks(claims)
        return claims

    def _name_callbacks(self, claims: list[Claim]) -> None:
        for index, claim in enumerate(claims):
            if claim.task == CALLBACK:
                told = msgpack.unpackb(claim.params, raw=True)
                kind, run, of = (packing.text(told[name]) for name in (b"kind", b"run", b"task"))
                name = f"!on_{kind}({of if told[b'scope'] == b'task' else ''})"
                claims[index] = replace(claim, run=run, task=name, timeout=self._callback_timeout)

    def beat(self, lease_ms: int, held: Sequence[tuple[str, str]]) -> list[Beat | Grace]:
        """Extend the leases of (job, token) pairs."""
        args = [part for pair in held for part in pair]
        return [
            Grace((-2 - answer) / 1000) if answer < Beat.CANCEL else Beat(answer)
            for answer in self._call("beat", lease_ms, *args)
        ]

    def hand_back(self, bell: str) -> None:
        """Put a doorbell back at the head of its queue."""
        self._call("hand_back", bell)

    def lost(self, workers: Sequence[str], limit: int = 200) -> int:
        """Declare lost what these workers hold, who are known to be dead, and forget them; returns how many it was."""
        first, total = 0, 0
        while True:
            looked_at, lost = self._call("lost", first, limit, *workers)
            first += int(looked_at) - int(lost)
            total += int(lost)
            if looked_at < limit:
                break
        for worker in workers:
            self.retire(worker)
        return total

    def give_up(self, job: str, error: bytes) -> bool:
        """Fail a queued attempt that nobody is going to take; False when somebody has."""
        return bool(self._call("give_up", job, error))

    # Coordination: any process may call these; the leader does about once a second ----------------------------------

    def lead(self, who: str, ttl_ms: int) -> Leadership | None:
        """Become or stay the leader; None while somebody else is."""
        token = self._call("lead", who, ttl_ms)
        return Leadership(who=who, token=token) if token else None

    def resign(self, leader: Leadership) -> None:
        """Let a standby take over at once."""
        self._call("resign", leader.who, leader.token)

    def reap(self, limit: int = 200, *, asked_ms: int | None = None) -> int:
        """Declare attempts lost whose lease has lapsed; returns how many leases were handled.

        With `asked_ms`, the caller's idea of the server's time, a call that was held up on its way does nothing: a
        server that froze has kept the heartbeats waiting just as long.
        """
        return int(self._call("reap", limit, "" if asked_ms is None else asked_ms))

    def promote(self, limit: int = 200) -> tuple[int, int | None]:
        """Queue due retries; returns how many, and in how many ms the next is due (None: there is none)."""
        moved, wait = self._call("promote", limit)
        return int(moved), None if wait < 0 else int(wait)

    def ring(self, limit: int = 200, older_than_ms: int = 15_000) -> int:
        """Ring lost doorbells again; returns how many."""
        return int(self._call("ring", limit, older_than_ms))

    def expire(self, limit: int = 100) -> int:
        """End runs that are past their deadline; returns how many."""
        return int(self._call("expire", limit))

    def alarm(self, limit: int = 100) -> int:
        """Tell of open runs whose deadline has passed; returns how many were looked at."""
        return int(self._call("alarm", limit))

    def note(self, run: str, kind: str, what: str, outcome: str, message: str) -> None:
        """Tell history something about a run that happened outside of it."""
        self._call("note", run, kind, what, outcome, message)

    def cancel(
        self, run: str, state: RunState = RunState.CANCELLED, reason: str = "", *, grace: float | None = None
    ) -> bool:
        """End an open run; False when it is not open.

        With `grace`, in seconds, its running tasks get so long to tidy up, and not what their workers are set to; a run
        that is cancelled already is hurried so.
        """
        answer = self._call("cancel", run, state.value, reason, "" if grace is None else round(grace * 1000))
        return int(answer) == 1

    # Repair: see tm.repair for what is decided before these are called ----------------------------------------------

    def trigger(
        self,
        version: str,
        run: NewRun,
        trigger: Trigger,
        *,
        tick_ms: int | None = None,
        retry_of: str = "",
        most: int = 0,
        force: bool = False,
    ) -> TriggerAnswer:
        """Start a run of a version the server knows, unless its graph is paused or `most` runs of it are open.

        Raises:
            redis.exceptions.ResponseError: "NOPLAN": the server does not know this version (any more).
        """
        ttls = (self._ttl, self._failed_ttl)
        about = (run.id, -1 if tick_ms is None else tick_ms, run.params, run.config, retry_of)
        return TriggerAnswer(self._call("trigger", version, trigger.value, *ttls, most, "1" if force else "", *about))

    def retry(self, version: str, run: RetryRun, trigger: Trigger = Trigger.RETRY) -> bool:
        """Start a run that repairs another; False when that id exists. Takes a call for every few MiB that are kept.

        Raises:
            redis.exceptions.ResponseError: "NOPLAN"; "OPEN": the other has not ended; "GONE": the server has forgotten
                it, or "GONE task": the message of that task.
            RefusedError: the server asks for more calls than there are messages, as when somebody else starts a run of
                that id meanwhile.
        """
        args = (run.params, run.config, self._ttl, self._failed_ttl, run.by, run.reason, msgpack.packb(run.tasks))
        for _ in range(len(run.tasks) + 2):  # each call copies a message at least
            answer = self._call("retry", run.source, run.id, version, trigger.value, *args)
            if answer != _AGAIN:
                return bool(answer)
        raise RefusedError(f"messages of {run.source} cannot be copied to {run.id}: somebody else starts it as well")

    def mark(self, run: str, node: int, state: TaskState, *, by: str, reason: str) -> tuple[bool, str]:
        """Say how a task of an open run has ended.

        Returns:
            Whether it is so now, and what it was; if not, what it is, or the state of the run when that is not open.
        """
        answer, was = self._call("mark", run, node, state.value, by, reason)
        return answer == 1, packing.text(was)

    # History --------------------------------------------------------------------------------------------------------

    def events(self, after: str = "0", count: int = 500, block_ms: int | None = None) -> list[tuple[str, Event]]:
        """All events of up to `count` entries, oldest first; waits up to `block_ms` for the first one.

        They begin after an entry, which may be named by any of its events. Each comes with its id.
        """
        reply = self._redis.xread({self.keys.events: entry_of(after)}, count=count, block=block_ms)
        return event_codec.read(event_codec.stream_entries(reply))

    def newest_events(self, count: int) -> list[Event]:
        """All events of the `count` entries that were written last and history may not have yet, oldest first."""
        entries = self._redis.xrevrange(self.keys.events, count=count)
        return [event for _, event in event_codec.read(reversed(entries))]

    def backlog_bytes(self) -> int:
        """The server's memory that the events take which history has not got yet."""
        return int(self._redis.memory_usage(self.keys.events, samples=SAMPLES) or 0)

    def ack(self, upto: str) -> None:
        """Forget events up to and with this entry, which may be named by any of its events: history has them."""
        milliseconds, sequence, _ = order_of(upto)
        self._redis.xtrim(self.keys.events, minid=f"{milliseconds}-{sequence + 1}", approximate=False)
