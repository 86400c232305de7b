"""What happened is told once, whether the server tells it or history."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import click
import msgpack
import pytest

from tests.unit.histories import T0, created, told
from tm import codec
from tm.cli.events import _instant_of
from tm.clock import to_ms
from tm.events import (
    AttemptEnded,
    DeadlineMissed,
    KeptTask,
    Noted,
    RunCreated,
    RunEnded,
    TaskClosed,
    TaskMarked,
    TasksKept,
    UnknownEvent,
    event_id,
)
from tm.happenings import from_event, of_details, of_notices, of_run_row
from tm.history import open_history
from tm.history.records import AttemptRow, MarkRow, RunRow, TaskRunRow
from tm.states import Outcome, RunState, TaskState

if TYPE_CHECKING:
    from pathlib import Path

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


def _row_of_task(task: str, state: str, reason: str) -> TaskRunRow:
    known: Any = {"attempts": 0, "started": None, "ended": END}
    return TaskRunRow(run="r", node=0, task=task, state=TaskState(state), reason=reason, **known)


def test_kept_tasks_are_told_one_by_one_and_unknown_events_not_at_all() -> None:
    kept = TasksKept(run="r", source="q", tasks=(KeptTask(node=0, task="a", state=TaskState.SUCCESS),), at=1)
    [told] = from_event("1-0", kept)
    assert (told.what, told.task, told.detail) == ("tasks_kept", "a", "from q")
    left_out = replace(kept, source="", tasks=(KeptTask(node=1, task="b", state=TaskState.SKIPPED),))
    rows = [_row_of_task("a", "success", "kept from q"), _row_of_task("b", "skipped", "left out of the retry")]
    filed = of_details("g", rows, [], [])
    assert [each.key for each in filed] == [told.key, *(each.key for each in from_event("2-0", left_out))]
    assert [each.detail for each in filed] == ["from q", "left out"]
    assert from_event("1-0", UnknownEvent(problem="?")) == []


def test_who_was_told_is_the_same_from_both_sides(tmp_path: Path) -> None:
    error = codec.encode({"type": "SMTPError", "message": "no such host", "traceback": ""})
    events = [
        created("r"),
        told("r"),
        told("r", kind="retry", at=T0 + 1200, outcome="killed", error=error),
        told("r", kind="retry", at=T0 + 1300, task=""),
        DeadlineMissed(run="r", graph="etl", state=RunState.RUNNING, due=T0, at=T0 + 1400),
        Noted(run="r", kind="webhook", what="run.failed", outcome="given up", message="status 404", at=T0 + 1500),
    ]
    live = [each for number, event in enumerate(events[1:]) for each in from_event(f"1-{number}", event)]
    history = open_history(f"sqlite:///{tmp_path}/history.db")
    history.record([(f"1-{number}", event) for number, event in enumerate(events)])
    filed = of_notices("etl", history.notices("r"))
    history.close()
    assert [each.key for each in live] == [each.key for each in filed]
    assert len({each.key for each in live}) == 5
    assert [(each.what, each.state, each.task, each.detail) for each in filed] == [
        ("callback_ended", "failed", "load", "on_failure"),
        ("callback_ended", "killed", "load", "on_retry: SMTPError: no such host"),
        ("callback_ended", "failed", "", "on_retry"),
        ("deadline_missed", "missed", "", "deadline"),
        ("webhook_ended", "given up", "", "run.failed: status 404"),
    ]


@pytest.mark.parametrize("number", [1, 2, 32])
def test_one_goes_on_after_any_event_of_an_entry(number: int) -> None:
    id_ = event_id(f"{to_ms(NOON)}-0", number)
    [ended] = from_event(
        id_, RunEnded(run="r", graph="g", state=RunState.SUCCESS, reason="", at=to_ms(NOON), started=None)
    )
    assert _instant_of(ended.id) == NOON


@pytest.mark.parametrize("nonsense", ["", "yesterday", "1790000000000-", "1-2-3-4", "1790000000000.0"])
def test_what_is_no_id_of_an_event_is_refused(nonsense: str) -> None:
    with pytest.raises(click.BadParameter, match="no id of an event"):
        _instant_of(nonsense)
