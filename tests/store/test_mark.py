"""mark: a person says how a task ended, and the run goes on as if it had ended so by itself."""

from __future__ import annotations

from typing import Any

import pytest
import redis.exceptions

from tests.store.stage import CHAIN, DIAMOND, SINGLE, Stage, fan, plan
from tm.events import TaskMarked
from tm.states import Outcome, TaskState
from tm.store.records import Beat

SUCCESS, FAILED, SKIPPED = TaskState.SUCCESS, TaskState.FAILED, TaskState.SKIPPED


def mark(stage: Stage, node: int, state: TaskState, run: str = "r") -> tuple[bool, str]:
    return stage.store.mark(run, node, state, by="ann@host", reason="because")


def test_a_queued_task_is_over_and_its_child_receives_none(stage: Stage) -> None:
    stage.start(plan(CHAIN))
    assert mark(stage, 0, SUCCESS) == (True, "queued")
    claim = stage.take_one()
    assert (claim.task, claim.inputs) == ("b", [("a", b"\xc0")])
    assert stage.queued() == []
    assert stage.states()["a"] == "success"


def test_marked_skipped_it_takes_what_is_below_along(stage: Stage) -> None:
    stage.start(plan(DIAMOND))
    stage.work(1)
    assert mark(stage, 1, SKIPPED) == (True, "queued")
    assert stage.states() == {"top": "success", "left": "skipped", "right": "queued", "join": "skipped"}
    assert stage.work() == ["right"]
    assert stage.state() == "success"
    assert stage.store.result("r") == b"\xc0"


def test_a_running_task_loses_its_lease_and_its_report_changes_nothing(stage: Stage) -> None:
    stage.start(plan(CHAIN))
    claim = stage.take_one()
    assert mark(stage, 0, SUCCESS) == (True, "running")
    assert stage.client.zcard(stage.keys.leases) == 0
    assert stage.store.beat(1000, [(claim.job, claim.token)]) == [Beat.LOST]
    assert stage.finish(claim, Outcome.FAILED)[0].kind == 0
    assert stage.work() == ["b", "c"]
    assert stage.state() == "success"


def test_a_retrying_task_is_not_tried_again(stage: Stage) -> None:
    stage.start(plan(CHAIN, retries=3, retry_delay=60))
    stage.finish(stage.take_one(), Outcome.FAILED)
    assert mark(stage, 0, SUCCESS) == (True, "retrying")
    assert stage.client.zcard(stage.keys.retry) == 0
    assert stage.work() == ["b", "c"]


def test_a_waiting_task_lets_its_children_go_and_does_not_run_when_its_parent_ends(stage: Stage) -> None:
    stage.start(plan(CHAIN))
    assert mark(stage, 1, SUCCESS) == (True, "waiting")
    assert stage.work() == ["a", "c"]
    assert stage.states() == {"a": "success", "b": "success", "c": "success"}
    assert stage.state() == "success"


def test_a_waiting_task_of_several_parents_does_not_run_either(stage: Stage) -> None:
    stage.start(plan(DIAMOND))
    assert mark(stage, 3, SUCCESS) == (True, "waiting")
    assert sorted(stage.work()) == ["left", "right", "top"]
    assert stage.state() == "success"


def test_a_waiting_task_below_one_that_fails_is_not_blocked(stage: Stage) -> None:
    stage.start(plan(CHAIN))
    mark(stage, 1, SUCCESS)
    claim = next(claim for claim in stage.take(2) if claim.task == "a")
    stage.finish(claim, Outcome.FAILED)
    assert stage.states()["b"] == "success"
    assert stage.states()["c"] == "running"


def test_marked_failed_it_blocks_what_is_below(stage: Stage) -> None:
    stage.start(plan(DIAMOND, retries=5))
    stage.work(1)
    assert mark(stage, 1, FAILED) == (True, "queued")
    assert stage.states() == {"top": "success", "left": "failed", "right": "queued", "join": "blocked"}
    assert stage.work() == ["right"]
    assert stage.state() == "failed"


def test_the_last_one_ends_the_run(stage: Stage) -> None:
    stage.start(plan(SINGLE))
    assert mark(stage, 0, SUCCESS) == (True, "queued")
    assert stage.state() == "success"
    assert stage.store.result("r") == b"\xc0"
    assert stage.store.open_runs() == []
    assert stage.take() == []


def test_it_is_kept_who_said_so_and_why(stage: Stage) -> None:
    stage.start(plan(CHAIN))
    mark(stage, 2, SKIPPED)
    [event] = stage.told(TaskMarked)
    assert event == TaskMarked(
        run="r", node=2, task="c", was=TaskState.WAITING, state=SKIPPED, by="ann@host", reason="because", at=stage.now
    )


def test_a_task_that_is_over_stays_as_it_is(stage: Stage) -> None:
    stage.start(plan(CHAIN))
    stage.work(1)
    before = stage.snapshot()
    assert mark(stage, 0, FAILED) == (False, "success")
    assert stage.snapshot() == before


def test_a_run_that_is_over_stays_as_it_is(stage: Stage) -> None:
    stage.start(plan(SINGLE))
    stage.work(outcome=Outcome.FAILED)
    before = stage.snapshot()
    assert mark(stage, 0, SUCCESS) == (False, "failed")
    assert mark(stage, 0, SUCCESS, "nobody") == (False, "")
    assert stage.snapshot() == before


@pytest.mark.parametrize(
    "args", [("r", 7, "success"), ("r", "x", "success"), ("r", 0, "cancelled"), ("r", -1, "failed")]
)
def test_nonsense_changes_nothing(stage: Stage, args: tuple[Any, ...]) -> None:
    stage.start(plan(CHAIN))
    before = stage.snapshot()
    with pytest.raises(redis.exceptions.ResponseError):
        stage.call("mark", *args, "me", "why")
    assert stage.snapshot() == before


def test_a_wide_graph_goes_on_bit_by_bit(stage: Stage) -> None:
    stage.start(plan(fan(900)))
    mark(stage, 0, SUCCESS)
    while stage.store.promote()[1] is not None:
        pass
    assert len(stage.work(2000)) == 901
    assert stage.state() == "success"
