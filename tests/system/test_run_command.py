"""`tm run` in real processes: on a stack of its own and on one that is there, for people, pipes and programs."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import subprocess
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.system.terminal import BIN, Terminal, environment, run
from tests.waiting import wait_for
from tm.embedded import alive

if TYPE_CHECKING:
    from pathlib import Path

    from tests.servers import Server

GRAPHS = """
import pathlib, time
from tm import Graph, task
here = pathlib.Path(__file__).parent

@task()
def extract(day="monday", rows=3):
    print("extracting", day)
    return {"day": day, "rows": rows}

@task()
def double(extract):
    return {"rows": extract["rows"] * 2}

@task(retries=1, retry_delay=0.05)
def load(extract):
    raise ValueError(f"no space for {extract['rows']} rows")

@task()
def report(load): ...

@task()
def lasting():
    (here / "began").touch()
    time.sleep(60)

good = Graph("good")
good.add_edges([extract], [double])
bad = Graph("bad")
bad.add_edges([extract], [load])
bad.add_edges([load], [report])
long = Graph("long")
long.add_edges([lasting])
"""


@pytest.fixture
def here(tmp_path: Path) -> Path:
    (tmp_path / "etl.py").write_text(GRAPHS)
    return tmp_path


def test_a_run_that_succeeds_is_a_line_for_each_change_on_a_pipe(here: Path) -> None:
    done = run(here, "tm", "run", "etl.py:good", "-p", "day=tuesday", "-p", "rows=21")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    lines = [re.sub(r"^\d\d:\d\d:\d\d  ", "", line) for line in done.stdout.splitlines()]
    assert re.fullmatch(r"run good-\w{10} started", lines[0])
    assert "extracting tuesday" in lines
    assert any(re.fullmatch(r"extract  success    \d+ ms", line) for line in lines)
    assert any(re.fullmatch(r"double   success    \d+ ms", line) for line in lines)
    assert re.fullmatch(r"run good-\w{10} success in \d+ ms", lines[-2])
    assert lines[-1] == 'result: {"rows": 42}'
    assert "\x1b" not in done.stdout
    assert alive(here / ".tm") is None


def test_a_run_that_fails_ends_with_1_and_shows_the_traceback(here: Path) -> None:
    done = run(here, "tm", "run", "etl.py:bad")
    assert done.returncode == 1
    assert re.search(r"load     failed     \d+ ms  ValueError: no space for 3 rows", done.stdout)
    assert re.search(r"report   blocked", done.stdout)
    assert re.search(r"run bad-\w+ failed in ", done.stdout)
    assert "load, attempt 2 failed: ValueError: no space for 3 rows" in done.stderr
    assert 'etl.py", line 17, in load' in done.stderr


def test_json_is_one_document_on_stdout_whatever_tasks_print(here: Path) -> None:
    done = run(here, "tm", "run", "etl.py:good", "--json")
    assert done.returncode == 0
    document = json.loads(done.stdout)
    assert document["schema"] == "tm.run/1"
    (item,) = document["items"]
    assert item["state"] == "success"
    assert item["trigger"] == "manual"
    assert item["result"] == {"rows": 6}
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", item["ended_at"])
    assert [task["name"] for task in item["tasks"]] == ["extract", "double"]
    assert item["tasks"][0]["attempts"][0]["outcome"] == "success"
    assert "extracting monday" in done.stderr


def test_json_of_a_failed_run_has_the_errors(here: Path) -> None:
    done = run(here, "tm", "--json", "run", "etl.py:bad")
    assert done.returncode == 1
    (item,) = json.loads(done.stdout)["items"]
    tasks: dict[str, Any] = {task["name"]: task for task in item["tasks"]}
    assert item["state"] == "failed"
    assert tasks["load"]["state"] == "failed"
    assert tasks["load"]["attempts"][-1]["error"]["type"] == "ValueError"
    assert "Traceback" in tasks["load"]["attempts"][-1]["error"]["traceback"]
    assert tasks["report"]["state"] == "blocked"


def test_afterwards_commands_know_the_run_from_history(here: Path) -> None:
    assert run(here, "tm", "run", "etl.py:bad").returncode == 1
    assert run(here, "tm", "run", "etl.py:good").returncode == 0
    listed = json.loads(run(here, "tm", "runs", "--json").stdout)["items"]
    assert [(each["graph"], each["state"]) for each in listed] == [("good", "success"), ("bad", "failed")]
    failed = json.loads(run(here, "tm", "runs", "--state", "failed", "--json").stdout)["items"]
    assert [each["id"] for each in failed] == [listed[1]["id"]]
    for name in (listed[1]["id"], listed[1]["id"][:-2], "bad@last", "bad@failed"):
        shown = run(here, "tm", "show", name)
        assert shown.returncode == 0, shown.stderr
        assert f"run      {listed[1]['id']}" in shown.stdout
    assert "load, attempt 1 failed: ValueError" in shown.stdout
    assert "load, attempt 2 failed: ValueError" in shown.stdout
    assert shown.stdout.count("Traceback") == 1
    assert re.search(r"report +blocked .*parent.*load", shown.stdout)
    (shown_json,) = json.loads(run(here, "tm", "show", "bad@last", "--json").stdout)["items"]
    load = next(task for task in shown_json["tasks"] if task["name"] == "load")
    assert [attempt["number"] for attempt in load["attempts"]] == [1, 2]
    graphs = json.loads(run(here, "tm", "graphs", "--json").stdout)
    assert graphs["schema"] == "tm.graphs/1"
    assert {graph["name"]: graph["total_runs"] for graph in graphs["items"]} == {"bad": 1, "good": 1}


def test_ctrl_c_cancels_a_run_of_ones_own(here: Path) -> None:
    with Terminal(here, "tm", "run", "etl.py:long") as terminal:
        wait_for((here / "began").exists, "the task to begin", 20)
        assert terminal.interrupt(timeout=10) == 130
        assert "tm: cancelled run long-" in terminal.text
    assert alive(here / ".tm") is None
    listed = json.loads(run(here, "tm", "runs", "--json").stdout)["items"]
    assert [(each["state"], each["reason"]) for each in listed] == [("cancelled", "interrupted")]


def test_ctrl_c_leaves_a_run_of_a_living_stack_alone(here: Path) -> None:
    with Terminal(here, "tm", "up", "etl.py") as stack:
        stack.shows("Ctrl-C waits")
        (here / "watching").mkdir()
        with Terminal(here / "watching", "tm", "--home", str(here / ".tm"), "run", "../etl.py:long") as terminal:
            wait_for((here / "began").exists, "the task to begin", 20)
            assert terminal.interrupt(timeout=10) == 130
            run_id = re.search(r"run (long-\w+) goes on", terminal.text)
            assert run_id is not None
        (item,) = json.loads(run(here, "tm", "show", run_id[1], "--json").stdout)["items"]
        assert item["state"] == "running"
        os.killpg(stack.process.pid, signal.SIGINT)
        stack.shows("waiting for 1 running graph")
        stack.interrupt()


def test_a_timeout_is_124(here: Path) -> None:
    done = run(here, "tm", "run", "etl.py:long", "--timeout", "0.2")
    assert done.returncode == 124
    assert re.search(r"tm: run long-\w+ is still open after 0.2 s", done.stderr)


def test_on_a_server_without_workers_it_says_so(here: Path, server: Server) -> None:
    done = run(here, "tm", "run", "etl.py:good", "--timeout", "4", TM_URL=server.url)
    assert done.returncode == 124
    assert "no living worker has loaded graph 'good'; start one: tm-worker etl.py" in done.stderr


def test_a_terminal_sees_a_table_that_is_redrawn(here: Path) -> None:
    text, code = in_a_terminal(here, "tm", "run", "etl.py:bad")
    assert code == 1
    assert "\x1b[" in text
    screen = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", text)
    assert re.search(r"extract +success +1 +\d\d:\d\d:\d\d +\d+ ms", screen)
    assert re.search(r"load +failed +2", screen)
    assert screen.count("extracting monday") == 1
    assert re.search(r"bad-\w+  failed  1/3", screen)


def in_a_terminal(directory: Path, *command: str) -> tuple[str, int]:
    """Run a command that believes it has a terminal; all that it wrote, and its exit code."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [str(BIN / command[0]), *command[1:]],
        cwd=directory,
        env=environment(TERM="xterm-256color", COLUMNS="100", LINES="40"),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    text = b""
    until = time.monotonic() + 40
    while time.monotonic() < until:
        if not select.select([ours], [], [], 0.2)[0]:
            continue
        try:
            piece = os.read(ours, 1 << 16)
        except OSError:  # nobody has it open any more
            break
        text += piece
    os.close(ours)
    return text.decode(errors="replace"), process.wait(10)
