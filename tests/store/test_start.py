"""start: runs are created once, with their roots queued, or not at all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import redis.exceptions

from tests.store.stage import CHAIN, DIAMOND, SINGLE, fan, plan
from tm.config import Settings
from tm.events import RunCreated
from tm.states import RunState, Trigger
from tm.store import Store
from tm.store.records import NewRun
from tm.store.starting import AHEAD, RUNS_PER_CALL
from tm.wiring import connect

if TYPE_CHECKING:
    from collections.abc import Iterator

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
def test_many_runs_start_together(stage: Stage, count: int) -> None:
    runs = [NewRun(id=f"x{number}") for number in range(count)]
    assert stage.store.start(plan(SINGLE), runs) == [True] * count
    assert len(stage.queued()) == len(stage.bells()) == count
    assert [event.run for event in stage.told(RunCreated)] == [run.id for run in runs]


def test_runs_that_share_a_config_share_a_call(stage: Stage) -> None:
    runs = [NewRun(id=f"x{number}", config="a" if number < 60 else "b", params=b"%d" % number) for number in range(70)]
    assert stage.store.start(plan(SINGLE), runs) == [True] * 70
    views = [stage.store.run(run.id) for run in runs]
    assert [(view.config, view.params) for view in views if view] == [(run.config, run.params) for run in runs]


def test_large_params_go_in_calls_of_bounded_size(stage: Stage) -> None:
    shape = plan(SINGLE)
    stage.store.start(shape, [NewRun(id="first")])
    stage.client.config_resetstat()
    runs = [NewRun(id=f"x{number}", params=b"x" * 300_000) for number in range(10)]
    assert stage.store.start(shape, runs) == [True] * 10
    assert stage.client.info("commandstats")["cmdstat_fcall"]["calls"] == 3
    assert [stage.store.run(run.id).params for run in runs] == [run.params for run in runs]  # type: ignore[union-attr]


def test_a_plan_that_is_lost_on_the_way_is_told_again_and_what_was_created_counts(stage: Stage) -> None:
    shape, count = plan(SINGLE), 2500
    stage.store.define(shape)
    stage.client.config_resetstat()

    def runs() -> Iterator[NewRun]:
        for number in range(count):
            if number == 1200:
                stage.client.delete(stage.keys.plan(shape.version))
            yield NewRun(id=f"x{number}")

    assert stage.store.start(shape, runs()) == [True] * count
    assert len(stage.store.open_runs("g")) == len(stage.bells()) == count
    calls = stage.client.info("commandstats")["cmdstat_fcall"]["calls"]
    assert count // RUNS_PER_CALL + 1 < calls <= count // RUNS_PER_CALL + 1 + AHEAD + 1, (
        "only what missed it is repeated"
    )


def test_functions_that_are_lost_on_the_way_are_loaded_again(stage: Stage) -> None:
    def runs() -> Iterator[NewRun]:
        for number in range(1000):
            if number == 700:
                stage.client.function_flush()
            yield NewRun(id=f"x{number}")

    assert stage.store.start(plan(SINGLE), runs()) == [True] * 1000
    assert len(stage.queued()) == 1000


def test_a_connection_that_breaks_on_the_way_costs_no_run(stage: Stage) -> None:
    path = stage.client.connection_pool.connection_kwargs["path"]
    killer, client = redis.Redis(unix_socket_path=path), connect(Settings(url=f"unix://{path}"))
    cut: list[int] = []

    def runs() -> Iterator[NewRun]:
        for number in range(2000):
            if number in {500, 1500}:
                cut.append(int(killer.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")))
            yield NewRun(id=f"x{number}")

    created = Store(client).start(plan(SINGLE), runs())
    assert len(cut) == 2
    assert all(cut)
    assert len(created) == 2000
    assert created.count(False) <= 2 * (AHEAD + 1) * RUNS_PER_CALL  # heard by the server, and asked for again
    assert len(stage.queued()) == len(stage.bells()) == 2000


def test_the_connection_is_not_tried_while_answers_are_owed(stage: Stage) -> None:
    path = stage.client.connection_pool.connection_kwargs["path"]
    client: Any = connect(Settings(url=f"unix://{path}"))

    def runs() -> Iterator[NewRun]:
        for number in range(1000):
            for line in client.connection_pool._in_use_connections:
                line.next_health_check = 0.001  # as after a long pause
            yield NewRun(id=f"x{number}")

    shape = plan(SINGLE)
    store = Store(client)
    store.define(shape)
    stage.client.config_resetstat()
    assert store.start(shape, runs()) == [True] * 1000
    assert stage.client.info("commandstats").get("cmdstat_ping", {"calls": 0})["calls"] <= 1
    client.close()


def test_no_more_runs_are_asked_for_after_an_error(stage: Stage) -> None:
    stage.store.define(plan(SINGLE))
    stage.client.config_set("maxmemory", 1)
    taken: list[int] = []

    def runs() -> Iterator[NewRun]:
        for number in range(10_000):
            taken.append(number)
            yield NewRun(id=f"x{number}")

    try:
        with pytest.raises(redis.exceptions.OutOfMemoryError):
            stage.store.start(plan(SINGLE), runs())
    finally:
        stage.client.config_set("maxmemory", 0)
    assert len(taken) <= (AHEAD + 2) * RUNS_PER_CALL
    assert stage.store.start(plan(SINGLE), [NewRun(id="after")]) == [True], "no answer is owed to anybody else"


@pytest.mark.parametrize("known", [True, False])
def test_one_run_that_somebody_waits_for(stage: Stage, known: bool) -> None:
    shape = plan(SINGLE)
    if known:
        stage.store.define(shape)
    assert stage.store.start_one(shape, NewRun(id="x"))
    assert not stage.store.start_one(shape, NewRun(id="x"))
    assert stage.queued() == ["x_0_1"]


def test_a_server_that_does_not_keep_plans_is_an_error_and_no_loop(stage: Stage) -> None:
    stage.store.define = lambda plan, info=None: None  # type: ignore[method-assign]
    with pytest.raises(redis.exceptions.ResponseError, match="NOPLAN"):
        stage.store.start(plan(SINGLE), [NewRun(id="x")])
    with pytest.raises(redis.exceptions.ResponseError, match="NOPLAN"):
        stage.store.start_one(plan(SINGLE), NewRun(id="x"))
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
