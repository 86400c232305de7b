"""What has happened is found by when it happened, in however many runs and however old these are."""

from __future__ import annotations

import random
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from tests.unit.histories import T0, attempt, created, ended
from tm.clock import from_ms, to_ms
from tm.events import Noted
from tm.happenings import of_details, of_notices, of_run_row
from tm.history import open_history
from tm.history.light import open_light
from tm.insight import Insight
from tm.lookup import Lookup
from tm.states import Outcome

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tm.history import History

RUNS = 1200  # more than one query of details takes


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> Iterator[History]:
    """Runs of every length: some take a moment, some hours; some are open still; some are told of long afterwards."""
    chance = random.Random(7)
    happened: list[Any] = []
    for number in range(RUNS):
        name, graph, at = f"run-{number}", f"g{number % 3}", T0 + number * 1000
        happened.append(created(name, graph=graph, at=at))
        long = chance.choice((10, 500, 100_000, 900_000))
        happened.append(attempt(name, graph=graph, claimed=at, at=at + long // 2))
        if number % 40:
            happened.append(ended(name, graph=graph, at=at + long))
        if number % 89 == 0:
            late = {"outcome": Outcome.REJECTED, "state": None, "claimed": at, "at": at + long + 700_000}
            happened.append(attempt(name, graph=graph, **late))
        if number % 97 == 0:
            late = at + long + 500_000
            happened.append(Noted(run=name, kind="webhook", what="run.failed", outcome="sent", message="", at=late))
    happened.sort(key=lambda each: each.at)
    history = open_history(f"sqlite:///{tmp_path_factory.mktemp('past')}/history.db")
    history.record([(f"{number}-1", each) for number, each in enumerate(happened, 1)])
    yield history
    history.close()


def everything(history: History) -> list[Any]:
    found = []
    for row in history.runs(limit=10 * RUNS):
        told = of_details(row.graph, history.task_runs(row.id), history.attempts(row.id), history.marks(row.id))
        found += [*of_run_row(row), *told, *of_notices(row.graph, history.notices(row.id))]
    return sorted(found, key=lambda each: each.order)


@pytest.mark.parametrize("light", [True, False], ids=["light", "whole"])
@pytest.mark.parametrize("graph", [None, "g1"])
def test_what_happened_since_and_what_happened_last_are_the_ends_of_all_that_happened(
    history: History, graph: str | None, light: bool
) -> None:
    read: Any = open_light(history.name) if light else history
    insight = Insight(Lookup(None, lambda: read))
    whole = [each for each in everything(history) if graph in (None, each.graph)]
    for since in (0, 600, 1150, 1199, 1500, 3000):
        moment = from_ms(T0 + since * 1000)
        assert insight.past(graph=graph, since=moment) == [each for each in whole if each.at >= moment]
    for most in (1, 7, 20, 400):
        assert sorted(to_ms(each.at) for each in insight.past(graph=graph, limit=most)) == sorted(
            to_ms(each.at) for each in whole[-most:]
        )
    after = whole[-1].at + timedelta(seconds=1)
    assert insight.past(graph=graph, since=after) == []
    if light:
        read.close()
