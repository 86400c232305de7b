"""Order and cycles of a drawing of edges."""

from __future__ import annotations

import graphlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping


def in_order(parents: Mapping[str, Collection[str]]) -> list[str]:
    """Names so that parents come first; among those free at the same time, in the order of the mapping.

    Raises:
        graphlib.CycleError: there is a cycle; `cycle_of` names it.
    """
    position = {name: index for index, name in enumerate(parents)}
    sorter = graphlib.TopologicalSorter(parents)
    sorter.prepare()
    ordered: list[str] = []
    while sorter.is_active():
        ready = sorted(sorter.get_ready(), key=position.__getitem__)
        ordered.extend(ready)
        sorter.done(*ready)
    return ordered


def cycle_of(parents: Mapping[str, Collection[str]]) -> list[str]:
    """The names along one cycle, first one repeated at the end; empty if there is none."""
    try:
        graphlib.TopologicalSorter(parents).prepare()
    except graphlib.CycleError as error:
        cycle: list[str] = error.args[1]
        return cycle
    return []


def connected(
    ends: Iterable[str],
    starts: Iterable[str],
    children: Mapping[str, Collection[str]],
    parents: Mapping[str, Collection[str]],
) -> bool:
    """Whether a way leads from one of `ends` down to one of `starts`: edges from starts to ends would close a cycle.

    Looks from both sides in turns, an edge at a time, and is done when one side has seen all there is. Drawing a graph
    from its beginning, or from its end, costs nothing here: what has just been added leads nowhere.
    """
    below, above = set(ends), set(starts)
    if not below.isdisjoint(above):
        return True
    ways = zip(_walk(below, children), _walk(above, parents), strict=False)
    return any(down in above or up in below for down, up in ways)


def _walk(seen: set[str], edges: Mapping[str, Collection[str]]) -> Iterator[str]:
    """Where each edge leads that can be reached from `seen`, which grows."""
    pending = list(seen)
    while pending:
        for name in edges.get(pending.pop(), ()):
            if name not in seen:
                seen.add(name)
                pending.append(name)
            yield name
