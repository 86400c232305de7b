"""Which ticks of a range are to run, decided without a server."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from tm.backfill import Action, Mode, choose
from tm.states import RunState

TICK = datetime(2026, 11, 2, 5, tzinfo=UTC)
RUN = "daily-20261102T050000Z"
OPEN = (RunState.QUEUED, RunState.RUNNING)
BAD = (RunState.FAILED, RunState.CANCELLED, RunState.TIMED_OUT)


def chosen(mode: Mode, *states: RunState) -> tuple[Action, str, str]:
    """What is done about a tick whose run and its retries are in these states: action, run, last run."""
    names = [RUN, *(f"{RUN}-{number}" for number in range(2, 9))]
    [tick] = choose([TICK], "daily", dict(zip(names, states, strict=False)), mode)
    return tick.action, tick.run, tick.last


@pytest.mark.parametrize("mode", [Mode.MISSING, Mode.ALL])
def test_a_tick_that_never_ran_runs(mode: Mode) -> None:
    assert chosen(mode) == (Action.START, RUN, "")


def test_what_never_ran_did_not_fail() -> None:
    assert chosen(Mode.FAILED)[0] is Action.NOTHING


def test_a_tick_that_was_skipped_never_ran() -> None:
    assert chosen(Mode.MISSING, RunState.SKIPPED) == (Action.REPEAT, f"{RUN}-2", RUN)
    assert chosen(Mode.MISSING, RunState.SKIPPED, RunState.SUCCESS)[0] is Action.NOTHING
    assert chosen(Mode.FAILED, RunState.SKIPPED)[0] is Action.NOTHING


@pytest.mark.parametrize("state", [RunState.SUCCESS, *BAD])
def test_what_ran_is_not_missing_however_it_ended(state: RunState) -> None:
    assert chosen(Mode.MISSING, state) == (Action.NOTHING, RUN, RUN)


@pytest.mark.parametrize("state", BAD)
def test_what_failed_is_repaired(state: RunState) -> None:
    assert chosen(Mode.FAILED, state) == (Action.REPAIR, f"{RUN}-2", RUN)
    assert chosen(Mode.FAILED, RunState.FAILED, state) == (Action.REPAIR, f"{RUN}-3", f"{RUN}-2")
    assert chosen(Mode.FAILED, state, RunState.SUCCESS)[0] is Action.NOTHING


@pytest.mark.parametrize("state", OPEN)
@pytest.mark.parametrize("mode", [*Mode])
def test_what_runs_now_is_left_alone(mode: Mode, state: RunState) -> None:
    assert chosen(mode, state)[0] is Action.NOTHING
    assert chosen(mode, RunState.FAILED, state) == (Action.NOTHING, f"{RUN}-2", f"{RUN}-2")


def test_all_means_all() -> None:
    assert chosen(Mode.ALL, RunState.SUCCESS) == (Action.REPEAT, f"{RUN}-2", RUN)


def test_choosing_again_after_everything_ran_chooses_nothing() -> None:
    assert chosen(Mode.MISSING, RunState.SUCCESS)[0] is Action.NOTHING
