"""Taskmaster itself: real `tm-worker` processes, `Graph.submit_many`, handles.

Layout: BENCH_LAYOUT=1x2 (default) is one supervisor with two executors, 2x1 two supervisors with one each.
"""

from __future__ import annotations

import os
import sys
import time
from typing import Any

from benchmarks.peers import work
from benchmarks.peers.protocol import PATIENCE, Adapter, latencies, serve

#: seconds; a scheduler that starts later than this before a full minute might miss it
SCHEDULER_STARTS_IN = 12.0


class Ours(Adapter):
    name = "ours"

    def start(self, processes: int) -> None:
        os.environ.update(TM_URL=self.url, TM_HOME=str(self.home))
        supervisors, executors = (1, processes) if os.environ.get("BENCH_LAYOUT", "1x2") == "1x2" else (processes, 1)
        for number in range(supervisors):
            self.spawn(
                sys.executable,
                "-m",
                "tm_worker",
                "graphs.py",
                f"--processes={executors}",
                f"--name=w{number}",
                "--log-level=warning",
                TM_URL=self.url,
                TM_HOME=str(self.home),
            )
        import graphs

        self.graphs = graphs

    def pids(self, count: int) -> list[int]:
        return self._values(self.graphs.pids.submit_many([{}] * count))

    def _values(self, handles: list[Any]) -> list[Any]:
        """All results, in the order of the handles."""
        import tm

        return tm.results(handles, PATIENCE)

    def flat(self, size: int) -> None:
        with self.clock:
            got = self._values(self.graphs.flat.submit_many([{"number": number} for number in range(size)]))
        work.check(got, [work.small(number) for number in range(size)], "flat")

    def single(self, size: int) -> None:
        with self.clock:
            got = self._values([self.graphs.flat.submit(number=number) for number in range(size)])
        work.check(got, [work.small(number) for number in range(size)], "flat, one by one")

    def diamonds(self, size: int) -> None:
        with self.clock:
            got = self._values(self.graphs.diamonds.submit_many([{"number": number} for number in range(size)]))
        work.check(got, [work.diamond(number) for number in range(size)], "diamonds")

    def _one(self, name: str, size: int, expected: Any) -> None:
        graph = getattr(self.graphs, name)
        wanted = size if len(graph.plan.tasks) in {size, size + 2} else 0
        work.check(wanted, size, f"size of the graph {name}")
        with self.clock:
            got = graph.submit().result(PATIENCE)
        work.check(got, expected, name)

    def chain(self, size: int) -> None:
        self._one("chain", size, {"hop": size, "from": "chain"})

    def fan(self, size: int) -> None:
        self._one("fan", size, work.collected(size))

    def wide(self, size: int) -> None:
        self._one("wide", size, work.collected(size - 2))

    def payload(self, size: int) -> None:
        self._one("payload", size, f"{size:08d}{work.TEXT}")

    def light(self, size: int) -> None:
        self._one("light", size, {"step": size, "fib": 55})

    def long(self, size: int) -> None:
        self._one("long", size, {"step": size, "fib": 3524578})

    def start_latency(self, size: int) -> None:
        graph = self.graphs.start
        self.samples += latencies(graph.submit, lambda handle: handle.result(PATIENCE), size)

    def tick(self, size: int) -> None:
        """Lags of graphs that are due at the next full minute, each until its run is queued, in seconds."""
        import redis

        from tm.store.keys import Keys

        keys, client = Keys("default"), redis.Redis.from_url(self.url)
        before = len(self.workers)
        if time.time() % 60 > 60 - SCHEDULER_STARTS_IN:
            time.sleep(SCHEDULER_STARTS_IN)
        due = (int(time.time()) // 60 + 1) * 60
        self.spawn(
            *(sys.executable, "-m", "tm_scheduler", "ticks.py", "--log-level=warning"),
            BENCH_TICKS=str(size),
            TM_URL=self.url,
            TM_HOME=str(self.home),
            TM_TZ="UTC",
        )
        with self.clock:
            time.sleep(due + 3 - time.time())
        scheduler = self.workers.pop(before)
        scheduler.terminate()
        scheduler.wait()
        runs = [key.decode() for key in client.scan_iter(f"{keys.prefix}run:tick*", count=1000)]
        pipeline = client.pipeline(transaction=False)
        for run in runs:
            pipeline.hmget(run, "tick", "created", "state")
        found = pipeline.execute()
        work.check(sorted({int(tick) for tick, _, _ in found}), [due * 1000], "instants of the ticks")
        work.check(len(runs), size, "runs queued by ticks")
        self.samples += [(int(created) - int(tick)) / 1000 for tick, created, _ in found]

    def inprocess(self, size: int) -> None:
        """`graph()` in this process, without a server."""
        import graphs

        work.check(len(graphs.inprocess.plan.tasks), size, "size of the graph")
        with self.clock:
            got = graphs.inprocess()
        work.check(got, {"hop": size, "from": "chain"}, "in process")


if __name__ == "__main__":
    serve(Ours)
