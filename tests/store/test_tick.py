"""tick: a due tick becomes exactly one run or one record, and only the leader may."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import redis.exceptions

from tests.store.stage import CHAIN, NOON, SINGLE, plan
from tm.events import RunCreated, RunEnded
from tm.states import RunState, Trigger
from tm.store.records import DueTick, Leadership, TickAnswer

if TYPE_CHECKING:
    from tests.store.stage import Stage

MINUTE = 60_000


def due(number: int, **more: object) -> DueTick:
    """The tick `number` minutes after noon; its run is called after it."""
    return DueTick(run=f"t{number}", at_ms=NOON + number * MINUTE, **more)  # type: ignore[arg-type]


@pytest.fixture
def leader(stage: Stage) -> Leadership:
    stage.offer("g")
    leadership = stage.store.lead("me", 10**9)
    assert leadership is not None
    return leadership


def test_a_tick_becomes_a_run(stage: Stage, leader: Leadership) -> None:
    shape = plan(CHAIN)
    ticks = [due(1, config="{}", trigger=Trigger.CATCHUP)]
    assert stage.store.tick(shape, leader, ticks) == [TickAnswer.CREATED]
    view = stage.store.run("t1")
    assert view is not None
    assert (view.tick_ms, view.trigger, view.config) == (NOON + MINUTE, "catchup", "{}")
    assert stage.take_one().tick_ms == NOON + MINUTE
    assert stage.store.cursors() == {"g": NOON + MINUTE}


def test_a_tick_handled_before_is_left_alone(stage: Stage, leader: Leadership) -> None:
    shape = plan(SINGLE)
    stage.store.tick(shape, leader, [due(1), due(2)])
    before = stage.snapshot()
    assert stage.store.tick(shape, leader, [due(1), due(2)]) == [TickAnswer.EXISTS] * 2
    assert stage.snapshot() == before


def test_a_tick_is_not_made_again_when_its_run_is_long_forgotten(stage: Stage, leader: Leadership) -> None:
    shape = plan(SINGLE)
    stage.store.tick(shape, leader, [due(1)])
    stage.work()
    stage.client.delete(stage.keys.run("t1"), stage.keys.out("t1"))
    assert stage.store.tick(shape, leader, [due(1)]) == [TickAnswer.EXISTS]


def test_a_lost_cursor_does_not_double_a_run_and_is_found_again(stage: Stage, leader: Leadership) -> None:
    shape = plan(SINGLE)
    stage.store.tick(shape, leader, [due(1)])
    stage.client.delete(stage.keys.cursor)
    assert stage.store.tick(shape, leader, [due(1)]) == [TickAnswer.EXISTS]
    assert stage.store.cursors() == {"g": NOON + MINUTE}


def test_the_cursor_never_goes_back(stage: Stage, leader: Leadership) -> None:
    shape = plan(SINGLE)
    stage.store.tick(shape, leader, [due(5)])
    assert stage.store.tick(shape, leader, [due(3)]) == [TickAnswer.EXISTS]
    assert stage.store.cursors() == {"g": NOON + 5 * MINUTE}
    assert stage.store.run("t3") is None


def test_where_a_new_graph_begins_is_said_once(stage: Stage) -> None:
    assert stage.store.set_cursor_if_absent("g", 5) == 5
    assert stage.store.set_cursor_if_absent("g", 9) == 5


@pytest.mark.parametrize(
    "impostor",
    [
        Leadership(who="me", token=99),
        Leadership(who="other", token=1),
        Leadership(who="", token=0),
        Leadership(who="me", token=0),
    ],
    ids=["old token", "another", "nobody", "no token"],
)
def test_who_does_not_lead_is_fenced_and_changes_nothing(
    stage: Stage, leader: Leadership, impostor: Leadership
) -> None:
    stage.store.define(plan(SINGLE, version="v"))
    before = stage.snapshot()
    assert stage.store.tick(plan(SINGLE, version="v"), impostor, [due(1), due(2)]) == [TickAnswer.FENCED] * 2
    assert stage.snapshot() == before


def test_nobody_may_tick_before_there_is_a_leader(stage: Stage) -> None:
    assert stage.store.tick(plan(SINGLE), Leadership(who="me", token=1), [due(1)]) == [TickAnswer.FENCED]


def test_a_leader_whose_right_lapsed_is_fenced_though_nobody_else_leads(stage: Stage) -> None:
    leadership = stage.store.lead("me", 10_000)
    assert leadership is not None
    stage.later(10_001)
    assert stage.store.tick(plan(SINGLE), leadership, [due(1)]) == [TickAnswer.FENCED]


@pytest.mark.parametrize("born", [RunState.SKIPPED, RunState.FAILED])
def test_a_tick_that_does_not_run_is_a_record_with_a_reason(stage: Stage, leader: Leadership, born: RunState) -> None:
    assert stage.store.tick(plan(SINGLE), leader, [due(1, born=born, reason="because")]) == [TickAnswer.CREATED]
    view = stage.store.run("t1")
    assert view is not None
    assert (view.state, view.reason, view.ended_ms) == (born, "because", stage.now)
    assert stage.store.open_runs() == []
    assert stage.take() == []
    assert stage.client.pttl(stage.keys.run("t1")) > 0
    [created] = stage.events()
    assert isinstance(created, RunCreated)
    assert (created.state, created.reason, created.tick) == (born, "because", NOON + MINUTE)


def test_overlap_allow_runs_side_by_side(stage: Stage, leader: Leadership) -> None:
    assert stage.store.tick(plan(SINGLE), leader, [due(1), due(2)]) == [TickAnswer.CREATED] * 2
    assert stage.store.open_runs("g") == ["t1", "t2"]


def test_overlap_skip_records_a_tick_beside_an_open_run(stage: Stage, leader: Leadership) -> None:
    shape = plan(SINGLE)
    ticks = [due(1, overlap="skip"), due(2, overlap="skip")]
    assert stage.store.tick(shape, leader, ticks) == [TickAnswer.CREATED, TickAnswer.OVERLAPPED]
    view = stage.store.run("t2")
    assert view is not None
    assert (view.state, view.reason) == (RunState.SKIPPED, "overlap: run t1 is still open")
    stage.work()
    assert stage.store.tick(shape, leader, [due(3, overlap="skip")]) == [TickAnswer.CREATED]
    assert stage.state("t3") == "queued"


def test_overlap_queue_holds_one_tick_until_the_graph_is_free(stage: Stage, leader: Leadership) -> None:
    shape = plan(SINGLE)
    first, second, third, fourth = (due(number, overlap="queue") for number in (1, 2, 3, 4))
    assert stage.store.tick(shape, leader, [first, second, third]) == ["created", "held", "overlapped"]
    assert stage.store.held() == {"g": second.at_ms}
    assert stage.store.cursors() == {"g": third.at_ms}
    assert stage.store.run("t2") is None
    before = stage.snapshot()
    assert stage.store.tick(shape, leader, [second]) == [TickAnswer.HELD], "it still has to wait"
    assert stage.snapshot() == before
    stage.work()
    assert stage.store.tick(shape, leader, [fourth]) == [TickAnswer.OVERLAPPED], "the one that waits goes first"
    assert stage.store.tick(shape, leader, [second]) == [TickAnswer.CREATED]
    assert stage.store.held() == {}
    assert stage.store.tick(shape, leader, [second]) == [TickAnswer.EXISTS]
    assert stage.state("t2") == "queued"


def test_a_held_tick_may_be_given_up_as_a_record(stage: Stage, leader: Leadership) -> None:
    shape = plan(SINGLE)
    stage.store.tick(shape, leader, [due(1, overlap="queue"), due(2, overlap="queue")])
    assert stage.store.tick(shape, leader, [due(2, born=RunState.SKIPPED, reason="too late")]) == [TickAnswer.CREATED]
    assert stage.store.held() == {}
    assert stage.state("t2") == "skipped"


def test_a_held_tick_whose_run_exists_is_held_no_longer(stage: Stage, leader: Leadership) -> None:
    shape = plan(SINGLE)
    stage.store.tick(shape, leader, [due(1, overlap="queue"), due(2, overlap="queue")])
    stage.start(shape, "t2")
    assert stage.store.tick(shape, leader, [due(2, overlap="queue")]) == [TickAnswer.EXISTS]
    assert stage.store.held() == {}


def test_overlap_cancel_other_ends_what_is_open(stage: Stage, leader: Leadership) -> None:
    shape = plan(CHAIN)
    stage.start(shape, "by hand")
    stage.store.tick(shape, leader, [due(1)])
    claim = stage.take_one()
    assert stage.store.tick(shape, leader, [due(2, overlap="cancel_other")]) == [TickAnswer.CREATED]
    assert stage.store.open_runs("g") == ["t2"]
    assert stage.state("t1") == stage.state("by hand") == "cancelled"
    assert stage.finish(claim)[0].kind == 0
    assert {event.reason for event in stage.told(RunEnded)} == {"overlap: tick t2 is due"}


def test_overlap_cancel_other_ends_a_thousand_runs_bit_by_bit(stage: Stage, leader: Leadership) -> None:
    shape = plan(SINGLE)
    stage.store.tick(shape, leader, [due(number) for number in range(1, 1001)])
    assert stage.store.tick(shape, leader, [due(2000, overlap="cancel_other")]) == [TickAnswer.CREATED]
    assert len(stage.store.open_runs("g")) > 700
    while stage.store.promote()[1] is not None:
        pass
    assert stage.store.open_runs("g") == ["t2000"]
    assert len(stage.told(RunEnded)) == 1000


def test_with_a_limit_a_tick_is_skipped_when_so_many_runs_are_open(stage: Stage, leader: Leadership) -> None:
    ticks = [due(number, overlap="skip", most=2) for number in (1, 2, 3)]
    assert stage.store.tick(plan(SINGLE), leader, ticks) == ["created", "created", "overlapped"]
    view = stage.store.run("t3")
    assert view is not None
    assert view.reason == "overlap: 2 runs are still open"


def test_with_a_limit_one_tick_waits_when_so_many_runs_are_open(stage: Stage, leader: Leadership) -> None:
    shape = plan(SINGLE)
    ticks = [due(number, overlap="queue", most=2) for number in (1, 2, 3, 4)]
    assert stage.store.tick(shape, leader, ticks) == ["created", "created", "held", "overlapped"]
    stage.work(1)
    assert stage.store.tick(shape, leader, [ticks[2]]) == ["created"]
    assert stage.store.open_runs("g") == ["t2", "t3"]


def test_with_a_limit_the_oldest_runs_are_cancelled_to_make_room(stage: Stage, leader: Leadership) -> None:
    shape = plan(SINGLE)
    for number in (1, 2, 3, 4):
        stage.store.tick(shape, leader, [due(number)])
        stage.later(1)
    assert stage.store.tick(shape, leader, [due(5, overlap="cancel_other", most=3)]) == ["created"]
    assert stage.store.open_runs("g") == ["t3", "t4", "t5"]
    stage.later(1)
    assert stage.store.tick(shape, leader, [due(6, overlap="cancel_other", most=5)]) == ["created"]
    assert stage.store.open_runs("g") == ["t3", "t4", "t5", "t6"]


def test_ticks_in_one_call_that_cancel_each_other_leave_the_last(stage: Stage, leader: Leadership) -> None:
    ticks = [due(number, overlap="cancel_other") for number in (1, 2, 3)]
    assert stage.store.tick(plan(SINGLE), leader, ticks) == ["created"] * 3
    assert stage.store.open_runs("g") == ["t3"]
    assert stage.queued() == ["t3_0_1"]
    assert stage.take_one().run == "t3"


def test_many_graphs_tick_in_one_pipeline(stage: Stage, leader: Leadership) -> None:
    one, two = plan(SINGLE, graph="one"), plan(CHAIN, graph="two *?")
    answers = stage.store.tick_many(
        leader,
        [
            (one, [DueTick(run="a", at_ms=5)]),
            (two, [DueTick(run="b", at_ms=5), DueTick(run="c", at_ms=6)]),
            (one, []),
        ],
    )
    assert answers == [["created"], ["created", "created"], []]
    assert stage.store.cursors() == {"one": 5, "two *?": 6}
    assert stage.store.open_runs() == ["a", "b", "c"]


@pytest.mark.parametrize(
    "fields",
    [
        ("t1", "soon", "", "schedule", "queued", "", "allow", "0"),
        ("t1", "5", "", "schedule", "queued", "", "allow", "many"),
        ("t1", "5", "", "schedule", "queued", ""),
    ],
    ids=["tick no number", "limit no number", "cut short"],
)
def test_a_bad_tick_changes_nothing(stage: Stage, leader: Leadership, fields: tuple[str, ...]) -> None:
    stage.store.define(plan(SINGLE, version="v"))
    before = stage.snapshot()
    with pytest.raises(redis.exceptions.ResponseError):
        stage.call("tick", "me", leader.token, "v", 600_000, 600_000, *fields)
    assert stage.snapshot() == before
