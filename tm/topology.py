"""Order and cycles of a drawing of edges."""

from __future__ import annotations

import graphlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def in_order(parents: Mapping[str, Sequence[str]]) -> list[str]:
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


def cycle_of(parents: Mapping[str, Sequence[str]]) -> list[str]:
    """The names along one cycle, first one repeated at the end; empty if there is none."""
    try:
        graphlib.TopologicalSorter(parents).prepare()
    except graphlib.CycleError as error:
        cycle: list[str] = error.args[1]
        return cycle
    return []
