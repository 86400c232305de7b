"""A graph that is due every second, for what has to do with ticks."""

from __future__ import annotations

from typing import Any

from tests.rig.journal import body
from tm import Graph, task


@task()
def tock() -> Any:
    return body()


tick = Graph("tick", schedule="* * * * * *", misfire="all")
tick.add_edges([tock])
