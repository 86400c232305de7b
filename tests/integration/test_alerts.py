"""Alerts of real schedulers to a real web server: nothing is lost, whoever is killed, slow or away."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, Any

import pytest

from tests.integration.scheduling import Schedulers
from tests.unit.test_webhook import KEY, Receiver, receiving, status, verified
from tests.waiting import wait_for
from tm.history import open_history
from tm.ids import new_token
from tm.states import Outcome
from tm.store.records import Ask, NewRun, Report

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.servers import Server
    from tm.graph import Graph

GRAPHS = """
from tm import Graph, task

@task()
def work(): ...

graph = Graph("alarming", deadline=DEADLINE)
graph.add_edges(work)
"""


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as one:
        yield one


@pytest.fixture
def schedulers(
    server: Server, tmp_path: Path, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Schedulers]:
    monkeypatch.setenv("TM_WEBHOOK_URL", receiver.url)
    monkeypatch.setenv("TM_WEBHOOK_SECRET", KEY.decode())
    found = Schedulers(server, tmp_path, GRAPHS.replace("DEADLINE", "None"))
    yield found
    found.close()


def graph_of(schedulers: Schedulers) -> Graph:
    from tm.loader import load

    return load(schedulers.file).graphs["alarming"]


def fail(schedulers: Schedulers, *runs: str) -> None:
    """Start runs and fail them in one call, as a worker would."""
    store, graph = schedulers.store, graph_of(schedulers)
    store.announce("w", ["alarming"], {}, 60_000)
    assert all(store.start(graph.plan, [NewRun(id=run) for run in runs]))
    ask = Ask(worker="w", lease_ms=60_000, token=new_token(), queues=("default",), count=len(runs))
    claims = store.take(ask).claims
    assert [claim.run for claim in claims] == [*runs]
    error = b"\x82\xa4type\xaaValueError\xa7message\xa2no"
    store.finish(ask_again(ask), [Report(claim.job, claim.token, Outcome.FAILED, error=error) for claim in claims])


def ask_again(ask: Ask) -> Ask:
    from dataclasses import replace

    return replace(ask, token=new_token(), count=0)


def arrived(receiver: Receiver, runs: list[str], timeout: float = 15.0) -> list[dict[str, Any]]:
    """The messages of these runs, in the order in which they were first taken."""

    def all_there() -> bool:
        return {body["run"] for body in receiver.bodies} >= set(runs)

    wait_for(all_there, f"alerts of {runs}", timeout)
    return receiver.bodies


def test_a_failed_run_is_told_with_its_culprit_signed_once(schedulers: Schedulers, receiver: Receiver) -> None:
    schedulers.start()
    schedulers.leader()
    wait_for(lambda: schedulers.store.client.exists(schedulers.store.keys.webhook), "the events to be read")
    fail(schedulers, "alarming-1")
    [body] = arrived(receiver, ["alarming-1"])
    assert (body["type"], body["task"], body["error"]) == (
        "run.failed",
        "work",
        {"type": "ValueError", "message": "no"},
    )
    assert all(verified(headers, raw, KEY) for headers, raw in receiver.got)
    wait_for(lambda: schedulers.store.scene().backlog == 0, "history to have the events, for they are collected")
    assert len(receiver.got) == 1


def test_what_one_call_makes_fail_is_told_in_messages_of_their_own(schedulers: Schedulers, receiver: Receiver) -> None:
    schedulers.start()
    schedulers.leader()
    wait_for(lambda: schedulers.store.client.exists(schedulers.store.keys.webhook), "the events to be read")
    runs = [f"alarming-{number}" for number in range(3)]
    fail(schedulers, *runs)
    bodies = arrived(receiver, runs)
    assert [(body["type"], body["run"]) for body in bodies] == [("run.failed", run) for run in runs]
    assert len({body["id"] for body in bodies}) == len({headers["webhook-id"] for headers, _ in receiver.got}) == 3
    assert all(verified(headers, raw, KEY) for headers, raw in receiver.got)
    wait_for(lambda: schedulers.store.scene().backlog == 0, "history to have the events, for they are collected")
    assert len(receiver.got) == 3


def test_a_receiver_that_fails_and_stalls_gets_all_in_order_in_the_end(
    schedulers: Schedulers, receiver: Receiver
) -> None:
    tries: list[str] = []

    def moody(handler: Any) -> None:
        tries.append(receiver.bodies[-1]["run"])
        if len(tries) == 1:
            status(handler, 500)
        elif len(tries) == 2:
            handler.connection.close()
        else:
            status(handler, 200)

    receiver.answer = moody
    schedulers.start()
    schedulers.leader()
    wait_for(lambda: schedulers.store.client.exists(schedulers.store.keys.webhook), "the events to be read")
    for number in (1, 2, 3):
        fail(schedulers, f"alarming-{number}")
    arrived(receiver, ["alarming-1", "alarming-2", "alarming-3"], 40.0)
    assert tries == ["alarming-1"] * 3 + ["alarming-2", "alarming-3"]
    assert len({headers["webhook-id"] for headers, _ in receiver.got}) == 3, "a repeat has the same id"


def test_what_is_refused_is_given_up_and_history_knows(schedulers: Schedulers, receiver: Receiver) -> None:
    receiver.answer = lambda handler: status(handler, 410)
    process = schedulers.start()
    schedulers.leader()
    wait_for(lambda: schedulers.store.client.exists(schedulers.store.keys.webhook), "the events to be read")
    fail(schedulers, "alarming-1")
    history = open_history(schedulers.history_url)

    def noted() -> list[tuple[str, str, str]]:
        return [(each.kind, each.what, each.outcome) for each in history.notices("alarming-1")]

    wait_for(lambda: noted() == [("webhook", "run.failed", "given up")], "history to know")
    assert schedulers.says(process, "alert given up")
    assert not schedulers.says(process, "T0KEN"), "the address may be a secret"
    history.close()


def test_a_leader_killed_in_between_loses_nothing(schedulers: Schedulers, receiver: Receiver) -> None:
    receiver.answer = lambda handler: status(handler, 503)
    first = schedulers.start(ttl_ms=1500)
    schedulers.leader()
    wait_for(lambda: schedulers.store.client.exists(schedulers.store.keys.webhook), "the events to be read")
    runs = [f"alarming-{number}" for number in range(4)]
    for run in runs[:2]:
        fail(schedulers, run)
    wait_for(lambda: receiver.got, "the first try")
    first.send_signal(signal.SIGKILL)
    first.wait(10)
    for run in runs[2:]:
        fail(schedulers, run)
    receiver.answer = lambda handler: status(handler, 204)
    schedulers.start(ttl_ms=1500)
    arrived(receiver, runs, 30.0)
    sent = list(dict.fromkeys(body["run"] for body in receiver.bodies))
    assert sent == runs


def test_a_receiver_that_never_answers_holds_up_neither_history_nor_the_end(
    schedulers: Schedulers, receiver: Receiver
) -> None:
    import threading

    hanging = threading.Event()
    receiver.answer = lambda _: hanging.wait(60) and None
    process = schedulers.start()
    schedulers.leader()
    wait_for(lambda: schedulers.store.client.exists(schedulers.store.keys.webhook), "the events to be read")
    fail(schedulers, "alarming-1")
    wait_for(lambda: receiver.got, "the try that hangs")
    fail(schedulers, "alarming-2")
    wait_for(lambda: schedulers.store.scene().backlog == 0, "history to go on")
    os.kill(process.pid, signal.SIGTERM)
    assert process.wait(15) == 0
    assert schedulers.store.client.llen(schedulers.store.keys.outbox) == 2
    hanging.set()


def test_a_late_run_is_told_of_while_it_goes_on(
    server: Server, tmp_path: Path, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TM_WEBHOOK_URL", receiver.url)
    schedulers = Schedulers(server, tmp_path, GRAPHS.replace("DEADLINE", "0.5"))
    try:
        schedulers.start()
        schedulers.leader()
        wait_for(lambda: schedulers.store.client.exists(schedulers.store.keys.webhook), "the events to be read")
        schedulers.store.start(graph_of(schedulers).plan, [NewRun(id="alarming-1")])
        [body] = arrived(receiver, ["alarming-1"])
        assert (body["type"], body["state"], body["trigger"]) == ("deadline.missed", "queued", "manual")
        assert schedulers.store.state("alarming-1") == "queued"
    finally:
        schedulers.close()
