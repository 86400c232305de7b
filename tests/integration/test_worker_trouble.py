"""Workers that are stopped, killed, suspended, or left alone by the server."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from tests.waiting import wait_for
from tests.workers import Site, site_at
from tm.states import RunState
from tm.store.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.servers import Server

WAITS = """
    @task()
    def waits(name="w"):
        (notes / f"{name}.begun").open("a").write(f"{os.getpid()}\\n")
        while not (notes / f"{name}.go").exists(): time.sleep(0.01)
        return name
    @task()
    def after(waits): return waits + "!"
    graph = Graph("waits"); graph.add_edges([waits], [after])
    @task()
    def quick(): return "quick"
    other = Graph("quick"); other.add_edges([quick])
"""


def begun(site: Site, times: int = 1, name: str = "w") -> list[int]:
    """Pids of the processes in which the waiting task has begun, once there are so many."""
    return wait_for(
        lambda: len(pids := [int(pid) for pid in site.noted(f"{name}.begun").split()]) >= times and pids,
        f"begin number {times} of the waiting task",
    )


def go(site: Site, name: str = "w") -> None:
    (site.folder / "notes" / f"{name}.go").touch()


def test_sigterm_lets_running_tasks_end_and_takes_no_more(site: Site) -> None:
    site.write(WAITS)
    worker = site.worker("--processes", "2")
    run = site.start("waits")
    begun(site)
    worker.signal(signal.SIGTERM)
    wait_for(lambda: worker.said("stopping"), "the worker to hear the signal")
    late = site.start("quick")
    go(site)
    assert worker.end() == 0
    assert site.task(run, "waits").state == "success"
    assert site.task(run, "after").state == "queued"
    assert site.view(late).state is RunState.QUEUED
    assert site.store.client.smembers("rq:workers") == set()
    site.worker("--burst", wait=False)
    assert site.ended(run).state is RunState.SUCCESS
    assert site.ended(late).state is RunState.SUCCESS


def test_what_outlives_the_drain_is_given_back_for_free(site: Site) -> None:
    site.write(WAITS)
    worker = site.worker("--drain-timeout", "0.2")
    run = site.start("waits")
    [pid] = begun(site)
    worker.signal(signal.SIGTERM)
    assert worker.end() == 0
    assert not psutil.pid_exists(pid)
    waiting = site.task(run, "waits")
    assert (waiting.state, waiting.attempt) == ("queued", 2)
    assert site.error(run, "waits")["type"] == "Drained"
    go(site)
    site.worker()
    assert site.ended(run).state is RunState.SUCCESS


def test_the_second_signal_stops_at_once(site: Site) -> None:
    site.write(WAITS)
    worker = site.worker(TM_DRAIN_TIMEOUT="600")
    run = site.start("waits")
    begun(site)
    worker.signal(signal.SIGTERM)
    wait_for(lambda: worker.said("running tasks may end"), "the first signal to be heard")
    worker.signal(signal.SIGTERM)
    assert worker.end(5) == 0
    assert site.task(run, "waits").state == "queued"


def test_a_killed_worker_takes_its_tasks_along_and_another_finishes(site: Site) -> None:
    site.write(WAITS)
    first = site.worker("--lease", "1.5")
    run = site.start("waits")
    [pid] = begun(site)
    family = psutil.Process(first.pid).children(recursive=True)
    first.signal(signal.SIGKILL)
    wait_for(lambda: not any(each.is_running() for each in family), "nursery and executors to be gone", 2.0)
    assert not psutil.pid_exists(pid)
    go(site)
    site.worker()
    wait_for(site.store.reap, "the lease to lapse")
    assert site.ended(run).state is RunState.SUCCESS
    assert len(begun(site, 2)) == 2


def test_a_killed_nursery_gives_the_work_back_and_ends_the_worker(site: Site) -> None:
    site.write(WAITS)
    worker = site.worker()
    run = site.start("waits")
    begun(site)
    [nursery] = psutil.Process(worker.pid).children()
    nursery.kill()
    assert worker.end() == 1
    assert site.task(run, "waits").state == "queued"
    assert site.error(run, "waits")["type"] == "Abandoned"


def test_a_killed_executor_is_replaced_at_once(site: Site) -> None:
    site.write(WAITS)
    site.worker("--processes", "1")
    run = site.start("waits")
    [pid] = begun(site)
    psutil.Process(pid).kill()
    assert begun(site, 2)[1] != pid
    go(site)
    assert site.ended(run).state is RunState.SUCCESS
    assert site.task(run, "waits").attempt == 2


def test_a_cancelled_run_ends_its_process(site: Site) -> None:
    site.write(WAITS)
    site.worker("--lease", "1.2", "--processes", "1")
    run = site.start("waits")
    [pid] = begun(site)
    assert site.store.cancel(run)
    wait_for(lambda: not psutil.pid_exists(pid), "the process to be ended at the next heartbeat")
    assert site.result("quick") == "quick"
    assert site.view(run).state is RunState.CANCELLED


def test_heartbeats_keep_a_long_task(site: Site) -> None:
    site.write(WAITS)
    site.worker("--lease", "0.6")
    run = site.start("waits")
    begun(site)
    seen = {beat() for beat in [lambda: _lease(site)] for _ in range(1)}
    wait_for(lambda: _lease(site) not in seen, "the lease to be extended")
    wait_for(lambda: _lease(site) > max(seen) + 900, "the task to outlive its first lease")
    assert site.store.reap() == 0
    go(site)
    view = site.ended(run)
    assert view.state is RunState.SUCCESS
    assert view.tasks[0].attempt == 1


def _lease(site: Site) -> float:
    return max((score for _, score in site.store.client.zrange("tm:default:leases", 0, -1, withscores=True)), default=0)


def rq(site: Site, *arguments: str) -> str:
    command = [str(Path(sys.executable).with_name("rq")), *arguments, "--url", site.url]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=30).stdout


def test_rq_suspend_holds_the_workers_and_resume_releases_them(site: Site) -> None:
    from rq.worker import Worker

    site.write(WAITS)
    site.worker("--processes", "1")
    rq(site, "suspend")
    run = site.start("quick")

    def states() -> list[str]:
        return [each.get_state() for each in Worker.all(connection=site.store.client)]

    wait_for(lambda: states() == ["suspended"], "RQ to show the worker as suspended")
    assert site.view(run).state is RunState.QUEUED
    rq(site, "resume")
    assert site.ended(run).state is RunState.SUCCESS
    wait_for(lambda: states() == ["idle"], "RQ to show the worker as idle")


def test_an_idle_worker_notices_that_rq_is_suspended(site: Site) -> None:
    site.write(WAITS)
    site.worker("--lease", "1.2")
    rq(site, "suspend")
    wait_for(lambda: "suspended" in rq(site, "info", "--raw"), "`rq info` to say so")
    rq(site, "resume")
    assert site.result("quick") == "quick"


def test_rq_info_lists_queues_and_workers(site: Site) -> None:
    site.write(WAITS)
    for _ in range(3):
        site.start("quick")
    assert "queue default 3, 0 executing" in rq(site, "info", "--raw")
    worker = site.worker("--name", "anna", "--processes", "1")
    run = site.start("waits")
    begun(site)
    wait_for(lambda: "busy default" in rq(site, "info", "--raw"), "`rq info` to show a busy worker")
    shown = rq(site, "info", "--raw")
    assert "worker anna." in shown
    assert f" {worker.pid}) busy default" in shown
    assert "queue default 0," in shown
    go(site)
    site.ended(run)
    wait_for(lambda: "idle default" in rq(site, "info", "--raw"), "`rq info` to show an idle worker")


def test_a_queued_attempt_is_a_job_for_rq(site: Site) -> None:
    from rq.job import Job

    from tm.queues import MessageSerializer, TmQueue

    site.write(WAITS)
    run = site.start("quick")
    job = Job.fetch(f"{run}_0_1", connection=site.store.client, serializer=MessageSerializer)
    assert job.is_queued
    assert job.origin == "default"
    assert job.description == "quick.quick"
    assert job.args == [run, 0, 1]
    assert job.kwargs == {}
    assert job.enqueued_at is not None
    assert [each.id for each in TmQueue(connection=site.store.client).jobs] == [job.id]


@pytest.fixture
def moody(tmp_path: Path, own_server: Server) -> Iterator[Site]:
    """A site whose server may be killed."""
    client = own_server.client()
    with site_at(tmp_path, own_server.url, Store(client)) as site:
        yield site
    client.close()


def test_a_run_survives_a_server_that_restarts(moody: Site, own_server: Server) -> None:
    moody.write(WAITS)
    worker = moody.worker("--processes", "1", "--lease", "3")
    run = moody.start("waits")
    begun(moody)
    wait_for(lambda: moody.store.client.info("persistence")["aof_pending_bio_fsync"] == 0, "the log to be written")
    own_server.kill()
    go(moody)
    spooled = moody.home / "spool"
    wait_for(lambda: list(spooled.glob("*/*")), "the result to be spooled")
    assert worker.process.poll() is None
    own_server.start()
    assert moody.ended(run).state is RunState.SUCCESS
    assert len(begun(moody)) == 1
    wait_for(lambda: not list(spooled.glob("*/*")), "the spool to be empty")
    assert worker.log.read_text().count("server away") <= 2  # the loop's and the heartbeats'
    assert moody.result("quick") == "quick"


def test_a_spooled_result_is_delivered_by_the_next_worker(moody: Site, own_server: Server) -> None:
    moody.write(WAITS)
    worker = moody.worker("--processes", "1", "--drain-timeout", "1")
    run = moody.start("waits")
    begun(moody)
    own_server.kill()
    go(moody)
    wait_for(lambda: list((moody.home / "spool").glob("*/*")), "the result to be spooled")
    worker.signal(signal.SIGTERM)
    assert worker.end() == 0
    own_server.start()
    moody.worker("--processes", "1")
    assert moody.ended(run).state is RunState.SUCCESS
    assert len(begun(moody)) == 1


def test_a_worker_waits_for_a_server_that_is_not_there_yet(moody: Site, own_server: Server) -> None:
    moody.write(WAITS)
    own_server.stop()
    worker = moody.worker(wait=False)
    wait_for(lambda: worker.said("server away"), "the worker to say so")
    own_server.start()
    assert moody.result("quick") == "quick"


def test_a_worker_that_waits_for_a_server_ends_when_told(moody: Site, own_server: Server) -> None:
    moody.write(WAITS)
    own_server.stop()
    worker = moody.worker(wait=False)
    wait_for(lambda: worker.said("server away"), "the worker to say so")
    worker.signal(signal.SIGTERM)
    assert worker.end(5) == 0


def test_connections_that_are_cut_do_no_harm(site: Site) -> None:
    site.write("""
        @task()
        def a(n=0): return n
        @task()
        def b(a): return a + 1
        @task()
        def c(b): return b + 1
        graph = Graph("abc"); graph.add_edges([a], [b]); graph.add_edges([b], [c])
    """)
    worker = site.worker("--processes", "2", "--lease", "3")
    runs = []
    for _ in range(40):
        runs.append(site.start("abc"))
        site.store.client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        site.store.ring(older_than_ms=0)
    for run in runs:
        wait_for(lambda: site.store.ring(older_than_ms=200) >= 0, "lost bells to be rung")
        assert site.ended(run).state is RunState.SUCCESS
    assert worker.process.poll() is None
    assert all(each.attempt == 1 for run in runs for each in site.view(run).tasks)
