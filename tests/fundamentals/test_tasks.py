"""A task is a function with a name, and some rules for the day it fails."""

from __future__ import annotations

import pytest

from tm import Graph, Task, TaskmasterError, task


def test_a_decorated_function_still_is_that_function() -> None:
    @task()
    def double(number):
        """Twice as much."""
        return number * 2

    assert double(4) == 8
    assert double(number=4) == 8
    assert double.__name__ == "double"
    assert double.__doc__ == "Twice as much."
    assert isinstance(double, Task)


def test_the_brackets_may_be_left_out() -> None:
    @task
    def hello():
        return "hello"

    assert hello() == "hello"


def test_a_graph_of_one_task_returns_what_the_task_returns() -> None:
    @task()
    def hello():
        return "hello"

    graph = Graph(name="hello")
    graph.add_edges([hello])
    assert graph() == "hello"


def test_a_task_can_have_another_name_than_its_function() -> None:
    @task(name="rows")
    def _read_rows_from_the_old_server():
        return [1, 2, 3]

    @task()
    def count(rows):
        return len(rows)

    graph = Graph(name="renamed")
    graph.add_edges([_read_rows_from_the_old_server], [count])
    assert graph() == 3


def test_one_task_may_be_part_of_many_graphs() -> None:
    @task()
    def number():
        return 1

    @task()
    def plus_one(number):
        return number + 1

    @task()
    def minus_one(number):
        return number - 1

    up, down = Graph(name="up"), Graph(name="down")
    up.add_edges([number], [plus_one])
    down.add_edges([number], [minus_one])
    assert (up(), down()) == (2, 0)


def test_what_no_task_can_be_is_refused_on_the_line_that_says_so() -> None:
    with pytest.raises(TaskmasterError, match="retries must be a whole number of at least 0, not -1"):
        task(retries=-1)(print)
    with pytest.raises(TaskmasterError, match="retry_delay must be a finite number"):
        task(retry_delay=float("inf"))(print)
    with pytest.raises(TaskmasterError, match="timeout must be above 0 seconds"):
        task(timeout=0)(print)
    with pytest.raises(TaskmasterError, match="'two words' is no identifier"):
        task(name="two words")(print)
    with pytest.raises(TaskmasterError, match="queue 'a b' may hold letters"):
        task(queue="a b")(print)


def test_async_functions_are_refused_with_the_way_out() -> None:
    async def fetch():
        return 1

    with pytest.raises(TaskmasterError, match=r"'fetch' is async; call asyncio\.run"):
        task()(fetch)
