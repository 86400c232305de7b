"""Runs a graph here and now, in this process: no server, no other process, any object as a message."""

from __future__ import annotations

import heapq
import random
from collections import deque
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from tm import configfile
from tm.callbacks import Teller
from tm.clock import Clock, SystemClock
from tm.context import Context, running
from tm.errors import CodecError, Fail, Skip
from tm.ids import manual_run_id, tick_run_id
from tm.states import Outcome
from tm.step import Begun, Claimed, Close, Due, Ended, Enqueue, Run, Wait, step

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from tm.graph import AnyTask, Graph
    from tm.step import Command, Event

_HERE = "here"  # the claim token: nobody else can claim
_SUCCESS = Outcome.SUCCESS  # looking a member up takes as long as half a call


def run(graph: Graph, args: tuple[Any, ...], kwargs: dict[str, Any], clock: Clock | None = None) -> Any:
    """Run `graph` and return the value of its last task; see `Graph.__call__` for the promise."""
    graph.bind(kwargs, positional=len(args))
    return InProcessRun(graph, args, kwargs, clock or SystemClock()).to_the_end()


class InProcessRun:
    """Carries out what the step function decides, one task after the other; `tm.testing` looks on.

    Args:
        graph: what is run.
        args: for the roots, by position.
        kwargs: for the roots, by name.
        clock: for the delays of retries.
        tick: the instant the run is for.
        chance: picks the jitter of retries.
    """

    def __init__(
        self,
        graph: Graph,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        clock: Clock,
        *,
        tick: datetime | None = None,
        chance: Callable[[], float] = random.random,
    ) -> None:
        plan = graph.plan
        self._graph, self._args, self._clock = graph, args, clock
        self._id = manual_run_id(graph.name) if tick is None else tick_run_id(graph.name, tick)
        self._params, self._tick, self._chance = kwargs, tick, chance
        self._given = dict(kwargs)
        if graph.config is not None and "config" not in kwargs:
            self._given["config"] = configfile.parse(configfile.read(graph.config), graph.config)
        self._names = [node.name for node in plan.tasks]
        self._parents = [node.parents for node in plan.tasks]
        self._tasks: list[AnyTask] = [graph.tasks[name] for name in self._names]
        self._run = Run(plan)
        self._values: dict[int, Any] = {}
        self._ready: deque[Enqueue] = deque()
        self._waiting: list[tuple[float, Due]] = []
        self._failure: Exception | None = None
        self._closed: Close | None = None
        self._teller = Teller(graph, self._id, kwargs, self._clock.now, tick) if plan.has_callbacks else None

    def to_the_end(self) -> Any:
        """Run, and return the value of the last task; raises what the first task raised that failed for good."""
        self._advance(Begun())
        while self._closed is None:
            if self._ready:
                self._attempt(*self._ready.popleft())
            else:
                self._wait_for_retry()
        if self._teller is not None:
            self._teller.run_ended(self._closed.state, self._values.get(len(self._names) - 1))
        if self._failure is not None:
            raise self._failure
        return self._values.get(len(self._names) - 1)

    def _advance(self, event: Event) -> None:
        decision = step(self._run, event)
        self._run.apply(decision)
        for command in decision.commands:
            self._obey(command)

    def _obey(self, command: Command) -> None:
        if isinstance(command, Enqueue):
            self._ready.append(command)
        elif isinstance(command, Wait):
            due = self._clock.now().timestamp() + command.delay_ms / 1000
            heapq.heappush(self._waiting, (due, Due(command.node, command.attempt)))
        else:
            self._closed = command

    def _wait_for_retry(self) -> None:
        due, event = heapq.heappop(self._waiting)
        while (seconds := due - self._clock.now().timestamp()) > 0:
            self._clock.sleep(seconds)
        self._advance(event)

    def _attempt(self, node: int, attempt: int) -> None:
        self._advance(Claimed(node, attempt, _HERE))
        began = self._clock.now() if self._teller is not None else None
        try:
            with running(partial(self._context, node, attempt)):
                value = self._call(node)
        except Skip:  # of this neither success nor failure is told
            self._advance(Ended(node, attempt, _HERE, Outcome.SKIPPED))
        except Exception as error:  # noqa: BLE001 - whatever a task raises decides over its retry
            task = self._tasks[node]
            again = isinstance(error, task.retry_on) and not isinstance(error, Fail | CodecError)
            self._advance(Ended(node, attempt, _HERE, Outcome.FAILED, again, self._chance()))
            if self._run.bad and self._failure is None:
                tries = task.retry.retries + 1
                error.add_note(f"in task {task.name!r} of graph {self._graph.name!r}, attempt {attempt} of {tries}")
                self._failure = error
            if began is not None:
                self._tell(node, attempt, began, error=error)
        else:
            self._values[node] = value
            self._advance(Ended(node, attempt, _HERE, _SUCCESS))
            if began is not None:
                self._tell(node, attempt, began, value=value)

    def _tell(self, node: int, attempt: int, began: datetime, **about: Any) -> None:
        if self._teller is None:
            return
        next_at = next((datetime.fromtimestamp(at, UTC) for at, due in self._waiting if due.node == node), None)
        state = self._run.task_state(node)
        self._teller.attempt_ended(self._tasks[node], attempt, state, began=began, next_at=next_at, **about)

    def _context(self, node: int, attempt: int) -> Context:
        return Context(
            run=self._id,
            graph=self._graph.name,
            task=self._names[node],
            attempt=attempt,
            token=f"{self._id}.{node}.{attempt}",
            tick=self._tick,
            params=self._params,
        )

    def _call(self, node: int) -> Any:
        args, kwargs = self._arguments(node)
        return self._tasks[node].function(*args, **kwargs)

    def _arguments(self, node: int) -> tuple[tuple[Any, ...], dict[str, Any]]:
        if parents := self._parents[node]:
            return (), {self._names[parent]: self._values[parent] for parent in parents}
        return self._args, arguments_for_root(self._tasks[node], self._given.items(), len(self._args))


def arguments_for_root(task: AnyTask, given: Iterable[tuple[str, Any]], positional: int = 0) -> dict[str, Any]:
    """Of what was passed to a graph, what this root takes by name."""
    taken = [*task.parameters][:positional]
    return {name: value for name, value in given if task.accepts(name) and name not in taken}
