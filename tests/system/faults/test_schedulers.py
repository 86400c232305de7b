"""Schedulers are killed, doubled and absent; clocks and configs go wrong under them (F14-F16, F35, F41, F42)."""

from __future__ import annotations

import json
import signal
import textwrap
import time
from typing import TYPE_CHECKING

import pytest

from tests.rig.cluster import GRAPHS, TICKING, Cluster, Profile
from tests.system.conftest import sweep_only
from tests.waiting import wait_for
from tm.clock import to_ms
from tm.events import RunCreated

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.rig.evidence import Evidence
    from tests.system.conftest import Fault
    from tm.events import Event

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
#: RELIABILITY.md 2.5, with the real lease of 10 s
LEADER_KILLED = 12.0
REAL_LEADER = Profile(leader=10.0)

HEAD = """
from typing import Any
from tests.rig.journal import body
from tm import Graph, task
"""


def ticked(graph: str) -> Callable[[Event], bool]:
    return lambda event: isinstance(event, RunCreated) and event.graph == graph and event.tick is not None


def ticks_of(evidence: Evidence, graph: str) -> list[int]:
    return sorted({run.tick for run in evidence.runs if run.graph == graph and run.tick is not None})


def end_all(cluster: Cluster) -> None:
    for each in cluster.living("scheduler"):
        each.signal(signal.SIGTERM)
    for each in cluster.living("scheduler"):
        each.end()


def judge_ticks(cluster: Cluster, graph: str = "tick") -> Evidence:
    """Every second from the first tick to the cursor exactly once, and everything else in order."""
    cluster.settle()
    cluster.stop_ticking()  # no new tick may come between looking at the cursor and looking at the rows
    runs = [event for _, event in cluster.tap.seen if ticked(graph)(event)]
    first, last = min(event.tick for event in runs), cluster.store.cursors()[graph]
    schedule = cluster.graphs[graph].schedule
    assert schedule is not None
    due = tuple(range(first, last + 1, 1000))
    evidence = cluster.judge(ticks={graph: due})
    assert len(due) > 3
    return evidence


@pytest.mark.parametrize("when", ["sent", pytest.param("replied", marks=sweep_only)])
def test_f14_the_leader_dies_at_any_message_and_a_standby_goes_on(
    own: Callable[..., Cluster], fault: Fault, when: str
) -> None:
    cluster = own(files=(TICKING,)).up(workers=1, schedulers=0)
    ks = list(range(1, 40))
    for k in ks if fault.full else cluster.random.sample(ks, 2):
        proxy = cluster.proxy()
        victim = cluster.scheduler(url=proxy.url)
        wait_for(lambda each=victim: cluster.leader_pid() == each.pid, "it to lead", 30)
        standby = cluster.scheduler()
        wait_for(lambda each=standby: each.said("standing by"), "the other to stand by", 30)
        trap = proxy.catch(victim.pid, k, when)
        victim.end(30)
        at, seen = time.monotonic(), len(cluster.tap.seen)
        assert trap.fired
        fault.mark(f"leader killed at message {k}, {when}")
        next_tick = cluster.tap.wait_for(ticked("tick"), "the next tick", 20, since=seen)
        fault.recovered("leader killed to next tick (lease 3 s)", next_tick - at, cluster.profile.leader * 1.2 + 1)
        end_all(cluster)
    cluster.up(workers=1, schedulers=1)
    judge_ticks(cluster)


def test_f14_with_the_real_lease_the_next_tick_comes_within_12_s(own: Callable[..., Cluster], fault: Fault) -> None:
    cluster = own(files=(TICKING,), profile=REAL_LEADER).up(workers=1, schedulers=2)
    for _ in range(fault.size(1, 3)):
        cluster.up(workers=1, schedulers=2)
        cluster.tap.wait_for(ticked("tick"), "a tick", since=len(cluster.tap.seen))
        leader = cluster.leader()
        leader.kill()
        at, seen = time.monotonic(), len(cluster.tap.seen)
        fault.mark(f"SIGKILL to the leader {leader.pid}")
        next_tick = cluster.tap.wait_for(ticked("tick"), "the next tick", 20, since=seen)
        fault.recovered("leader killed to next tick (lease 10 s)", next_tick - at, LEADER_KILLED)
    judge_ticks(cluster)


def test_f15_five_schedulers_at_once_and_restarts_make_each_tick_once(
    own: Callable[..., Cluster], fault: Fault
) -> None:
    cluster = own(files=(TICKING,))
    cluster.up(workers=1, schedulers=5)
    until = time.monotonic() + fault.size(6, 120)
    while time.monotonic() < until:
        victim = cluster.random.choice(cluster.living("scheduler"))
        if cluster.random.random() < 0.5:
            victim.kill()
        else:
            victim.signal(signal.SIGTERM)
        fault.mark(f"{victim} ended among five")
        cluster.scheduler()
        time.sleep(cluster.random.uniform(0.2, 1.5))
    cluster.leader()
    judge_ticks(cluster)


POLICIES = [
    (misfire, overlap)
    for misfire in ("latest", "all", "skip")
    for overlap in ("allow", "skip", "queue", "cancel_other")
]


def test_f16_after_an_absence_every_missed_tick_ran_or_says_why_not(
    own: Callable[..., Cluster], fault: Fault, tmp_path: Path
) -> None:
    """Ten minutes without a scheduler, by setting the cursors back; each misfire rule with each overlap rule."""
    file = tmp_path / "policies.py"
    lines = [HEAD]
    for misfire, overlap in POLICIES:
        name = f"{misfire}_{overlap}"
        lines.append(
            f"@task(name='t_{name}')\ndef t_{name}() -> Any:\n    return body(seconds=0.05)\n"
            f"g_{name} = Graph('{name}', schedule='*/30 * * * * *', misfire='{misfire}', overlap='{overlap}', "
            f"misfire_window=300)\ng_{name}.add_edges([t_{name}])\n"
        )
    file.write_text("\n".join(lines))
    cluster = own(files=(file,))
    now = cluster.store.server_ms()
    start = (now - 600_000) // 30_000 * 30_000
    for misfire, overlap in POLICIES:
        assert cluster.store.set_cursor_if_absent(f"{misfire}_{overlap}", start) == start
    fault.mark("cursors are ten minutes old")
    cluster.up(workers=2, schedulers=2)
    names = [f"{misfire}_{overlap}" for misfire, overlap in POLICIES]
    wait_for(lambda: min(cluster.store.cursors()[name] for name in names) > now - 30_000, "all to catch up", 30)
    wait_for(lambda: not cluster.store.held(), "held ticks to run", 30)
    wait_for(lambda: not cluster.store.open_runs(), "all runs to end", 60)
    end_all(cluster)
    cursors = cluster.store.cursors()
    cluster.scheduler()
    cluster.leader()
    cluster.settle()
    cluster.stop_ticking()  # the next tick must not begin while the server is looked at
    due = {name: tuple(range(start + 30_000, cursors[name] + 1, 30_000)) for name in names}
    evidence = cluster.evidence()
    later = {name: [t for t in ticks_of(evidence, name) if t > cursors[name]] for name in names}
    cluster.judge(ticks={name: (*due[name], *later[name]) for name in names})
    for misfire, overlap in POLICIES:
        rows = {run.tick: run for run in evidence.runs if run.graph == f"{misfire}_{overlap}"}
        missed = [rows[tick] for tick in due[f"{misfire}_{overlap}"] if now - tick > 15_000]
        too_old = [row for row in missed if now - row.tick > 310_000]
        assert {row.state for row in too_old} == {"skipped"}
        assert all("window" in row.reason for row in too_old)
        ran = [row for row in missed if row.state != "skipped"]
        if misfire == "skip":
            assert not ran
        elif misfire == "latest":
            assert len(ran) <= 1
        elif overlap == "allow":
            assert len(ran) >= 9


def test_f35_a_clock_change_gives_each_local_tick_once(
    own: Callable[..., Cluster], fault: Fault, tmp_path: Path
) -> None:
    """Real schedulers over changes of the clock that are in the past: the ticks between two cursors, caught up."""
    zones = {
        "berlin": ("Europe/Berlin", "30 2 * * *"),
        "lord_howe": ("Australia/Lord_Howe", "15 2 * * *"),
        "chatham": ("Pacific/Chatham", "45 2 * * *"),
        "kathmandu": ("Asia/Kathmandu", "0 12 * * *"),
    }
    file = tmp_path / "zones.py"
    lines = [HEAD]
    for name, (zone, cron) in zones.items():
        lines.append(
            f"@task(name='t_{name}')\ndef t_{name}() -> Any:\n    return body()\n"
            f"g_{name} = Graph('{name}', schedule='{cron}', timezone='{zone}', misfire='all', misfire_window=10**9)\n"
            f"g_{name}.add_edges([t_{name}])\n"
        )
    file.write_text("\n".join(lines))
    cluster = own(files=(file,))
    now = cluster.store.server_ms()
    start = now - 95 * 86_400_000  # misfire="all" runs a hundred at most
    for name in zones:
        cluster.store.set_cursor_if_absent(name, start)
    fault.mark("95 days missed")
    cluster.up(workers=2, schedulers=2)
    from datetime import UTC, datetime, timedelta

    due = {}
    for name in zones:
        graph = cluster.graphs[name]
        assert graph.schedule is not None
        since = datetime.fromtimestamp(start / 1000, UTC).astimezone(graph.timezone) + timedelta(milliseconds=1)
        due[name] = tuple(
            to_ms(each) for each in graph.schedule.between(since, datetime.fromtimestamp(now / 1000, UTC))
        )
        assert 93 <= len(due[name]) <= 96
    wait_for(lambda: all(cluster.store.cursors()[name] >= due[name][-1] for name in zones), "all to catch up", 30)
    wait_for(lambda: not cluster.store.open_runs(), "all runs to end", 60)
    cluster.settle()
    cluster.judge(ticks=due)


BROKEN: dict[str, bytes | None] = {
    "half written": b'{"rows": 1',
    "empty": b"",
    "no JSON": b"rows: 1",
    "not UTF-8": b"\xff\xfe{}",
    "too large": b" " * (2 << 20),
    "missing": None,
}


def test_f41_a_broken_config_fails_the_run_and_never_stops_the_clock(
    own: Callable[..., Cluster], fault: Fault, tmp_path: Path
) -> None:
    config, file = tmp_path / "config.json", tmp_path / "configured.py"
    file.write_text(
        HEAD
        + textwrap.dedent("""
            @task()
            def reads(config: Any) -> Any:
                body()
                return config["rows"]
            configured = Graph("configured", schedule="* * * * * *", config="./config.json", misfire="all")
            configured.add_edges([reads])
        """)
    )
    config.write_text(json.dumps({"rows": 1}))
    cluster = own(files=(file,))
    cluster.up(workers=1, schedulers=2)
    cluster.tap.wait_for(ticked("configured"), "a first tick")
    for kind in BROKEN if fault.full else cluster.random.sample(sorted(BROKEN), 3):
        content = BROKEN[kind]
        seen = len(cluster.tap.seen)
        if content is None:
            config.unlink()
        else:
            config.write_bytes(content)
        fault.mark(kind)
        broken = lambda event: ticked("configured")(event) and event.state == "failed"  # noqa: E731
        cluster.tap.wait_for(broken, f"a run that says what is wrong ({kind})", since=seen)
        event = next(event for _, event in cluster.tap.seen[seen:] if broken(event))
        assert "config file" in event.reason
        assert str(config) in event.reason
        config.write_text(json.dumps({"rows": 2}))
        seen = len(cluster.tap.seen)
        good = lambda event: ticked("configured")(event) and event.state == "queued"  # noqa: E731
        cluster.tap.wait_for(good, "the next tick to read it again", since=seen)
    judge_ticks(cluster, "configured")


def test_f42_a_retry_that_falls_due_while_everybody_is_away_comes_once(
    own: Callable[..., Cluster], fault: Fault
) -> None:
    cluster = own(persist=True, files=(GRAPHS,)).up(workers=2, schedulers=1)
    runs = [cluster.submit("flaky") for _ in range(5)]
    for run in runs:
        cluster.begun(run, "moody")
    wait_for(lambda: cluster.client.zcard(cluster.store.keys.retry), "a retry to wait")
    for each in cluster.processes:
        each.signal(signal.SIGKILL)
    for each in cluster.processes:
        each.end()
    cluster.server.stop()
    fault.mark("everybody is away while retries wait")
    time.sleep(1.0)  # the retries fall due meanwhile: 0.2 to 0.5 s
    cluster.server.start()
    cluster.up(workers=2, schedulers=2)
    at = time.monotonic()
    cluster.settle()
    fault.recovered("everybody back to all done", time.monotonic() - at, cluster.profile.bound)
    evidence = cluster.judge()
    assert {run.state for run in evidence.runs} == {"success"}
