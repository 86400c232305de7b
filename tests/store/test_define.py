"""define: a version of a graph is stored once, whole, and kept while it is needed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import redis.exceptions

from tests.store.stage import CHAIN, DIAMOND, SINGLE, fan, plan
from tm.store.records import NewRun

if TYPE_CHECKING:
    from tests.store.stage import Stage
    from tm.records import Plan

DAY = 86_400_000

ODD_NAMES = ["täglich um 9", "a b", "*", "[x]?", "日報", "back\\slash", "per%cent", "x" * 100, "n_0_1"]


@pytest.mark.parametrize(
    "wanted",
    [
        plan(SINGLE),
        plan(CHAIN, retries=3, retry_delay=1.5, backoff=0.5, max_retry_delay=60.0, jitter=0.1),
        plan(DIAMOND, timeout=90.5, task_timeout=0.25),
        plan(fan(1500)),
        plan({"schritt eins": [], "日": ["schritt eins"]}, queue={"schritt eins": "default", "日": "slow.lane"}),
    ],
    ids=["single", "retries", "timeouts", "wide", "unicode"],
)
def test_a_plan_comes_back_as_it_was_stored(stage: Stage, wanted: Plan) -> None:
    stage.store.define(wanted)
    assert stage.store.plan(wanted.version) == wanted


@pytest.mark.parametrize("name", ODD_NAMES)
def test_a_graph_may_have_any_name(stage: Stage, name: str) -> None:
    odd = plan(CHAIN, graph=name)
    stage.store.define(odd, {"schedule": "manual", "tasks": ["a", "b", "c"]})
    assert stage.store.plan(odd.version) == odd
    assert stage.store.graphs() == {name: {"version": odd.version, "schedule": "manual", "tasks": ["a", "b", "c"]}}
    stage.start(odd)
    assert stage.store.open_runs() == ["r"]
    assert stage.store.open_runs(name) == ["r"]
    assert stage.work() == ["a", "b", "c"]
    assert stage.store.open_runs() == []


def test_storing_a_plan_again_changes_nothing(stage: Stage) -> None:
    stage.store.define(plan(CHAIN, version="v"), {"file": "g.py"})
    before = stage.snapshot()
    stage.store.define(plan(CHAIN, version="v"), {"file": "g.py"})
    assert stage.snapshot() == before


def test_a_version_never_changes_but_what_is_known_of_its_graph_may(stage: Stage) -> None:
    stage.store.define(plan(CHAIN, version="v"), {"file": "old.py"})
    stage.store.define(plan(SINGLE, version="v"), {"file": "new.py"})
    stored = stage.store.plan("v")
    assert stored is not None
    assert len(stored.tasks) == 3
    assert stage.store.graphs()["g"]["file"] == "new.py"


def test_without_info_nothing_is_said_of_the_graph(stage: Stage) -> None:
    stage.store.define(plan(SINGLE))
    assert stage.store.graphs() == {}


def test_the_queues_of_a_plan_are_known_from_then_on(stage: Stage) -> None:
    stage.store.define(plan({"a": [], "b": ["a"]}, queue={"a": "default", "b": "slow"}))
    assert stage.store.queue_depths() == {"default": 0, "slow": 0}


def test_an_unknown_version_is_no_plan(stage: Stage) -> None:
    assert stage.store.plan("nobody knows it") is None


@pytest.mark.parametrize(
    "arguments",
    [
        ("v", "g", "0", b"\x90", "", "1", "default"),
        ("v", "g", "soon", b"\x90", "", "1", "default", b"node"),
        ("v", "g", "-1", b"\x90", "", "1", "default", b"node"),
        ("v", "g", "0", b"\x90", "", "many", "default", b"node"),
    ],
    ids=["no nodes", "timeout no number", "negative timeout", "queues no number"],
)
def test_a_bad_plan_is_refused_whole(stage: Stage, arguments: tuple[str | bytes, ...]) -> None:
    with pytest.raises(redis.exceptions.ResponseError):
        stage.call("define", *arguments)
    assert stage.snapshot() == {}


def test_a_server_that_was_emptied_takes_a_new_plan_of_the_same_version(stage: Stage) -> None:
    stage.start(plan(CHAIN, version="v"))
    stage.work()
    stage.client.flushall()
    stage.at(stage.now)
    stage.start(plan(SINGLE, version="v"))
    assert stage.work() == ["only"], "the old plan was still remembered"


def test_a_plan_nobody_runs_is_forgotten_after_a_day(stage: Stage) -> None:
    stage.store.define(plan(SINGLE, version="v"))
    assert DAY - 10_000 < stage.client.pttl(stage.keys.plan("v")) <= DAY


def test_a_plan_is_kept_while_a_run_needs_it_and_a_day_longer_than_that_run(stage: Stage) -> None:
    shape = plan(CHAIN, version="v")
    stage.start(shape, "one")
    stage.start(shape, "two")
    assert stage.client.pttl(stage.keys.plan("v")) == -1
    stage.work(3)
    assert stage.client.pttl(stage.keys.plan("v")) == -1, "one run is still open"
    stage.store.define(shape)
    assert stage.client.pttl(stage.keys.plan("v")) == -1, "storing it again must not end that"
    stage.work()
    assert stage.client.pttl(stage.keys.plan("v")) > DAY + 500_000
    stage.start(shape, "three")
    assert stage.client.pttl(stage.keys.plan("v")) == -1


def test_storing_a_plan_again_gives_it_another_day(stage: Stage) -> None:
    stage.store.define(plan(SINGLE, version="v"))
    stage.client.pexpire(stage.keys.plan("v"), 1000)
    stage.store.define(plan(SINGLE, version="v"))
    assert stage.client.pttl(stage.keys.plan("v")) > 1000


def test_a_plan_that_was_forgotten_is_stored_again_by_the_next_start(stage: Stage) -> None:
    shape = plan(CHAIN)
    stage.start(shape, "one")
    stage.work()
    stage.client.delete(stage.keys.plan(shape.version))
    assert stage.store.start(shape, [NewRun(id="two")]) == [True]
    assert stage.work() == ["a", "b", "c"]


def test_a_run_whose_plan_somebody_deleted_is_answered_not_crashed(stage: Stage) -> None:
    shape = plan(CHAIN)
    run = stage.start(shape)
    claim = stage.take_one()
    stage.client.delete(stage.keys.plan(shape.version))
    assert stage.store.result(run) is None
    view = stage.store.run(run)
    assert view is not None
    assert view.tasks == ()
    assert stage.finish(claim)[0].kind in {1, -1}
    stage.take()
    assert stage.store.cancel(run) in {True, False}


def test_the_newest_open_runs_are_the_last_created_of_all_graphs(stage: Stage) -> None:
    one, other = plan(SINGLE, graph="a"), plan(SINGLE, graph="z")
    for run, shape in (("r1", other), ("r2", one), ("r3", other), ("r4", one)):
        stage.start(shape, run)
        stage.later(1)
    assert stage.store.newest_open(None, 3) == ["r2", "r3", "r4"]
    assert stage.store.newest_open("z", 1) == ["r3"]
    assert stage.store.open_count("z") == 2
