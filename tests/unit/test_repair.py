"""What a retry keeps and what it runs, decided without a server."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.store.stage import CHAIN, DIAMOND, plan
from tm.errors import NotFoundError, RefusedError
from tm.repair import KEEPABLE, Choice, mend
from tm.states import FINAL_TASK_STATES, TaskState
from tm.store.records import RUN, SKIP

if TYPE_CHECKING:
    from tm.records import Plan

SUCCESS, FAILED, BLOCKED, SKIPPED = TaskState.SUCCESS, TaskState.FAILED, TaskState.BLOCKED, TaskState.SKIPPED


def ended(shape: Plan, *states: TaskState) -> list[tuple[str, TaskState]]:
    return list(zip([task.name for task in shape.tasks], states, strict=True))


BROKEN = plan(DIAMOND)
NIGHT = ended(BROKEN, SUCCESS, FAILED, SUCCESS, BLOCKED)


def test_what_succeeded_is_kept_and_the_rest_runs() -> None:
    mending = mend(NIGHT, BROKEN, Choice())
    assert mending.tasks == (0, RUN, 2, RUN)
    assert (mending.runs, mending.kept) == (("left", "join"), ("top", "right"))


def test_from_a_task_on_runs_all_that_is_below_it_and_what_failed() -> None:
    assert mend(NIGHT, BROKEN, Choice(again=("right",))).runs == ("left", "right", "join")
    assert mend(NIGHT, BROKEN, Choice(again=("top",))).kept == ()


def test_only_a_task_runs_and_what_had_not_ended_well_is_left_out() -> None:
    mending = mend(NIGHT, BROKEN, Choice(only=("left",)))
    assert mending.tasks == (0, RUN, 2, SKIP)
    assert mending.left_out == ("join",)


def test_what_is_below_an_only_task_stays_as_it_was() -> None:
    shape = plan(CHAIN)
    assert mend(ended(shape, SUCCESS, SUCCESS, SUCCESS), shape, Choice(only=("a",))).tasks == (RUN, 1, 2)


def test_a_task_cannot_run_without_the_message_of_a_parent() -> None:
    with pytest.raises(RefusedError, match="task 'join' needs the message of 'left', which did not succeed"):
        mend(NIGHT, BROKEN, Choice(only=("join",)))
    assert mend(NIGHT, BROKEN, Choice(only=("left", "join"))).tasks == (0, RUN, 2, RUN)


def test_what_somebody_takes_as_success_counts_as_kept() -> None:
    mending = mend(NIGHT, BROKEN, Choice(taken={"left": SUCCESS}))
    assert mending.tasks == (0, ("success", "failed"), 2, RUN)
    assert (mending.taken, mending.runs) == (("left",), ("join",))


def test_a_skipped_task_is_as_good_as_a_successful_one() -> None:
    shape = plan(CHAIN)
    assert mend(ended(shape, SKIPPED, SUCCESS, FAILED), shape, Choice()).kept == ("a", "b")


def test_what_is_below_a_skipped_task_is_skipped_too() -> None:
    assert mend(ended(BROKEN, SUCCESS, SKIPPED, FAILED, BLOCKED), BROKEN, Choice()).tasks == (0, 1, RUN, SKIP)
    taken = mend(NIGHT, BROKEN, Choice(taken={"left": SKIPPED}))
    assert taken.tasks == (0, ("skipped", "failed"), 2, SKIP)


def test_taken_as_success_a_skipped_task_lets_its_children_run() -> None:
    night = ended(BROKEN, SUCCESS, SKIPPED, SUCCESS, SKIPPED)
    assert mend(night, BROKEN, Choice(taken={"left": SUCCESS})).tasks == (0, ("success", "skipped"), 2, RUN)
    shape = plan(CHAIN)
    own = ended(shape, FAILED, SKIPPED, SKIPPED)
    assert mend(own, shape, Choice(taken={"a": SUCCESS})).tasks == (("success", "failed"), 1, 2), "b skipped itself"


def test_a_task_below_a_skipped_one_does_not_run_because_it_was_named() -> None:
    night = ended(BROKEN, SUCCESS, SKIPPED, SUCCESS, SKIPPED)
    for choice in (Choice(again=("join",)), Choice(only=("join",))):
        with pytest.raises(RefusedError, match="needs the message of 'left', which was skipped"):
            mend(night, BROKEN, choice)
    assert mend(night, BROKEN, Choice(again=("left",))).tasks == (0, RUN, 2, RUN)


def test_names_count_when_the_plan_is_another_one() -> None:
    newer = plan({"fetch": [], "top": ["fetch"], "right": [], "left": ["top"], "join": ["left", "right"]})
    mending = mend(NIGHT, newer, Choice())
    assert mending.tasks == (RUN, RUN, 2, RUN, RUN), "top has a parent now that never ran, so it runs again"


def test_a_task_that_the_plan_no_longer_has_is_forgotten() -> None:
    newer = plan({"top": [], "join": ["top"]})
    assert mend(NIGHT, newer, Choice()).tasks == (0, RUN)


def test_when_nothing_failed_nothing_is_repaired() -> None:
    shape = plan(CHAIN)
    with pytest.raises(RefusedError, match="nothing of it failed"):
        mend(ended(shape, SUCCESS, SUCCESS, SUCCESS), shape, Choice())


@pytest.mark.parametrize("choice", [Choice(again=("lode",)), Choice(only=("lode",)), Choice(taken={"lode": SUCCESS})])
def test_unknown_tasks_are_named_with_those_there_are(choice: Choice) -> None:
    with pytest.raises(NotFoundError, match="has no task 'lode'; it has top, left, right, join"):
        mend(NIGHT, BROKEN, choice)


@given(st.data())
def test_nothing_that_is_kept_came_from_something_that_runs_again(data: st.DataObject) -> None:
    size = data.draw(st.integers(1, 8))
    parents = {
        f"t{node}": [f"t{p}" for p in sorted(data.draw(st.sets(st.integers(0, node - 1), max_size=3)))] if node else []
        for node in range(size)
    }
    shape = plan(parents)
    states = data.draw(st.lists(st.sampled_from(sorted(FINAL_TASK_STATES)), min_size=size, max_size=size))
    again = tuple(data.draw(st.sets(st.sampled_from(sorted(parents)), max_size=2)))
    try:
        mending = mend(ended(shape, *states), shape, Choice(again=again))
    except RefusedError:
        # nothing to repair; or a task was named that is below a skipped one, or all that is left is below one
        assert set(states) <= KEEPABLE or SKIPPED in states
        return
    for index, task in enumerate(mending.tasks):
        above = [mending.tasks[parent] for parent in shape.tasks[index].parents]
        gone = [each for each in above if each == SKIP or (each != RUN and states[each] is SKIPPED)]
        if task == SKIP:
            assert gone, "only what is below a skipped task is left out"
        elif task != RUN:
            assert states[index] in KEEPABLE
            assert all(mending.tasks[parent] != RUN for parent in shape.tasks[index].parents)
        else:
            assert not gone, "no task runs without a message"
    assert set(again) <= set(mending.runs)
    assert sorted(mending.runs + mending.kept + mending.left_out) == sorted(parents)
