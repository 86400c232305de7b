"""Runs of graphs in this process, by the rules that hold everywhere, without waiting for retries."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from tm.errors import Fail, Skip, TaskmasterError
from tm.inprocess import InProcessRun
from tm.states import TaskState
from tm.step import Claimed, Wait
from tm.testing.clock import FakeClock, as_instant
from tm.testing.result import RunResult, TaskResult

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from tm.clock import Clock
    from tm.graph import Graph
    from tm.step import Command, Event


class attempts:  # noqa: N801 - reads as what it is: results={"load": attempts(TimeoutError(), 3)}
    """What the attempts at a task give, one after the other; for `run_graph(results=...)`.

    Each is what `results` takes: a value, an exception to be raised, a function to be called.
    """

    def __init__(self, *outcomes: Any) -> None:
        if not outcomes:
            raise ValueError("attempts() needs at least one outcome")
        self.outcomes = outcomes


def run_graph(
    graph: Graph,
    params: Mapping[str, Any] | None = None,
    /,
    *,
    results: Mapping[str, Any] | None = None,
    tick: datetime | str | None = None,
    clock: Clock | None = None,
    messages: bool = True,
    chance: float = 0.0,
    **more: Any,
) -> RunResult:
    """Run a graph here and now, and return what came of it, whether it succeeded or not.

    Retries, `retry_on`, `tm.Fail`, `tm.Skip` and what becomes of the tasks below are as on workers. Delays of retries
    pass on a clock that jumps. Time-outs are not enforced: that takes a second process (`EmbeddedStack`).

    Args:
        graph: what to run.
        params: for its roots; or by name, as for `graph(...)`. `config={...}` stands in for the config file.
        results: in place of tasks, by name: a value; an exception, which is raised; a function, which gets what the
            task would get; or `attempts(...)` of these. A list is a value.
        tick: the instant the run is for, as `tm.get_context().tick` has it; a text without offset is UTC.
        clock: in place of a new `FakeClock()`.
        messages: values go through the form in which workers send them, so that one which cannot be sent fails its
            task here too; False passes any object on, as `graph(...)` does.
        chance: in [0, 1): which share of their jitter retries get.
        more: params by name.

    Raises:
        TypeError: a root lacks a required parameter, or no root knows a given one.
        ConfigError: the config file is missing or broken.
        TestingError: `results` names no task of the graph, or has no outcome for an attempt that was made.
    """
    given = {**(params or {}), **more}
    graph.bind(given)
    if unknown := [name for name in results or {} if name not in graph.tasks]:
        raise TestingError(
            f"graph {graph.name!r} has no task {', '.join(map(repr, unknown))}; it has {', '.join(graph.tasks)}"
        )
    if not 0 <= chance < 1:
        raise ValueError(f"chance must be at least 0 and below 1, not {chance!r}")
    run = _WatchedRun(
        graph,
        given,
        clock or FakeClock(),
        results=results or {},
        tick=None if tick is None else as_instant(tick),
        messages=messages,
        chance=chance,
    )
    try:
        return run.result()
    except _NoOutcomeLeft as missing:
        raise TestingError(str(missing)) from None


class TestingError(TaskmasterError):
    """What a test asks for does not fit the graph."""

    __test__ = False  # pytest takes classes of this name for tests


class _NoOutcomeLeft(BaseException):
    """Passes through the run, which takes any Exception for one of a task."""


class _WatchedRun(InProcessRun):
    """Notes what happens, and puts other outcomes in the place of tasks."""

    def __init__(
        self,
        graph: Graph,
        params: dict[str, Any],
        clock: Clock,
        *,
        results: Mapping[str, Any],
        tick: datetime | None,
        messages: bool,
        chance: float,
    ) -> None:
        if messages:
            params = {name: _sent(value, f"params[{name!r}]") for name, value in params.items()}
        super().__init__(graph, (), params, clock, tick=tick, chance=lambda: chance)
        self._stubs, self._messages = results, messages
        self._order: list[str] = []
        self._delays: dict[int, list[float]] = {}
        self._errors: dict[int, list[BaseException]] = {}
        self._called_with: dict[int, dict[str, Any]] = {}
        self._reasons: dict[int, str] = {}

    def result(self) -> RunResult:
        try:
            self.to_the_end()
        except Exception as error:
            if error is not self._failure:
                raise
        assert self._closed is not None  # noqa: S101 - for the type checker: to_the_end has come to the end
        return RunResult(
            id=self._id,
            graph=self._graph.name,
            state=self._closed.state,
            tasks={name: self._task_result(node, name) for node, name in enumerate(self._names)},
            value=self._values.get(len(self._names) - 1),
            tick=self._tick,
            params=self._params,
            order=tuple(self._order),
        )

    def _task_result(self, node: int, name: str) -> TaskResult:
        errors = self._errors.get(node, [])
        return TaskResult(
            name=name,
            state=self._run.task_state(node),
            attempts=self._order.count(name),
            value=self._values.get(node),
            error=errors[-1] if errors else None,
            errors=tuple(errors),
            delays=tuple(self._delays.get(node, ())),
            arguments=self._called_with.get(node),
            reason=self._reasons.get(node, "") or self._why_blocked(node),
        )

    def _why_blocked(self, node: int) -> str:
        if self._run.task_state(node) is not TaskState.BLOCKED:
            return ""
        culprits = [
            self._names[parent]
            for parent in self._parents[node]
            if self._run.task_state(parent) not in (TaskState.SUCCESS, TaskState.SKIPPED)
        ]
        return f"by {', '.join(culprits)}" if culprits else ""

    def _advance(self, event: Event) -> None:
        if isinstance(event, Claimed):
            self._order.append(self._names[event.node])
        super()._advance(event)

    def _obey(self, command: Command) -> None:
        if isinstance(command, Wait):
            self._delays.setdefault(command.node, []).append(command.delay_ms / 1000)
        super()._obey(command)

    def _call(self, node: int) -> Any:
        try:
            value = self._outcome(node)
            return _sent(value, "result") if self._messages else value
        except Skip as reason:
            self._reasons[node] = str(reason)
            raise
        except Exception as error:
            self._errors.setdefault(node, []).append(error)
            raise
        except SystemExit as error:  # a worker goes on, and does not try again
            failure = Fail(f"SystemExit: {error}")
            self._errors.setdefault(node, []).append(failure)
            raise failure from error

    def _outcome(self, node: int) -> Any:
        name = self._names[node]
        _, kwargs = self._arguments(node)
        if self._messages:  # each child gets a copy of its own
            kwargs = {each: _sent(value, each) for each, value in kwargs.items()}
        self._called_with[node] = dict(kwargs)
        if name not in self._stubs:
            return self._tasks[node].function(**kwargs)
        outcome = self._stubs[name]
        if isinstance(outcome, attempts):
            number = self._order.count(name)
            if number > len(outcome.outcomes):
                raise _NoOutcomeLeft(
                    f"attempt {number} at task {name!r} was made, and attempts() has only {number - 1} outcomes for it"
                )
            outcome = outcome.outcomes[number - 1]
        if isinstance(outcome, BaseException) or (isinstance(outcome, type) and issubclass(outcome, BaseException)):
            raise outcome
        return outcome(**_accepted(outcome, kwargs)) if callable(outcome) else outcome


def _accepted(function: Any, kwargs: dict[str, Any]) -> dict[str, Any]:
    """What a replacement takes of what the task would get: `lambda: 3` takes nothing."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return kwargs
    if any(each.kind is each.VAR_KEYWORD for each in parameters):
        return kwargs
    return {each.name: kwargs[each.name] for each in parameters if each.name in kwargs}


def _sent(value: Any, where: str) -> Any:
    """The value as it arrives in another process; what is large goes through files there (`TM_SPILL`)."""
    from tm import codec

    return codec.decode(codec.encode(value, where=where, limit=codec.HARD_LIMIT))
