"""Runs as people look at them: what events tell before history has it."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from tm import codec
from tm.events import AttemptEnded
from tm.runinfo import RunInfo, TaskInfo, from_view, lacks_last, with_ended
from tm.states import Outcome, RunState, TaskState, Trigger
from tm.store.records import RunView, TaskRunView

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
MS = int(NOON.timestamp() * 1000)


def ended(attempt: int, outcome: Outcome = Outcome.LOST, **more: object) -> AttemptEnded:
    about = {"run": "r", "graph": "g", "node": 0, "task": "slow", "state": TaskState.QUEUED, "worker": "w"} | more
    return AttemptEnded(
        attempt=attempt, outcome=outcome, claimed=MS, at=MS + 1500, ms=1500, error=b"", due=None, **about
    )


def run(*tasks: TaskInfo) -> RunInfo:
    return RunInfo(
        id="r", graph="g", version="v", state=RunState.RUNNING, trigger="manual", tick=None,
        created_at=NOON, started_at=NOON, ended_at=None, tasks=tasks,
    )  # fmt: skip


def test_an_attempt_that_is_not_filed_yet_is_known_from_its_event() -> None:
    task = TaskInfo(name="slow", state=TaskState.QUEUED, attempt=3)
    assert lacks_last(task)
    events = [ended(2), ended(1), ended(1, run="other"), ended(1, task="another"), ended(2, Outcome.REJECTED)]
    (known,) = with_ended(run(task), events, {"slow"}).tasks
    assert [(each.number, each.outcome, each.seconds) for each in known.attempts] == [
        (1, Outcome.LOST, 1.5),
        (2, Outcome.LOST, 1.5),
    ]
    assert not lacks_last(known)
    assert with_ended(run(known), events, {"slow"}).tasks == (known,), "none comes twice"


@pytest.mark.parametrize(
    ("state", "fails", "said"),
    [
        (TaskState.RUNNING, 1, None),
        (TaskState.CANCELLED, 1, None),  # it was cancelled as its second attempt ran
        (TaskState.CANCELLED, 2, "bad"),  # as it waited for its third
        (TaskState.FAILED, 2, "bad"),
    ],
)
def test_an_error_is_of_the_attempt_that_raised_it(state: TaskState, fails: int, said: str | None) -> None:
    error = codec.encode({"type": "ValueError", "message": "bad", "traceback": ""})
    view = TaskRunView(task="slow", state=state, attempt=2, claimed_ms=MS, worker="w", fails=fails, error=error)
    at = {
        "tick_ms": None,
        "created_ms": MS,
        "started_ms": MS,
        "ended_ms": None,
        "reason": "",
        "config": "",
        "params": b"",
    }
    about = {"id": "r", "graph": "g", "version": "v", "state": RunState.RUNNING, "trigger": Trigger.MANUAL}
    (task,) = from_view(RunView(**about, **at, tasks=(view,))).tasks
    (attempt,) = task.attempts
    assert (attempt.error.message if attempt.error else None) == said


def test_a_first_attempt_lacks_nothing() -> None:
    assert not lacks_last(TaskInfo(name="slow", state=TaskState.QUEUED, attempt=1))
