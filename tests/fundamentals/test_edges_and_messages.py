"""Edges say what comes after what; along them travels what a task returns."""

from __future__ import annotations

from tm import Graph, task


def test_a_child_receives_what_its_parent_returned_under_the_name_of_the_parent() -> None:
    @task()
    def extract():
        return {"rows": 3}

    @task()
    def load(extract):
        return {"loaded": extract["rows"]}

    graph = Graph(name="etl")
    graph.add_edges([extract], [load])
    assert graph() == {"loaded": 3}


def test_a_child_waits_for_all_its_parents() -> None:
    #  two ----> add_three ----.
    #    `-----------------> multiply ---> show
    @task()
    def two():
        return {"value": 2}

    @task()
    def add_three(two):
        return {"value": two["value"] + 3}

    @task()
    def multiply(two, add_three):
        return two["value"] * add_three["value"]

    @task()
    def show(multiply):
        return f"2 x 5 = {multiply}"

    graph = Graph(name="diamond")
    graph.add_edges([two], [add_three, multiply])
    graph.add_edges([add_three], [multiply])
    graph.add_edges([multiply], [show])
    assert graph() == "2 x 5 = 10"


def test_fan_out_and_fan_in() -> None:
    @task()
    def numbers():
        return [1, 2, 3, 4]

    @task()
    def total(numbers):
        return sum(numbers)

    @task()
    def count(numbers):
        return len(numbers)

    @task()
    def largest(numbers):
        return max(numbers)

    @task()
    def summary(total, count, largest):
        return {"mean": total / count, "largest": largest}

    graph = Graph(name="statistics")
    graph.add_edges([numbers], [total, count, largest])
    graph.add_edges([total, count, largest], [summary])
    assert graph() == {"mean": 2.5, "largest": 4}


def test_kwargs_take_every_parent() -> None:
    @task()
    def north():
        return 1

    @task()
    def south():
        return 2

    @task()
    def everything(**kwargs):
        return kwargs

    graph = Graph(name="compass")
    graph.add_edges([north, south], [everything])
    assert graph() == {"north": 1, "south": 2}


def test_none_is_a_message_like_any_other() -> None:
    @task()
    def say_nothing():
        pass

    @task()
    def leaf(say_nothing):
        return say_nothing is None

    graph = Graph(name="none")
    graph.add_edges([say_nothing], [leaf])
    assert graph() is True


def test_in_process_a_message_may_be_any_object() -> None:
    class Model:
        score = 0.9

    @task()
    def train():
        return Model()

    @task()
    def evaluate(train):
        return train.score

    graph = Graph(name="objects")
    graph.add_edges([train], [evaluate])
    assert graph() == 0.9


def test_edges_are_the_same_however_often_they_are_drawn() -> None:
    calls = []

    @task()
    def first():
        calls.append("first")

    @task()
    def second(first):
        calls.append("second")

    graph = Graph(name="twice")
    graph.add_edges([first], [second])
    graph.add_edges([first], [second])
    graph()
    assert calls == ["first", "second"]


def test_a_single_task_needs_no_brackets() -> None:
    @task()
    def first():
        return 1

    @task()
    def second(first):
        return first + 1

    graph = Graph(name="bare")
    graph.add_edges(first, second)
    assert graph() == 2


def test_tasks_run_in_an_order_in_which_parents_come_first_and_ties_keep_the_order_of_the_drawing() -> None:
    order = []

    def named(name):
        @task(name=name)
        def note(**parents):
            order.append(name)

        return note

    a, b, c, d = named("a"), named("b"), named("c"), named("d")
    graph = Graph(name="order")
    graph.add_edges([b, a], [d])
    graph.add_edges([d], [c])
    graph()
    assert order == ["b", "a", "d", "c"]


def test_the_value_of_a_graph_is_that_of_its_last_task() -> None:
    @task()
    def first():
        return "first"

    @task()
    def second(first):
        return "second"

    @task()
    def third(first):
        return "third"

    graph = Graph(name="last")
    graph.add_edges([first], [second, third])
    assert graph() == "third"
