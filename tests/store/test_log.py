"""The outbox of log lines: chunks in order, bounded in bytes, forgotten when history has them."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from tm.loglines import Chunk, Line, Stream, pack_lines
from tm.store.logs import LogStream
from tm.store.store import Store

if TYPE_CHECKING:
    import redis

    from tests.servers import Server


def chunk(number: int, run: str = "r", size: int = 10) -> Chunk:
    text = f"{number} {random.Random(number).randbytes(size // 2).hex()}"  # hardly to be compressed
    return Chunk(
        run=run,
        graph="g",
        task="t",
        attempt=1,
        token="k",
        number=number,
        last=False,
        first_us=number,
        packed=pack_lines([Line(number, Stream.STDOUT, 20, "", text)]),
    )


@pytest.mark.parametrize("protocol", [2, 3])
def test_chunks_come_out_as_they_went_in(server: Server, protocol: int) -> None:
    with server.client(protocol=protocol) as client:
        stream = LogStream(Store(client))
        assert stream.end() == "0-0"
        assert stream.of_run("r") == stream.read("0-0") == stream.read("0-0", block_ms=1) == []
        sent = [chunk(0), chunk(1, "other"), chunk(2)]
        assert stream.add(sent) == 0
        entries = stream.read("0-0", block_ms=1)
        assert [each for _, each in entries] == sent
        assert stream.end() == entries[-1][0]
        assert [each.number for _, each in stream.of_run("r")] == [0, 2]
        assert [each.number for _, each in stream.of_run("r", entries[0][0])] == [0]
        assert [each for _, each in stream.read(entries[0][0])] == sent[1:]
        stream.filed(entries[1][0])
        assert [each for _, each in stream.read("0-0")] == sent[2:]
        stream.filed(entries[2][0])
        assert stream.end() == entries[2][0], "a follower goes on from here, although all is filed"


def test_beyond_its_size_the_oldest_are_forgotten_and_room_comes_back_when_they_are_filed(
    client: redis.Redis, store: Store
) -> None:
    stream = LogStream(store, limit=10_000)
    gone = sum(stream.add([chunk(number, size=1200)]) for number in range(40))
    left = [each.number for _, each in stream.read("0-0", 1000)]
    assert gone == 40 - len(left)
    assert left == list(range(40 - len(left), 40))
    assert 10 < len(left) <= 20
    stream.filed(stream.end())
    assert stream.read("0-0") == []
    assert client.hget(store.keys.meta, "logged") == b"0"
    assert [stream.add([chunk(number, size=1200)]) for number in range(5)] == [0] * 5


def test_many_are_forgotten_in_pieces(store: Store) -> None:
    stream = LogStream(store)
    stream.add([chunk(number) for number in range(1000)])
    stream.filed(stream.end())
    assert stream.read("0-0") == []


def test_damage_is_passed_over(client: redis.Redis, store: Store) -> None:
    stream = LogStream(store)
    client.xadd(store.keys.logs, {"r": "r", "d": b"rubbish"})
    stream.add([chunk(1)])
    assert [each.number for _, each in stream.of_run("r")] == [1]
    assert [each and each.number for _, each in stream.read("0-0")] == [None, 1]
