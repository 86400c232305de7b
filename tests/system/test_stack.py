"""A graph file in one terminal: it starts, ticks, drains, stops at once, refuses company, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import secrets
import signal
import sqlite3
import textwrap
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.system.terminal import Terminal, run
from tests.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.skipif(not Path("/proc/self").exists(), reason="looks for processes in /proc")

HEAD = """
import os, pathlib, time
from tm import Executor, Graph, task
here = pathlib.Path(__file__).parent
"""
TICKING = (
    HEAD
    + """
@task()
def hello():
    print("hello from a task")
graph = Graph("greeter", schedule="* * * * * *")
graph.add_edges([hello])
Executor(graphs=[graph]).start()
"""
)
#: two tasks in a row; the first one lasts until the file `go` is there
SLOW = (
    HEAD
    + """
@task()
def first():
    (here / "began").touch()
    while not (here / "go").exists():
        time.sleep(0.01)
@task()
def second(first):
    print("the second task ran")
    (here / "done").touch()
graph = Graph("slow", schedule="* * * * * *", overlap="skip")
graph.add_edges([first], [second])
Executor([graph]).start()
"""
)


class Place:
    """A directory with a graph file, and a way to find all processes that were started for it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.mark = secrets.token_hex(8)

    def write(self, source: str, name: str = "my_graph.py") -> None:
        (self.directory / name).write_text(textwrap.dedent(source))

    def start(self, *command: str, **more: str) -> Terminal:
        return Terminal(self.directory, *command, TM_TEST_MARK=self.mark, **more)

    def processes(self) -> list[str]:
        """Command lines of all living descendants, whatever group, session or parent they have.

        They carry the mark, or are at home here: the server overwrites its environment.
        """
        found = []
        for entry in Path("/proc").iterdir():
            try:
                home = (entry / "cwd").readlink()
                if self.mark.encode() in (entry / "environ").read_bytes() or home == self.directory / ".tm":
                    found.append(f"{entry.name} {(entry / 'cmdline').read_bytes()!r}")
            except OSError:
                continue
        return found

    def left_alone(self) -> None:
        """Wait until no process is left, and check that the lock is free."""
        wait_for(lambda: not self.processes(), f"no process to be left, there are {self.processes()}")
        from tm.embedded import alive

        assert alive(self.directory / ".tm") is None

    def states(self) -> list[str]:
        """Of the runs in history."""
        with closing(sqlite3.connect(self.directory / ".tm" / "history.db")) as connection:
            return [state for (state,) in connection.execute("select state from runs order by created")]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_it_says_what_it_runs_prints_what_tasks_print_and_ends_on_ctrl_c(place: Place) -> None:
    place.write(TICKING)
    with place.start("python", "my_graph.py") as terminal:
        terminal.shows("up; Ctrl-C waits for running graphs")
        terminal.shows("hello from a task")
        assert terminal.interrupt() == 0
    head, graph = terminal.lines[:2]
    assert head.startswith("taskmaster 0.1.0  1 graph, ")
    assert head.endswith(".tm/ (embedded server)")
    assert graph.startswith("  greeter  * * * * * *  next ")
    assert terminal.text.count("Ctrl-C again stops at once") + terminal.text.count("no graph is running") == 1
    place.left_alone()
    assert set(place.states()) == {"success"}


def test_with_json_logs_all_that_is_not_printed_by_tasks_is_a_line_of_json(place: Place) -> None:
    place.write(TICKING)
    with place.start("python", "my_graph.py", TM_LOG_FORMAT="json", TM_METRICS_PORT="0") as terminal:
        terminal.shows("hello from a task")
        worker = next(line.split()[0] for line in place.processes() if comm(line.split()[0]) == "tm-worker")
        os.kill(int(worker), signal.SIGKILL)
        terminal.shows("worker ended (killed by SIGKILL); starting it again")
        assert terminal.interrupt() == 0
    said = [json.loads(line) for line in terminal.lines if line != "hello from a task"]
    assert {"at", "level", "part", "event"} <= said[0].keys()
    assert {each["part"] for each in said} >= {"stack"}
    place.left_alone()


def comm(pid: str) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def test_the_first_ctrl_c_waits_for_the_whole_running_graph(place: Place) -> None:
    place.write(SLOW)
    with place.start("python", "my_graph.py") as terminal:
        wait_for((place.directory / "began").exists, "the first task to begin")
        os.killpg(terminal.process.pid, signal.SIGINT)
        terminal.shows("waiting for 1 running graph; Ctrl-C again stops at once")
        (place.directory / "go").touch()
        assert terminal.process.wait(20) == 0
    assert "the second task ran" in terminal.text
    place.left_alone()
    assert [state for state in place.states() if state != "skipped"] == ["success"]


def test_sigterm_is_like_the_first_ctrl_c(place: Place) -> None:
    place.write(SLOW)
    with place.start("python", "my_graph.py") as terminal:
        wait_for((place.directory / "began").exists, "the first task to begin")
        terminal.process.terminate()
        terminal.shows("waiting for 1 running graph")
        (place.directory / "go").touch()
        assert terminal.process.wait(20) == 0
    assert (place.directory / "done").exists()


def test_the_second_ctrl_c_stops_at_once(place: Place) -> None:
    place.write(SLOW)
    with place.start("python", "my_graph.py") as terminal:
        wait_for((place.directory / "began").exists, "the first task to begin")
        os.killpg(terminal.process.pid, signal.SIGINT)
        terminal.shows("waiting for 1 running graph")
        assert terminal.interrupt(timeout=5) == 130
    assert not (place.directory / "done").exists()
    place.left_alone()


def test_the_second_ctrl_c_ends_what_tasks_have_started_too(place: Place) -> None:
    place.write(
        HEAD
        + """
import subprocess
@task()
def lasting():
    subprocess.Popen(["sleep", "600"], start_new_session=True)
    (here / "began").touch()
    time.sleep(600)
graph = Graph("lasting", schedule="* * * * * *", overlap="skip")
graph.add_edges([lasting])
Executor([graph]).start()
"""
    )
    with place.start("python", "my_graph.py") as terminal:
        wait_for((place.directory / "began").exists, "the task to begin")
        os.killpg(terminal.process.pid, signal.SIGINT)
        terminal.shows("waiting for 1 running graph")
        assert terminal.interrupt(timeout=5) == 130
    place.left_alone()


def test_kill_9_of_the_main_process_leaves_nothing_and_the_next_start_goes_on(place: Place) -> None:
    place.write(SLOW)
    with place.start("python", "my_graph.py", TM_LEASE="600") as terminal:
        wait_for((place.directory / "began").exists, "the first task to begin")
        terminal.process.kill()
        terminal.process.wait()
    place.left_alone()
    (place.directory / "go").touch()
    with place.start("python", "my_graph.py", TM_LEASE="600") as terminal:
        wait_for((place.directory / "done").exists, "the run to be taken up again, at once and not after a lease", 40)
        terminal.interrupt()
    place.left_alone()


@pytest.mark.parametrize("victim", ["tm-worker", "tm-scheduler", "valkey-server"])
def test_a_part_that_dies_is_started_again(place: Place, victim: str) -> None:
    place.write(TICKING)
    with place.start("python", "my_graph.py") as terminal:
        terminal.shows("hello from a task")
        os.kill(named(place, victim), signal.SIGKILL)
        terminal.shows("the server is up again" if victim == "valkey-server" else "ended (killed by SIGKILL)")
        count = terminal.text.count("hello from a task")
        wait_for(lambda: terminal.text.count("hello from a task") > count + 1, "ticks to run again", 40)
        assert terminal.interrupt() == 0
    place.left_alone()


def named(place: Place, name: str) -> int:
    """The direct child of the stack that is called so."""
    pids = [int(line.split()[0]) for line in place.processes()]
    found = [pid for pid in pids if Path(f"/proc/{pid}/comm").read_text().strip() == name]
    # the nursery and the executors inherit the worker's name; the oldest is the service
    return min(found)


def test_a_second_stack_in_one_directory_is_refused_and_told_who_holds_it(place: Place) -> None:
    place.write(TICKING)
    with place.start("python", "my_graph.py") as terminal:
        terminal.shows("hello from a task")
        second = run(place.directory, "python", "my_graph.py")
        assert second.returncode == 4
        assert second.stderr.count("\n") == 1
        assert f"is in use by pid {terminal.process.pid} (python my_graph.py)" in second.stderr
        assert terminal.interrupt() == 0


def test_with_tm_url_the_same_file_is_a_scheduler_and_a_worker_for_that_server(
    place: Place, server_url: Callable[[], str]
) -> None:
    place.write(TICKING)
    with place.start("python", "my_graph.py", TM_URL=server_url()) as terminal:
        terminal.shows("hello from a task")
        assert f", {server_url()}" in terminal.lines[0]
        assert terminal.interrupt() == 0
    assert not (place.directory / ".tm" / "redis.sock").exists()
    wait_for(lambda: not place.processes(), "no process to be left")


@pytest.fixture
def server_url(server: object) -> Callable[[], str]:
    return lambda: str(server.url)  # type: ignore[attr-defined]


def test_a_task_may_submit_a_manual_graph_of_the_same_file(place: Place) -> None:
    place.write(
        HEAD
        + """
@task()
def inner(size):
    print("inner got", size)
    return size + 1
helper = Graph("helper")
helper.add_edges([inner])
@task()
def outer():
    os.chdir("/")
    print("outer got", helper.submit(size=4).result(20))
graph = Graph("outer", schedule="* * * * * *", overlap="skip")
graph.add_edges([outer])
Executor([graph]).start()
"""
    )
    with place.start("python", "my_graph.py", TM_PROCESSES="2") as terminal:
        terminal.shows("inner got 4")
        terminal.shows("outer got 5")
        assert terminal.interrupt() == 0
    assert "  helper  manual" in terminal.text


def test_tm_up_runs_all_files_and_commands_find_its_server(place: Place) -> None:
    place.write(TICKING)
    place.write(
        SLOW.replace('schedule="* * * * * *", overlap="skip"', "").replace("Executor([graph]).start()", ""), "other.py"
    )
    (place.directory / "go").touch()
    with place.start("tm", "up", "my_graph.py", "other.py") as terminal:
        terminal.shows("hello from a task")
        assert "  slow     manual" in terminal.text
        done = run(place.directory, "tm", "run", "other.py")
        assert done.returncode == 0, done.stderr
        assert "second  success" in done.stdout
        listed = json.loads(run(place.directory, "tm", "graphs", "--json").stdout)
        assert {graph["name"]: graph["schedule"] for graph in listed["items"]} == {
            "greeter": "* * * * * *",
            "slow": "manual",
        }
        detached = run(place.directory, "tm", "run", "other.py", "--detach").stdout.strip()
        assert detached.startswith("slow-")
        wait_for(lambda: "success" in run(place.directory, "tm", "show", detached).stdout, "the detached run to end")
        assert terminal.interrupt() == 0
    place.left_alone()


def test_ctrl_c_right_at_the_start_ends_it_in_good_order(place: Place) -> None:
    place.write(TICKING)
    with place.start("python", "my_graph.py") as terminal:
        terminal.shows("greeter  * * * * * *")  # the services are just being forked
        assert terminal.interrupt() == 0
    assert "Traceback" not in terminal.text
    assert "starting it again" not in terminal.text
    place.left_alone()


def test_a_run_left_over_from_another_file_is_not_waited_for(place: Place) -> None:
    place.write(SLOW, "other.py")
    with place.start("python", "other.py") as terminal:
        wait_for((place.directory / "began").exists, "the first task to begin")
        os.killpg(terminal.process.pid, signal.SIGINT)
        terminal.shows("waiting for 1 running graph")
        assert terminal.interrupt(timeout=5) == 130
    place.write(TICKING)
    with place.start("python", "my_graph.py") as terminal:
        terminal.shows("hello from a task")
        assert terminal.interrupt(timeout=20) == 0
    place.left_alone()


def test_a_server_that_is_away_is_one_line_from_each_service_and_waited_for(place: Place) -> None:
    place.write(TICKING)
    with place.start("python", "my_graph.py", TM_URL="redis://127.0.0.1:1") as terminal:
        terminal.shows("WARN  scheduler")
        terminal.shows("WARN  worker")
        assert len(terminal.lines) == 4  # nor does it say that it is up
        os.killpg(terminal.process.pid, signal.SIGINT)
        terminal.shows("waiting for running tasks; Ctrl-C again stops at once")
        assert terminal.interrupt(timeout=5) == 130
    wait_for(lambda: not place.processes(), "no process to be left")
