"""What happened is told once, whether the server tells it or history."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgpack

from tm.clock import to_ms
from tm.events import AttemptEnded, KeptTask, RunCreated, RunEnded, TaskClosed, TaskMarked, TasksKept, UnknownEvent
from tm.happenings import from_event, of_details, of_run_row
from tm.history.records import AttemptRow, MarkRow, RunRow, TaskRunRow
from tm.states import Outcome, RunState, TaskState

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
END = NOON + timedelta(seconds=2)
ERROR = msgpack.packb({"type": "ValueError", "message": "bad"})


def row(state: RunState, **more: Any) -> RunRow:
    known: dict[str, Any] = {
        "graph": "etl",
        "version": "v",
        "trigger": "manual",
        "tick": None,
        "reason": "",
        "started": NOON,
    }
    return RunRow(id="r", state=state, created=NOON, **(known | {"ended": END} | more))


def test_both_sides_tell_of_the_same_changes() -> None:
    events = [
        RunCreated(run="r", graph="etl", version="v", trigger="manual", tick=None, params=b"", config="", state=RunState.QUEUED, reason="", at=to_ms(NOON)),
        AttemptEnded(
            run="r", graph="etl", node=0, task="load", attempt=1, outcome=Outcome.FAILED, state=TaskState.FAILED, worker="w",
            claimed=to_ms(NOON), at=to_ms(END), ms=5, error=ERROR, due=None,
        ),
        TaskClosed(run="r", node=1, task="report", state=TaskState.BLOCKED, reason="parent load failed", at=to_ms(END)),
        TaskMarked(run="r", node=2, task="mail", was=TaskState.WAITING, state=TaskState.SKIPPED, by="ann", reason="no", at=to_ms(END)),
        RunEnded(run="r", graph="etl", state=RunState.FAILED, reason="", at=to_ms(END), started=to_ms(NOON)),
    ]  # fmt: skip
    live = [each for number, event in enumerate(events) for each in from_event(f"1-{number}", event)]
    attempts = [
        AttemptRow(
            run="r", node=0, task="load", number=1, outcome=Outcome.FAILED, worker="w", claimed=NOON, ended=END, ms=5,
            error_type="ValueError", message="bad", traceback="", signal=None, exit_code=None, max_rss=None, due=None,
        )
    ]  # fmt: skip
    tasks = [
        TaskRunRow(run="r", node=0, task="load", state=TaskState.FAILED, reason="", attempts=1, started=NOON, ended=END),
        TaskRunRow(run="r", node=1, task="report", state=TaskState.BLOCKED, reason="parent load failed", attempts=0, started=None, ended=END),
        TaskRunRow(run="r", node=2, task="mail", state=TaskState.SKIPPED, reason="marked", attempts=0, started=None, ended=END),
    ]  # fmt: skip
    marks = [
        MarkRow(run="r", task="mail", was=TaskState.WAITING, state=TaskState.SKIPPED, by="ann", reason="no", at=END)
    ]
    filed = [*of_run_row(row(RunState.FAILED)), *of_details("etl", tasks, attempts, marks)]
    assert {each.key for each in live} == {each.key for each in filed}
    assert {(each.what, each.detail) for each in live} == {(each.what, each.detail) for each in filed}
    order = [each.what for each in sorted(filed, key=lambda each: each.order)]
    assert (order[0], order[-1]) == ("run_created", "run_ended")


def test_a_tick_that_never_ran_is_one_change() -> None:
    [skipped] = of_run_row(row(RunState.SKIPPED, ended=NOON, reason="overlap"))
    assert (skipped.what, skipped.detail) == ("tick_skipped", "overlap")
    [failed] = of_run_row(row(RunState.FAILED, ended=NOON, started=None, reason="config"))
    assert (failed.what, failed.state, failed.detail) == ("run_created", "failed", "config")
    assert [each.what for each in of_run_row(row(RunState.RUNNING, ended=None))] == ["run_created"]


def test_kept_tasks_are_told_one_by_one_and_unknown_events_not_at_all() -> None:
    kept = TasksKept(run="r", source="q", tasks=(KeptTask(node=0, task="a", state=TaskState.SUCCESS),), at=1)
    [told] = from_event("1-0", kept)
    assert (told.what, told.task, told.detail) == ("tasks_kept", "a", "from q")
    assert from_event("1-0", UnknownEvent(problem="?")) == []
