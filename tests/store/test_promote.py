"""promote: retries that are due are queued, once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import redis.exceptions

from tests.store.stage import SINGLE, plan
from tm.states import Outcome
from tm.store.records import NewRun

if TYPE_CHECKING:
    from tests.store.stage import Stage


def failing(stage: Stage, *names: str, delay: float = 1.0) -> None:
    """Runs whose first attempt has failed, and whose retry waits."""
    stage.store.start(plan(SINGLE, retries=5, retry_delay=delay), [NewRun(id=name) for name in names])
    stage.offer("g")
    for claim in stage.take(len(names)):
        stage.finish(claim, Outcome.FAILED)


def test_nothing_waits(stage: Stage) -> None:
    assert stage.store.promote() == (0, None)
    assert stage.snapshot() == {}


def test_a_retry_is_queued_when_it_is_due_and_not_before(stage: Stage) -> None:
    failing(stage, "r")
    stage.later(400)
    before = stage.snapshot()
    assert stage.store.promote() == (0, 600)
    assert stage.snapshot() == before
    stage.later(600)
    assert stage.store.promote() == (1, None)
    assert stage.queued() == stage.bells() == ["r_0_2"]
    assert stage.states() == {"only": "queued"}
    assert stage.take_one().attempt == 2


def test_what_was_promoted_is_not_promoted_again(stage: Stage) -> None:
    failing(stage, "r")
    stage.later(1000)
    stage.store.promote()
    before = stage.snapshot()
    assert stage.store.promote() == (0, None)
    assert stage.snapshot() == before


@pytest.mark.parametrize(("limit", "moved", "wait"), [(0, 0, 0), (2, 2, 0), (3, 3, None), (100, 3, None)])
def test_no_more_than_the_limit_at_once(stage: Stage, limit: int, moved: int, wait: int | None) -> None:
    failing(stage, "a", "b", "c")
    stage.later(1000)
    assert stage.store.promote(limit) == (moved, wait)


def test_retries_of_cancelled_runs_are_gone(stage: Stage) -> None:
    failing(stage, "a", "b")
    stage.store.cancel("a")
    assert stage.client.zrange(stage.keys.retry, 0, -1) == [b"b_0_2"]
    stage.later(1000)
    assert stage.store.promote() == (1, None)
    assert stage.queued() == ["b_0_2"]


@pytest.mark.parametrize("stray", ["nonsense", "unknown_0_2", "a_0_7", "a_5_2", "a_0_1"])
def test_entries_for_nothing_are_dropped(stage: Stage, stray: str) -> None:
    failing(stage, "a")
    stage.client.zadd(stage.keys.retry, {stray: 1})
    assert stage.store.promote() == (1, 1000)
    assert stage.queued() == []
    assert stage.states("a") == {"only": "retrying"}


@pytest.mark.parametrize("limit", ["", "-1", "x"])
def test_a_limit_is_never_taken_for_all(stage: Stage, limit: str) -> None:
    with pytest.raises(redis.exceptions.ResponseError, match="limit"):
        stage.call("promote", limit)
