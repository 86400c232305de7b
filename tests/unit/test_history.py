"""What goes into history comes out of it: each event once, in whatever portions it arrives.

With TM_TEST_POSTGRES=postgresql+psycopg://... (an empty database to play with) these tests run on PostgreSQL too.
"""

from __future__ import annotations

import json
import os
from datetime import timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import create_engine

from tests.unit.histories import T0, attempt, closed, created, ended, numbered, told
from tm import codec
from tm.clock import from_ms
from tm.errors import NotFoundError
from tm.events import UnknownEvent
from tm.history import History, open_history
from tm.history.schema import metadata
from tm.states import Outcome, RunState, TaskState

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


POSTGRES = os.environ.get("TM_TEST_POSTGRES", "")


@pytest.fixture(params=["sqlite", *(["postgresql"] if POSTGRES else [])])
def history(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[History]:
    url = f"sqlite:///{tmp_path}/history.db"
    if request.param == "postgresql":
        url = POSTGRES
        engine = create_engine(url)
        metadata.drop_all(engine)
        engine.dispose()
    history = open_history(url)
    yield history
    history.close()


def everything(history: History) -> Any:
    """All that can be read."""
    found = history.runs()
    return (
        [history.run(run.id) for run in found],
        [history.task_runs(run.id) for run in found],
        [history.attempts(run.id) for run in found],
        history.graphs(),
        history.versions("etl"),
    )


ERROR = codec.encode({"type": "ValueError", "message": "no rows", "traceback": "Traceback ...\n  x\x00"})
STORY = [
    created(params=codec.encode({"day": "2024-01-31", "n": float("nan")}), config='{"table": "orders"}'),
    attempt(node=0),
    attempt(node=1, number=1, outcome=Outcome.FAILED, state=TaskState.RETRYING, error=ERROR, due=T0 + 5000, ms=7),
    attempt(node=1, number=2, outcome=Outcome.LOST, state=TaskState.QUEUED, worker="w2"),
    attempt(node=1, number=2, outcome=Outcome.REJECTED, state=TaskState.QUEUED, worker="w2", claimed=None),
    attempt(
        node=1,
        number=3,
        outcome=Outcome.KILLED,
        state=TaskState.FAILED,
        error=codec.encode({"type": "Killed", "message": "by SIGKILL", "signal": "SIGKILL", "max_rss": 5 << 30}),
    ),
    closed(node=2),
    ended(state=RunState.FAILED),
]


def test_a_run_is_told_with_all_that_belongs_to_it(history: History) -> None:
    history.record(numbered(*STORY))
    run = history.run("etl-1")
    assert (run.graph, run.version, run.trigger, run.tick) == ("etl", "v1", "schedule", from_ms(T0))
    assert (run.state, run.open, run.reason) == (RunState.FAILED, False, "")
    assert (run.created, run.started, run.ended) == (from_ms(T0), from_ms(T0 + 100), from_ms(T0 + 1000))
    assert run.config == '{"table": "orders"}'
    assert codec.decode(run.params)["day"] == "2024-01-31"
    assert json.loads(run.params_json) == {"day": "2024-01-31", "n": "NaN"}


def test_its_tasks_are_told_in_the_order_of_the_graph(history: History) -> None:
    history.record(numbered(*STORY))
    extract, load, report = history.task_runs("etl-1")
    assert (extract.task, extract.state, extract.attempts) == ("extract", TaskState.SUCCESS, 1)
    assert (extract.started, extract.ended) == (from_ms(T0 + 100), from_ms(T0 + 150))
    assert (load.task, load.state, load.attempts) == ("load", TaskState.FAILED, 3)
    assert (load.started, load.ended) == (from_ms(T0 + 100), from_ms(T0 + 350))
    assert (report.task, report.state, report.attempts) == ("report", TaskState.BLOCKED, 0)
    assert (report.reason, report.started, report.ended) == ("parent load failed", None, from_ms(T0 + 900))


def test_every_attempt_is_told_with_its_error(history: History) -> None:
    history.record(numbered(*STORY))
    first, second, late, third = history.attempts("etl-1", "load")
    assert (first.number, first.outcome, first.worker, first.ms) == (1, Outcome.FAILED, "w1", 7)
    assert (first.error_type, first.message, first.due) == ("ValueError", "no rows", from_ms(T0 + 5000))
    assert first.traceback == "Traceback ...\n  x␀"  # PostgreSQL has no NUL
    assert (second.number, second.outcome, second.error_type) == (2, Outcome.LOST, None)
    assert (late.number, late.outcome, late.claimed) == (2, Outcome.REJECTED, None)
    assert (third.signal, third.max_rss, third.exit_code) == ("SIGKILL", 5 << 30, None)
    assert [row.task for row in history.attempts("etl-1")] == ["extract", "load", "load", "load", "load"]


def test_repeating_a_batch_changes_nothing(history: History) -> None:
    history.record(numbered(*STORY))
    before = everything(history), history.position()
    history.record(numbered(*STORY))
    history.record(numbered(*STORY)[2:5])
    assert (everything(history), history.position()) == before


@given(cuts=st.lists(st.integers(0, len(STORY)), max_size=4))
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_portions_do_not_matter(cuts: list[int], tmp_path_factory: pytest.TempPathFactory) -> None:
    whole, parts = (open_history(f"sqlite:///{tmp_path_factory.mktemp('h')}/history.db") for _ in range(2))
    events = numbered(*STORY)
    whole.record(events)
    edges = [0, *sorted(cuts), len(events)]
    for low, high in pairwise(edges):
        parts.record(events[max(0, low - 1) : high])  # every portion repeats the end of the one before
    assert everything(parts) == everything(whole)
    whole.close()
    parts.close()


def test_the_position_moves_with_the_events_and_is_kept_by_source(history: History) -> None:
    assert history.position() == "0-0"
    history.record([("9-0", created("a")), ("9-1", created("b")), ("10-0", created("c"))])
    assert history.position() == "10-0"
    history.record([("9-2", created("d"))])  # as text it would come later
    history.record([])
    assert history.position() == "10-0"
    assert history.position("another server") == "0-0"
    history.record([("3-0", created("e"))], source="another server")
    assert {run.id for run in history.runs()} == {"a", "b", "c", "e"}
    assert (history.position(), history.position("another server")) == ("10-0", "3-0")


def test_an_open_run_is_shown_as_open(history: History) -> None:
    history.record(numbered(created()))
    assert (history.run("etl-1").state, history.run("etl-1").open) == (RunState.QUEUED, True)
    history.record(numbered(attempt(), first=5))
    run = history.run("etl-1")
    assert (run.state, run.open, run.started, run.ended) == (RunState.RUNNING, True, from_ms(T0 + 100), None)


def test_a_skipped_tick_is_a_run_that_ended_as_it_began(history: History) -> None:
    history.record(numbered(created(state=RunState.SKIPPED, reason="missed by 2 h", trigger="catchup")))
    run = history.run("etl-1")
    assert (run.state, run.reason, run.ended, run.started) == (
        RunState.SKIPPED,
        "missed by 2 h",
        from_ms(T0),
        None,
    )


@pytest.mark.parametrize("late", [attempt(outcome=Outcome.LOST, state=TaskState.CANCELLED), closed()])
def test_what_follows_the_end_of_a_run_leaves_the_end_alone(history: History, late: Any) -> None:
    history.record(numbered(created(), ended(state=RunState.CANCELLED, reason="by hand"), late))
    history.record(numbered(late, first=10))
    run = history.run("etl-1")
    assert (run.state, run.reason, run.ended) == (RunState.CANCELLED, "by hand", from_ms(T0 + 1000))


def test_a_run_whose_beginning_was_trimmed_is_told_as_far_as_known(history: History) -> None:
    history.record(numbered(attempt(node=1, number=2, outcome=Outcome.FAILED, state=TaskState.RETRYING)))
    run = history.run("etl-1")
    assert (run.graph, run.state, run.trigger, run.version) == ("etl", RunState.RUNNING, None, "")
    assert [(row.task, row.attempts) for row in history.task_runs("etl-1")] == [("load", 2)]
    history.record(numbered(ended(), first=5))
    assert history.run("etl-1").state is RunState.SUCCESS


def test_even_when_only_its_end_or_a_blocked_task_is_left(history: History) -> None:
    history.record(numbered(ended("a"), closed("b")))
    assert history.run("a").state is RunState.SUCCESS
    assert history.run("b").graph == ""
    history.record(numbered(ended("b", state=RunState.FAILED), first=5))
    assert (history.run("b").graph, history.run("b").state) == ("etl", RunState.FAILED)


def test_a_late_report_alone_makes_no_ghost_of_a_run(history: History) -> None:
    history.record(numbered(attempt("gone", graph="", task="", outcome=Outcome.REJECTED, state=None)))
    assert history.runs() == []


@pytest.mark.parametrize("error", [b"\xc1", codec.encode([1]), codec.encode({"type": {}, "exit_code": 2**40})])
def test_an_error_that_cannot_be_read_does_not_stop_history(history: History, error: bytes) -> None:
    history.record(numbered(created(), attempt(outcome=Outcome.FAILED, state=TaskState.FAILED, error=error), ended()))
    (row,) = history.attempts("etl-1")
    assert row.error_type is None
    assert row.exit_code is None


def test_params_that_cannot_be_read_are_kept_as_they_are(history: History) -> None:
    history.record(numbered(created(params=b"\xc1")))
    assert (history.run("etl-1").params, history.run("etl-1").params_json) == (b"\xc1", "")


def test_an_unknown_event_is_passed_over_and_logged(history: History, caplog: pytest.LogCaptureFixture) -> None:
    history.record(numbered(UnknownEvent(problem="from the future"), created()))
    assert history.position() == f"{T0 + 2}-0"
    assert len(history.runs()) == 1
    assert "history skips an event" in caplog.text


def test_all_or_nothing_is_filed(history: History) -> None:
    class Strange:
        value = object()  # no database takes this

    with pytest.raises(Exception, match=r"."):
        history.record(numbered(created("a"), ended("b", state=Strange())))  # type: ignore[arg-type]
    assert history.runs() == []
    assert history.position() == "0-0"


# Reading --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def busy(history: History) -> History:
    """Six runs of etl, an hour apart, every third failed; two of report; one open."""
    hour = 3_600_000
    events: list[Any] = []
    for index in range(6):
        state = RunState.FAILED if index % 3 == 2 else RunState.SUCCESS
        events += [
            created(f"etl-{index}", at=T0 + index * hour),
            ended(f"etl-{index}", state, at=T0 + index * hour + 9),
        ]
    events += [created(f"Report_{index}", "report", at=T0 + index, version=f"v{index}") for index in range(2)]
    events += [ended("Report_0", graph="report")]
    history.record(numbered(*events))
    return history


def ids(runs: Any) -> list[str]:
    return [run.id for run in runs]


def test_the_newest_runs_come_first(busy: History) -> None:
    assert ids(busy.runs()) == ["etl-5", "etl-4", "etl-3", "etl-2", "etl-1", "Report_1", "etl-0", "Report_0"]
    assert ids(busy.runs(limit=2)) == ["etl-5", "etl-4"]


def test_runs_are_chosen_by_graph_state_and_time(busy: History) -> None:
    assert ids(busy.runs("report")) == ["Report_1", "Report_0"]
    assert ids(busy.runs(state=RunState.FAILED)) == ["etl-5", "etl-2"]
    assert ids(busy.runs("report", RunState.QUEUED)) == ["Report_1"]
    assert ids(busy.runs("nobody")) == []
    third = from_ms(T0) + timedelta(hours=2)
    assert ids(busy.runs(since=third)) == ["etl-5", "etl-4", "etl-3", "etl-2"]
    assert ids(busy.runs("etl", until=third)) == ["etl-1", "etl-0"]
    assert ids(busy.runs(since=third, until=third)) == []


def test_a_run_is_found_by_a_beginning_that_is_its_own(busy: History) -> None:
    busy.record(numbered(created("etl-10"), first=100))
    assert busy.run("etl-5").id == "etl-5"
    assert busy.run("etl-1").id == "etl-1"  # exact, though etl-10 begins so too
    assert busy.run("Report_1").id == busy.run("Report_1").id
    with pytest.raises(NotFoundError, match=r"more than one run begins with 'etl' \(etl-5, etl-4, etl-3, \.\.\.\)"):
        busy.run("etl")
    with pytest.raises(NotFoundError, match=r"more than one run begins with 'R' \(Report_1, Report_0\)"):
        busy.run("R")


@pytest.mark.parametrize("wanted", ["", "x", "ETL-5", "etl%", "etl_5", "etl-5 ", "report_1"])
def test_there_is_no_guessing(busy: History, wanted: str) -> None:
    with pytest.raises(NotFoundError, match="history has no run"):
        busy.run(wanted)


def test_what_became_of_each_graph(busy: History) -> None:
    etl, report = busy.graphs(recent=3)
    assert (etl.graph, etl.total) == ("etl", 6)
    assert etl.counts == {RunState.SUCCESS: 4, RunState.FAILED: 2}
    assert [run.state.value for run in etl.recent] == ["failed", "success", "success"]
    assert (report.graph, report.total, len(report.recent)) == ("report", 2, 2)
    assert busy.graphs(recent=0)[0].recent == ()


def test_the_versions_of_a_graph(busy: History) -> None:
    assert [(row.version, row.first_seen) for row in busy.versions("report")] == [
        ("v0", from_ms(T0)),
        ("v1", from_ms(T0 + 1)),
    ]
    assert len(busy.versions("etl")) == 1


def test_an_empty_history_answers_too(history: History) -> None:
    assert (history.runs(), history.graphs(), history.task_runs("x"), history.attempts("x")) == ([], [], [], [])


def test_who_was_told_is_kept_with_the_run_and_makes_no_ghost_of_one(history: History) -> None:
    error = codec.encode({"type": "SMTPError", "message": "no such host", "traceback": "Traceback ..."})
    history.record(numbered(created(), ended(), told(error=error), told("nobody"), told(task="", kind="success")))
    notices = history.notices("etl-1")
    assert [(each.kind, each.task, each.what, each.outcome) for each in notices] == [
        ("callback", "load", "on_failure", "failed"),
        ("callback", "", "on_success", "failed"),
    ]
    assert (notices[0].message, notices[0].traceback) == ("SMTPError: no such host", "Traceback ...")
    assert history.notices("nobody") == []
    assert [run.id for run in history.runs()] == ["etl-1"]
