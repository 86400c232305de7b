"""A record that somebody has damaged: its run ends and says so, whatever its task was waiting for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.store.stage import LEASE, SINGLE, plan
from tm.events import RunEnded
from tm.states import Outcome

if TYPE_CHECKING:
    from tests.store.stage import Stage


@pytest.mark.parametrize("was", ["queued", "running", "retrying"])
@pytest.mark.parametrize("damage", [b"", b"\xc1", b"\x91\x01", b"\x80\x04K\x01."])
def test_its_run_ends_as_failed_and_says_why(stage: Stage, was: str, damage: bytes) -> None:
    stage.start(plan(SINGLE, retries=1, retry_delay=1.0))
    if was != "queued":
        [claim] = stage.take()
        if was == "retrying":
            stage.finish(claim, Outcome.FAILED)
    stage.client.hset(stage.keys.run("r"), "0", damage)
    assert stage.take() == []  # its doorbell rings for nothing
    stage.later(LEASE + 20_000)
    stage.store.reap()
    stage.store.promote()
    stage.store.ring()
    assert stage.state() == "failed"
    [end] = stage.told(RunEnded)
    assert end.reason.startswith("damaged: the record of task 0")
    assert not stage.queued()
    assert stage.store.ring() == 0


def test_others_are_left_alone(stage: Stage) -> None:
    stage.start(plan(SINGLE), "bad")
    stage.start(plan(SINGLE), "good")
    stage.client.hset(stage.keys.run("bad"), "0", b"\xc1")
    stage.client.delete("rq:queue:default")
    stage.later(20_000)
    stage.store.ring()
    assert stage.work() == ["only"]
    assert stage.state("good") == "success"
