"""A task that raises is tried again as often as it allows; then it fails, and nothing below it runs."""

from __future__ import annotations

import time

import pytest

import tm
from tm import Graph, task


def graph_of(*tasks):
    graph = Graph(name="fails")
    graph.add_edges([tasks[0]], tasks[1:])
    return graph


def test_without_retries_the_error_comes_out_as_it_is_with_a_note_on_where_it_happened() -> None:
    @task()
    def divide():
        return 1 / 0

    with pytest.raises(ZeroDivisionError) as caught:
        graph_of(divide)()
    assert caught.value.__notes__ == ["in task 'divide' of graph 'fails', attempt 1 of 1"]


def test_retries_are_attempts_after_the_first() -> None:
    calls = []

    @task(retries=3)
    def stubborn():
        calls.append(len(calls) + 1)
        if len(calls) < 4:
            raise ConnectionError("not yet")
        return "at last"

    assert graph_of(stubborn)() == "at last"
    assert calls == [1, 2, 3, 4]


def test_the_last_error_is_the_one_that_counts() -> None:
    calls = []

    @task(retries=2)
    def broken():
        calls.append(1)
        raise ValueError(f"attempt {len(calls)}")

    with pytest.raises(ValueError, match="attempt 3") as caught:
        graph_of(broken)()
    assert "attempt 3 of 3" in caught.value.__notes__[0]


def test_delays_grow_by_backoff() -> None:
    times = []

    @task(retries=2, retry_delay=0.05, backoff=1)
    def patient():
        times.append(time.monotonic())
        if len(times) < 3:
            raise ConnectionError

    graph_of(patient)()
    first, second = times[1] - times[0], times[2] - times[1]
    assert first >= 0.05
    assert second >= 0.10


def test_nothing_below_a_failed_task_runs_but_what_does_not_depend_on_it_does() -> None:
    ran = []

    @task()
    def start():
        ran.append("start")

    @task()
    def broken(start):
        ran.append("broken")
        raise ValueError("no")

    @task()
    def below(broken):
        ran.append("below")

    @task()
    def beside(start):
        ran.append("beside")

    graph = Graph(name="halves")
    graph.add_edges([start], [broken, beside])
    graph.add_edges([broken], [below])
    with pytest.raises(ValueError, match="no"):
        graph()
    assert ran == ["start", "broken", "beside"]


def test_fail_gives_up_at_once() -> None:
    calls = []

    @task(retries=5)
    def lookup():
        calls.append(1)
        raise tm.Fail("no such customer")

    with pytest.raises(tm.Fail, match="no such customer"):
        graph_of(lookup)()
    assert len(calls) == 1


def test_only_some_errors_may_be_worth_another_attempt() -> None:
    calls = []

    @task(retries=5, retry_on=(ConnectionError, TimeoutError))
    def fetch():
        calls.append(1)
        raise TimeoutError if len(calls) < 3 else KeyError("price")

    with pytest.raises(KeyError):
        graph_of(fetch)()
    assert len(calls) == 3
