"""Understanding from a terminal: why, show, queues, workers, events, on real servers, schedulers and workers."""

from __future__ import annotations

import functools
import json
import os
import re
import signal
import subprocess
from datetime import UTC
from typing import TYPE_CHECKING, Any

import pytest

from tests.servers import Server
from tests.system.terminal import BIN, Terminal, environment, run
from tests.waiting import wait_for
from tm.config import Settings
from tm.insight import Insight
from tm.store.store import Store
from tm.wiring import open_lookup

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tm.lookup import Lookup

GRAPHS = """
import pathlib, time
from tm import Graph, task
here = pathlib.Path(__file__).parent

@task()
def extract(day="monday"): return {"day": day, "colour": "\\x1b[31mred"}
@task()
def clean(extract): return extract
@task(retries=5, retry_delay=60, backoff=1)
def load(extract): raise RuntimeError("no space")
@task()
def report(load, clean): return f"{load} rows"
etl = Graph("etl")
etl.add_edges([extract], [clean, load])
etl.add_edges([clean, load], [report])

@task(queue="gpu")
def train(extract): return 1
@task()
def publish(train): return 2
model = Graph("model")
model.add_edges([extract], [train])
model.add_edges([train], [publish])

@task(timeout=300)
def slow():
    while not (here / "enough").exists():
        time.sleep(0.05)
long = Graph("long")
long.add_edges([slow])

@task()
def boom(extract): raise ValueError("bad value")
@task()
def never(boom): return 1
broken = Graph("broken")
broken.add_edges([extract], [boom])
broken.add_edges([boom], [never])

daily = Graph("daily", "0 6 * * *", timezone="Europe/Berlin")
daily.add_edges([extract])
held = Graph("held", "* * * * * *", overlap="queue")
held.add_edges([slow])
unreadable = Graph("unreadable", "* * * * * *", config="broken.json")
@task()
def configured(config): return config
unreadable.add_edges([configured])
"""
OTHER = """
from tm import Graph, task
@task()
def only(): return 1
other = Graph("other")
other.add_edges([only])
"""


class Place:
    """A server, a directory with graph files, services in terminals of their own, and a person who asks."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.server = Server(persist=True).start()
        self.settings = {
            "TM_URL": self.server.url,
            "TM_LEASE": "3",
            "TM_GRACE": "1",
            "TM_TZ": "UTC",
            "TM_RESULT_TTL": "2",
        }
        self.client = self.server.client()
        self.store = Store(self.client)
        self.services: list[Terminal] = []
        (directory / "graphs.py").write_text(GRAPHS)
        (directory / "other.py").write_text(OTHER)
        (directory / "broken.json").write_text("{bad")

    @functools.cached_property
    def lookup(self) -> Lookup:
        home = self.directory / ".tm"
        wait_for((home / "history.db").exists, "a history")
        return open_lookup(Settings.from_environment(url=self.server.url, home=str(home)), self.store)

    def service(self, *command: str, ready: str) -> Terminal:
        folder = self.directory / f"service-{len(self.services)}"
        folder.mkdir()
        settings = self.settings | {"TM_HOME": str(self.directory / ".tm")}
        words = [str(self.directory / word) if word.endswith(".py") else word for word in command]
        terminal = Terminal(folder, *words, **settings)
        self.services.append(terminal)
        terminal.shows(ready)
        return terminal

    def tm(self, *words: str, code: int = 0) -> str:
        done = run(self.directory, "tm", *words, **self.settings)
        assert done.returncode == code, f"{words} ended with {done.returncode}: {done.stdout}{done.stderr}"
        assert "Traceback" not in done.stderr
        return done.stdout if code == 0 else done.stderr

    def items(self, *words: str) -> list[dict[str, Any]]:
        document = json.loads(self.tm("--json", *words))
        assert re.fullmatch(r"tm\.[a-z]+/1", document["schema"])
        return list(document["items"])

    def start(self, graph: str) -> str:
        return self.tm("-q", "trigger", graph).strip()

    def why(self, what: str) -> dict[str, Any]:
        [found] = self.items("why", what)
        return found

    def says(self, what: str, code: str) -> str:
        """The sentence, once the reason is this one; asked in this process, for a command costs a third of a second."""
        insight = Insight(self.lookup, UTC)

        def so() -> str:
            found = insight.why(what)
            return found.sentence if found.code == code else ""

        try:
            return wait_for(so, f"{what} to be {code}", 20, 0.05)
        except AssertionError as error:
            error.add_note(f"it is {insight.why(what)}")
            raise

    def close(self) -> None:
        for each in self.services:
            if each.process.poll() is None:
                os.killpg(each.process.pid, signal.SIGKILL)
                each.process.wait()
        if self.lookup.history is not None:
            self.lookup.history.close()
        self.client.close()
        self.server.close()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    found = Place(tmp_path_factory.mktemp("why"))
    try:
        found.service("tm-scheduler", "graphs.py", ready="leading")
        found.service("tm-worker", "graphs.py", "--queue", "default", "--processes", "2", ready="worker ready")
        yield found
    finally:
        found.close()


@pytest.fixture
def tidy(place: Place) -> Iterator[Place]:
    """The place, whose open runs end with the test."""
    place.tm("pause", "held")
    # it ticks from the beginning on, and what it began would keep an executor busy
    place.tm("cancel", "--graph", "held", "--force", "-y")
    wait_for(lambda: not any(each["tasks"] for each in place.items("workers")), "all executors to be free", 30, 0.2)
    (place.directory / "enough").unlink(missing_ok=True)
    yield place
    (place.directory / "enough").touch()
    for graph in ("etl", "model", "long", "held"):
        place.tm("cancel", "--graph", graph, "--force", "-y")
    place.client.delete("rq:suspended")


def test_a_queue_without_a_worker_is_named_by_whoever_waits_for_it(tidy: Place) -> None:
    name = tidy.start("model")
    said = tidy.says(name, "no_worker")
    assert said == f"run {name} is running, 1 of 3 tasks done: `train` is queued: queue `gpu` has never had a worker."
    assert (
        tidy.why(f"{name}/publish")["sentence"]
        == "`publish` waits for `train`, which is queued: queue `gpu` has never had a worker."
    )
    [gpu] = [each for each in tidy.items("queues") if each["name"] == "gpu"]
    assert (gpu["waiting"], gpu["live_workers"], gpu["heartbeat_at"]) == (1, 0, None)
    assert re.search(r"gpu +1 .*never had a worker", tidy.tm("queues"))

    worker = tidy.service("tm-worker", "graphs.py", "--queue", "gpu", "--processes", "1", ready="worker ready")
    tidy.says(name, "success")
    os.killpg(worker.process.pid, signal.SIGTERM)
    worker.process.wait(20)
    again = tidy.start("model")
    assert re.search(
        r"`train` is queued: no live worker on queue `gpu` since \d\d:\d\d:\d\d \(\d+ s\)\.",
        tidy.says(again, "no_worker"),
    )
    assert "Next: start one: `tm-worker FILE --queue gpu`" in tidy.tm("why", again)


def test_a_retry_is_explained_to_whoever_waits_for_it(tidy: Place) -> None:
    name = tidy.start("etl")
    tidy.says(name, "retrying")
    delay = r"retry 1 of 5 at \d\d:\d\d:\d\d, in \d+ s = 1 min; attempt 1 failed with RuntimeError: no space \(graphs\.py, line \d+\)\."
    assert re.fullmatch(
        rf"run {name} is running, 2 of 4 tasks done: `load` is retrying: {delay}", tidy.why(name)["sentence"]
    )
    waits = tidy.why(f"{name}/report")
    assert re.fullmatch(rf"`report` waits for `load`, which is retrying: {delay}", waits["sentence"])
    assert (waits["code"], waits["facts"]["root"], waits["facts"]["error_message"]) == ("waiting", "load", "no space")
    assert tidy.why(f"{name}/clean")["code"] == "success"


def test_all_executors_busy_then_suspended_then_free(tidy: Place) -> None:
    runs = [tidy.start("long") for _ in range(2)]
    for name in runs:
        said = tidy.says(name, "running")
        assert re.search(
            r"`slow` runs on worker `\S+` (\(\S+\) )?since \d\d:\d\d:\d\d \(\d+ s\); last heartbeat ", said
        )
        assert "lease until" in said
        assert "times out at" in said
    third = tidy.start("etl")
    fourth = tidy.start("etl")
    assert re.search(r"all 2 executors of worker `\S+` are busy with `long\.slow`", tidy.says(third, "busy"))
    assert "1 attempt is ahead of it in queue `default`" in tidy.says(fourth, "busy")
    [worker] = tidy.items("workers")
    assert (worker["state"], worker["executors"], [each["run"] for each in worker["tasks"]]) == ("busy", 2, runs)
    assert worker["graphs"]["long"] == tidy.items("show", "long")[0]["version"]
    tidy.client.set("rq:suspended", 1)
    assert "all workers are suspended (`rq suspend`)" in tidy.says(third, "suspended")
    assert "`rq resume` ends that" in tidy.tm("queues")
    tidy.client.delete("rq:suspended")
    (tidy.directory / "enough").touch()
    tidy.says(third, "retrying")


def test_a_failure_is_told_where_it_blocks(tidy: Place) -> None:
    name = tidy.start("broken")
    assert re.fullmatch(
        rf"run {name} failed at \S+ \((.* ago|just now)\): `boom` failed with ValueError: bad value \(graphs\.py, line \d+\)\.",
        tidy.says(name, "failed"),
    )
    assert re.match(
        r"`never` will not run: `boom` failed at .* with ValueError: bad value", tidy.why(f"{name}/never")["sentence"]
    )
    following = tidy.tm("why", f"{name}/never").splitlines()[1]
    heed = r"; if its file was changed, first restart worker `\S+`, which still has version `\w+`"
    assert re.fullmatch(f"Next: `tm retry {name}`{heed}", following)


def test_what_the_server_has_forgotten_is_known_from_history(tidy: Place) -> None:
    name = tidy.start("daily")
    tidy.says(name, "success")
    wait_for(lambda: not tidy.client.exists(tidy.store.keys.run(name)), "the server to forget the run")
    assert tidy.why(name)["code"] == "success"
    assert re.match(r"`extract` succeeded at .* after ", tidy.why(f"{name}/extract")["sentence"])
    events = [each["what"] for each in tidy.items("events", name)]
    assert events == ["run_created", "attempt_ended", "run_ended"]


def test_a_graph_says_what_keeps_it(tidy: Place) -> None:
    assert tidy.why("etl")["code"] == "manual"
    assert re.search(r"runs next (at|on) .*0?6:00:00 Europe/Berlin, in ", tidy.says("daily", "next_tick"))
    tidy.tm("pause", "daily", "--reason", "a move", "--until", "2h")
    assert re.fullmatch(
        r"graph `daily` is paused by \S+@\S+ since \S+ \(\d+ s\) until .*\(a move\)\.", tidy.says("daily", "paused")
    )
    assert re.search(r"daily .* paused by \S+ until .* \(a move\)", tidy.tm("graphs", "--paused"))
    tidy.tm("resume", "daily", "--catch-up", "skip")
    tidy.tm("resume", "held", "--catch-up", "skip")
    # what `tidy` cancelled may still count for a moment: "the open run has just ended"
    held = r'holds its tick of .* back, overlap="queue": `held-\S+` is open'
    wait_for(lambda: re.search(held, tidy.says("held", "held")), "a tick held back by an open run", 20)
    said = tidy.says("unreadable", "next_tick")
    assert re.search(r"its last tick, \S+, failed before it began: config file .*broken\.json, line 1", said)


def test_a_run_is_drawn_with_its_states_and_told_by_attempts(tidy: Place) -> None:
    name = tidy.start("etl")
    tidy.says(name, "retrying")
    out = tidy.tm("show", name, "--messages", "--events")
    assert "✓ extract success ─┬── ✓ clean success ─┬── · report waiting" in out
    assert "                   └── ↻ load retrying ─┘" in out
    assert re.search(r"load +retrying +1 +\d\d:\d\d:\d\d .* again in \d+\.\d s; RuntimeError: no space", out)
    assert r'{"day": "monday", "colour": "\u001b[31mred"}' in out, "nothing a terminal obeys"
    assert "\x1b" not in out
    assert re.search(r"load: attempt 1 failed in .*, retrying  RuntimeError: no space|load: attempt 1 failed in ", out)
    assert "Run " + name in out
    assert tidy.tm("show", name, "--graph", "ascii").splitlines()[1].strip().startswith("+-- ~ load retrying")
    assert tidy.tm("show", name, "--graph", "dot").startswith('digraph "etl" {')
    assert "t0 --> t1" in tidy.tm("show", name, "--graph", "mermaid")
    plain = run(tidy.directory, "tm", "show", name, **tidy.settings, PYTHONIOENCODING="ascii")
    assert "+ extract success -+-- + clean success -+-- . report waiting" in plain.stdout
    assert plain.stderr == ""
    [found] = tidy.items("show", name, "--messages", "--events")
    assert found["messages"]["clean"]["day"] == "monday"
    assert found["messages"]["load"] is None
    assert ["extract", "load"] in found["edges"]
    assert "has no task 'lode'; did you mean 'load'?" in tidy.tm("show", f"{name}/lode", code=3)
    assert "has an attempt 7" in tidy.tm("show", name, "--attempt", "7", code=3)
    one = tidy.tm("show", f"{name}/load", "--attempt", "1")
    assert "Traceback" in one
    assert "extract" not in one.replace("def load(extract)", "")


def test_a_graph_is_shown_with_rules_ticks_and_runs(tidy: Place) -> None:
    out = tidy.tm("show", "daily")
    assert re.search(r"schedule +0 6 \* \* \* \(Europe/Berlin\): ", out)
    assert re.search(r"^next .*06:00:00.* Europe/Berlin$", out, re.MULTILINE)
    out = tidy.tm("show", "etl")
    assert "extract ─┬── clean ─┬── report" in out
    assert re.search(r"^load +default +5 after 1 min x 2\^n +extract$", out, re.MULTILINE)
    [found] = tidy.items("show", "etl")
    assert [each["parents"] for each in found["tasks"]] == [[], ["extract"], ["extract"], ["clean", "load"]]


def test_names_that_are_nobodys_are_exit_code_3_with_what_was_meant(tidy: Place) -> None:
    assert "there is no run or graph 'dayly'; did you mean 'daily'?" in tidy.tm("why", "dayly", code=3)
    assert "there is no run" in tidy.tm("why", "dayly@last", code=3)
    assert "--from" in tidy.tm("events", "--from", "yesterday", code=2)


def test_events_are_followed_until_ctrl_c_and_none_is_left_out(tidy: Place) -> None:
    log = tidy.directory / "events.jsonl"
    with log.open("wb") as out:
        follower = subprocess.Popen(
            [str(BIN / "tm"), "events", "-f", "--jsonl", "-n", "0", "broken"],
            cwd=tidy.directory, env=environment(**tidy.settings), stdout=out, stderr=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip
    try:

        def listening() -> int:
            return sum(each["cmd"] == "xread" for each in tidy.client.client_list())

        wait_for(lambda: listening() >= 2, "it to listen, besides the archiver")
        runs = [tidy.start("broken") for _ in range(3)]

        def told() -> list[dict[str, Any]]:
            return [json.loads(line) for line in log.read_text().splitlines()]

        wait_for(lambda: sum(each["what"] == "run_ended" for each in told()) == 3, "the ends of the runs", 20)
        for name in runs:
            mine = [(each["what"], each["task"]) for each in told() if each["run"] == name]
            assert mine == [
                ("run_created", None),
                ("attempt_ended", "extract"),
                ("attempt_ended", "boom"),
                ("task_closed", "never"),
                ("run_ended", None),
            ]
        assert {each["run"] for each in told()} == set(runs), "of other graphs nothing"
        os.killpg(follower.pid, signal.SIGINT)
        assert follower.wait(10) == 130
        assert follower.stderr is not None
        assert follower.stderr.read() == b""
    finally:
        if follower.poll() is None:
            follower.kill()
        follower.communicate()
    first = next(each for each in told() if each["run"] == runs[1])
    rest = [
        each["run"]
        for each in map(json.loads, tidy.tm("events", "broken", "--jsonl", "--from", first["id"]).splitlines())
    ]
    assert {runs[1], runs[2]} <= set(rest)


def test_a_reader_of_events_that_goes_away_ends_them_quietly(tidy: Place) -> None:
    done = subprocess.run(
        f"{BIN / 'tm'} events -f -n 100 | head -1; echo ${{PIPESTATUS[0]}}",
        shell=True, executable="/bin/bash", cwd=tidy.directory, env=environment(**tidy.settings), capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert done.stderr == ""
    assert done.stdout.splitlines()[-1] == "0"


def test_a_server_that_is_away_is_exit_code_5(tidy: Place) -> None:
    for words in (("why", "etl"), ("show", "etl"), ("queues",), ("workers",), ("events", "-f")):
        done = run(tidy.directory, "tm", "--url", "redis://127.0.0.1:1", *words)
        assert (done.returncode, done.stdout) == (5, ""), words
        assert done.stderr.startswith("tm: cannot reach the server at redis://127.0.0.1:1: ")
        done = run(tidy.directory, "tm", "--home", str(tidy.directory / "nowhere"), *words)
        assert done.returncode in (3, 5), words
        assert done.stderr.count("\n") == 1


def test_when_services_die_it_is_said(tmp_path: Path) -> None:
    """The last worker is killed, the leader resigns, and another takes over who has only another file."""
    place = Place(tmp_path)
    try:
        scheduler = place.service("tm-scheduler", "graphs.py", ready="leading")
        worker = place.service("tm-worker", "graphs.py", "--queue", "default", "--processes", "1", ready="worker ready")
        place.tm("pause", "held")
        place.tm("cancel", "--graph", "held", "--force", "-y")
        name = place.start("long")
        place.says(name, "running")
        os.killpg(worker.process.pid, signal.SIGKILL)
        said = place.says(name, "running_unheard")
        assert "but that worker has not been heard of since" in said
        assert {each["state"] for each in place.items("workers", "--all")} <= {"silent", "lost"}
        wait_for(lambda: place.items("workers") == [], "the worker to be forgotten", 20, 0.2)
        assert [each["state"] for each in place.items("workers", "--all")] == ["lost"]
        said = place.says(name, "no_worker")
        assert re.search(
            r"again, after attempt 1 was lost with its worker: no live worker on queue `default` since ", said
        )

        place.service("tm-worker", "other.py", "--queue", "default", ready="worker ready")
        said = place.says(name, "not_loaded")
        assert re.search(r"the only live worker of queue `default`, `\S+`, has not loaded graph `long`\.", said)

        os.killpg(scheduler.process.pid, signal.SIGTERM)
        scheduler.process.wait(20)
        assert re.search(r"makes no ticks: no scheduler leads since \d\d:\d\d:\d\d", place.says("daily", "no_leader"))
        place.service("tm-scheduler", "other.py", ready="leading")
        assert re.search(
            r"is not on the clock: the leading scheduler, `\S+`, has not loaded it",
            place.says("daily", "not_on_leader"),
        )
        assert place.why("other")["code"] == "manual"
    finally:
        place.close()
