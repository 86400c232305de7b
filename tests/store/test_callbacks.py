"""Callbacks as pieces of work: queued by what they tell of, in the same call; leased, reported and forgotten by themselves."""

from __future__ import annotations

from typing import Any

import msgpack
import pytest

from tests.store.stage import CHAIN, DIAMOND, NOON, SINGLE, Stage, pack, plan
from tm import callbacks
from tm.events import AttemptEnded, CallbackEnded, RunCreated, RunEnded, TaskClosed, UnknownEvent
from tm.states import Outcome, RunState
from tm.store.records import Claim, DueTick, NewRun

ALL = ("success", "failure", "retry")
ERROR = pack({"type": "ValueError", "message": "no", "traceback": ""})


def told(claim: Claim) -> dict[str, Any]:
    """What a callback is told."""
    return {
        key.decode(): value.decode() if isinstance(value, bytes) and key not in {b"params", b"error"} else value
        for key, value in msgpack.unpackb(claim.params, raw=True).items()
    }


def take_callbacks(stage: Stage, count: int = 100) -> list[Claim]:
    return stage.take(count, queues=(callbacks.QUEUE,))


def answered(stage: Stage, claims: list[Claim], outcome: Outcome = Outcome.SUCCESS, **more: Any) -> list[str]:
    for claim in claims:
        stage.finish(claim, outcome, **more)
    return [f"{told(claim)['scope']} {told(claim)['task']} {told(claim)['kind']}" for claim in claims]


def test_a_graph_without_callbacks_pays_not_a_byte(stage: Stage) -> None:
    stage.start(plan(CHAIN, timeout=9))
    stage.work()
    assert not [key for key in stage.snapshot() if "callback" in key or callbacks.QUEUE in key]
    assert set(stage.client.hkeys(stage.keys.plan(stage.store.run("r").version))) <= {  # type: ignore[union-attr]
        b"graph", b"n", b"timeout", b"roots", b"0", b"1", b"2", b"open"
    }  # fmt: skip


def test_a_success_is_told_with_the_value_and_what_the_run_was_started_with(stage: Stage) -> None:
    stage.start(plan(SINGLE, task_calls=ALL, calls=ALL), params=b"\x81\xa1n\x03")
    claim = stage.take_one()
    stage.later(250)
    stage.finish(claim, value=b"\x07", ms=200)
    stage.later(5)
    of_task, of_run = take_callbacks(stage)
    assert (of_task.task, of_task.graph, of_task.run) == ("!on_success(only)", "g", "r")
    assert (of_run.task, of_run.version) == ("!on_success()", claim.version)
    assert of_task.inputs == of_run.inputs == [("value", b"\x07")]
    assert told(of_task) == {
        "id": "r_0_1_success", "kind": "success", "scope": "task", "run": "r", "graph": "g", "task": "only", "attempt": 1,
        "state": "success", "outcome": "success", "error": b"", "ms": 200, "due": -1, "reason": "", "worker": "w",
        "tick": -1, "params": b"\x81\xa1n\x03", "at": NOON + 250,
    }  # fmt: skip
    assert (told(of_run)["id"], told(of_run)["ms"], told(of_run)["state"]) == ("r_success", 250, "success")


def test_the_outcome_is_there_before_the_callback_begins(stage: Stage) -> None:
    stage.start(plan(CHAIN, task_calls=["success"]))
    stage.work(1)
    assert stage.states() == {"a": "success", "b": "queued", "c": "waiting"}
    assert answered(stage, take_callbacks(stage)) == ["task a success"]


def test_retries_failures_and_losses_are_told_as_they_happen(stage: Stage) -> None:
    stage.start(plan(SINGLE, retries=1, retry_delay=60, task_calls=ALL, calls=ALL))
    stage.finish(stage.take_one(), Outcome.FAILED, error=ERROR)
    [retry] = take_callbacks(stage)
    assert (told(retry)["kind"], told(retry)["due"], told(retry)["error"]) == ("retry", NOON + 60_000, ERROR)
    stage.finish(retry)
    stage.later(60_000)
    stage.store.promote()
    stage.finish(stage.take_one(), Outcome.KILLED, error=ERROR)
    assert answered(stage, take_callbacks(stage)) == ["task only retry"]
    stage.finish(stage.take_one(), Outcome.LOST, error=ERROR)
    assert take_callbacks(stage) == [], "what a worker gave back was not tried"
    stage.take_one()
    stage.later(40_000)
    stage.store.reap()
    assert answered(stage, take_callbacks(stage)) == ["task only retry"], "a lapsed lease"
    stage.finish(stage.take_one(), Outcome.FAILED, error=ERROR)
    claims = take_callbacks(stage)
    assert [told(each)["error"] for each in claims] == [ERROR, ERROR]
    assert answered(stage, claims) == ["task only failure", "graph only failure"]


def test_the_failure_of_a_run_names_the_first_task_that_failed(stage: Stage) -> None:
    stage.start(plan({"a": [], "b": [], "c": ["a", "b"]}, calls=["failure"]))
    first, second = stage.take(2)
    stage.finish(second, Outcome.TIMED_OUT, error=ERROR)
    assert take_callbacks(stage) == [], "the run is not over"
    stage.finish(first, Outcome.FAILED)
    [claim] = take_callbacks(stage)
    assert (told(claim)["task"], told(claim)["error"], told(claim)["state"]) == ("b", ERROR, "failed")


def test_who_is_quarantined_has_failed(stage: Stage) -> None:
    stage.start(plan(SINGLE, task_calls=["failure"]))
    for _ in range(3):
        stage.finish(stage.take_one(), Outcome.KILLED, error=ERROR)
    [claim] = take_callbacks(stage)
    assert told(claim)["state"] == "quarantined"


def test_a_cancelled_run_tells_the_tasks_that_had_begun_and_the_graph(stage: Stage) -> None:
    stage.start(plan(DIAMOND, task_calls=ALL, calls=ALL))
    stage.work(1)  # top
    assert answered(stage, take_callbacks(stage)) == ["task top success"]
    stage.take_one()  # left runs, right is queued
    take_callbacks(stage)
    assert stage.store.cancel("r", reason="enough")
    claims = take_callbacks(stage)
    assert {told(each)["reason"] for each in claims} == {"enough"}
    assert {told(each)["state"] for each in claims} == {"cancelled"}
    assert answered(stage, claims) == ["task left failure", "graph  failure"]


def test_a_run_that_takes_too_long_is_told_by_the_sweep(stage: Stage) -> None:
    stage.start(plan(SINGLE, timeout=10, calls=ALL))
    stage.later(10_001)
    stage.store.expire()
    [claim] = take_callbacks(stage)
    assert (told(claim)["state"], told(claim)["ms"]) == ("timed_out", -1)


def test_a_tick_whose_config_cannot_be_read_is_a_failure_and_a_skipped_one_is_nothing(stage: Stage) -> None:
    which = plan(SINGLE, calls=ALL)
    stage.store.define(which)
    stage.offer("g")
    leader = stage.store.lead("me", 10_000)
    assert leader is not None
    broken = DueTick(run="r1", at_ms=NOON, born=RunState.FAILED, reason="config: line 3")
    skipped = DueTick(run="r2", at_ms=NOON + 1, born=RunState.SKIPPED, reason="misfire")
    stage.store.tick(which, leader, [broken, skipped])
    [claim] = take_callbacks(stage)
    assert (told(claim)["run"], told(claim)["reason"], told(claim)["tick"]) == ("r1", "config: line 3", NOON)


def test_a_skipped_task_is_told_to_nobody_and_its_run_is_a_success(stage: Stage) -> None:
    stage.start(plan(CHAIN, task_calls=ALL, calls=ALL))
    stage.finish(stage.take_one(), Outcome.SKIPPED, error=ERROR)
    [claim] = take_callbacks(stage)
    assert (told(claim)["id"], claim.inputs) == ("r_success", [("value", b"\xc0")])


def test_what_a_person_marks_is_told_of_the_run_only(stage: Stage) -> None:
    from tm.states import TaskState

    stage.start(plan(SINGLE, task_calls=ALL, calls=ALL))
    stage.store.mark("r", 0, TaskState.FAILED, by="me", reason="why")
    assert answered(stage, take_callbacks(stage)) == ["graph  failure"]


@pytest.mark.parametrize(
    ("outcome", "noted"),
    [
        (Outcome.SUCCESS, "success"),
        (Outcome.FAILED, "failed"),
        (Outcome.TIMED_OUT, "timed_out"),
        (Outcome.KILLED, "killed"),
    ],
)
def test_history_hears_how_a_callback_ended_and_nothing_else_of_it(stage: Stage, outcome: Outcome, noted: str) -> None:
    stage.start(plan(SINGLE, task_calls=ALL))
    stage.work(1)
    [claim] = take_callbacks(stage)
    stage.later(30)
    error = b"" if outcome is Outcome.SUCCESS else ERROR
    stage.finish(claim, outcome, error=error, ms=12)
    assert take_callbacks(stage) == [], "even one that killed its process is not called again"
    kinds = [type(event) for event in stage.events()]
    assert kinds == [RunCreated, AttemptEnded, RunEnded, CallbackEnded]
    [event] = stage.told(CallbackEnded)
    assert event == CallbackEnded(
        run="r", graph="g", task="only", kind="success", id="r_0_1_success", outcome=noted, worker="w", deliveries=1,
        ms=12, error=error, at=stage.now,
    )  # fmt: skip
    assert stage.store.open_runs() == []
    assert stage.states() == {"only": "success"}


def test_a_callback_whose_worker_vanished_is_told_again_and_given_up_in_the_end(stage: Stage) -> None:
    stage.start(plan(SINGLE, task_calls=ALL))
    stage.work(1)
    for delivery in (1, 2, 3):
        [claim] = take_callbacks(stage)
        assert (claim.attempt, told(claim)["id"]) == (delivery, "r_0_1_success")
        stage.later(30_001)
        assert stage.store.reap() == 1
    assert take_callbacks(stage) == []
    [event] = stage.told(CallbackEnded)
    assert (event.outcome, event.deliveries) == ("lost", 3)


def test_a_lost_reply_is_repeated_with_the_same_callbacks_and_a_late_report_is_told_to_nobody(stage: Stage) -> None:
    stage.start(plan(SINGLE, task_calls=ALL))
    stage.finish(stage.take_one(), value=b"\x07")
    ask = stage.ask(3, queues=(callbacks.QUEUE,))
    [claim] = stage.store.take(ask).claims
    from dataclasses import replace

    assert stage.store.take(replace(ask, again=True, count=0)).claims == [claim]
    stage.later(30_001)
    stage.store.reap()
    before = len(stage.events())
    assert stage.finish(claim)[0].kind == -1
    stage.client.delete(stage.keys.run(told(claim)["id"]))
    assert stage.finish(claim)[0].kind == -1
    assert len(stage.events()) == before


def test_a_worker_without_the_task_leaves_the_callback_to_one_that_has_it(stage: Stage) -> None:
    stage.start(plan(SINGLE, task_calls=ALL, calls=ALL))
    stage.work(1)
    stage.offer("other", worker="stranger")
    assert stage.store.take(stage.ask(5, worker="stranger", queues=(callbacks.QUEUE,))).passed == 2
    stage.offer("g", "g/", "g/another", worker="old")
    [claim] = stage.take(5, worker="old", queues=(callbacks.QUEUE,))
    assert told(claim)["scope"] == "graph", "any that has the graph does for that"
    assert len(take_callbacks(stage)) == 1


def test_nothing_of_it_is_kept_for_ever(stage: Stage) -> None:
    stage.start(plan(CHAIN, task_calls=ALL, calls=ALL))
    stage.work()
    answered(stage, take_callbacks(stage))
    version = stage.keys.plan(stage.store.run("r").version)  # type: ignore[union-attr]
    kept = {key for key, (_, expires) in stage.snapshot().items() if not expires}
    assert stage.client.hget(version, "open") == b"0"
    assert not [key for key in kept if ":run:" in key or ":plan:" in key or ":out:" in key or key.startswith("rq:job")]


def test_one_that_no_worker_can_call_is_dropped_after_a_week(stage: Stage) -> None:
    stage.start(plan(SINGLE, task_calls=ALL))
    stage.work(1)
    [job] = stage.queued(callbacks.QUEUE)
    key = stage.keys.run("r_0_1_success")
    assert 6 * 86_400_000 < stage.client.pttl(key) <= 7 * 86_400_000
    stage.client.delete(key)
    assert take_callbacks(stage) == []
    stage.later(20_000)
    stage.store.ring()
    assert stage.queued(callbacks.QUEUE) == stage.bells(callbacks.QUEUE) == []
    assert not stage.client.exists(stage.keys.rq_job(job))


def test_many_are_told_in_the_order_in_which_they_happened(stage: Stage) -> None:
    which = plan(SINGLE, task_calls=["success"])
    stage.offer("g")
    for first in range(0, 1000, 50):
        stage.store.start(which, [NewRun(id=f"r{n:04}") for n in range(first, first + 50)])
    happened: list[str] = []
    while claims := stage.take(200):
        for claim in claims:
            stage.finish(claim)
            happened.append(claim.run)
    assert len(happened) == 1000
    seen: list[str] = []
    while claims := take_callbacks(stage):
        seen += [told(claim)["run"] for claim in claims]
        answered(stage, claims)
    assert seen == happened


def test_every_event_is_known(stage: Stage) -> None:
    stage.start(plan(SINGLE, task_calls=ALL, calls=ALL))
    stage.work()
    answered(stage, take_callbacks(stage))
    assert stage.told(UnknownEvent) == stage.told(TaskClosed) == []
