"""An Executor takes graphs that are due some day, checks them, and stands still while a file is only loaded."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from tm import Executor, Graph, task
from tm.errors import DefinitionError, EmptyGraphError, SignatureError
from tm.loader import load

if TYPE_CHECKING:
    from pathlib import Path


@task()
def hello() -> None: ...


def drawn(name: str, schedule: str = "* * * * *") -> Graph:
    graph = Graph(name, schedule=schedule)
    graph.add_edges([hello])
    return graph


def test_graphs_are_given_at_once_or_one_by_one() -> None:
    first, second = drawn("first"), drawn("second")
    executor = Executor(graphs=[first])
    executor.add(second)
    assert executor.graphs == (first, second)
    assert repr(executor) == "Executor(graphs=[first, second])"


def test_the_same_graph_twice_is_fine() -> None:
    graph = drawn("once")
    executor = Executor([graph])
    executor.add(graph)
    assert executor.graphs == (graph,)


def test_a_manual_graph_is_refused_and_told_what_to_do() -> None:
    with pytest.raises(TypeError, match=r"graph 'by hand' is manual: it runs when it is called.*graph\.submit"):
        Executor([drawn("by hand", "manual")])


def test_what_is_no_graph_is_refused() -> None:
    with pytest.raises(TypeError, match="an Executor runs graphs, not <task hello>"):
        Executor().add(hello)  # type: ignore[arg-type]


def test_two_graphs_of_one_name_are_refused() -> None:
    executor = Executor([drawn("twin")])
    with pytest.raises(DefinitionError, match="two graphs are named 'twin'"):
        executor.add(drawn("twin"))


def test_a_graph_is_checked_as_a_whole() -> None:
    with pytest.raises(EmptyGraphError):
        Executor([Graph("empty", schedule="* * * * *")])

    @task()
    def needs(this: int) -> None: ...

    graph = Graph("unfilled", schedule="* * * * *")
    graph.add_edges([needs])
    with pytest.raises(SignatureError, match="requires this"):
        Executor([graph])


def test_nothing_to_run_is_an_error() -> None:
    with pytest.raises(DefinitionError, match="has no graph"):
        Executor().start()


def test_it_stands_still_while_a_file_is_loaded(tmp_path: Path) -> None:
    file = tmp_path / "some_graphs.py"
    file.write_text(
        "from tm import Executor, Graph, task\n"
        "@task()\n"
        "def hello(): ...\n"
        "graph = Graph('loaded', schedule='* * * * *')\n"
        "graph.add_edges([hello])\n"
        "Executor([graph]).start()\n"
        "after = 'reached'\n"
    )
    loaded = load(file)
    assert loaded.scheduled == ("loaded",)
    assert sys.modules["some_graphs"].after == "reached"


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("TM_URL", "http://nowhere", "TM_URL='http://nowhere' will not do"),
        ("TM_PROCESSES", "many", "TM_PROCESSES='many' will not do"),
    ],
)
def test_a_bad_setting_is_one_line_and_exit_code_2(
    variable: str, value: str, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(SystemExit) as end:
        Executor([drawn("any")]).start()
    assert end.value.code == 2
    told = capsys.readouterr().err
    assert said in told
    assert told.count("\n") == 1
