"""ring: a doorbell that was lost rings again, and those that are only waiting are left alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import redis.exceptions

from tests.store.stage import CHAIN, SINGLE, plan
from tm.states import Outcome
from tm.store.records import NewRun

if TYPE_CHECKING:
    from tests.store.stage import Stage

AGE = 15_000


def queue(stage: Stage, *names: str, apart: int = 1, **more: object) -> None:
    """Runs of one task, queued some ms apart."""
    shape = plan(SINGLE, **more)  # type: ignore[arg-type]
    for name in names:
        stage.store.start(shape, [NewRun(id=name)])
        stage.later(apart)
    stage.offer(shape.graph)


def lose_bell(stage: Stage, queue: str = "default") -> str:
    """A worker pops a bell and dies."""
    bell: bytes = stage.client.lpop(stage.keys.bell(queue))
    return bell.decode()


def test_a_lost_bell_rings_again_after_a_while(stage: Stage) -> None:
    queue(stage, "a", apart=0)
    lose_bell(stage)
    stage.later(AGE - 1)
    assert stage.store.ring() == 0
    stage.later(1)
    assert stage.store.ring() == 1
    assert stage.bells() == ["a_0_1"]
    assert stage.take_one().run == "a"


def test_ringing_again_needs_another_while(stage: Stage) -> None:
    queue(stage, "a")
    lose_bell(stage)
    stage.later(AGE)
    stage.store.ring()
    before = stage.snapshot()
    assert stage.store.ring() == 0
    assert stage.snapshot() == before


def test_a_deep_queue_of_waiting_work_is_left_alone(stage: Stage) -> None:
    queue(stage, *"abcdef")
    stage.later(10 * AGE)
    before = stage.snapshot()
    assert stage.store.ring() == 0
    assert stage.snapshot() == before


def test_only_what_is_older_than_the_head_of_the_queue_has_lost_its_bell(stage: Stage) -> None:
    queue(stage, *"abcd")
    lose_bell(stage)
    lose_bell(stage)
    stage.later(AGE)
    assert stage.store.ring() == 2
    assert stage.bells() == ["c_0_1", "d_0_1", "a_0_1", "b_0_1"]


def test_a_bell_lost_behind_others_of_the_same_ms_rings_when_these_are_gone(stage: Stage) -> None:
    queue(stage, *"abc", apart=0)
    lose_bell(stage)
    stage.later(AGE)
    assert stage.store.ring() == 0, "nobody can tell it from those that wait"
    stage.take(2)
    assert stage.store.ring() == 1
    assert stage.take_one().run == "a"


@pytest.mark.parametrize("way", ["handed back", "put back for another", "lost", "retried"])
def test_bells_ring_in_the_order_of_queueing_however_they_came_there(stage: Stage, way: str) -> None:
    queue(stage, "a", "b", "c", retries=1)
    if way == "handed back":
        stage.store.hand_back(lose_bell(stage))
    elif way == "put back for another":
        assert stage.take(1, worker="stranger") == []
    else:
        stage.finish(stage.take_one(), Outcome.LOST if way == "lost" else Outcome.FAILED)
        stage.later(1)
        stage.store.promote()
    assert stage.bells() == stage.queued()
    stage.later(AGE)
    assert stage.store.ring() == 0


def test_bells_for_nothing_at_the_head_do_not_hide_what_is_lost(stage: Stage) -> None:
    queue(stage, "a", "b")
    lose_bell(stage)
    stage.client.lpush(stage.keys.bell("default"), "gone_0_1", "nonsense")
    stage.later(AGE)
    assert stage.store.ring() == 1
    assert stage.bells() == ["b_0_1", "a_0_1"]


def test_bells_of_cancelled_runs_go_away(stage: Stage) -> None:
    queue(stage, *"abc")
    for run in "abc":
        stage.store.cancel(run)
    assert stage.store.ring() == 0
    assert stage.bells() == []


def test_a_spare_bell_does_no_harm(stage: Stage) -> None:
    queue(stage, "a", "b")
    stage.client.rpush(stage.keys.bell("default"), "a_0_1")
    assert [claim.run for claim in stage.take(5)] == ["a", "b"]


@pytest.mark.parametrize(("limit", "rung"), [(0, 0), (2, 2), (200, 5)])
def test_no_more_than_the_limit_at_once(stage: Stage, limit: int, rung: int) -> None:
    queue(stage, *"abcde")
    stage.client.delete(stage.keys.bell("default"))
    stage.later(AGE)
    assert stage.store.ring(limit) == rung


def test_all_queues_are_looked_after(stage: Stage) -> None:
    queue(stage, "a")
    queue(stage, "b", graph="h", queue="slow.lane")
    stage.client.delete(stage.keys.bell("default"), stage.keys.bell("slow.lane"))
    stage.later(AGE)
    assert stage.store.ring() == 2
    assert stage.bells("slow.lane") == ["b_0_1"]
    assert {b"rq:queue:default", b"rq:queue:slow.lane"} <= stage.client.smembers("rq:queues")


def test_something_else_in_the_place_of_one_queue_does_not_silence_the_others(stage: Stage) -> None:
    queue(stage, "a")
    queue(stage, "b", graph="h", queue="slow")
    stage.client.delete(stage.keys.bell("slow"))
    stage.client.set(stage.keys.bell("default"), "a string")
    stage.later(AGE)
    assert stage.store.ring() == 1
    assert stage.bells("slow") == ["b_0_1"]


def test_the_clock_set_back_costs_spare_bells_at_most(stage: Stage) -> None:
    queue(stage, "a")
    stage.later(-10 * AGE)
    queue(stage, "b")
    stage.later(11 * AGE)
    stage.store.ring()
    assert sorted(claim.run for claim in stage.take(9)) == ["a", "b"]
    assert stage.take(9) == []


def test_an_empty_server_has_nothing_to_ring(stage: Stage) -> None:
    assert stage.store.ring() == 0
    assert stage.snapshot() == {}


def test_a_cold_start_rings_for_everything_in_the_truth(stage: Stage) -> None:
    stage.start(plan(CHAIN))
    stage.client.delete(*(key for key in stage.client.keys("rq:*")))
    stage.later(AGE)
    assert stage.store.ring() == 1
    assert stage.work() == ["a", "b", "c"]


@pytest.mark.parametrize("arguments", [("-1", "0"), ("x", "0"), ("5", "old")])
def test_bad_arguments_ring_nothing(stage: Stage, arguments: tuple[str, str]) -> None:
    with pytest.raises(redis.exceptions.ResponseError, match="not a good number"):
        stage.call("ring", *arguments)
