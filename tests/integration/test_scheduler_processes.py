"""Scheduler processes on a real server: one leads, none doubles, whatever dies."""

from __future__ import annotations

import signal
import sqlite3
import time

import pytest

from tests.integration.scheduling import Schedulers, assert_no_gap_and_no_double
from tests.waiting import wait_for
from tm.history import open_history
from tm.states import Outcome, RunState
from tm.store.records import Ask, NewRun, Report

TTL_MS = 1500  # of the leadership, where a test has to wait for its end


@pytest.fixture
def schedulers(server, tmp_path):
    found = Schedulers(server, tmp_path)
    yield found
    found.close()


@pytest.fixture
def lasting(own_server, tmp_path):
    """On a server that the test may kill and start again."""
    found = Schedulers(own_server, tmp_path)
    yield found
    found.close()


def more_ticks(schedulers, count, timeout=15.0):
    """Wait until this many more ticks were made; returns all of them."""
    before = len(schedulers.seconds_ticked())
    return wait_for(
        lambda: (ticks := schedulers.seconds_ticked()) and len(ticks) >= before + count and ticks,
        f"{count} more ticks after {before}",
        timeout,
    )


def test_two_started_at_once_make_each_tick_exactly_once(schedulers):
    schedulers.keep_events()
    schedulers.start()
    schedulers.start()
    assert_no_gap_and_no_double(more_ticks(schedulers, 4))
    assert sum("leading" in schedulers.log_of(number).read_text() for number in (0, 1)) == 1


def test_when_the_leader_is_killed_the_standby_takes_over_with_no_gap_and_no_double(schedulers):
    schedulers.keep_events()
    schedulers.start(ttl_ms=TTL_MS)
    schedulers.start(ttl_ms=TTL_MS)
    more_ticks(schedulers, 1)
    leader = schedulers.leader()
    leader.kill()
    leader.wait(10)
    killed = time.monotonic()
    more_ticks(schedulers, 1)
    assert time.monotonic() - killed < TTL_MS / 1000 * 1.2 + 1, "12 s with the real lease of 10 s"
    assert schedulers.leader_pid() != leader.pid
    assert_no_gap_and_no_double(more_ticks(schedulers, 2))


def test_a_leader_that_is_told_to_stop_hands_over_at_once(schedulers):
    schedulers.keep_events()
    first = schedulers.start()
    more_ticks(schedulers, 1)
    second = schedulers.start()
    wait_for(lambda: schedulers.says(second, "standing by"), "the second scheduler to stand by")
    first.terminate()
    told = time.monotonic()
    wait_for(lambda: schedulers.leader_pid() == second.pid, "the standby to lead")
    assert time.monotonic() - told < 2, "the lease alone would have lasted 7 to 10 s"
    assert_no_gap_and_no_double(more_ticks(schedulers, 2))
    assert first.wait(10) == 0, "after it has tried for 5 s to file what it made"


def test_a_leader_that_was_stopped_and_wakes_up_is_fenced(schedulers):
    schedulers.keep_events()
    sleeper = schedulers.start(ttl_ms=TTL_MS)
    more_ticks(schedulers, 1)
    second = schedulers.start(ttl_ms=TTL_MS)
    sleeper.send_signal(signal.SIGSTOP)
    wait_for(lambda: schedulers.leader_pid() == second.pid, "the standby to lead")
    more_ticks(schedulers, 2)
    sleeper.send_signal(signal.SIGCONT)
    wait_for(lambda: schedulers.says(sleeper, "standing by"), "the sleeper to stand by")
    assert_no_gap_and_no_double(more_ticks(schedulers, 2))


def test_a_server_that_is_killed_and_comes_back_misses_no_tick_and_doubles_none(lasting):
    lasting.server.client().config_set("appendfsync", "always")
    lasting.keep_events()
    scheduler = lasting.start()
    more_ticks(lasting, 2)
    lasting.server.kill()
    wait_for(lambda: lasting.says(scheduler, "the server is away"), "the scheduler to notice")
    lasting.server.start()
    assert_no_gap_and_no_double(more_ticks(lasting, 3, timeout=20))
    assert lasting.says(scheduler, "the server is back")
    assert scheduler.poll() is None


def test_a_scheduler_that_comes_before_its_server_waits_for_it(lasting):
    lasting.server.stop()
    lasting.keep_events()
    scheduler = lasting.start()
    wait_for(lambda: lasting.says(scheduler, "the server is away"), "the scheduler to notice")
    lasting.server.start()
    more_ticks(lasting, 1)


def test_everything_is_filed_before_a_clean_end(schedulers):
    scheduler = schedulers.start()
    wait_for(lambda: len(schedulers.store.open_runs()) >= 2, "two runs")
    scheduler.terminate()
    assert scheduler.wait(10) == 0
    assert schedulers.all_events() == []
    history = open_history(schedulers.history_url)
    try:
        filed = {row.id for row in history.runs()}
    finally:
        history.close()
    assert filed == set(schedulers.store.open_runs())


def test_a_second_sigterm_ends_it_at_once(schedulers):
    schedulers.keep_events()  # so that the first one takes 5 s
    scheduler = schedulers.start()
    more_ticks(schedulers, 1)
    scheduler.terminate()
    told = time.monotonic()

    def ended():
        scheduler.terminate()
        return scheduler.poll()

    assert wait_for(ended, "the end") == 128 + signal.SIGTERM
    assert time.monotonic() - told < 1


def test_sigusr1_makes_no_new_tick_and_ends_when_no_run_is_open(schedulers):
    scheduler = schedulers.start()
    [first, *_] = wait_for(schedulers.store.open_runs, "a run")
    scheduler.send_signal(signal.SIGUSR1)
    held = schedulers.store.cursors()["every-second"]
    wait_for(lambda: schedulers.store.server_ms() > held + 2500, "two seconds without a tick")
    assert scheduler.poll() is None, "a run is open"
    open_runs = schedulers.store.open_runs()
    assert len(open_runs) <= 2, "one more may have been on its way"
    for run in open_runs:
        schedulers.store.cancel(run, RunState.CANCELLED, "the test is over")
    assert scheduler.wait(10) == 0
    history = open_history(schedulers.history_url)
    try:
        assert history.run(first).state == RunState.CANCELLED
    finally:
        history.close()


def test_a_retry_is_queued_when_it_is_due(server, tmp_path):
    graphs = """
from tm import Graph, task

@task(retries=1, retry_delay=0.3)
def flaky(): ...

graph = Graph("g")
graph.add_edges(flaky)
"""
    schedulers = Schedulers(server, tmp_path, graphs)
    try:
        store = schedulers.store
        schedulers.start()
        version = wait_for(store.graphs, "the scheduler to lead")["g"]["version"]
        store.start(store.plan(version), [NewRun(id="g-1")])
        store.announce("w", ["g"], {"host": "here"}, 60_000)
        asks = [
            Ask(worker="w", lease_ms=60_000, token=token, queues=("default",), count=count)
            for token, count in (("a", 1), ("b", 0))
        ]
        [claim] = store.take(asks[0]).claims
        [verdict], _ = store.finish(asks[1], [Report(claim.job, claim.token, Outcome.FAILED)])
        wait_for(lambda: store.queue_depths()["default"] == 1, "the retry to be queued", interval=0.002)
        assert 0 <= store.server_ms() - verdict.due_ms < 500
    finally:
        schedulers.close()


def test_a_locked_history_holds_nothing_up_and_is_caught_up_with(schedulers):
    scheduler = schedulers.start()
    wait_for(lambda: len(schedulers.store.open_runs()) >= 1, "a run")
    history = open_history(schedulers.history_url)
    wait_for(history.runs, "it in history")
    blocker = sqlite3.connect(schedulers.home / "history.db", isolation_level=None)
    blocker.execute("BEGIN EXCLUSIVE")
    try:
        locked_at = len(schedulers.store.open_runs())
        wait_for(lambda: len(schedulers.store.open_runs()) >= locked_at + 3, "ticks while history is locked")
    finally:
        blocker.close()
    wait_for(lambda: not schedulers.all_events(), "history to catch up", 20)
    scheduler.terminate()
    assert scheduler.wait(10) == 0
    filed = sorted(row.id for row in history.runs(limit=1000))
    history.close()
    assert filed == sorted(schedulers.store.open_runs())


def test_the_command_loads_the_file_and_runs_until_it_is_told_to_stop(schedulers):
    process = schedulers.command("--log-level", "info")
    wait_for(schedulers.store.open_runs, "a run")
    assert schedulers.says(process, "on the clock")
    assert schedulers.store.graphs()["every-second"]["schedule"] == "* * * * * *"
    process.send_signal(signal.SIGINT)
    assert process.wait(10) == 0


def test_once_makes_what_is_due_and_ends(schedulers):
    before = schedulers.store.server_ms()
    assert schedulers.command("--once").wait(20) == 0
    views = [schedulers.store.run(run) for run in schedulers.store.open_runs()]
    assert all(view.tick_ms > before for view in views), "seen for the first time, so nothing before that was due"
    known_at = schedulers.store.cursors()["every-second"]
    wait_for(lambda: schedulers.store.server_ms() > known_at + 1000, "a tick to be due")
    assert schedulers.command("--once").wait(20) == 0
    assert len(schedulers.store.open_runs()) > len(views)
    assert schedulers.leader_pid() is None


def test_once_without_a_server_is_exit_code_5(lasting):
    lasting.server.stop()
    assert lasting.command("--once").wait(20) == 5


@pytest.mark.parametrize("text", ["import nothing_of_this_name", "x = 1", "def ("])
def test_a_file_that_cannot_be_loaded_is_exit_code_2(server, tmp_path, text):
    schedulers = Schedulers(server, tmp_path, graphs=text)
    process = schedulers.command()
    assert process.wait(20) == 2
    assert "tm-scheduler: cannot load" in schedulers.log_of(0).read_text()
    schedulers.close()
