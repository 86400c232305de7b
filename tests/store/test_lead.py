"""lead and resign: one leader at a time, with a token that grows whenever it changes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import redis.exceptions

from tm.store.records import Leadership

if TYPE_CHECKING:
    from tests.store.stage import Stage


def lead(stage: Stage, who: str, ttl: int = 10_000) -> int | None:
    leadership = stage.store.lead(who, ttl)
    return leadership and leadership.token


def test_the_first_to_ask_leads_and_the_others_wait(stage: Stage) -> None:
    assert lead(stage, "one") == 1
    assert lead(stage, "two") is None
    assert stage.store.lead("one", 10_000) == Leadership(who="one", token=1)


def test_asking_again_extends_the_right_under_the_same_token(stage: Stage) -> None:
    for _ in range(5):
        assert lead(stage, "one") == 1
        stage.later(9_999)
    assert lead(stage, "two") is None


def test_a_right_that_lapsed_goes_to_the_next_who_asks(stage: Stage) -> None:
    lead(stage, "one")
    stage.later(10_000)
    assert lead(stage, "two") is None, "the last ms still counts"
    stage.later(1)
    assert lead(stage, "two") == 2
    assert lead(stage, "one") is None


def test_who_comes_back_after_a_lapse_gets_a_new_token(stage: Stage) -> None:
    lead(stage, "one")
    stage.later(10_001)
    assert lead(stage, "one") == 2


def test_a_leader_that_resigns_is_followed_at_once(stage: Stage) -> None:
    stage.store.resign(Leadership(who="one", token=lead(stage, "one") or 0))
    assert lead(stage, "two") == 2


@pytest.mark.parametrize(
    "not_mine",
    [Leadership(who="one", token=2), Leadership(who="two", token=1), Leadership(who="", token=0)],
    ids=["stale token", "another", "nobody"],
)
def test_nobody_resigns_for_another(stage: Stage, not_mine: Leadership) -> None:
    lead(stage, "one")
    before = stage.snapshot()
    stage.store.resign(not_mine)
    assert stage.snapshot() == before


def test_resigning_twice_or_before_there_was_a_leader_changes_nothing(stage: Stage) -> None:
    nobody = Leadership(who="one", token=1)
    stage.store.resign(nobody)
    assert stage.snapshot() == {}
    lead(stage, "one")
    stage.store.resign(nobody)
    before = stage.snapshot()
    stage.store.resign(nobody)
    assert stage.snapshot() == before


def test_a_clock_set_back_does_not_let_a_dead_leader_rule_on(stage: Stage) -> None:
    lead(stage, "dead")
    stage.later(-3_600_000)
    assert lead(stage, "alive") == 2


def test_a_small_step_back_of_the_clock_does_not_unseat_the_leader(stage: Stage) -> None:
    lead(stage, "one")
    stage.later(-500)
    assert lead(stage, "two") is None
    assert lead(stage, "one") == 1


def test_a_leader_keeps_its_token_when_the_clock_is_set_back(stage: Stage) -> None:
    lead(stage, "one")
    stage.later(-3_600_000)
    assert lead(stage, "one") == 1
    assert lead(stage, "two") is None


def test_a_patient_leader_is_not_taken_for_one_of_the_future(stage: Stage) -> None:
    lead(stage, "one", 60_000)
    assert lead(stage, "two", 1_000) is None


@pytest.mark.parametrize("who", ["host name:17", "hôte", "*", "a\nb"])
def test_a_leader_may_have_any_name(stage: Stage, who: str) -> None:
    assert lead(stage, who) == 1
    assert lead(stage, who) == 1
    stage.store.resign(Leadership(who=who, token=1))
    assert lead(stage, "two") == 2


@pytest.mark.parametrize("lasts", ["", "soon", "0", "-1", "nan"])
def test_a_right_lasts_a_good_number_of_ms(stage: Stage, lasts: str) -> None:
    with pytest.raises(redis.exceptions.ResponseError, match="not a good number"):
        stage.call("lead", "one", lasts)
    assert stage.snapshot() == {}
