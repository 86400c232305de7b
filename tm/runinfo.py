"""Runs, tasks and attempts as people and programs look at them, made from what server and history hold."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from tm.clock import from_ms
from tm.states import FINAL_RUN_STATES, FINAL_TASK_STATES, Outcome, RunState, TaskState

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from tm.events import AttemptEnded
    from tm.history import AttemptRow, NoticeRow, RunDetail, RunRow, TaskRunRow
    from tm.store.records import RunView, TaskRunView

#: states of a task that make its run fail
FAILED = frozenset({TaskState.FAILED, TaskState.TIMED_OUT, TaskState.QUARANTINED})


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
    outcome: Outcome | None  #: None while it runs, and when it was cancelled as it ran
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
    reason: str = ""  #: why it never ran (blocked, cancelled), or had nothing to do (skipped)
    due_at: datetime | None = None  #: of the retry it waits for
    attempt: int = 0  #: the one that is queued, runs or was the last, as the server counts; 0 for none
    queued_at: datetime | None = None  #: since when it waits for a worker
    fails: int = 0  #: attempts that used up a retry; as the server counts
    losses: int = 0  #: attempts that ended with their worker or process; as the server counts


@dataclass(frozen=True, slots=True, kw_only=True)
class NoticeInfo:
    """Who was told of a run and how that went, or an alarm."""

    kind: str  #: callback, deadline
    task: str  #: whose callback; empty for those of the graph
    what: str  #: such as on_failure
    outcome: str
    at: datetime
    message: str = ""
    traceback: str = ""


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
    retry_of: str = ""  #: the run it repairs
    tasks: tuple[TaskInfo, ...] = ()  #: in topological order; empty in lists
    notices: tuple[NoticeInfo, ...] = ()  #: who was told of it, and alarms, as far as history knows; empty in lists

    @property
    def culprit(self) -> tuple[TaskInfo, AttemptInfo, ErrorInfo] | None:
        """The task that made it fail, with the attempt and the error that counted."""
        for task in self.tasks:
            last = task.attempts[-1] if task.attempts else None
            if task.state in FAILED and last is not None and last.error is not None:
                return task, last, last.error
        return None

    @property
    def is_open(self) -> bool:
        """Whether it may still change."""
        return self.state not in FINAL_RUN_STATES

    @property
    def seconds(self) -> float | None:
        """From its first attempt to its end."""
        return (self.ended_at - self.started_at).total_seconds() if self.started_at and self.ended_at else None


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphInfo:
    """A graph that a scheduler has announced, or that history remembers."""

    name: str
    schedule: str = ""  #: cron text or "manual"; empty when only history knows the graph
    timezone: str = ""
    file: str = ""
    version: str = ""
    tasks: tuple[str, ...] = ()
    next_tick: datetime | None = None  #: aware, in its zone
    total: int = 0  #: runs in history
    recent: tuple[RunInfo, ...] = ()  #: newest first


def from_view(view: RunView) -> RunInfo:
    """A run as the server holds it; of each task only the attempt that counts."""
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
        retry_of=view.retry_of,
        tasks=tuple(_task_from_view(each) for each in view.tasks),
    )


def from_row(row: RunRow) -> RunInfo:
    """A run as a list of the history has it."""
    return RunInfo(
        id=row.id,
        graph=row.graph,
        version=row.version,
        state=row.state,
        trigger=row.trigger or "",
        tick=row.tick,
        created_at=row.created,
        started_at=row.started,
        ended_at=row.ended,
        reason=row.reason,
        retry_of=row.retry_of,
    )


def from_rows(
    run: RunDetail, tasks: Sequence[TaskRunRow], attempts: Sequence[AttemptRow], notices: Sequence[NoticeRow] = ()
) -> RunInfo:
    """A run as the history has it, with all attempts of its tasks."""
    return replace(
        from_row(run),
        params=run.params,
        config=run.config,
        tasks=tuple(
            TaskInfo(
                name=task.task,
                state=task.state,
                reason=task.reason,
                attempts=_attempts(task, [each for each in attempts if each.node == task.node]),
            )
            for task in tasks
        ),
        notices=tuple(
            NoticeInfo(
                kind=each.kind,
                task=each.task,
                what=each.what,
                outcome=each.outcome,
                at=each.at,
                message=each.message or "",
                traceback=each.traceback or "",
            )
            for each in notices
        ),
    )


def _attempts(task: TaskRunRow, rows: Sequence[AttemptRow]) -> tuple[AttemptInfo, ...]:
    found = [_attempt(each) for each in rows]
    last = max((each.number for each in found if each.outcome is not Outcome.REJECTED), default=0)
    if task.state is TaskState.CANCELLED and task.ended is not None and task.attempts > last:
        # cancelled as it ran: of who ran it, and since when if it was not the first, the history has nothing
        start = task.started if task.attempts == 1 else None
        found.append(
            AttemptInfo(
                number=task.attempts,
                outcome=None,
                worker="",
                started_at=start,
                ended_at=task.ended,
                seconds=(task.ended - start).total_seconds() if start else None,
            )
        )
    # a late report that was rejected comes before the one that counts
    return tuple(sorted(found, key=lambda each: (each.number, each.outcome is not Outcome.REJECTED)))


def has_past(task: TaskInfo) -> bool:
    """Whether the server holds less of a task than there is: earlier attempts, the reason why it never began."""
    if not task.attempts:  # blocked, cancelled, kept by a retry, marked; or queued again
        return task.state in FINAL_TASK_STATES or task.attempt > 1
    if task.state is TaskState.RETRYING:
        return True  # when its attempt ended
    return task.attempts[-1].number > 1 or task.state is TaskState.CANCELLED


def lacks_last(task: TaskInfo) -> bool:
    """Whether what became of the attempt before this one is not among its attempts."""
    return task.attempt > 1 and all(each.number != task.attempt - 1 for each in task.attempts)


def with_ended(run: RunInfo, events: Sequence[AttemptEnded], tasks: Collection[str]) -> RunInfo:
    """A run, some tasks of which get the attempts that these events tell of."""
    told: dict[str, list[AttemptInfo]] = {}
    for event in events:
        if event.run == run.id and event.task in tasks and event.outcome is not Outcome.REJECTED:
            told.setdefault(event.task, []).append(_attempt_from_event(event))
    return replace(
        run,
        tasks=tuple(
            replace(task, attempts=_in_order(task.attempts, new)) if (new := told.get(task.name)) else task
            for task in run.tasks
        ),
    )


def _in_order(known: Sequence[AttemptInfo], new: Sequence[AttemptInfo]) -> tuple[AttemptInfo, ...]:
    numbers = {each.number for each in known}
    added = {each.number: each for each in new if each.number not in numbers}
    return tuple(sorted((*known, *added.values()), key=lambda each: each.number))


def _attempt_from_event(event: AttemptEnded) -> AttemptInfo:
    return AttemptInfo(
        number=event.attempt,
        outcome=event.outcome,
        worker=event.worker,
        started_at=_instant(event.claimed),
        ended_at=from_ms(event.at),
        seconds=event.ms / 1000,
        error=read_error(event.error),
    )


def both(live: RunInfo, filed: RunInfo) -> RunInfo:
    """The server's word on states, the history's on attempts that have ended."""
    known = {task.name: task for task in filed.tasks}
    tasks = tuple(_joined(task, known.get(task.name)) for task in live.tasks)
    return replace(live, tasks=tasks, notices=filed.notices)


def graph(name: str, announced: Mapping[str, Any], total: int, recent: Sequence[RunInfo]) -> GraphInfo:
    """A graph from what a scheduler said of it and what became of its runs."""
    schedule, timezone = str(announced.get("schedule", "")), str(announced.get("timezone", ""))
    return GraphInfo(
        name=name,
        schedule=schedule,
        timezone=timezone,
        file=str(announced.get("file", "")),
        version=str(announced.get("version", "")),
        tasks=tuple(announced.get("tasks", ())),
        next_tick=_next_tick(name, schedule, timezone),
        total=total,
        recent=tuple(recent),
    )


def read_error(packed: bytes) -> ErrorInfo | None:
    """The error that a worker reported; one that cannot be read says so."""
    from tm import codec
    from tm.errors import CodecError

    if not packed:
        return None
    try:
        told = codec.decode(packed)
        return ErrorInfo(
            type=str(told.get("type", "Error")),
            message=str(told.get("message", "")),
            traceback=str(told.get("traceback", "")),
            more=tuple((name, told[name]) for name in _MORE if told.get(name) is not None),
        )
    except (CodecError, AttributeError):
        return ErrorInfo(type="unreadable", message=f"{len(packed)} bytes that are no error report")


_MORE = ("signal", "exit_code", "max_rss")
_OUTCOMES = {
    TaskState.SUCCESS: Outcome.SUCCESS,
    TaskState.SKIPPED: Outcome.SKIPPED,
    TaskState.FAILED: Outcome.FAILED,
    TaskState.RETRYING: Outcome.FAILED,
    TaskState.TIMED_OUT: Outcome.TIMED_OUT,
    TaskState.QUARANTINED: Outcome.KILLED,
}


def _task_from_view(view: TaskRunView) -> TaskInfo:
    attempts: tuple[AttemptInfo, ...] = ()
    skipped = view.state is TaskState.SKIPPED
    error = read_error(view.error)
    if view.claimed_ms is not None and view.state is not TaskState.QUEUED:
        start, end = from_ms(view.claimed_ms), _instant(view.ended_ms)
        attempts = (
            AttemptInfo(
                number=view.attempt,
                outcome=_OUTCOMES.get(view.state),
                worker=view.worker,
                started_at=start,
                ended_at=end,
                seconds=(end - start).total_seconds() if end else None,
                error=None if skipped or _ran(view) else error,
            ),
        )
    return TaskInfo(
        name=view.task,
        state=view.state,
        attempts=attempts,
        reason=error.message if skipped and error else "",
        due_at=_instant(view.due_ms),
        attempt=view.attempt,
        queued_at=_instant(view.queued_ms),
        fails=view.fails,
        losses=view.losses,
    )


def _ran(view: TaskRunView) -> bool:
    """Whether the last attempt runs, or was cancelled as it ran: then the error is that of the one before."""
    cut_off = view.state is TaskState.CANCELLED and view.fails + view.losses < view.attempt
    return cut_off or view.state is TaskState.RUNNING


def _attempt(row: AttemptRow) -> AttemptInfo:
    more = (("signal", row.signal), ("exit_code", row.exit_code), ("max_rss", row.max_rss))
    error = None
    if row.error_type is not None and row.outcome is not Outcome.SKIPPED:  # there it is the reason of the task
        error = ErrorInfo(
            type=row.error_type,
            message=row.message or "",
            traceback=row.traceback or "",
            more=tuple((name, value) for name, value in more if value is not None),
        )
    return AttemptInfo(
        number=row.number,
        outcome=row.outcome,
        worker=row.worker,
        started_at=row.claimed,
        ended_at=row.ended,
        seconds=row.ms / 1000,
        error=error,
    )


def _joined(live: TaskInfo, filed: TaskInfo | None) -> TaskInfo:
    if filed is None:
        return live
    ended = {attempt.number: attempt for attempt in filed.attempts if attempt.outcome is not None}
    attempts = {attempt.number: attempt for attempt in live.attempts} | ended
    reason = filed.reason or live.reason if live.state in FINAL_TASK_STATES else ""
    return replace(live, reason=reason, attempts=tuple(attempts[number] for number in sorted(attempts)))


def _next_tick(name: str, schedule: str, timezone: str) -> datetime | None:
    from zoneinfo import ZoneInfo

    from tm.cron import CronError, Exhausted, Expression

    if schedule in {"", "manual"}:
        return None
    try:
        return Expression(schedule, key=name).next(datetime.now(ZoneInfo(timezone or "UTC")))
    except (CronError, Exhausted, OSError, ValueError):
        return None  # written by another version of Taskmaster, or without end: show the rest


def _instant(ms: int | None) -> datetime | None:
    return None if ms is None else from_ms(ms)
