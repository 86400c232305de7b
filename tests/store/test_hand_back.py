"""hand_back: a doorbell that a worker popped without having room rings for the next one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.store.stage import SINGLE, Stage, plan
from tm.store.records import NewRun

if TYPE_CHECKING:
    import redis


def test_it_rings_first_again(stage: Stage) -> None:
    stage.store.start(plan(SINGLE), [NewRun(id="a"), NewRun(id="b")])
    stage.store.hand_back(stage.client.lpop(stage.keys.bell("default")).decode())
    assert stage.bells() == ["a_0_1", "b_0_1"]


def test_into_a_queue_that_has_become_empty(stage: Stage) -> None:
    stage.start(plan(SINGLE, queue="slow"))
    stage.store.hand_back(stage.client.lpop(stage.keys.bell("slow")).decode())
    assert stage.bells("slow") == ["r_0_1"]
    assert b"rq:queue:slow" in stage.client.smembers("rq:queues")


def test_twice_is_one_spare_bell(stage: Stage) -> None:
    stage.start(plan(SINGLE))
    stage.store.hand_back("r_0_1")
    assert len(stage.take(9)) == 1


@pytest.mark.parametrize("bell", ["", "nonsense", "unknown_0_1", "r_0_2", "r_3_1", "*"])
def test_a_bell_for_nothing_is_dropped(stage: Stage, bell: str) -> None:
    stage.start(plan(SINGLE))
    before = stage.snapshot()
    stage.store.hand_back(bell)
    assert stage.snapshot() == before


@pytest.mark.parametrize("after", ["claimed", "finished", "cancelled"])
def test_a_bell_that_was_answered_meanwhile_is_dropped(stage: Stage, after: str) -> None:
    stage.start(plan(SINGLE))
    if after == "cancelled":
        stage.store.cancel("r")
    else:
        claim = stage.take_one()
        if after == "finished":
            stage.finish(claim)
    stage.client.delete(stage.keys.bell("default"))
    before = stage.snapshot()
    stage.store.hand_back("r_0_1")
    assert stage.snapshot() == before


def test_in_a_namespace_of_its_own(client: redis.Redis) -> None:
    stage = Stage(client, "other.space")
    stage.start(plan(SINGLE))
    bell = stage.client.lpop(stage.keys.bell("default")).decode()
    stage.store.hand_back(bell)
    assert stage.bells() == [bell] == [stage.keys.rq_id("r_0_1")]
    assert stage.take_one(bell="").run == "r"
