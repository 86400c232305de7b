"""What would become of a tick that is due now, and in which order tasks would run."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import pytest

from tm.cli.app import run
from tm.config import TABLE
from tm.forecast import Fate, of_tick, retry_delays, waves
from tm.records import Plan, TaskPlan
from tm.retry import RetryPolicy

if TYPE_CHECKING:
    from pathlib import Path

ABOUT = {"schedule": "0 * * * *", "overlap": "allow", "max_active_runs": 0}


@pytest.mark.parametrize(
    ("about", "state", "fate", "because"),
    [
        ({}, {}, Fate.RUNS, ""),
        ({"schedule": "manual"}, {}, Fate.NONE, "it has no schedule"),
        ({}, {"leader": None}, Fate.NONE, "no server is running here"),
        ({}, {"leader": False}, Fate.NONE, "no scheduler leads"),
        ({}, {"pause": "paused by me since noon"}, Fate.NONE, "it is paused by me since noon"),
        ({}, {"open_runs": ["a", "b"]}, Fate.RUNS, ""),
        ({"overlap": "skip"}, {"open_runs": ["a"]}, Fate.SKIPPED, "run a is open (overlap='skip')"),
        ({"overlap": "queue"}, {"open_runs": ["a"]}, Fate.WAITS, "run a is open (overlap='queue')"),
        ({"overlap": "cancel_other"}, {"open_runs": ["a"]}, Fate.CANCELS, "run a is open (overlap='cancel_other')"),
        ({"overlap": "skip", "max_active_runs": 2}, {"open_runs": ["a"]}, Fate.RUNS, ""),
        (
            {"max_active_runs": 2},
            {"open_runs": ["a", "b"]},
            Fate.WAITS,
            "run a and 1 more are open (overlap='allow', max_active_runs=2)",
        ),
    ],
)
def test_the_fate_of_a_tick(about: dict[str, Any], state: dict[str, Any], fate: Fate, because: str) -> None:
    verdict = of_tick(ABOUT | about, **{"open_runs": []} | state)
    assert (verdict.fate, verdict.because) == (fate, because)


def test_tasks_begin_in_waves() -> None:
    plan = Plan(
        graph="g",
        version="v",
        tasks=(
            TaskPlan(name="a", children=(2, 3)),
            TaskPlan(name="alone"),
            TaskPlan(name="b", parents=(0,), children=(3,)),
            TaskPlan(name="c", parents=(0, 2)),
        ),
    )
    assert [[task.name for task in wave] for wave in waves(plan)] == [["a", "alone"], ["b"], ["c"]]


def test_delays_of_retries() -> None:
    task = TaskPlan(name="a", retry=RetryPolicy(retries=9, retry_delay=1, backoff=1, max_retry_delay=5))
    assert retry_delays(task, 4) == [1, 2, 4, 5]
    assert retry_delays(TaskPlan(name="a")) == []


GRAPHS = """
from tm import Graph, task
@task()
def extract(config, day="monday"): return {"rows": 1}
@task(queue="gpu", retries=5, retry_delay=1, backoff=1, timeout=30)
def clean(extract): return 1
etl = Graph("etl", "*/5 * * * *", config="c.json", timezone="Europe/Berlin", overlap="skip")
etl.add_edges([extract], [clean])
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    for each in TABLE:
        monkeypatch.delenv(each.variable, raising=False)
    (tmp_path / "graphs.py").write_text(GRAPHS)
    (tmp_path / "c.json").write_text('{"limit": 3}')
    return tmp_path


@pytest.mark.usefixtures("nothing_stays_loaded")
def test_a_file_is_planned_without_a_server(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["plan", "graphs.py"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("graph      etl (version ")
    assert lines[4:7] == [
        "now        a tick is not made, because no server is running here",
        "params     day = 'monday'",
        f'config     {here}/c.json: {{"limit": 3}}',
    ]
    assert lines[8:] == [
        "WAVE  TASK     QUEUE    WORKERS  TIMEOUT  RETRIES",
        "   1  extract  default        -        -  -",
        "   2  clean    gpu            -   30.0 s  5: after 1.0 s, 2.0 s, 4.0 s, 8.0 s, ...",
    ]
    assert run(["plan", "graphs.py:etl", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["schema"] == "tm.plan/1"
    assert [[task["task"] for task in wave] for wave in document["items"][0]["waves"]] == [["extract"], ["clean"]]
    assert sorted(each.name for each in here.iterdir()) == ["c.json", "graphs.py"]


@pytest.mark.usefixtures("nothing_stays_loaded")
def test_a_config_that_cannot_be_read_is_told(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "c.json").write_text("{")
    assert run(["plan", "graphs.py"]) == 6
    assert "line 1, column 2: Expecting property name" in capsys.readouterr().out


def test_a_name_needs_a_server(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["plan", "etl"]) == 5
    assert "no server: set TM_URL" in capsys.readouterr().err
