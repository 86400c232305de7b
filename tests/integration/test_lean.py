"""Calls of functions by applications, without what redis-py does around each command."""

from __future__ import annotations

import os
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
import redis

from tests.waiting import wait_for
from tm.config import Settings
from tm.store.lean import FRESH, LeanRedis
from tm.store.line import Line
from tm.store.store import Store
from tm.wiring import connect

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.servers import Server


@pytest.fixture
def lean(server: Server, tmp_path: Path) -> Iterator[LeanRedis]:
    client = connect(Settings(url=server.url, home=tmp_path))
    assert isinstance(client, LeanRedis)
    yield client
    client.close()


def connections(server: Server) -> set[int]:
    """Numbers of the connections that others than this look have."""
    client: Any = server.client()
    try:
        own = client.client_id()
        return {int(each["id"]) for each in client.client_list() if int(each["id"]) != own}
    finally:
        client.close()


def cut(server: Server, connection: int) -> None:
    client: Any = server.client()
    client.client_kill_filter(_id=connection)
    client.close()


def test_functions_commands_and_pipelines_take_turns_on_one_connection(server: Server, lean: LeanRedis) -> None:
    store, before = Store(lean), connections(server)
    for _ in range(3):
        assert store.cancel("nobody") is False
        assert store.server_ms() > 0
        with lean.pipeline() as pipeline:
            pipeline.set("key", "value")
            pipeline.get("key")
            assert pipeline.execute() == [True, b"value"]
        assert store.look("nobody").state is None
    assert len(connections(server) - before) == 1


@pytest.mark.parametrize("idle", [0.0, FRESH + 0.05])
def test_a_connection_that_was_closed_meanwhile_is_replaced(server: Server, lean: LeanRedis, idle: float) -> None:
    store, before = Store(lean), connections(server)
    assert store.cancel("nobody") is False
    [own] = connections(server) - before
    cut(server, own)
    time.sleep(idle)
    assert store.cancel("nobody") is False


def test_an_answer_that_nobody_read_is_not_taken_for_the_next(
    server: Server, lean: LeanRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(lean)
    assert store.cancel("nobody") is False

    def interrupted(*_: object, **__: object) -> object:
        raise KeyboardInterrupt

    line = lean._idle[0][1]
    with monkeypatch.context() as patch:
        patch.setattr(line, "read_response", interrupted)
        with pytest.raises(KeyboardInterrupt):
            store.lead("me", 60_000)
    wait_for(lambda: server.client().exists(store.keys.leader), "the call to have been heard")
    assert store.cancel("nobody") is False


def test_what_the_server_refuses_leaves_the_connection_as_it_is(server: Server, lean: LeanRedis) -> None:
    store = Store(lean)
    assert store.cancel("nobody") is False
    before = connections(server)
    call: Any = lean.execute_command
    with pytest.raises(redis.ResponseError):
        call("FCALL", "no_such_function", 1, "prefix")
    with pytest.raises(redis.DataError):
        call("FCALL", "no_such_function", 1, {"no": "argument"})
    assert store.cancel("nobody") is False
    assert connections(server) == before


def test_threads_have_connections_of_their_own_and_get_their_own_answers(lean: LeanRedis) -> None:
    store = Store(lean)
    names = [f"worker{number}" for number in range(8)]
    wrong: list[str] = []

    def play(name: str) -> None:
        for number in range(100):
            lean.hset(f"state:{name}", "n", number)
            if store.cancel(name) or store.look(name).run != name or lean.hget(f"state:{name}", "n") != b"%d" % number:
                wrong.append(name)

    threads = [threading.Thread(target=play, args=(name,)) for name in names]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert not wrong


def test_a_fork_leaves_the_connection_of_its_parent_alone(server: Server, lean: LeanRedis) -> None:
    store, before = Store(lean), connections(server)
    assert store.cancel("nobody") is False
    [own] = connections(server) - before
    if (child := os.fork()) == 0:
        good = False
        try:
            good = store.cancel("nobody") is False and len(connections(server) - before) == 2
        finally:
            os._exit(0 if good else 1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert store.cancel("nobody") is False
    wait_for(lambda: connections(server) - before == {own}, "the child's connection to be gone")


def test_who_waits_for_runs_gets_along_with_the_connection_that_calls_were_made_on(
    server: Server, tmp_path: Path
) -> None:
    lone = connect(Settings(url=f"{server.url}?max_connections=1", home=tmp_path))
    store = Store(lone)
    assert store.cancel("nobody") is False
    line = Line(lone, store._library, store.keys)
    try:
        assert line.look(["nobody"])[0].state is None
    finally:
        line.close()
    assert store.cancel("nobody") is False
    lone.close()
