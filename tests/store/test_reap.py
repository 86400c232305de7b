"""reap: whose lease has lapsed is lost, and the task starts again or is quarantined."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import redis.exceptions

from tests.store.stage import CHAIN, LEASE, SINGLE, plan
from tm.events import AttemptEnded
from tm.states import MAX_LOSSES, Outcome, TaskState
from tm.store.records import NewRun

if TYPE_CHECKING:
    from tests.store.stage import Stage


def test_a_lapsed_attempt_is_lost_and_its_task_queued_again(stage: Stage) -> None:
    stage.start(plan(SINGLE))
    claim = stage.take_one()
    stage.later(LEASE)
    assert stage.store.reap() == 1
    assert stage.queued() == stage.bells() == ["r_0_2"]
    assert stage.client.zcard(stage.keys.leases) == 0
    [lost] = stage.told(AttemptEnded)
    assert (lost.attempt, lost.outcome, lost.state) == (1, Outcome.LOST, TaskState.QUEUED)
    assert (lost.worker, lost.claimed, lost.ms) == ("w", claim.claimed_ms, LEASE)


def test_before_that_nobody_is_lost_and_afterwards_nobody_twice(stage: Stage) -> None:
    stage.start(plan(SINGLE))
    stage.take_one()
    stage.later(LEASE - 1)
    before = stage.snapshot()
    assert stage.store.reap() == 0
    assert stage.snapshot() == before
    stage.later(1)
    stage.store.reap()
    before = stage.snapshot()
    assert stage.store.reap() == 0
    assert stage.snapshot() == before


def test_a_task_lost_too_often_is_quarantined(stage: Stage) -> None:
    stage.start(plan(CHAIN, retries=9))
    for _ in range(MAX_LOSSES):
        stage.take_one()
        stage.later(LEASE)
        assert stage.store.reap() == 1
    assert stage.states() == {"a": "quarantined", "b": "blocked", "c": "blocked"}
    assert stage.state() == "failed"
    assert stage.told(AttemptEnded)[-1].state is TaskState.QUARANTINED


@pytest.mark.parametrize("limit", [0, 1, 3, 10])
def test_no_more_than_the_limit_at_once(stage: Stage, limit: int) -> None:
    stage.store.start(plan(SINGLE), [NewRun(id=f"x{number}") for number in range(5)])
    stage.offer("g")
    stage.take(5)
    stage.later(LEASE)
    assert stage.store.reap(limit) == min(limit, 5)


@pytest.mark.parametrize("limit", ["", "-1", "all"])
def test_a_limit_is_never_taken_for_all(stage: Stage, limit: str) -> None:
    with pytest.raises(redis.exceptions.ResponseError, match="limit"):
        stage.call("reap", limit)


@pytest.mark.parametrize("damage", ["gone", "string", "record", "plan"])
def test_what_is_damaged_is_let_go_and_does_not_stop_the_sweep(stage: Stage, damage: str) -> None:
    shape = plan(SINGLE)
    stage.start(shape, "bad")
    stage.start(plan(SINGLE), "good")
    stage.take(2)
    key = stage.keys.run("bad")
    if damage == "record":
        stage.client.hset(key, "0", b"\xc1")
    elif damage == "plan":
        stage.client.hset(key, "plan", "nobody knows it")
    else:
        stage.client.delete(key)
        if damage == "string":
            stage.client.set(key, "a string")
    stage.client.zadd(stage.keys.leases, {"nonsense": 1, "more_of_it": 1})
    stage.later(LEASE)
    assert stage.store.reap() == 4
    assert stage.queued() == ["good_0_2"]
    assert stage.client.zcard(stage.keys.leases) == 0


def test_a_lease_left_behind_by_a_finished_attempt_is_dropped(stage: Stage) -> None:
    stage.start(plan(SINGLE))
    stage.work()
    stage.client.zadd(stage.keys.leases, {"r_0_1": 1})
    assert stage.store.reap() == 1
    assert stage.state() == "success"
    assert len(stage.told(AttemptEnded)) == 1


def test_a_call_that_was_held_up_declares_nobody_dead(stage: Stage) -> None:
    """What froze the server kept the heartbeats waiting as well."""
    stage.start(plan(SINGLE))
    stage.take()
    stage.later(LEASE + 5000)
    assert stage.store.reap(asked_ms=stage.now - 2001) == 0
    assert stage.store.reap(asked_ms=stage.now - 2000) == 1
