"""A person's night: a graph fails on its clock, is looked at, understood, mended in its file, and repaired.

Each body of a task writes a line into a journal, with the run, so that it shows what ran and how often.
"""

from __future__ import annotations

import json
import re
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

from tests.servers import Server
from tests.system.terminal import Terminal, run
from tests.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from subprocess import CompletedProcess

SALES = """
import pathlib
from tm import Graph, get_context, task

def note(text):
    with (pathlib.Path(__file__).parent / "journal").open("a") as file:
        file.write(f"{get_context().run} {text}\\n")

@task()
def extract():
    note("extract")
    print("42 rows")
    return {"rows": 42, "sold": "17,50"}

@task()
def clean(extract):
    note("clean")
    return extract["rows"]

@task()
def load(extract):
    note("load")
    print("parsing", extract["sold"])
    return float(extract["sold"])

@task()
def report(load, clean):
    note(f"report {load} of {clean}")

@task()
def mail(report):
    note("mail")

sales = Graph("sales", "* * * * * *", overlap="skip")
sales.add_edges([extract], [clean, load])
sales.add_edges([clean, load], [report])
sales.add_edges([report], [mail])
"""
BROKEN, MENDED = 'float(extract["sold"])', 'float(extract["sold"].replace(",", "."))'


class Night:
    """The directory, the settings of the shell, and what the person types."""

    def __init__(self, directory: Path, **settings: str) -> None:
        self.directory, self.settings = directory, settings
        (directory / "sales.py").write_text(SALES)

    def type(self, *words: str, code: int = 0) -> CompletedProcess[str]:
        done = run(self.directory, "tm", *words, **self.settings)
        assert done.returncode == code, f"{words} ended with {done.returncode}: {done.stdout}{done.stderr}"
        return done

    def tm(self, *words: str, code: int = 0) -> str:
        return self.type(*words, code=code).stdout

    def items(self, *words: str) -> list[dict[str, Any]]:
        return list(json.loads(self.tm("--json", *words))["items"])

    def edit(self, old: str, new: str) -> None:
        file = self.directory / "sales.py"
        text = file.read_text()
        assert old in text
        file.write_text(text.replace(old, new))

    def journal(self, run_id: str) -> list[str]:
        lines = [line.partition(" ") for line in (self.directory / "journal").read_text().splitlines()]
        return [text for run, _, text in lines if run == run_id]

    def fails(self) -> str:
        """Wait until a tick has failed, and stop the clock; returns the run."""
        wait_for(lambda: self.type_or_nothing("show", "sales@failed"), "a tick to fail", 30, 0.2)
        assert self.tm("pause", "sales", "--reason", "it fails") == "paused sales\n"
        wait_for(lambda: not self.items("runs", "sales", "--state", "queued,running"), "what was begun to end", 20, 0.2)
        [newest] = self.items("runs", "sales", "--limit", "1")
        assert (newest["state"], newest["trigger"]) == ("failed", "schedule")
        return str(newest["id"])

    def type_or_nothing(self, *words: str) -> bool:
        return run(self.directory, "tm", *words, **self.settings).returncode == 0


def looked_at(night: Night, run_id: str) -> str:
    """What the person sees of the run that failed; returns its version."""
    first = night.tm("runs").splitlines()[1].split()
    assert first[:2] == [run_id, "failed"]
    seen = night.tm("show", "sales@failed")
    assert seen.splitlines()[0].split() == ["run", run_id]
    assert re.search(r"✓ extract success .*✓ clean success", seen)
    assert re.search(r"✗ load failed .*", seen)
    assert re.search(r"⊗ report blocked .*⊗ mail blocked", seen)
    assert f"return {BROKEN}" in seen, "the traceback, with the line"
    logs = night.tm("logs", "sales@failed")
    assert re.search(r"extract +42 rows", logs)
    assert re.search(r"load +parsing 17,50\n", logs)
    assert "ValueError: could not convert string to float: '17,50'" in logs
    for what in (run_id, f"{run_id}/mail"):
        sentence, following = night.tm("why", what).splitlines()
        number = 1 + SALES[: SALES.index(BROKEN)].count("\n")
        assert "`load` failed" in sentence
        assert f"ValueError: could not convert string to float: '17,50' (sales.py, line {number})." in sentence
        assert following.startswith(f"Next: `tm retry {run_id}`; if its file was changed, first restart worker ")
    assert "is paused by" in night.tm("why", "sales")
    assert night.journal(run_id) in (["extract", "clean", "load"], ["extract", "load", "clean"])
    return str(night.items("show", run_id)[0]["version"])


def retried_too_early(night: Night, run_id: str, version: str) -> str:
    """The file is mended, but what has loaded it goes on with what it has: the person is told. Returns the retry."""
    night.edit(BROKEN, MENDED)
    done = night.type("retry", "sales@failed", "--failed", "--wait", code=1)
    early = f"{run_id}-2"
    assert f"run {early} failed in " in done.stdout
    [warning] = [line for line in done.stderr.splitlines() if line.startswith("tm: ")]
    assert "if its file was changed, first restart worker " in warning
    assert f"still has version `{version}`" in warning
    assert f"return {BROKEN}" in night.tm("show", early), "the line that ran, not the one that is in the file by now"
    assert f"still has version `{version}`" in night.tm("why", early)
    return early


def repaired(night: Night, early: str, version: str) -> None:
    """What the person has restarted runs what it has not run yet, and that once."""
    base, late = early.removesuffix("-2"), f"{early.removesuffix('-2')}-3"
    assert night.tm("retry", base, "--failed", "--dry-run").splitlines() == [
        f"run {late} would repair {early} by a newer version of the graph",
        "  runs        load, report, mail",
        "  keeps       extract, clean",
    ]
    done = night.type("retry", "sales@failed", "--failed", "--wait")
    assert f"run {late} repairs {early} by a newer version of the graph" in done.stdout
    assert f"run {late} success in " in done.stdout
    assert done.stderr == "", "nothing to warn of"
    assert night.journal(late) == ["load", "report 17.5 of 42", "mail"]
    assert night.journal(early) == ["load"]
    assert [each["state"] for each in night.items("show", early)[0]["tasks"]].count("blocked") == 2
    assert re.match(f"Run {late} succeeded at", night.tm("why", late))
    [found] = night.items("show", late)
    assert (found["retry_of"], found["version"] == version) == (early, False)


def clean_afterwards(night: Night, run_id: str) -> None:
    """The clock goes on, nothing is left over, and history tells the same."""
    assert night.tm("resume", "sales", "--catch-up", "skip") == "resumed sales\n"
    wait_for(
        lambda: night.items("runs", "sales", "--limit", "1")[0]["state"] == "success", "a tick to succeed", 20, 0.2
    )
    night.tm("pause", "sales")
    verdicts = {each["name"]: each for each in night.items("doctor")}
    bad = [each for name, each in verdicts.items() if each["verdict"] != "ok" and name not in _OF_THE_MACHINE]
    assert bad == []
    late = f"{run_id}-3"
    told = [(each["what"], each["task"], each["state"]) for each in night.items("events", late)]
    assert told[0][0] == "run_created"
    assert told[-1] == ("run_ended", None, "success")
    assert sorted(told[1:3]) == [("tasks_kept", "clean", "success"), ("tasks_kept", "extract", "success")]
    assert [task for what, task, _ in told[3:-1]] == ["load", "report", "mail"]
    assert {what for what, *_ in told[3:-1]} == {"attempt_ended"}


def forgotten(night: Night, run_id: str) -> None:
    """Without a server, history draws the run as it was: by the version of that night, not by the mended one."""
    seen = night.tm("show", run_id)
    assert re.search(r"✓ extract success .*✓ clean success .*⊗ report blocked .*⊗ mail blocked", seen)
    [found] = night.items("show", run_id)
    pairs = ["extract clean", "extract load", "load report", "clean report", "report mail"]
    assert sorted(" ".join(each) for each in found["edges"]) == sorted(pairs)
    assert "-->" in night.tm("show", run_id, "--graph", "mermaid")


#: what `tm doctor` says of the machine, not of ours
_OF_THE_MACHINE = {"time zones", "disk", "memory", "persistence"}


def test_a_night_on_one_terminal(tmp_path: Path) -> None:
    night = Night(tmp_path)
    with Terminal(tmp_path, "tm", "up", "sales.py") as up:
        up.shows("Ctrl-C waits")
        run_id = night.fails()
        version = looked_at(night, run_id)
        early = retried_too_early(night, run_id, version)
        assert up.interrupt() == 0
    with Terminal(tmp_path, "tm", "up", "sales.py") as up:
        up.shows("Ctrl-C waits")
        wait_for(lambda: _announced(night, version), "the mended graph to be announced", 20, 0.2)
        repaired(night, early, version)
        clean_afterwards(night, run_id)
        assert up.interrupt() == 0
    assert up.left() == []
    forgotten(night, run_id)


def _announced(night: Night, version: str) -> bool:
    return any(each["version"] != version for each in night.items("graphs") if each["schedule"])


@pytest.fixture
def url() -> Iterator[str]:
    server = Server(persist=True).start()
    yield server.url
    server.close()


def test_a_night_with_services_of_their_own(tmp_path: Path, url: str) -> None:
    night = Night(tmp_path, TM_URL=url, TM_HISTORY=f"sqlite:///{tmp_path}/history.db")
    for name in ("worker", "scheduler", "worker-2", "scheduler-2"):
        (tmp_path / name).mkdir()

    def start(service: str, place: str) -> Terminal:
        return Terminal(tmp_path / place, service, str(tmp_path / "sales.py"), **night.settings)

    with ExitStack() as services:
        worker = services.enter_context(start("tm-worker", "worker"))
        worker.shows("worker ready")
        scheduler = services.enter_context(start("tm-scheduler", "scheduler"))
        run_id = night.fails()
        version = looked_at(night, run_id)
        early = retried_too_early(night, run_id, version)
        # the operator restarts one of the two first: whichever it is, the other is not forgotten
        assert scheduler.interrupt() == 0
        services.enter_context(start("tm-scheduler", "scheduler-2"))
        wait_for(lambda: _announced(night, version), "the mended graph to be announced", 20, 0.2)
        assert f"still has version `{version}`" in night.type("retry", early, "--dry-run").stderr
        assert f"still has version `{version}`" in night.tm("why", early)
        [skewed] = [each for each in night.items("doctor") if each["name"] == "version sales"]
        assert skewed["verdict"] == "warn"
        assert worker.interrupt() == 0
        services.enter_context(start("tm-worker", "worker-2")).shows("worker ready")
        repaired(night, early, version)
        clean_afterwards(night, run_id)
