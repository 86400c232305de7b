"""retry: a new run that repairs one which has ended, and keeps what succeeded with its messages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import redis.exceptions

from tests.store.stage import CHAIN, DIAMOND, SINGLE, Stage, fan, plan
from tm.errors import RefusedError
from tm.events import RunCreated, RunEnded, TaskMarked, TasksKept
from tm.states import Outcome, RunState, TaskState, Trigger
from tm.store.records import RUN, SKIP, RetryRun

if TYPE_CHECKING:
    from tm.records import Plan


def broken_diamond(stage: Stage, **more: Any) -> Plan:
    """`r`: top and right succeeded, left failed, join is blocked."""
    shape = plan(DIAMOND)
    stage.start(shape, **more)
    for claim in iter(stage.take, []):
        failed = claim[0].task == "left"
        stage.finish(claim[0], Outcome.FAILED if failed else Outcome.SUCCESS, b"value of " + claim[0].task.encode())
    assert stage.states() == {"top": "success", "left": "failed", "right": "success", "join": "blocked"}
    return shape


def retry(stage: Stage, shape: Plan, tasks: tuple[Any, ...], run: str = "r-2", **more: Any) -> bool:
    return stage.store.retry(shape.version, RetryRun(source="r", id=run, tasks=tasks, **more))


KEEP = (0, RUN, 2, RUN)


def test_what_succeeded_is_kept_and_downstream_runs_once_with_the_kept_messages(stage: Stage) -> None:
    shape = broken_diamond(stage, params=b"p", config="c")
    assert retry(stage, shape, KEEP, params=b"p", config="c")
    view = stage.store.run("r-2")
    assert view is not None
    assert (view.trigger, view.retry_of, view.params, view.config) == (Trigger.RETRY, "r", b"p", "c")
    assert stage.states("r-2") == {"top": "success", "left": "queued", "right": "success", "join": "waiting"}
    left = stage.take_one()
    assert (left.run, left.task, left.inputs) == ("r-2", "left", [("top", b"value of top")])
    stage.finish(left, value=b"new")
    join = stage.take_one()
    assert join.inputs == [("left", b"new"), ("right", b"value of right")]
    stage.finish(join)
    assert stage.state("r-2") == "success"
    assert stage.state("r") == "failed", "a terminal state never changes"
    assert stage.take() == []


def test_history_is_told_what_was_kept_and_of_which_run_it_is_a_retry(stage: Stage) -> None:
    shape = broken_diamond(stage)
    retry(stage, shape, KEEP)
    created = stage.told(RunCreated)[-1]
    assert (created.run, created.retry_of, created.trigger, created.state) == ("r-2", "r", "retry", RunState.QUEUED)
    [kept] = stage.told(TasksKept)
    assert (kept.run, kept.source) == ("r-2", "r")
    assert [(each.node, each.task, each.state) for each in kept.tasks] == [
        (0, "top", "success"),
        (2, "right", "success"),
    ]


def test_repeating_it_changes_nothing(stage: Stage) -> None:
    shape = broken_diamond(stage)
    assert retry(stage, shape, KEEP)
    before = stage.snapshot()
    assert not retry(stage, shape, KEEP)
    assert not retry(stage, shape, (RUN,) * 4)
    assert stage.snapshot() == before


def test_a_retry_of_a_retry_may_go_on_from_there(stage: Stage) -> None:
    shape = broken_diamond(stage)
    retry(stage, shape, KEEP)
    stage.finish(stage.take_one(), Outcome.FAILED)
    assert stage.store.retry(shape.version, RetryRun(source="r-2", id="r-3", tasks=KEEP))
    assert stage.work() == ["left", "join"]
    assert stage.state("r-3") == "success"


def test_the_tick_of_the_run_is_that_of_its_retry(stage: Stage) -> None:
    from tm.store.records import DueTick

    leader = stage.store.lead("me", 10**9)
    assert leader is not None
    shape = plan(SINGLE)
    stage.offer("g")
    stage.store.tick(shape, leader, [DueTick(run="r", at_ms=stage.now)])
    stage.work(outcome=Outcome.FAILED)
    retry(stage, shape, (RUN,))
    assert stage.take_one().tick_ms == stage.now


def test_everything_may_run_again(stage: Stage) -> None:
    shape = broken_diamond(stage)
    retry(stage, shape, (RUN,) * 4)
    assert stage.work() == ["top", "left", "right", "join"]


def test_a_newer_plan_may_have_other_tasks_in_another_order(stage: Stage) -> None:
    broken_diamond(stage)
    newer = plan({"top": [], "check": ["top"], "right": ["top"], "left": ["top"], "join": ["left", "right", "check"]})
    stage.store.define(newer)
    assert retry(stage, newer, (0, RUN, 2, RUN, RUN))
    assert sorted(stage.work()) == ["check", "join", "left"]
    assert stage.state("r-2") == "success"


def test_only_one_task_runs_and_the_rest_is_left_as_it_was(stage: Stage) -> None:
    shape = broken_diamond(stage)
    assert retry(stage, shape, (0, RUN, 2, SKIP))
    assert stage.states("r-2") == {"top": "success", "left": "queued", "right": "success", "join": "skipped"}
    assert stage.work() == ["left"]
    assert stage.state("r-2") == "success"


@pytest.mark.parametrize("shape", [CHAIN, DIAMOND])
def test_what_is_kept_below_a_task_that_runs_does_not_run_again(stage: Stage, shape: dict[str, list[str]]) -> None:
    drawn = plan(shape)
    stage.start(drawn)
    stage.work()
    assert retry(stage, drawn, (RUN, *range(1, len(drawn.tasks))))
    assert stage.work() == [drawn.tasks[0].name]
    assert stage.state("r-2") == "success"


def test_what_is_kept_below_a_task_that_fails_stays_as_it_is(stage: Stage) -> None:
    drawn = plan(CHAIN)
    stage.start(drawn)
    stage.work()
    retry(stage, drawn, (RUN, 1, 2))
    stage.work(outcome=Outcome.FAILED)
    assert stage.states("r-2") == {"a": "failed", "b": "success", "c": "success"}
    assert stage.state("r-2") == "failed"


def test_a_task_may_be_taken_as_successful(stage: Stage) -> None:
    shape = broken_diamond(stage)
    assert retry(stage, shape, (0, ("success", "failed"), 2, RUN), by="ann@host", reason="loaded by hand")
    join = stage.take_one()
    assert join.inputs == [("left", b"\xc0"), ("right", b"value of right")]
    [mark] = stage.told(TaskMarked)
    assert (mark.run, mark.task, mark.was, mark.state) == ("r-2", "left", "failed", "success")
    assert (mark.by, mark.reason) == ("ann@host", "loaded by hand")


def test_when_nothing_is_left_to_run_it_ends_at_once(stage: Stage) -> None:
    shape = plan(SINGLE)
    stage.start(shape)
    stage.work(outcome=Outcome.FAILED)
    assert retry(stage, shape, (("skipped", "failed"),))
    assert stage.state("r-2") == "success"
    assert stage.store.open_runs() == []
    assert stage.told(RunEnded)[-1].run == "r-2"
    assert stage.client.pttl(stage.keys.run("r-2")) > 0
    assert stage.client.pttl(stage.keys.out("r-2")) > 0


def test_an_open_run_is_not_retried(stage: Stage) -> None:
    shape = plan(CHAIN)
    stage.start(shape)
    before = stage.snapshot()
    with pytest.raises(redis.exceptions.ResponseError, match="OPEN"):
        retry(stage, shape, (RUN,) * 3)
    assert stage.snapshot() == before


def test_a_run_that_is_gone_is_not_retried(stage: Stage) -> None:
    shape = broken_diamond(stage)
    stage.client.delete(stage.keys.run("r"), stage.keys.out("r"))
    with pytest.raises(redis.exceptions.ResponseError, match=r"GONE$"):
        retry(stage, shape, KEEP)
    assert stage.store.run("r-2") is None


def test_a_message_that_is_gone_names_its_task_and_leaves_nothing(stage: Stage) -> None:
    shape = broken_diamond(stage)
    stage.client.hdel(stage.keys.out("r"), "2")
    with pytest.raises(redis.exceptions.ResponseError, match="GONE right"):
        retry(stage, shape, KEEP)
    assert stage.store.run("r-2") is None
    assert not stage.client.exists(stage.keys.out("r-2"))


@pytest.mark.parametrize("tasks", [(0, 1, 2, RUN), (0, 9, 2, RUN), (0, RUN), (0, RUN, 2, ("failed", "x"))])
def test_only_what_ended_well_is_kept(stage: Stage, tasks: tuple[Any, ...]) -> None:
    shape = broken_diamond(stage)
    with pytest.raises(redis.exceptions.ResponseError):
        retry(stage, shape, tasks)
    assert stage.store.run("r-2") is None
    assert stage.store.open_runs() == []


def test_an_unknown_plan_is_said_to_be(stage: Stage) -> None:
    broken_diamond(stage)
    with pytest.raises(redis.exceptions.ResponseError, match="NOPLAN"):
        retry(stage, plan(SINGLE), (RUN,))


def test_large_messages_are_copied_in_several_calls_and_the_run_begins_with_all_of_them(stage: Stage) -> None:
    shape = plan(fan(12))
    stage.start(shape)
    while claims := stage.take():
        last = claims[0].task == "last"
        stage.finish(claims[0], Outcome.FAILED if last else Outcome.SUCCESS, b"x" * 1_000_000)
    spec = (*range(13), RUN)
    calls: list[Any] = []
    original = stage.store._call
    stage.store._call = lambda name, *args: calls.append(name) or original(name, *args)  # type: ignore[method-assign,func-returns-value]
    assert retry(stage, shape, spec)
    assert calls.count("retry") == 3
    [claim] = stage.take()
    assert [len(value) for _, value in claim.inputs] == [1_000_000] * 12
    assert stage.client.pttl(stage.keys.out("r-2")) == -1


def test_messages_of_a_retry_that_was_given_up_do_not_mix_with_another(stage: Stage) -> None:
    shape = broken_diamond(stage)
    stage.client.hset(stage.keys.out("r-2"), mapping={"0": b"stale", "3": b"stale", "of": "another"})
    assert retry(stage, shape, KEEP)
    assert stage.client.hgetall(stage.keys.out("r-2")) == {b"0": b"value of top", b"2": b"value of right"}


def test_a_wide_retry_queues_bit_by_bit(stage: Stage) -> None:
    shape = plan(fan(900))
    stage.start(shape)
    stage.finish(stage.take_one())
    while stage.store.promote()[1] is not None:
        pass
    stage.store.cancel("r")
    while stage.store.promote()[1] is not None:
        pass
    assert retry(stage, shape, (0, *[RUN] * 901))
    while stage.store.promote()[1] is not None:
        pass
    assert len(stage.work(2000)) == 901
    assert stage.state("r-2") == "success"


def test_a_cancelled_retry_queues_no_more(stage: Stage) -> None:
    shape = plan(fan(900))
    stage.start(shape)
    stage.store.cancel("r")
    while stage.store.promote()[1] is not None:
        pass
    wide = plan({f"t{number}": [] for number in range(900)}, version="wide")
    stage.store.define(wide)
    stage.client.hset(stage.keys.run("r"), "graph", "g")
    assert retry(stage, wide, (RUN,) * 900)
    stage.store.cancel("r-2")
    while stage.store.promote()[1] is not None:
        pass
    assert stage.queued() == []
    assert stage.state("r-2") == "cancelled"


def test_a_run_that_did_not_succeed_is_kept_for_longer(stage: Stage) -> None:
    from tm.store import Store

    stage.store = Store(stage.client, library=stage.library, result_ttl=600, failed_ttl=86_400)
    shape = plan(CHAIN)
    for run, outcome in (("good", Outcome.SUCCESS), ("bad", Outcome.FAILED)):
        stage.start(shape, run)
        stage.work(outcome=outcome)
    stage.start(shape, "half")
    stage.work(1)
    stage.store.cancel("half")
    days = {run: stage.client.pttl(stage.keys.run(run)) / 86_400_000 for run in ("good", "bad", "half")}
    assert days["good"] < 0.01
    assert days["bad"] > 0.9
    assert days["half"] > 0.9
    assert stage.client.pttl(stage.keys.out("half")) > 80_000_000
    assert stage.client.pttl(stage.keys.plan(shape.version)) > 2 * 80_000_000


def test_a_retry_marks_nothing_waiting_as_failed(stage: Stage) -> None:
    shape = broken_diamond(stage)
    retry(stage, shape, KEEP)
    assert stage.store.mark("r-2", 3, TaskState.SKIPPED, by="me", reason="why") == (True, "waiting")
    assert stage.work() == ["left"]
    assert stage.state("r-2") == "success"


def test_a_server_that_always_asks_for_another_call_is_not_asked_for_ever(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    shape = broken_diamond(stage)
    calls: list[Any] = []
    monkeypatch.setattr(stage.store, "_call", lambda *args: 2 if calls.append(args) is None else 0)
    with pytest.raises(RefusedError, match="somebody else starts it"):
        retry(stage, shape, KEEP)
    assert len(calls) == len(KEEP) + 2
