"""A worker's calls of functions, without what redis-py does around each command."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest
import redis

from tests.store.stage import SINGLE, plan
from tm.store.lean import FRESH
from tm.store.records import Ask, NewRun
from tm.store.store import Store
from tm_worker.service import connect

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.servers import Server
    from tm_worker.wire import Wire


@pytest.fixture
def wire(server: Server) -> Iterator[Wire]:
    client = connect(server.url)
    yield client
    client.close()


def connections(server: Server) -> list[int]:
    """Numbers of the connections that others than this look have."""
    client: Any = server.client()
    try:
        own = client.client_id()
        return [int(each["id"]) for each in client.client_list() if int(each["id"]) != own]
    finally:
        client.close()


def test_functions_commands_and_pipelines_take_turns_on_one_connection(server: Server, wire: Wire) -> None:
    store, before = Store(wire), set(connections(server))
    for _ in range(3):
        store.announce("w", ["g"], {}, 60_000)
        assert store.server_ms() > 0
        with wire.pipeline() as pipeline:
            pipeline.set("key", "value")
            pipeline.get("key")
            assert pipeline.execute() == [True, b"value"]
        store.announce("w", ["g"], {}, 60_000)
    assert len(set(connections(server)) - before) == 1


def test_a_connection_that_was_closed_while_nobody_used_it_is_replaced(server: Server, wire: Wire) -> None:
    store, before = Store(wire), set(connections(server))
    store.announce("w", ["g"], {}, 60_000)
    [own] = set(connections(server)) - before
    client: Any = server.client()
    client.client_kill_filter(_id=own)
    client.close()
    time.sleep(FRESH + 0.05)
    store.announce("w", ["g"], {}, 60_000)


def test_an_answer_that_nobody_read_is_not_taken_for_the_next(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(wire)
    assert store.cancel("nobody") is False

    def lost(*_: object, **__: object) -> None:
        raise redis.TimeoutError("no answer")

    with monkeypatch.context() as patch:
        patch.setattr(wire._line, "read_response", lost)
        with pytest.raises(redis.TimeoutError):
            store.lead("me", 60_000)
    assert store.cancel("nobody") is False


def test_what_the_server_refuses_leaves_the_connection_as_it_is(server: Server, wire: Wire) -> None:
    store = Store(wire)
    store.announce("w", ["g"], {}, 60_000)
    before = connections(server)
    call: Any = wire.execute_command
    with pytest.raises(redis.ResponseError):
        call("FCALL", "no_such_function", 1, "prefix")
    with pytest.raises(redis.DataError):
        call("FCALL", "no_such_function", 1, {"no": "argument"})
    store.announce("w", ["g"], {}, 60_000)
    assert connections(server) == before


def ask(token: str, count: int) -> Ask:
    return Ask(worker="w", lease_ms=30_000, token=token, queues=("default",), count=count)


def test_answers_come_in_the_order_of_the_calls_whatever_is_called_in_between(server: Server, wire: Wire) -> None:
    store, before = Store(wire), set(connections(server))
    store.announce("w", ["g"], {}, 60_000)
    assert all(store.start(plan(SINGLE), [NewRun(id=f"r{n}") for n in range(3)]))
    two, one = store.begin(ask("first", 2), ()), store.begin(ask("second", 2), ())
    assert wire.owed == 2
    assert store.cancel("nobody") is False
    assert store.server_ms() > 0  # no function
    assert [len(read()[1].claims) for read in (two, one)] == [2, 1]
    assert wire.owed == 0
    assert store.cancel("nobody") is False
    assert len(set(connections(server)) - before) == 2, "the second is for what is called in between"


def test_the_connection_is_not_tried_while_answers_are_owed(server: Server) -> None:
    wire: Any = connect(f"{server.url}?health_check_interval=30")
    store = Store(wire)
    store.announce("w", ["g"], {}, 60_000)
    assert all(store.start(plan(SINGLE), [NewRun(id=f"r{n}") for n in range(3)]))
    two = store.begin(ask("first", 2), ())
    wire._line.next_health_check = 0.001  # as after a long pause
    one = store.begin(ask("second", 2), ())
    assert [len(read()[1].claims) for read in (two, one)] == [2, 1]
    wire.close()


def test_answers_that_are_given_up_are_not_taken_for_others(wire: Wire) -> None:
    store = Store(wire)
    store.announce("w", ["g"], {}, 60_000)
    read = store.begin(ask("first", 2), ())
    wire.forget()
    assert store.cancel("nobody") is False
    with pytest.raises(redis.ConnectionError, match="gone"):
        read()


def test_when_the_connection_breaks_all_answers_are_gone_with_it(server: Server, wire: Wire) -> None:
    store, before = Store(wire), set(connections(server))
    store.announce("w", ["g"], {}, 60_000)
    [own] = set(connections(server)) - before
    client: Any = server.client()
    client.execute_command("CLIENT", "PAUSE", "200", "ALL")
    first, second = store.begin(ask("first", 2), ()), store.begin(ask("second", 2), ())
    wire._line.disconnect()
    client.close()
    for read in (first, second):
        with pytest.raises((redis.ConnectionError, OSError)):
            read()
    assert wire.owed == 0
    time.sleep(0.3)
    assert own not in connections(server)
    assert store.cancel("nobody") is False


def test_functions_that_the_server_has_lost_are_loaded_again_for_both_calls(server: Server, wire: Wire) -> None:
    store = Store(wire)
    store.announce("w", ["g"], {}, 60_000)
    assert all(store.start(plan(SINGLE), [NewRun(id=f"r{n}") for n in range(3)]))
    client: Any = server.client()
    client.function_flush()
    client.close()
    two, one = store.begin(ask("first", 2), ()), store.begin(ask("second", 2), ())
    assert [len(read()[1].claims) for read in (two, one)] == [2, 1]
