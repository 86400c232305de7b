"""The table of states, and the drawing of it in ARCHITECTURE.md."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tm.states import (
    FINAL_RUN_STATES,
    FINAL_TASK_STATES,
    RUN_TRANSITIONS,
    TASK_TRANSITIONS,
    Outcome,
    RunState,
    TaskState,
)

ARCHITECTURE = Path(__file__).parents[2] / "ARCHITECTURE.md"


def drawing(title: str) -> set[tuple[str, str]]:
    """The edges of the block that follows `title`: lines such as `running -> success | failed`."""
    text = ARCHITECTURE.read_text()
    found = re.search(rf"^{re.escape(title)}\n+```\n(.*?)```", text, re.DOTALL | re.MULTILINE)
    assert found, f"no block of edges below {title!r}"
    edges = set()
    for line in filter(None, map(str.strip, found[1].splitlines())):
        before, _, after = line.partition("#")[0].partition("->")
        edges |= {(before.strip(), state.strip()) for state in after.split("|")}
    return edges


def edges_of(table) -> set[tuple[str, str]]:
    return {(str(before), str(after)) for before, afters in table.items() for after in afters}


def test_the_drawing_of_runs_is_the_table() -> None:
    assert drawing("Run states:") == edges_of(RUN_TRANSITIONS)


def test_the_drawing_of_task_runs_is_the_table() -> None:
    assert drawing("Task run states:") == edges_of(TASK_TRANSITIONS)


@pytest.mark.parametrize(("table", "states"), [(RUN_TRANSITIONS, RunState), (TASK_TRANSITIONS, TaskState)])
def test_every_state_has_a_row(table, states) -> None:
    assert set(table) == set(states)


def test_final_means_that_nothing_follows() -> None:
    assert set(FINAL_RUN_STATES) == {"success", "failed", "cancelled", "timed_out", "skipped"}
    assert set(FINAL_TASK_STATES) == {
        "success",
        "failed",
        "timed_out",
        "quarantined",
        "cancelled",
        "blocked",
        "skipped",
    }


@pytest.mark.parametrize(("table", "born"), [(RUN_TRANSITIONS, "queued"), (TASK_TRANSITIONS, "waiting")])
def test_every_open_state_leads_to_an_end_and_can_be_reached(table, born) -> None:
    reached, pending = set(), [born]
    while pending:
        state = pending.pop()
        if state not in reached:
            reached.add(state)
            pending += table[state]
    # a skipped tick is born so; a task is skipped when somebody says so
    assert set(table) - reached == ({"skipped"} if born == "queued" else set())


def test_outcomes_that_end_a_task_run_are_states_of_it() -> None:
    assert {Outcome.SUCCESS, Outcome.FAILED, Outcome.TIMED_OUT} <= {str(state) for state in TaskState}
