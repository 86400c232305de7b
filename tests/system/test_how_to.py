"""The commands in docs/how-to do what they say: each page is played from top to bottom on a real stack."""

from __future__ import annotations

import json
import os
import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.system.terminal import Terminal, run
from tests.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGES = Path(__file__).parents[2] / "docs" / "how-to"
PLAYED = (
    "logs",
    "why",
    "backup",
    "check",
    "retry",
    "cancel",
    "mark",
    "pause",
    "queues",
    "backfill",
    "trigger",
    "wait",
    "doctor",
    "prune",
    "schedule",
    "run-by-hand",
    "config-file",
)
BLOCK = re.compile(r"^```bash\n(.*?)^```", re.DOTALL | re.MULTILINE)
#: the files of a page that is played without a stack, in a directory of its own: its blocks of that language
FILES = {"config-file": {"python": "greetings.py", "json": "greetings.json"}}
GRAPHS = """
import pathlib, time
from tm import Graph, task
space = pathlib.Path(__file__).parent / "space"

@task()
def extract(day="monday"):
    print("day:", day)
    return day
@task()
def clean(extract): return extract
@task()
def load(extract):
    if not space.exists():
        raise RuntimeError("no space")
    return 3
@task()
def report(load, clean): return f"{load} rows of {clean}"
@task()
def lasting(): time.sleep(60)
@task()
def after(lasting): return "done"

etl = Graph("etl")
etl.add_edges([extract], [clean, load])
etl.add_edges([clean, load], [report])
long = Graph("long")
long.add_edges([lasting], [after])
daily = Graph("daily", "0 6 * * *", timezone="Europe/Berlin")
daily.add_edges([extract])
often = Graph("often", "*/2 * * * * *")
often.add_edges([extract])
"""


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    directory = tmp_path_factory.mktemp("how-to")
    (directory / "graphs.py").write_text(GRAPHS)
    with Terminal(directory, "tm", "up", "graphs.py", "--processes", "2", TM_LEASE="3", TM_GRACE="1") as terminal:
        terminal.shows("up; Ctrl-C waits")
        wait_for((directory / ".tm" / "history.db").exists, "history, which begins with the first tick")
        wait_for(lambda: run(directory, "tm", "doctor").returncode == 0, "its worker to be known", 20)
        yield directory
        run(directory, "tm", "cancel", "--graph", "long", "--force", "-y")


@pytest.mark.parametrize("page", PLAYED)
def test_a_page_does_what_it_says(page: str, here: Path) -> None:
    (here / "space").unlink(missing_ok=True)
    if page in FILES:
        here /= page
        here.mkdir()
    for language, name in FILES.get(page, {}).items():
        (block,) = re.findall(
            rf"^```{language}\n(.*?)^```", (PAGES / f"{page}.md").read_text(), re.DOTALL | re.MULTILINE
        )
        (here / name).write_text(block)
    lines = [line for block in BLOCK.findall((PAGES / f"{page}.md").read_text()) for line in block.splitlines()]
    assert lines
    drained = workers(here) if page == "queues" else set()
    for line in lines:
        command, _, comment = line.partition(" #")
        words = shlex.split(command)
        if words[0] == "touch":
            (here / words[1]).touch()
            continue
        if words[0] == "truncate":
            os.truncate(here / words[3], int(words[2]))
            continue
        expected = re.search(r"ends with (\d+)", comment)
        done = run(here, *words)
        assert done.returncode == int(expected[1] if expected else 0), f"{line}\n{done.stdout}{done.stderr}"
    if drained:  # the pages after it find the worker that the stack starts in its place
        wait_for(lambda: (found := workers(here)) and not found & drained, "another worker", 30)


def workers(here: Path) -> set[str]:
    """The workers that are alive."""
    items = json.loads(run(here, "tm", "--json", "workers").stdout)["items"]
    return {each["name"] for each in items if each["state"] not in {"silent", "lost"}}


#: what those pages need is a shared server, other hosts or other people's programs: their commands have to exist at least
SHOWN = ("several-hosts", "deploy", "upgrade", "run-by-hand", "wait", "prune")


@pytest.mark.parametrize("page", SHOWN)
def test_commands_that_are_only_shown_exist(page: str, tmp_path: Path) -> None:
    text = (PAGES / f"{page}.md").read_text()
    blocks = re.findall(r"^```(\w*)\n(.*?)^```\n", text, re.DOTALL | re.MULTILINE)
    lines = [
        line.partition(" #")[0] for kind, block in blocks if kind in {"sh", "ini", ""} for line in block.splitlines()
    ]
    prose = re.sub(r"^```.*?^```\n", "", text, flags=re.DOTALL | re.MULTILINE)
    written = re.findall(r"(?:^|[ /(])((?:tm|tm-worker|tm-scheduler) [^ |)\n][^|)\n]*)", "\n".join(lines), re.MULTILINE)
    named_in_prose = re.findall(r"`((?:tm|tm-worker|tm-scheduler) [^`]+)`", prose)
    assert written or named_in_prose
    for command in (*written, *named_in_prose):
        words = shlex.split(command)
        if words[0] == "tm":
            words = [word for word in words[1:] if word != "-q"]
            if words[0] == "--home":
                words = words[2:]
            words = ["tm", *words]
        options = [word.partition("=")[0] for word in words if word.startswith("--")]
        named = 3 if words[1:2] in (["workers"], ["queues"], ["cron"]) and len(words) > 2 else 2
        done = run(tmp_path, *(words[:named] if words[0] == "tm" else words[:1]), "--help")
        assert done.returncode == 0, f"{command}\n{done.stderr}"
        assert all(option in done.stdout for option in options), command
