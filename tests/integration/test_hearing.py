"""What is handed over to an idle worker: it is heard, and nothing of it gets lost."""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING, Any

import pytest
import redis.exceptions

from tests.integration.exchanging import exchange_of
from tests.store.stage import SINGLE, Stage, plan
from tests.waiting import wait_for
from tm.store.records import NewRun
from tm.store.store import Store
from tm_worker.bell import Bell
from tm_worker.executors import Run, Spawn
from tm_worker.hearing import Hearing
from tm_worker.outage import AWAY
from tm_worker.service import connect
from tm_worker.supervisor import Supervisor

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.servers import Server
    from tm_worker.executors import Action
    from tm_worker.wire import Wire


class Stand:
    """A worker without its loop, idle, with two executors and an ear."""

    def __init__(self, client: redis.Redis, wire: Wire, home: Path) -> None:
        self.stage, self.shape = Stage(client), plan(SINGLE)
        self.store = Store(wire, library=self.stage.library)
        self.supervisor = Supervisor(2, grace=1.0)
        for action in self.supervisor.tick(time.monotonic()):
            if isinstance(action, Spawn):
                self.supervisor.born(action.number, time.monotonic())
        self.exchange = exchange_of(self.store, self.supervisor, home)
        self.begun: list[str] = []
        self.exchange.attach(lambda: None, lambda: None, self.carry_out)
        self.turn()
        self.bell = Bell(wire, self.store.keys, ["default"])
        self.listen()
        self.turn()
        self.bell.arm(time.monotonic())

    def carry_out(self, actions: list[Action]) -> None:
        self.begun += [action.claim.run for action in actions if isinstance(action, Run)]

    def turn(self) -> None:
        self.exchange.turn(time.monotonic())

    def listen(self) -> None:
        self.bell.connect()
        self.exchange.listens(self.bell.ear, time.monotonic())

    def start(self, *runs: str) -> None:
        """By somebody else, on a connection of their own."""
        self.stage.store.start(self.shape, [NewRun(id=run) for run in runs])

    def hear(self) -> str | None:
        job = self.bell.read()
        self.exchange.handed(self.bell.handed(), time.monotonic())
        return job

    def end(self, run: str) -> None:
        """The executor reports success."""
        for number, executor in self.supervisor.executors.items():
            for held in list(executor.queue):
                if held.claim.run == run:
                    frame = [held.claim.job, held.claim.token, True, b"\x01", b"", False, 100, False]
                    self.carry_out(self.supervisor.reported(number, frame, time.monotonic()))

    def cut(self) -> None:
        """The connection on which this worker listens breaks, and it notices."""
        self.cut_by_server()
        self.bell.drop()
        self.exchange.hearing.deaf()

    def cut_by_server(self) -> None:
        """The server closes the connection on which this worker listens."""
        [line] = [each for each in self.stage.client.client_list() if int(each["sub"])]
        self.stage.client.client_kill_filter(_id=line["id"])
        wait_for(lambda: not [each for each in self.stage.client.client_list() if int(each["sub"])], "it to be gone")


@pytest.fixture
def stand(server: Server, client: redis.Redis, tmp_path: Path) -> Iterator[Stand]:
    wire = connect(server.url)
    made = Stand(client, wire, tmp_path)
    yield made
    made.bell.drop()
    wire.close()


def test_what_is_started_while_it_is_idle_begins_without_a_question(stand: Stand) -> None:
    stand.start("a")
    stand.start("b")
    while len(stand.begun) < 2:
        assert stand.hear() is None
    assert stand.begun == ["a", "b"]
    assert stand.bell.armed, "nobody has popped a bell"


def test_beyond_what_it_has_room_for_the_bell_rings(stand: Stand) -> None:
    stand.start("a", "b", "c")
    job = None
    while not job:
        job = stand.hear()
    assert job == "c_0_1"
    assert stand.begun == ["a", "b"]
    assert not stand.bell.armed
    stand.exchange.rung(job, time.monotonic())
    assert stand.stage.bells() == ["c_0_1"], "it has no room and lets others have it"


def test_nothing_is_handed_to_executors_that_are_gone(stand: Stand) -> None:
    now = time.monotonic()
    for number in list(stand.supervisor.executors):
        stand.supervisor.died(number, -9, 0, now)  # and no other can be forked
        stand.turn()
        stand.turn()
    stand.start("a")
    assert stand.stage.states("a") == {"only": "queued"}
    assert stand.stage.state("a") == "queued"


def test_what_was_lost_with_the_connection_is_asked_for(stand: Stand) -> None:
    stand.start("a")
    stand.hear()
    stand.start("b")
    stand.cut()
    assert stand.begun == ["a"]
    stand.listen()
    assert stand.begun == ["a", "b"], "the one it had not heard of, and not the other once more"
    stand.turn()
    assert stand.exchange.quiet


def test_also_what_came_before_the_last_ask(stand: Stand) -> None:
    stand.start("a")
    for _ in range(3):
        stand.exchange.hungry = True
        stand.turn()
    stand.cut()
    for _ in range(3):  # nor does it matter what is asked while it is deaf
        stand.exchange.hungry = True
        stand.turn()
    stand.listen()
    assert stand.begun == ["a"]


def test_also_by_one_that_ends(stand: Stand) -> None:
    stand.start("a")
    stand.cut()
    stand.supervisor.drain(time.monotonic(), None)
    assert not stand.exchange.quiet
    stand.turn()
    assert stand.exchange.quiet
    assert stand.begun == []
    assert stand.stage.bells() == ["a_0_1"]


def test_what_others_of_the_same_name_were_given_is_left_alone(stand: Stand) -> None:
    stand.start("a")
    stand.cut()
    stand.exchange.hearing = Hearing(stand.store, "w", 30_000)
    stand.listen()
    stand.exchange.hearing.deaf()
    stand.bell.drop()
    stand.listen()
    assert stand.begun == []


def test_what_came_right_before_the_end_of_the_connection_runs_once(stand: Stand) -> None:
    stand.start("a")
    stand.cut_by_server()
    with pytest.raises(AWAY):
        stand.bell.read()
    stand.bell.drop()
    stand.exchange.hearing.deaf()
    stand.listen()
    stand.end("a")
    stand.turn()
    stand.turn()
    stand.start("b")
    stand.hear()
    assert stand.begun == ["a", "b"]


def test_an_ask_that_is_repeated_brings_back_nothing_that_was_heard(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin = stand.store.begin

    def unanswered(*args: Any) -> Any:
        begin(*args)()
        return _lost

    stand.exchange.hungry = True
    with monkeypatch.context() as lossy:
        lossy.setattr(stand.store, "begin", unanswered)
        stand.turn()
    assert stand.exchange.outage.retry_at is not None
    stand.start("a")
    stand.hear()
    stand.end("a")  # its report waits, and the server takes it for running
    wait_for(lambda: stand.turn() or stand.exchange.quiet, "the server to be asked again")
    assert stand.begun == ["a"]
    assert stand.stage.state("a") == "success"


def _lost() -> Any:
    raise redis.exceptions.TimeoutError


def test_also_when_the_server_cannot_be_asked_at_once(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    stand.start("a")
    stand.cut()
    with monkeypatch.context() as away:
        away.setattr(stand.store, "take", _away)
        with pytest.raises(AWAY):
            stand.listen()
    stand.bell.drop()
    stand.listen()
    assert stand.begun == ["a"]


def _away(*_: object) -> None:
    raise ConnectionRefusedError


def test_once_told_to_end_it_gives_back_what_comes_nevertheless(stand: Stand) -> None:
    stand.start("a")
    stand.supervisor.drain(time.monotonic(), None)
    stand.exchange.wants_no_more(time.monotonic())
    stand.start("b")
    job = stand.bell.disarm()
    stand.exchange.handed(stand.bell.handed(), time.monotonic())
    if job is not None:
        stand.exchange.rung(job, time.monotonic())
    stand.turn()
    assert stand.begun == []
    assert sorted(stand.stage.bells()) == ["a_0_1", "b_0_1"]
    assert stand.supervisor.finished
    assert stand.stage.states("a") == stand.stage.states("b") == {"only": "queued"}


def test_nothing_stays_unread_behind_a_pop_that_is_called_off(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    unblock = stand.bell._client.client_unblock

    def slow(client_id: int) -> None:
        unblock(client_id)
        stand.start("a")
        wait_for(lambda: b"message" in stand.bell.sock.recv(4096, socket.MSG_PEEK), "both to be there in one piece")

    monkeypatch.setattr(stand.bell._client, "client_unblock", slow)
    assert stand.bell.disarm() is None
    stand.exchange.handed(stand.bell.handed(), time.monotonic())
    assert stand.begun == ["a"]


def test_the_pop_can_be_called_off_while_it_goes_on_listening(stand: Stand) -> None:
    assert stand.bell.disarm() is None
    stand.start("a")
    assert stand.hear() is None
    assert stand.begun == ["a"]
    assert stand.bell.disarm() is None, "and when there is none"


@pytest.mark.parametrize("rubbish", [b"", b"rubbish", b"\x91\x01", b"\x01", b"\x91\x91\xa1x", b"\xc1" * 99])
def test_rubbish_is_ignored(stand: Stand, rubbish: bytes) -> None:
    stand.stage.client.publish(stand.store.keys.hand(stand.bell.ear), rubbish)
    assert stand.hear() is None
    stand.start("a")
    stand.hear()
    assert stand.begun == ["a"]
