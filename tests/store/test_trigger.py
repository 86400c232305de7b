"""trigger: one run on request, which heeds pauses and the limit of open runs."""

from __future__ import annotations

from typing import Any

import pytest
import redis.exceptions

from tests.store.stage import CHAIN, SINGLE, Stage, plan
from tm.events import RunCreated
from tm.states import Trigger
from tm.store.records import NewRun, TriggerAnswer

CREATED, EXISTS, PAUSED, FULL = TriggerAnswer.CREATED, TriggerAnswer.EXISTS, TriggerAnswer.PAUSED, TriggerAnswer.FULL


def trigger(stage: Stage, run: str = "r", version: str = "v", **more: Any) -> TriggerAnswer:
    return stage.store.trigger(version, NewRun(id=run, params=b"p", config="c"), Trigger.BACKFILL, **more)


@pytest.fixture(autouse=True)
def known(stage: Stage) -> None:
    stage.store.define(plan(CHAIN, version="v"))
    stage.offer("g")


def test_it_starts_a_run_with_what_it_was_given(stage: Stage) -> None:
    assert trigger(stage, tick_ms=77, retry_of="old") is CREATED
    claim = stage.take_one()
    assert (claim.tick_ms, claim.params, claim.config) == (77, b"p", "c")
    view = stage.store.run("r")
    assert view is not None
    assert (view.trigger, view.retry_of, view.tick_ms) == (Trigger.BACKFILL, "old", 77)
    [created] = stage.told(RunCreated)
    assert (created.trigger, created.retry_of, created.tick) == ("backfill", "old", 77)
    assert stage.store.cursors() == {}, "a past tick moves no clock"


def test_an_id_is_used_once(stage: Stage) -> None:
    trigger(stage)
    before = stage.snapshot()
    assert trigger(stage, force=True) is EXISTS
    assert stage.snapshot() == before


def test_a_pause_does_not_keep_people_from_what_they_ask_for(stage: Stage) -> None:
    stage.store.pause("g", by="me")
    assert stage.store.trigger("v", NewRun(id="by-hand"), Trigger.MANUAL) is CREATED
    stage.store.pause("", by="me")
    assert stage.store.trigger("v", NewRun(id="again"), Trigger.MANUAL) is CREATED
    assert stage.store.trigger("v", NewRun(id="full"), Trigger.MANUAL, most=2) is FULL


def test_a_paused_graph_starts_no_past_tick_unless_forced(stage: Stage) -> None:
    stage.store.pause("g", by="me")
    assert trigger(stage) is PAUSED
    assert stage.store.open_runs() == []
    assert trigger(stage, force=True) is CREATED


def test_more_runs_than_may_be_open_are_refused_unless_forced(stage: Stage) -> None:
    assert [trigger(stage, f"r{number}", most=2) for number in range(3)] == [CREATED, CREATED, FULL]
    assert trigger(stage, "r3", most=2, force=True) is CREATED
    stage.work()
    assert trigger(stage, "r4", most=2) is CREATED


def test_an_unknown_version_and_nonsense_change_nothing(stage: Stage) -> None:
    before = stage.snapshot()
    with pytest.raises(redis.exceptions.ResponseError, match="NOPLAN"):
        trigger(stage, version="nobody's")
    with pytest.raises(redis.exceptions.ResponseError):
        trigger(stage, run="")
    with pytest.raises(redis.exceptions.ResponseError):
        stage.call("trigger", "v", "manual", 1, 1, "many", "", "r", -1, "", "", "")
    assert stage.snapshot() == before
    assert plan(SINGLE)
