"""Runs in process, on a clock that jumps."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from tm import Fail, Graph, Skip, inprocess, task
from tm.errors import ConfigError


class FakeClock:
    """Sleeping is over at once, and is remembered."""

    def __init__(self) -> None:
        self.time = datetime(2026, 1, 1, tzinfo=UTC)
        self.slept: list[float] = []

    def now(self) -> datetime:
        return self.time

    def sleep(self, seconds: float) -> None:
        self.slept.append(round(seconds, 3))
        self.time += timedelta(seconds=seconds)


class DozingClock(FakeClock):
    """Wakes too early, as sleeping may."""

    def sleep(self, seconds: float) -> None:
        super().sleep(seconds / 2 if seconds > 0.001 else seconds)


def run(graph: Graph, clock: FakeClock | None = None, *args, **kwargs):
    return inprocess.run(graph, args, kwargs, clock or FakeClock())


def failing(times: int, *, result="done"):
    """A function that fails `times` times."""
    calls = []

    def function(**_):
        calls.append(len(calls) + 1)
        if len(calls) <= times:
            raise ValueError(f"call {len(calls)}")
        return result

    function.calls = calls
    return function


def graph_of(*tasks) -> Graph:
    graph = Graph(name="g")
    graph.add_edges(tasks)
    return graph


def test_the_delays_of_the_first_version_are_slept() -> None:
    clock = FakeClock()
    flaky = task(name="flaky", retries=3, retry_delay=1.5, backoff=1)(failing(3))
    assert run(graph_of(flaky), clock) == "done"
    assert clock.slept == [1.5, 3, 6]


def test_no_delay_is_no_sleep() -> None:
    clock = FakeClock()
    run(graph_of(task(name="flaky", retries=3)(failing(3))), clock)
    assert clock.slept == []


def test_a_clock_that_wakes_early_makes_no_retry_early() -> None:
    clock = DozingClock()
    run(graph_of(task(name="flaky", retries=1, retry_delay=8)(failing(1))), clock)
    assert clock.now() - datetime(2026, 1, 1, tzinfo=UTC) >= timedelta(seconds=7.999)


def test_others_go_on_while_one_waits_for_its_retry() -> None:
    order = []

    @task(retries=1, retry_delay=60)
    def flaky():
        order.append("flaky")
        if order.count("flaky") == 1:
            raise ValueError

    @task()
    def steady():
        order.append("steady")

    @task()
    def below(steady):
        order.append("below")

    graph = Graph(name="g")
    graph.add_edges([flaky, steady])
    graph.add_edges([steady], [below])
    run(graph)
    assert order == ["flaky", "steady", "below", "flaky"]


def test_retries_come_in_the_order_in_which_they_are_due() -> None:
    order = []

    def named(name: str, delay: float):
        @task(name=name, retries=1, retry_delay=delay)
        def function():
            order.append(name)
            if order.count(name) == 1:
                raise ValueError

        return function

    clock = FakeClock()
    run(graph_of(named("late", 5), named("soon", 2), named("later", 9)), clock)
    assert order == ["late", "soon", "later", "soon", "late", "later"]
    assert clock.slept == [2, 3, 4]


def test_the_first_final_failure_is_raised_and_the_rest_still_runs() -> None:
    ran = []

    @task(retries=1, retry_delay=5)
    def slow_to_fail():
        raise KeyError("slow")

    @task()
    def fails_at_once():
        raise ValueError("first")

    @task()
    def works():
        ran.append("works")

    with pytest.raises(ValueError, match="first"):
        run(graph_of(slow_to_fail, fails_at_once, works))
    assert ran == ["works"]


def test_the_same_exception_object_may_be_raised_again() -> None:
    error = ValueError("one object")

    @task(retries=2)
    def broken():
        raise error

    with pytest.raises(ValueError, match="one object"):
        run(graph_of(broken))
    assert error.__notes__ == ["in task 'broken' of graph 'g', attempt 3 of 3"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_what_ends_the_interpreter_is_no_failure_of_a_task(error) -> None:
    calls = []

    @task(retries=3)
    def interrupted():
        calls.append(1)
        raise error

    with pytest.raises(error):
        run(graph_of(interrupted))
    assert len(calls) == 1


def test_fail_is_not_retried_even_where_retry_on_would_allow_it() -> None:
    clock = FakeClock()

    @task(retries=3, retry_delay=1, retry_on=Exception)
    def gives_up():
        raise Fail("no")

    with pytest.raises(Fail):
        run(graph_of(gives_up), clock)
    assert clock.slept == []


def test_config_is_read_when_the_run_begins(tmp_path) -> None:
    file = tmp_path / "c.json"

    @task()
    def rewrite(config):
        file.write_text('{"n": 2}')
        return config["n"]

    @task()
    def later(config, after=None):
        return config["n"]

    graph = Graph(name="g", config=file)
    graph.add_edges([rewrite, later])
    file.write_text('{"n": 1}')
    assert run(graph) == 1  # both roots of one run see the same text
    assert run(graph) == 2


def test_a_missing_config_fails_before_any_task(tmp_path) -> None:
    ran = []
    graph = Graph(name="g", config=tmp_path / "none.json")
    graph.add_edges(task(name="root")(lambda config: ran.append(1)))
    with pytest.raises(ConfigError, match="no such file"):
        run(graph)
    assert ran == []


def test_a_config_passed_by_hand_wins_over_the_file(tmp_path) -> None:
    graph = Graph(name="g", config=tmp_path / "none.json")
    graph.add_edges(task(name="root")(lambda config: config))
    assert run(graph, None, config={"n": 3}) == {"n": 3}


def test_args_go_to_every_root_and_kwargs_to_those_that_know_them() -> None:
    got = {}

    @task()
    def one(a, b=0):
        got["one"] = (a, b)

    @task()
    def two(a, **rest):
        got["two"] = (a, rest)

    run(graph_of(one, two), None, 1, b=2, c=3)
    assert got == {"one": (1, 2), "two": (1, {"b": 2, "c": 3})}


def test_messages_are_the_objects_themselves() -> None:
    thing = object()
    graph = Graph(name="g")
    graph.add_edges(task(name="root")(lambda: thing), task(name="leaf")(lambda root: root))
    assert run(graph) is thing


def test_a_task_that_skips_takes_what_is_below_along() -> None:
    ran = []

    @task(retries=3)
    def first():
        ran.append("first")
        raise Skip("nothing new")

    @task()
    def beside():
        ran.append("beside")
        return 2

    @task()
    def last(first, beside):
        ran.append("last")

    graph = Graph("g")
    graph.add_edges([first, beside], [last])
    assert run(graph) is None
    assert ran == ["first", "beside"]
