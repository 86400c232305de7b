"""Looking after an installation from a terminal: doctor, plan, backup, restore, prune and completion on a real stack."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from tests.system.terminal import Terminal, announced, environment, run
from tests.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

GRAPHS = """
import pathlib, time
from tm import Graph, task
@task()
def extract(day="monday"): return {"day": day}
@task(queue="big", retries=2, retry_delay=1)
def load(extract):
    if extract["day"] == "bad": raise ValueError("a bad day")
    return extract["day"]
etl = Graph("weather report", "0 4 * * *", timezone="Europe/Berlin")
etl.add_edges([extract], [load])
@task()
def lasting(): time.sleep(60)
long = Graph("long", max_active_runs=1)
long.add_edges([lasting])
"""


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    directory = tmp_path_factory.mktemp("operating")
    (directory / "graphs.py").write_text(GRAPHS)
    with Terminal(directory, "tm", "up", "graphs.py", "--processes", "2", TM_LEASE="3", TM_GRACE="1") as terminal:
        terminal.shows("Ctrl-C waits")
        wait_for(lambda: run(directory, "tm", "doctor").returncode == 0, "all is well")
        for _ in range(3):
            assert run(directory, "tm", "trigger", "weather report", "--wait").returncode == 0
        wait_for(lambda: len(runs(directory)) == 3, "history has the runs")
        yield directory


def runs(directory: Path) -> list[Any]:
    items = json.loads(run(directory, "tm", "runs", "--json").stdout)["items"]
    return [each for each in items if each["state"] == "success"]


def complete(directory: Path, line: str) -> list[str]:
    """What bash offers for a line, asked as bash does it."""
    script = """
    eval "$(tm completion bash)"
    complete -p tm >/dev/null || exit 9
    compopt() { :; }
    COMP_LINE="$1" COMP_POINT=${#1}
    _tm_completion tm
    [ ${#COMPREPLY[@]} -gt 0 ] && printf '%s\\n' "${COMPREPLY[@]}"
    exit 0
    """
    done = subprocess.run(
        ["bash", "-c", script, "bash", line],
        cwd=directory,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


def test_words_go_on_in_bash(here: Path) -> None:
    newest = runs(here)[0]["id"]
    assert complete(here, "tm tri") == ["trigger"]
    assert complete(here, "tm trigger ") == ["long", "weather\\ report"]
    assert complete(here, "tm pause wea") == ["weather\\ report"]
    assert complete(here, "tm runs lo") == ["long"]
    assert newest in complete(here, f"tm wait {newest[:12]}")
    assert complete(here, f"tm retry {newest} --from lo") == ["load"]
    # readline cuts words at @, and puts in what comes after it
    assert complete(here, "tm wait long@l") == ["last"]
    assert complete(here, f"tm mark {newest}/") == [f"{newest}/extract", f"{newest}/load"]
    assert complete(here, "tm runs --state fa") == ["failed"]
    assert "--json" in complete(here, "tm runs --js")


def test_the_doctor_finds_everything_in_order(here: Path) -> None:
    done = run(here, "tm", "doctor", "--json")
    assert done.returncode == 0, done.stdout
    found = {each["name"]: each for each in json.loads(done.stdout)["items"]}
    assert {name for name, each in found.items() if each["verdict"] == "fail"} == set()
    assert found["queues"]["said"] == "each of big, default has a living worker"
    assert found["graph files"]["said"] == "1 file with 2 graphs: nothing found"
    assert found["history"]["said"].endswith("intact")


def test_what_would_run_is_shown_and_nothing_is_started(here: Path) -> None:
    before = len(json.loads(run(here, "tm", "runs", "--json").stdout)["items"])
    done = run(here, "tm", "plan", "weather report", "--json")
    assert done.returncode == 0, done.stderr
    (item,) = json.loads(done.stdout)["items"]
    assert item["tick_now"] == {"fate": "runs", "because": None}
    first, second = ([(task["task"], task["queue"], task["workers"]) for task in wave] for wave in item["waves"])
    assert (first, second) == ([("extract", "default", 1)], [("load", "big", 1)])
    assert item["waves"][1][0]["retry_delays"] == [1.0, 1.0]
    run(here, "tm", "pause", "weather report", "--reason", "a break")
    assert "a tick is not made, because it is paused by" in run(here, "tm", "plan", "weather report").stdout
    run(here, "tm", "resume", "weather report")
    done = run(here, "tm", "plan", "wether report")
    assert (done.returncode, done.stderr.count("did you mean 'weather report'?")) == (3, 1)
    assert len(json.loads(run(here, "tm", "runs", "--json").stdout)["items"]) == before


def test_one_task_is_run_by_hand(here: Path) -> None:
    given = ("--only", "load", "-p", 'extract={"day": "by hand"}')
    done = run(here, "tm", "run", "graphs.py:weather report", *given, "--json")
    assert done.returncode == 0, done.stderr
    (item,) = json.loads(done.stdout)["items"]
    assert (item["result"], [task["name"] for task in item["tasks"]]) == ("by hand", ["load"])


def test_a_backup_is_made_while_everything_runs(here: Path) -> None:
    done = run(here, "tm", "backup", "copy.db", "--json")
    assert done.returncode == 0, done.stderr
    (item,) = json.loads(done.stdout)["items"]
    assert item["bytes"] == (here / "copy.db").stat().st_size
    done = run(here, "tm", "backup", "copy.db")
    assert (done.returncode, done.stderr) == (
        4,
        "tm: copy.db exists; name another file, or say -y to replace it\n",
    )
    assert run(here, "tm", "backup", "copy.db", "-y").returncode == 0


def test_nothing_is_restored_under_a_stack(here: Path) -> None:
    assert run(here, "tm", "backup", "again.db", "-y").returncode == 0
    assert run(here, "tm", "restore", "again.db", "--dry-run").returncode == 4
    done = run(here, "tm", "restore", "again.db", "-y")
    assert done.returncode == 4
    assert f"a stack runs in {here}/.tm" in done.stderr
    done = run(here, "tm", "restore", "graphs.py", "-y")
    assert done.returncode == 4
    assert "graphs.py is no backup of a history" in done.stderr


def test_pruning_and_putting_back(tmp_path: Path) -> None:
    (tmp_path / "graphs.py").write_text(GRAPHS)
    with Terminal(tmp_path, "tm", "up", "graphs.py", "--processes", "2") as terminal:
        terminal.shows("Ctrl-C waits")
        announced(tmp_path)
        for _ in range(3):
            assert run(tmp_path, "tm", "trigger", "weather report", "--wait").returncode == 0
        wait_for(lambda: len(runs(tmp_path)) == 3, "history has the runs")
        wait_for(lambda: "0 entries behind" in run(tmp_path, "tm", "doctor").stdout, "history is up to date")
        assert run(tmp_path, "tm", "backup", "copy.db").returncode == 0
        assert run(tmp_path, "tm", "prune").returncode == 2
        assert run(tmp_path, "tm", "prune", "--keep", "1").returncode == 2  # nobody to ask
        done = run(tmp_path, "tm", "prune", "--keep", "1", "--dry-run")
        assert done.stdout == "GRAPH           RUNS\nweather report     2\n2 runs would be dropped\n"
        assert run(tmp_path, "tm", "prune", "--keep", "1", "-y", "--compact").stdout == "2 runs dropped\n"
        assert run(tmp_path, "tm", "prune", "--keep", "1", "-y").stdout == "0 runs dropped\n"
        os.kill(terminal.process.pid, signal.SIGINT)
        terminal.process.wait(30)
    assert len(runs(tmp_path)) == 1
    done = run(tmp_path, "tm", "restore", "copy.db", "--dry-run")
    would = f"3 runs would be restored to {tmp_path}/.tm/history.db in the place of the present one\n"
    assert (done.returncode, done.stdout) == (0, would)
    assert len(runs(tmp_path)) == 1
    done = run(tmp_path, "tm", "restore", "copy.db", "-y")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"3 runs restored to {tmp_path}/.tm/history.db; the former one is ")
    assert len(runs(tmp_path)) == 3
    assert len(list((tmp_path / ".tm").glob("history.db.before-*"))) >= 1
    # and a stack goes on with it
    with Terminal(tmp_path, "tm", "up", "graphs.py", "--processes", "2") as terminal:
        terminal.shows("Ctrl-C waits")
        announced(tmp_path)
        assert run(tmp_path, "tm", "trigger", "weather report", "--wait").returncode == 0
        wait_for(lambda: len(runs(tmp_path)) == 4, "history goes on")
        os.kill(terminal.process.pid, signal.SIGINT)
        terminal.process.wait(30)


def test_the_doctor_where_nothing_runs(tmp_path: Path) -> None:
    done = run(tmp_path, "tm", "doctor")
    assert done.returncode == 6
    assert done.stdout.splitlines()[0].split() == [
        "fail",
        "server",
        "none",
        "is",
        "set,",
        "and",
        "none",
        "runs",
        "here",
    ]
    done = run(tmp_path, "tm", "--url", "redis://127.0.0.1:1/0", "doctor", "--json")
    assert done.returncode == 6
    assert json.loads(done.stdout)["items"][0]["said"].startswith("cannot reach the server at redis://127.0.0.1:1/0")
