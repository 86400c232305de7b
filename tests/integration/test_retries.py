"""Retries, marks and triggers through the client: on a real server with a real history beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.integration.test_client import Hand
from tm import Graph, codec, task
from tm.client import Client
from tm.clock import from_ms
from tm.errors import NotFoundError, RefusedError
from tm.history import open_history
from tm.lookup import Lookup
from tm.repair import Choice
from tm.requests import FullError, trigger
from tm.retries import mark, newest, plan_afresh, plan_retry, start_afresh, start_retry
from tm.states import RunState, TaskState, Trigger
from tm.store.records import TriggerAnswer
from tm_scheduler.archive import Archiver

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tm.history import History
    from tm.store.store import Store


@task()
def extract(day: str = "monday") -> str:
    return day


@task()
def load(extract: str) -> str:
    return f"loaded {extract}"


@task()
def report(load: str) -> str:
    return f"report of {load}"


def make(*, better: bool = False, **more: Any) -> Graph:
    """The graph; the better one has a check between extract and load."""
    graph = Graph("etl", "0 6 * * *", timezone="UTC", **more)
    graph.add_edges([extract], [load])
    graph.add_edges([load], [report])
    if better:

        @task()
        def check(extract: str) -> bool:
            return bool(extract)

        graph.add_edges([extract], [check])
    return graph


@pytest.fixture
def history(tmp_path: Path) -> Iterator[History]:
    history = open_history(f"sqlite:///{tmp_path}/history.db")
    yield history
    history.close()


@pytest.fixture
def face(store: Store, history: History) -> Client:
    return Client(store, Lookup(store, lambda: history))


def file_all(store: Store, history: History) -> None:
    archiver = Archiver(store, history)
    while archiver.one_pass():
        pass


def announce(store: Store, graph: Graph) -> None:
    from zoneinfo import ZoneInfo

    store.define(graph.plan, graph.about(ZoneInfo("UTC")))


def failed(face: Client, graph: Graph, **params: Any) -> str:
    """A run whose load failed."""
    run = face.submit(graph, params).id
    hand = Hand(face.store, graph, f"hand of {run}")
    [first] = hand.take()
    [second] = hand.report(first, hand.value(first))
    hand.report(second, error={"type": "OSError", "message": "no space", "traceback": ""})
    assert face.state(run) is RunState.FAILED
    return run


def work(face: Client, graph: Graph) -> None:
    Hand(face.store, graph, "another").run_all()


def test_a_retry_goes_on_by_the_current_version_of_the_graph(face: Client) -> None:
    run = failed(face, make())
    better = make(better=True)
    announce(face.store, better)
    planned = plan_retry(face, run)
    assert (planned.version, planned.newer) == (better.plan.version, True)
    assert sorted(planned.mending.runs) == ["check", "load", "report"]
    assert planned.mending.kept == ("extract",)
    start_retry(face, planned, by="me")
    work(face, better)
    info = face.run(planned.run)
    assert (info.state, info.version) == (RunState.SUCCESS, better.plan.version)


def test_or_by_the_version_of_the_run_when_that_is_asked_for(face: Client) -> None:
    graph = make()
    run = failed(face, graph)
    announce(face.store, make(better=True))
    planned = plan_retry(face, run, code="original")
    assert (planned.version, planned.newer, planned.mending.runs) == (graph.plan.version, False, ("load", "report"))


def test_without_an_announced_graph_the_version_of_the_run_is_taken(face: Client) -> None:
    graph = make()
    run = failed(face, graph)
    assert plan_retry(face, run).version == graph.plan.version
    with pytest.raises(RefusedError, match="no scheduler has announced graph 'etl'"):
        plan_retry(face, run, code="current")


def test_a_second_retry_repairs_the_first(face: Client) -> None:
    graph = make()
    run = failed(face, graph)
    start_retry(face, plan_retry(face, run), by="me")
    with pytest.raises(RefusedError, match=f"run {run}-2 is still queued"):
        plan_retry(face, run)
    [claim] = Hand(face.store, graph, "h").take()
    Hand(face.store, graph, "i").report(claim, error={"type": "E", "message": "", "traceback": ""})
    planned = plan_retry(face, run)
    assert (planned.source, planned.run) == (f"{run}-2", f"{run}-3")
    start_retry(face, planned, by="me")
    work(face, graph)
    with pytest.raises(RefusedError, match=f"run {run}-3 succeeded"):
        plan_retry(face, run)
    last, following = newest(face, face.run(f"{run}-2"))
    assert (last.id, following) == (f"{run}-3", f"{run}-4")


def test_the_beginning_of_an_id_means_the_run_and_not_its_retry(face: Client, history: History) -> None:
    run = failed(face, make())
    start_retry(face, plan_retry(face, run), by="me")
    assert face.run(run).id == run
    file_all(face.store, history)
    assert face.run(run[:-3]).id == run
    assert face.run(f"{run}-").id == f"{run}-2"


def test_two_people_start_one_retry(face: Client) -> None:
    run = failed(face, make())
    one, other = plan_retry(face, run), plan_retry(face, run)
    start_retry(face, one, by="ann")
    with pytest.raises(RefusedError, match=f"somebody has just started run {run}-2"):
        start_retry(face, other, by="bob")


def test_a_run_whose_messages_are_gone_is_refused_with_what_to_do(face: Client, history: History) -> None:
    graph = make()
    run = failed(face, graph, day="tuesday")
    announce(face.store, graph)
    file_all(face.store, history)
    face.store.client.delete(face.store.keys.run(run), face.store.keys.out(run))
    with pytest.raises(RefusedError) as caught:
        plan_retry(face, run)
    assert f"`tm retry {run} --all`" in str(caught.value)
    assert "`tm trigger etl`" in str(caught.value)
    afresh = plan_afresh(face, run)
    assert codec.decode(afresh.params) == {"day": "tuesday"}
    assert start_afresh(face, afresh) is TriggerAnswer.CREATED
    work(face, graph)
    assert face.result(f"{run}-2") == "report of loaded tuesday"


def test_a_message_that_has_gone_meanwhile_is_refused_too(face: Client) -> None:
    run = failed(face, make())
    planned = plan_retry(face, run)
    face.store.client.delete(face.store.keys.out(run))
    with pytest.raises(RefusedError, match="no longer on the server"):
        start_retry(face, planned, by="me")


def test_history_knows_of_which_run_it_is_a_retry_what_was_kept_and_what_was_marked(
    face: Client, history: History
) -> None:
    graph = make()
    run = failed(face, graph)
    done = mark(face, run, "load", TaskState.SUCCESS, by="ann@host", reason="by hand")
    assert (done.run, done.retry, done.was) == (f"{run}-2", True, TaskState.FAILED)
    work(face, graph)
    file_all(face.store, history)
    row = history.run(done.run)
    assert (row.retry_of, row.trigger, row.state) == (run, "retry", RunState.SUCCESS)
    tasks = {each.task: (each.state, each.reason) for each in history.task_runs(done.run)}
    assert tasks == {
        "extract": (TaskState.SUCCESS, f"kept from {run}"),
        "load": (TaskState.SUCCESS, "marked success by ann@host: by hand"),
        "report": (TaskState.SUCCESS, ""),
    }
    [audit] = history.marks(done.run)
    assert (audit.task, audit.was, audit.state, audit.by, audit.reason) == (
        "load",
        TaskState.FAILED,
        TaskState.SUCCESS,
        "ann@host",
        "by hand",
    )
    file_all(face.store, history)
    assert len(history.marks(done.run)) == 1


def test_a_run_that_ended_takes_no_failure_and_what_succeeded_no_mark(face: Client) -> None:
    run = failed(face, make())
    with pytest.raises(RefusedError, match="taken as success or skipped, not as failed"):
        mark(face, run, "load", TaskState.FAILED, by="me", reason="x")
    with pytest.raises(RefusedError, match=r"task 'extract' of run .* is success already"):
        mark(face, run, "extract", TaskState.SUCCESS, by="me", reason="x")
    with pytest.raises(NotFoundError, match="has no task 'lode'"):
        mark(face, run, "lode", TaskState.SUCCESS, by="me", reason="x")


def test_a_part_can_be_chosen(face: Client) -> None:
    graph = make()
    run = face.submit(graph).id
    work(face, graph)
    planned = plan_retry(face, run, Choice(again=("load",)))
    start_retry(face, planned, by="me")
    work(face, graph)
    assert face.run(planned.run).state is RunState.SUCCESS


def test_a_trigger_heeds_the_limit_of_open_runs(face: Client) -> None:
    graph = make(max_active_runs=1)
    announce(face.store, graph)
    trigger(face, "etl", {"day": "monday"})
    with pytest.raises(FullError, match="has 1 open run, as many as it may have"):
        trigger(face, "etl", {})
    trigger(face, "etl", {}, force=True)


def test_a_config_that_this_machine_does_not_have_is_asked_for(face: Client, tmp_path: Path) -> None:
    @task()
    def root(config: Any) -> Any:
        return config

    graph = Graph("configured", config=tmp_path / "config.json")
    graph.add_edges([root])
    announce(face.store, graph)
    with pytest.raises(RefusedError, match="give a copy of it: --config FILE"):
        trigger(face, "configured", {})
    (tmp_path / "copy.json").write_text('{"a": 1}')
    run = trigger(face, "configured", {}, config=str(tmp_path / "copy.json"))
    assert face.run(run).config == '{"a": 1}'


def test_a_tick_that_history_remembers_is_not_run_twice(face: Client, history: History) -> None:
    graph = make()
    announce(face.store, graph)
    at = from_ms(1_790_000_000_000)
    run = trigger(face, "etl", {}, tick=at)
    work(face, graph)
    file_all(face.store, history)
    face.store.client.delete(face.store.keys.run(run))
    with pytest.raises(RefusedError, match=f"the run of this tick is {run} \\(success\\)"):
        trigger(face, "etl", {}, tick=at)
    assert history.run(run).trigger == Trigger.MANUAL
