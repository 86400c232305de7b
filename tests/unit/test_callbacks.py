"""Callbacks in process, and what is refused when they are given."""

from __future__ import annotations

import logging
import sys
from datetime import timedelta
from typing import Any

import pytest

from tests.unit.test_inprocess import FakeClock
from tm import CallbackEvent, Graph, Skip, inprocess, task
from tm.errors import DefinitionError


def test_a_run_in_process_tells_its_callbacks_in_order() -> None:
    told: list[CallbackEvent] = []

    @task(retries=1, retry_delay=5, on_retry=told.append, on_success=[told.append])
    def flaky(n: int) -> int:
        if not told:
            raise ValueError("not yet")
        return n

    graph = Graph("told", on_success=told.append)
    graph.add_edges([flaky])
    clock = FakeClock()
    assert inprocess.run(graph, (), {"n": 3}, clock) == 3
    assert [(each.kind, each.scope, each.task, each.attempt, each.state) for each in told] == [
        ("retry", "task", "flaky", 1, "retrying"),
        ("success", "task", "flaky", 2, "success"),
        ("success", "graph", None, None, "success"),
    ]
    retry, success, run = told
    assert retry.error is not None
    assert (retry.error.type, retry.error.message) == ("ValueError", "not yet")
    assert "raise ValueError" in retry.error.traceback
    assert retry.next_attempt_at == retry.at + timedelta(seconds=5)
    assert (success.value, run.value, run.params, run.seconds) == (3, 3, {"n": 3}, 5)
    assert len({each.id for each in told}) == 3
    assert {each.run for each in told} == {told[0].run}


def test_a_failure_is_told_of_the_task_and_of_the_run_with_the_first_task_that_failed() -> None:
    told: list[CallbackEvent] = []

    @task(on_failure=told.append, on_success=told.append)
    def broken() -> None:
        raise KeyError("x")

    @task(on_failure=told.append)
    def below(broken: None) -> None: ...

    graph = Graph("broken", on_failure=told.append, on_success=told.append)
    graph.add_edges([broken], [below])
    with pytest.raises(KeyError):
        graph()
    assert [(each.scope, each.task, each.state) for each in told] == [
        ("task", "broken", "failed"),
        ("graph", "broken", "failed"),
    ]
    assert told[1].error is not None
    assert told[1].error.type == "KeyError"


def test_a_skipped_task_is_neither_a_success_nor_a_failure() -> None:
    told: list[CallbackEvent] = []

    @task(on_success=told.append, on_failure=told.append)
    def nothing() -> None:
        raise Skip

    graph = Graph("quiet", on_success=told.append)
    graph.add_edges([nothing])
    assert graph() is None
    assert [each.scope for each in told] == ["graph"]


def test_a_callback_that_fails_breaks_nothing_and_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    told: list[str] = []

    def leaves(event: CallbackEvent) -> None:
        sys.exit(3)

    def raises(event: CallbackEvent) -> None:
        raise RuntimeError("no mail today")

    @task(on_success=[leaves, raises, lambda event: told.append(event.kind)])
    def fine() -> int:
        return 1

    graph = Graph("fine")
    graph.add_edges([fine])
    with caplog.at_level(logging.ERROR):
        assert graph() == 1
    assert told == ["success"]
    assert "raises failed, on_success of fine" in caplog.text
    assert "no mail today" in caplog.text
    assert "SystemExit: 3" in caplog.text


async def _async(event: CallbackEvent) -> None: ...


@pytest.mark.parametrize(
    ("callback", "says"),
    [
        ("mail", "task 't': on_failure needs a function"),
        ([print, 3], "needs a function that takes one event"),
        (lambda: None, "cannot be called with one event: too many positional"),
        (lambda one, two: None, "missing a required argument: 'two'"),
        (_async, "is async"),
    ],
)
def test_what_cannot_be_called_is_refused_when_the_task_is_made(callback: Any, says: str) -> None:
    with pytest.raises(DefinitionError, match="on_failure") as error:
        task(name="t", on_failure=callback)(lambda: None)
    assert says in str(error.value)


def test_callbacks_change_the_version_of_a_graph_and_none_leave_it_alone() -> None:
    def graph(**callbacks: Any) -> Graph:
        made = Graph("g", **callbacks)
        made.add_edges([task(name="t")(print)])
        return made

    assert graph().plan.version == graph(on_success=None, on_failure=[]).plan.version
    assert graph().plan.version != graph(on_failure=print).plan.version
    assert not graph().plan.has_callbacks
    assert graph(on_failure=print).plan.has_callbacks


def test_a_deadline_is_seconds_or_a_timedelta() -> None:
    def graph(**more: Any) -> Graph:
        made = Graph("g", **more)
        made.add_edges([task(name="t")(print)])
        return made

    assert graph(deadline=timedelta(minutes=1)).plan.deadline == graph(deadline=60).plan.deadline == 60
    assert graph().plan.deadline is None
    assert graph().plan.version != graph(deadline=60).plan.version
    assert graph(deadline=60, on_deadline=print).plan.calls == ("deadline",)
    with pytest.raises(DefinitionError, match="has on_deadline but no deadline"):
        graph(on_deadline=print)


@pytest.mark.parametrize("deadline", [0, -1, float("inf"), float("nan"), "1h", True, timedelta()])
def test_a_deadline_that_makes_no_sense_is_refused(deadline: Any) -> None:
    with pytest.raises(DefinitionError, match="deadline must be above 0 seconds"):
        Graph("g", deadline=deadline)
