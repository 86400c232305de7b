"""What the server functions cost: `Store` is driven directly, with no worker processes.

Run `python benchmarks/store.py` (about half a minute), `--quick`, or with names of rows: `python benchmarks/store.py
flat`. A private server is started, with its append-only file on as in production (`--no-aof` leaves it out). One
client plays all workers, so the wall clock is that of one busy supervisor; what the server could do is told by its own
accounting (`INFO commandstats`, `INFO cpu`).

For each row: tasks per second as seen by the client; round trips and server-side commands per task; microseconds
the server spent in our functions per task, and the tasks per second that would make; its whole CPU time per task; and
the longest single call in ms.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import redis

from tm.embedded import EmbeddedServer
from tm.records import Plan, TaskPlan
from tm.states import Outcome
from tm.store import Store
from tm.store.records import Ask, Claim, NewRun, Report

if TYPE_CHECKING:
    from collections.abc import Callable

LEASE = 30_000
WORKER = "bench"
VALUE = b"\x81\xa1n\x2a"  # {"n": 42}
versions = itertools.count(1)


def plan(parents: list[tuple[int, ...]]) -> Plan:
    """A plan from the parents of each node."""
    children: list[list[int]] = [[] for _ in parents]
    for node, above in enumerate(parents):
        for parent in above:
            children[parent].append(node)
    return Plan(
        graph="bench",
        version=f"bench{next(versions)}",
        tasks=tuple(
            TaskPlan(name=f"task{node}", parents=above, children=tuple(children[node]))
            for node, above in enumerate(parents)
        ),
    )


FLAT: list[tuple[int, ...]] = [()]
CHAIN: list[tuple[int, ...]] = [(), *((node,) for node in range(99))]
DIAMOND: list[tuple[int, ...]] = [(), (0,), (0,), (1, 2)]


def fan(width: int) -> list[tuple[int, ...]]:
    return [(), *([(0,)] * width), tuple(range(1, width + 1))]


class Driver:
    """Plays a worker: takes, finishes, and counts."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.calls = 0
        self._tokens = itertools.count(1)
        store.announce(WORKER, ["bench"], {"host": "here"}, 10**9)

    def ask(self, count: int) -> Ask:
        self.calls += 1
        token = f"{next(self._tokens):016x}"
        return Ask(worker=WORKER, lease_ms=LEASE, token=token, queues=("default",), count=count)

    def start(self, shape: Plan, runs: int) -> None:
        ids = [NewRun(id=f"{shape.version}-{number}") for number in range(runs)]
        for first in range(0, runs, 1000):
            self.store.start(shape, ids[first : first + 1000])
        self.calls += -(-runs // 1000)

    def work(self, batch: int) -> int:
        """Until nothing is queued; returns how many attempts were finished."""
        store, done = self.store, 0
        claims: list[Claim] = store.take(self.ask(batch)).claims
        while claims:
            reports = [Report(claim.job, claim.token, Outcome.SUCCESS, VALUE, ms=1) for claim in claims]
            done += len(reports)
            claims = store.finish(self.ask(batch), reports)[1].claims
        return done


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table."""

    name: str
    shape: list[tuple[int, ...]]
    runs: int
    batch: int
    started_apart: bool = True  #: starting is not part of what is measured


ROWS = [
    Row("flat, batch 1", FLAT, 10_000, 1),
    Row("flat, batch 8", FLAT, 10_000, 8),
    Row("flat, batch 32", FLAT, 10_000, 32),
    Row("flat, batch 32, with start", FLAT, 10_000, 32, started_apart=False),
    Row("chain of 100, batch 1", CHAIN, 50, 1),
    Row("diamond, batch 1", DIAMOND, 1000, 1),
    Row("diamond, batch 32", DIAMOND, 2500, 32),
    Row("fan 1-1000-1, batch 32", fan(1000), 5, 32),
    Row("fan 1-10000-1, batch 32", fan(10_000), 1, 32),
]


def measure(client: Any, store: Store, row: Row, quick: bool) -> dict[str, float]:
    shape = plan(row.shape)
    runs = max(1, row.runs // 10) if quick else row.runs
    client.flushall()
    driver = Driver(store)
    store.define(shape)
    if row.started_apart:
        driver.start(shape, runs)
        driver.calls = 0
    client.config_resetstat()
    client.latency_reset()
    before, began = client.info("cpu"), time.perf_counter()
    if not row.started_apart:
        driver.start(shape, runs)
    tasks = driver.work(row.batch)
    seconds = time.perf_counter() - began
    after, stats = client.info("cpu"), client.info("commandstats")
    assert tasks == runs * len(row.shape), f"{tasks} tasks were done of {runs * len(row.shape)}"
    fcall = stats.pop("cmdstat_fcall")
    inner = sum(each["calls"] for name, each in stats.items() if name not in OURS)
    cpu = sum(after[key] - before[key] for key in ("used_cpu_user_main_thread", "used_cpu_sys_main_thread"))
    slow = client.slowlog_get(100_000)
    client.slowlog_reset()
    return {
        "tasks": tasks,
        "tasks/s": tasks / seconds,
        "trips": driver.calls / tasks,
        "commands": inner / tasks,
        "fcall us": fcall["usec"] / tasks,
        "capacity": 1e6 * tasks / fcall["usec"],
        "cpu us": 1e6 * cpu / tasks,
        "longest ms": max((each["duration"] for each in slow), default=0) / 1000,
    }


OURS = {"cmdstat_config|resetstat", "cmdstat_info", "cmdstat_latency|reset", "cmdstat_slowlog|get"}


def profile(client: Any) -> None:
    """Where the last row's time went, by command."""
    stats = client.info("commandstats")
    for name, each in sorted(stats.items(), key=lambda pair: -pair[1]["usec"]):
        if each["calls"] > 10:
            print(
                f"    {name[8:]:20} {each['calls']:>9,} calls {each['usec']:>10,} us {each['usec_per_call']:>8} us each"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*", help="only rows whose name contains one of these")
    parser.add_argument("--quick", action="store_true", help="a tenth of the work")
    parser.add_argument("--no-aof", action="store_true", help="without the append-only file")
    parser.add_argument("--profile", action="store_true", help="also show the server's commands of each row")
    parser.add_argument("--rounds", type=int, default=3, help="the best of so many rounds is shown")
    options = parser.parse_args()
    rows = [row for row in ROWS if not options.rows or any(part in row.name for part in options.rows)]
    with tempfile.TemporaryDirectory(prefix="tmbench-") as home, EmbeddedServer(Path(home)) as server:
        client: Any = redis.Redis.from_url(server.url)
        if options.no_aof:
            client.config_set("appendonly", "no")
        client.config_set("slowlog-log-slower-than", 1000)
        client.config_set("slowlog-max-len", 100_000)
        version = client.info("server")
        print(f"{version.get('server_name', 'redis')} {version.get('valkey_version', version['redis_version'])}")
        head = ("tasks", "tasks/s", "trips", "commands", "fcall us", "capacity", "cpu us", "longest ms")
        print(f"{'':28}" + "".join(f"{name:>12}" for name in head))
        for row in rows:
            store = Store(client)
            rounds = [measure(client, store, row, options.quick) for _ in range(1 if options.quick else options.rounds)]
            best = min(rounds, key=lambda each: each["fcall us"])
            print(f"{row.name:28}" + "".join(FORMATS[name](best[name]) for name in head), flush=True)
            if options.profile:
                profile(client)


FORMATS: dict[str, Callable[[float], str]] = {
    "tasks": lambda value: f"{value:>12,.0f}",
    "tasks/s": lambda value: f"{value:>12,.0f}",
    "trips": lambda value: f"{value:>12.3f}",
    "commands": lambda value: f"{value:>12.1f}",
    "fcall us": lambda value: f"{value:>12.1f}",
    "capacity": lambda value: f"{value:>12,.0f}",
    "cpu us": lambda value: f"{value:>12.1f}",
    "longest ms": lambda value: f"{value:>12.2f}",
}

if __name__ == "__main__":
    main()
