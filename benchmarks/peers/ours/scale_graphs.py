"""One graph of BENCH_SCALE tasks: a root and its children."""

from __future__ import annotations

import os
from typing import Any

from benchmarks.peers import work
from tm import Graph, task


@task()
def root() -> dict[str, int]:
    return work.root()


def child(number: int) -> Any:
    @task(name=f"leaf{number}")
    def one(root: dict[str, int]) -> dict[str, int]:
        return work.leaf(root, number)

    return one


@task()
def small(number: int) -> dict[str, int]:
    return work.small(number)


big, flat = Graph("big"), Graph("flat")
big.add_edges([root], [child(number) for number in range(int(os.environ.get("BENCH_SCALE", "100")) - 1)])
flat.add_edges([small])
