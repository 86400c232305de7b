"""The first version's files run unmodified, as their owners run them: `python FILE`, somewhere else than here."""

from __future__ import annotations

import json
import re
import shutil
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.system.terminal import Terminal, run
from tm import inprocess, loader

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.usefixtures("nothing_stays_loaded")

SEED = Path(__file__).parents[1] / "seed"


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """A directory with all the files."""
    return Path(shutil.copytree(SEED, tmp_path / "seed"))


# Without a server


def test_the_cron_example(here: Path) -> None:
    assert run(here, "python", "readme_cron.py").stdout == "2024-03-01 00:00:00\n"


def test_a_manual_graph_is_a_function(here: Path) -> None:
    assert run(here, "python", "manual.py").stdout == "41\n3\n"


def test_a_manual_graph_is_refused_by_an_executor(here: Path) -> None:
    done = run(here, "python", "manual_refused.py")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("TypeError: graph 'never due' is manual")


class JumpingClock:
    """Sleeps by being later."""

    def __init__(self) -> None:
        from datetime import UTC, datetime

        self.time = datetime(2026, 1, 1, tzinfo=UTC)
        self.slept: list[float] = []

    def now(self):
        return self.time

    def sleep(self, seconds: float) -> None:
        from datetime import timedelta

        self.slept.append(round(seconds, 3))
        self.time += timedelta(seconds=seconds)


@pytest.mark.parametrize(
    ("file", "result", "printed"),
    [
        ("readme_dag.py", None, "7\nTrue\n"),
        ("readme_config.py", None, "4\n0\n"),
        ("hello_world.py", None, "hello world\n"),
        ("message_passing.py", {"total": 6, "smallest": 1, "largest": 3}, "largest 3\nsmallest 1\ntotal 6\n"),
        ("config_reload.py", 1, "value is 1\n"),
        ("nested.py", 41, "the other graph returned 41\n"),
        ("retries.py", 4, "failing call 1\nfailing call 2\nfailing call 3\ncall 4 succeeds\ncalls were 4\n"),
    ],
)
def test_in_process(here: Path, capsys: pytest.CaptureFixture[str], file: str, result: object, printed: str) -> None:
    loaded = loader.load(here / file)
    graph = loaded.graphs[loaded.scheduled[0]]
    clock = JumpingClock()
    assert inprocess.run(graph, (), {}, clock) == result
    assert capsys.readouterr().out == printed
    assert clock.slept == ([1.5, 3, 6] if file == "retries.py" else [])


# With the real stack, once, now


@pytest.mark.slow
@pytest.mark.parametrize(
    ("target", "printed"),
    [
        ("readme_dag.py", ["7", "True"]),
        ("readme_config.py", ["4", "0"]),
        ("message_passing.py", ["largest 3", "smallest 1", "total 6"]),
        ("several_graphs.py:fast", ["fast begins "]),
        ("nested.py:nested", ["the other graph returned 41"]),
    ],
)
def test_tm_run(here: Path, target: str, printed: list[str]) -> None:
    done = run(here, "tm", "run", target)
    assert done.returncode == 0, done.stderr
    for text in printed:
        assert re.search(rf"^{re.escape(text)}", done.stdout + done.stderr, re.MULTILINE), done.stdout + done.stderr


@pytest.mark.slow
def test_tm_run_with_params(here: Path) -> None:
    done = run(here, "tm", "--json", "run", "manual.py", "-p", "number=20")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["items"][0]["state"] == "success"


# With the real stack, on the minute: one wait for all of them


MINUTE = 90  # seconds until a tick of every minute must have been seen, its start on a busy machine included
FILES = (
    "hello_world.py",
    "readme_dag.py",
    "readme_config.py",
    "several_graphs.py",
    "message_passing.py",
    "config_reload.py",
    "retries.py",
    "nested.py",
)


@pytest.fixture(scope="module")
def terminals(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Terminal]]:
    """Every file in a directory and a terminal of its own, all waiting for the same minute."""
    with ExitStack() as stack:
        opened = {}
        for file in FILES:
            directory = Path(shutil.copytree(SEED, tmp_path_factory.mktemp("seed") / "seed"))
            opened[file] = stack.enter_context(Terminal(directory, "python", file, TM_PROCESSES="2"))
        yield opened


pytestmark_minute = [pytest.mark.slow, pytest.mark.timeout(240)]


def on_the_minute(function):
    """Mark a test that needs `terminals`."""
    for mark in pytestmark_minute:
        function = mark(function)
    return function


@on_the_minute
def test_hello_world_every_minute(terminals: dict[str, Terminal]) -> None:
    terminals["hello_world.py"].shows("\nhello world\n", MINUTE)


@on_the_minute
def test_the_dag_of_the_readme(terminals: dict[str, Terminal]) -> None:
    terminal = terminals["readme_dag.py"]
    terminal.shows("\nTrue\n", MINUTE)
    assert terminal.lines.index("7") < terminal.lines.index("True")


@on_the_minute
def test_the_config_of_the_readme(terminals: dict[str, Terminal]) -> None:
    terminals["readme_config.py"].shows("\n4\n", MINUTE)
    terminals["readme_config.py"].shows("\n0\n")


@on_the_minute
def test_fan_out_of_three_and_kwargs(terminals: dict[str, Terminal]) -> None:
    terminals["message_passing.py"].shows("largest 3\nsmallest 1\ntotal 6\n", MINUTE)


@on_the_minute
def test_a_graph_in_a_task_of_another(terminals: dict[str, Terminal]) -> None:
    terminals["nested.py"].shows("\nthe other graph returned 41\n", MINUTE)


@on_the_minute
def test_the_slow_graph_does_not_hold_the_other(terminals: dict[str, Terminal]) -> None:
    terminal = terminals["several_graphs.py"]
    terminal.shows("slow ends", MINUTE)
    times = {
        line.rpartition(" ")[0]: float(line.rpartition(" ")[2])
        for line in terminal.lines
        if line.startswith(("slow", "fast begins"))
    }
    assert times["fast begins"] < times["slow ends"] - 3
    assert times["slow ends"] - times["slow begins"] >= 5


@on_the_minute
def test_three_failures_and_a_success_with_calls_counted_in_a_global(terminals: dict[str, Terminal]) -> None:
    terminal = terminals["retries.py"]
    terminal.shows("\ncalls were 4\n", MINUTE)
    said = [line for line in terminal.lines if line.startswith(("failing call", "call "))]
    assert said[:4] == ["failing call 1", "failing call 2", "failing call 3", "call 4 succeeds"]


@on_the_minute
def test_the_config_is_read_again_while_the_file_is_running(terminals: dict[str, Terminal]) -> None:
    terminal = terminals["config_reload.py"]
    terminal.shows("\nvalue is 1\n", MINUTE)
    (terminal.directory / "reload.json").write_text('{ "value": 2 }')
    done = run(terminal.directory, "tm", "run", "config_reload.py")
    assert done.returncode == 0, done.stderr
    terminal.shows("\nvalue is 2\n")


@on_the_minute
def test_a_second_one_in_the_same_directory_is_refused(terminals: dict[str, Terminal]) -> None:
    first = terminals["hello_world.py"]
    done = run(first.directory, "python", "readme_dag.py")
    assert done.returncode == 4
    assert str(first.process.pid) in done.stderr


@on_the_minute
def test_ctrl_c_ends_each_in_good_order_and_leaves_nothing(terminals: dict[str, Terminal]) -> None:
    for file, terminal in terminals.items():
        assert terminal.interrupt() == 0, f"{file}:\n{terminal.text[-3000:]}"
        assert terminal.left() == [], file
