"""Workers of an embedded server that were killed: what they held is given back at once, and nobody else's."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest

from tests.store.stage import SINGLE, Stage, plan
from tm.store.records import NewRun
from tm_worker.presence import Presence

if TYPE_CHECKING:
    from pathlib import Path

    import redis


def killed(home: Path, worker: str) -> None:
    """A worker that was here and did not come through."""
    pid = os.fork()
    if pid == 0:
        Presence(home).call(worker)
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(pid, 0)


@pytest.fixture
def stage(client: redis.Redis) -> Stage:
    return Stage(client)


@pytest.fixture
def held(stage: Stage) -> Stage:
    """Three workers that hold three attempts each."""
    stage.store.start(plan(SINGLE), [NewRun(id=f"r{n}") for n in range(9)])
    for worker in ("dead", "alive", "elsewhere"):
        stage.offer("g", worker=worker)
        assert len(stage.take(3, worker=worker)) == 3
    return stage


def holders(stage: Stage) -> dict[str, int]:
    found: dict[str, int] = {}
    for n in range(9):
        view = stage.store.run(f"r{n}")
        assert view is not None
        who = view.tasks[0].worker or view.tasks[0].state.value
        found[who] = found.get(who, 0) + 1
    return found


def test_what_the_dead_held_is_queued_again_at_once_and_only_that(held: Stage, tmp_path: Path) -> None:
    alive = Presence(tmp_path)
    alive.call("alive")
    killed(tmp_path, "dead")
    mine = Presence(tmp_path)
    mine.call("new")
    assert mine.give_back_of_the_dead(held.store) == 3
    assert holders(held) == {"queued": 3, "alive": 3, "elsewhere": 3}
    assert {held.store.run(f"r{n}").tasks[0].attempt for n in range(3)} == {2}  # type: ignore[union-attr]
    assert len(list((tmp_path / "workers").iterdir())) == 2, "the file of the dead is gone"
    assert mine.give_back_of_the_dead(held.store) == 0
    alive.leave()
    mine.leave()
    assert list((tmp_path / "workers").iterdir()) == []


def test_a_worker_whose_executors_live_is_not_dead(held: Stage, tmp_path: Path) -> None:
    ready, tell = os.pipe()
    pid = os.fork()
    if pid == 0:
        Presence(tmp_path).call("dead")
        child = os.fork()
        if child == 0:
            signal.pause()
        os.write(tell, str(child).encode())
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(pid, 0)
    child = int(os.read(ready, 20))
    mine = Presence(tmp_path)
    assert mine.give_back_of_the_dead(held.store) == 0
    os.kill(child, signal.SIGKILL)
    assert mine.give_back_of_the_dead(held.store) == 3
    mine.leave()


def test_a_worker_that_never_said_its_name_held_nothing(held: Stage, tmp_path: Path) -> None:
    killed(tmp_path, "")
    mine = Presence(tmp_path)
    assert mine.give_back_of_the_dead(held.store) == 0
    assert len(list((tmp_path / "workers").iterdir())) == 1


def test_more_leases_than_fit_in_one_call(stage: Stage) -> None:
    stage.store.start(plan(SINGLE), [NewRun(id=f"r{n}") for n in range(60)])
    for worker in ("dead", "alive"):
        stage.offer("g", worker=worker)
    for n in range(60):
        assert stage.take(1, worker="dead" if n % 3 else "alive", lease_ms=30_000 + n)
    assert stage.store.lost(["dead"], limit=7) == 40
    assert len(stage.queued()) == 40
    assert stage.client.zcard(stage.keys.leases) == 20
    assert not stage.client.exists(stage.keys.offers("dead"))
    assert stage.client.exists(stage.keys.offers("alive"))


def test_a_home_that_takes_no_files_costs_nothing_but_this(held: Stage, tmp_path: Path) -> None:
    (tmp_path / "workers").write_text("no directory")
    mine = Presence(tmp_path)
    mine.call("new")
    assert mine.give_back_of_the_dead(held.store) == 0
    mine.leave()
