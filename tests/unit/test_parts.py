"""Some tasks of a graph as a graph of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tm import Graph, task
from tm.errors import NotFoundError, RefusedError
from tm.parts import part_of

if TYPE_CHECKING:
    from pathlib import Path


@task()
def extract(config: Any, day: str = "monday") -> Any:
    return {"day": day, "config": config}


@task()
def clean(extract: Any) -> Any:
    return extract["day"]


@task()
def load(extract: Any, clean: Any, limit: int = 3) -> Any:
    return extract, clean, limit


@pytest.fixture
def etl(tmp_path: Path) -> Graph:
    (tmp_path / "c.json").write_text("7")
    etl = Graph("etl", "0 4 * * *", config=tmp_path / "c.json", timeout=60)
    etl.add_edges([extract], [clean, load])
    etl.add_edges([clean], [load])
    return etl


def test_a_task_alone_takes_as_params_what_its_parents_would_send(etl: Graph) -> None:
    part = part_of(etl, ["load"])
    assert (part.name, part.file, part.timeout, part.is_manual) == ("etl", etl.file, 60, True)
    assert [each.name for each in part.plan.tasks] == ["load"]
    assert part(extract=1, clean=2) == (1, 2, 3)
    with pytest.raises(TypeError, match="root 'load' requires clean; pass it"):
        part.bind({"extract": 1})


def test_edges_between_the_chosen_stay_and_the_config_goes_where_it_is_taken(etl: Graph) -> None:
    part = part_of(etl, ["clean", "extract"])
    assert [(each.name, each.parents) for each in part.plan.tasks] == [("extract", ()), ("clean", (0,))]
    assert part(day="x") == "x"
    assert part_of(etl, ["extract"]).config == etl.config
    assert part_of(etl, ["clean"]).config is None
    assert part_of(etl, ["extract", "clean", "load"])() == ({"day": "monday", "config": 7}, "monday", 3)


def test_half_of_the_parents_is_refused(etl: Graph) -> None:
    with pytest.raises(
        RefusedError, match="task 'load' needs the message of 'extract' beside that of a parent that runs"
    ):
        part_of(etl, ["clean", "load"])


def test_an_unknown_task_is_guessed(etl: Graph) -> None:
    with pytest.raises(NotFoundError, match=r"graph 'etl' has no task 'laod'; did you mean 'load'\?"):
        part_of(etl, ["laod"])


def test_the_graph_stays_as_it_is(etl: Graph) -> None:
    before = etl.plan
    part_of(etl, ["load"])
    assert etl.plan is before
