"""What happened, as people follow it: one record for each change, from the server's events or from what history keeps.

History keeps states, not events; what it tells of the past is put together again from them. An event that is read
twice, once from each side, is the same record (`Happening.key`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tm.clock import from_ms, to_ms
from tm.events import (
    AttemptEnded,
    CallbackEnded,
    DeadlineMissed,
    Noted,
    RunCreated,
    RunEnded,
    TaskClosed,
    TaskMarked,
    TasksKept,
)
from tm.runinfo import read_error
from tm.states import FINAL_RUN_STATES, Outcome, RunState

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from tm.events import Event
    from tm.history import AttemptRow, MarkRow, NoticeRow, RunRow, TaskRunRow


@dataclass(frozen=True, slots=True, kw_only=True)
class Happening:
    """One change."""

    at: datetime
    id: str  #: to go on after it (`tm events --from`)
    run: str
    #: run_created, run_ended, tick_skipped, attempt_ended, task_closed, task_marked, tasks_kept, callback_ended,
    #: deadline_missed, webhook_ended
    what: str
    state: str  #: of the run or the task from then on
    graph: str = ""  #: empty where the server does not say
    task: str = ""
    attempt: int | None = None
    outcome: str = ""  #: of the attempt
    worker: str = ""
    seconds: float | None = None
    detail: str = ""  #: reason, error, who

    @property
    def key(self) -> tuple[str, str, str, int | None, str, str]:
        """The same for the same change, whoever tells of it."""
        if self.what in _NOTICES:  # of which one task may have several alike
            return self.run, self.what, self.task, to_ms(self.at), self.detail, self.state
        # what becomes of a task after an attempt is not kept
        return self.run, self.what, self.task, self.attempt, self.outcome, "" if self.outcome else self.state

    @property
    def order(self) -> tuple[datetime, int, str]:
        """In time, and within a moment from cause to effect."""
        return self.at, _ORDER.get(self.what, 2), self.run


_NOTICES = frozenset({"callback_ended", "deadline_missed", "webhook_ended"})
_ORDER = {"run_created": 0, "tick_skipped": 0, "tasks_kept": 1, "run_ended": 3}


def from_event(stream_id: str, event: Event) -> list[Happening]:
    """What an event of the server's stream says."""
    if isinstance(event, RunCreated):
        born = "tick_skipped" if event.state is RunState.SKIPPED else "run_created"
        detail = event.reason or event.trigger + (f" of {event.retry_of}" if event.retry_of else "")
        return [_made(stream_id, event.at, event.run, born, event.state, graph=event.graph, detail=detail)]
    if isinstance(event, RunEnded):
        return [_made(stream_id, event.at, event.run, "run_ended", event.state, graph=event.graph, detail=event.reason)]
    if isinstance(event, AttemptEnded):
        error = read_error(event.error)
        return [
            Happening(
                at=from_ms(event.at),
                id=stream_id,
                run=event.run,
                graph=event.graph,
                what="attempt_ended",
                task=event.task,
                attempt=event.attempt,
                outcome=event.outcome.value,
                state=event.state.value if event.state else "",
                worker=event.worker,
                seconds=event.ms / 1000,
                detail=f"{error.type}: {error.message}" if error else "",
            )
        ]
    if isinstance(event, TaskClosed):
        return [_made(stream_id, event.at, event.run, "task_closed", event.state, task=event.task, detail=event.reason)]
    if isinstance(event, TaskMarked):
        detail = f"{event.by}: {event.reason}"
        return [_made(stream_id, event.at, event.run, "task_marked", event.state, task=event.task, detail=detail)]
    if isinstance(event, TasksKept):
        detail = f"from {event.source}" if event.source else "left out"
        return [
            _made(stream_id, event.at, event.run, "tasks_kept", each.state, task=each.task, detail=detail)
            for each in event.tasks
        ]
    if isinstance(event, CallbackEnded):
        error = read_error(event.error)
        detail = f"on_{event.kind}" + (f": {error.type}: {error.message}" if error else "")
        about = {"graph": event.graph, "task": event.task, "detail": detail}
        return [_made(stream_id, event.at, event.run, "callback_ended", event.outcome, **about)]
    if isinstance(event, DeadlineMissed):
        return [
            _made(stream_id, event.at, event.run, "deadline_missed", "missed", graph=event.graph, detail="deadline")
        ]
    if isinstance(event, Noted):
        detail = f"{event.what}: {event.message}"
        return [_made(stream_id, event.at, event.run, f"{event.kind}_ended", event.outcome, detail=detail)]
    return []


def of_notices(graph: str, notices: Iterable[NoticeRow]) -> list[Happening]:
    """Who was told of a run, and alarms, as history keeps them."""
    found = []
    for row in notices:
        what = "deadline_missed" if row.kind == "deadline" else f"{row.kind}_ended"
        detail = row.what if row.kind == "deadline" or not row.message else f"{row.what}: {row.message}"
        about = {"graph": graph, "task": row.task, "detail": detail}
        found.append(_made("", to_ms(row.at), row.run, what, row.outcome, **about))
    return found


def of_run_row(row: RunRow) -> list[Happening]:
    """That a run of history began, and how it ended."""
    born = "tick_skipped" if row.state is RunState.SKIPPED else "run_created"
    recorded = row.state is RunState.SKIPPED or (row.state is RunState.FAILED and row.ended == row.created)
    detail = (row.trigger or "") + (f" of {row.retry_of}" if row.retry_of else "")
    state = row.state if recorded else RunState.QUEUED
    first = _made(
        "", to_ms(row.created), row.id, born, state, graph=row.graph, detail=row.reason if recorded else detail
    )
    if recorded or row.ended is None or row.state not in FINAL_RUN_STATES:
        return [first]
    return [
        first,
        _made("", to_ms(row.ended), row.id, "run_ended", row.state, graph=row.graph, detail=row.reason),
    ]


def of_details(
    graph: str, tasks: Iterable[TaskRunRow], attempts: Iterable[AttemptRow], marks: Iterable[MarkRow]
) -> list[Happening]:
    """What history keeps of the tasks of one run."""
    marks, found = list(marks), []
    marked = {mark.task for mark in marks}
    for row in attempts:
        detail = f"{row.error_type}: {row.message or ''}" if row.error_type else ""
        found.append(
            Happening(
                at=row.ended,
                id=f"{to_ms(row.ended)}-0",
                run=row.run,
                graph=graph,
                what="attempt_ended",
                task=row.task,
                attempt=row.number,
                outcome=row.outcome.value,
                state="",
                worker=row.worker,
                seconds=row.ms / 1000,
                detail=detail,
            )
        )
    told: dict[str, int] = {}
    for each in found:
        if each.outcome != Outcome.REJECTED:
            told[each.task] = max(told.get(each.task, 0), each.attempt or 0)
    for closed in tasks:
        # it never began, or its last attempt was cancelled as it ran
        untold = not closed.attempts or closed.attempts > told.get(closed.task, 0)
        if untold and closed.ended is not None and closed.task not in marked:
            what, detail = _closed_or_kept(closed.reason)
            about = {"graph": graph, "task": closed.task, "detail": detail}
            found.append(_made("", to_ms(closed.ended), closed.run, what, closed.state, **about))
    found += [
        _made(
            "",
            to_ms(row.at),
            row.run,
            "task_marked",
            row.state,
            graph=graph,
            task=row.task,
            detail=f"{row.by}: {row.reason}",
        )
        for row in marks
    ]
    return found


def _closed_or_kept(reason: str) -> tuple[str, str]:
    """What became of a task without an attempt, told as its event tells it; history keeps the reason only."""
    if reason.startswith("kept from "):
        return "tasks_kept", reason.removeprefix("kept ")
    if reason == "left out of the retry":
        return "tasks_kept", "left out"
    return "task_closed", reason


def _made(
    stream_id: str, at: int, run: str, what: str, state: str, *, graph: str = "", task: str = "", detail: str = ""
) -> Happening:
    return Happening(
        at=from_ms(at),
        id=stream_id or f"{at}-0",
        run=run,
        what=what,
        state=str(state),
        graph=graph,
        task=task,
        detail=detail,
    )
