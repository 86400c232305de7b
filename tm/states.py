"""The states of runs, task runs and attempts, and the table of what may follow what.

The table is the law: the step function, the server functions (which get it as data when they are loaded) and
the drawing in ARCHITECTURE.md are held equal to it by tests.
"""

from __future__ import annotations

from enum import StrEnum


class RunState(StrEnum):
    """Life of one execution of a graph."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCESS = "success"
    FAILED = "failed"
    CANCELLED = "cancelled"
    TIMED_OUT = "timed_out"
    SKIPPED = "skipped"  #: a tick that did not run; born so, with a reason


class TaskState(StrEnum):
    """Life of one task inside one run."""

    WAITING = "waiting"  #: for parents
    QUEUED = "queued"
    RUNNING = "running"
    RETRYING = "retrying"  #: waits for its retry to be due
    SUCCESS = "success"
    FAILED = "failed"
    TIMED_OUT = "timed_out"
    QUARANTINED = "quarantined"  #: its process died too often for reasons of its own
    CANCELLED = "cancelled"
    BLOCKED = "blocked"  #: a parent failed for good
    SKIPPED = "skipped"  #: it had nothing to do and said so, a parent of it was skipped, or a person says so


class Outcome(StrEnum):
    """How one attempt ended."""

    SUCCESS = "success"
    SKIPPED = "skipped"  #: it raised `tm.Skip`
    FAILED = "failed"
    TIMED_OUT = "timed_out"
    LOST = "lost"  #: its worker vanished or gave it back
    KILLED = "killed"  #: its process died
    REJECTED = "rejected"  #: reported too late, by a worker that no longer held the lease


class Trigger(StrEnum):
    """Why a run was started."""

    SCHEDULE = "schedule"
    CATCHUP = "catchup"
    MANUAL = "manual"
    RETRY = "retry"  #: of a run that has ended, keeping what succeeded
    BACKFILL = "backfill"  #: of past ticks, on request


#: what a person may say that an unfinished task is (`tm mark`)
MARKABLE = frozenset({TaskState.SUCCESS, TaskState.FAILED, TaskState.SKIPPED})

RUN_TRANSITIONS: dict[RunState, frozenset[RunState]] = {
    RunState.QUEUED: frozenset(
        {
            RunState.RUNNING,
            RunState.CANCELLED,
            RunState.TIMED_OUT,
            RunState.SUCCESS,  # every task of it was marked by hand
            RunState.FAILED,
        },
    ),
    RunState.RUNNING: frozenset(
        {RunState.SUCCESS, RunState.FAILED, RunState.CANCELLED, RunState.TIMED_OUT},
    ),
    RunState.SUCCESS: frozenset(),
    RunState.FAILED: frozenset(),
    RunState.CANCELLED: frozenset(),
    RunState.TIMED_OUT: frozenset(),
    RunState.SKIPPED: frozenset(),
}

TASK_TRANSITIONS: dict[TaskState, frozenset[TaskState]] = {
    TaskState.WAITING: frozenset({TaskState.QUEUED, TaskState.BLOCKED, TaskState.CANCELLED}) | MARKABLE,
    TaskState.QUEUED: frozenset({TaskState.RUNNING, TaskState.CANCELLED}) | MARKABLE,
    TaskState.RUNNING: frozenset(
        {
            TaskState.SUCCESS,
            TaskState.RETRYING,
            TaskState.QUEUED,  # a lost or killed attempt starts again at once
            TaskState.FAILED,
            TaskState.TIMED_OUT,
            TaskState.QUARANTINED,
            TaskState.CANCELLED,
        },
    )
    | MARKABLE,
    TaskState.RETRYING: frozenset({TaskState.QUEUED, TaskState.CANCELLED}) | MARKABLE,
    TaskState.SUCCESS: frozenset(),
    TaskState.FAILED: frozenset(),
    TaskState.TIMED_OUT: frozenset(),
    TaskState.QUARANTINED: frozenset(),
    TaskState.CANCELLED: frozenset(),
    TaskState.BLOCKED: frozenset(),
    TaskState.SKIPPED: frozenset(),
}

FINAL_RUN_STATES = frozenset(state for state, after in RUN_TRANSITIONS.items() if not after)
FINAL_TASK_STATES = frozenset(state for state, after in TASK_TRANSITIONS.items() if not after)

#: outcomes that are the infrastructure's doing: they have a budget of their own and never use up a retry
INFRASTRUCTURE_OUTCOMES = frozenset({Outcome.LOST, Outcome.KILLED})
#: so many of them and the task run is quarantined
MAX_LOSSES = 3
