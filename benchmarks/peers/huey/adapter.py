"""Huey; the setting and its reason are in peer.toml."""

from __future__ import annotations

from benchmarks.peers import work
from benchmarks.peers.protocol import PATIENCE, Adapter, latencies, serve


class Peer(Adapter):
    name = "huey"

    def start(self, processes: int) -> None:
        import tasks

        self.t = tasks
        for _ in range(processes):
            self.spawn(self.tool("huey_consumer"), "tasks.huey", "-w", "4", "-k", "thread", "-n", "-q", "-g", "TERM")

    def pids(self, count: int) -> list[int]:
        return [each.get(blocking=True, timeout=PATIENCE) for each in [self.t.pid() for _ in range(4 * count)]]

    def flat(self, size: int) -> None:
        with self.clock:
            got = [each.get(blocking=True, timeout=PATIENCE) for each in [self.t.small(n) for n in range(size)]]
        work.check(got, [work.small(n) for n in range(size)], "flat")

    single = flat

    def _sequence(self, first, following, size: int, expected) -> None:
        with self.clock:
            tasks = first
            last = first
            for _ in range(size - 1):
                task = following()
                last.on_complete = task  # what .then does, without its walk to the end
                last = task
            got = self.t.huey.enqueue(tasks)[-1]  # indexing blocks
        work.check(got, expected, "sequence")

    def chain(self, size: int) -> None:
        self._sequence(self.t.hop.s(), self.t.hop.s, size, {"hop": size, "from": "chain"})

    def payload(self, size: int) -> None:
        self._sequence(self.t.load.s(None), self.t.load.s, size, f"{size:08d}{work.TEXT}")

    def light(self, size: int) -> None:
        self._sequence(self.t.step.s(10), lambda: self.t.step.s(10), size, {"step": size, "fib": 55})

    def long(self, size: int) -> None:
        self._sequence(self.t.step.s(33), lambda: self.t.step.s(33), size, {"step": size, "fib": 3524578})

    def fan(self, size: int) -> None:
        from huey.api import chord

        with self.clock:
            above = self.t.root().get(blocking=True, timeout=PATIENCE)
            leaves = chord([self.t.leaf.s(above, n) for n in range(size)], self.t.collect.s())
            got = self.t.huey.enqueue(leaves).callback.get(blocking=True, timeout=PATIENCE)
        work.check(got, work.collected(size), "fan")

    def wide(self, size: int) -> None:
        self.fan(size - 2)

    def diamonds(self, size: int) -> None:
        from huey.api import chord

        t = self.t
        with self.clock:
            tops = [t.top(n) for n in range(size)]
            sent = []
            for each in tops:
                above = each.get(blocking=True, timeout=PATIENCE)
                sent.append(t.huey.enqueue(chord([t.left.s(above), t.right.s(above)], t.bottom.s())))
            got = [each.callback.get(blocking=True, timeout=PATIENCE) for each in sent]
        work.check(got, [work.diamond(n) for n in range(size)], "diamonds")

    def start_latency(self, size: int) -> None:
        self.samples += latencies(self.t.now, lambda sent: sent.get(blocking=True, timeout=PATIENCE), size)


if __name__ == "__main__":
    serve(Peer)
