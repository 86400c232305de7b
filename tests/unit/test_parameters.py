"""What roots take, as data, and params checked against it."""

from __future__ import annotations

from typing import Any

import pytest

from tm import Graph, task
from tm.errors import DefinitionError
from tm.parameters import check


@task()
def extract(day: str, rows: int = 3, config: Any = None) -> None: ...


@task()
def watch(**anything: Any) -> None: ...


def graph(*roots: Any, name: str = "etl") -> Graph:
    made = Graph(name)
    made.add_edges([*roots])
    return made


def test_a_root_is_described_in_words() -> None:
    [described] = graph(extract).describe_roots()
    assert described == {
        "task": "extract",
        "anything": False,
        "params": [
            {"name": "day", "required": True, "annotation": "str", "default": ""},
            {"name": "rows", "required": False, "annotation": "int", "default": "3"},
            {"name": "config", "required": False, "annotation": "Any", "default": "None"},
        ],
    }


def test_good_params_pass() -> None:
    check("etl", graph(extract).describe_roots(), {"day"})
    check("etl", graph(extract, watch).describe_roots(), {"day", "whatever"})


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"day", "colour"}, "graph 'etl' has no parameter 'colour'; its roots take config, day, rows"),
        (set(), "graph 'etl': root 'extract' requires day; pass it: -p day=..."),
    ],
)
def test_bad_ones_are_named(given: set[str], said: str) -> None:
    with pytest.raises(TypeError) as caught:
        check("etl", graph(extract).describe_roots(), given)
    assert str(caught.value) == said


def test_it_says_the_same_as_the_graph_itself() -> None:
    for given in ({}, {"colour": 1}, {"day": 1}):
        with_code = with_data = ""
        try:
            graph(extract).bind(given)
        except TypeError as error:
            with_code = str(error).partition(";")[0]
        try:
            check("etl", graph(extract).describe_roots(), given)
        except TypeError as error:
            with_data = str(error).partition(";")[0]
        assert with_code == with_data


@pytest.mark.parametrize("bad", [0, -1, 1.5, "2"])
def test_a_limit_of_open_runs_is_a_whole_number(bad: Any) -> None:
    with pytest.raises(DefinitionError, match="max_active_runs must be 1 or more"):
        Graph("g", max_active_runs=bad)
