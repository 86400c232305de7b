"""Celery; the setting and its reason are in peer.toml."""

from __future__ import annotations

import sys

from benchmarks.peers import work
from benchmarks.peers.protocol import PATIENCE, Adapter, latencies, serve


class Peer(Adapter):
    name = "celery"

    def start(self, processes: int) -> None:
        import tasks

        self.t = tasks
        for number in range(processes):
            self.spawn(
                *(sys.executable, "-m", "celery", "-A", "tasks", "worker", "-P", "solo", "-n", f"w{number}@%h"),
                *("-l", "ERROR", "--without-gossip", "--without-mingle", "--without-heartbeat"),
            )

    def pids(self, count: int) -> list[int]:
        return [each.get(timeout=PATIENCE) for each in [self.t.pid.delay() for _ in range(count)]]

    def flat(self, size: int) -> None:
        from celery import group

        with self.clock:
            got = group(self.t.small.s(n) for n in range(size)).apply_async().get(timeout=PATIENCE)
        work.check(got, [work.small(n) for n in range(size)], "flat")

    def single(self, size: int) -> None:
        with self.clock:
            got = [each.get(timeout=PATIENCE) for each in [self.t.small.delay(n) for n in range(size)]]
        work.check(got, [work.small(n) for n in range(size)], "single")

    def _sequence(self, first, following, size: int, expected) -> None:
        from celery import chain

        with self.clock:
            got = chain(first, *(following for _ in range(size - 1))).apply_async().get(timeout=PATIENCE)
        work.check(got, expected, "sequence")

    def chain(self, size: int) -> None:
        self._sequence(self.t.hop.s(None), self.t.hop.s(), size, {"hop": size, "from": "chain"})

    def payload(self, size: int) -> None:
        self._sequence(self.t.load.s(None), self.t.load.s(), size, f"{size:08d}{work.TEXT}")

    def light(self, size: int) -> None:
        self._sequence(self.t.step.s(None, 10), self.t.step.s(10), size, {"step": size, "fib": 55})

    def long(self, size: int) -> None:
        self._sequence(self.t.step.s(None, 33), self.t.step.s(33), size, {"step": size, "fib": 3524578})

    def fan(self, size: int) -> None:
        from celery import chain, chord

        with self.clock:
            leaves = chord([self.t.leaf.s(n) for n in range(size)], self.t.collect.s())
            got = chain(self.t.root.s(), leaves).apply_async().get(timeout=PATIENCE)
        work.check(got, work.collected(size), "fan")

    def wide(self, size: int) -> None:
        self.fan(size - 2)

    def diamonds(self, size: int) -> None:
        from celery import chain, chord

        t = self.t
        with self.clock:
            sent = [
                chain(t.top.s(n), chord([t.left.s(), t.right.s()], t.bottom.s())).apply_async() for n in range(size)
            ]
            got = [each.get(timeout=PATIENCE) for each in sent]
        work.check(got, [work.diamond(n) for n in range(size)], "diamonds")

    def start_latency(self, size: int) -> None:
        self.samples += latencies(self.t.now.delay, lambda sent: sent.get(timeout=PATIENCE), size)


if __name__ == "__main__":
    serve(Peer)
