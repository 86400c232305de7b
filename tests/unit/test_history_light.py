"""A history is read without SQLAlchemy where that is enough, with the same answers."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from tests.unit.histories import T0, attempt, closed, created, ended, numbered
from tm.errors import NotFoundError, UnavailableError
from tm.history import open_history
from tm.history.light import open_light
from tm.states import RunState

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def url(tmp_path: Path) -> str:
    url = f"sqlite:///{tmp_path}/history.db"
    history = open_history(url)
    events: list[Any] = []
    for number in range(6):
        run = f"etl-{number}"
        events += [created(run, at=T0 + number * 1000), attempt(run), attempt(run, node=1), closed(run)]
        events += [ended(run, RunState.FAILED if number % 2 else RunState.SUCCESS)]
    events += [created("etl-1-2", at=T0 + 9000, retry_of="etl-1"), created("bill-ä-1", "bill", T0)]
    history.record(numbered(*events))
    history.close()
    return url


def both(url: str, ask: Any) -> Any:
    """What both say, which must be the same."""
    light, whole = open_light(url), open_history(url)
    assert light is not None
    answers = []
    for each in (light, whole):
        try:
            answers.append(ask(each))
        except NotFoundError as error:
            answers.append(str(error))
        each.close()
    assert answers[0] == answers[1]
    return answers[0]


def test_lists(url: str) -> None:
    assert len(both(url, lambda h: h.runs())) == 8
    assert len(both(url, lambda h: h.runs("etl", RunState.FAILED, 2))) == 2
    since, until = (datetime.fromtimestamp(T0 / 1000 + each, UTC) for each in (2, 4))
    assert [row.id for row in both(url, lambda h: h.runs(since=since, until=until))] == ["etl-3", "etl-2"]
    assert both(url, lambda h: h.graph_names()) == ["bill", "etl"]
    assert [row.graph for row in both(url, lambda h: h.graphs())] == ["bill", "etl"]
    assert both(url, lambda h: h.known(["etl-0", "etl-1", "x"])) == {
        "etl-0": RunState.SUCCESS,
        "etl-1": RunState.FAILED,
    }
    assert both(url, lambda h: h.known([])) == {}
    assert len(both(url, lambda h: h.versions("etl"))) == 1


@pytest.mark.parametrize("name", ["etl-0", "etl-1", "etl-", "bill-ä", "ETL", "et%", "", "etl-1-2", "etl-9", "b"])
def test_runs_by_id_and_by_beginning(url: str, name: str) -> None:
    both(url, lambda h: h.run(name))


def test_details(url: str) -> None:
    assert len(both(url, lambda h: h.task_runs("etl-0"))) == 3
    assert len(both(url, lambda h: h.attempts("etl-0"))) == 2
    assert len(both(url, lambda h: h.attempts("etl-0", "load"))) == 1
    assert both(url, lambda h: h.marks("etl-0")) == []
    assert both(url, lambda h: h.notices("etl-0")) == []


def test_what_is_no_query_is_done_by_the_whole_history(url: str) -> None:
    light = open_light(url)
    assert light is not None
    assert light.logs("etl-0") == []
    assert light.position() == "1700000000032-0"
    light.close()


def test_it_sees_what_is_written_meanwhile(url: str) -> None:
    light, whole = open_light(url), open_history(url)
    assert light is not None
    whole.record(numbered(created("new-1", "new"), first=1000))
    assert light.run("new-1").graph == "new"
    whole.close()
    light.close()


def test_trouble_is_told_by_the_whole_history(url: str, tmp_path: Path) -> None:
    light = open_light(url)
    assert light is not None
    with sqlite3.connect(tmp_path / "history.db") as connection:
        connection.execute("DROP TABLE runs")
    connection.close()
    with pytest.raises(UnavailableError, match=r"history sqlite:////.* does not answer: no such table: runs"):
        light.runs()
    light.close()


@pytest.mark.parametrize("text", ["", "no database, but long enough to be taken for one" * 100])
def test_what_is_not_as_expected_is_left_to_the_whole_history(tmp_path: Path, text: str) -> None:
    (tmp_path / "history.db").write_text(text)
    assert open_light(f"sqlite:///{tmp_path}/history.db") is None
    assert open_light(f"sqlite:///{tmp_path}/none.db") is None
    assert open_light("postgresql://db/history") is None
    assert not (tmp_path / "none.db").exists()


def test_tables_of_another_version_are_left_to_it_too(url: str, tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "history.db") as connection:
        connection.execute("UPDATE meta SET value = '1' WHERE key = 'schema'")
    connection.close()
    assert open_light(url) is None


def test_no_list_walks_through_all_runs(url: str, tmp_path: Path) -> None:
    light = open_light(url)
    assert light is not None
    asked: list[str] = []
    light._connection.set_trace_callback(asked.append)  # type: ignore[union-attr]
    light.runs()
    light.runs("etl")
    light.runs(state=RunState.FAILED)
    light.runs("etl", RunState.FAILED)
    light.run("etl-0")
    light.run("etl-2")
    light.run("bill")
    light.attempts("etl-0")
    light.close()
    with sqlite3.connect(tmp_path / "history.db") as connection:
        for query in asked:
            plan = " ".join(row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {query}"))
            assert "SCAN" not in plan or "USING INDEX runs_created" in plan, (query, plan)
    connection.close()
    assert len(asked) >= 9


def test_commands_that_read_load_no_sqlalchemy(url: str, tmp_path: Path) -> None:
    code = (
        "import sys; from tm.cli.app import run; "
        f"codes = [run(['--home', {str(tmp_path)!r}, *words]) for words in (['runs'], ['graphs'], ['show', 'etl-0'])]; "
        "print(codes, 'sqlalchemy' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout.splitlines()[-1] == "[0, 0, 0] False"


def test_a_misspelt_graph_is_answered_with_the_one_that_was_meant(
    url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from tm.cli.app import run

    assert run(["--home", str(tmp_path), "runs", "elt"]) == 3
    assert capsys.readouterr().err == "tm: there is no graph 'elt'; did you mean 'etl'?\n"
    assert run(["--home", str(tmp_path), "runs", "etl", "--state", "cancelled"]) == 0


def test_lists_can_be_narrowed(url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import json

    from tm.cli.app import run

    def ids(*words: str) -> list[str]:
        assert run(["--home", str(tmp_path), "runs", "--json", *words]) == 0
        return [item["id"] for item in json.loads(capsys.readouterr().out)["items"]]

    since, until = (datetime.fromtimestamp(T0 / 1000 + each, UTC).isoformat() for each in (1, 4))
    assert ids("etl", "--state", "failed", "--since", since, "--until", until) == ["etl-3", "etl-1"]
    assert ids("--state", "failed,queued", "-n", "3") == ["etl-1-2", "etl-5", "etl-3"]
    assert ids("--trigger", "manual") == []
    assert len(ids("--trigger", "schedule")) == 8
    assert ids("--since", "1h") == []
    assert run(["--home", str(tmp_path), "runs", "--since", "1h"]) == 0
    assert capsys.readouterr().out == "no such runs\n"
    assert run(["--home", str(tmp_path), "runs", "--state", "failed,nope"]) == 2
    assert run(["--home", str(tmp_path), "runs", "--since", "yesterday"]) == 2
