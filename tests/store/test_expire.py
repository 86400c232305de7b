"""expire: a run that takes longer than its graph allows is ended."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import redis.exceptions

from tests.store.stage import CHAIN, LEASE, SINGLE, plan
from tm.events import RunEnded
from tm.states import RunState
from tm.store.records import Beat, NewRun

if TYPE_CHECKING:
    from tests.store.stage import Stage


def test_a_run_past_its_deadline_has_timed_out(stage: Stage) -> None:
    stage.start(plan(CHAIN, timeout=2.5))
    claim = stage.take_one()
    stage.later(2499)
    before = stage.snapshot()
    assert stage.store.expire() == 0
    assert stage.snapshot() == before
    stage.later(1)
    assert stage.store.expire() == 1
    assert stage.state() == "timed_out"
    assert set(stage.states().values()) == {"cancelled"}
    assert stage.store.beat(LEASE, [(claim.job, claim.token)]) == [Beat.CANCEL]
    [ended] = stage.told(RunEnded)
    assert (ended.state, ended.reason) == (RunState.TIMED_OUT, "the run took longer than its graph allows")


def test_it_is_ended_once(stage: Stage) -> None:
    stage.start(plan(CHAIN, timeout=1))
    stage.later(1000)
    stage.store.expire()
    before = stage.snapshot()
    assert stage.store.expire() == 0
    assert stage.snapshot() == before


def test_a_run_without_limit_has_no_deadline(stage: Stage) -> None:
    stage.start(plan(CHAIN))
    stage.later(10**9)
    assert stage.store.expire() == 0
    assert not stage.client.exists(stage.keys.deadlines)


@pytest.mark.parametrize("way", ["finished", "cancelled"])
def test_a_run_that_ended_in_time_has_no_deadline_any_more(stage: Stage, way: str) -> None:
    stage.start(plan(SINGLE, timeout=1))
    if way == "finished":
        stage.work()
    else:
        stage.store.cancel("r")
    assert not stage.client.exists(stage.keys.deadlines)


@pytest.mark.parametrize(("limit", "ended"), [(0, 0), (2, 2), (100, 3)])
def test_no_more_than_the_limit_at_once(stage: Stage, limit: int, ended: int) -> None:
    stage.store.start(plan(SINGLE, timeout=1), [NewRun(id=name) for name in "abc"])
    stage.later(1000)
    assert stage.store.expire(limit) == ended


def test_deadlines_of_runs_that_are_gone_do_not_stop_the_sweep(stage: Stage) -> None:
    stage.start(plan(SINGLE, timeout=1))
    stage.client.set(stage.keys.run("bad"), "a string")
    stage.client.zadd(stage.keys.deadlines, {"gone": 1, "bad": 2})
    stage.later(1000)
    assert stage.store.expire() == 3
    assert stage.state() == "timed_out"
    assert stage.store.expire() == 0


def test_a_bad_limit_ends_nothing(stage: Stage) -> None:
    with pytest.raises(redis.exceptions.ResponseError, match="limit"):
        stage.call("expire", "-1")
