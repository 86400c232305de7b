"""The server is killed, frozen, slow, full, read-only, closed, cut off and emptied (F18-F31)."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from typing import TYPE_CHECKING, Any

import pytest
import redis

from tests.rig.checker import repeats
from tests.rig.cluster import GRAPHS, REAL, TICKING, Cluster, Profile
from tests.rig.proxy import BLACK_HOLE, Rules
from tests.system.conftest import sweep_only
from tests.waiting import wait_for
from tm.events import AttemptEnded, RunCreated

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.rig.proxy import Proxy
    from tests.system.conftest import Fault
    from tm.events import Event

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
#: RELIABILITY.md 2.5: server back to normal work
SERVER_BACK = 5.0
MIX = ("chain", "diamond", "flaky", "bad", "long")


@pytest.fixture(scope="module")
def shared(clusters: Callable[..., Cluster], seed: int) -> Cluster:
    return clusters(seed=seed, persist=True)


@pytest.fixture
def cluster(shared: Cluster) -> Iterator[Cluster]:
    yield shared.up(workers=3, schedulers=2)
    shared.client.config_set("maxmemory", 0)


def load(cluster: Cluster, count: int) -> None:
    """A mix, the long ones not too long."""
    for _ in range(count):
        graph = cluster.random.choice(MIX)
        more = {"seconds": 1.0} if graph == "long" else {"pace": round(cluster.random.uniform(0, 0.1), 3)}
        with contextlib.suppress(redis.exceptions.RedisError):  # not acknowledged, so not counted on
            cluster.submit(graph, **more)


def back_to_work(cluster: Cluster, fault: Fault, at: float, what: str = "server back to work done") -> None:
    """A new run goes through soon after the server came back."""

    def submitted() -> str | None:
        with contextlib.suppress(redis.exceptions.RedisError):
            return cluster.submit("chain")
        return None

    run = wait_for(submitted, "a run to be taken", 30)
    wait_for(lambda: cluster.state(run) == "success", "a new run to go through", 30)
    fault.recovered(what, time.monotonic() - at, SERVER_BACK)


def reaped(events: list[tuple[str, Event]]) -> list[AttemptEnded]:
    """Attempts that were declared lost because nobody beat for them."""
    return [
        event for _, event in events if isinstance(event, AttemptEnded) and event.outcome == "lost" and not event.error
    ]


@pytest.mark.parametrize("fsync", ["always", "everysec"])
def test_f18_f19_the_server_is_killed_under_load_and_comes_back(
    own: Callable[..., Cluster], fault: Fault, fsync: str
) -> None:
    """With `always` nothing that was acknowledged is missing; with `everysec` work may repeat, runs do not."""
    cluster = own(persist=True, options={"appendfsync": fsync}).up(workers=3, schedulers=2)
    kill_the_server(cluster, fault, fault.size(2, 20), fsync)
    evidence = cluster.judge(rolled_back=fsync != "always")
    print(f"{repeats(evidence)} bodies ran again")
    if fsync == "always":
        assert repeats(evidence) == len(
            [each for each in evidence.attempts if each.outcome == "rejected"]
        ) or not reaped(list(evidence.events))


@sweep_only
def test_f18_with_the_real_lease_work_goes_on_as_soon(own: Callable[..., Cluster], fault: Fault) -> None:
    cluster = own(profile=REAL, persist=True, options={"appendfsync": "always"}).up(workers=3, schedulers=2)
    kill_the_server(cluster, fault, 5, "always, lease 30 s")
    cluster.judge()


def kill_the_server(cluster: Cluster, fault: Fault, times: int, how: str) -> None:
    """SIGKILL under load, again and again; a new run goes through soon after each start."""
    for _ in range(times):
        load(cluster, 12)
        time.sleep(cluster.random.uniform(0.05, 0.5))
        cluster.server.kill()
        fault.mark(f"SIGKILL to the server, {how}")
        time.sleep(cluster.random.uniform(0, 1.0))
        cluster.server.start()
        back_to_work(cluster, fault, time.monotonic())
    cluster.settle()


def test_f20_a_server_that_loads_slowly_is_away_not_broken(own: Callable[..., Cluster], fault: Fault) -> None:
    cluster = own(persist=True).up(workers=2, schedulers=2)
    pipeline = cluster.client.pipeline(transaction=False)
    for number in range(3000):
        pipeline.set(f"filler:{number}", b"x" * 100)
    pipeline.execute()
    cluster.client.bgrewriteaof()
    wait_for(lambda: not cluster.client.info("persistence")["aof_rewrite_in_progress"], "the log to be rewritten")
    run = cluster.submit("long", seconds=2.0)
    cluster.begun(run)
    cluster.server.kill()
    cluster.server.options |= {"key-load-delay": 1000, "loading-process-events-interval-bytes": 1024}
    cluster.server.start()
    fault.mark("loading, a millisecond for each key")
    back_to_work(cluster, fault, time.monotonic())
    logs = "".join(each.log.read_text() for each in cluster.processes)
    assert "LOADING" in logs or "loading" in logs, "nobody has met it loading"
    cluster.settle()
    cluster.judge(rolled_back=True)
    assert not [line for line in cluster.lines(run) if line.task == "sleeps"][1:], "the task ran again"


@pytest.mark.parametrize(
    "restart_workers", [pytest.param(False, marks=sweep_only), True], ids=["workers stay", "workers restart"]
)
def test_f21_f22_what_ends_while_the_server_is_away_is_delivered_later(
    own: Callable[..., Cluster], fault: Fault, restart_workers: bool
) -> None:
    cluster = own(persist=True, options={"appendfsync": "always"}).up(workers=2, schedulers=1)
    runs = [cluster.submit("long", seconds=1.0) for _ in range(4)]
    for run in runs:
        cluster.begun(run, "sleeps")
    cluster.server.kill()
    fault.mark("the server is away while tasks end")
    wait_for(lambda: all(cluster.lines(run, "end") for run in runs), "the tasks to end")
    spool = cluster.folder / "home" / "spool"
    wait_for(lambda: len([each for each in spool.glob("*/*") if each.suffix != ".new"]) >= 4, "results to be spooled")
    if restart_workers:
        for each in cluster.living("worker"):
            each.signal(signal.SIGTERM)
        for each in cluster.living("worker"):
            assert each.end() == 0
        for _ in range(2):
            cluster.worker(wait=False)
        fault.mark("workers restarted meanwhile")
    time.sleep(fault.size(0, 20))
    cluster.server.start()
    at = time.monotonic()
    wait_for(lambda: all(cluster.state(run) == "success" for run in runs), "the results to be delivered", 30)
    fault.recovered("server back to results delivered", time.monotonic() - at, 2 * SERVER_BACK)
    cluster.settle()
    cluster.judge()
    assert all(len([line for line in cluster.lines(run) if line.task == "sleeps"]) == 1 for run in runs)
    wait_for(lambda: not [each for each in spool.glob("*/*") if each.is_file()], "the spool to be empty")


@pytest.mark.parametrize(
    "how", [pytest.param("client pause", marks=sweep_only), pytest.param("debug sleep", marks=sweep_only), "sigstop"]
)
def test_f23_nobody_is_declared_dead_because_the_server_froze(cluster: Cluster, fault: Fault, how: str) -> None:
    cluster.steady()
    runs = [cluster.submit("long", seconds=1.0) for _ in range(3)]
    for run in runs:
        cluster.begun(run, "sleeps")
    seen = len(cluster.tap.seen)
    frozen = cluster.profile.lease * 2
    if how == "client pause":
        cluster.client.client_pause(int(frozen * 1000), all=True)
    elif how == "debug sleep":
        with cluster.server.client(socket_timeout=60) as client:
            client.execute_command("DEBUG", "SLEEP", str(frozen))
    else:
        os.kill(cluster.server.pid, signal.SIGSTOP)
    fault.mark(f"{how} for {frozen:g} s")
    if how == "sigstop":
        time.sleep(frozen)
        os.kill(cluster.server.pid, signal.SIGCONT)
    with cluster.server.client(socket_timeout=60) as client:
        client.ping()
    at = time.monotonic()
    wait_for(lambda: all(cluster.state(run) == "success" for run in runs), "the tasks to be done", 30)
    # whoever was asleep in its back-off of up to 3 s needs that long
    fault.recovered("thaw to results delivered", time.monotonic() - at, 12.0)
    assert not reaped(cluster.tap.seen[seen:])
    cluster.settle()
    cluster.judge()


def test_f24_connections_are_killed_all_the_time(cluster: Cluster, fault: Fault) -> None:
    until = time.monotonic() + fault.size(4, 60)
    while time.monotonic() < until:
        load(cluster, 4)
        with cluster.server.client() as client:
            client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        fault.mark("CLIENT KILL TYPE normal")
        time.sleep(0.5)
    cluster.settle()
    assert len(cluster.living("worker")) == 3
    assert len(cluster.living("scheduler")) == 2
    cluster.judge()


def through(cluster: Cluster, workers: int = 3, schedulers: int = 1) -> Proxy:
    """A cluster whose processes all talk through one bad network."""
    proxy = cluster.proxy()
    for _ in range(schedulers):
        cluster.scheduler(url=proxy.url)
    started = [cluster.worker(url=proxy.url, wait=False) for _ in range(workers)]
    for each in started:
        cluster.wait_known(each)
    cluster.leader()
    return proxy


def test_f25_replies_are_cut_in_the_middle(own: Callable[..., Cluster], fault: Fault) -> None:
    cluster = own()
    proxy = through(cluster)
    proxy.rules = Rules(cut=0.05)
    for _ in range(fault.size(4, 40)):
        load(cluster, 12)
        time.sleep(0.5)
    wait_for(lambda: proxy.counts["cut"] >= 5, "replies to be cut", 30)
    proxy.rules = Rules()
    fault.mark(f"{proxy.counts['cut']} replies cut")
    cluster.settle()
    assert len(cluster.living("worker")) == 3
    cluster.judge()


@sweep_only
def test_f26_on_a_slow_link_leases_hold(own: Callable[..., Cluster], fault: Fault) -> None:
    cluster = own(profile=Profile(lease=6.0, leader=6.0))
    proxy = through(cluster, workers=2)
    cluster.steady()
    seen = len(cluster.tap.seen)
    proxy.rules = Rules(delay=(0.1, 0.5))
    load(cluster, 6)
    cluster.submit("long", seconds=30)
    cluster.settle(120)
    fault.mark(f"{proxy.counts['delayed']} messages late by 0.1 to 0.5 s")
    assert not reaped(cluster.tap.seen[seen:])
    cluster.judge()


@pytest.mark.parametrize(
    "hole",
    [
        BLACK_HOLE,
        pytest.param(Rules(drop=frozenset({"down"})), marks=sweep_only),
        pytest.param(Rules(refuse=True), marks=sweep_only),
    ],
    ids=["both", "down", "refused"],
)
def test_f27_a_worker_cut_off_from_the_server_loses_its_work_and_comes_back_clean(
    cluster: Cluster, fault: Fault, hole: Rules
) -> None:
    cluster.settle()
    for each in cluster.living("worker"):
        each.signal(signal.SIGTERM)
        each.end()
    proxy = cluster.proxy()
    lonely = cluster.worker("--processes", "1", url=proxy.url)
    cluster.steady()
    run = cluster.submit("long", seconds=3.0)
    cluster.begun(run, "sleeps")
    proxy.rules = hole
    fault.mark("cut off")
    cluster.worker()
    cluster.tap.wait_for(
        lambda event: isinstance(event, AttemptEnded) and event.run == run and event.outcome == "lost",
        "its attempt to be declared lost",
    )
    wait_for(lambda: cluster.state(run) == "success", "another worker to finish the run", 30)
    proxy.rules = Rules()
    proxy.reset_all()
    at = time.monotonic()
    for each in cluster.living("worker"):
        if each is not lonely:
            each.signal(signal.SIGTERM)
            each.end()
    again = cluster.submit("chain")
    wait_for(lambda: cluster.state(again) == "success", "it to work again", 30)
    # its back-off has grown up to 3 s, its doorbell may wait 10 s for an answer that never comes
    fault.recovered("network back to work done", time.monotonic() - at, 16.0)
    cluster.settle()
    cluster.judge()


def test_f28_a_full_server_refuses_triggers_holds_ticks_and_lets_work_end(
    own: Callable[..., Cluster], fault: Fault
) -> None:
    cluster = own(files=(GRAPHS, TICKING)).up(workers=2, schedulers=2)
    running = cluster.submit("long", seconds=2.0)
    cluster.begun(running, "sleeps")
    waiting = [cluster.submit("diamond", pace=0.2) for _ in range(4)]
    cluster.tap.wait_for(lambda event: isinstance(event, RunCreated) and event.tick is not None, "a tick")
    cluster.client.config_set("maxmemory", 1 << 20)
    full_at, seen = time.monotonic(), len(cluster.tap.seen)
    with pytest.raises(redis.exceptions.OutOfMemoryError):
        cluster.submit("chain")
    fault.mark("maxmemory below what is used")
    wait_for(lambda: cluster.state(running) == "success", "running work to end while the server is full")
    wait_for(
        lambda: {cluster.state(each) for each in waiting} == {"success"}, "what was queued to be worked off as well"
    )
    wait_for(lambda: any(each.said("server is full") for each in cluster.living("scheduler")), "ticks to be held")
    time.sleep(max(0.0, full_at + fault.size(3, 20) - time.monotonic()))
    made = [event for _, event in cluster.tap.seen[seen:] if isinstance(event, RunCreated)]
    assert len(made) <= 1, "a tick was made on a full server"
    cluster.client.config_set("maxmemory", 0)
    at, seen = time.monotonic(), len(cluster.tap.seen)
    tick = cluster.tap.wait_for(
        lambda event: isinstance(event, RunCreated) and event.tick is not None, "held ticks", since=seen
    )
    fault.recovered("room again to held ticks made", tick - at, SERVER_BACK)
    back_to_work(cluster, fault, at, "room again to work done")
    ticks = wait_for(lambda: enough_ticks(cluster), "ticks up to now", 20)
    assert ticks == list(range(ticks[0], ticks[-1] + 1000, 1000)), "a tick was dropped"
    cluster.settle()
    cluster.stop_ticking()
    cluster.judge()


def enough_ticks(cluster: Cluster) -> list[int] | None:
    ticks = sorted(event.tick for _, event in cluster.tap.seen if isinstance(event, RunCreated) and event.tick)
    return ticks if ticks and cluster.store.server_ms() - ticks[-1] < 1500 else None


def test_f29_a_server_that_turns_read_only_is_away(cluster: Cluster, fault: Fault) -> None:
    load(cluster, 12)
    cluster.client.replicaof("127.0.0.1", 1)
    fault.mark("replica of a dead host")
    wait_for(
        lambda: any(each.said("READONLY") or each.said("read only") for each in cluster.living("worker")),
        "a worker to meet it",
        20,
    )
    time.sleep(fault.size(1, 20))
    cluster.client.replicaof("NO", "ONE")
    back_to_work(cluster, fault, time.monotonic())
    cluster.settle()
    assert len(cluster.living("worker")) == 3
    cluster.judge()


def test_f30_a_password_that_changes_is_said_once_and_never_shown(own: Callable[..., Cluster], fault: Fault) -> None:
    """The user of the workers gets another password, and the old one back."""
    cluster = own()
    secret, other = "correct-horse-battery", "another-staple-entirely"
    cluster.client.acl_setuser(
        "crew", enabled=True, passwords=[f"+{secret}"], keys=["*"], channels=["*"], categories=["+@all"]
    )
    proxy = cluster.proxy()
    url = f"redis://crew:{secret}@127.0.0.1:{proxy.port}/0"
    cluster.scheduler(url=url)
    worker = cluster.worker(url=url)
    cluster.leader()
    load(cluster, 5)
    client: Any = cluster.client
    client.acl_setuser("crew", enabled=True, passwords=[f"-{secret}", f"+{other}"])
    client.execute_command("CLIENT", "KILL", "USER", "crew")
    fault.mark("another password")
    wait_for(lambda: worker.said("it refused the password or user in TM_URL"), "the worker to say so", 20)
    time.sleep(1.5)
    assert worker.log.read_text().count("server away") <= 3, "one line for each change, not for each try"
    client.acl_setuser("crew", enabled=True, passwords=[f"+{secret}", f"-{other}"])
    back_to_work(cluster, fault, time.monotonic())
    cluster.settle()
    evidence = cluster.judge(secrets=(secret, other))
    assert evidence.texts


@pytest.mark.parametrize("fsync", ["always", "everysec"])
def test_f31_a_full_disk_is_an_outage_and_is_got_over(
    own: Callable[..., Cluster], fault: Fault, tmp_path: Path, fsync: str
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(disk)], check=False)
    if mounted.returncode:
        pytest.skip("a small disk takes the right to mount one")
    try:
        options = {"dir": disk, "appendfsync": fsync, "auto-aof-rewrite-percentage": 0}
        cluster = own(persist=True, options=options).up(workers=2, schedulers=1)
        run = cluster.submit("long", seconds=1.5)
        cluster.begun(run)
        (disk / "ballast").write_bytes(b"x" * (3 << 20))
        for number in range(200):
            try:
                cluster.client.set(f"filler:{number}", b"x" * 100_000)
            except redis.exceptions.RedisError:
                break
        wait_for(
            lambda: any(each.said("server away") or each.said("refused") for each in cluster.processes),
            "somebody to notice",
            20,
        )
        server = cluster.server.process
        if fsync == "always":
            wait_for(lambda: server is None or server.poll() is not None, "the server to end, as it does", 20)
        fault.mark(f"disk full, {fsync}")
        (disk / "ballast").unlink()
        if fsync == "always":
            cluster.server.start()  # whoever supervises it does this; here it is us
        back_to_work(cluster, fault, time.monotonic())
        cluster.settle()
        cluster.judge(rolled_back=fsync == "everysec")
    finally:
        for each in list(cluster.processes):
            if each.alive:
                each.kill()
        cluster.server.kill()
        subprocess.run(["umount", "-l", str(disk)], check=False)


def test_f23_functions_that_were_flushed_are_loaded_again(cluster: Cluster, fault: Fault) -> None:
    for _ in range(fault.size(3, 20)):
        load(cluster, 6)
        cluster.client.function_flush()
        fault.mark("FUNCTION FLUSH")
        time.sleep(0.3)
    cluster.settle()
    assert len(cluster.living("worker")) == 3
    cluster.judge()
