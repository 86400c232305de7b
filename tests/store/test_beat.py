"""beat: the holder of a claim keeps its lease, and hears when it has lost it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import redis.exceptions

from tests.store.stage import CHAIN, LEASE, SINGLE, fan, plan
from tm.states import Outcome
from tm.store.records import Beat

if TYPE_CHECKING:
    from tests.store.stage import Stage


def test_a_beat_extends_the_lease(stage: Stage) -> None:
    stage.start(plan(SINGLE))
    claim = stage.take_one()
    stage.later(LEASE - 1)
    assert stage.store.beat(LEASE, [(claim.job, claim.token)]) == [Beat.OK]
    assert stage.client.zscore(stage.keys.leases, claim.job) == stage.now + LEASE
    stage.later(LEASE - 1)
    assert stage.store.reap() == 0


def test_beating_twice_changes_nothing(stage: Stage) -> None:
    stage.start(plan(SINGLE))
    claim = stage.take_one()
    before = stage.snapshot()
    assert stage.store.beat(LEASE, [(claim.job, claim.token)] * 2) == [Beat.OK] * 2
    assert stage.snapshot() == before


@pytest.mark.parametrize(
    ("job", "token"),
    [
        ("r_0_1", "forged"),
        ("r_0_1", ""),
        ("r_0_2", None),
        ("r_1_1", None),
        ("x_0_1", None),
        ("nonsense", None),
        ("", ""),
    ],
)
def test_who_does_not_hold_the_attempt_has_lost_it(stage: Stage, job: str, token: str | None) -> None:
    stage.start(plan(CHAIN))
    claim = stage.take_one()
    before = stage.snapshot()
    assert stage.store.beat(LEASE, [(job, claim.token if token is None else token)]) == [Beat.LOST]
    assert stage.snapshot() == before


def test_a_queued_attempt_has_no_holder(stage: Stage) -> None:
    stage.start(plan(SINGLE))
    assert stage.store.beat(LEASE, [("r_0_1", "")]) == [Beat.LOST]


def test_after_its_end_an_attempt_is_nobodys(stage: Stage) -> None:
    stage.start(plan(CHAIN))
    claim = stage.take_one()
    stage.finish(claim)
    assert stage.store.beat(LEASE, [(claim.job, claim.token)]) == [Beat.LOST]
    assert stage.client.zcard(stage.keys.leases) == 0


def test_after_the_reaper_came_the_attempt_is_lost(stage: Stage) -> None:
    stage.start(plan(SINGLE))
    claim = stage.take_one()
    stage.later(LEASE + 1)
    stage.store.reap()
    assert stage.store.beat(LEASE, [(claim.job, claim.token)]) == [Beat.LOST]


@pytest.mark.parametrize("width", [1, 1000], ids=["small", "ended bit by bit"])
def test_a_cancelled_run_is_heard_of_at_once(stage: Stage, width: int) -> None:
    stage.start(plan(fan(width)))
    stage.finish(stage.take_one())
    claim = stage.take(2)[-1]
    stage.store.cancel("r")
    assert stage.store.beat(LEASE, [(claim.job, claim.token)]) == [Beat.CANCEL]
    assert stage.finish(claim)[0].kind == 0


def test_answers_come_in_the_order_of_the_question(stage: Stage) -> None:
    stage.start(plan({"a": [], "b": [], "c": []}))
    one, two, three = stage.take(3)
    stage.finish(two, Outcome.FAILED)
    held = [(claim.job, claim.token) for claim in (three, two, one)]
    assert stage.store.beat(LEASE, held) == [Beat.OK, Beat.LOST, Beat.OK]


def test_holding_nothing_is_answered_with_nothing(stage: Stage) -> None:
    assert stage.store.beat(LEASE, []) == []
    assert stage.snapshot() == {}


def test_damage_to_one_run_does_not_cost_the_others_their_lease(stage: Stage) -> None:
    stage.start(plan(SINGLE), "bad")
    stage.start(plan(SINGLE), "good")
    bad, good = stage.take(2)
    stage.client.delete(stage.keys.run("bad"))
    stage.client.set(stage.keys.run("bad"), "a string")
    assert stage.store.beat(LEASE, [(bad.job, bad.token), (good.job, good.token)]) == [Beat.LOST, Beat.OK]


@pytest.mark.parametrize("lease", ["", "long", "0", "-5"])
def test_a_lease_is_a_good_number_of_ms(stage: Stage, lease: str) -> None:
    stage.start(plan(SINGLE))
    claim = stage.take_one()
    with pytest.raises(redis.exceptions.ResponseError, match="lease"):
        stage.call("beat", lease, claim.job, claim.token)
    assert stage.client.zscore(stage.keys.leases, claim.job) == stage.now + LEASE
