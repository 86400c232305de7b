"""Some tasks of a graph as a graph: to run one by hand, with what its parents would send given as params."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tm.errors import NotFoundError, RefusedError, SignatureError
from tm.graph import Graph
from tm.suggest import hint

if TYPE_CHECKING:
    from collections.abc import Sequence


def part_of(graph: Graph, names: Sequence[str]) -> Graph:
    """These tasks of a graph with the edges between them, under the graph's name, so that its workers run them.

    A task none of whose parents is among them is a root of the part: what its parents would send, it takes as params.

    Raises:
        NotFoundError: the graph has no task of that name.
        RefusedError: a task has some of its parents, and requires the message of another one.
    """
    for name in names:
        if name not in graph.tasks:
            there = f"it has {', '.join(graph.tasks)}"
            raise NotFoundError(f"graph {graph.name!r} has no task {name!r}; {hint(name, graph.tasks, there)}")
    tasks = graph.plan.tasks
    chosen = [task for task in tasks if task.name in names]
    roots = [task for task in chosen if not any(tasks[parent].name in names for parent in task.parents)]
    reads_config = any(graph.tasks[task.name].accepts("config") for task in roots)
    part = Graph(graph.name, config=graph.config if reads_config else None, timeout=graph.timeout)
    part.file = graph.file
    part.add_edges([graph.tasks[task.name] for task in chosen])
    for task in chosen:
        parents = [graph.tasks[tasks[parent].name] for parent in task.parents if tasks[parent].name in names]
        part.add_edges(parents, graph.tasks[task.name])
    try:
        _ = part.plan
    except SignatureError as error:
        parents_of = {task.name: [tasks[parent].name for parent in task.parents] for task in chosen}
        missing = [parent for parent in parents_of[error.task] if parent not in names]
        raise RefusedError(
            f"task {error.task!r} needs the message of {', '.join(map(repr, missing))} beside that of a parent that "
            f"runs; name that too, or run {error.task!r} alone, with -p for each of its parents"
        ) from error
    return part
