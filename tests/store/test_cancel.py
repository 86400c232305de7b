"""cancel: an open run is ended from outside, whatever its tasks are doing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import redis.exceptions

from tests.store.stage import CHAIN, DIAMOND, SINGLE, fan, plan
from tm.events import RunEnded, TaskClosed
from tm.states import Outcome, RunState
from tm.store.records import Grace

if TYPE_CHECKING:
    from tests.store.stage import Stage


def test_nothing_of_a_cancelled_run_is_left_in_any_queue(stage: Stage) -> None:
    names = ("queued", "running", "failing")
    stage.start(plan({**{name: [] for name in names}, "waiting": [*names]}, retries=1, retry_delay=1))
    first, second = stage.take(2)
    stage.finish(first, Outcome.FAILED)
    assert sorted(stage.states().values()) == ["queued", "retrying", "running", "waiting"]
    assert stage.store.cancel("r", reason="enough")
    assert set(stage.states().values()) == {"cancelled"}
    for key in (stage.keys.leases, stage.keys.retry, stage.keys.queued("default"), stage.keys.open("g")):
        assert not stage.client.exists(key), key
    assert stage.client.keys("rq:job:*") == []
    assert stage.take(5) == []
    assert second.token


def test_what_had_ended_stays_as_it_was(stage: Stage) -> None:
    stage.start(plan(DIAMOND))
    stage.work(2)
    stage.store.cancel("r", RunState.TIMED_OUT, "late")
    assert stage.states() == {"top": "success", "left": "success", "right": "cancelled", "join": "cancelled"}
    view = stage.store.run("r")
    assert view is not None
    assert (view.state, view.reason, view.ended_ms) == (RunState.TIMED_OUT, "late", stage.now)
    assert stage.client.pttl(stage.keys.run("r")) > 0
    assert stage.client.pttl(stage.keys.out("r")) > 0


def test_history_hears_of_each_task_and_then_of_the_end(stage: Stage) -> None:
    stage.start(plan(CHAIN))
    stage.store.cancel("r", reason="enough")
    told = stage.events()[1:]
    assert [(type(event), event.reason) for event in told if isinstance(event, TaskClosed | RunEnded)] == [
        *[(TaskClosed, "enough")] * 3,
        (RunEnded, "enough"),
    ]
    [ended] = stage.told(RunEnded)
    assert ended.started is None, "no attempt of it ever began"


def test_history_hears_which_attempt_was_cut_off(stage: Stage) -> None:
    stage.start(plan({"again": [], "queued": [], "waiting": ["again"]}, retries=1, retry_delay=0))
    first = stage.take_one()
    began = stage.now
    stage.later(500)
    stage.store.cancel("r", reason="enough")
    told = {event.task: (event.attempt, event.claimed) for event in stage.told(TaskClosed)}
    assert told == {first.task: (1, began), "queued": (0, None), "waiting": (0, None)}


def test_history_hears_so_of_a_second_attempt_too(stage: Stage) -> None:
    stage.start(plan(SINGLE, retries=1, retry_delay=0))
    stage.finish(stage.take_one(), Outcome.FAILED)
    stage.later(1000)
    stage.store.promote()
    assert stage.take_one().attempt == 2
    began = stage.now
    stage.later(500)
    stage.store.cancel("r")
    assert [(event.attempt, event.claimed) for event in stage.told(TaskClosed)] == [(2, began)]


def test_cancelling_twice_changes_nothing(stage: Stage) -> None:
    stage.start(plan(CHAIN))
    assert stage.store.cancel("r")
    before = stage.snapshot()
    assert not stage.store.cancel("r")
    assert stage.snapshot() == before


@pytest.mark.parametrize("run", ["unknown", "", "*", "r*"])
def test_an_unknown_run_cannot_be_cancelled(stage: Stage, run: str) -> None:
    stage.start(plan(CHAIN))
    before = stage.snapshot()
    assert not stage.store.cancel(run)
    assert stage.snapshot() == before


def test_a_run_that_has_ended_cannot_be_cancelled(stage: Stage) -> None:
    stage.start(plan(SINGLE))
    stage.work()
    assert not stage.store.cancel("r")
    assert stage.state() == "success"


@pytest.mark.parametrize("state", [RunState.SUCCESS, RunState.RUNNING, RunState.QUEUED, RunState.SKIPPED])
def test_a_run_is_cancelled_into_a_state_that_says_so(stage: Stage, state: RunState) -> None:
    stage.start(plan(SINGLE))
    with pytest.raises(redis.exceptions.ResponseError):
        stage.store.cancel("r", state)
    assert stage.state() == "queued"


def test_the_end_is_published(stage: Stage) -> None:
    stage.start(plan(SINGLE))
    waiter = stage.client.pubsub()
    waiter.subscribe(stage.store.ended_channel("r"))
    assert waiter.get_message(timeout=5)["type"] == "subscribe"
    stage.store.cancel("r")
    assert waiter.get_message(timeout=5)["data"] == b"cancelled"
    waiter.close()


def test_a_large_run_is_ended_bit_by_bit_but_nothing_of_it_runs_any_more(stage: Stage) -> None:
    stage.start(plan(fan(1000)))
    stage.finish(stage.take_one())
    claim = stage.take_one()
    stage.store.cancel("r", reason="enough")
    assert stage.state() == "cancelled"
    assert stage.store.open_runs() == ["r"], "it is not over yet"
    assert not stage.store.cancel("r")
    assert stage.take(5) == []
    assert stage.finish(claim)[0].kind == 0
    while stage.store.promote()[1] is not None:
        pass
    assert stage.store.open_runs() == []
    assert len(stage.told(TaskClosed)) == 1001
    [ended] = stage.told(RunEnded)
    assert (ended.state, ended.reason, ended.started) == (RunState.CANCELLED, "enough", stage.now)
    assert stage.client.pttl(stage.keys.run("r")) > 0
    assert stage.client.zcard(stage.keys.leases) == 0


def test_who_cancels_may_say_how_long_tasks_may_tidy_up(stage: Stage) -> None:
    stage.start(plan(CHAIN))
    claim = stage.take_one()
    assert stage.store.cancel("r", grace=2.5)
    assert stage.store.beat(1000, [(claim.job, claim.token)]) == [Grace(2.5)]
    assert not stage.store.cancel("r", grace=0), "it is over, but what still runs is hurried"
    assert stage.store.beat(1000, [(claim.job, claim.token)]) == [Grace(0.0)]
