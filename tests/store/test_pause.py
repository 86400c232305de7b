"""pause, resume, settle: what keeps a graph from running, for as long as somebody wants it."""

from __future__ import annotations

import pytest
import redis.exceptions

from tests.store.stage import SINGLE, Stage, plan
from tm.states import RunState
from tm.store.records import DueTick, Leadership, Pause, TickAnswer

MINUTE = 60_000


@pytest.fixture
def leader(stage: Stage) -> Leadership:
    leadership = stage.store.lead("me", 10**9)
    assert leadership is not None
    return leadership


def tick(stage: Stage, leader: Leadership, number: int, graph: str = "g") -> TickAnswer:
    [answer] = stage.store.tick(
        plan(SINGLE, graph=graph, version=f"v {graph}"),
        leader,
        [DueTick(run=f"{graph}{number}", at_ms=stage.now + number)],
    )
    return answer


def test_a_paused_graph_makes_no_ticks_and_its_cursor_stays(stage: Stage, leader: Leadership) -> None:
    assert stage.store.pause("g", by="ann@host", reason="moving house")
    assert tick(stage, leader, 1) is TickAnswer.PAUSED
    assert stage.store.cursors() == {}
    assert stage.store.run("g1") is None
    assert tick(stage, leader, 1, "other") is TickAnswer.CREATED


def test_not_even_skips_are_recorded_meanwhile(stage: Stage, leader: Leadership) -> None:
    stage.store.pause("g", by="me")
    skip = DueTick(run="x", at_ms=5, born=RunState.SKIPPED, reason="misfire")
    assert stage.store.tick(plan(SINGLE), leader, [skip, skip]) == [TickAnswer.PAUSED] * 2
    assert stage.events() == []


def test_all_graphs_are_paused_at_once_new_ones_too(stage: Stage, leader: Leadership) -> None:
    stage.store.pause("", by="me")
    assert tick(stage, leader, 1) is TickAnswer.PAUSED
    assert tick(stage, leader, 1, "never seen") is TickAnswer.PAUSED
    assert tick(stage, leader, 1, "*") is TickAnswer.PAUSED


def test_it_ends_when_it_was_to_end(stage: Stage, leader: Leadership) -> None:
    stage.store.pause("g", by="me", until_ms=stage.now + MINUTE)
    assert tick(stage, leader, 1) is TickAnswer.PAUSED
    stage.later(MINUTE)
    assert tick(stage, leader, 2) is TickAnswer.CREATED


def test_saying_it_again_changes_the_reason_and_not_since_when(stage: Stage) -> None:
    began = stage.now
    stage.store.pause("g", by="ann", reason="one")
    stage.later(MINUTE)
    assert not stage.store.pause("g", by="bob", reason="two", until_ms=stage.now + MINUTE)
    pause = stage.store.pauses()["g"]
    assert (pause.by, pause.reason, pause.since_ms, pause.until_ms) == ("bob", "two", began, stage.now + MINUTE)
    stage.later(2 * MINUTE)
    assert stage.store.pause("g", by="bob"), "the first had ended"
    assert stage.store.pauses()["g"].since_ms == stage.now


def test_resumed_it_ticks_again_and_says_how_to_catch_up(stage: Stage, leader: Leadership) -> None:
    stage.store.pause("g", by="ann", reason="why")
    stage.later(MINUTE)
    assert stage.store.resume("g", by="bob", catch_up="all") == 1
    pause = stage.store.pauses()["g"]
    assert (pause.by, pause.reason, pause.resumed_ms, pause.catch_up) == ("ann", "why", stage.now, "all")
    assert pause.ended_ms(stage.now) == stage.now
    assert tick(stage, leader, 1) is TickAnswer.CREATED
    assert stage.store.resume("g", by="bob") == 0


def test_one_of_all_is_not_resumed_alone(stage: Stage, leader: Leadership) -> None:
    stage.store.pause("", by="me")
    assert stage.store.resume("g", by="me") == -1
    assert tick(stage, leader, 1) is TickAnswer.PAUSED


def test_all_are_resumed_and_each_has_its_own_past(stage: Stage, leader: Leadership) -> None:
    for name in ("g", "h"):
        stage.store.define(plan(SINGLE, graph=name, version=f"v {name}"))
    stage.store.pause("h", by="ann", reason="her own")
    stage.store.pause("", by="bob", reason="all")
    stage.later(MINUTE)
    assert stage.store.resume("", by="bob", catch_up="skip") == 2
    found = stage.store.pauses()
    assert {graph: (each.reason, each.catch_up) for graph, each in found.items()} == {
        "g": ("all", "skip"),
        "h": ("her own", "skip"),
    }
    assert tick(stage, leader, 1) is TickAnswer.CREATED
    assert stage.store.resume("", by="bob") == 0


def test_a_pause_that_was_dealt_with_is_forgotten_and_no_other(stage: Stage) -> None:
    stage.store.pause("g", by="me")
    standing = stage.store.pauses()["g"]
    assert not stage.store.settle(standing), "it is in force"
    stage.store.resume("g", by="me")
    over = stage.store.pauses()["g"]
    stage.store.pause("g", by="me")
    assert not stage.store.settle(over), "somebody was faster"
    stage.store.resume("g", by="me")
    assert stage.store.settle(stage.store.pauses()["g"])
    assert stage.store.pauses() == {}
    assert not stage.client.exists(stage.keys.paused)


def test_a_pause_knows_when_it_ended() -> None:
    pause = Pause(graph="g", by="me", reason="", since_ms=1, until_ms=50)
    assert (pause.ended_ms(49), pause.ended_ms(50)) == (None, 50)


def test_nonsense_changes_nothing(stage: Stage) -> None:
    with pytest.raises(redis.exceptions.ResponseError):
        stage.store.resume("g", by="me", catch_up="everything")
    with pytest.raises(redis.exceptions.ResponseError):
        stage.call("pause", "g", "me", "", "tomorrow")
    assert stage.store.pauses() == {}


def test_what_cannot_be_read_pauses_nothing(stage: Stage, leader: Leadership) -> None:
    stage.client.hset(stage.keys.paused, "g", b"\xc1rubbish")
    assert tick(stage, leader, 1) is TickAnswer.CREATED
