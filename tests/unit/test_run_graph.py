"""tm.testing in process: other outcomes in the place of tasks, retries without waiting, and what is told of them."""

from __future__ import annotations

import sys
import time
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from tests.unit.test_imports import loaded_by
from tm import Fail, Graph, Skip, get_context, task
from tm.errors import CodecError, ConfigError, NotFoundError, RefusedError
from tm.testing import FakeClock, RunResult, attempts, load_graph, run_graph, ticks
from tm.testing.inprocess import TestingError


@task(retries=2, retry_delay=10, backoff=1, jitter=0.5)
def extract(rows: int = 3):
    return list(range(rows))


@task()
def double(extract):
    return [2 * each for each in extract]


@task()
def total(extract, double):
    return sum(extract) + sum(double)


@pytest.fixture
def etl() -> Graph:
    graph = Graph("etl")
    graph.add_edges([extract], [double, total])
    graph.add_edges([double], [total])
    return graph


def of(function, **options) -> Graph:
    graph = Graph("one")
    graph.add_edges(task(**options)(function))
    return graph


def test_a_run_that_succeeds_tells_all_about_it(etl):
    run = run_graph(etl, rows=4)
    assert run.assert_success() is run
    assert (run.state, run.value, run.error) == ("success", 18, None)
    assert run.order == ("extract", "double", "total")
    assert run.states == {"extract": "success", "double": "success", "total": "success"}
    assert run["double"].value == [0, 2, 4, 6]
    assert run["total"].arguments == {"extract": [0, 1, 2, 3], "double": [0, 2, 4, 6]}
    assert run.params == {"rows": 4}
    assert run.delays == {}
    assert run_graph(etl, {"rows": 4}).value == 18


def test_retries_do_not_wait_and_their_delays_are_told(etl):
    began, clock = time.monotonic(), FakeClock("2026-05-01T12:00+02:00")
    run = run_graph(etl, clock=clock, results={"extract": attempts(OSError("1"), OSError("2"), [5])})
    assert time.monotonic() - began < 5
    assert run.value == 15
    assert run["extract"].attempts == 3
    assert [str(each) for each in run["extract"].errors] == ["1", "2"]
    assert run.delays == {"extract": [10.0, 20.0]}
    assert sum(clock.slept) == 30
    assert clock.now() == datetime(2026, 5, 1, 10, 0, 30, tzinfo=UTC)
    half = run_graph(etl, chance=0.5, results={"extract": attempts(OSError("1"), [5])})
    assert half.delays == {"extract": [12.5]}, "half of a jitter of 0.5"


def test_a_list_is_a_value_and_none_is_one_too(etl):
    assert run_graph(etl, results={"extract": [7], "double": [1]}).value == 8
    assert run_graph(of(lambda: 1, name="x"), results={"x": None}).value is None


def test_a_function_gets_what_it_takes_of_what_the_task_would_get(etl):
    assert run_graph(etl, rows=9, results={"extract": lambda: [1]}).value == 3
    assert run_graph(etl, rows=9, results={"extract": lambda rows: [rows]}).value == 27
    assert run_graph(etl, rows=9, results={"total": lambda **all_of_it: sorted(all_of_it)}).value == [
        "double",
        "extract",
    ]
    assert run_graph(etl, results={"extract": double, "double": [1], "total": 1}).state == "failed", "it misses extract"


def test_exceptions_may_be_classes_and_count_for_retry_on():
    graph = of(lambda: 1, name="x", retries=5, retry_on=OSError)
    assert run_graph(graph, results={"x": ValueError})["x"].attempts == 1
    assert run_graph(graph, results={"x": TimeoutError})["x"].attempts == 6
    assert run_graph(graph, results={"x": attempts(TimeoutError, Fail("no such customer"))})["x"].attempts == 2


def test_what_is_below_a_failure_is_blocked_and_says_by_whom(etl):
    run = run_graph(etl, results={"double": ValueError("odd")})
    run.assert_states({"extract": "success", "double": "failed", "total": "blocked"})
    assert run["total"].reason == "by double"
    assert str(run.error) == "odd"
    assert run.value is None


def test_skip_is_told_with_its_reason(etl):
    run = run_graph(etl, results={"extract": Skip("a holiday")})
    assert run.states == {"extract": "skipped", "double": "skipped", "total": "skipped"}
    assert run["extract"].reason == "a holiday"
    run.assert_success()


def test_assert_success_lists_the_tasks_and_is_caused_by_the_error(etl):
    run = run_graph(etl, results={"double": ValueError("odd")})
    with pytest.raises(AssertionError) as failed:
        run.assert_success()
    assert str(failed.value).splitlines()[1:] == [
        "  extract  success  1 attempt",
        "  double   failed   1 attempt  ValueError: odd",
        "  total    blocked  by double",
    ]
    assert failed.value.__cause__ is run.error


def test_assert_states_says_what_is_different(etl):
    run = run_graph(etl)
    assert run.assert_states({"total": "success"}) is run
    with pytest.raises(AssertionError) as failed:
        run.assert_states({"extract": "failed", "double": "succeeded", "toatl": "success", "total": "success"})
    first, *lines = str(failed.value).splitlines()
    assert first == f"states of run {run.id} are not as expected:"
    assert lines[0] == "  extract  expected failed, is success  1 attempt"
    assert lines[1].startswith("  double   'succeeded' is no state; they are waiting, queued,")
    assert lines[2] == "  toatl    is no task of graph 'etl'"
    assert lines[4] == f"run {run.id} ended success"
    with pytest.raises(KeyError, match="has no task 'toatl'; it has extract, double, total"):
        run["toatl"]


def test_the_tick_is_in_the_context_and_in_the_id():
    graph = of(lambda: get_context().tick, name="when")
    run = run_graph(graph, tick="2026-03-02T06:30+01:00")
    assert run.value == run.tick == datetime(2026, 3, 2, 5, 30, tzinfo=UTC)
    assert run.id == "one-20260302T053000Z"
    assert run_graph(graph, tick=datetime(2026, 3, 2, tzinfo=ZoneInfo("Asia/Tokyo"))).tick.hour == 15
    assert run_graph(graph).value is None


def test_attempts_know_their_number_and_share_a_key():
    seen = []

    def note():
        seen.append((get_context().attempt, get_context().idempotency_key, get_context().params))
        raise OSError

    run_graph(of(note, retries=1))
    assert [number for number, _, _ in seen] == [1, 2]
    assert seen[0][1] == seen[1][1]


def test_values_are_sent_as_workers_send_them():
    run = run_graph(of(lambda: {"a": object()}, name="x", retries=3))
    assert isinstance(run["x"].error, CodecError)
    assert run["x"].attempts == 1, "another attempt would not help"
    assert run_graph(of(lambda: {"a": object()}, name="x"), messages=False).state == "success"
    with pytest.raises(CodecError, match=r"params\['rows'\]"):
        run_graph(of(lambda rows: rows, name="x"), rows=object())


def test_each_child_has_a_copy_of_its_own():
    @task()
    def first():
        return [1]

    @task()
    def spoils(first):
        first.append(2)

    @task()
    def reads(first, spoils):
        return first

    graph = Graph("copies")
    graph.add_edges(first, [spoils, reads])
    graph.add_edges(spoils, reads)
    assert run_graph(graph).value == [1]
    assert run_graph(graph, messages=False).value == [1, 2]


def test_a_task_that_exits_fails_as_on_a_worker():
    run = run_graph(of(lambda: sys.exit(3), name="x", retries=3))
    assert (run.state, run["x"].attempts, str(run["x"].error)) == ("failed", 1, "SystemExit: 3")


def test_what_ends_a_test_ends_it():
    with pytest.raises(KeyboardInterrupt):
        run_graph(of(lambda: 1, name="x"), results={"x": KeyboardInterrupt})
    with pytest.raises(pytest.fail.Exception, match="seen by the test"):
        run_graph(of(lambda: pytest.fail("seen by the test"), name="x"))


def test_slips_of_the_test_are_no_failures_of_tasks(etl):
    with pytest.raises(TestingError, match="graph 'etl' has no task 'extrct'; it has extract, double, total"):
        run_graph(etl, results={"extrct": 1})
    with pytest.raises(
        TestingError, match="attempt 2 at task 'extract' was made, and attempts\\(\\) has only 1 outcome"
    ):
        run_graph(etl, results={"extract": attempts(OSError())})
    with pytest.raises(TypeError, match="no parameter 'row'"):
        run_graph(etl, row=1)
    with pytest.raises(ValueError, match="chance must be"):
        run_graph(etl, chance=1)
    with pytest.raises(ValueError, match="at least one"):
        attempts()


def test_callbacks_are_called_and_told_of_the_tick():
    told = []

    def note(event):
        told.append((event.scope, event.kind, event.task, event.attempt, event.tick, event.next_attempt_at))

    graph = Graph("tells", on_failure=note)
    graph.add_edges(task(name="x", retries=1, retry_delay=60, on_retry=note, on_failure=note)(lambda: 1))
    run = run_graph(graph, tick="2026-03-02", clock=FakeClock("2026-03-02"), results={"x": OSError("away")})
    tick = datetime(2026, 3, 2, tzinfo=UTC)
    assert run.state == "failed"
    assert told == [
        ("task", "retry", "x", 1, tick, tick + timedelta(minutes=1)),
        ("task", "failure", "x", 2, tick, None),
        ("graph", "failure", "x", None, tick, None),
    ]


def test_a_config_is_read_or_stood_in_for(tmp_path):
    def settings(config):
        return config

    graph = Graph("configured", config=str(tmp_path / "c.json"))
    graph.add_edges(task(settings))
    with pytest.raises(ConfigError):
        run_graph(graph)
    assert run_graph(graph, config={"rows": 1}).value == {"rows": 1}
    (tmp_path / "c.json").write_text('{"rows": 2}')
    assert run_graph(graph).value == {"rows": 2}


def test_a_clock_goes_where_it_is_sent():
    clock = FakeClock("2026-03-29T00:30")
    clock.sleep(1.5)
    clock.advance(3600)
    assert clock.now() == datetime(2026, 3, 29, 1, 30, 1, 500_000, tzinfo=UTC)
    assert clock.slept == [1.5]
    assert repr(clock) == "FakeClock('2026-03-29T01:30:01.500000+00:00')"


def test_ticks_are_those_of_the_zone_of_the_graph():
    graph = Graph("nightly", "30 2 * * *", timezone="Europe/Berlin")
    found = ticks(graph, "2026-03-28", "2026-03-31")
    assert [each.isoformat() for each in found] == [
        "2026-03-28T02:30:00+01:00",
        "2026-03-29T03:00:00+02:00",
        "2026-03-30T02:30:00+02:00",
    ]
    assert ticks(graph, datetime(2026, 3, 28, 1, 30, tzinfo=UTC), "2026-03-28T02:31")[0].hour == 2, "the start is in it"
    assert ticks(graph, "2026-03-27T02:31", "2026-03-28T02:30") == [], "the end is not"


def test_ticks_of_a_graph_without_a_zone_are_in_that_of_the_start():
    graph = Graph("hourly", "0 * * * *")
    (tick,) = ticks(graph, datetime(2026, 1, 1, 10, tzinfo=ZoneInfo("Asia/Kolkata")), "2026-01-01T10:30")
    assert tick.utcoffset() == timedelta(hours=5, minutes=30)
    assert ticks(graph, "2026-01-01", "2026-01-01T00:30") == [datetime(2026, 1, 1, tzinfo=UTC)]


def test_ticks_without_end_or_schedule_are_refused():
    with pytest.raises(RefusedError, match="manual"):
        ticks(Graph("m"), "2026-01-01", "2026-01-02")
    with pytest.raises(RefusedError, match="more than 100,000"):
        ticks(Graph("s", "* * * * * *"), "2026-01-01", "2027-01-01")


@pytest.mark.usefixtures("nothing_stays_loaded")
def test_a_file_whose_executor_would_start_is_loaded_and_does_not(tmp_path):
    path = tmp_path / "starts_by_itself.py"
    path.write_text(
        "from tm import Executor, Graph, task\n@task()\ndef a(): return 1\n"
        "one = Graph('one', '* * * * *')\none.add_edges(a)\ntwo = Graph('two')\ntwo.add_edges(a)\n"
        "Executor([one]).start()\n"
    )
    assert run_graph(load_graph(path, "one")).value == 1
    with pytest.raises(NotFoundError, match="name it; it has one, two"):
        load_graph(path)
    with pytest.raises(NotFoundError, match="has no graph 'three'"):
        load_graph(path, "three")


def test_the_kit_alone_loads_no_server_and_no_pytest():
    heavy = {"redis", "rq", "sqlalchemy", "click", "rich", "pytest", "_pytest"}
    assert not loaded_by("import tm.testing") & heavy
    code = "from tm import Graph, task\nfrom tm.testing import run_graph\ng = Graph('g')\ng.add_edges(task(lambda: 1, name='x') if 0 else task(name='x')(lambda: 1))\nassert run_graph(g).value == 1"
    assert not loaded_by(code) & heavy


def test_results_are_frozen(etl):
    run = run_graph(etl)
    assert isinstance(run, RunResult)
    with pytest.raises(AttributeError):
        run.state = "failed"
