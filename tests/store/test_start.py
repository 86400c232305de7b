"""start: runs are created once, with their roots queued, or not at all."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import redis.exceptions

from tests.store.stage import CHAIN, DIAMOND, SINGLE, fan, plan
from tm.events import RunCreated
from tm.states import RunState, Trigger
from tm.store.records import NewRun

if TYPE_CHECKING:
    from tests.store.stage import Stage

ODD_IDS = ["r", "with_under_scores", "ends_1_2", "a b", "läuft", "*", "[a-z]", "line\nbreak", "x" * 300, "0", "_"]


@pytest.mark.parametrize("run", ODD_IDS)
def test_a_run_may_have_any_id(stage: Stage, run: str) -> None:
    stage.start(plan(DIAMOND), run)
    assert stage.store.open_runs("g") == [run]
    assert stage.work() == ["top", "left", "right", "join"]
    assert stage.state(run) == "success"
    assert stage.store.result(run) == b"value of join"
    assert {event.run for event in stage.events() if hasattr(event, "run")} == {run}


def test_a_new_run_is_queued_with_all_its_roots(stage: Stage) -> None:
    stage.start(plan({"a": [], "b": [], "c": ["a", "b"]}), params=b"\x80", config='{"x": 1}')
    view = stage.store.run("r")
    assert view is not None
    assert (view.state, view.trigger, view.tick_ms, view.created_ms) == (RunState.QUEUED, "manual", None, stage.now)
    assert (view.started_ms, view.ended_ms, view.reason) == (None, None, "")
    assert (view.params, view.config) == (b"\x80", '{"x": 1}')
    assert stage.states() == {"a": "queued", "b": "queued", "c": "waiting"}
    assert stage.queued() == stage.bells() == ["r_0_1", "r_1_1"]


def test_an_id_that_exists_is_left_alone(stage: Stage) -> None:
    shape = plan(CHAIN)
    stage.start(shape)
    before = stage.snapshot()
    assert stage.store.start(shape, [NewRun(id="r"), NewRun(id="r")]) == [False, False]
    assert stage.snapshot() == before


def test_an_id_that_comes_twice_in_one_call_is_created_once(stage: Stage) -> None:
    assert stage.store.start(plan(CHAIN), [NewRun(id="x"), NewRun(id="x")]) == [True, False]
    assert stage.queued() == ["x_0_1"]


def test_a_closed_run_keeps_its_id_until_it_is_forgotten(stage: Stage) -> None:
    shape = plan(SINGLE)
    stage.start(shape)
    stage.work()
    assert stage.store.start(shape, [NewRun(id="r")]) == [False]
    stage.client.delete(stage.keys.run("r"), stage.keys.out("r"))  # as its time to live does
    assert stage.store.start(shape, [NewRun(id="r")]) == [True]


@pytest.mark.parametrize("count", [0, 1, 49, 50, 51, 173])
def test_many_runs_start_in_one_pipeline(stage: Stage, count: int) -> None:
    runs = [NewRun(id=f"x{number}") for number in range(count)]
    assert stage.store.start(plan(SINGLE), runs) == [True] * count
    assert len(stage.queued()) == len(stage.bells()) == count
    assert [event.run for event in stage.told(RunCreated)] == [run.id for run in runs]


def test_runs_that_share_a_config_share_a_call(stage: Stage) -> None:
    runs = [NewRun(id=f"x{number}", config="a" if number < 60 else "b", params=b"%d" % number) for number in range(70)]
    assert stage.store.start(plan(SINGLE), runs) == [True] * 70
    views = [stage.store.run(run.id) for run in runs]
    assert [(view.config, view.params) for view in views if view] == [(run.config, run.params) for run in runs]


def test_large_params_go_in_calls_and_trips_of_bounded_size(stage: Stage) -> None:
    shape = plan(SINGLE)
    stage.store.start(shape, [NewRun(id="first")])
    stage.client.config_resetstat()
    runs = [NewRun(id=f"x{number}", params=b"x" * 300_000) for number in range(10)]
    assert stage.store.start(shape, runs) == [True] * 10
    assert stage.client.info("commandstats")["cmdstat_fcall"]["calls"] == 3
    assert [stage.store.run(run.id).params for run in runs] == [run.params for run in runs]  # type: ignore[union-attr]


def test_a_plan_that_is_lost_between_two_trips_is_told_again(stage: Stage) -> None:
    shape, count = plan(SINGLE), 2500  # three trips
    trips = []
    original = stage.store._start

    def start(plan, calls):
        if len(trips) == 1:
            stage.client.delete(stage.keys.plan(shape.version))
        trips.append(len(calls))
        return original(plan, calls)

    stage.store._start = start  # type: ignore[method-assign]
    assert stage.store.start(shape, [NewRun(id=f"x{number}") for number in range(count)]) == [True] * count
    assert trips == [20, 20, 10]
    assert len(stage.store.open_runs("g")) == count


def test_a_plan_that_is_lost_within_a_trip_is_told_again_and_what_was_created_counts(stage: Stage) -> None:
    shape = plan(SINGLE)
    stage.store.define(shape)
    ask, asked = stage.store._ask_to_start, []

    def lose_it_after_the_first_call(calls):
        asked.append(len(calls))
        if len(asked) > 1:
            return ask(calls)
        first = ask(calls[:1])
        stage.client.delete(stage.keys.plan(shape.version))
        return first + ask(calls[1:])

    stage.store._ask_to_start = lose_it_after_the_first_call  # type: ignore[method-assign]
    assert stage.store.start(shape, [NewRun(id=f"x{number}") for number in range(150)]) == [True] * 150
    assert asked == [3, 2], "only the calls that missed it are repeated"


def test_a_server_that_does_not_keep_plans_is_an_error_and_no_loop(stage: Stage) -> None:
    stage.store.define = lambda plan, info=None: None  # type: ignore[method-assign]
    with pytest.raises(redis.exceptions.ResponseError, match="NOPLAN"):
        stage.store.start(plan(SINGLE), [NewRun(id="x")])
    assert stage.store.open_count("g") == 0


def test_the_trigger_is_kept(stage: Stage) -> None:
    stage.store.start(plan(SINGLE), [NewRun(id="x")], Trigger.CATCHUP)
    view = stage.store.run("x")
    assert view is not None
    assert view.trigger is Trigger.CATCHUP
    assert stage.told(RunCreated)[0].trigger == "catchup"


def test_history_hears_all_of_a_new_run(stage: Stage) -> None:
    shape = plan(SINGLE)
    stage.start(shape, params=b"\x81\xa1x\x01", config="{}")
    assert stage.events() == [
        RunCreated(
            run="r",
            graph="g",
            version=shape.version,
            trigger="manual",
            tick=None,
            params=b"\x81\xa1x\x01",
            config="{}",
            state=RunState.QUEUED,
            reason="",
            at=stage.now,
        )
    ]


def test_only_roots_get_params_and_config(stage: Stage) -> None:
    stage.start(plan(CHAIN), params=b"p", config="c")
    first = stage.take_one()
    assert (first.params, first.config, first.inputs) == (b"p", "c", [])
    stage.finish(first, value=b"one")
    second = stage.take_one()
    assert (second.params, second.config, second.inputs) == (b"", "", [("a", b"one")])


@pytest.mark.parametrize(
    "arguments",
    [
        ("manual", "600000", "", b"", ""),
        ("manual", "600000", "good", b"", "", "", b"", ""),
        ("manual", "a while", "x", b"", ""),
        ("manual", "-5", "x", b"", ""),
    ],
    ids=["no id", "second without id", "ttl no number", "negative ttl"],
)
def test_bad_arguments_start_nothing(stage: Stage, arguments: tuple[str | bytes, ...]) -> None:
    shape = plan(SINGLE)
    stage.store.define(shape)
    before = stage.snapshot()
    with pytest.raises(redis.exceptions.ResponseError):
        stage.call("start", shape.version, *arguments)
    assert stage.snapshot() == before


def test_without_its_plan_nothing_is_started(stage: Stage) -> None:
    with pytest.raises(redis.exceptions.ResponseError, match="NOPLAN"):
        stage.call("start", "v0", "manual", "600000", "x", b"", "")
    assert stage.snapshot() == {}


def test_a_run_with_thousands_of_roots_is_queued_bit_by_bit(stage: Stage) -> None:
    stage.start(plan({f"t{number}": [] for number in range(1000)}))
    assert len(stage.queued()) == 200
    assert stage.client.llen(stage.keys.backlog) == 1
    calls = 0
    while stage.client.llen(stage.keys.backlog):
        assert stage.store.promote() == (0, 0 if calls < 3 else None)
        calls += 1
    assert calls == 4
    assert len(stage.queued()) == len(set(stage.bells())) == 1000
    assert len(stage.work()) == 1000
    assert stage.state() == "success"


def test_many_wide_runs_in_one_call_share_its_room(stage: Stage) -> None:
    stage.store.start(plan(fan(3)), [NewRun(id=f"x{number}") for number in range(50)])
    stage.store.start(
        plan({f"t{number}": [] for number in range(30)}), [NewRun(id=f"y{number}") for number in range(50)]
    )
    stage.offer("g")
    assert len(stage.queued()) == 50 + 200
    assert len(stage.work(5000)) == 50 * 5 + 50 * 30
    assert stage.store.open_runs() == []
