"""Dramatiq; the setting and its reason are in peer.toml."""

from __future__ import annotations

import sys

from benchmarks.peers import work
from benchmarks.peers.protocol import PATIENCE, Adapter, latencies, serve

MS = int(PATIENCE * 1000)


class Peer(Adapter):
    name = "dramatiq"

    def start(self, processes: int) -> None:
        import tasks

        self.t = tasks
        self.spawn(sys.executable, "-m", "dramatiq", "tasks", "-p", str(processes), "-t", "4", "--skip-logging")

    def pids(self, count: int) -> list[int]:
        return [each.get_result(block=True, timeout=MS) for each in [self.t.pid.send() for _ in range(4 * count)]]

    def flat(self, size: int) -> None:
        with self.clock:
            sent = [self.t.small.send(n) for n in range(size)]
            got = [each.get_result(block=True, timeout=MS) for each in sent]
        work.check(got, [work.small(n) for n in range(size)], "flat")

    single = flat

    def _sequence(self, first, following, size: int, expected) -> None:
        import dramatiq

        with self.clock:
            line = dramatiq.pipeline([first, *(following() for _ in range(size - 1))]).run()
            got = line.get_result(block=True, timeout=MS)
        work.check(got, expected, "sequence")

    def chain(self, size: int) -> None:
        self._sequence(self.t.hop.message(None), self.t.hop.message, size, {"hop": size, "from": "chain"})

    def payload(self, size: int) -> None:
        self._sequence(self.t.load.message(None), self.t.load.message, size, f"{size:08d}{work.TEXT}")

    def light(self, size: int) -> None:
        step = self.t.step.message
        self._sequence(step(10, None), lambda: step(10), size, {"step": size, "fib": 55})

    def long(self, size: int) -> None:
        step = self.t.step.message
        self._sequence(step(33, None), lambda: step(33), size, {"step": size, "fib": 3524578})

    def start_latency(self, size: int) -> None:
        self.samples += latencies(self.t.now.send, lambda sent: sent.get_result(block=True, timeout=MS), size)


if __name__ == "__main__":
    serve(Peer)
