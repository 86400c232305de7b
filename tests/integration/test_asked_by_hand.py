"""What somebody asks for: params of a backfill, runs of a paused graph, alike by command and by program."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import pytest

from tm import Graph, codec, task
from tm.backfill import Mode, plan_backfill, run_backfill
from tm.client import Client
from tm.errors import RefusedError
from tm.lookup import Lookup
from tm.requests import known, note_of_pause, note_of_queues, queues_of, trigger

if TYPE_CHECKING:
    from tm.store.store import Store

FROM, TO = datetime(2026, 10, 20, tzinfo=UTC), datetime(2026, 10, 21, tzinfo=UTC)


@task()
def root(day: str = "monday") -> str:
    return day


@pytest.fixture
def graph() -> Graph:
    etl = Graph("etl", "0 * * * *", timezone="UTC")
    etl.add_edges([root])
    return etl


@pytest.fixture
def client(store: Store, graph: Graph) -> Client:
    store.define(graph.plan, graph.about(ZoneInfo("UTC")))
    return Client(store, Lookup(store))


def test_every_run_of_a_backfill_gets_the_params(client: Client) -> None:
    info = known(client, "etl")
    ticks = plan_backfill(client, "etl", info, FROM, TO, Mode.MISSING)
    steps = run_backfill(client, "etl", info, ticks, most=4, by="me", params={"day": "sunday"})
    for _ in range(3):
        view = client.store.run(next(steps).run)
        assert view is not None
        assert codec.decode(view.params) == {"day": "sunday"}


def test_who_starts_a_run_is_told_of_its_paused_queues(client: Client) -> None:
    queues = queues_of(client, "etl")
    assert queues == {"default"}
    client.store.pause_queue("elsewhere", by="me")
    assert note_of_queues(client, queues) == ""
    client.store.pause_queue("default", by="me", reason="a break")
    assert re.fullmatch(
        r"queue 'default' is paused by me since \S+Z \(a break\); what comes into it waits",
        note_of_queues(client, queues),
    )
    assert re.fullmatch(  # on the clock of whoever asks: of today the time alone
        r"queue 'default' is paused by me since (\w{3} \d\d \w{3} )?\d\d:\d\d:\d\d \(a break\); what comes into it waits",
        note_of_queues(client, queues, ZoneInfo("Asia/Tokyo")),
    )
    client.store.resume_queue("default")
    assert note_of_queues(client, queues) == ""


def test_params_that_no_root_takes_start_nothing(client: Client) -> None:
    info = known(client, "etl")
    ticks = plan_backfill(client, "etl", info, FROM, TO, Mode.MISSING)
    with pytest.raises(TypeError, match="has no parameter 'dya'"):
        next(run_backfill(client, "etl", info, ticks, most=4, by="me", params={"dya": 1}))
    assert client.open_runs() == []


def test_a_pause_ends_ticks_and_not_what_is_asked_for(client: Client, graph: Graph) -> None:
    assert note_of_pause(client, "etl") == ""
    client.store.pause("etl", by="me", reason="a break")
    assert client.submit(graph).state == "queued"
    assert client.state(trigger(client, "etl", {})) == "queued"
    assert client.submit(graph, tick=FROM).state == "queued"
    assert "is paused by me since" in note_of_pause(client, "etl")
    info = known(client, "etl")
    ticks = plan_backfill(client, "etl", info, FROM, TO, Mode.MISSING)
    with pytest.raises(RefusedError, match="is paused by me"):
        next(run_backfill(client, "etl", info, ticks, most=4, by="me"))
