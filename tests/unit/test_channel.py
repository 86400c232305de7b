"""Frames arrive whole, in order, or are refused, however the bytes are cut."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tm_worker import channel
from tm_worker.channel import BrokenFrameError, ExecutorEnd, SupervisorEnd, pack

if TYPE_CHECKING:
    from collections.abc import Iterator

fields = st.lists(
    st.one_of(st.none(), st.booleans(), st.integers(0, 2**32), st.text(max_size=5), st.binary(max_size=300))
)


@pytest.fixture
def ends() -> Iterator[tuple[SupervisorEnd, socket.socket]]:
    ours, theirs = socket.socketpair()
    yield SupervisorEnd(ours), theirs
    ours.close()
    theirs.close()


@given(st.lists(fields, max_size=5), st.lists(st.integers(1, 50), min_size=1))
def test_frames_survive_any_cut(frames: list[list[Any]], cuts: list[int]) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        end = SupervisorEnd(ours)
        data = b"".join(map(pack, frames))
        received: list[list[Any]] = []
        while data:
            size = cuts[0]
            cuts = [*cuts[1:], size]
            theirs.sendall(data[:size])
            data = data[size:]
            got, ended = end.receive()
            assert not ended
            received += got
        assert received == frames


def test_bytes_stay_bytes(ends: tuple[SupervisorEnd, socket.socket]) -> None:
    end, theirs = ends
    value = b"\xc1 not msgpack"
    theirs.sendall(pack([value]))
    assert end.receive() == ([[value]], False)


def test_nothing_yet_is_no_end(ends: tuple[SupervisorEnd, socket.socket]) -> None:
    assert ends[0].receive() == ([], False)


def test_what_came_before_the_end_is_heard(ends: tuple[SupervisorEnd, socket.socket]) -> None:
    end, theirs = ends
    theirs.sendall(pack([1]) + pack([2])[:-1])
    theirs.close()
    frames, ended = end.receive()
    if not ended:
        more, ended = end.receive()
        frames += more
    assert (frames, ended) == ([[1]], True)


@pytest.mark.parametrize(
    "rubbish", [b"\xff\xff\xff\xff", b"\x00\x00\x00\x01\xc1", b"\x00\x00\x00\x01\x01", b"\x00\x00\x00\x00"]
)
def test_rubbish_is_refused(ends: tuple[SupervisorEnd, socket.socket], rubbish: bytes) -> None:
    end, theirs = ends
    theirs.sendall(rubbish)
    with pytest.raises(BrokenFrameError):
        end.receive()


def test_a_full_socket_does_not_block_the_sender(ends: tuple[SupervisorEnd, socket.socket]) -> None:
    end, theirs = ends
    for n in range(50):
        end.send(pack([n, bytes(100_000)]))
    assert end.wants_write
    received = bytearray()
    while end.wants_write:
        received += theirs.recv(1 << 20)
        end.flush()
    theirs.setblocking(False)
    with pytest.raises(BlockingIOError):  # noqa: PT012 - until there is no more
        while True:
            received += theirs.recv(1 << 20)
    assert received == b"".join(pack([n, bytes(100_000)]) for n in range(50))


def test_an_executor_sees_the_end() -> None:
    ours, theirs = socket.socketpair()
    executor = ExecutorEnd(theirs)
    ours.sendall(pack(["x"]) + pack(["y"])[:-1])
    ours.close()
    assert executor.receive() == ["x"]
    assert executor.receive() is None
    executor.close()


@pytest.fixture
def packets() -> Iterator[tuple[SupervisorEnd, ExecutorEnd]]:
    pair = channel.packets()
    if pair is None:
        pytest.skip("no sockets here that keep packets apart")
    ours, theirs = socket.socketpair()
    # as after a fork: both hold the end from which claims are read
    executor = ExecutorEnd(theirs, pair[1].dup())
    supervisor = SupervisorEnd(ours, pair)
    yield supervisor, executor
    executor.close()
    for each in (ours, *pair):
        each.close()


def claim_of(size: int, job: str = "r_0_1") -> list[Any]:
    """A claim whose packed form has so many bytes."""
    body = bytes(size - len(msgpack.packb([job, bytes(size - 64)])) + size - 64)
    claim = [job, body]
    assert len(msgpack.packb(claim)) == size
    return claim


@pytest.mark.parametrize("beyond", [-1, 0, 1])
def test_claims_about_the_greatest_packet_arrive_whole(packets: tuple[SupervisorEnd, ExecutorEnd], beyond: int) -> None:
    supervisor, executor = packets
    sent = [claim_of(channel.PACKET + beyond, "r_0_1"), ["r_1_1"]]
    assert all(map(supervisor.run, sent))
    assert [executor.receive(), executor.receive()] == sent


@pytest.mark.parametrize("beyond", [0, 1])
def test_a_claim_of_any_size_that_nobody_read_is_taken_back(
    packets: tuple[SupervisorEnd, ExecutorEnd], beyond: int
) -> None:
    supervisor, _ = packets
    assert supervisor.run(claim_of(channel.PACKET + beyond, "r_0_1"))
    assert supervisor.take_back() == ["r_0_1"]
    assert supervisor.take_back() == []


def test_a_socket_full_of_claims_says_so_and_loses_none(packets: tuple[SupervisorEnd, ExecutorEnd]) -> None:
    supervisor, executor = packets
    sent = []
    while supervisor.run(claim := [f"r_{len(sent)}_1", bytes(1000)]):
        sent.append(claim)
    assert executor.receive() == sent[0]
    assert supervisor.run(claim), "there is room again"
    left = [*sent[1:], claim]
    assert [executor.receive() for _ in left[:3]] == left[:3]
    assert supervisor.take_back() == [job for job, _ in left[3:]]


def test_a_large_claim_whose_mark_found_no_room_is_never_begun(packets: tuple[SupervisorEnd, ExecutorEnd]) -> None:
    supervisor, executor = packets
    sent = []
    while supervisor.run(claim := [f"r_{len(sent)}_1", bytes(1000)]):
        sent.append(claim)
    large = claim_of(channel.PACKET + 1, "large_0_1")
    while supervisor.run([f"r_{len(sent)}_1"]):  # the last gaps
        sent.append([f"r_{len(sent)}_1"])
    assert not supervisor.run(large)
    assert [executor.receive() for _ in sent] == sent
    assert supervisor.take_back() == [], "it counts as not handed over"
    other = claim_of(channel.PACKET + 1, "other_0_1")
    assert supervisor.run(other)
    assert executor.receive() == other, "and is not taken for the next one"
