"""A graph is a function: it can be called by hand, and by a task of another graph."""

from __future__ import annotations

import pytest

from tm import Executor, Graph, task


@task()
def parse(text):
    return [int(part) for part in text.split()]


@task()
def total(parse):
    return sum(parse)


add_up = Graph(name="add up", schedule="manual")
add_up.add_edges([parse], [total])


def test_a_manual_graph_runs_when_it_is_called() -> None:
    assert add_up("1 2 3") == 6


def test_every_call_is_a_run_of_its_own() -> None:
    assert [add_up(text) for text in ("1", "1 1", "1 1 1")] == [1, 2, 3]


def test_no_executor_would_ever_run_a_manual_graph_so_it_takes_none() -> None:
    with pytest.raises(TypeError, match=r"graph 'add up' is manual: it runs when it is called"):
        Executor(graphs=[add_up])
    with pytest.raises(TypeError, match=r"graph 'add up' is manual"):
        Executor().add(add_up)


def test_a_task_may_call_a_graph() -> None:
    @task()
    def bills():
        return ["1 2", "10 20"]

    @task()
    def sums(bills):
        return [add_up(text) for text in bills]

    outer = Graph(name="outer", schedule="0 6 * * *")
    outer.add_edges([bills], [sums])
    assert outer() == [3, 30]


def test_a_scheduled_graph_can_be_called_too() -> None:
    @task()
    def tick():
        return "ran"

    graph = Graph(name="hourly", schedule="0 * * * *")
    graph.add_edges([tick])
    assert graph() == "ran"


def test_the_error_of_an_inner_graph_fails_the_task_that_called_it() -> None:
    @task(retries=1)
    def careless():
        return add_up("one two")

    outer = Graph(name="outer")
    outer.add_edges([careless])
    with pytest.raises(ValueError, match="invalid literal") as caught:
        outer()
    assert caught.value.__notes__ == [
        "in task 'parse' of graph 'add up', attempt 1 of 1",
        "in task 'careless' of graph 'outer', attempt 2 of 2",
    ]
