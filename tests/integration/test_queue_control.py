"""Paused queues, purges and drains, with real workers and the commands that people type."""

from __future__ import annotations

import json
import signal
import time
from typing import TYPE_CHECKING, Any

from tests.system.terminal import run
from tests.waiting import wait_for
from tm.states import RunState, TaskState

if TYPE_CHECKING:
    import subprocess

    from tests.workers import Site

GRAPHS = """
@task(queue="slow")
def hold():
    (notes / f"began {tm.get_context().run}").touch()
    while not (notes / "go").exists():
        time.sleep(0.01)
    return "held"
@task(queue="slow")
def after(hold): return hold
@task()
def quick(): return 1
@task(queue="slow")
def quick_too(): return 2
long = Graph("long")
long.add_edges([hold], [after])
fast = Graph("fast")
fast.add_edges([quick])
fast_too = Graph("fast_too")
fast_too.add_edges([quick_too])
"""


def tm(site: Site, *words: str) -> subprocess.CompletedProcess[str]:
    return run(site.folder, "tm", *words, TM_URL=site.url, TM_HOME=str(site.home))


def items(site: Site, *words: str) -> list[dict[str, Any]]:
    done = tm(site, *words, "--json")
    assert done.returncode == 0, done.stderr
    found: list[dict[str, Any]] = json.loads(done.stdout)["items"]
    return found


def test_a_paused_queue_waits_while_others_go_on_and_is_worked_off_when_it_is_resumed(site: Site) -> None:
    site.write(GRAPHS)
    worker = site.worker("--processes", "2", TM_LEASE="3")
    held = site.start("long")
    wait_for(lambda: site.task(held, "hold").state is TaskState.RUNNING, "it to run")
    assert tm(site, "queues", "pause", "slow", "--reason", "a new disk").returncode == 0
    waiting = site.start("fast_too")
    (site.folder / "notes" / "go").touch()
    wait_for(lambda: site.task(held, "after").state is TaskState.QUEUED, "what runs to end, and its child to wait")
    for _ in range(3):  # an idle worker hears the bells of the other queue all the while
        assert site.ended(site.start("fast")).state is RunState.SUCCESS
    assert site.task(waiting, "quick_too").state is TaskState.QUEUED
    assert site.task(held, "after").state is TaskState.QUEUED
    why = tm(site, "why", waiting).stdout
    assert "queue `slow` is paused by " in why
    assert "(a new disk)" in why
    assert "paused by" in tm(site, "queues").stdout
    [paused] = [each for each in items(site, "queues") if each["name"] == "slow"]
    assert paused["paused"]["reason"] == "a new disk"
    assert tm(site, "queues", "resume", "slow").returncode == 0
    assert site.ended(waiting).state is RunState.SUCCESS
    assert site.ended(held).state is RunState.SUCCESS
    assert site.ended(site.start("fast_too")).state is RunState.SUCCESS
    assert tm(site, "queues", "resume", "slow").returncode == 4
    assert worker.process.poll() is None


def test_a_queue_that_was_named_twice_is_one(site: Site) -> None:
    site.write(GRAPHS)
    site.store.pause_queue("slow", by="me")
    worker = site.worker("--queue", "slow", "--queue", "slow", TM_LEASE="3")
    waiting = site.start("fast_too")
    time.sleep(1.2)  # it has looked whether the pause is over
    assert not worker.said("server away"), worker.log.read_text()
    site.store.resume_queue("slow")
    assert site.ended(waiting).state is RunState.SUCCESS


def test_a_worker_all_of_whose_queues_are_paused_takes_nothing_and_goes_on_later(site: Site) -> None:
    site.write(GRAPHS)
    site.store.pause_queue("default", by="me")
    site.store.pause_queue("slow", by="me")
    site.worker("--queue", "slow", "--queue", "default", TM_LEASE="3")
    runs = [site.start("fast"), site.start("fast_too")]
    site.store.resume_queue("slow")
    assert site.ended(runs[1]).state is RunState.SUCCESS
    assert site.view(runs[0]).state is RunState.QUEUED
    site.store.resume_queue("default")
    assert site.ended(runs[0]).state is RunState.SUCCESS


def test_a_purge_ends_the_runs_of_what_waits_and_no_other(site: Site) -> None:
    site.write(GRAPHS)
    site.worker("--processes", "1", TM_LEASE="3")
    held = site.start("long")
    wait_for(lambda: site.task(held, "hold").state is TaskState.RUNNING, "it to run")
    waiting, other = site.start("fast_too"), site.start("fast")
    refused = tm(site, "queues", "purge", "slow")
    assert refused.returncode == 2
    assert "Say -y" in refused.stderr
    [would] = items(site, "queues", "purge", "slow", "--dry-run")
    assert (would["runs"], would["purged"]) == ([waiting], False)
    assert site.view(waiting).state is RunState.QUEUED
    [done] = items(site, "queues", "purge", "slow", "-y", "--reason", "wrong day")
    assert (done["runs"], done["attempts"], done["purged"]) == ([waiting], 1, True)
    view = site.ended(waiting)
    assert view.state is RunState.CANCELLED
    assert view.reason.startswith("queue slow purged by ")
    assert view.reason.endswith(": wrong day")
    (site.folder / "notes" / "go").touch()
    assert site.ended(held).state is RunState.SUCCESS
    assert site.ended(other).state is RunState.SUCCESS
    assert tm(site, "queues", "purge", "nowhere", "-y").returncode == 3


def test_a_worker_that_drains_finishes_what_it_has_and_ends_with_0(site: Site) -> None:
    site.write(GRAPHS)
    worker = site.worker("--processes", "1", "--name", "leaving", TM_LEASE="3", TM_DRAIN_TIMEOUT="0.1")
    held = site.start("long")
    wait_for(lambda: site.task(held, "hold").state is TaskState.RUNNING, "it to run")
    waiting = site.start("fast")
    assert tm(site, "workers", "drain", "leaving").returncode == 0
    wait_for(lambda: worker.said("told to drain"), "the worker to hear of it")
    [seen] = items(site, "workers")
    assert seen["state"] == "draining"
    assert tm(site, "workers", "drain", "leaving", "--wait", "--timeout", "0.3").returncode == 124
    assert "is told to drain by" in tm(site, "why", waiting).stdout
    (site.folder / "notes" / "go").touch()
    assert tm(site, "workers", "drain", "leaving", "--wait").returncode in {0, 3}, "3: it has ended in between"
    assert worker.end() == 0
    assert site.task(held, "hold").state is TaskState.SUCCESS
    assert site.task(held, "after").state is TaskState.QUEUED
    assert site.view(waiting).state is RunState.QUEUED
    assert site.store.scene().workers == ()
    assert tm(site, "workers", "drain", "leaving").returncode == 3
    site.worker(TM_LEASE="3")
    assert site.ended(held).state is RunState.SUCCESS


def test_what_still_runs_after_the_limit_of_a_drain_is_given_back(site: Site) -> None:
    site.write(GRAPHS)
    worker = site.worker("--processes", "1", TM_LEASE="3")
    held = site.start("long")
    wait_for(lambda: site.task(held, "hold").state is TaskState.RUNNING, "it to run")
    assert tm(site, "workers", "drain", "--all", "--drain-timeout", "100ms", "--wait").returncode == 0
    assert worker.end() == 0
    task = site.task(held, "hold")
    assert (task.state, task.attempt, task.losses) == (TaskState.QUEUED, 2, 0)


def test_a_worker_that_is_told_to_stop_gives_back_what_it_runs_also_while_it_drains(site: Site) -> None:
    site.write(GRAPHS)
    worker = site.worker("--processes", "1", "--name", "leaving", TM_LEASE="3")
    held = site.start("long")
    wait_for(lambda: site.task(held, "hold").state is TaskState.RUNNING, "it to run")
    [would] = items(site, "workers", "stop", "leaving", "--dry-run")
    assert (would["dry_run"], would["ended"]) == (True, False)
    assert tm(site, "workers", "drain", "leaving").returncode == 0
    wait_for(lambda: worker.said("told to drain"), "the worker to hear of it")
    assert site.task(held, "hold").state is TaskState.RUNNING
    [stopped] = items(site, "workers", "stop", "--all", "--wait", "--timeout", "60s")
    assert (stopped["dry_run"], stopped["ended"]) == (False, True)
    assert worker.end() == 0
    task = site.task(held, "hold")
    assert (task.state, task.attempt, task.losses) == (TaskState.QUEUED, 2, 0)
    assert tm(site, "workers", "stop").returncode == 2
    assert tm(site, "workers", "stop", "leaving").returncode == 3


def test_an_order_that_is_first_heard_when_a_lost_connection_is_made_anew_is_followed(site: Site) -> None:
    site.write(GRAPHS)
    worker = site.worker(TM_LEASE="12")  # so that the next heartbeat is some time off
    assert site.ended(site.start("fast")).state is RunState.SUCCESS
    site.store.drain_workers([site.store.scene().workers[0].name], by="me")
    site.store.client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    assert worker.end() == 0
    assert worker.said("told to drain")


def test_a_signal_hurries_a_worker_that_drains(site: Site) -> None:
    site.write(GRAPHS)
    worker = site.worker("--processes", "1", TM_LEASE="3", TM_DRAIN_TIMEOUT="0.1")
    held = site.start("long")
    wait_for(lambda: site.task(held, "hold").state is TaskState.RUNNING, "it to run")
    site.store.drain_workers([site.store.scene().workers[0].name], by="me")
    wait_for(lambda: worker.said("told to drain"), "the worker to hear of it")
    worker.signal(signal.SIGTERM)
    assert worker.end() == 0
    assert site.task(held, "hold").state is TaskState.QUEUED
