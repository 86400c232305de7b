"""pause_queue, resume_queue, purge_queue: what people do to the work that waits in a queue."""

from __future__ import annotations

import pytest
import redis.exceptions

from tests.store.stage import CHAIN, DIAMOND, SINGLE, Stage, fan, plan
from tm.events import CallbackEnded, RunEnded, TaskClosed
from tm.states import Outcome
from tm.store.records import Beat, NewRun, Report, VerdictKind

MINUTE = 60_000
ALL = ("default", "slow")


def test_nothing_is_handed_out_of_a_paused_queue_and_other_queues_go_on(stage: Stage) -> None:
    stage.start(plan(DIAMOND, queue={"top": "slow", "left": "default", "right": "default", "join": "default"}), "r")
    stage.start(plan(SINGLE), "other")
    assert stage.store.pause_queue("slow", by="ann@host", reason="gpu on fire")
    grant = stage.store.take(stage.ask(5, queues=("slow", "default")))
    assert [claim.run for claim in grant.claims] == ["other"]
    assert grant.paused == {"slow"}
    assert stage.queued("slow") == ["r_0_1"]
    assert stage.bells("slow") == ["r_0_1"]


def test_what_runs_goes_on_and_its_children_wait(stage: Stage) -> None:
    stage.start(plan(CHAIN))
    claim = stage.take_one()
    stage.store.pause_queue("default", by="me")
    assert stage.store.beat(1000, [(claim.job, claim.token)]) == [Beat.OK]
    verdict, grant = stage.finish(claim, count=1)
    assert verdict.kind is VerdictKind.ACCEPTED
    assert (grant.claims, grant.paused) == ([], {"default"})
    assert stage.states()["b"] == "queued"
    assert stage.store.resume_queue("default")
    assert [stage.take_one().task] == ["b"]


def test_a_doorbell_that_was_heard_is_handed_back_at_the_head(stage: Stage) -> None:
    stage.start(plan(SINGLE), "one")
    stage.start(plan(SINGLE), "two")
    bell = stage.client.lpop(stage.keys.bell("default")).decode()
    stage.store.pause_queue("default", by="me")
    grant = stage.store.take(stage.ask(1, bell=bell))
    assert (grant.claims, grant.paused) == ([], {"default"})
    assert stage.bells() == ["one_0_1", "two_0_1"]


def test_it_ends_when_it_was_to_end_and_is_forgotten(stage: Stage) -> None:
    stage.start(plan(SINGLE))
    stage.store.pause_queue("default", by="me", until_ms=stage.now + MINUTE)
    assert stage.take() == []
    stage.later(MINUTE)
    assert stage.store.queue_pauses(stage.now) == {}
    grant = stage.store.take(stage.ask())
    assert (len(grant.claims), grant.paused) == (1, frozenset())
    assert not stage.client.exists(stage.keys.paused_queues)


def test_saying_it_again_changes_the_reason_and_not_since_when(stage: Stage) -> None:
    began = stage.now
    assert stage.store.pause_queue("q", by="ann", reason="one")
    stage.later(MINUTE)
    assert not stage.store.pause_queue("q", by="bob", reason="two", until_ms=stage.now + MINUTE)
    pause = stage.store.queue_pauses(stage.now)["q"]
    assert (pause.by, pause.reason, pause.since_ms, pause.until_ms) == ("bob", "two", began, stage.now + MINUTE)
    assert stage.store.resume_queue("q")
    assert not stage.store.resume_queue("q")


def test_what_waits_in_a_paused_queue_does_not_keep_the_rest_of_its_run_from_being_queued(stage: Stage) -> None:
    names = [f"t{number}" for number in range(500)]
    queues = {name: "slow" if number < 200 else "default" for number, name in enumerate(names)}
    stage.start(plan({name: [] for name in names}, queue=queues))
    stage.store.pause_queue("slow", by="me")
    done, claims = 0, stage.take(32, queues=ALL)
    while claims:
        done += len(claims)
        reports = [Report(claim.job, claim.token, Outcome.SUCCESS, b"v") for claim in claims]
        claims = stage.store.finish(stage.ask(32, queues=ALL), reports)[1].claims or stage.take(32, queues=ALL)
    assert done == 300, "and no scheduler is needed for that"


def test_workers_that_are_suspended_are_told_so_first(stage: Stage) -> None:
    stage.start(plan(SINGLE))
    stage.store.pause_queue("default", by="me")
    stage.client.set("rq:suspended", 1)
    assert stage.store.take(stage.ask()).suspended
    stage.client.delete("rq:suspended")
    grant = stage.store.take(stage.ask())
    assert (grant.suspended, grant.paused) == (False, {"default"})


def test_what_cannot_be_read_pauses_nothing(stage: Stage) -> None:
    stage.start(plan(SINGLE))
    stage.client.hset(stage.keys.paused_queues, "default", b"\xc1rubbish")
    assert stage.store.queue_pauses(stage.now) == {}
    assert len(stage.take()) == 1


def test_a_key_of_another_type_pauses_nothing(stage: Stage) -> None:
    stage.start(plan(SINGLE))
    stage.client.set(stage.keys.paused_queues, "rubbish")
    assert len(stage.take()) == 1


def test_nonsense_changes_nothing(stage: Stage) -> None:
    stage.start(plan(SINGLE))
    before = stage.snapshot()
    with pytest.raises(redis.exceptions.ResponseError):
        stage.call("pause_queue", "q", "me", "", "tomorrow")
    with pytest.raises(redis.exceptions.ResponseError):
        stage.call("purge_queue", "default", "why", "some", "")
    with pytest.raises(redis.exceptions.ResponseError):
        stage.call("purge_queue", "default", "why", "10", "never")
    assert stage.snapshot() == before


def test_a_purge_cancels_the_runs_of_what_waits_and_says_why(stage: Stage) -> None:
    stage.start(plan(CHAIN, queue="slow"), "r")
    stage.start(plan(SINGLE), "other")
    done = stage.store.purge_queue("slow", "queue slow purged by ann@host: wrong day")
    assert (done.attempts, done.runs) == (1, ("r",))
    assert (stage.state("r"), stage.state("other")) == ("cancelled", "queued")
    assert set(stage.states("r").values()) == {"cancelled"}
    assert stage.queued("slow") == []
    [ended] = stage.told(RunEnded)
    assert (ended.run, ended.reason) == ("r", "queue slow purged by ann@host: wrong day")
    assert {each.task for each in stage.told(TaskClosed)} == {"a", "b", "c"}
    assert stage.store.purge_queue("slow", "again").attempts == 0


def test_what_runs_in_such_a_run_is_stopped(stage: Stage) -> None:
    queues = {"first": "default", "m0": "slow", "m1": "default", "last": "default"}
    stage.start(plan(fan(2), queue=queues))
    stage.finish(stage.take_one())
    running = stage.take_one()
    assert running.task == "m1"
    assert stage.store.purge_queue("slow", "why").runs == ("r",)
    assert stage.store.beat(1000, [(running.job, running.token)]) == [Beat.CANCEL]


def test_a_deep_queue_is_purged_bit_by_bit_and_each_run_ends_once(stage: Stage) -> None:
    wide = plan({f"t{n}": [] for n in range(30)})
    stage.store.start(wide, [NewRun(id=f"r{n}") for n in range(20)])
    while stage.client.llen(stage.keys.backlog):
        stage.store.promote(0)
    done = stage.store.purge_queue("default", "why", limit=7)
    assert done.attempts == 600
    assert sorted(done.runs) == sorted(f"r{n}" for n in range(20))
    while stage.client.llen(stage.keys.backlog):
        stage.store.promote(0)
    assert sorted(each.run for each in stage.told(RunEnded)) == sorted(done.runs)
    assert stage.queued() == []
    assert stage.store.open_runs() == []


def test_callbacks_that_wait_are_given_up_and_history_knows(stage: Stage) -> None:
    stage.start(plan(SINGLE, calls=("success",)))
    stage.finish(stage.take_one())
    assert len(stage.queued("tm-callbacks")) == 1
    done = stage.store.purge_queue("tm-callbacks", "why")
    assert (done.attempts, done.runs) == (1, ())
    assert stage.queued("tm-callbacks") == []
    [told] = stage.told(CallbackEnded)
    assert told.outcome == "failed"
    assert stage.state() == "success"


def test_what_is_there_for_nothing_goes_too(stage: Stage) -> None:
    stage.store.start(plan(SINGLE), [NewRun(id="r")])
    stage.client.zadd(stage.keys.queued("default"), {"ghost_0_1": 5, "rubbish": 6})
    done = stage.store.purge_queue("default", "why")
    assert done.runs == ("r",)
    assert stage.queued() == []


def test_a_full_server_lets_all_of_it_through(stage: Stage) -> None:
    stage.start(plan(SINGLE))
    stage.client.config_set("maxmemory", 1)
    try:
        stage.store.pause_queue("default", by="me")
        assert stage.take() == []
        assert stage.store.resume_queue("default")
        assert stage.store.purge_queue("default", "why").runs == ("r",)
        assert stage.store.drain_workers(["w"], by="me") == ["w"]
    finally:
        stage.client.config_set("maxmemory", 0)


def test_a_worker_hears_at_its_next_heartbeat_that_it_is_to_drain(stage: Stage) -> None:
    assert stage.store.announce("w", ["g"], {"host": "here"}, MINUTE) is None
    assert stage.store.drain_workers(["w", "nobody"], by="ann@host", limit=2.5) == ["w"]
    order = stage.store.announce("w", ["g"], {"host": "here"}, MINUTE)
    assert order is not None
    assert (order.by, order.limit) == ("ann@host", 2.5)
    stage.store.drain_workers(["w"], by="bob@host")
    order = stage.store.announce("w", ["g"], {"host": "here"}, MINUTE)
    assert order is not None
    assert (order.by, order.limit) == ("bob@host", None)
    assert not stage.client.exists(stage.keys.worker("nobody"))
    stage.store.retire("w")
    assert stage.store.announce("w", ["g"], {}, MINUTE) is None
