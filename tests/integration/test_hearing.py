"""What is handed over to an idle worker: it is heard, and nothing of it gets lost."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.store.stage import SINGLE, Stage, plan
from tests.waiting import wait_for
from tm.store.records import NewRun
from tm.store.store import Store
from tm_worker.bell import Bell
from tm_worker.exchange import Exchange
from tm_worker.executors import Run, Spawn
from tm_worker.outage import AWAY
from tm_worker.service import connect
from tm_worker.supervisor import Supervisor

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import redis

    from tests.servers import Server
    from tm_worker.executors import Action
    from tm_worker.wire import Wire


class Worker:
    """The little an exchange wants of its RQ worker."""

    name = "w"

    def noted(self, state: str) -> None: ...

    def set_state(self, state: str) -> None: ...


class Stand:
    """A worker without its loop, idle, with two executors and an ear."""

    def __init__(self, client: redis.Redis, wire: Wire, home: Path) -> None:
        self.stage, self.shape = Stage(client), plan(SINGLE)
        self.store = Store(wire, library=self.stage.library)
        self.supervisor = Supervisor(2, grace=1.0)
        for action in self.supervisor.tick(time.monotonic()):
            if isinstance(action, Spawn):
                self.supervisor.born(action.number, time.monotonic())
        given: dict[str, Any] = {"queues": ["default"], "versions": {}, "lease": 30.0, "home": home, "where": "here"}
        self.exchange = Exchange(self.store, Worker(), self.supervisor, register=self.register, **given)  # type: ignore[arg-type]
        self.begun: list[str] = []
        self.exchange.attach(lambda: None, lambda: None, self.carry_out)
        self.turn()
        self.bell = Bell(wire, self.store.keys, ["default"])
        self.listen()
        self.turn()
        self.bell.arm(time.monotonic())

    def register(self) -> None:
        self.store.announce("w", ["g"], {}, 60_000)

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

    def cut(self) -> None:
        """The server closes the connection on which this worker listens."""
        [line] = [each for each in self.stage.client.client_list() if int(each["sub"])]
        self.stage.client.client_kill_filter(_id=line["id"])
        wait_for(lambda: not [each for each in self.stage.client.client_list() if int(each["sub"])], "it to be gone")
        self.bell.drop()
        self.exchange.hearing.deaf()


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
