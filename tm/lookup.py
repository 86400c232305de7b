"""What is known of runs: the server for what is open or fresh, the history for everything else, seen as one.

The history lags behind the server by about a second, and the server forgets a run some minutes after its end. So the
server's word counts where it still has one, and the history adds the attempts before the last.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from tm.clock import from_ms
from tm.errors import NotFoundError
from tm.states import FINAL_RUN_STATES, Outcome, RunState, TaskState
from tm.waiting import reaching

if TYPE_CHECKING:
    from tm.store.records import RunView, TaskRunView
    from tm.store.store import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorInfo:
    """What went wrong in an attempt."""

    type: str
    message: str
    traceback: str = ""
    more: tuple[tuple[str, Any], ...] = ()  #: signal, exit code, peak memory: what the worker could tell


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptInfo:
    """One try at one task."""

    number: int  #: 1 for the first
    outcome: Outcome | None  #: None while it runs
    worker: str
    started_at: datetime | None
    ended_at: datetime | None
    seconds: float | None  #: how long the body ran
    error: ErrorInfo | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskInfo:
    """One task of one run."""

    name: str
    state: TaskState
    attempts: tuple[AttemptInfo, ...] = ()  #: oldest first
    reason: str = ""  #: why it never ran (blocked, cancelled)
    due_at: datetime | None = None  #: of the retry it waits for


@dataclass(frozen=True, slots=True, kw_only=True)
class RunInfo:
    """One execution of a graph."""

    id: str
    graph: str
    version: str
    state: RunState
    trigger: str
    tick: datetime | None  #: None for a run that no tick started
    created_at: datetime
    started_at: datetime | None  #: when its first attempt was claimed
    ended_at: datetime | None
    reason: str = ""
    params: bytes = b""  #: message; empty for none
    config: str = ""
    tasks: tuple[TaskInfo, ...] = ()  #: in topological order; empty in lists

    @property
    def is_open(self) -> bool:
        """Whether it may still change."""
        return self.state not in FINAL_RUN_STATES

    @property
    def seconds(self) -> float | None:
        """From its first attempt to its end."""
        return (self.ended_at - self.started_at).total_seconds() if self.started_at and self.ended_at else None


class Lookup:
    """Reads runs and graphs from where they are.

    Args:
        store: of the server; None when there is none, then the history alone answers.
        history: opens the history; None, or a call that returns None, when there is none.
        where: the server, redacted, for error messages.
    """

    def __init__(
        self,
        store: Store | None,
        history: Callable[[], History | None] | None = None,
        *,
        where: str = "the configured address",
    ) -> None:
        self._store, self._open, self._where = store, history, where

    def run(self, name: str) -> RunInfo:
        """A run by id, unique prefix of one, `GRAPH@last` or `GRAPH@failed`.

        Raises:
            NotFoundError: there is none, or several ids begin so.
        """
        return self._exact(name) or self._exact(self._resolve(name)) or self._missing(name)

    def _exact(self, run: str) -> RunInfo | None:
        view = None
        if self._store is not None:
            with reaching(self._where):
                view = self._store.run(run)
        return None if view is None else from_view(view)

    def _resolve(self, name: str) -> str:
        return name

    def _missing(self, name: str) -> RunInfo:
        raise NotFoundError(f"no run {name!r}; `tm runs` lists those there are")

    def forgotten(self, run: str) -> RunInfo:
        """A run that the server does not hold any more.

        Raises:
            NotFoundError: the history does not know it either.
        """
        raise NotFoundError(
            f"no run {run!r}: the server forgets runs TM_RESULT_TTL seconds after their end, and the history "
            "that this process sees does not have it"
        )

    def why(self, run: str) -> str:
        """In half a sentence, why a run has not succeeded."""
        found = self.run(run)
        for task in found.tasks:
            error = task.attempts[-1].error if task.attempts else None
            if error is not None and task.state in FAILED:
                return f"task {task.name!r}, attempt {task.attempts[-1].number}: {error.type}: {error.message}"
        return found.reason


#: states of a task that make its run fail
FAILED = frozenset({TaskState.FAILED, TaskState.TIMED_OUT, TaskState.QUARANTINED})


def from_view(view: RunView) -> RunInfo:
    """A run as the server sees it; of each task only the attempt that counts."""
    return RunInfo(
        id=view.id,
        graph=view.graph,
        version=view.version,
        state=view.state,
        trigger=view.trigger.value,
        tick=_instant(view.tick_ms),
        created_at=from_ms(view.created_ms),
        started_at=_instant(view.started_ms),
        ended_at=_instant(view.ended_ms),
        reason=view.reason,
        params=view.params,
        config=view.config,
        tasks=tuple(_task(each) for each in view.tasks),
    )


def _task(view: TaskRunView) -> TaskInfo:
    attempts: tuple[AttemptInfo, ...] = ()
    if view.claimed_ms is not None:
        start, end = from_ms(view.claimed_ms), _instant(view.ended_ms)
        attempts = (
            AttemptInfo(
                number=view.attempt,
                outcome=_OUTCOMES.get(view.state),
                worker=view.worker,
                started_at=start,
                ended_at=end,
                seconds=(end - start).total_seconds() if end else None,
                error=read_error(view.error),
            ),
        )
    return TaskInfo(name=view.task, state=view.state, attempts=attempts, due_at=_instant(view.due_ms))


_OUTCOMES = {
    TaskState.SUCCESS: Outcome.SUCCESS,
    TaskState.FAILED: Outcome.FAILED,
    TaskState.RETRYING: Outcome.FAILED,
    TaskState.TIMED_OUT: Outcome.TIMED_OUT,
    TaskState.QUARANTINED: Outcome.KILLED,
}


def read_error(packed: bytes) -> ErrorInfo | None:
    """The error that a worker reported; one that cannot be read says so."""
    from tm import codec
    from tm.errors import CodecError

    if not packed:
        return None
    try:
        told = codec.decode(packed)
        known = {"type", "message", "traceback"}
        return ErrorInfo(
            type=str(told.get("type", "Error")),
            message=str(told.get("message", "")),
            traceback=str(told.get("traceback", "")),
            more=tuple((str(key), value) for key, value in told.items() if key not in known),
        )
    except (CodecError, AttributeError):
        return ErrorInfo(type="unreadable", message=f"{len(packed)} bytes that are no error report")


def _instant(ms: int | None) -> datetime | None:
    return None if ms is None else from_ms(ms)
