"""`tm logs` on a real stack: as it prints, filtered, for programs, from a process that died; and the terminal itself."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from tests.system.terminal import BIN, Terminal, announced, environment, run
from tests.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.slow

GRAPHS = """
import logging, os, pathlib, signal, sys, time
from tm import Graph, get_context, task
stop = pathlib.Path(__file__).parent / "stop"

@task()
def ticking():
    for number in range(10_000):
        if stop.exists():
            break
        print("at", time.time())
        time.sleep(0.05)
@task(retries=1, retry_delay=0)
def load(rows=3):
    print(f"rows: {rows}")
    print("odd row", file=sys.stderr)
    logging.getLogger("etl.db").info("connected")
    get_context().logger.error("no \\x1b[31mspace\\x1b[0m \\x07left")
    raise ValueError("no space")
@task()
def silent(): return 1
@task()
def killed():
    print("about to die")
    if get_context().attempt == 1:
        os.kill(os.getpid(), signal.SIGKILL)

for name, tasks in {"tick": [ticking], "etl": [silent, load], "dying": [killed]}.items():
    globals()[name] = graph = Graph(name)
    graph.add_edges(tasks)
"""


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    directory = tmp_path_factory.mktemp("logs")
    (directory / "graphs.py").write_text(GRAPHS)
    with Terminal(directory, "tm", "up", "graphs.py", "--processes", "2") as terminal:
        terminal.shows("Ctrl-C waits")
        announced(directory)
        yield directory
        (directory / "stop").touch()


def ended(here: Path, graph: str, code: int = 0) -> str:
    """The id of a run of this graph that has ended."""
    started = run(here, "tm", "-q", "trigger", graph).stdout.strip()
    assert run(here, "tm", "wait", started).returncode == code
    return started


def test_lines_are_followed_as_they_are_printed_until_the_run_has_ended(here: Path) -> None:
    (here / "stop").unlink(missing_ok=True)
    started = run(here, "tm", "-q", "trigger", "tick").stdout.strip()
    lags: list[float] = []
    command = [str(BIN / "tm"), "logs", f"{started}/ticking", "-f", "--raw"]
    with subprocess.Popen(
        command, cwd=here, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        began = None
        seen: list[float] = []
        for line in process.stdout:
            printed, now = float(line.split()[1]), time.time()
            seen.append(printed)
            if began is None:
                began = now
            elif printed > began:
                lags.append(now - printed)
            if len(lags) >= 60:
                (here / "stop").touch()
    assert process.returncode == 0
    lags.sort()
    print(f"from print to `tm logs -f`: median {lags[30] * 1000:.1f} ms, worst {lags[-1] * 1000:.1f} ms")
    assert lags[30] < 0.2
    assert seen == sorted(set(seen))
    assert seen == [float(line.split()[1]) for line in run(here, "tm", "logs", started, "--raw").stdout.splitlines()]


def test_what_a_failed_task_printed_logged_and_raised(here: Path) -> None:
    started = ended(here, "etl", 1)
    shown = run(here, "tm", "logs", f"{started}/load", "--attempt", "2")
    lines = [re.sub(r"^\d\d:\d\d:\d\d\.\d{3}  #2  ", "", line) for line in shown.stdout.splitlines()]
    assert lines[:3] == ["rows: 3", "odd row", "INFO etl.db: connected"]
    assert lines[3] == "ERROR etl.load: no space \\x07left", "colours are for terminals, the rest for nobody"
    assert lines[4] == "Traceback (most recent call last):"
    assert lines[-1] == "ValueError: no space"

    both = run(here, "tm", "logs", started)
    assert both.stdout.count("rows: 3") == 2
    assert "  load #2  rows: 3" in both.stdout
    assert both.stderr == "", "others printed, and that one did not is no news"
    quiet = "tm: silent, attempt 1: it ended as success and printed nothing\n"
    assert run(here, "tm", "logs", f"{started}/silent").stderr == quiet
    assert run(here, "tm", "-v", "logs", started).stderr == quiet
    assert run(here, "tm", "-q", "logs", f"{started}/silent").stderr == ""
    assert len(run(here, "tm", "logs", started, "--tail", "2").stdout.splitlines()) == 2
    errors = run(here, "tm", "logs", "etl@last", "--level", "error", "--raw").stdout
    assert "rows" not in errors
    assert "odd" not in errors
    assert errors.count("ValueError: no space") == 2
    assert "odd row" in run(here, "tm", "logs", "etl@last", "--level", "warning").stdout
    assert run(here, "tm", "logs", "etl@last", "--raw", "--grep", r"rows: \d$").stdout == "rows: 3\n" * 2
    assert run(here, "tm", "logs", "etl@last", "--since", "2099-01-01").stdout == ""
    assert "rows: 3" in run(here, "tm", "logs", "etl@last", "--since", "1h").stdout


def test_for_programs(here: Path) -> None:
    started = ended(here, "etl", 1)
    document = json.loads(run(here, "tm", "logs", f"{started}/load", "--json", "--attempt", "1").stdout)
    assert document["schema"] == "tm.logs/1"
    items = [(each["stream"], each["level"], each["logger"], each["text"]) for each in document["items"]]
    assert items[:4] == [
        ("stdout", "info", None, "rows: 3"),
        ("stderr", "warning", None, "odd row"),
        ("log", "info", "etl.db", "connected"),
        ("log", "error", "etl.load", "no \x1b[31mspace\x1b[0m \x07left"),
    ]
    assert {each[0] for each in items[4:]} == {"tm"}
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", document["items"][0]["at"])
    lines = run(here, "tm", "logs", started, "-f", "--jsonl").stdout.splitlines()
    first = json.loads(lines[0])
    assert (first["schema"], first["run"], first["task"], first["attempt"]) == ("tm.log/1", started, "load", 1)


def test_a_process_that_died_says_so(here: Path) -> None:
    started = ended(here, "dying")
    said = run(here, "tm", "logs", started, "--raw").stdout.splitlines()
    assert said[0] == "about to die"
    assert re.fullmatch(
        r"Killed: the process was ended by SIGKILL \(out of memory\?\); it had used \d+ MiB at most", said[1]
    )
    assert said[2:] == ["about to die"]


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (("nosuch",), 3, "there is no run 'nosuch'"),
        (("etl@last/lod",), 3, "has no task 'lod'; did you mean 'load'?"),
        (("etl@last/load", "--attempt", "7"), 3, "has no attempt 7"),
        (("etl@last", "--grep", "("), 2, "is no regular expression"),
        (("etl@last", "-f", "--json"), 2, "--jsonl instead of --json"),
        (("etl@last", "--since", "soon"), 2, "'soon' is no time"),
    ],
)
def test_what_is_not_there_or_makes_no_sense(here: Path, words: tuple[str, ...], code: int, text: str) -> None:
    ended(here, "etl", 1)
    done = run(here, "tm", "logs", *words)
    assert done.returncode == code
    assert text in done.stderr


def test_in_a_terminal_each_line_says_which_task_it_is_from(tmp_path: Path) -> None:
    (tmp_path / "every.py").write_text(
        "from tm import Executor, Graph, task\n"
        "@task()\n"
        "def hello(): print('hello world')\n"
        "graph = Graph('greeting', '* * * * * *')\n"
        "graph.add_edges([hello])\n"
        "Executor(graphs=[graph]).start()\n"
    )
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [str(BIN / "python"), "every.py"],
        cwd=tmp_path,
        env=environment(TERM="xterm"),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    shown = b""
    try:

        def seen() -> bool:
            nonlocal shown
            if select.select([ours], [], [], 0)[0]:
                shown += os.read(ours, 4096)
            return b"hello world" in shown

        wait_for(seen, "the line to be shown", 30)
    finally:
        process.terminate()
        while process.poll() is None:
            if select.select([ours], [], [], 0.1)[0]:
                try:
                    shown += os.read(ours, 4096)
                except OSError:
                    break
        process.wait(20)
        os.close(ours)
    assert re.search(rb"\x1b\[\d+mgreeting/hello\x1b\[0m \| hello world\r\n", shown), shown
