"""Prefect; the setting and its reason are in peer.toml."""

from __future__ import annotations

import os
import socket
import time
import urllib.request

from benchmarks.peers import work
from benchmarks.peers.protocol import PATIENCE, Adapter, serve, wait_until

with socket.socket() as probe:
    probe.bind(("127.0.0.1", 0))
    PORT = probe.getsockname()[1]
API = f"http://127.0.0.1:{PORT}/api"
os.environ.update(
    PREFECT_HOME=os.environ["BENCH_HOME"],
    PREFECT_API_URL=API,
    PREFECT_LOGGING_LEVEL="CRITICAL",
    PREFECT_LOGGING_TO_API_ENABLED="false",
    PREFECT_SERVER_ANALYTICS_ENABLED="false",
    DO_NOT_TRACK="1",
    PREFECT_SERVER_LOGGING_LEVEL="CRITICAL",
)


def _alive() -> bool:
    try:
        with urllib.request.urlopen(f"{API}/health", timeout=1) as answer:
            return answer.status == 200
    except OSError:
        return False


class Peer(Adapter):
    name = "prefect"

    def start(self, processes: int) -> None:
        self.spawn(self.tool("prefect"), "server", "start", "--no-ui", "--host", "127.0.0.1", "--port", str(PORT))
        wait_until(_alive, "the API server", interval=0.1)
        from prefect import flow, task
        from prefect.cache_policies import NO_CACHE
        from prefect.task_runners import ThreadPoolTaskRunner

        def make(function, name):
            return task(name=name, cache_policy=NO_CACHE)(function)

        self.flow = flow(task_runner=ThreadPoolTaskRunner(max_workers=processes), log_prints=False)
        self.small, self.hop, self.load = make(work.small, "small"), make(work.hop, "hop"), make(work.load, "load")
        self.step, self.root, self.leaf = make(work.step, "step"), make(work.root, "root"), make(work.leaf, "leaf")
        self.collect, self.top = make(work.collect, "collect"), make(work.top, "top")
        self.left, self.right = make(work.left, "left"), make(work.right, "right")
        self.bottom, self.now = make(work.bottom, "bottom"), make(lambda: time.time(), "now")  # noqa: PLW0108

    def pids(self, count: int) -> list[int]:
        @self.flow
        def warm():
            return [each.result() for each in [self.small.submit(n) for n in range(2)]]

        warm()
        return list(range(count))  # its workers are threads

    def _run(self, body):
        run = self.flow(body)
        with self.clock:
            return run()

    def flat(self, size: int) -> None:
        def flat():
            return self.small.map(list(range(size))).result(timeout=PATIENCE)

        work.check(self._run(flat), [work.small(n) for n in range(size)], "flat")

    def single(self, size: int) -> None:
        def single():
            return [each.result(timeout=PATIENCE) for each in [self.small.submit(n) for n in range(size)]]

        work.check(self._run(single), [work.small(n) for n in range(size)], "single")

    def _sequence(self, function, size: int, expected, *more) -> None:
        def sequence():
            before = None
            for _ in range(size):
                before = function(before, *more)
            return before

        work.check(self._run(sequence), expected, "sequence")

    def chain(self, size: int) -> None:
        self._sequence(self.hop, size, {"hop": size, "from": "chain"})

    def payload(self, size: int) -> None:
        self._sequence(self.load, size, f"{size:08d}{work.TEXT}")

    def light(self, size: int) -> None:
        self._sequence(self.step, size, {"step": size, "fib": 55}, 10)

    def long(self, size: int) -> None:
        self._sequence(self.step, size, {"step": size, "fib": 3524578}, 33)

    def fan(self, size: int) -> None:
        def fan():
            above = self.root.submit()
            return self.collect.submit([self.leaf.submit(above, n) for n in range(size)]).result(timeout=PATIENCE)

        work.check(self._run(fan), work.collected(size), "fan")

    def wide(self, size: int) -> None:
        self.fan(size - 2)

    def diamonds(self, size: int) -> None:
        def diamonds():
            tops = [self.top.submit(n) for n in range(size)]
            both = [(self.left.submit(each), self.right.submit(each)) for each in tops]
            return [each.result(timeout=PATIENCE) for each in [self.bottom.submit(one, other) for one, other in both]]

        work.check(self._run(diamonds), [work.diamond(n) for n in range(size)], "diamonds")

    def start_latency(self, size: int) -> None:
        def latencies():
            for _ in range(size):
                time.sleep(0.01)
                began = time.time()
                self.samples.append(self.now.submit().result(timeout=PATIENCE) - began)

        self._run(latencies)


if __name__ == "__main__":
    serve(Peer)
