"""What is shown of a moment: leases, queues, places in a queue, who leads."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgpack

from tests.store.stage import DIAMOND, LEASE, NOON, SINGLE, plan
from tm.states import Outcome, TaskState
from tm.store.looking import LeaseView, Place, Position, WorkView, read_record
from tm.store.records import NewRun

if TYPE_CHECKING:
    import pytest

    from tests.store.stage import Stage


def test_an_empty_server_has_nothing_to_show(stage: Stage) -> None:
    scene = stage.store.scene()
    assert (scene.leader, scene.workers, scene.queues, scene.leases, scene.running) == (None, (), (), (), 0)
    assert (scene.suspended, scene.suspended_for_ms, scene.backlog) == (False, None, 0)
    assert stage.store.position() == Position("0", 0)
    assert stage.store.place("default", "r_0_1") == Place(ahead=None, bell=False)


def test_what_runs_is_told_with_worker_and_task(stage: Stage) -> None:
    stage.start(plan(DIAMOND))
    stage.take_one()
    scene = stage.store.scene()
    assert scene.leases == (LeaseView(run="r", node=0, attempt=1, until_ms=NOON + LEASE),)
    assert stage.store.lease_ms("r_0_1") == NOON + LEASE
    gone = LeaseView(run="nobody", node=0, attempt=1, until_ms=0)
    assert stage.store.at_work([*scene.leases, gone]) == [
        WorkView(worker="w", run="r", graph="g", task="top", attempt=1, queue="default", since_ms=NOON)
    ]


def test_a_queue_tells_depth_bells_and_the_oldest(stage: Stage) -> None:
    one = plan(SINGLE)
    for number in range(3):
        stage.later(1000)
        stage.start(one, f"r{number}")
    [queue] = stage.store.scene().queues
    assert (queue.name, queue.depth, queue.bells, queue.oldest_ms) == ("default", 3, 3, NOON + 1000)
    assert stage.store.place("default", "r2_0_1") == Place(ahead=2, bell=True)
    stage.client.lpop(stage.keys.bell("default"))
    assert stage.store.place("default", "r0_0_1") == Place(ahead=0, bell=False)
    stage.later(20_000)
    assert stage.store.ring() == 1
    [queue] = stage.store.scene().queues
    assert queue.oldest_ms == NOON + 1000, "rung for again, and as old as before"


def test_who_leads_and_since_when_there_is_nobody(stage: Stage) -> None:
    leader = stage.store.lead("me", 10_000)
    assert leader is not None
    stage.later(3000)
    stage.store.lead("me", 10_000)
    seen = stage.store.scene().leader
    assert seen is not None
    assert (seen.who, seen.token, seen.since_ms, seen.until_ms) == ("me", 1, NOON, NOON + 13_000)
    stage.later(1000)
    stage.store.resign(leader)
    seen = stage.store.scene().leader
    assert seen is not None
    assert (seen.who, seen.until_ms) == ("", NOON + 4000)


def test_a_suspension_is_seen_with_its_end(stage: Stage) -> None:
    stage.client.set("rq:suspended", 1)
    assert (stage.store.scene().suspended, stage.store.scene().suspended_for_ms) == (True, None)
    stage.client.set("rq:suspended", 1, px=60_000)
    left = stage.store.scene().suspended_for_ms
    assert left is not None
    assert 50_000 < left <= 60_000


def test_a_view_counts_failures_and_losses_apart(stage: Stage) -> None:
    stage.start(plan(SINGLE, retries=5, retry_delay=8))
    stage.finish(stage.take_one(), Outcome.KILLED)
    stage.finish(stage.take_one(), Outcome.FAILED)
    view = stage.store.run("r")
    assert view is not None
    [task] = view.tasks
    assert (task.state, task.attempt, task.fails, task.losses) == (TaskState.RETRYING, 2, 1, 1)
    assert task.due_ms == NOON + 8000


def test_rubbish_is_no_record(stage: Stage) -> None:
    assert read_record(b"\xc1") is None
    assert read_record(None) is None
    stage.start(plan(SINGLE))
    stage.client.hset(stage.keys.run("r"), "0", b"\xc1")
    view = stage.store.run("r")
    assert view is not None
    assert view.tasks[0].state is TaskState.FAILED
    assert b"cannot be read" in view.tasks[0].error


def test_a_reader_of_events_knows_how_many_it_missed(stage: Stage) -> None:
    one = plan(SINGLE)
    stage.start(one, "r1")
    start = stage.store.position()
    assert stage.store.follow(start, 1) == ([], start, 0)
    stage.start(one, "r2")
    [(_, first)], here, missed = stage.store.follow(start, 1)
    assert (first.run, missed) == ("r2", 0)
    stage.start(one, "r3")
    [(taken, _)] = stage.store.events(here.id)
    stage.store.ack(taken)  # history has it
    assert stage.store.follow(here, 1) == ([], here, 0), "nothing to be read; what was missed is told with the next one"
    stage.start(one, "r4")
    [(_, event)], there, missed = stage.store.follow(here, 1)
    assert (event.run, missed) == ("r4", 1)
    assert there.added == here.added + 2


def test_who_follows_events_gets_all_of_an_entry_and_counts_entries_as_missed(stage: Stage) -> None:
    one = plan(SINGLE)
    start = stage.store.position()
    stage.store.start(one, [NewRun(id="a"), NewRun(id="b")])
    stage.store.start(one, [NewRun(id="c"), NewRun(id="d")])
    found, here, missed = stage.store.follow(start, 1)
    assert [event.run for _, event in found] == ["a", "b", "c", "d"]
    assert (here, missed) == (stage.store.position(), 0)
    stage.store.start(one, [NewRun(id="e"), NewRun(id="f")])
    stage.store.ack(stage.store.events(here.id)[-1][0])  # history has it
    stage.store.start(one, [NewRun(id="g"), NewRun(id="h")])
    found, there, missed = stage.store.follow(here, 1)
    assert ([event.run for _, event in found], missed) == (["g", "h"], 1)
    assert there.added == here.added + 2


def test_an_attempt_behind_very_many_others_is_not_searched_for(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tm.store.looking.MOST_BELLS", 2)
    one = plan(SINGLE)
    for number in range(3):
        stage.start(one, f"r{number}")
    stage.client.lrem(stage.keys.bell("default"), 1, stage.keys.rq_id("r1_0_1"))
    assert stage.store.place("default", "r1_0_1") == Place(ahead=1, bell=False)
    stage.start(one, "r3")
    assert stage.store.place("default", "r1_0_1") == Place(ahead=1, bell=True)


def test_callbacks_are_told_as_what_they_are(stage: Stage) -> None:
    from tm.callbacks import QUEUE as CALLBACKS

    shape = plan(SINGLE, graph="g")
    stage.start(shape)
    version = f"{shape.version}!0"
    record = ["running", 1, "t", 0, 0, NOON, "w", NOON]
    stage.client.hset(stage.keys.run("r_0_1_success"), mapping={"plan": version, "0": msgpack.packb(record)})
    [told] = stage.store.at_work([LeaseView(run="r_0_1_success", node=0, attempt=1, until_ms=NOON)])
    assert (told.run, told.graph, told.task, told.queue) == ("r", "g", "callback (success)", CALLBACKS)
