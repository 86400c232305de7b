"""Dask distributed; the setting and its reason are in peer.toml."""

from __future__ import annotations

import os
import sys
import time

from benchmarks.peers import work
from benchmarks.peers.protocol import PATIENCE, Adapter, latencies, serve, wait_until


def bottom(left, right):
    return work.bottom(left, right)


def pid(_number):
    time.sleep(0.01)  # or one worker would do them all
    return os.getpid()


def now():
    return time.time()


class Peer(Adapter):
    name = "dask"

    def start(self, processes: int) -> None:
        from distributed import Client

        address = self.home / "scheduler.json"
        address.unlink(missing_ok=True)
        tool = (sys.executable, "-m", "distributed.cli.dask_scheduler")
        self.spawn(*tool, "--port", "0", "--no-dashboard", "--scheduler-file", address)
        wait_until(lambda: address.exists() and address.stat().st_size, "the scheduler", interval=0.05)
        for _ in range(processes):
            self.spawn(
                *(sys.executable, "-m", "distributed.cli.dask_worker", "--scheduler-file", address),
                *("--nthreads", "1", "--no-dashboard", "--no-nanny", "--local-directory", self.home),
                PYTHONPATH=f"{os.environ['PYTHONPATH']}{os.pathsep}{self.here}",
            )
        self.client = Client(scheduler_file=str(address), timeout=PATIENCE)
        self.client.wait_for_workers(processes, timeout=PATIENCE)

    def close(self) -> None:
        if hasattr(self, "client"):
            self.client.close()
            del self.client

    def _map(self, function, *items):
        return self.client.map(function, *items, pure=False)

    def pids(self, count: int) -> list[int]:
        return self.client.gather(self._map(pid, range(count)))

    def flat(self, size: int) -> None:
        with self.clock:
            got = self.client.gather(self._map(work.small, range(size)))
        work.check(got, [work.small(n) for n in range(size)], "flat")

    def single(self, size: int) -> None:
        with self.clock:
            got = self.client.gather([self.client.submit(work.small, n, pure=False) for n in range(size)])
        work.check(got, [work.small(n) for n in range(size)], "single")

    def _sequence(self, function, size: int, expected, *more) -> None:
        with self.clock:
            before = None
            for _ in range(size):
                before = self.client.submit(function, before, *more, pure=False)
            got = before.result(timeout=PATIENCE)
        work.check(got, expected, "sequence")

    def chain(self, size: int) -> None:
        self._sequence(work.hop, size, {"hop": size, "from": "chain"})

    def payload(self, size: int) -> None:
        self._sequence(work.load, size, f"{size:08d}{work.TEXT}")

    def light(self, size: int) -> None:
        self._sequence(work.step, size, {"step": size, "fib": 55}, 10)

    def long(self, size: int) -> None:
        self._sequence(work.step, size, {"step": size, "fib": 3524578}, 33)

    def fan(self, size: int) -> None:
        with self.clock:
            root = self.client.submit(work.root, pure=False)
            leaves = self._map(work.leaf, [root] * size, range(size))
            got = self.client.submit(work.collect, leaves, pure=False).result(timeout=PATIENCE)
        work.check(got, work.collected(size), "fan")

    def wide(self, size: int) -> None:
        self.fan(size - 2)

    def diamonds(self, size: int) -> None:
        with self.clock:
            tops = self._map(work.top, range(size))
            both = self._map(work.left, tops), self._map(work.right, tops)
            got = self.client.gather(self._map(bottom, *both))
        work.check(got, [work.diamond(n) for n in range(size)], "diamonds")

    def start_latency(self, size: int) -> None:
        self.samples += latencies(
            lambda: self.client.submit(now, pure=False), lambda future: future.result(timeout=PATIENCE), size
        )

    def inprocess(self, size: int) -> None:
        """Its synchronous scheduler, on a graph as a dict."""
        from dask.local import get_sync

        graph = {"t0": (work.hop, None)} | {f"t{n}": (work.hop, f"t{n - 1}") for n in range(1, size)}
        with self.clock:
            got = get_sync(graph, f"t{size - 1}")
        work.check(got, {"hop": size, "from": "chain"}, "in process")


if __name__ == "__main__":
    sys.modules["adapter"] = sys.modules["__main__"]
    for function in (bottom, pid, now):
        function.__module__ = "adapter"  # workers import it under this name instead of receiving its code
    serve(Peer)
