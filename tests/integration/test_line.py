"""A line that rests is told of nothing that somebody else waits for, whether the server has heard of the rest or not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.waiting import wait_for
from tm.states import RunState
from tm.store.line import FEW_LEFT
from tm.store.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.servers import Server
    from tm.store.line import Line


@pytest.fixture
def store(server: Server) -> Iterator[Store]:
    client = server.client()
    yield Store(client)
    client.close()


@pytest.fixture
def line(store: Store) -> Iterator[Line]:
    store.load()
    line = store.line()
    yield line
    line.close()


def publish(store: Store, run: str) -> int:
    """Tell of its end; returns how many were told."""
    redis: Any = store.client
    return int(redis.publish(store.ended_channel(run), "success"))


@pytest.mark.parametrize("many", [1, FEW_LEFT, FEW_LEFT + 1])
def test_what_was_waited_for_before_a_rest_is_not_heard_after_it(store: Store, line: Line, many: int) -> None:
    before = [f"before{number}" for number in range(many)]
    assert [seen.state for seen in line.look(before, listen=before)] == [None] * many
    line.rest()
    publish(store, before[0])
    assert line.wake()
    line.look(["after"], listen=["after"])
    publish(store, before[-1])
    assert publish(store, "after") == 1
    heard = line.heard(10)
    assert heard is not None
    assert (heard.run, heard.state) == ("after", RunState.SUCCESS)
    assert line.heard(0) is None


def test_a_run_that_is_waited_for_again_after_a_rest_is_heard(store: Store, line: Line) -> None:
    line.look(["again"], listen=["again"])
    line.rest()
    assert line.wake()
    line.look(["again"], listen=["again"])
    assert publish(store, "again") == 1
    heard = line.heard(10)
    assert heard is not None
    assert heard.run == "again"


def test_the_server_stops_telling_of_many_runs_at_once(store: Store, line: Line) -> None:
    runs = [f"r{number}" for number in range(FEW_LEFT + 1)]
    line.look(runs, listen=runs)
    line.rest()
    wait_for(lambda: publish(store, runs[0]) == 0, "the server to have heard of the rest")
