"""Deep queues of tiny tasks: executors are fed ahead, and nobody suffers from what happens to somebody else's attempt."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.waiting import wait_for
from tm import codec, ids
from tm.events import AttemptEnded, RunEnded
from tm.states import RunState
from tm.store.records import NewRun

if TYPE_CHECKING:
    from tests.workers import Site

RUNS = 1500
#: tiny tasks that take a worker a second or more
DEEP = 20_000


def test_of_many_tiny_attempts_only_the_one_that_dies_is_repeated_and_a_slow_one_holds_up_nobody(site: Site) -> None:
    site.write("""
        @task()
        def tiny(n):
            if n == 700 and not (notes / "died").exists():
                (notes / "died").touch()
                os._exit(3)
            if n == 900:
                while not (notes / "enough").exists(): time.sleep(0.01)
            return n
        graph = Graph("tiny"); graph.add_edges([tiny])
    """)
    plan = site.graphs["tiny"].plan
    runs = [NewRun(id=ids.manual_run_id("tiny"), params=codec.encode({"n": n})) for n in range(RUNS)]
    assert all(site.store.start(plan, runs))
    worker = site.worker("--processes", "2", TM_LOG_LEVEL="debug")
    slow = runs[900].id

    def others_ended() -> bool:
        return site.store.open_runs("tiny") == [slow]

    wait_for(others_ended, "all but the slow one to end while that one runs", 60)
    (site.folder / "notes" / "enough").touch()
    assert site.ended(slow).state is RunState.SUCCESS
    assert set(site.store.states([run.id for run in runs]).values()) == {RunState.SUCCESS}
    events = [event for _, event in site.store.events(count=100_000) if isinstance(event, AttemptEnded)]
    assert [(event.run, event.attempt, event.outcome) for event in events if event.outcome != "success"] == [
        (runs[700].id, 1, "killed")
    ]
    assert [event.run for event in events if event.attempt > 1] == [runs[700].id]
    assert len(events) == RUNS + 1
    assert worker.process.poll() is None


def test_a_drain_in_the_middle_of_a_deep_queue_leaves_no_trace_of_what_had_not_begun(site: Site) -> None:
    site.write("""
        @task()
        def tiny(n): return n
        graph = Graph("tiny"); graph.add_edges([tiny])
    """)
    plan = site.graphs["tiny"].plan
    runs = [NewRun(id=ids.manual_run_id("tiny"), params=codec.encode({"n": n})) for n in range(DEEP)]
    assert all(site.store.start(plan, runs))
    first = site.worker("--processes", "2")
    wait_for(lambda: site.store.open_count("tiny") < DEEP - 200, "the worker to be in the middle of it")
    first.process.terminate()
    assert first.end() == 0
    assert site.store.open_count("tiny") > DEEP // 2, "it was heard at once, not when the queue was empty"
    site.worker("--processes", "2")
    wait_for(lambda: not site.store.open_runs("tiny"), "the next worker to end them", 60)
    events = [event for _, event in site.store.events(count=100_000) if isinstance(event, AttemptEnded)]
    assert {event.outcome for event in events} == {"success"}
    assert {event.attempt for event in events} == {1}
    assert len(events) == DEEP


WIDE = 6000


def test_a_small_run_behind_a_wide_one_ends_long_before_it(site: Site) -> None:
    site.write(f"""
        def wide(number):
            def nothing(): return number
            return task(name=f"t{{number}}")(nothing)
        @task()
        def first(): return 1
        @task()
        def second(first): return first + 1
        @task()
        def third(second): return second + 1
        broad = Graph("broad")
        for number in range({WIDE}): broad.add_edges([wide(number)])
        small = Graph("small")
        small.add_edges([first], [second])
        small.add_edges([second], [third])
    """)
    broad = site.start("broad")
    while site.store.promote()[1] is not None:
        pass
    assert site.store.client.llen(site.store.keys.bell("default")) == WIDE
    small = site.start("small")
    site.worker("--processes", "2")
    assert site.ended(small, 60).state is RunState.SUCCESS
    assert site.ended(broad, 60).state is RunState.SUCCESS
    before = 0
    for _, event in site.store.events(count=100_000):
        if isinstance(event, RunEnded) and event.run == small:
            break
        before += isinstance(event, AttemptEnded) and event.run == broad
    assert before < WIDE // 4
