"""Putting it right from a terminal: the real commands on a real stack."""

from __future__ import annotations

import json
import re
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from tests.system.terminal import Terminal, announced, run
from tests.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

GRAPHS = """
import os, pathlib, signal, time
from tm import Graph, task
here = pathlib.Path(__file__).parent

def note(name, text="x"):
    with (here / name).open("a") as file:
        file.write(text + "\\n")

@task()
def extract(day="monday"):
    note("extracted", day)
    return {"day": day}

@task()
def clean(extract):
    note("cleaned")
    return extract

@task()
def load(extract):
    note("loaded")
    if not (here / "repaired").exists():
        raise RuntimeError("no space")
    return "loaded " + extract["day"]

@task()
def report(load, clean):
    note("reported", f"{load} {clean}")
    return f"{load}, {clean['day']}"

etl = Graph("etl")
etl.add_edges([extract], [clean, load])
etl.add_edges([clean, load], [report])

@task()
def lasting():
    signal.signal(signal.SIGTERM, lambda *_: (note("tidied"), os._exit(1)))
    note("began")
    time.sleep(60)

@task()
def after(lasting):
    note("after", repr(lasting))

long = Graph("long", max_active_runs=1)
long.add_edges([lasting], [after])

@task()
def deaf():
    signal.signal(signal.SIGTERM, lambda *_: note("heard"))
    note("deaf", str(os.getpid()))
    time.sleep(60)

stubborn = Graph("stubborn")
stubborn.add_edges([deaf])

@task()
def tick():
    if (here / "bad-days").exists():
        raise RuntimeError("a bad day")

daily = Graph("daily", "0 6 * * *", timezone="Europe/Berlin")
daily.add_edges([tick])

often = Graph("often", "* * * * * *", misfire="all")
often.add_edges([tick])

@task()
def needs(size: int): ...

picky = Graph("picky")
picky.add_edges([needs])
"""


class Stack:
    """A stack that runs, and the person beside it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def tm(self, *words: str, code: int = 0) -> str:
        """What a command prints, which has to end with this code."""
        done = run(self.directory, "tm", *words)
        assert done.returncode == code, f"{words} ended with {done.returncode}: {done.stdout}{done.stderr}"
        return done.stdout if code in (0, 1, 7, 8) else done.stderr

    def items(self, *words: str, code: int = 0) -> list[dict[str, Any]]:
        document = json.loads(self.tm("--json", *words, code=code))
        assert re.fullmatch(r"tm\.[a-z]+/1", document["schema"])
        return list(document["items"])

    def start(self, graph: str, *words: str) -> str:
        return self.tm("-q", "trigger", graph, *words).strip()

    def notes(self, name: str) -> list[str]:
        file = self.directory / name
        return file.read_text().splitlines() if file.exists() else []

    def states(self, name: str) -> dict[str, str]:
        [found] = self.items("show", name)
        return {task["name"]: task["state"] for task in found["tasks"]}


def alive(pid: int) -> bool:
    import psutil

    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    directory = tmp_path_factory.mktemp("repair")
    (directory / "graphs.py").write_text(GRAPHS)
    with Terminal(directory, "tm", "up", "graphs.py", "--processes", "2", TM_LEASE="3", TM_GRACE="1") as terminal:
        terminal.shows("Ctrl-C waits")
        announced(directory)
        yield Stack(directory)


@pytest.fixture
def fresh(stack: Stack) -> Iterator[Stack]:
    """The stack, without the notes of the test before."""
    for path in stack.directory.iterdir():
        if path.is_file() and path.suffix not in (".py", ".log"):
            path.unlink()
    yield stack
    for run_id in ("long", "stubborn"):
        stack.tm("cancel", "--graph", run_id, "--force", "-y")


def test_a_run_that_failed_at_night_is_repaired_and_downstream_runs_once(fresh: Stack) -> None:
    run_id = fresh.start("etl", "-p", "day=tuesday")
    out = fresh.tm("wait", run_id, code=1)
    assert out == f"run {run_id} failed in {out.rpartition(' in ')[2]}"
    assert fresh.states(run_id) == {"extract": "success", "clean": "success", "load": "failed", "report": "blocked"}
    assert fresh.tm("retry", "etl@failed", "--dry-run").splitlines() == [
        f"run {run_id}-2 would repair {run_id}",
        "  runs        load, report",
        "  keeps       extract, clean",
    ]
    (fresh.directory / "repaired").touch()
    assert f"run {run_id}-2 success" in fresh.tm("retry", run_id[:8], "--failed", "--wait")
    assert fresh.notes("extracted") == ["tuesday"]
    assert fresh.notes("cleaned") == ["x"]
    assert fresh.notes("reported") == ["loaded tuesday {'day': 'tuesday'}"], "downstream ran once"
    [found] = fresh.items("show", f"{run_id}-2")
    assert (found["trigger"], found["retry_of"], found["params"]) == ("retry", run_id, {"day": "tuesday"})
    [before] = fresh.items("show", run_id)
    assert before["state"] == "failed", "what has ended stays as it ended"
    assert "nothing of it failed" in fresh.tm("retry", run_id, code=4)


def test_a_retry_knows_its_tasks_in_history_too(fresh: Stack) -> None:
    run_id = fresh.start("etl")
    fresh.tm("wait", run_id, code=1)
    fresh.tm("retry", run_id, "--wait", code=1)

    def filed() -> bool:
        reasons = {task["name"]: task["reason"] for task in fresh.items("show", f"{run_id}-2")[0]["tasks"]}
        return reasons["report"] == "parent load failed"

    wait_for(filed, "history to know")
    listed = [(each["id"], each["trigger"], each["retry_of"]) for each in fresh.items("runs", "etl")]
    assert (f"{run_id}-2", "retry", run_id) in listed


def test_parts_are_run_again_on_demand(fresh: Stack) -> None:
    (fresh.directory / "repaired").touch()
    run_id = fresh.start("etl")
    fresh.tm("wait", run_id)
    fresh.tm("retry", run_id, "--from", "load", "--wait")
    assert (len(fresh.notes("cleaned")), len(fresh.notes("loaded")), len(fresh.notes("reported"))) == (1, 2, 2)
    fresh.tm("retry", run_id, "--only", "clean", "--wait")
    assert (len(fresh.notes("cleaned")), len(fresh.notes("reported"))) == (2, 2)
    fresh.tm("retry", run_id, "--all", "-p", "day=friday", "--wait")
    assert fresh.notes("extracted") == ["monday", "friday"]
    assert "has no task 'lode'" in fresh.tm("retry", run_id, "--from", "lode", code=3)
    assert "would be kept; add --from extract" in fresh.tm("retry", run_id, "--from", "load", "-p", "day=x", code=4)
    assert "has no parameter 'colour'" in fresh.tm("retry", run_id, "--all", "-p", "colour=x", code=2)
    assert "choose one of" in fresh.tm("retry", run_id, "--all", "--failed", code=2)
    assert "no run 'nobody'" in fresh.tm("retry", "nobody", code=3)


def test_a_mark_on_an_open_run_lets_it_go_on(fresh: Stack) -> None:
    run_id = fresh.start("long")
    wait_for(lambda: fresh.notes("began"), "the task to begin")
    assert "open run, as many as it may have" in fresh.tm("trigger", "long", code=4)
    out = fresh.tm("mark", f"{run_id}/lasting", "success", "--reason", "done by hand")
    assert out == f"lasting of run {run_id} is success now (was running)\n"
    fresh.tm("wait", run_id)
    assert fresh.notes("after") == ["None"]
    assert "is success already" in fresh.tm("mark", f"{run_id}/after", "skipped", "--reason", "x", code=4)
    assert "--reason" in fresh.tm("mark", f"{run_id}/after", "skipped", code=2)


def test_a_mark_on_a_run_that_ended_repairs_it(fresh: Stack) -> None:
    run_id = fresh.start("etl")
    fresh.tm("wait", run_id, code=1)
    [done] = fresh.items("mark", f"{run_id}/load", "success", "--reason", "loaded by hand")
    assert done == {"run": f"{run_id}-2", "task": "load", "was": "failed", "state": "success", "retry": True}
    fresh.tm("wait", f"{run_id}-2")
    assert fresh.notes("reported") == ["None {'day': 'monday'}"]

    def audited() -> bool:
        [load] = [task for task in fresh.items("show", f"{run_id}-2")[0]["tasks"] if task["name"] == "load"]
        return load["state"] == "success" and "loaded by hand" in (load["reason"] or "")

    wait_for(audited, "history to know who and why")


def test_cancelled_tasks_end_within_a_beat_and_their_grace(fresh: Stack) -> None:
    run_id = fresh.start("long")
    wait_for(lambda: fresh.notes("began"), "the task to begin")
    began = time.monotonic()
    assert fresh.tm("cancel", run_id, "--reason", "enough") == f"cancelled {run_id}\n"
    wait_for(lambda: fresh.notes("tidied"), "the task to tidy up", 5)
    assert time.monotonic() - began < 3
    [found] = fresh.items("show", run_id)
    assert re.fullmatch(r"cancelled by \S+@\S+: enough", found["reason"])
    assert "has ended already: cancelled" in fresh.tm("cancel", run_id, code=4)
    fresh.tm("wait", run_id, code=7)


def test_a_deaf_task_is_killed_after_its_grace_or_at_once(fresh: Stack) -> None:
    run_id = fresh.start("stubborn")
    [pid] = wait_for(lambda: fresh.notes("deaf"), "the task to begin")
    fresh.tm("cancel", run_id, "--grace", "1m")
    wait_for(lambda: fresh.notes("heard"), "its SIGTERM")
    assert alive(int(pid)), "it has a minute"
    fresh.tm("cancel", run_id, "--force")
    wait_for(lambda: not alive(int(pid)), "the deaf task to be killed", 4)


def test_all_runs_of_a_graph_are_cancelled_with_one_word(fresh: Stack) -> None:
    runs = [fresh.start("long", "--force") for _ in range(3)]
    assert "Say -y where nobody can be asked" in fresh.tm("cancel", "--graph", "long", code=2)
    assert fresh.tm("cancel", "--graph", "long", "--dry-run").splitlines() == [f"would cancel {each}" for each in runs]
    items = fresh.items("cancel", "--graph", "long", "-y")
    assert items == [{"run": each, "cancelled": True, "dry_run": False} for each in runs]
    assert fresh.tm("cancel", "--graph", "long", "-y") == "no open runs\n"
    assert "tm mark" in fresh.tm("cancel", f"{runs[0]}/lasting", code=2)


def test_a_trigger_is_checked_against_what_the_server_knows(fresh: Stack) -> None:
    assert "requires size; pass it: -p size=..." in fresh.tm("trigger", "picky", code=2)
    assert "has no parameter 'colour'; its roots take size" in fresh.tm("trigger", "picky", "-p", "colour=1", code=2)
    assert "no scheduler has announced a graph 'nobody'" in fresh.tm("trigger", "nobody", code=3)
    assert re.fullmatch(
        r"run order-1 started\nrun order-1 success in .*\n",
        fresh.tm("trigger", "picky", "-p", "size=1", "--run-id", "order-1", "--wait"),
    )
    assert "there is a run order-1 already (success)" in fresh.tm(
        "trigger", "picky", "-p", "size=1", "--run-id", "order-1", code=4
    )
    assert fresh.start("daily", "--tick", "2026-11-02 06:00") == "daily-20261102T050000Z"
    fresh.tm("wait", "daily-20261102T050000Z", "order-1")
    assert "tm retry daily-20261102T050000Z" in fresh.tm("trigger", "daily", "--tick", "2026-11-02 06:00", code=4)
    assert "still open after 0.1 s" in fresh.tm("trigger", "long", "--wait", "--timeout", "100ms", code=124)


def test_a_paused_graph_waits_and_catches_up_as_it_is_told(fresh: Stack) -> None:
    wait_for(lambda: fresh.items("runs", "often", "--limit", "1"), "a tick")
    assert fresh.tm("pause", "often", "--reason", "a break") == "paused often\n"
    paused_at = datetime.now(UTC)
    wait_for(lambda: datetime.now(UTC) - paused_at > timedelta(seconds=3), "three ticks to be missed")
    late = [each["tick"] for each in fresh.items("runs", "often") if each["tick"] > paused_at.isoformat()]
    assert late == [], "the clock stands still"
    by_hand = run(fresh.directory, "tm", "trigger", "often")
    assert by_hand.returncode == 0, "a pause ends ticks, not what somebody asks for"
    assert re.search(r"is paused by \S+@\S+ since .* \(a break\); this run goes ahead all the same", by_hand.stderr)
    assert fresh.start("often", "--force").startswith("often-")
    [first, *_] = fresh.items("schedules", "often", "--next", "5s")
    assert (first["graph"], first["paused"]["reason"]) == ("often", "a break")
    assert fresh.tm("resume", "often", "--catch-up", "skip") == "resumed often\n"

    def skipped() -> list[dict[str, Any]]:
        listed = fresh.items("runs", "often", "--state", "skipped")
        return [each for each in listed if re.match(r"paused by \S+@\S+ \(a break\): ", each["reason"])]

    wait_for(lambda: len(skipped()) >= 2, "the missed ticks to be recorded")
    ticks = {each["tick"] for each in fresh.items("runs", "often", "--limit", "100") if each["tick"]}
    seconds = sorted(int(tick[17:19]) + 60 * int(tick[14:16]) for tick in ticks)
    if seconds[-1] - seconds[0] < 1800:  # not over the hour
        assert seconds == list(range(seconds[0], seconds[-1] + 1)), "every tick is a run or a record"
    assert "is not paused" in fresh.tm("resume", "often", code=4)


def test_all_graphs_pause_for_a_while(fresh: Stack) -> None:
    [paused] = fresh.items("pause", "--all", "--until", "3s")
    assert paused["graph"] is None
    a_day = ("backfill", "daily", "--from", "2026-08-20", "--to", "2026-08-20", "-y")
    assert "paused" in fresh.tm(*a_day, code=4)
    assert "tm resume --all" in fresh.tm("resume", "etl", code=4)
    wait_for(lambda: run(fresh.directory, "tm", *a_day).returncode == 0, "the pause to end by itself", 8)
    assert "--until" in fresh.tm("pause", "etl", "--until", "2001-01-01", code=2)
    assert "or say --all" in fresh.tm("pause", code=2)
    assert "no scheduler has announced" in fresh.tm("pause", "nobody", code=3)


def test_a_backfill_fills_what_is_missing_and_does_nothing_the_second_time(fresh: Stack) -> None:
    words = ("backfill", "daily", "--from", "2026-10-20", "--to", "2026-10-26")
    planned = fresh.items(*words, "--dry-run")
    assert [each["run"] for each in planned] == [
        # the clocks go back in the night to the 25th: 6:00 is 5:00 UTC from then on
        *(f"daily-202610{day}T040000Z" for day in (20, 21, 22, 23, 24)),
        "daily-20261025T050000Z",
        "daily-20261026T050000Z",
    ]
    assert "Start 7 runs of daily? Say -y" in fresh.tm(*words, code=2)
    out = fresh.tm(*words, "--reverse", "--max-active", "2", "-y").splitlines()
    assert out[-1] == "7 ticks: 7 started (7 success), 0 left as they are"
    assert out[0].startswith("2026-10-2")
    assert fresh.tm(*words, "-y") == "7 ticks in that range: nothing to do\n"
    [found] = fresh.items("show", "daily-20261022T040000Z")
    assert (found["trigger"], found["tick"]) == ("backfill", "2026-10-22T04:00:00.000Z")
    assert fresh.tm(*words, "--failed", "-y") == "7 ticks in that range: nothing to do\n"


def test_a_backfill_repairs_what_failed_and_repeats_what_it_is_told(fresh: Stack) -> None:
    (fresh.directory / "bad-days").touch()
    words = ("backfill", "daily", "--from", "2026-09-01", "--to", "2026-09-03")
    fresh.tm(*words, "-y", code=1)
    assert fresh.tm(*words, "-y") == "3 ticks in that range: nothing to do\n"
    (fresh.directory / "bad-days").unlink()
    items = fresh.items(*words, "--failed", "-y")
    assert [(each["run"], each["action"], each["state"]) for each in items] == [
        (f"daily-2026090{day}T040000Z-2", "repair", "success") for day in (1, 2, 3)
    ]
    items = fresh.items("backfill", "graphs.py:daily", "--from", "2026-09-03", "--to", "2026-09-03", "--all", "-y")
    assert [(each["run"], each["action"]) for each in items] == [("daily-20260903T040000Z-3", "repeat")]
    assert "has no schedule" in fresh.tm("backfill", "etl", "--from", "2026-09-03", "--to", "2026-09-03", "-y", code=4)
    assert "before" in fresh.tm("backfill", "daily", "--from", "2026-09-03", "--to", "2026-09-01", "-y", code=2)
    assert "narrow it" in fresh.tm("backfill", "often", "--from", "2026-09-01", "--to", "2026-09-03", "-y", code=4)


def test_schedules_lists_what_is_due_in_order(fresh: Stack) -> None:
    items = fresh.items("schedules", "--next", "2d", "-n", "5")
    assert {each["graph"] for each in items} == {"often"}
    assert [each["tick"] for each in items] == sorted(each["tick"] for each in items)
    daily = fresh.items("schedules", "daily", "--next", "3d")
    assert len(daily) in (2, 3)
    assert all(each["paused"] is None for each in daily)
    assert "often" in fresh.tm("schedules", "--next", "3s")
