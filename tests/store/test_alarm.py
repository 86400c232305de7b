"""alarm: a run that is still open when the deadline of its graph passes is told of once, and goes on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.store.stage import NOON, SINGLE, plan
from tests.store.test_callbacks import take_callbacks, told
from tm.events import DeadlineMissed
from tm.states import Outcome, RunState, Trigger
from tm.store.records import RUN, DueTick, NewRun, RetryRun

if TYPE_CHECKING:
    from tests.store.stage import Stage


def late(stage: Stage) -> dict[str, float]:
    return {run.decode(): at - NOON for run, at in stage.client.zrange(stage.keys.late, 0, -1, withscores=True)}


def test_a_run_past_its_deadline_is_told_of_once_and_goes_on(stage: Stage) -> None:
    stage.start(plan(SINGLE, deadline=2.5, calls=["deadline"]))
    claim = stage.take_one()
    stage.later(2499)
    before = stage.snapshot()
    assert stage.store.alarm() == 0
    assert stage.snapshot() == before
    stage.later(1)
    assert stage.store.alarm() == 1
    assert stage.store.alarm() == 0
    assert stage.told(DeadlineMissed) == [
        DeadlineMissed(run="r", graph="g", state=RunState.RUNNING, due=NOON + 2500, at=stage.now)
    ]
    [callback] = take_callbacks(stage)
    about = told(callback)
    assert (about["id"], about["kind"], about["state"], about["ms"]) == ("r_deadline", "deadline", "running", 2500)
    stage.finish(claim)
    assert stage.state() == "success"


def test_a_run_that_ended_in_time_is_not_told_of_however_it_ended(stage: Stage) -> None:
    which = plan(SINGLE, deadline=10, timeout=5)
    stage.offer("g")
    stage.store.start(which, [NewRun(id=run) for run in ("good", "bad", "cancelled", "timed_out")])
    stage.finish(stage.take_one())
    stage.finish(stage.take_one(), Outcome.FAILED)
    stage.store.cancel("cancelled")
    stage.later(5000)
    stage.store.expire()
    assert late(stage) == {}
    stage.later(6000)
    assert stage.store.alarm() == 0


def test_a_scheduled_run_counts_from_its_tick_others_from_their_start(stage: Stage) -> None:
    which = plan(SINGLE, deadline=60)
    stage.store.define(which)
    leader = stage.store.lead("me", 10_000)
    assert leader is not None
    stage.store.tick(which, leader, [DueTick(run="missed", at_ms=NOON - 90_000, trigger=Trigger.CATCHUP)])
    stage.store.tick(which, leader, [DueTick(run="tick", at_ms=NOON - 1000)])
    stage.store.trigger(which.version, NewRun(id="past"), Trigger.BACKFILL, tick_ms=NOON - 86_400_000)
    stage.store.start(which, [NewRun(id="manual")])
    assert late(stage) == {"missed": -30_000, "tick": 59_000, "past": 60_000, "manual": 60_000}
    stage.store.alarm()
    assert [event.run for event in stage.told(DeadlineMissed)] == ["missed"]


def test_a_retry_has_a_deadline_of_its_own(stage: Stage) -> None:
    which = plan(SINGLE, deadline=60)
    stage.start(which)
    stage.work(outcome=Outcome.FAILED)
    stage.later(100_000)
    assert stage.store.retry(which.version, RetryRun(source="r", id="r-2", tasks=(RUN,)))
    assert late(stage) == {"r-2": 160_000}


def test_a_run_that_is_gone_is_forgotten(stage: Stage) -> None:
    stage.start(plan(SINGLE, deadline=1))
    stage.client.delete(stage.keys.run("r"))
    stage.later(2000)
    assert stage.store.alarm() == 1
    assert late(stage) == {}
    assert stage.told(DeadlineMissed) == []


def test_without_a_deadline_nothing_is_kept(stage: Stage) -> None:
    stage.start(plan(SINGLE))
    assert not stage.client.exists(stage.keys.late)


def test_many_are_told_of_bit_by_bit(stage: Stage) -> None:
    which = plan(SINGLE, deadline=1)
    stage.store.start(which, [NewRun(id=f"r{n}") for n in range(30)])
    stage.later(1000)
    assert [stage.store.alarm(20) for _ in range(3)] == [20, 10, 0]
