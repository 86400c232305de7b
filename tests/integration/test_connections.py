"""Connections of a worker repeat nothing by themselves: a claim that is asked for twice needs the word that says so."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import redis

from tests.store.stage import SINGLE, plan
from tests.waiting import wait_for
from tm.states import Outcome
from tm.store.records import Ask, NewRun, Report
from tm.store.store import Store
from tm_worker.service import connect

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.servers import Server


@pytest.fixture
def worker_store(server: Server) -> Iterator[Store]:
    client = connect(server.url)
    yield Store(client)
    client.close()


def calls(server: Server) -> int:
    """Calls of functions that the server has seen."""
    client: Any = server.client()
    try:
        return int(client.info("commandstats").get("cmdstat_fcall", {"calls": 0})["calls"])
    finally:
        client.close()


def ask(token: str = "ask") -> Ask:
    return Ask(worker="w", lease_ms=30_000, token=token, queues=("default",), count=1)


@pytest.mark.parametrize("what", ["take", "finish"])
@pytest.mark.parametrize("error", [redis.ConnectionError("cut off"), redis.TimeoutError("no answer")], ids=type)
def test_a_reply_that_is_lost_is_the_callers_to_deal_with(
    server: Server, worker_store: Store, monkeypatch: pytest.MonkeyPatch, what: str, error: Exception
) -> None:
    store = worker_store
    store.start(plan(SINGLE), [NewRun(id="r0"), NewRun(id="r1")])
    store.announce("w", ["g"], {}, 60_000)
    [claim] = store.take(ask("first")).claims
    report = Report(claim.job, claim.token, Outcome.SUCCESS, b"\xc0")
    before = calls(server)

    def lost(*_: object, **__: object) -> object:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr("redis.connection.AbstractConnection.read_response", lost, raising=False)
        patch.setattr("redis.connection.Connection.read_response", lost, raising=False)
        patch.setattr("redis.connection.UnixDomainSocketConnection.read_response", lost, raising=False)
        with pytest.raises(type(error)):
            store.take(ask()) if what == "take" else store.finish(ask(), [report])
    wait_for(lambda: calls(server) > before, "the server to have heard it")
    again = Ask(worker="w", lease_ms=30_000, token="ask", queues=("default",), count=1, again=True)
    if what == "take":
        grant = store.take(again)
    else:
        _, grant = store.finish(again, [report])
    assert [claim.run for claim in grant.claims] == ["r1"]
    assert calls(server) - before == 2, "once by itself, and once because we said so"


def test_the_connections_of_a_worker_have_no_retries(server: Server) -> None:
    for url in (server.url, "redis://localhost:1/0"):
        client = connect(url)
        retry = client.connection_pool.connection_kwargs["retry"]
        assert retry._retries == 0
        assert client.connection_pool.connection_kwargs["health_check_interval"] == 0
        client.close()
