"""Many graphs that are due at every full minute."""

from __future__ import annotations

import os

from tm import Graph, task


@task()
def nothing() -> None:
    """Nothing."""


for number in range(int(os.environ.get("BENCH_TICKS", "1000"))):
    graph = Graph(f"tick{number}", "* * * * *")
    graph.add_edges([nothing])
    globals()[graph.name] = graph
