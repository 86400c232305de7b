"""History is locked, full, read-only, far behind; the server is emptied under it (F32, F33), and what Redis keeps."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from tests.rig.cluster import GRAPHS, TICKING, Cluster, Profile, read_history
from tests.waiting import wait_for
from tm.clock import from_ms
from tm.events import RunCreated

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.system.conftest import Fault

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def load(cluster: Cluster, fault: Fault) -> list[str]:
    before = set(cluster.submitted)
    cluster.load(fault.size(15, 200), pace=0.02)
    runs = [run for run in cluster.submitted if run not in before]
    wait_for(lambda: not cluster.open_runs(), "work to go on without history", 120)
    return runs


def fill(ballast: Path) -> None:
    """Write until the disk is full."""
    with ballast.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(b"x" * 4096)


def test_f32_a_locked_history_holds_nothing_up_and_catches_up(own: Callable[..., Cluster], fault: Fault) -> None:
    cluster = own().up(workers=2, schedulers=2)
    load(cluster, fault)
    cluster.settle()
    blocker = sqlite3.connect(cluster.history_file, isolation_level=None)
    blocker.execute("BEGIN EXCLUSIVE")
    fault.mark("BEGIN EXCLUSIVE by another process")
    try:
        load(cluster, fault)
        assert not cluster.filed()
        time.sleep(fault.size(0, 60))
    finally:
        blocker.close()
    at = time.monotonic()
    wait_for(cluster.filed, "history to catch up", 60)
    fault.recovered("lock gone to history caught up", time.monotonic() - at, 15.0)
    cluster.settle()
    cluster.judge()


@pytest.mark.parametrize("how", ["full", "gone"])
def test_f33_a_history_that_cannot_be_written_holds_nothing_up_and_catches_up(
    own: Callable[..., Cluster], fault: Fault, tmp_path: Path, how: str
) -> None:
    """Its disk is full; and, which needs no right to mount one, something else is in its place."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if how == "full":
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={fault.size(2, 24)}m", "tmpfs", str(disk)], check=False
        )
        if mounted.returncode:
            pytest.skip("a small disk takes the right to mount one")
    try:
        cluster = own()
        cluster.history_file = disk / "history.db"
        ballast = disk / ("ballast" if how == "full" else "history.db")
        if how == "gone":
            ballast.mkdir()
        cluster.up(workers=2, schedulers=2)
        if how == "full":
            load(cluster, fault)
            cluster.settle()
            fill(ballast)
        fault.mark(f"history cannot be written: {how}")
        load(cluster, fault)
        wait_for(lambda: any(each.said("history is behind") for each in cluster.living("scheduler")), "an alarm", 20)
        assert not cluster.filed()
        ballast.rmdir() if how == "gone" else ballast.unlink()
        at = time.monotonic()
        wait_for(cluster.filed, "history to catch up", 60)
        fault.recovered("room again to history caught up", time.monotonic() - at, 15.0)
        cluster.settle()
        cluster.judge()
    finally:
        for each in cluster.processes:
            if each.alive:
                each.kill()
        subprocess.run(["umount", "-l", str(disk)], check=False, stderr=subprocess.DEVNULL)


def test_f33_far_behind_history_holds_ticks_and_drops_none(own: Callable[..., Cluster], fault: Fault) -> None:
    """The hard limit of 64 MiB of events, filled up by hand."""
    cluster = own(files=(TICKING,)).up(workers=1, schedulers=1)
    cluster.tap.wait_for(lambda event: isinstance(event, RunCreated), "a tick")
    blocker = sqlite3.connect(cluster.history_file, isolation_level=None)
    blocker.execute("BEGIN EXCLUSIVE")
    pipeline = cluster.client.pipeline(transaction=False)
    for _ in range(65):
        pipeline.xadd(cluster.store.keys.events, {"d": b"filler" * (1 << 18)})
    pipeline.execute()
    fault.mark(f"{cluster.store.backlog_bytes() >> 20} MiB of events wait")
    wait_for(lambda: any(each.said("too far behind") for each in cluster.living("scheduler")), "ticks to be held", 20)
    held = cluster.store.cursors()["tick"]
    wait_for(lambda: cluster.store.server_ms() > held + 3000, "three seconds without a tick")
    assert cluster.store.cursors()["tick"] == held
    blocker.close()
    at = time.monotonic()
    wait_for(lambda: cluster.store.cursors()["tick"] > held + 2000, "held ticks to be made", 60)
    fault.recovered("history back to held ticks made", time.monotonic() - at, 30.0)
    cluster.stop_ticking()
    _, _, attempts = read_history(cluster.history_file)
    assert attempts
    runs = sorted(run.tick for run in cluster.evidence().runs if run.tick)
    assert runs == list(range(runs[0], runs[-1] + 1000, 1000))


@pytest.mark.parametrize("how", ["flushed while in use", "restarted without its data"])
def test_f29_a_server_that_was_emptied_is_noticed_and_nothing_runs_twice(
    own: Callable[..., Cluster], fault: Fault, how: str
) -> None:
    """Open runs are closed in history as lost, cursors come back from history, and no storm of old ticks follows."""
    cluster = own(files=(GRAPHS, TICKING))
    cluster.up(workers=2, schedulers=2)
    cluster.tap.wait_for(lambda event: isinstance(event, RunCreated) and event.tick is not None, "a tick")
    done = cluster.submit("chain")
    wait_for(lambda: cluster.state(done) == "success", "a run to end")
    open_run = cluster.submit("long", seconds=600.0)
    [line] = cluster.begun(open_run)[:1]
    wait_for(lambda: {open_run, done} <= {run.id for run in read_history(cluster.history_file)[0]}, "both to be filed")
    last = cluster.store.cursors()["tick"]
    if how == "flushed while in use":
        cluster.client.flushall()
    else:
        cluster.server.kill()
        cluster.server.start()  # it keeps nothing
    at = time.monotonic()
    fault.mark(how)

    def lost() -> bool:
        rows = {run.id: run for run in read_history(cluster.history_file)[0]}
        return rows[open_run].state == "failed" and rows[open_run].reason.startswith("lost:")

    wait_for(lost, "the open run to be closed as lost", 30)
    fault.recovered("emptied to open runs closed in history", time.monotonic() - at, 15.0)
    wait_for(lambda: cluster.store.cursors().get("tick", 0) > last + 2000, "ticks to go on", 30)
    run = cluster.submit("chain")
    wait_for(lambda: cluster.state(run) == "success", "new runs to go through", 30)
    wait_for(
        lambda: not [each for each in cluster.lines() if each.pid == line.pid and _alive(line.pid)],
        "its process to end",
        30,
    )
    assert any(each.said("the server was emptied") for each in cluster.living("scheduler"))
    cluster.stop_ticking()
    rows = read_history(cluster.history_file)[0]
    ticks = sorted(row.tick for row in rows if row.tick is not None)
    assert ticks == list(range(ticks[0], ticks[-1] + 1000, 1000)), [from_ms(tick) for tick in ticks]
    states = {row.id: row.state for row in rows}
    assert states[done] == "success"
    assert len(cluster.lines(done)) == 5, "what had ended ran again"


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_f36_after_runs_are_archived_redis_is_as_before(own: Callable[..., Cluster], fault: Fault) -> None:
    """I11: keys and memory return to the baseline."""
    cluster = own(profile=Profile(result_ttl=1.0)).up(workers=2, schedulers=1)
    cluster.load(5)
    cluster.submit("fan")
    wait_for(lambda: not cluster.dump().runs and cluster.filed(), "the first runs to be forgotten", 30)
    before = cluster.dump()
    cluster.load(fault.size(60, 1000), graphs=("chain", "diamond", "flaky", "bad"), pace=0.0)
    cluster.submit("fan")
    fault.mark(f"{len(cluster.submitted)} runs")

    def all_ended() -> bool:  # and not just created, which is filed while most of them still run
        rows = read_history(cluster.history_file)[0]
        return len(rows) == len(cluster.submitted) and all(row.ended for row in rows)

    wait_for(all_ended, "the ends of all to be filed", 120, 0.1)
    at = time.monotonic()
    wait_for(lambda: not cluster.dump().runs and cluster.filed(), "all runs to be forgotten", 60)
    fault.recovered("last run filed to all forgotten (TM_RESULT_TTL 1 s)", time.monotonic() - at, 10.0)
    cluster.judge(baseline_keys=before.keys, baseline_memory=before.memory)
