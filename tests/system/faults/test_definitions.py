"""Graphs are edited, tasks renamed and runs cancelled while they are open (F39, F40, F43)."""

from __future__ import annotations

import random
import signal
import threading
import time
from typing import TYPE_CHECKING

import psutil
import pytest

from tests.rig.cluster import GRAPHS, Cluster, gone
from tests.waiting import wait_for
from tm import codec
from tm.events import RunEnded
from tm.loader import load

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.system.conftest import Fault

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

HEAD = """
from typing import Any
from tests.rig.journal import body
from tm import Graph, task

@task()
def one(pace: float = 0.0) -> Any:
    return body(seconds=pace) | {"pace": 0.0, "version": VERSION}
@task()
def two(one: Any) -> Any:
    return body({"one": one}) | {"version": VERSION}
"""
OLD = (
    "VERSION = 'old'\n"
    + HEAD
    + """
graph = Graph("edited")
graph.add_edges([one], [two])
"""
)
NEW = (
    "VERSION = 'new'\n"
    + HEAD
    + """
@task()
def three(two: Any) -> Any:
    return body({"two": two}) | {"version": VERSION}
@task()
def beside(one: Any) -> Any:
    return body({"one": one})
graph = Graph("edited")
graph.add_edges([one], [two, beside])
graph.add_edges([two], [three])
"""
)
RENAMED = OLD.replace("def two", "def zwei").replace("[two]", "[zwei]")


def end(cluster: Cluster, kind: str) -> None:
    for each in cluster.living(kind):
        each.signal(signal.SIGTERM)
    for each in cluster.living(kind):
        each.end()


def test_f40_a_graph_edited_in_flight_leaves_open_runs_as_they_were(
    own: Callable[..., Cluster], fault: Fault, tmp_path: Path
) -> None:
    file, edited = tmp_path / "before.py", tmp_path / "after.py"  # a module is executed once in a process, in ours too
    file.write_text(OLD)
    edited.write_text(NEW)
    cluster = own(files=(file,)).up(workers=2, schedulers=1)
    old_plan = cluster.graphs["edited"].plan
    old = [cluster.submit("edited", pace=0.3) for _ in range(fault.size(8, 20))]
    cluster.begun(old[0])
    cluster.files = [edited]
    fault.mark("the file has other edges and more tasks")
    cluster.worker()  # old and new side by side
    end(cluster, "scheduler")
    cluster.scheduler()
    cluster.graphs = load(edited).graphs
    new_plan = cluster.graphs["edited"].plan
    assert new_plan.version != old_plan.version
    new = [cluster.submit("edited", pace=0.1) for _ in range(4)]
    cluster.settle()
    assert {cluster.state(run) for run in (*old, *new)} == {"success"}
    for run in old:
        assert {line.task for line in cluster.lines(run)} == {"one", "two"}, "an open run did not keep its snapshot"
    for run in new:
        assert {line.task for line in cluster.lines(run)} == {"one", "two", "three", "beside"}
    evidence = cluster.evidence()
    # the judge knows one plan for a graph; each version is judged by its own
    from dataclasses import replace

    from tests.rig.checker import check

    for runs, plan in ((old, old_plan), (new, new_plan)):
        assert not check(
            replace(
                evidence,
                plans={"edited": plan},
                runs=tuple(each for each in evidence.runs if each.id in runs),
                task_runs=tuple(each for each in evidence.task_runs if each.run in runs),
                attempts=tuple(each for each in evidence.attempts if each.run in runs),
                journal=tuple(each for each in evidence.journal if each.run in runs),
                events=tuple(each for each in evidence.events if getattr(each[1], "run", "") in runs),
                events_complete=False,
                submitted=dict.fromkeys(runs, "edited"),
            )
        )


def test_f39_a_worker_without_the_task_leaves_it_for_one_that_has_it(
    own: Callable[..., Cluster], fault: Fault, tmp_path: Path
) -> None:
    renamed, file = tmp_path / "renamed.py", tmp_path / "whole.py"
    renamed.write_text(RENAMED)
    file.write_text(OLD)
    cluster = own(files=(renamed,)).up(workers=2, schedulers=1)
    fault.mark("two workers have no task `two`")
    cluster.files, cluster.graphs = [file], load(file).graphs
    runs = [cluster.submit("edited") for _ in range(5)]
    for run in runs:
        cluster.begun(run, "one")
    time.sleep(1.0)
    assert {cluster.state(run) for run in runs} == {"running"}, "it waits"
    assert not [line for run in runs for line in cluster.lines(run) if line.task != "one"], "other code was run"
    cluster.worker()
    at = time.monotonic()
    wait_for(lambda: {cluster.state(run) for run in runs} == {"success"}, "the worker that has it to do it", 30)
    fault.recovered("worker with the task there to work done", time.monotonic() - at, 18.0)
    cluster.settle()
    cluster.judge()


def test_f39_a_task_that_no_worker_offers_fails_in_the_end_and_says_so(
    own: Callable[..., Cluster], fault: Fault, tmp_path: Path
) -> None:
    renamed, file = tmp_path / "renamed.py", tmp_path / "whole.py"
    renamed.write_text(RENAMED)
    file.write_text(OLD)
    after = 3.0
    cluster = own(files=(renamed,), environment={"TM_NO_WORKER_AFTER": str(after)}).up(workers=2, schedulers=1)
    cluster.graphs = load(file).graphs
    began = time.monotonic()
    runs = [cluster.submit("edited") for _ in range(3)]
    fault.mark("two workers have no task `two`")
    cluster.settle()
    took = time.monotonic() - began
    assert took >= after, "it waited for as long as it was told"
    fault.recovered("beyond TM_NO_WORKER_AFTER to runs failed and filed", took - after, 10.0)
    for run in runs:
        view = cluster.store.run(run)
        assert view is not None
        assert view.state == "failed"
        [failed] = [task for task in view.tasks if task.state == "failed"]
        message = codec.decode(failed.error)["message"]
        assert failed.task == "two"
        for part in ("task 'two'", "graph 'edited'", "queue 'default'", "since 20"):
            assert part in message
    assert not [line for line in cluster.lines() if line.task != "one"], "other code was run"
    cluster.judge()


def test_f43_cancel_storms_leave_one_final_state_and_no_process(own: Callable[..., Cluster], fault: Fault) -> None:
    cluster = own(files=(GRAPHS,)).up(workers=2, schedulers=1)
    rng = random.Random(cluster.seed)
    doomed: list[str] = []
    for _ in range(fault.size(6, 60)):
        runs = [
            cluster.submit("chain", pace=0.05),
            cluster.submit("diamond", pace=0.05),
            cluster.submit("flaky", pace=0.02),
            cluster.submit("long", seconds=60.0),
        ]
        doomed.append(runs[-1])
        time.sleep(rng.uniform(0, 0.2))
        with cluster.server.client() as client:
            store = type(cluster.store)(client)

            def cancel(each: str, store: object = store) -> None:
                store.cancel(each, reason="a storm")  # type: ignore[attr-defined]

            storm = [threading.Thread(target=cancel, args=(run,)) for run in runs for _ in range(2)]
            for each in storm:
                each.start()
            for each in storm:
                each.join()
        fault.mark("four runs cancelled, twice each, at once")
    at = time.monotonic()
    wait_for(lambda: not cluster.open_runs(), "all to be over", 30)
    pids = [line.pid for run in doomed for line in cluster.lines(run)]
    ended = {(line.run) for line in cluster.lines(what="end")}
    wait_for(
        lambda: all(gone(pid) or not _still(cluster, pid, doomed) for pid in pids),
        "the processes of cancelled runs to end",
        20,
    )
    fault.recovered(
        "cancelled to process ended (beat 0.5 s, grace 1 s)", time.monotonic() - at, 0.5 + cluster.profile.grace + 2.0
    )
    assert not ended & set(doomed)
    cluster.settle()
    cluster.judge()
    ends = [event.run for _, event in cluster.tap.seen if isinstance(event, RunEnded)]
    assert len(ends) == len(set(ends))


def _still(cluster: Cluster, pid: int, doomed: list[str]) -> bool:
    """Whether this process is still at a task of these runs: it may have gone on to others."""
    last = [line for line in cluster.lines() if line.pid == pid][-1:]
    return bool(last and last[0].run in doomed and psutil.pid_exists(pid))
