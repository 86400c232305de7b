"""A server that was emptied: what was open is closed as lost, once, and what ticked last is remembered."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.unit.histories import T0, attempt, created, ended
from tm.history import History, open_history
from tm.states import Outcome, RunState, TaskState

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HERE, THERE = "default@unix:///here", "default@redis://there"


@pytest.fixture
def history(tmp_path: Path) -> Iterator[History]:
    history = open_history(f"sqlite:///{tmp_path}/history.db")
    history.adopt(HERE, "first", T0)
    history.record(
        [
            ("1-0", created("done", tick=T0 + 1)),
            ("1-1", created("open", tick=T0 + 2)),
            ("1-2", attempt("open", outcome=Outcome.FAILED, state=TaskState.RETRYING)),
            ("1-3", attempt("open", node=1)),
            ("1-4", ended("done")),
        ],
        source="first",
    )
    yield history
    history.close()


def test_the_same_data_again_changes_nothing(history: History) -> None:
    assert history.adopt(HERE, "first", T0 + 5000) == 0
    assert history.run("open").state is RunState.RUNNING


def test_other_data_in_its_place_closes_what_was_open(history: History) -> None:
    assert history.adopt(HERE, "second", T0 + 5000) == 1
    lost = history.run("open")
    assert (lost.state, lost.reason[:5]) == (RunState.FAILED, "lost:")
    assert lost.ended is not None
    assert [each.state for each in history.task_runs("open")] == [TaskState.CANCELLED, TaskState.SUCCESS]
    assert history.run("done").state is RunState.SUCCESS
    assert history.adopt(HERE, "second", T0 + 6000) == 0


def test_runs_of_another_server_are_none_of_its_business(history: History) -> None:
    history.adopt(THERE, "other", T0)
    history.record([("9-0", created("elsewhere"))], source="other")
    assert history.adopt(HERE, "second", T0 + 5000) == 1
    assert history.run("elsewhere").open


def test_a_server_seen_for_the_first_time_takes_nothing_over(history: History) -> None:
    assert history.adopt(THERE, "second", T0) == 0
    assert history.last_ticks(THERE) == {}
    assert history.run("open").open


def test_the_last_ticks_outlive_the_data(history: History) -> None:
    history.adopt(HERE, "second", T0 + 5000)
    history.record([("5-0", created("new", graph="other", tick=T0 + 7))], source="second")
    history.adopt(HERE, "third", T0 + 6000)
    assert history.last_ticks(HERE) == {"etl": T0 + 2, "other": T0 + 7}
