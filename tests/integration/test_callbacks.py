"""Callbacks on real workers: what they are told, and that nothing they do reaches the run they are told of."""

from __future__ import annotations

import json
import os
import signal
from typing import TYPE_CHECKING, Any

import psutil

from tests.waiting import wait_for
from tm.events import CallbackEnded
from tm.states import RunState, TaskState
from tm.store.logs import LogStream
from tm.store.records import NewRun

if TYPE_CHECKING:
    from tests.workers import Site

#: a callback that leaves what it was told under the id of the event
NOTE = """
        import dataclasses, json
        def note(event):
            about = dataclasses.asdict(event) | {"pid": os.getpid()}
            with (notes / "told").open("a") as file:
                file.write(json.dumps(about, default=str) + "\\n")
"""


def told(site: Site) -> list[dict[str, Any]]:
    return [json.loads(line) for line in site.noted("told").splitlines()]


def ended(site: Site) -> list[CallbackEnded]:
    return [event for _, event in site.store.events(count=100_000) if isinstance(event, CallbackEnded)]


def all_told(site: Site, count: int, timeout: float = 15.0) -> list[dict[str, Any]]:
    wait_for(lambda: len(told(site)) >= count and len(ended(site)) >= count, f"{count} callbacks to be called", timeout)
    return told(site)


def test_successes_retries_and_failures_are_told_with_all_that_is_known(site: Site) -> None:
    site.write(
        NOTE
        + """
        @task(retries=1, on_retry=note, on_success=note)
        def flaky(n):
            if tm.get_context().attempt == 1: raise ValueError("at first")
            return {"rows": n}
        @task(on_failure=[note, lambda event: (notes / "second").touch()])
        def broken(flaky): raise KeyError("x")
        graph = Graph("told", on_failure=note, on_success=note)
        graph.add_edges([flaky], [broken])
    """
    )
    site.worker("--processes", "2")
    run = site.start("told", n=3)
    site.ended(run)
    seen = {each["id"]: each for each in all_told(site, 4)}
    ids = [f"{run}_0_1_retry", f"{run}_0_2_success", f"{run}_1_1_failure", f"{run}_failure"]
    assert sorted(seen) == sorted(ids)
    retry, success, failure, of_run = (seen[each] for each in ids)
    assert (retry["error"]["type"], retry["error"]["message"]) == ("ValueError", "at first")
    assert "raise ValueError" in retry["error"]["traceback"]
    assert retry["next_attempt_at"] >= retry["at"]
    assert (success["value"], success["attempt"], success["params"]) == ({"rows": 3}, 2, {"n": 3})
    assert (failure["task"], failure["state"], failure["delivery"]) == ("broken", "failed", 1)
    assert (of_run["scope"], of_run["task"], of_run["state"]) == ("graph", "broken", "failed")
    assert of_run["error"]["type"] == "KeyError"
    wait_for((site.folder / "notes" / "second").exists, "the second function to be called")
    assert {event.outcome for event in ended(site)} == {"success"}


def test_ends_that_no_executor_sees_are_told_as_well(site: Site) -> None:
    site.write(
        NOTE
        + """
        @task(timeout=0.3, on_failure=note)
        def slow(): time.sleep(60)
        @task(on_failure=note, on_retry=note)
        def crash(): os._exit(7)
        @task(on_failure=note)
        def lasting(): (notes / "lasting").touch(); time.sleep(60)
        for name, it in (("slow", slow), ("crash", crash), ("lasting", lasting)):
            graph = Graph(name, on_failure=note)
            graph.add_edges([it])
            globals()[name + "_graph"] = graph
    """
    )
    site.worker("--processes", "2", TM_GRACE="0")
    slow, crash = site.start("slow"), site.start("crash")
    site.ended(slow), site.ended(crash)
    lasting = site.start("lasting")
    wait_for((site.folder / "notes" / "lasting").exists, "the task to run")
    site.store.cancel(lasting, reason="enough")
    seen = {each["id"]: each for each in all_told(site, 8)}
    assert seen[f"{slow}_0_1_failure"]["state"] == "timed_out"
    assert [seen[f"{crash}_0_{n}_retry"]["error"]["type"] for n in (1, 2)] == ["Killed", "Killed"]
    assert seen[f"{crash}_0_3_failure"]["state"] == "quarantined"
    assert seen[f"{lasting}_0_1_failure"]["reason"] == "enough"
    assert seen[f"{lasting}_failure"]["state"] == "cancelled"


def test_nothing_a_callback_does_reaches_the_run_or_the_next_one(site: Site) -> None:
    site.write("""
        def leaves(event): sys.exit(3)
        def raises(event): raise RuntimeError("no mail today")
        def dies(event): os._exit(9)
        def segfaults(event): os.kill(os.getpid(), signal.SIGSEGV)
        def closes(event): sys.stdout.close(); os.closerange(0, 3)
        def hangs(event):
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            while True: time.sleep(1)
        def work(n): return n
        def chain(name, callback):
            graph = Graph(name)
            graph.add_edges([task(name="first", on_success=callback)(work)], [task(name="second")(lambda first: first + 1)])
            return graph
        graphs = [chain(each.__name__, each) for each in (leaves, raises, dies, segfaults, closes, hangs)]
    """)
    worker = site.worker("--processes", "2", TM_CALLBACK_TIMEOUT="0.5", TM_GRACE="0.1")
    for name in ("leaves", "raises", "dies", "segfaults", "closes", "hangs"):
        run = site.start(name, n=1)
        view = site.ended(run)
        assert view.state is RunState.SUCCESS
        assert [(each.state, each.attempt) for each in view.tasks] == [(TaskState.SUCCESS, 1)] * 2
    wait_for(lambda: len(ended(site)) == 6, "all callbacks to have ended")
    assert {event.graph: event.outcome for event in ended(site)} == {
        "leaves": "failed", "raises": "failed", "dies": "killed", "segfaults": "killed", "closes": "success",
        "hangs": "timed_out",
    }  # fmt: skip
    assert worker.process.poll() is None
    assert site.result("leaves", n=5) == 6
    assert worker.said("no mail today"), "the log of the worker has the traceback"
    assert worker.said("raise RuntimeError"), worker.log.read_text()


def test_a_worker_killed_during_a_callback_costs_a_repeat_of_it_and_nothing_else(site: Site) -> None:
    site.write("""
        def notify(event):
            with (notes / "calls").open("a") as file: file.write(f"{event.id} {event.delivery}\\n")
            while not (notes / "go").exists(): time.sleep(0.02)
        @task(on_success=notify)
        def fine(): return 1
        graph = Graph("fine")
        graph.add_edges([fine])
    """)
    worker = site.worker("--processes", "2", TM_LEASE="1")
    run = site.start("fine")
    wait_for(lambda: site.noted("calls"), "the callback to begin")
    for each in (*psutil.Process(worker.pid).children(recursive=True), psutil.Process(worker.pid)):
        each.kill()
    assert site.view(run).state is RunState.SUCCESS
    (site.folder / "notes" / "go").touch()
    site.worker("--processes", "2", TM_LEASE="1", wait=False)

    def told_again() -> bool:
        site.store.reap()
        return len(ended(site)) == 1

    wait_for(told_again, "the callback to be called again")
    assert site.noted("calls").splitlines() == [f"{run}_0_1_success 1", f"{run}_0_1_success 2"]
    view = site.view(run)
    assert [(each.state, each.attempt, each.losses) for each in view.tasks] == [(TaskState.SUCCESS, 1, 0)]


def test_a_worker_takes_callbacks_whatever_its_queues_and_before_other_work(site: Site) -> None:
    site.write(
        NOTE
        + """
        @task(queue="slow", on_success=note)
        def one(): return os.getpid()
        graph = Graph("one")
        graph.add_edges([one])
    """
    )
    first = site.worker("--queue", "slow", "--processes", "1")
    run = site.start("one")
    site.ended(run)
    all_told(site, 1)
    os.kill(first.pid, signal.SIGTERM)
    first.end()
    again = site.start("one")
    site.worker("--queue", "slow", "--processes", "1")
    site.ended(again)
    assert all_told(site, 2)[1]["run"] == again


def test_what_a_callback_prints_belongs_to_the_run_it_is_told_of(site: Site) -> None:
    site.write("""
        def say(event): print("told of", event.value)
        @task(on_success=say)
        def fine(): return 7
        graph = Graph("fine")
        graph.add_edges([fine])
    """)
    site.worker("--processes", "1")
    run = site.start("fine")
    wait_for(lambda: len(ended(site)) == 1, "the callback to be called")
    stream = LogStream(site.store)

    def lines() -> list[tuple[str, str]]:
        return [(chunk.task, line.text) for _, chunk in stream.of_run(run) for line in chunk.lines()]

    wait_for(lambda: lines() == [("!on_success(fine)", "told of 7")], "the line to be filed with the run")


def test_a_thousand_callbacks_are_told_once_each(site: Site) -> None:
    site.write("""
        def note(event):
            with (notes / "ids").open("a") as file: file.write(event.id + "\\n")
        @task(on_success=note)
        def fine(): return 1
        graph = Graph("fine")
        graph.add_edges([fine])
    """)
    plan = site.graphs["fine"].plan
    runs = [NewRun(id=f"fine-{number}") for number in range(1000)]
    assert all(site.store.start(plan, runs))
    site.worker("--processes", "2")
    wait_for(lambda: site.noted("ids").count("\n") >= 1000, "all callbacks to be called", 60.0)
    assert sorted(site.noted("ids").split()) == sorted(f"{run.id}_0_1_success" for run in runs)
    wait_for(lambda: len(ended(site)) == 1000, "all of them to be reported")
    assert {event.outcome for event in ended(site)} == {"success"}
