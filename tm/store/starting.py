"""How runs are started: one while somebody waits for it, or any number, while the server works on the first."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple

import hiredis
import msgpack
import redis.exceptions

from tm.callbacks import QUEUE as CALLBACK_QUEUE
from tm.states import Trigger
from tm.store import packing
from tm.store.lean import Direct

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from redis import Redis

    from tm.records import Plan
    from tm.store.functions import Library
    from tm.store.records import NewRun

#: runs per call of `start`, and bytes of params after which a call is full: a few ms of the server's time at most
RUNS_PER_CALL = 50
BYTES_PER_CALL = 1 << 20
#: calls without an answer at any time: enough to keep the server busy, and others get their turn
AHEAD = 6


class Starting:
    """The part of the store that makes plans known and starts their runs."""

    client: Redis
    prefix: str
    _ttl: int
    _failed_ttl: int
    _library: Library

    def define(self, plan: Plan, info: Mapping[str, Any] | None = None) -> None:
        """Store a plan, and what `tm graphs` shows of its graph."""
        described = b"" if info is None else msgpack.packb({"version": plan.version, **info})
        roots = msgpack.packb(plan.roots)
        queues = sorted({task.queue for task in plan.tasks} | ({CALLBACK_QUEUE} if plan.has_callbacks else set()))
        self._library.call(
            self.client,
            "define",
            self.prefix,
            plan.version,
            plan.graph,
            plan.timeout or 0,
            roots,
            described,
            plan.deadline or 0,
            msgpack.packb(plan.calls) if plan.calls else b"",
            len(queues),
            *queues,
            *map(packing.pack_node, plan.tasks),
        )

    def start_one(self, plan: Plan, run: NewRun, trigger: Trigger = Trigger.MANUAL) -> bool:
        """Start a run in one round trip; False when its id exists already. A plan the server lacks is stored first."""
        args = (*self._about(plan, trigger, run.config), run.id, run.params)
        try:
            [created] = self._library.call(self.client, "start", self.prefix, *args)
        except redis.exceptions.ResponseError as error:
            if not is_unknown(error):
                raise
            self.define(plan)
            [created] = self._library.call(self.client, "start", self.prefix, *args)
        return bool(created)

    def start(self, plan: Plan, runs: Iterable[NewRun], trigger: Trigger = Trigger.MANUAL) -> list[bool]:
        """Start any number of runs; False for an id that exists already. A plan the server lacks is stored first.

        The runs are asked for while the server is at work on those before them. After an error some of them have been
        started; to start all of them again does no harm.
        """
        calls = self._calls(plan, runs, trigger)
        answers = exchange(self.client, calls)
        while missed := [place for place, answer in enumerate(answers) if is_unknown(answer.error)]:
            self._library.load(self.client)
            self.define(plan)
            again = exchange(self.client, [answers[place].call for place in missed])
            _raise_first(again)  # what is unknown now stays so
            for place, answer in zip(missed, again, strict=True):
                answers[place] = answer
            answers += exchange(self.client, calls)
        _raise_first(answers)
        return [created == 1 for answer in answers for created in answer.value]

    def _about(self, plan: Plan, trigger: Trigger, config: str) -> tuple[Any, ...]:
        return (plan.version, trigger.value, self._ttl, self._failed_ttl, config)

    def _calls(self, plan: Plan, runs: Iterable[NewRun], trigger: Trigger) -> Iterator[bytes]:
        """The calls, as they are sent; each for as many runs as go into one, with the config they have in common."""
        parts: list[Any] = []
        size, config = 0, ""
        for run in runs:
            if parts and (len(parts) == 2 * RUNS_PER_CALL or size >= BYTES_PER_CALL or run.config != config):
                yield self._packed(plan, trigger, config, parts)
                parts, size = [], 0
            config = run.config
            parts += (run.id, run.params)
            size += len(run.params)
        if parts:
            yield self._packed(plan, trigger, config, parts)

    def _packed(self, plan: Plan, trigger: Trigger, config: str, parts: list[Any]) -> bytes:
        about = self._about(plan, trigger, config)
        packed: bytes = hiredis.pack_command(self._library.command("start", self.prefix, *about, *parts))
        return packed


class Answer(NamedTuple):
    """What the server said to one call."""

    value: Any = None
    error: redis.exceptions.ResponseError | None = None  #: in place of a value
    call: bytes = b""  #: that led to an error


def exchange(client: Redis, calls: Iterable[bytes]) -> list[Answer]:
    """Send calls as they come, on one connection, `AHEAD` of them before the first is answered; all answers, in order.

    After the first that is an error no more are taken. If the connection breaks, those without an answer are sent again
    on a new one, as often as redis-py would repeat each.
    """
    if isinstance(client, Direct):
        client.spare()
    line: Any = client.connection_pool.get_connection()
    answers: list[Answer] = []
    sent: deque[bytes] = deque()
    more = iter(calls)
    broken = refused = False

    def broke(_: Exception) -> None:
        nonlocal broken
        line.disconnect()
        broken = True

    def go_on() -> bool:
        """Send what there is room for, and hear one answer; False when there is nothing left to hear."""
        nonlocal broken, refused
        if broken:
            for place, call in enumerate(sent):
                line.send_packed_command((call,), check_health=place == 0)
            broken = False
        while len(sent) < AHEAD and not refused and (new := next(more, b"")):
            sent.append(new)
            # not while answers are owed: the first of them would be taken for that to the PING
            line.send_packed_command((new,), check_health=len(sent) == 1)
        if not sent:
            return False
        try:
            answers.append(Answer(line.read_response()))
        except redis.exceptions.ResponseError as error:
            answers.append(Answer(error=error, call=sent[0]))
            refused = True
        sent.popleft()
        return True

    try:
        while line.retry.call_with_retry(go_on, broke):
            pass
    except BaseException:
        line.disconnect()  # or what is owed would be taken for the answers to other calls
        raise
    finally:
        client.connection_pool.release(line)
    return answers


def is_unknown(error: Exception | None) -> bool:
    """Whether the server said that it misses the plan or the functions."""
    return "NOPLAN" in str(error) or "unction not found" in str(error)


def _raise_first(answers: Iterable[Answer]) -> None:
    for answer in answers:
        if answer.error is not None:
            raise answer.error
