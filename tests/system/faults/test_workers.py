"""Workers, executors and what they fork are killed, stopped, starved and misled (F01-F13, F34, F45)."""

from __future__ import annotations

import itertools
import os
import resource
import signal
import sys
import time
from typing import TYPE_CHECKING

import psutil
import pytest

from tests.rig.cluster import GRAPHS, REAL, ROOT, Cluster, gone
from tests.system.conftest import sweep_only
from tests.waiting import wait_for
from tm.events import AttemptEnded

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.rig.journal import Line
    from tests.system.conftest import Fault
    from tm.events import Event

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
MISBEHAVING = ROOT / "tests/rig/misbehaving.py"
#: RELIABILITY.md 2.5: killed to next attempt queued, with a lease of 3 s; of an executor alone
WORKER_KILLED, EXECUTOR_KILLED = 5.0, 2.0
#: the same with the real lease of 30 s
WORKER_KILLED_REAL = 35.0


@pytest.fixture(scope="module")
def shared(clusters: Callable[..., Cluster], seed: int) -> Cluster:
    return clusters(seed=seed, files=(GRAPHS, MISBEHAVING))


@pytest.fixture
def cluster(shared: Cluster) -> Cluster:
    return shared.up(workers=3, schedulers=2)


def attempt_of(run: str, outcome: str | None = None, attempt: int | None = None) -> Callable[[Event], bool]:
    return lambda event: (
        isinstance(event, AttemptEnded)
        and event.run == run
        and outcome in (None, event.outcome)
        and attempt in (None, event.attempt)
    )


def holder(cluster: Cluster, line: Line) -> object:
    """The worker whose executor wrote a line."""
    return next(each for each in cluster.living("worker") if line.pid in cluster.family(each))


def leave(cluster: Cluster) -> None:
    """Let all workers end in good order."""
    cluster.settle()
    for each in cluster.living("worker"):
        each.signal(signal.SIGTERM)
    for each in cluster.living("worker"):
        each.end()


QUEUES = {
    "one queue": ("--queue", "default"),
    "three queues": ("--queue", "urgent", "--queue", "default", "--queue", "bulk"),
}


@pytest.mark.parametrize("queues", QUEUES)
@pytest.mark.parametrize("when", ["sent", "replied"])
def test_f01_f02_a_worker_dies_at_any_message_it_sends_or_is_answered(
    cluster: Cluster, fault: Fault, when: str, queues: str
) -> None:
    """F01 is `sent`: applied, reply unseen. F02 is `replied`: reply seen, next step not begun."""
    proxy = cluster.proxy()
    everywhere = list(range(1, 46))
    for k in everywhere if fault.full else cluster.random.sample(everywhere, 3):
        victim = cluster.worker(*QUEUES[queues], url=proxy.url, wait=False)
        trap = proxy.catch(victim.pid, k, when)
        cluster.load(6, pace=0.02)
        while victim.alive and not trap.fired:
            cluster.load(2, pace=0.02)
            time.sleep(0.1)
        victim.end()
        fault.mark(f"killed at message {k}, {when}")
    fault.recovered("all runs ended", cluster.settle(), cluster.profile.bound)
    cluster.judge()


def test_f03_an_executor_is_killed_at_any_time(cluster: Cluster, fault: Fault) -> None:
    for _ in range(fault.size(2, 34)):
        runs = [cluster.submit("long", seconds=0.5) for _ in range(6)]
        killed: dict[str, float] = {}
        for run in runs:
            [line] = cluster.begun(run, "sleeps")[:1]
            time.sleep(cluster.random.uniform(0, 0.1))
            if not any(each.run == run for each in cluster.lines(run, "end")):
                psutil.Process(line.pid).kill()
                killed[run] = time.monotonic()
                fault.mark(f"SIGKILL to {line.pid}")
        for run, at in killed.items():
            wait_for(lambda each=run: cluster.begins(each, "sleeps") > 1 or cluster.lines(each, "end"), "it to go on")
            if cluster.begins(run, "sleeps") == 1:
                continue  # it had reported before it was killed
            lines = cluster.begun(run, "sleeps", 2, timeout=5)
            fault.recovered("executor killed to retry", lines[1].mono - at, EXECUTOR_KILLED)
            cluster.tap.wait_for(attempt_of(run, "killed"), f"{run} to be reported as killed")
    assert len(cluster.living("worker")) == 3
    cluster.settle()
    cluster.judge()


@pytest.mark.parametrize("whole_group", [True, False], ids=["group", "parent"])
def test_f04_f05_a_worker_is_killed_and_its_tasks_go_with_it(cluster: Cluster, fault: Fault, whole_group: bool) -> None:
    kill_a_holder(cluster, fault, whole_group, "worker killed to next attempt queued", WORKER_KILLED)


@sweep_only
@pytest.mark.parametrize("whole_group", [True, False], ids=["group", "parent"])
def test_f04_f05_with_the_real_lease_the_next_attempt_is_queued_within_35_s(
    own: Callable[..., Cluster], fault: Fault, whole_group: bool
) -> None:
    cluster = own(profile=REAL).up(workers=3, schedulers=2)
    what = "worker killed to next attempt queued (lease 30 s)"
    kill_a_holder(cluster, fault, whole_group, what, WORKER_KILLED_REAL)


def kill_a_holder(cluster: Cluster, fault: Fault, whole_group: bool, what: str, within: float) -> None:
    """Kill a worker while three tasks run; those it held are queued again in time, and nothing of it is left."""
    cluster.steady()
    runs = [cluster.submit("long", seconds=2.0) for _ in range(3)]
    first = [cluster.begun(run, "sleeps")[0] for run in runs]
    victim = holder(cluster, first[0])
    mine = [line for line in first if line.pid in cluster.family(victim)]
    family = cluster.family(victim)
    if whole_group:
        os.killpg(victim.pid, signal.SIGKILL)
    else:
        victim.signal(signal.SIGKILL)
    at = time.monotonic()
    fault.mark(f"SIGKILL to {victim.pid}, holding {len(mine)}")
    victim.end()
    wait_for(lambda: all(map(gone, family)), "nursery and executors to be gone", 5)
    fault.recovered("last descendant gone", time.monotonic() - at, 1.0)
    for line in mine:
        lost = attempt_of(line.run, "lost", 1)
        seen = cluster.tap.wait_for(lost, f"{line.run} to be declared lost", within + 10)
        fault.recovered(what, seen - at, within)
    cluster.settle()
    cluster.judge()


def test_f06_rolling_restarts_under_load_lose_nothing_and_cost_nothing(cluster: Cluster, fault: Fault) -> None:
    seen = len(cluster.tap.seen)
    for _ in range(fault.size(4, 60)):
        cluster.load(10, graphs=("chain", "diamond"), pace=0.02)
        time.sleep(cluster.random.uniform(0, 0.3))
        victim = cluster.random.choice(cluster.living("worker"))
        cluster.wait_known(victim)
        victim.signal(signal.SIGTERM)
        cluster.worker(*(QUEUES["three queues"] if cluster.random.random() < 0.5 else ()), wait=False)
        assert victim.end() == 0
        fault.mark(f"SIGTERM to {victim.pid}")
    cluster.settle()
    cluster.judge()
    outcomes = {event.outcome for _, event in cluster.tap.seen[seen:] if isinstance(event, AttemptEnded)}
    assert outcomes <= {"success"}, "a restart in good order used up a loss"


@pytest.mark.parametrize("signals", [1, 2])
def test_f07_what_outlives_the_drain_is_given_back_at_once(cluster: Cluster, fault: Fault, signals: int) -> None:
    leave(cluster)
    victim = cluster.worker(TM_DRAIN_TIMEOUT="0.5" if signals == 1 else "60")
    run = cluster.submit("long", seconds=4.0)
    [line] = cluster.begun(run, "sleeps")[:1]
    at = time.monotonic()
    victim.signal(signal.SIGTERM)
    if signals == 2:
        wait_for(lambda: victim.said("running tasks may end"), "the first signal to be heard")
        at = time.monotonic()
        victim.signal(signal.SIGTERM)
    fault.mark(f"SIGTERM to {victim.pid}")
    seen = cluster.tap.wait_for(attempt_of(run, "lost"), "it to be given back")
    fault.recovered("told to stop to next attempt queued", seen - at, 3.0)
    assert victim.end() == 0
    assert gone(line.pid)
    cluster.up()
    cluster.settle()
    cluster.judge()


@pytest.mark.parametrize("who", ["supervisor", "everybody"])
def test_f08_a_worker_that_was_stopped_past_its_lease_changes_nothing(cluster: Cluster, fault: Fault, who: str) -> None:
    cluster.steady()
    leave(cluster)
    victim = cluster.worker("--processes", "1")  # no room, so it has no bell in its hand
    run = cluster.submit("long", seconds=0.8)
    [line] = cluster.begun(run, "sleeps")[:1]
    stopped = [victim.pid] if who == "supervisor" else [victim.pid, *cluster.family(victim)]
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    cluster.worker()
    fault.mark(f"SIGSTOP to {stopped}")
    cluster.tap.wait_for(attempt_of(run, "lost", 1), "the lease to lapse")
    second = cluster.begun(run, "sleeps", 2)[1]
    assert second.token != line.token
    wait_for(lambda: cluster.state(run) == "success", "the second attempt to win")
    at = time.monotonic()
    for pid in reversed(stopped):
        os.kill(pid, signal.SIGCONT)
    if who == "supervisor":
        seen = cluster.tap.wait_for(attempt_of(run, "rejected", 1), "the late result to be rejected")
        fault.recovered("woken to late result rejected", seen - at, 5.0)
    else:
        wait_for(lambda: gone(line.pid) or cluster.filed(), "the zombie to be ended")
    run = cluster.submit("chain")
    cluster.settle()
    assert victim.alive
    cluster.judge()


@pytest.mark.parametrize("graph", ["deaf", "swallows"])
def test_f09_f10_a_task_that_will_not_stop_is_stopped(cluster: Cluster, fault: Fault, graph: str) -> None:
    run = cluster.submit(graph)
    [line] = cluster.begun(run)[:1]
    fault.mark(f"{graph} runs in {line.pid}")
    seen = cluster.tap.wait_for(attempt_of(run, "timed_out"), "it to be ended from outside")
    patience = 1.0 + cluster.profile.grace
    assert seen - line.mono >= patience - 0.2, "SIGTERM at T, SIGKILL only after the grace"
    fault.recovered("begin to end, T + grace", seen - line.mono, patience + 2.0)
    assert gone(line.pid)
    cluster.submit("chain")
    cluster.settle()
    cluster.judge()


def test_f11_a_task_that_takes_too_much_memory_is_killed_and_says_how_much(cluster: Cluster, fault: Fault) -> None:
    run = cluster.submit("eats")
    neighbours = [cluster.submit("chain", pace=0.1) for _ in range(4)]
    cluster.tap.wait_for(attempt_of(run, "killed"), "it to be killed")
    fault.mark("SIGKILL at 200 MiB")
    cluster.settle()
    error = next(event.error for _, event in cluster.tap.seen if attempt_of(run, "killed")(event))
    assert b"SIGKILL" in error
    assert b"out of memory" in error
    assert cluster.state(run) == "failed"
    assert {cluster.state(each) for each in neighbours} == {"success"}
    assert len(cluster.living("worker")) == 3
    cluster.judge()


@pytest.mark.parametrize("graph", ["exits", "crashes"])
def test_f12_a_poison_task_is_quarantined_after_three_and_hurts_nobody(
    cluster: Cluster, fault: Fault, graph: str
) -> None:
    run = cluster.submit(graph)
    neighbours = [cluster.submit("chain", pace=0.05) for _ in range(4)]
    cluster.settle()
    fault.mark(f"{graph} ran {len(cluster.lines(run))} times")
    assert len(cluster.lines(run)) == 3
    view = cluster.store.run(run)
    assert view is not None
    assert [task.state for task in view.tasks] == ["quarantined"]
    assert {cluster.state(each) for each in neighbours} == {"success"}
    cluster.judge()


def test_f13_a_worker_that_cannot_fork_says_so_takes_nothing_and_recovers(cluster: Cluster, fault: Fault) -> None:
    leave(cluster)
    worker = cluster.worker("--processes", "1")
    run = cluster.submit("chain")
    cluster.settle()
    supervisor = psutil.Process(worker.pid)
    [nursery] = supervisor.children()
    before = supervisor.rlimit(resource.RLIMIT_NOFILE)
    supervisor.rlimit(resource.RLIMIT_NOFILE, (supervisor.num_fds(), before[1]))
    for each in nursery.children():
        each.kill()
    wait_for(lambda: worker.said("cannot fork an executor"), "the worker to say so")
    fault.mark("no descriptor left")
    run = cluster.submit("chain")
    time.sleep(1.0)
    assert cluster.state(run) == "queued", "it claimed what it cannot run"
    supervisor.rlimit(resource.RLIMIT_NOFILE, before)
    at = time.monotonic()
    wait_for(lambda: cluster.state(run) == "success", "it to go on")
    fault.recovered("limit lifted to work done", time.monotonic() - at, 5.0)
    cluster.settle()
    evidence = cluster.judge()
    assert [each.number for each in evidence.attempts if each.run == run] == [1] * 5


def test_f17_the_last_parents_end_at_the_same_time_and_their_reporter_dies(cluster: Cluster, fault: Fault) -> None:
    """The child of a fan-in is queued exactly once, whoever dies while reporting its last parents."""
    proxy = cluster.proxy()
    for k, when in itertools.islice(itertools.product((9, 12, 15, 18, 21, 24), ("sent", "replied")), fault.size(2, 12)):
        victim = cluster.worker(url=proxy.url, wait=False)
        trap = proxy.catch(victim.pid, k, when)
        while victim.alive and not trap.fired:
            if len(cluster.open_runs()) < 6:
                cluster.submit("diamond", pace=0.01)
            time.sleep(0.02)
        victim.end()
        fault.mark(f"reporter killed at message {k}, {when}")
    cluster.submit("fan")
    cluster.settle()
    evidence = cluster.judge()
    joins = [line.run for line in evidence.journal if line.what == "end" and line.task in ("bottom", "gather")]
    assert len(joins) >= len(set(joins)) > 0


def test_f34_wall_clocks_of_workers_are_labels_only(cluster: Cluster, fault: Fault, tmp_path: Path) -> None:
    leave(cluster)
    for minutes in (10, -10):
        place = tmp_path / f"shift{minutes}"
        place.mkdir()
        (place / "sitecustomize.py").write_text(
            "import datetime, time_machine\n"
            f"there = datetime.datetime.now(datetime.UTC) + datetime.timedelta(minutes={minutes})\n"
            "time_machine.travel(there, tick=True).start()\n"
        )
        cluster.worker(PYTHONPATH=os.pathsep.join([str(place), str(ROOT)]))
        fault.mark(f"a worker's clock is {minutes} min off")
    cluster.load(20, pace=0.05)
    cluster.submit("long", seconds=4.0)
    cluster.settle()
    evidence = cluster.judge()
    walls = [line.wall - time.time() for line in evidence.journal if line.what == "start"]
    assert min(walls) < -500, "the clock was not off"
    assert max(walls) > 500 - 60, "the clock was not off"
    assert not [each for each in evidence.attempts if each.outcome == "lost" and each.claimed is None]


def test_f45_a_herd_of_workers_comes_back_without_trampling(own: Callable[..., Cluster], fault: Fault) -> None:
    cluster = own(persist=True)
    cluster.up(workers=0, schedulers=1)
    workers = [cluster.worker("--processes", "1", wait=False) for _ in range(fault.size(6, 50))]
    for each in workers:
        cluster.wait_known(each, 120)
    cluster.server.kill()
    wait_for(lambda: all(each.said("server away") for each in workers), "all workers to notice", 30)
    fault.mark(f"{len(workers)} workers without a server")
    cluster.server.start()
    at = time.monotonic()
    runs = [cluster.submit("long", seconds=0.05) for _ in range(len(workers))]
    begun = [cluster.begun(run, timeout=30)[0].mono - at for run in runs]
    fault.recovered("server back to the claim of the last of them", max(begun), 5.0 if not fault.full else 15.0)
    cluster.settle()
    cluster.judge(rolled_back=True)
    assert all(each.alive for each in workers)


@pytest.mark.skipif(sys.platform != "linux", reason="who adopts orphans is for Linux to say")
@pytest.mark.parametrize("graph", ["litters", "detaches"])
def test_f05_processes_that_a_task_leaves_behind_are_ended(cluster: Cluster, fault: Fault, graph: str) -> None:
    """Even in a session of their own, and whether the task ends by itself or is killed."""
    litter = cluster.folder / "litter"
    litter.unlink(missing_ok=True)
    run = cluster.submit(graph)
    pid = int(wait_for(lambda: litter.exists() and litter.read_text(), "the task to fork"))
    fault.mark(f"process {pid} left behind")
    if graph == "detaches":
        [line] = cluster.begun(run)[:1]
        assert cluster.store.cancel(run)
        wait_for(lambda: gone(line.pid), "the task to be ended")
    at = time.monotonic()
    wait_for(lambda: gone(pid), "what the task left behind to be ended")
    fault.recovered("task ended to what it left behind ended", time.monotonic() - at, 5.0)
    cluster.settle()
    cluster.judge()
