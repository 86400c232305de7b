"""A real worker process on a real server: what runs, what arrives, and how failures are told."""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING

import psutil
import pytest

from tests.waiting import wait_for
from tm.states import RunState, TaskState

if TYPE_CHECKING:
    from tests.workers import Site


def test_values_flow_from_parents_to_children(site: Site) -> None:
    site.write("""
        @task()
        def rows(count=3): return list(range(count))
        @task()
        def total(rows): return sum(rows)
        @task()
        def most(rows): return max(rows)
        @task()
        def report(total, most): return {"total": total, "most": most}
        graph = Graph("sums")
        graph.add_edges([rows], [total, most])
        graph.add_edges([total, most], [report])
    """)
    site.worker("--processes", "2")
    assert site.result("sums") == {"total": 3, "most": 2}
    assert site.result("sums", count=10) == {"total": 45, "most": 9}


def test_none_and_keyword_arguments_work(site: Site) -> None:
    site.write("""
        @task()
        def nothing(): return None
        @task()
        def one(): return 1
        @task()
        def gathered(**values): return sorted(values.items())
        graph = Graph("kw")
        graph.add_edges([nothing, one], [gathered])
    """)
    site.worker()
    assert site.result("kw") == [("nothing", None), ("one", 1)]


def test_a_graph_called_inside_a_task_runs_there(site: Site) -> None:
    site.write("""
        @task()
        def inner(n): return n * 2
        small = Graph("small")
        small.add_edges([inner])
        @task()
        def outer(): return [small(n=n) for n in range(3)]
        big = Graph("big")
        big.add_edges([outer])
    """)
    site.worker()
    assert site.result("big") == [0, 2, 4]


def test_what_a_task_prints_is_seen_at_once(site: Site) -> None:
    site.write("""
        @task()
        def talk():
            print("hello from the task")
            while not (notes / "heard").exists(): time.sleep(0.01)
        graph = Graph("talk")
        graph.add_edges([talk])
    """)
    worker = site.worker()
    run = site.start("talk")
    wait_for(lambda: "hello from the task" in worker.printed(), "the line to appear while the task still runs")
    (site.folder / "notes" / "heard").touch()
    assert site.ended(run).state is RunState.SUCCESS


def test_an_exception_fails_the_attempt_with_its_own_frames(site: Site) -> None:
    site.write("""
        def deep(): raise ValueError("no such customer")
        @task()
        def load(): deep()
        @task()
        def after(load): pass
        graph = Graph("bad")
        graph.add_edges([load], [after])
    """)
    worker = site.worker()
    run = site.start("bad")
    view = site.ended(run)
    assert view.state is RunState.FAILED
    assert [each.state for each in view.tasks] == [TaskState.FAILED, TaskState.BLOCKED]
    error = site.error(run, "load")
    assert (error["type"], error["message"]) == ("ValueError", "no such customer")
    assert "in deep" in error["traceback"]
    assert "tm_worker" not in error["traceback"]
    # said after the server has heard it, so perhaps a moment later
    wait_for(lambda: worker.said('error="ValueError: no such customer"'), "the worker to log the error")
    assert worker.said(f"at={site.file}:6")


def test_retries_keep_the_process_and_are_precise(site: Site) -> None:
    site.write("""
        calls = []
        @task(retries=3, retry_delay=0.2)
        def flaky():
            calls.append(time.monotonic())
            if len(calls) < 4: raise RuntimeError("not yet")
            return [later - earlier for earlier, later in zip(calls, calls[1:])]
        graph = Graph("flaky")
        graph.add_edges([flaky])
    """)
    site.worker("--processes", "2")
    gaps = site.result("flaky")
    assert len(gaps) == 3
    assert all(0.2 <= gap < 0.3 for gap in gaps), gaps


def test_retries_without_a_delay_follow_at_once(site: Site) -> None:
    site.write("""
        calls = []
        @task(retries=3)
        def flaky(n):
            calls.append(n)
            if calls.count(n) < 4: raise RuntimeError("not yet")
            return n
        graph = Graph("flaky"); graph.add_edges([flaky])
    """)
    site.worker("--processes", "1")
    assert [site.result("flaky", n=n) for n in range(20)] == list(range(20))


def test_fail_and_unexpected_exceptions_are_not_retried(site: Site) -> None:
    site.write("""
        @task(retries=5)
        def final(): raise tm.Fail("for good")
        @task(retries=5, retry_on=OSError)
        def other(): raise KeyError("x")
        @task(retries=5)
        def leaves(): sys.exit(3)
        @task(retries=1)
        def again(): raise ValueError
        graph = Graph("once")
        graph.add_edges([final, other, leaves, again])
    """)
    site.worker("--processes", "1")
    view = site.ended(site.start("once"))
    assert {each.task: each.attempt for each in view.tasks} == {"final": 1, "other": 1, "leaves": 1, "again": 2}
    assert site.error(view.id, "leaves")["type"] == "SystemExit"


def test_a_value_that_is_no_message_fails_with_path_and_type(site: Site) -> None:
    site.write("""
        class Customer: pass
        @task(retries=3)
        def make(): return {"rows": [1, Customer()]}
        graph = Graph("odd")
        graph.add_edges([make])
    """)
    site.worker()
    view = site.ended(site.start("odd"))
    error = site.error(view.id, "make")
    assert error["path"] == 'result["rows"][1]'
    assert "Customer" in error["message"]
    assert view.tasks[0].attempt == 1


def test_config_reaches_the_roots(site: Site) -> None:
    from tm import ids
    from tm.store.records import NewRun

    (site.folder / "c.json").write_text('{"table": "x"}')
    site.write("""
        @task()
        def root(config, extra=0): return [config, extra]
        graph = Graph("conf", config="c.json")
        graph.add_edges([root])
    """)
    site.worker()
    run = ids.manual_run_id("conf")
    site.store.start(site.graphs["conf"].plan, [NewRun(id=run, config='{"table": "y"}')])
    from tm import codec

    site.ended(run)
    assert codec.decode(site.store.result(run) or b"") == [{"table": "y"}, 0]


def test_a_task_knows_which_attempt_it_is(site: Site) -> None:
    site.write("""
        @task(retries=1)
        def about(x):
            c = tm.get_context()
            if c.attempt == 1: raise ValueError
            return [c.run, c.graph, c.task, c.attempt, c.tick, dict(c.params), c.idempotency_key]
        graph = Graph("about"); graph.add_edges([about])
    """)
    site.worker()
    run, *rest, key = site.result("about", x=1)
    assert rest == ["about", "about", 2, None, {"x": 1}]
    assert key == f"{run}/about"


def test_a_task_that_kills_its_process_is_killed_and_the_worker_lives(site: Site) -> None:
    site.write("""
        @task()
        def crash(): os.kill(os.getpid(), signal.SIGSEGV)
        @task()
        def leave(): os._exit(7)
        @task()
        def fine(): return "fine"
        one, two, three = Graph("crash"), Graph("leave"), Graph("fine")
        one.add_edges([crash]); two.add_edges([leave]); three.add_edges([fine])
    """)
    worker = site.worker("--processes", "1")
    crashed, left = site.ended(site.start("crash")), site.ended(site.start("leave"))
    assert crashed.tasks[0].state is TaskState.QUARANTINED
    assert crashed.tasks[0].attempt == 3
    error = site.error(crashed.id, "crash")
    assert (error["type"], error["signal"]) == ("Killed", "SIGSEGV")
    assert error["max_rss"] > 1 << 20
    assert site.error(left.id, "leave")["exit_code"] == 7
    assert site.result("fine") == "fine"
    assert worker.process.poll() is None


def test_a_timeout_ends_even_who_ignores_sigterm(site: Site) -> None:
    site.write("""
        @task(timeout=0.3)
        def stubborn():
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            (notes / "pid").write_text(str(os.getpid()))
            while True:
                try: time.sleep(60)
                except BaseException: pass
        @task()
        def fine(): return 1
        graph = Graph("stubborn"); graph.add_edges([stubborn])
        other = Graph("other"); other.add_edges([fine])
    """)
    site.worker("--processes", "1", TM_GRACE="0.3")
    view = site.ended(site.start("stubborn"))
    assert view.tasks[0].state is TaskState.TIMED_OUT
    assert "longer than its timeout of 0.3 s" in site.error(view.id, "stubborn")["message"]
    assert not psutil.pid_exists(int(site.noted("pid")))
    assert site.result("other") == 1


def test_children_of_a_task_end_with_its_process(site: Site) -> None:
    site.write("""
        import subprocess
        @task(timeout=0.5)
        def parent():
            child = subprocess.Popen(["sleep", "600"])
            (notes / "pid").write_text(str(child.pid))
            child.wait()
        graph = Graph("family"); graph.add_edges([parent])
    """)
    site.worker("--processes", "1", TM_GRACE="0.3")
    site.ended(site.start("family"))
    pid = int(site.noted("pid"))
    wait_for(lambda: not psutil.pid_exists(pid), "the grandchild to be gone")


def test_user_code_cannot_break_the_stream(site: Site) -> None:
    site.write("""
        @task()
        def closes_low(): os.closerange(0, 100)
        @task()
        def closes_stdout(closes_low): sys.stdout.close(); return "closed"
        @task()
        def forks(closes_stdout):
            os.fork()
            return os.getpid() != 0
        @task()
        def threads(forks):
            import multiprocessing
            with multiprocessing.get_context("fork").Pool(2) as pool:
                return pool.map(abs, [-1, -2])
        graph = Graph("rude")
        graph.add_edges([closes_low], [closes_stdout])
        graph.add_edges([closes_stdout], [forks])
        graph.add_edges([forks], [threads])
    """)
    site.worker("--processes", "1")
    assert site.result("rude") == [1, 2]


def test_a_task_that_writes_into_the_stream_is_killed(site: Site) -> None:
    site.write("""
        @task()
        def vandal():
            import socket
            for fd in range(3, 2000):
                try: socket.socket(fileno=os.dup(fd)).send(b"\\xff" * 64)
                except OSError: pass
            time.sleep(60)
        @task()
        def fine(): return 1
        graph = Graph("vandal"); graph.add_edges([vandal])
        other = Graph("other"); other.add_edges([fine])
    """)
    site.worker("--processes", "1")
    view = site.ended(site.start("vandal"))
    assert view.tasks[0].state is TaskState.QUARANTINED
    assert site.result("other") == 1


def test_executors_are_replaced_after_max_tasks(site: Site) -> None:
    site.write("""
        @task()
        def who(): return os.getpid()
        graph = Graph("who"); graph.add_edges([who])
    """)
    site.worker("--processes", "1", "--max-tasks", "2")
    pids = [site.result("who") for _ in range(6)]
    assert pids[0] == pids[1] != pids[2] == pids[3] != pids[4] == pids[5]


@pytest.mark.skipif(sys.platform != "linux", reason="memory of other processes is read from /proc")
def test_an_executor_that_has_grown_is_replaced_after_the_attempt(site: Site) -> None:
    site.write("""
        kept = []
        @task()
        def leak(mib):
            kept.append(bytearray(b"x") * (mib << 20))
            return os.getpid()
        graph = Graph("leak"); graph.add_edges([leak])
    """)
    site.worker("--processes", "1", "--max-memory", "200")
    pids = [site.result("leak", mib=mib) for mib in (1, 1, 250, 1, 1)]
    assert pids[0] == pids[1] == pids[2] != pids[3] == pids[4]


@pytest.mark.skipif(sys.platform != "linux", reason="memory of other processes is read from /proc")
@pytest.mark.parametrize("where", ["itself", "a child"])
def test_an_attempt_beyond_the_memory_limit_is_killed_while_it_runs(site: Site, where: str) -> None:
    site.write("""
        import subprocess
        EAT = "import time; block = bytearray(b'x') * (300 << 20); time.sleep(600)"
        @task()
        def greedy(where):
            (notes / "begun").open("a").write("x")
            if where == "itself":
                exec(EAT)
            subprocess.run([sys.executable, "-c", EAT], start_new_session=True)
        @task()
        def modest():
            time.sleep(0.5)
            return "fine"
        one, two = Graph("greedy"), Graph("modest")
        one.add_edges([greedy]); two.add_edges([modest])
    """)
    worker = site.worker("--processes", "2", "--memory-limit", "256MiB")
    run = site.start("greedy", where=where)
    assert site.result("modest") == "fine"
    view = site.ended(run, 30)
    assert view.tasks[0].state is TaskState.QUARANTINED
    assert site.noted("begun") == "xxx", "it is a loss, and has the budget of losses"
    error = site.error(run, "greedy")
    assert error["type"] == "Killed"
    assert "limit of 256 MiB (TM_MEMORY_LIMIT)" in error["message"]
    assert error["max_rss"] > 300 << 20
    assert worker.process.poll() is None
    assert site.result("modest") == "fine"


def test_burst_ends_when_the_queues_are_empty(site: Site) -> None:
    site.write("""
        @task()
        def one(): return 1
        @task(queue="late")
        def two(one): return one + 1
        graph = Graph("g"); graph.add_edges([one], [two])
    """)
    runs = [site.start("g") for _ in range(5)]
    worker = site.worker("--burst", wait=False)
    assert worker.end() == 0
    assert {site.view(run).state for run in runs} == {RunState.SUCCESS}
    assert site.store.client.smembers("rq:workers") == set()


def test_queues_are_served_in_strict_order(site: Site) -> None:
    site.write("""
        @task()
        def slow(n): (notes / "order").open("a").write(f"slow{n} ")
        @task(queue="urgent")
        def quick(n): (notes / "order").open("a").write(f"quick{n} ")
        a, b = Graph("a"), Graph("b")
        a.add_edges([slow]); b.add_edges([quick])
    """)
    for n in range(2):
        site.start("a", n=n)
        site.start("b", n=n)
    assert site.worker("--burst", "--processes", "1", "--queue", "urgent", "--queue", "default", wait=False).end() == 0
    assert site.noted("order").split() == ["quick0", "quick1", "slow0", "slow1"]


def test_work_of_unknown_graphs_is_left_for_others(site: Site, tmp_path) -> None:
    site.write("""
        @task()
        def one(): return 1
        graph = Graph("known"); graph.add_edges([one])
        other = Graph("unknown"); other.add_edges([one])
    """)
    run = site.start("unknown")
    both = site.file
    site.file = tmp_path / "less.py"
    site.file.write_text(both.read_text().replace('other = Graph("unknown"); other.add_edges([one])', ""))
    site.worker("--processes", "1")
    assert site.result("known") == 1
    assert site.view(run).state is RunState.QUEUED
    site.file = both
    site.worker("--processes", "1")
    assert site.ended(run).state is RunState.SUCCESS


def test_a_missing_file_ends_with_code_2(site: Site) -> None:
    site.file = site.folder / "missing.py"
    worker = site.worker(wait=False)
    assert worker.end() == 2
    assert worker.said("no such file")


def test_signals_of_the_terminal_do_not_reach_tasks(site: Site) -> None:
    site.write("""
        @task()
        def waits():
            (notes / "begun").touch()
            while not (notes / "go").exists(): time.sleep(0.01)
            return 1
        graph = Graph("g"); graph.add_edges([waits])
    """)
    worker = site.worker()
    run = site.start("g")
    wait_for((site.folder / "notes" / "begun").exists, "the task to begin")
    os.killpg(worker.pid, signal.SIGINT)  # Ctrl-C
    wait_for(lambda: worker.said("stopping"), "the worker to hear of it")
    (site.folder / "notes" / "go").touch()
    assert worker.end() == 0
    assert site.ended(run).state is RunState.SUCCESS


def test_a_task_that_skips_takes_what_is_below_along_and_the_run_succeeds(site: Site) -> None:
    site.write("""
        @task(retries=2)
        def extract(): raise tm.Skip("no new rows")
        @task()
        def load(extract): (notes / "load").touch()
        @task()
        def other(): return 1
        graph = Graph("quiet")
        graph.add_edges([extract], [load])
        graph.add_edges([other])
    """)
    site.worker()
    run = site.start("quiet")
    view = site.ended(run)
    assert view.state is RunState.SUCCESS
    assert {each.task: (each.state, each.attempt) for each in view.tasks} == {
        "extract": (TaskState.SKIPPED, 1),
        "load": (TaskState.SKIPPED, 0),
        "other": (TaskState.SUCCESS, 1),
    }
    assert site.error(run, "extract")["message"] == "no new rows"
    assert not site.noted("load")


def test_a_task_knows_when_it_will_be_ended(site: Site) -> None:
    site.write("""
        @task(timeout=50)
        def limited(): return (tm.get_context().deadline.timestamp() - time.time())
        @task()
        def free(): return (tm.get_context().deadline.timestamp() - time.time())
        @task()
        def never(): return tm.get_context().deadline
        for name, tasks, timeout in (("limited", limited, 500), ("free", free, 500), ("never", never, None)):
            graph = Graph(name, timeout=timeout)
            graph.add_edges([tasks])
            globals()[name + "_graph"] = graph
    """)
    site.worker()
    assert 40 < site.result("limited") <= 50
    assert 480 < site.result("free") <= 500.1
    assert site.result("never") is None
