"""What docs/concepts.md draws of the states is what the table of states allows, and nothing is forgotten."""

from __future__ import annotations

import re
from pathlib import Path

from tm.states import MARKABLE, TASK_TRANSITIONS, TaskState

PAGE = (Path(__file__).parents[2] / "docs" / "concepts.md").read_text()


def test_the_drawing_is_the_table() -> None:
    drawn = {(TaskState(a), TaskState(b)) for a, b in re.findall(r"^ +(\w+) --> (\w+)", PAGE, re.MULTILINE)}
    allowed = {(before, after) for before, afters in TASK_TRANSITIONS.items() for after in afters}
    assert drawn <= allowed
    not_drawn = {after for _, after in allowed - drawn}
    assert not_drawn <= {TaskState.CANCELLED, *MARKABLE}, "the page says that only these are left out"


def test_every_state_is_explained() -> None:
    assert set(re.findall(r"^\| `(\w+)` \|", PAGE, re.MULTILINE)) == {state.value for state in TaskState}
