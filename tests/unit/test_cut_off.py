"""An attempt that was cancelled as it ran: nobody reports it, and it is told of all the same when the server has forgotten."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from tests.unit.histories import T0, attempt, closed, created, ended, numbered
from tm.clock import from_ms
from tm.happenings import of_details
from tm.history import open_history
from tm.lookup import Lookup
from tm.runinfo import AttemptInfo, RunInfo, both
from tm.states import Outcome, RunState, TaskState

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tm.history import History

END = T0 + 900
CUT: dict[str, Any] = {"state": TaskState.CANCELLED, "reason": "enough", "at": END}


@pytest.fixture
def history(tmp_path: Path) -> Iterator[History]:
    history = open_history(f"sqlite:///{tmp_path}/history.db")
    yield history
    history.close()


def filed(history: History, *events: Any) -> RunInfo:
    over = ended(state=RunState.CANCELLED, reason="enough", at=END)
    history.record(numbered(created(), *events, over))
    return Lookup(None, lambda: history).run("etl-1")


def of(run: RunInfo) -> list[tuple[Any, ...]]:
    (task,) = run.tasks
    assert task.state is TaskState.CANCELLED
    return [(each.number, each.outcome, each.worker, each.started_at, each.seconds) for each in task.attempts]


def test_the_first_one_has_its_beginning(history: History) -> None:
    run = filed(history, closed(attempt=1, claimed=T0 + 400, **CUT))
    assert of(run) == [(1, None, "", from_ms(T0 + 400), 0.5)]


def test_a_second_one_is_there_beside_the_first(history: History) -> None:
    first = attempt(node=2, outcome=Outcome.FAILED, state=TaskState.RETRYING)
    run = filed(history, first, closed(attempt=2, claimed=T0 + 400, **CUT))
    assert of(run) == [(1, Outcome.FAILED, "w1", from_ms(first.claimed), 0.04), (2, None, "", None, None)]
    assert run.tasks[0].attempts[-1].ended_at == from_ms(END)


def test_so_it_is_when_it_was_reported_too_late(history: History) -> None:
    late = attempt(node=2, outcome=Outcome.REJECTED, state=None, worker="w2", at=END + 50)
    run = filed(history, closed(attempt=1, claimed=T0 + 400, **CUT), late)
    assert [(number, outcome) for number, outcome, *_ in of(run)] == [(1, Outcome.REJECTED), (1, None)]


@pytest.mark.parametrize("fields", [{}, {"attempt": 0, "claimed": None}])
def test_what_did_not_run_has_no_attempt(history: History, fields: dict[str, Any]) -> None:
    assert of(filed(history, closed(**CUT, **fields))) == []


def test_one_that_waited_for_its_retry_has_the_attempts_it_made(history: History) -> None:
    first = attempt(node=2, outcome=Outcome.FAILED, state=TaskState.RETRYING)
    assert [number for number, *_ in of(filed(history, first, closed(**CUT)))] == [1]


def test_while_the_server_knows_it_its_word_counts(history: History) -> None:
    run = filed(history, closed(attempt=1, claimed=T0 + 400, **CUT))
    known = AttemptInfo(number=1, outcome=None, worker="w1", started_at=from_ms(T0), ended_at=from_ms(END), seconds=0.9)
    live = replace(run, tasks=(replace(run.tasks[0], attempts=(known,)),))
    assert both(live, run).tasks[0].attempts == (known,)


def test_its_end_is_among_what_happened(history: History) -> None:
    first = attempt(node=2, outcome=Outcome.FAILED, state=TaskState.RETRYING)
    filed(history, first, closed(attempt=2, claimed=T0 + 400, **CUT))
    told = of_details("etl", history.task_runs("etl-1"), history.attempts("etl-1"), [])
    assert [(each.what, each.attempt, each.detail) for each in told] == [
        ("attempt_ended", 1, ""),
        ("task_closed", None, "enough"),
    ]
