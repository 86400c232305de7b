"""Which ticks a schedule has, and graphs from files whose Executor must not start."""

from __future__ import annotations

from datetime import UTC, datetime, tzinfo
from itertools import islice
from typing import TYPE_CHECKING

from tm.errors import NotFoundError, RefusedError

if TYPE_CHECKING:
    from pathlib import Path

    from tm.graph import Graph

#: ticks in one answer; a schedule of seconds over years is a slip
MOST_TICKS = 100_000


def ticks(graph: Graph, start: datetime | str, end: datetime | str) -> list[datetime]:
    """The ticks of a graph from `start` (included) to `end` (not included), as its scheduler would make them.

    They are aware, in the zone of the graph; for one that names none, in that of `start`, or UTC. A naive datetime,
    or a text without offset, is meant in that zone, too.

    Raises:
        RefusedError: the graph is manual; or there are more than 100,000 of them.
    """
    if graph.schedule is None:
        raise RefusedError(f"graph {graph.name!r} is manual: it has no ticks")
    first, last = (datetime.fromisoformat(each) if isinstance(each, str) else each for each in (start, end))
    zone: tzinfo = graph.timezone or first.tzinfo or UTC
    first, last = (
        each.replace(tzinfo=zone) if each.tzinfo is None else each.astimezone(zone) for each in (first, last)
    )
    found = list(islice(graph.schedule.between(first, last), MOST_TICKS + 1))
    if len(found) > MOST_TICKS:
        raise RefusedError(f"graph {graph.name!r} has more than {MOST_TICKS:,} ticks from {first} to {last}")
    return found


def load_graph(target: str | Path, name: str | None = None) -> Graph:
    """A graph from a file, or a module by name, whose `Executor(...).start()` does nothing meanwhile.

    Args:
        target: path of a graph file or name of a module.
        name: of the graph; may be left out where the file has one.

    Raises:
        LoadError: the file fails while it is executed.
        NotFoundError: it has no such graph, or several and no name was given.
    """
    from tm.loader import load

    graphs = load(target).graphs
    if name is None and len(graphs) == 1:
        return next(iter(graphs.values()))
    if name is not None and name in graphs:
        return graphs[name]
    known = ", ".join(graphs) or "none"
    wanted = f"has no graph {name!r}" if name is not None else "has not exactly one graph: name it"
    raise NotFoundError(f"{target} {wanted}; it has {known}")
