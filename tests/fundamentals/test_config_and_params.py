"""Two ways in: a JSON file that is read at every run, and values passed by hand."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tm import Graph, TaskmasterError, task

if TYPE_CHECKING:
    from pathlib import Path


@task()
def add(config):
    return config["initial_value"] + 2


@task()
def subtract(config):
    return config["initial_value"] - 2


def test_roots_receive_the_config(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    file.write_text('{"initial_value": 2}')
    graph = Graph(name="config", config=file)
    graph.add_edges([add, subtract])
    assert graph() == 0


def test_the_file_is_read_afresh_at_every_run(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    graph = Graph(name="config", config=file)
    graph.add_edges([add])
    for value in (1, 10):
        file.write_text(json.dumps({"initial_value": value}))
        assert graph() == value + 2


def test_a_relative_path_starts_at_the_file_that_defines_the_graph() -> None:
    graph = Graph(name="config", config="./there.json")
    graph.add_edges([add])
    with pytest.raises(TaskmasterError, match=r"fundamentals/there\.json: no such file"):
        graph()


def test_a_broken_file_is_refused_with_its_place(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    file.write_text('{\n  "initial_value": 2,\n}')
    graph = Graph(name="config", config=file)
    graph.add_edges([add])
    with pytest.raises(TaskmasterError, match=r"config\.json, line \d, column \d+: "):
        graph()


def test_a_root_without_the_parameter_does_not_get_the_config(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    file.write_text('{"initial_value": 1}')

    @task()
    def today():
        return "monday"

    @task()
    def join(today, add):
        return today, add

    graph = Graph(name="config", config=file)
    graph.add_edges([today, add], [join])
    assert graph() == ("monday", 3)


def test_roots_receive_what_the_graph_is_called_with() -> None:
    @task()
    def greet(name, greeting="hello"):
        return f"{greeting}, {name}"

    graph = Graph(name="greet")
    graph.add_edges([greet])
    assert graph("Ada") == "hello, Ada"
    assert graph(name="Ada", greeting="good evening") == "good evening, Ada"


def test_several_roots_take_each_what_they_know() -> None:
    @task()
    def left(a):
        return a

    @task()
    def right(a, b):
        return a, b

    @task()
    def both(left, right):
        return left, right

    graph = Graph(name="roots")
    graph.add_edges([left, right], [both])
    assert graph(a=1, b=2) == (1, (1, 2))


def test_a_missing_or_unknown_param_is_refused_before_anything_runs() -> None:
    @task()
    def greet(name):
        raise AssertionError("must not run")

    graph = Graph(name="greet")
    graph.add_edges([greet])
    with pytest.raises(TypeError, match="root 'greet' requires name; pass it: graph"):
        graph()
    with pytest.raises(TypeError, match="has no parameter 'nmae'; its roots take name"):
        graph(nmae="Ada")
