"""What is left on a server and nobody needs any more: large messages, old functions, graphs that are gone."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Protocol

from tm.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from tm.spill import Spill

log = get_logger("scheduler")

#: seconds between two looks
SPILLED_EVERY, OTHERS_EVERY = 60.0, 3600.0
#: seconds a folder of large messages is left alone after it was written to
FRESH = 60.0
#: a run may have been retried so often that its messages are still looked up under the name of the first
MOST_RETRIES = 100
#: milliseconds functions of another version stay after nobody was seen to use them
LIBRARY_KEPT = 86_400_000
#: milliseconds a graph stays listed after somebody last had it loaded
GRAPH_KEPT = 30 * 86_400_000


class RunsStore(Protocol):
    """What `Spilled` needs of the store."""

    def existing(self, runs: Sequence[str]) -> set[str]:
        """Those of these runs that the server holds."""
        ...


class Spilled:
    """Removes the large messages of runs that the server has forgotten, and whose retries it has forgotten too.

    Args:
        instance: the id of the server's data. In a directory that belongs to other data nothing is judged by what this
            server holds; only what is older than `keep` goes.
        keep: seconds beyond which no run is kept.
    """

    def __init__(
        self,
        store: RunsStore,
        spill: Spill,
        instance: str,
        *,
        keep: float,
        fresh: float = FRESH,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store, self._spill, self._instance = store, spill, instance
        self._keep, self._fresh, self._clock = keep, fresh, clock
        self._warned = False

    def one_pass(self) -> int:
        """Returns how many folders were removed."""
        written = self._spill.runs()
        if not written:
            return 0
        now = self._clock()
        if self._ours(written, now):
            names = {run: [run, *_relatives(run)] for run, at in written.items() if now - at > self._fresh}
            held = self._store.existing(sorted({name for each in names.values() for name in each}))
            gone = [run for run, each in names.items() if not held.intersection(each)]
        else:
            gone = [run for run, at in written.items() if now - at > self._keep]
        for run in gone:
            self._spill.forget(run)
        if gone:
            log.info("large messages of forgotten runs removed", runs=len(gone))
        return len(gone)

    def _ours(self, written: Mapping[str, float], now: float) -> bool:
        owner = self._spill.owner()
        if owner == self._instance:
            return True
        # nobody's yet, or of a server that was emptied so long ago that none of its runs is here
        if not owner or all(now - at > self._keep for at in written.values()):
            self._spill.belong_to(self._instance)
            return True
        if not self._warned:
            self._warned = True
            log.warning(
                "the directory for large messages belongs to other data (another server, or one that was emptied); "
                "its files are kept until no run can need them: give each server a TM_SPILL of its own",
                folder=self._spill.folder,
            )
        return False


def _relatives(run: str) -> list[str]:
    """What retries of this run, and of the run it is a retry of, are called: they may use its messages."""
    names = [f"{run}-{number}" for number in range(2, MOST_RETRIES)]
    if base := re.fullmatch(r"(.+)-\d{1,4}", run):
        names += [base[1], *(f"{base[1]}-{number}" for number in range(2, MOST_RETRIES))]
    return names


class LibraryStore(Protocol):
    """What `old_libraries` needs of the store."""

    def libraries(self) -> set[str]:
        """Names of all our libraries on the server."""
        ...

    def unused_since(self) -> Mapping[str, int]:
        """When libraries were first seen unused, in ms."""
        ...

    def note_unused(self, changes: Mapping[str, int | None]) -> None:
        """Keep these times; None: it is used again, or gone."""
        ...

    def remove_library(self, name: str) -> None:
        """Whoever still needs it loads it again."""
        ...


def old_libraries(store: LibraryStore, used: Collection[str], now_ms: int) -> list[str]:
    """Remove functions of versions that nobody has been seen to use for a day; returns their names."""
    there, unused = store.libraries(), store.unused_since()
    changes: dict[str, int | None] = dict.fromkeys(unused.keys() - (there - set(used)))
    removed = []
    for name in sorted(there - set(used)):
        if name not in unused:
            changes[name] = now_ms
        elif now_ms - unused[name] >= LIBRARY_KEPT:
            store.remove_library(name)
            removed.append(name)
            changes[name] = None
    if changes:
        store.note_unused(changes)
    if removed:
        log.info("functions of old versions removed", libraries=", ".join(removed))
    return removed


class GraphStore(Protocol):
    """What `lost_graphs` needs of the store."""

    def graphs_seen(self) -> Mapping[str, int]:
        """When each graph that is listed was last known to be loaded somewhere, in ms; 0 for never noted."""
        ...

    def note_seen(self, graphs: Collection[str], now_ms: int) -> None:
        """These are loaded now."""
        ...

    def forget_graph(self, graph: str) -> bool:
        """Take it off the list; False while it has open runs or is paused."""
        ...


def lost_graphs(store: GraphStore, loaded: Collection[str], now_ms: int) -> list[str]:
    """Take graphs off the list that nobody has loaded for thirty days; returns their names. Their history stays."""
    seen = store.graphs_seen()
    new = [graph for graph, at in seen.items() if not at]
    store.note_seen({*loaded, *new}, now_ms)
    old = [graph for graph, at in seen.items() if at and graph not in loaded and now_ms - at >= GRAPH_KEPT]
    forgotten = [graph for graph in sorted(old) if store.forget_graph(graph)]
    if forgotten:
        log.info("graphs that nobody has loaded for long are no longer listed", graphs=", ".join(forgotten))
    return forgotten
