"""taskiq; the setting and its reason are in peer.toml."""

from __future__ import annotations

import asyncio
import sys
import time

import uvloop

from benchmarks.peers import work
from benchmarks.peers.protocol import PATIENCE, Adapter, serve

AT_ONCE = 64
LOOK_EVERY = 0.001


async def at_once(calls):
    """Results of awaitables, so many at a time, in order."""
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(call):
        async with gate:
            return await call

    return await asyncio.gather(*map(one, calls))


class Peer(Adapter):
    name = "taskiq"

    def start(self, processes: int) -> None:
        import tasks

        self.t = tasks
        self.runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
        self.runner.run(tasks.broker.startup())
        self.spawn(
            *(sys.executable, "-m", "taskiq", "worker", "tasks:broker", "--workers", str(processes)),
            *("--log-level", "ERROR", "--no-parse", "--max-async-tasks", "100"),
        )

    def close(self) -> None:
        if hasattr(self, "runner"):
            self.runner.run(self.t.broker.shutdown())
            self.runner.close()
            del self.runner

    async def _value(self, sent):
        return (await sent.wait_result(check_interval=LOOK_EVERY, timeout=PATIENCE)).return_value

    async def _pids(self, count):
        sent = [await self.t.pid.kiq() for _ in range(8 * count)]
        return await at_once(map(self._value, sent))

    def pids(self, count: int) -> list[int]:
        return self.runner.run(self._pids(count))

    async def _flat(self, size, bulk):
        kicks = (self.t.small.kiq(n) for n in range(size))
        sent = await at_once(kicks) if bulk else [await kick for kick in kicks]
        return await at_once(map(self._value, sent))

    def flat(self, size: int, bulk: bool = True) -> None:
        with self.clock:
            got = self.runner.run(self._flat(size, bulk))
        work.check(got, [work.small(n) for n in range(size)], "flat")

    def single(self, size: int) -> None:
        self.flat(size, bulk=False)

    async def _pipeline(self, line, *args):
        return await self._value(await line.kiq(*args))

    def _sequence(self, task, hops: int, expected, *first, **more) -> None:
        from taskiq_pipelines import Pipeline

        with self.clock:
            line = Pipeline(self.t.broker, task)
            for _ in range(hops - 1):
                line.call_next(task, param_name="before", **more)
            got = self.runner.run(self._pipeline(line, *first))
        work.check(got, expected, "sequence")

    def chain(self, size: int) -> None:
        self._sequence(self.t.hop, size, {"hop": size, "from": "chain"}, None)

    def payload(self, size: int) -> None:
        self._sequence(self.t.load, size, f"{size:08d}{work.TEXT}", None)

    def light(self, size: int) -> None:
        self._sequence(self.t.step, size, {"step": size, "fib": 55}, None, 10, size=10)

    def long(self, size: int) -> None:
        self._sequence(self.t.step, size, {"step": size, "fib": 3524578}, None, 33, size=33)

    def fan(self, size: int) -> None:
        from taskiq_pipelines import Pipeline

        with self.clock:
            line = (
                Pipeline(self.t.broker, self.t.root)
                .map(self.t.leaf, skip_errors=False, check_interval=0.01)
                .call_next(self.t.collect)
            )
            got = self.runner.run(self._pipeline(line, size))
        work.check(got, work.collected(size), "fan")

    def wide(self, size: int) -> None:
        self.fan(size - 2)

    async def _latencies(self, size):
        found = []
        for _ in range(size):
            await asyncio.sleep(0.01)
            began = time.time()
            found.append(await self._value(await self.t.now.kiq()) - began)
        return found

    def start_latency(self, size: int) -> None:
        self.samples += self.runner.run(self._latencies(size))


if __name__ == "__main__":
    serve(Peer)
