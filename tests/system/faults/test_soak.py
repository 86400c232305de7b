"""Everything at random, for as long as there is time (F46): TM_CHAOS_MINUTES, twenty seconds without it."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections import Counter
from typing import TYPE_CHECKING

import psutil
import pytest
import redis

from tests.rig.checker import repeats
from tests.rig.cluster import GRAPHS, TICKING, Cluster
from tests.rig.proxy import BLACK_HOLE, Rules
from tests.system.conftest import FIRST_SEED
from tests.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.rig.proxy import Proxy
    from tests.system.conftest import Fault

MINUTES = float(os.environ.get("TM_CHAOS_MINUTES", "0.3"))
pytestmark = [pytest.mark.slow, pytest.mark.timeout(int(MINUTES * 60) + 600)]
#: minutes the other seeds play at most: one long soak finds what is slow to come, short ones what is rare
SHORT_SOAK = 5.0
#: seconds the server may be away for a new run to go through after it came back
SERVER_BACK = 5.0


class Nemesis:
    """Breaks one thing after the other, and mends it where it does not mend itself."""

    def __init__(self, cluster: Cluster, fault: Fault) -> None:
        self.cluster, self.fault, self.random = cluster, fault, cluster.random
        self.proxy: Proxy = cluster.proxy()
        self.counts: Counter[str] = Counter()
        self.deeds = [
            self.kill_worker,
            self.stop_worker,
            self.kill_executor,
            self.freeze_worker,
            self.kill_leader,
            self.stop_leader,
            self.cut_connections,
            self.bad_network,
            self.flush_functions,
            self.freeze_server,
            self.kill_server,
            self.cancel_some,
        ]

    def strike(self) -> None:
        deed = self.random.choice(self.deeds)
        with contextlib.suppress(redis.exceptions.RedisError, psutil.Error):
            deed()
        self.counts[deed.__name__] += 1
        self.fault.mark(deed.__name__)

    def kill_worker(self) -> None:
        self.random.choice(self.cluster.living("worker")).kill()

    def stop_worker(self) -> None:
        victim = self.random.choice(self.cluster.living("worker"))
        victim.signal(signal.SIGTERM)
        victim.end(30)

    def kill_executor(self) -> None:
        victim = self.random.choice(self.cluster.living("worker"))
        executors = psutil.Process(victim.pid).children(recursive=True)[1:]
        if executors:
            self.random.choice(executors).kill()

    def freeze_worker(self) -> None:
        victim = self.random.choice(self.cluster.living("worker"))
        victim.signal(signal.SIGSTOP)
        time.sleep(self.random.uniform(0.5, self.cluster.profile.lease * 1.5))
        victim.signal(signal.SIGCONT)

    def kill_leader(self) -> None:
        self.cluster.leader().kill()

    def stop_leader(self) -> None:
        victim = self.cluster.leader()
        victim.signal(signal.SIGTERM)
        victim.end(30)  # or it counts as living, nobody takes its place, and the next deed looks for a leader in vain

    def cut_connections(self) -> None:
        with self.cluster.server.client() as client:
            client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")

    def bad_network(self) -> None:
        self.proxy.rules = self.random.choice(
            [BLACK_HOLE, Rules(cut=0.2), Rules(delay=(0.05, 0.3)), Rules(refuse=True)]
        )
        time.sleep(self.random.uniform(0.5, 3.0))
        self.proxy.rules = Rules()
        self.proxy.reset_all()

    def flush_functions(self) -> None:
        self.cluster.client.function_flush()

    def freeze_server(self) -> None:
        os.kill(self.cluster.server.pid, signal.SIGSTOP)
        time.sleep(self.random.uniform(0.2, 2.0))
        os.kill(self.cluster.server.pid, signal.SIGCONT)

    def kill_server(self) -> None:
        self.cluster.server.kill()
        time.sleep(self.random.uniform(0.0, 1.5))
        self.cluster.server.start()
        at = time.monotonic()
        while True:
            with contextlib.suppress(redis.exceptions.RedisError):
                run = self.cluster.submit("chain")
                break
        wait_for(lambda: self.cluster.state(run) == "success", "a new run to go through", 40)
        self.fault.recovered("server back to work done", time.monotonic() - at, 20.0)

    def cancel_some(self) -> None:
        for run in sorted(self.cluster.open_runs())[:2]:
            self.cluster.store.cancel(run, reason="nemesis")


def test_f46_under_random_faults_nothing_is_lost_doubled_or_stuck(own: Callable[..., Cluster], fault: Fault) -> None:
    cluster = own(persist=True, options={"appendfsync": "always"}, files=(GRAPHS, TICKING))
    nemesis = Nemesis(cluster, fault)
    cluster.up(workers=2, schedulers=2)
    cluster.worker(url=nemesis.proxy.url)
    minutes = MINUTES if fault.seed == FIRST_SEED else min(MINUTES, SHORT_SOAK)
    until = time.monotonic() + minutes * 60
    while time.monotonic() < until:
        with contextlib.suppress(redis.exceptions.RedisError):
            cluster.load(4, graphs=("chain", "diamond", "flaky", "bad", "fan"), pace=0.03)
        time.sleep(cluster.random.uniform(0.5, 2.5))
        nemesis.strike()
        missing = 3 - len(cluster.living("worker"))
        for number in range(missing):
            cluster.worker(url=nemesis.proxy.url if number == 0 and cluster.random.random() < 0.4 else None, wait=False)
        for _ in range(2 - len(cluster.living("scheduler"))):
            cluster.scheduler()
    cluster.up(workers=3, schedulers=2)
    fault.minutes = minutes
    fault.recovered("faults over to all runs ended (I9)", cluster.settle(), cluster.profile.bound + 20)
    cluster.stop_ticking()
    evidence = cluster.judge()
    ticks = sorted(run.tick for run in evidence.runs if run.graph == "tick" and run.tick is not None)
    assert ticks == list(range(ticks[0], ticks[-1] + 1000, 1000)), "a tick is missing"
    print(
        f"{len(evidence.submitted)} runs, {len(ticks)} ticks, {repeats(evidence)} bodies again, {dict(nemesis.counts)}"
    )
