"""What the leader tidies up, on a real server."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from tests.store.stage import CHAIN, CLOCK, DIAMOND, SINGLE, Stage, pack, plan
from tm.events import AttemptEnded, TaskClosed
from tm.spill import Spill
from tm.store import Library
from tm.store.functions import default_library
from tm.store.housework import Housework
from tm.store.records import NewRun
from tm_scheduler.leftovers import GRAPH_KEPT, LIBRARY_KEPT, Spilled, lost_graphs, old_libraries

if TYPE_CHECKING:
    from pathlib import Path

ERROR = pack({"type": "NoWorker", "message": "nobody offers it", "traceback": ""})


@pytest.fixture
def house(stage: Stage) -> Housework:
    return Housework(stage.store)


def test_a_queued_attempt_that_is_given_up_fails_and_blocks_what_is_below_it(stage: Stage, house: Housework) -> None:
    stage.start(plan(DIAMOND, retries=3))
    [each], more = house.waiting("default", 0, 10)
    assert (each.job, each.run, each.graph, each.task, each.since_ms) == ("r_0_1", "r", "g", "top", stage.now)
    assert not more
    stage.later(600_000)
    assert house.give_up(each.job, ERROR)
    assert stage.state() == "failed"
    assert stage.states() == {"top": "failed", "left": "blocked", "right": "blocked", "join": "blocked"}
    assert stage.queued() == []
    assert stage.take(5) == [], "its doorbell rings for nothing"
    [told] = stage.told(AttemptEnded)
    assert (told.outcome, told.state, told.error) == ("failed", "failed", ERROR)
    assert len(stage.told(TaskClosed)) == 3
    before = stage.snapshot()
    assert not house.give_up(each.job, ERROR), "once"
    assert stage.snapshot() == before


@pytest.mark.parametrize("how", ["taken", "another attempt", "cancelled", "never there", "rubbish"])
def test_what_is_not_queued_any_more_is_left_alone(stage: Stage, house: Housework, how: str) -> None:
    stage.start(plan(SINGLE, retries=1))
    job = {"never there": "x_0_1", "rubbish": "rubbish"}.get(how, "r_0_1")
    if how in ("taken", "another attempt"):
        claim = stage.take_one()
        if how == "another attempt":
            stage.finish(claim, "failed")  # type: ignore[arg-type]
            stage.store.promote()
    elif how == "cancelled":
        stage.store.cancel("r")
    before = stage.snapshot()
    assert not house.give_up(job, ERROR)
    assert stage.snapshot() == before


def test_a_queue_is_read_in_pages(stage: Stage, house: Housework) -> None:
    shape = plan(SINGLE)
    stage.store.start(shape, [NewRun(id=f"r{n}") for n in range(25)])
    pages = [house.waiting("default", first, 10) for first in (0, 10, 20)]
    assert [more for _, more in pages] == [True, True, False]
    assert {each.run for page, _ in pages for each in page} == {f"r{n}" for n in range(25)}


def test_damaged_records_are_passed_over(stage: Stage, house: Housework) -> None:
    stage.store.start(plan(SINGLE), [NewRun(id="good"), NewRun(id="bad"), NewRun(id="gone")])
    stage.client.hset(stage.keys.run("bad"), "0", b"rubbish")
    stage.client.delete(stage.keys.run("gone"))
    found, _ = house.waiting("default", 0, 10)
    assert [each.run for each in found] == ["good"]


def test_old_functions_are_removed_and_come_back_when_they_are_called(stage: Stage, house: Housework) -> None:
    old = Library(clock=f"-- an old version\n{CLOCK}")
    default_library().load(stage.client)
    stage.client.function_load(
        "#!lua name=tm_of_somebody_else\nredis.register_function('mine', function() return 1 end)"
    )
    aged = Stage(stage.client, library=old)
    aged.start(plan(CHAIN))
    assert {old.name, default_library().name} <= house.libraries()
    assert "tm_of_somebody_else" not in house.libraries()
    used = house.libraries() - {old.name}
    assert old_libraries(house, used, stage.now) == []
    assert old_libraries(house, used, stage.now + LIBRARY_KEPT) == [old.name]
    assert old.name not in house.libraries()
    assert aged.take_one().task == "a"
    assert old.name in house.libraries()
    stage.client.function_delete("tm_of_somebody_else")


def test_a_graph_nobody_has_is_forgotten_and_what_is_open_or_paused_is_not(stage: Stage, house: Housework) -> None:
    for graph in ("gone", "open", "paused", "here"):
        stage.store.define(plan(SINGLE, graph=graph), {"schedule": None})
    stage.store.start(plan(SINGLE, graph="open"), [NewRun(id="r")])
    stage.store.pause("paused", by="somebody")
    assert lost_graphs(house, {"here"}, stage.now) == []
    assert lost_graphs(house, {"here"}, stage.now + GRAPH_KEPT) == ["gone"]
    assert stage.store.graphs().keys() == {"here", "open", "paused"}
    assert stage.store.open_runs() == ["r"]
    stage.store.define(plan(SINGLE, graph="gone"), {"schedule": None})
    assert lost_graphs(house, {"here"}, stage.now + GRAPH_KEPT) == [], "who comes back has its thirty days again"


def test_large_messages_go_with_their_run(stage: Stage, house: Housework, tmp_path: Path) -> None:
    spill = Spill(tmp_path)
    for run in ("kept", "forgotten"):
        stage.start(plan(SINGLE), run)
        spill.keep(run, b"large")
    collector = Spilled(house, spill, stage.store.instance(), keep=10**6, clock=lambda: time.time() + 3600)
    assert collector.one_pass() == 0
    stage.client.delete(stage.keys.run("forgotten"))
    assert collector.one_pass() == 1
    assert spill.runs().keys() == {"kept"}
