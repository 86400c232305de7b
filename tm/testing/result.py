"""What came of a run, wherever it ran, and assertions on it that say what is different."""

from __future__ import annotations

import traceback
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tm.states import RunState, TaskState

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime


_OURS = Path(__file__).parents[1]


class RemoteError(Exception):
    """What a task raised in another process: its type by name, its message, and its traceback as text."""

    def __init__(self, kind: str, message: str, trace: str = "") -> None:
        super().__init__(f"{kind}: {message}")
        self.kind, self.message, self.trace = kind, message, trace
        if trace:
            self.add_note(trace)


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskResult:
    """One task of a run that has ended."""

    name: str  #: of the task
    state: TaskState  #: equal to its text: `run["load"].state == "success"`
    attempts: int = 0  #: that were made; 0 for a task that never ran
    value: Any = None  #: what it returned
    error: BaseException | None = None  #: of the last attempt that failed, also when a later one succeeded
    errors: tuple[BaseException, ...] = ()  #: of all attempts that failed, oldest first; in process only
    delays: tuple[float, ...] = ()  #: seconds between its attempts; in process only
    arguments: Mapping[str, Any] | None = None  #: what the last attempt was called with, by name; in process only
    reason: str = ""  #: why it was skipped or blocked, where that is known

    def __str__(self) -> str:
        return "  ".join(filter(None, (self.state.value, self.summary)))

    @property
    def summary(self) -> str:
        """Attempts and reason, in one line."""
        made = {0: "", 1: "1 attempt"}.get(self.attempts, f"{self.attempts} attempts")
        why = self.reason
        if self.error is not None and self.state is not TaskState.SUCCESS:
            why = _in_short(self.error)
        return "  ".join(filter(None, (made, why)))


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResult:
    """A run that has ended."""

    id: str  #: of the run
    graph: str  #: name of the graph
    state: RunState  #: equal to its text: `run.state == "failed"`
    tasks: Mapping[str, TaskResult]  #: by name, in topological order
    value: Any = None  #: of the last task, if it succeeded
    tick: datetime | None = None  #: the instant the run was for, in UTC
    params: Mapping[str, Any] = field(default_factory=dict)  #: what the run was started with
    order: tuple[str, ...] = ()  #: names of tasks, once for each attempt, as they began; in process only
    output: str = ""  #: what the services said meanwhile; of an `EmbeddedStack` only

    def __getitem__(self, task: str) -> TaskResult:
        """The result of a task.

        Raises:
            KeyError: names the tasks there are.
        """
        try:
            return self.tasks[task]
        except KeyError:
            raise KeyError(f"graph {self.graph!r} has no task {task!r}; it has {', '.join(self.tasks)}") from None

    @property
    def states(self) -> dict[str, str]:
        """The state of each task, as text."""
        return {name: task.state.value for name, task in self.tasks.items()}

    @property
    def delays(self) -> dict[str, list[float]]:
        """Seconds before each retry, of the tasks that had one; in process only."""
        return {name: list(task.delays) for name, task in self.tasks.items() if task.delays}

    @property
    def error(self) -> BaseException | None:
        """Of the first task that failed for good, in topological order; None for a run that succeeded."""
        ended = (TaskState.FAILED, TaskState.TIMED_OUT, TaskState.QUARANTINED)
        return next((task.error for task in self.tasks.values() if task.state in ended), None)

    def __str__(self) -> str:
        width = max(map(len, self.tasks), default=0)
        wide = max(map(len, self.states.values()), default=0)
        lines = [f"  {name:{width}}  {task.state:{wide}}  {task.summary}".rstrip() for name, task in self.tasks.items()]
        return "\n".join([f"run {self.id} ended {self.state.value}", *lines])

    def assert_success(self) -> RunResult:
        """Return this run if it succeeded.

        Raises:
            AssertionError: it did not; lists the tasks, and is caused by the error that counted.
        """
        __tracebackhide__ = True
        if self.state is not RunState.SUCCESS:
            raise AssertionError(f"{self}{self._said()}") from self.error
        return self

    def assert_states(self, expected: Mapping[str, str]) -> RunResult:
        """Return this run if these tasks ended in these states; those that are not named may be in any.

        Raises:
            AssertionError: lists those that are different, and tasks and states that do not exist.
        """
        __tracebackhide__ = True
        width = max(map(len, [*self.tasks, *expected]), default=0)
        wrong = [
            f"  {name:{width}}  {problem}"
            for name, state in expected.items()
            if (problem := self._problem(name, state))
        ]
        if wrong:
            raise AssertionError("\n".join([f"states of run {self.id} are not as expected:", *wrong, "", str(self)]))
        return self

    def _problem(self, name: str, state: str) -> str:
        if state not in {each.value for each in TaskState}:
            return f"{state!r} is no state; they are {', '.join(each.value for each in TaskState)}"
        if name not in self.tasks:
            return f"is no task of graph {self.graph!r}"
        return "" if self.tasks[name].state == state else f"expected {state}, is {self.tasks[name]}"

    def _said(self) -> str:
        return f"\n--- the services said:\n{self.output}" if self.output else ""


def _in_short(error: BaseException) -> str:
    if isinstance(error, RemoteError):
        return str(error)
    # of an exception that stands in for a task, all places are our own
    trace = [each for each in traceback.extract_tb(error.__traceback__) if _OURS not in Path(each.filename).parents]
    place = f" ({Path(trace[-1].filename).name}:{trace[-1].lineno})" if trace else ""
    return f"{type(error).__name__}: {error}{place}"
