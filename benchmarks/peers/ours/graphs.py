"""The graphs of all workloads; loaded by the adapter and by `tm-worker` alike. Sizes come from the environment."""

from __future__ import annotations

import json
import os
import time
from collections import defaultdict
from typing import Any

from benchmarks.peers import work
from tm import Graph, task

#: by workload; what is not measured stays small, for all graphs are loaded
SIZES: dict[str, int] = defaultdict(lambda: 10, json.loads(os.environ.get("BENCH_SIZES", "{}")))


def sequence(name: str, size: int, body: Any) -> Graph:
    """A chain; `body(before)` runs `size` times."""
    graph = Graph(name)
    before = None
    for number in range(size):
        each = task(name=f"t{number}")(_first(body) if before is None else _next(body, before.name))
        graph.add_edges([each]) if before is None else graph.add_edges([before], [each])
        before = each
    return graph


def _first(body: Any) -> Any:
    def first() -> Any:
        return body(None)

    return first


def _next(body: Any, parent: str) -> Any:
    def following(**inputs: Any) -> Any:
        return body(inputs[parent])

    return following


def star(name: str, size: int) -> Graph:
    """One root, `size` leaves, one collector that receives them all."""

    @task()
    def root() -> dict[str, int]:
        return work.root()

    @task()
    def collect(**leaves: dict[str, int]) -> dict[str, int]:
        return work.collect(list(leaves.values()))

    def leaf(number: int) -> Any:
        @task(name=f"leaf{number}")
        def one(root: dict[str, int]) -> dict[str, int]:
            return work.leaf(root, number)

        return one

    graph = Graph(name)
    leaves = [leaf(number) for number in range(size)]
    graph.add_edges([root], leaves)
    graph.add_edges(leaves, [collect])
    return graph


@task()
def small(number: int) -> dict[str, int]:
    return work.small(number)


@task()
def pid() -> int:
    time.sleep(0.01)  # or one worker would do them all
    return os.getpid()


@task()
def now() -> float:
    return time.time()


@task()
def a(number: int) -> dict[str, int]:
    return work.top(number)


@task()
def b(a: dict[str, int]) -> dict[str, int]:
    return work.left(a)


@task()
def c(a: dict[str, int]) -> dict[str, int]:
    return work.right(a)


@task()
def d(b: dict[str, int], c: dict[str, int]) -> dict[str, int]:
    return work.bottom(b, c)


flat, pids, start, diamonds = Graph("flat"), Graph("pids"), Graph("start"), Graph("diamonds")
flat.add_edges([small])
pids.add_edges([pid])
start.add_edges([now])
diamonds.add_edges([a], [b, c])
diamonds.add_edges([b, c], [d])
chain = sequence("chain", SIZES["chain"], work.hop)
inprocess = sequence("inprocess", SIZES["inprocess"], work.hop)
payload = sequence("payload", SIZES["payload"], work.load)
light = sequence("light", SIZES["light"], lambda before: work.step(before, 10))
long = sequence("long", SIZES["long"], lambda before: work.step(before, 33))
fan = star("fan", SIZES["fan"])
wide = star("wide", max(1, SIZES["wide"] - 2))
