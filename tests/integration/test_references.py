"""What a run may be called: ids, beginnings of ids, GRAPH@last, GRAPH@failed, GRAPH@TICK; and what is said of a slip."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import pytest

from tm import Graph, task
from tm.client import Client
from tm.errors import NotFoundError
from tm.lookup import Lookup
from tm.states import Outcome, RunState
from tm.store import packing
from tm.store.records import Ask, NewRun, Report

if TYPE_CHECKING:
    from tm.store.store import Store

TICK = datetime(2026, 11, 24, 4, 5, tzinfo=UTC)


@task()
def root() -> None: ...


@pytest.fixture
def client(store: Store) -> Client:
    etl = Graph("etl", "0 * * * *", timezone="Europe/Berlin")
    etl.add_edges([root])
    store.define(etl.plan, etl.about(ZoneInfo("UTC")))
    client = Client(store, Lookup(store))
    client.submit(etl, tick=TICK)
    return client


@pytest.mark.parametrize(
    "name",
    [
        "etl-20261124T040500Z",
        "etl-20261124T04",
        "etl@last",
        "etl@2026-11-24T04:05Z",
        "etl@2026-11-24T04:05:00+00:00",
        "etl@2026-11-24 05:05",  # on the clock of the graph's own zone
        "etl@20261124T040500Z",  # as the id has it
    ],
)
def test_a_run_has_many_names(client: Client, name: str) -> None:
    assert client.run(name).id == "etl-20261124T040500Z"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("etl@2026-11-24T05:05Z", "there is no run 'etl@2026-11-24T05:05Z'; `tm runs etl` lists those of the graph"),
        ("elt@last", "there is no run 'elt@last'; did you mean 'etl@last'?"),
        ("Etl@2026-11-24", "there is no run 'Etl@2026-11-24'; did you mean 'etl@2026-11-24'?"),
        ("etl@failed", "there is no run 'etl@failed'; graph 'etl' has none that failed"),
        ("invoices@last", "there is no run 'invoices@last'; `tm graphs` lists the graphs there are"),
        ("etl-20261124T040500", None),  # a beginning
        ("etl-20261124T04O500Z", "there is no run 'etl-20261124T04O500Z'; did you mean 'etl-20261124T040500Z'?"),
        ("zzz", "there is no run 'zzz'; `tm runs` lists those there are"),
    ],
)
def test_a_slip_is_answered_with_what_was_meant(client: Client, name: str, said: str | None) -> None:
    if said is None:
        assert client.run(name).graph == "etl"
        return
    with pytest.raises(NotFoundError) as caught:
        client.run(name)
    assert str(caught.value) == said


def test_after_the_at_comes_a_tick(client: Client) -> None:
    with pytest.raises(NotFoundError, match="after the @ comes last, failed or a tick: 2026-11-24, "):
        client.run("etl@yesterday")


def test_a_graph_that_nobody_announced_is_guessed_too(client: Client) -> None:
    from tm.requests import known

    with pytest.raises(NotFoundError, match=r"has announced a graph 'elt'; did you mean 'etl'\?"):
        known(client, "elt")
    with pytest.raises(NotFoundError, match=r"has announced a graph 'nothing like it'; known are etl$"):
        known(client, "nothing like it")


@pytest.mark.parametrize("outcome", [Outcome.SUCCESS, Outcome.FAILED])
def test_a_run_that_has_just_ended_is_found_before_history_knows_of_it(client: Client, outcome: Outcome) -> None:
    store = client.store
    store.announce("w", ["etl"], {}, 60_000)
    ask = Ask(worker="w", lease_ms=30_000, token="ask", queues=("default",), count=1)
    [claim] = store.take(ask).claims
    store.finish(ask, [Report(claim.job, claim.token, outcome, b"\xc0" if outcome is Outcome.SUCCESS else b"", ms=1)])
    assert store.open_runs() == []
    assert client.run("etl@last").state.value == outcome.value
    assert [run.id for run in client.lookup.runs("etl")] == ["etl-20261124T040500Z"]
    assert client.lookup.runs("another") == []
    if outcome is Outcome.FAILED:
        assert client.run("etl@failed").id == "etl-20261124T040500Z"


def test_of_runs_that_have_just_ended_the_last_is_the_one_created_last(client: Client) -> None:
    """Whatever the order in which they end, and how much the server has to tell history before."""
    store = client.store
    store.announce("w", ["etl"], {}, 60_000)
    plan = store.plan(packing.text(store.client.hget(store.keys.run("etl-20261124T040500Z"), "plan")))
    assert plan is not None
    for _ in range(150):
        store.client.xadd(store.keys.events, {"d": b"\x80"})
    for run in ("old", "new"):
        assert store.start_one(plan, NewRun(run))
        time.sleep(0.002)
    ask = Ask(worker="w", lease_ms=30_000, token="ask", queues=("default",), count=3)
    claims = {claim.run: claim for claim in store.take(ask).claims}
    for run, outcome in (("new", Outcome.FAILED), ("old", Outcome.SUCCESS)):
        store.finish(ask, [Report(claims[run].job, claims[run].token, outcome, b"\xc0", ms=1)])
    assert client.run("etl@last").id == "new"
    assert client.run("etl@failed").id == "new"
    assert [run.id for run in client.lookup.runs("etl", limit=1)] == ["new"]
    assert [run.id for run in client.lookup.runs("etl", state=RunState.SUCCESS)] == ["old"]
