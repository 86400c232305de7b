"""What is removed from a server and a spill store, and what is not yet."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tm.spill import Spill
from tm_scheduler.leftovers import GRAPH_KEPT, LIBRARY_KEPT, Spilled, lost_graphs, old_libraries

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from pathlib import Path

NOW = 1_790_000_000_000
DAY = 86_400.0


class Runs:
    def __init__(self) -> None:
        self.held: set[str] = set()

    def existing(self, runs: Sequence[str]) -> set[str]:
        return self.held.intersection(runs)


class Place:
    def __init__(self, folder: Path) -> None:
        self.spill = Spill(folder / "spill")
        self.runs = Runs()
        self.later = 3600.0

    def collect(self, instance: str = "one") -> set[str]:
        """The folders that are left after a pass."""
        import time

        collector = Spilled(self.runs, self.spill, instance, keep=7 * DAY, clock=lambda: time.time() + self.later)
        collector.one_pass()
        return set(self.spill.runs())

    def keep(self, *runs: str) -> None:
        for run in runs:
            self.spill.keep(run, b"message")


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_large_messages_go_when_the_server_has_forgotten_their_run(place: Place) -> None:
    place.keep("etl-1", "etl-2x")
    place.runs.held = {"etl-2x"}
    assert place.collect() == {"etl-2x"}


def test_what_was_written_just_now_stays(place: Place) -> None:
    place.keep("etl-1")
    place.later = 10.0
    assert place.collect() == {"etl-1"}


@pytest.mark.parametrize("alive", ["etl-1-2", "etl-1-7", "etl-1"])
def test_messages_stay_while_a_retry_of_their_run_may_use_them(place: Place, alive: str) -> None:
    place.keep("etl-1", "etl-1-2", "other-1")
    place.runs.held = {alive}
    assert place.collect() == {"etl-1", "etl-1-2"}


def test_files_of_another_server_are_not_judged_by_this_one(place: Place) -> None:
    place.keep("etl-1")
    place.runs.held = {"etl-1"}
    assert place.collect("other") == {"etl-1"}
    place.runs.held = set()
    assert place.collect("one") == {"etl-1"}
    place.later = 8 * DAY
    assert place.collect("one") == set(), "no run is kept for so long"
    assert place.spill.owner() == "one"


def test_an_empty_store_is_no_work(place: Place) -> None:
    assert place.collect() == set()
    assert not place.spill.folder.exists()


class Libraries:
    def __init__(self, *names: str) -> None:
        self.there = set(names)
        self.unused: dict[str, int] = {}

    def libraries(self) -> set[str]:
        return self.there

    def unused_since(self) -> Mapping[str, int]:
        return dict(self.unused)

    def note_unused(self, changes: Mapping[str, int | None]) -> None:
        for name, at in changes.items():
            if at is None:
                self.unused.pop(name)
            else:
                self.unused[name] = at

    def remove_library(self, name: str) -> None:
        self.there.discard(name)


def test_old_functions_go_a_day_after_nobody_uses_them() -> None:
    store = Libraries("tm_new", "tm_old", "tm_theirs")
    used = {"tm_new", "tm_theirs", ""}
    assert old_libraries(store, used, NOW) == []
    assert store.unused == {"tm_old": NOW}
    assert old_libraries(store, used, NOW + LIBRARY_KEPT - 1) == []
    assert old_libraries(store, used, NOW + LIBRARY_KEPT) == ["tm_old"]
    assert store.there == {"tm_new", "tm_theirs"}
    assert store.unused == {}


def test_functions_that_are_used_again_are_young_again() -> None:
    store = Libraries("tm_new", "tm_old")
    old_libraries(store, {"tm_new"}, NOW)
    old_libraries(store, {"tm_new", "tm_old"}, NOW + 1000)
    assert store.unused == {}
    assert old_libraries(store, {"tm_new"}, NOW + LIBRARY_KEPT + 1000) == []


class Graphs:
    def __init__(self, **seen: int) -> None:
        self.seen = seen
        self.busy: set[str] = set()

    def graphs_seen(self) -> Mapping[str, int]:
        return dict(self.seen)

    def note_seen(self, graphs: Collection[str], now_ms: int) -> None:
        self.seen.update(dict.fromkeys(graphs, now_ms))

    def forget_graph(self, graph: str) -> bool:
        if graph in self.busy:
            return False
        del self.seen[graph]
        return True


def test_a_graph_is_listed_for_thirty_days_after_somebody_last_had_it() -> None:
    store = Graphs(here=0, gone=0, busy=0)
    store.busy = {"busy"}
    assert lost_graphs(store, {"here"}, NOW) == [], "who is new to us is not old"
    assert lost_graphs(store, {"here"}, NOW + GRAPH_KEPT - 1) == []
    assert lost_graphs(store, {"here"}, NOW + GRAPH_KEPT) == ["gone"]
    assert store.seen.keys() == {"here", "busy"}
