"""A doorbell that a worker hears in the moment in which it is told to end rings again, for another worker."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from tests.integration.exchanging import exchange_of
from tests.store.stage import SINGLE, Stage, plan
from tm import codec
from tm.states import Outcome
from tm.store.records import Ask, NewRun, Report
from tm.store.store import Store
from tm_worker.executors import Ended, Spawn
from tm_worker.service import connect
from tm_worker.supervisor import Supervisor

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import redis

    from tests.servers import Server
    from tm_worker.wire import Wire


class Stand:
    """An exchange that is known to the server, with two idle executors, and one attempt whose bell it has heard."""

    def __init__(self, client: redis.Redis, wire: Wire, home: Path) -> None:
        self.stage, self.now = Stage(client), time.monotonic()
        self.store = Store(wire, library=self.stage.library)
        self.supervisor = Supervisor(2, grace=1.0)
        for action in self.supervisor.tick(self.now):
            if isinstance(action, Spawn):
                self.supervisor.born(action.number, self.now)
        self.exchange = exchange_of(self.store, self.supervisor, home)
        self.exchange.turn(self.now)
        assert self.exchange.may_sleep(self.now)

    def hear(self) -> None:
        self.store.start(plan(SINGLE), [NewRun(id="heard")])
        self.exchange.rung(self.stage.client.lpop(self.stage.keys.bell("default")).decode(), self.now)
        assert self.stage.bells() == []

    def handed_back(self) -> None:
        assert self.stage.bells() == ["heard_0_1"]
        assert self.store.state("heard") == "queued"
        assert not self.supervisor.held
        assert self.exchange.quiet


@pytest.fixture
def stand(server: Server, client: redis.Redis, tmp_path: Path) -> Iterator[Stand]:
    wire = connect(server.url)
    yield Stand(client, wire, tmp_path)
    wire.close()


def test_while_it_goes_on_it_takes_what_the_bell_rang_for(stand: Stand) -> None:
    stand.hear()
    stand.exchange.turn(stand.now)
    assert [held.claim.run for held in stand.supervisor.held.values()] == ["heard"]


@pytest.mark.parametrize("limit", [None, 0.0, 30.0])
def test_an_idle_worker_hands_it_back(stand: Stand, limit: float | None) -> None:
    stand.hear()
    stand.supervisor.drain(stand.now, limit)
    stand.exchange.turn(stand.now)
    stand.handed_back()
    assert stand.supervisor.finished


def test_so_does_one_that_has_a_last_report(stand: Stand) -> None:
    stand.store.start(plan(SINGLE), [NewRun(id="done")])
    (claim,) = stand.store.take(Ask(worker="w", lease_ms=30_000, token="ask", queues=("default",), count=1)).claims
    stand.hear()
    report = Report(claim.job, claim.token, Outcome.SUCCESS, codec.encode(1), ms=1)
    stand.supervisor.ended.append(Ended(report, None, None))
    stand.supervisor.drain(stand.now, None)
    stand.exchange.turn(stand.now)
    stand.handed_back()
    assert stand.store.state("done") == "success"
