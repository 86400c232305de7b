"""RQ; the setting and its reason are in peer.toml."""

from __future__ import annotations

from benchmarks.peers import work
from benchmarks.peers.protocol import Adapter, latencies, serve

#: seconds; with two workers RQ 3.0 sometimes leaves a job "ready_to_enqueue" for ever, and there is no use in waiting
PATIENCE = 8


class Peer(Adapter):
    name = "rq"

    def start(self, processes: int) -> None:
        import redis
        import rq
        import tasks

        self.t = tasks
        self.queue = rq.Queue("bench", connection=redis.Redis.from_url(self.url, socket_timeout=None))
        for _ in range(processes):
            self.spawn(
                *(self.tool("rq"), "worker", "bench", "-u", self.url, "-w", "rq.worker.SimpleWorker", "-P", self.here),
                *("--quiet", "--disable-job-desc-logging"),
            )

    def _values(self, jobs: list) -> list:
        found = []
        for job in jobs:
            result = job.latest_result(timeout=PATIENCE)
            if result is None or result.type != result.Type.SUCCESSFUL:
                state = job.get_status(refresh=True).value
                raise RuntimeError(f"a job has no result after {PATIENCE} s, its state is {state}")
            found.append(result.return_value)
        return found

    def pids(self, count: int) -> list[int]:
        return self._values([self.queue.enqueue(self.t.pid) for _ in range(count)])

    def flat(self, size: int) -> None:
        with self.clock:
            jobs = self.queue.enqueue_many([self.queue.prepare_data(self.t.small, (n,)) for n in range(size)])
            got = self._values(jobs)
        work.check(got, [work.small(n) for n in range(size)], "flat")

    def single(self, size: int) -> None:
        with self.clock:
            got = self._values([self.queue.enqueue(self.t.small, n) for n in range(size)])
        work.check(got, [work.small(n) for n in range(size)], "single")

    def _sequence(self, function, size: int, expected, *args) -> None:
        with self.clock:
            job = None
            for _ in range(size):
                job = self.queue.enqueue(function, args=args, depends_on=job)
            got = self._values([job])[0]
        work.check(got, expected, "sequence")

    def chain(self, size: int) -> None:
        self._sequence(self.t.hop, size, {"hop": size, "from": "chain"})

    def payload(self, size: int) -> None:
        self._sequence(self.t.load, size, f"{size:08d}{work.TEXT}")

    def light(self, size: int) -> None:
        self._sequence(self.t.step, size, {"step": size, "fib": 55}, 10)

    def long(self, size: int) -> None:
        self._sequence(self.t.step, size, {"step": size, "fib": 3524578}, 33)

    def fan(self, size: int) -> None:
        with self.clock:
            root = self.queue.enqueue(self.t.root)
            leaves = [self.queue.enqueue(self.t.leaf, n, depends_on=root) for n in range(size)]
            got = self._values([self.queue.enqueue(self.t.collect, depends_on=leaves)])[0]
        work.check(got, work.collected(size), "fan")

    def wide(self, size: int) -> None:
        self.fan(size - 2)

    def diamonds(self, size: int) -> None:
        add = self.queue.enqueue
        with self.clock:
            last = []
            for n in range(size):
                top = add(self.t.top, n)
                middle = [add(self.t.left, depends_on=top), add(self.t.right, depends_on=top)]
                last.append(add(self.t.bottom, depends_on=middle))
            got = self._values(last)
        work.check(got, [work.diamond(n) for n in range(size)], "diamonds")

    def start_latency(self, size: int) -> None:
        self.samples += latencies(lambda: self.queue.enqueue(self.t.now), lambda job: self._values([job])[0], size)


if __name__ == "__main__":
    serve(Peer)
