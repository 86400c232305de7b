"""What `--json` says: the shapes of runs, tasks, attempts and graphs. Names and meanings only grow.

Times are RFC 3339 in UTC, durations seconds, states lower-case words; what is not known is null.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from tm import codec
from tm.clock import from_ms

if TYPE_CHECKING:
    from tm.reasons import Reason
    from tm.runinfo import AttemptInfo, NoticeInfo, RunInfo, TaskInfo
    from tm.store.records import Pause


def run_document(run: RunInfo, *, whole: bool = True) -> dict[str, Any]:
    """A run; in lists without params, config and tasks."""
    document: dict[str, Any] = {
        "id": run.id,
        "graph": run.graph,
        "version": run.version,
        "state": run.state.value,
        "trigger": run.trigger,
        "tick": instant(run.tick),
        "created_at": instant(run.created_at),
        "started_at": instant(run.started_at),
        "ended_at": instant(run.ended_at),
        "seconds": run.seconds,
        "reason": run.reason or None,
        "retry_of": run.retry_of or None,
    }
    if whole:
        document |= {
            "params": value(run.params) if run.params else {},
            "config": run.config or None,
            "tasks": [task_document(task) for task in run.tasks],
            "notices": [notice_document(notice) for notice in run.notices],
        }
    return document


def task_document(task: TaskInfo) -> dict[str, Any]:
    """A task of a run."""
    return {
        "name": task.name,
        "state": task.state.value,
        "reason": task.reason or None,
        "due_at": instant(task.due_at),
        "attempts": [attempt_document(attempt) for attempt in task.attempts],
    }


def notice_document(notice: NoticeInfo) -> dict[str, Any]:
    """Who was told of a run and how that went, or an alarm; `task` is null for the whole run."""
    return {
        "kind": notice.kind,
        "task": notice.task or None,
        "what": notice.what,
        "outcome": notice.outcome,
        "at": instant(notice.at),
        "message": notice.message or None,
        "traceback": notice.traceback or None,
    }


def attempt_document(attempt: AttemptInfo) -> dict[str, Any]:
    """An attempt at a task; `outcome` is null while it runs, and when it was cancelled as it ran."""
    error = attempt.error
    return {
        "number": attempt.number,
        "outcome": attempt.outcome.value if attempt.outcome else None,
        "worker": attempt.worker,
        "started_at": instant(attempt.started_at),
        "ended_at": instant(attempt.ended_at),
        "seconds": attempt.seconds,
        "error": None
        if error is None
        else {"type": error.type, "message": error.message, "traceback": error.traceback, **dict(error.more)},
    }


def pause_document(pause: Pause) -> dict[str, Any]:
    """Why a graph makes no ticks; `graph` is null where all are meant."""
    return {
        "graph": pause.graph or None,
        "by": pause.by,
        "reason": pause.reason or None,
        "since": instant(from_ms(pause.since_ms)),
        "until": None if pause.until_ms is None else instant(from_ms(pause.until_ms)),
    }


def value(message: bytes) -> Any:
    """A message as JSON has it, which loses types."""
    return json.loads(codec.as_json(codec.decode(message)))


def instant(at: datetime | None) -> str | None:
    """An instant as 2026-11-24T04:05:00.123Z."""
    if at is None:
        return None
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def reason_document(reason: Reason) -> dict[str, Any]:
    """Why something is as it is; `facts` differ by `code`."""
    return {
        "code": reason.code,
        "sentence": reason.sentence,
        "hint": reason.hint or None,
        "facts": {name: _plain(fact) for name, fact in reason.facts.items()},
    }


def _plain(fact: Any) -> Any:
    if isinstance(fact, datetime):
        return instant(fact)
    if isinstance(fact, list | tuple):
        return [_plain(each) for each in fact]
    return fact
