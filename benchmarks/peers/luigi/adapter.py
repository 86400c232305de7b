"""Luigi; the setting and its reason are in peer.toml."""

from __future__ import annotations

import itertools
import json
import logging
import os
import shutil
import warnings
from pathlib import Path

import luigi

from benchmarks.peers import work
from benchmarks.peers.protocol import Adapter, serve

warnings.filterwarnings("ignore")
logging.getLogger("luigi-interface").setLevel(logging.CRITICAL)
logging.getLogger("luigi").setLevel(logging.CRITICAL)
STORE: dict[str, object] = {}


class Entry(luigi.Target):
    """A value in a dict."""

    def __init__(self, name: str) -> None:
        self.name = name

    def exists(self) -> bool:
        return self.name in STORE

    def read(self):
        return STORE[self.name]

    def write(self, value) -> None:
        STORE[self.name] = value


class File(luigi.LocalTarget):
    """A value in a JSON file."""

    def read(self):
        with self.open() as file:
            return json.load(file)

    def write(self, value) -> None:
        with self.open("w") as file:
            json.dump(value, file)


class Step(luigi.Task):
    """A task by name and numbers; `BODIES` says what it needs and does."""

    kind = luigi.Parameter()
    run_id = luigi.IntParameter()
    n = luigi.IntParameter(default=0)
    size = luigi.IntParameter(default=0)

    def requires(self):
        return [Step(kind=kind, run_id=self.run_id, n=n, size=self.size) for kind, n in BODIES[self.kind][0](self)]

    def output(self):
        name = f"{self.kind}-{self.run_id}-{self.n}"
        return Entry(name) if self.kind == "memory" else File(str(Path(os.environ["BENCH_HOME"]) / "out" / name))

    def run(self):
        self.output().write(BODIES[self.kind][1](self, [each.read() for each in self.input()]))


def previous(kind):
    return lambda self: [(kind, self.n - 1)] if self.n else []


def nothing(_self):
    return []


BODIES = {
    "small": (nothing, lambda self, _: work.small(self.n)),
    "hop": (previous("hop"), lambda _, got: work.hop(got[0] if got else None)),
    "memory": (previous("memory"), lambda _, got: work.hop(got[0] if got else None)),
    "load": (previous("load"), lambda _, got: work.load(got[0] if got else None)),
    "step": (previous("step"), lambda self, got: work.step(got[0] if got else None, self.size)),
    "root": (nothing, lambda *_: work.root()),
    "leaf": (lambda _: [("root", 0)], lambda self, got: work.leaf(got[0], self.n)),
    "collect": (lambda self: [("leaf", n) for n in range(self.size)], lambda _, got: work.collect(got)),
    "top": (nothing, lambda self, _: work.top(self.n)),
    "left": (lambda self: [("top", self.n)], lambda _, got: work.left(got[0])),
    "right": (lambda self: [("top", self.n)], lambda _, got: work.right(got[0])),
    "bottom": (lambda self: [("left", self.n), ("right", self.n)], lambda _, got: work.bottom(*got)),
}


class Peer(Adapter):
    name = "luigi"
    runs = itertools.count(1)

    def pids(self, count: int) -> list[int]:
        return list(range(count))  # there are no workers to wait for

    def stop(self) -> None:
        shutil.rmtree(self.home / "out", ignore_errors=True)

    def _build(self, tasks: list[Step]) -> list:
        if not luigi.build(tasks, local_scheduler=True, workers=1, no_lock=True, log_level="CRITICAL"):
            raise RuntimeError("luigi.build failed")
        return [each.output().read() for each in tasks]

    def flat(self, size: int) -> None:
        run = next(self.runs)
        with self.clock:
            got = self._build([Step(kind="small", run_id=run, n=n) for n in range(size)])
        work.check(got, [work.small(n) for n in range(size)], "flat")

    def single(self, size: int) -> None:
        run = next(self.runs)
        with self.clock:
            got = [self._build([Step(kind="small", run_id=run, n=n)])[0] for n in range(size)]
        work.check(got, [work.small(n) for n in range(size)], "single")

    def _one(self, kind: str, expected, **given: int) -> None:
        last = {"kind": kind, "run_id": next(self.runs), **given}
        with self.clock:
            got = self._build([Step(**last)])[0]
        work.check(got, expected, kind)

    def chain(self, size: int) -> None:
        self._one("hop", {"hop": size, "from": "chain"}, n=size - 1)

    def inprocess(self, size: int) -> None:
        self._one("memory", {"hop": size, "from": "chain"}, n=size - 1)

    def payload(self, size: int) -> None:
        self._one("load", f"{size:08d}{work.TEXT}", n=size - 1)

    def light(self, size: int) -> None:
        self._one("step", {"step": size, "fib": 55}, n=size - 1, size=10)

    def long(self, size: int) -> None:
        self._one("step", {"step": size, "fib": 3524578}, n=size - 1, size=33)

    def fan(self, size: int) -> None:
        self._one("collect", work.collected(size), size=size)

    def wide(self, size: int) -> None:
        self.fan(size - 2)

    def diamonds(self, size: int) -> None:
        run = next(self.runs)
        with self.clock:
            got = self._build([Step(kind="bottom", run_id=run, n=n) for n in range(size)])
        work.check(got, [work.diamond(n) for n in range(size)], "diamonds")


if __name__ == "__main__":
    serve(Peer)
