"""Facts for tests of reasons: workers, scenes, runs and tasks of one moment."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.store.stage import plan
from tm.clock import to_ms
from tm.reasons import Clockwork, Known, Reason, of_run, of_task
from tm.runinfo import AttemptInfo, ErrorInfo, RunInfo, TaskInfo
from tm.states import Outcome, RunState, TaskState
from tm.store.looking import LeaderView, Scene, WorkerView
from tm.store.records import Pause
from tm.words import Words

NOW = datetime(2026, 11, 24, 12, 4, 3, tzinfo=UTC)
WORDS = Words(now=NOW, zone=UTC)
CHAIN: dict[str, Any] = {
    "extract": [],
    "clean": ["extract"],
    "load": ["extract"],
    "report": ["clean", "load"],
    "mail": ["report"],
}


def ago(seconds: float) -> datetime:
    return NOW - timedelta(seconds=seconds)


def worker(
    name: str = "w1", *, seen: float = 1, queues: str = "default", graphs: Any = ("etl",), **about: str
) -> WorkerView:
    return WorkerView(
        name=name,
        seen_ms=to_ms(ago(seen)),
        alive=True,
        about={"queues": queues, "processes": "2", "lease": "30", "host": "box", **about},
        offers=frozenset(graphs),
    )


def scene(*workers: WorkerView, **more: Any) -> Scene:
    known: dict[str, Any] = {
        "now_ms": to_ms(NOW),
        "leader": LeaderView(who="s1", token=3, since_ms=0, until_ms=to_ms(ago(-8))),
        "workers": workers,
        "queues": (),
        "leases": (),
        "running": 0,
        "suspended": False,
        "suspended_for_ms": None,
        "backlog": 0,
        "backlog_bytes": 0,
    }
    return Scene(**(known | more))


def attempt(number: int = 1, outcome: Outcome | None = None, **more: Any) -> AttemptInfo:
    known: dict[str, Any] = {"worker": "w1", "started_at": ago(20), "ended_at": None, "seconds": None}
    return AttemptInfo(number=number, outcome=outcome, **(known | more))


def error(kind: str = "RuntimeError", message: str = "no space", line: int = 7) -> ErrorInfo:
    return ErrorInfo(
        type=kind, message=message, traceback=f'Traceback:\n  File "/srv/etl.py", line {line}, in load\n    x\n'
    )


def run(*tasks: TaskInfo, state: RunState = RunState.RUNNING, **more: Any) -> RunInfo:
    known: dict[str, Any] = {"started_at": ago(30), "ended_at": None}
    return RunInfo(
        id="etl-1",
        graph="etl",
        version="v1",
        trigger="manual",
        tick=None,
        created_at=ago(31),
        state=state,
        tasks=tasks,
        **(known | more),
    )


def ask(subject: RunInfo, task: str | None = None, *, rules: dict[str, Any] | None = None, **known: Any) -> Reason:
    shape = plan(CHAIN, graph="etl", version="v1", **(rules or {}))
    facts = Known(words=WORDS, **known)
    if task is None:
        return of_run(subject, shape, facts)
    return of_task(subject, next(each for each in subject.tasks if each.name == task), shape, facts)


QUEUED = TaskInfo(name="load", state=TaskState.QUEUED, queued_at=ago(62), attempt=1)
DONE = TaskInfo(
    name="extract", state=TaskState.SUCCESS, attempts=(attempt(1, Outcome.SUCCESS, ended_at=ago(5), seconds=1.2),)
)
WAITING = TaskInfo(name="report", state=TaskState.WAITING)
RETRYING = TaskInfo(
    name="load",
    state=TaskState.RETRYING,
    fails=2,
    attempt=2,
    due_at=ago(-8),
    attempts=(attempt(2, Outcome.FAILED, ended_at=ago(8.7), error=error()),),
)
RUNNING = TaskInfo(name="load", state=TaskState.RUNNING, attempt=1, attempts=(attempt(),))
FAILED = TaskInfo(
    name="load", state=TaskState.FAILED, attempts=(attempt(3, Outcome.FAILED, ended_at=ago(60), error=error()),)
)
RULES = {"retries": 5, "retry_delay": 8, "backoff": 1, "jitter": 0.1}

ABOUT = {"schedule": "*/5 * * * *", "timezone": "UTC", "leader": 3}
PAUSE = Pause(graph="etl", by="ann@box", reason="the source moves", since_ms=to_ms(ago(120)))
NEXT = ago(-57)


def clockwork(**more: Any) -> Clockwork:
    return Clockwork(**({"graph": "etl", "about": ABOUT, "next_tick": NEXT, "total": 1} | more))


SKIPPED = replace(run(state=RunState.SKIPPED, reason="overlap: run etl-0 is still open"), tick=ago(3))
UNREADABLE = replace(run(state=RunState.FAILED, reason="config file x.json: no", started_at=None), tick=ago(3))
