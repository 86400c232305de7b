"""The judge is judged: evidence without fault passes, and a violation of each kind is caught by its name."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from tests.rig.checker import RULES, check, repeats
from tests.rig.evidence import (
    Evidence,
    HistoryAttempt,
    HistoryRun,
    HistoryTask,
    ServerDump,
    ServerRun,
    ServerTask,
)
from tests.rig.journal import Line
from tm.events import AttemptEnded, Event, RunCreated, RunEnded
from tm.records import Plan, TaskPlan
from tm.retry import RetryPolicy
from tm.states import Outcome, RunState, TaskState

if TYPE_CHECKING:
    from collections.abc import Callable

RUN = "pair-1"
PLAN = Plan(
    graph="pair",
    version="v",
    tasks=(
        TaskPlan(name="a", children=(1,), retry=RetryPolicy(retries=1)),
        TaskPlan(name="b", parents=(0,)),
    ),
)


def line(task: str, attempt: int, what: str, mono: float, nonce: str, **inputs: str) -> Line:
    return Line(
        run=RUN,
        task=task,
        attempt=attempt,
        token=f"{task}{attempt}",
        pid=1,
        what=what,
        mono=mono,
        wall=mono,
        nonce=nonce,
        graph="pair",
        inputs=inputs,
    )


def ended(task: str, number: int, outcome: str, event: str, error_type: str | None = None) -> HistoryAttempt:
    return HistoryAttempt(run=RUN, task=task, number=number, outcome=outcome, event=event, error_type=error_type)


def told(task: str, number: int, outcome: Outcome, state: TaskState) -> AttemptEnded:
    return AttemptEnded(
        run=RUN,
        graph="pair",
        node="ab".index(task),
        task=task,
        attempt=number,
        outcome=outcome,
        state=state,
        worker="w",
        claimed=1,
        at=2,
        ms=1,
        error=b"",
        due=None,
    )


def created(run: str = RUN, state: RunState = RunState.QUEUED, tick: int | None = None) -> RunCreated:
    return RunCreated(
        run=run,
        graph="pair",
        version="v",
        trigger="manual",
        tick=tick,
        params=b"",
        config="",
        state=state,
        reason="",
        at=1,
    )


END = RunEnded(run=RUN, graph="pair", state=RunState.SUCCESS, reason="", at=9, started=1)
EVENTS: tuple[tuple[str, Event], ...] = (
    ("1-0", created()),
    ("2-0", told("a", 1, Outcome.FAILED, TaskState.RETRYING)),
    ("3-0", told("a", 2, Outcome.SUCCESS, TaskState.SUCCESS)),
    ("4-0", told("b", 1, Outcome.SUCCESS, TaskState.SUCCESS)),
    ("5-0", END),
)
#: a failed once and was retried, then b ran: all in order
GOOD = Evidence(
    plans={"pair": PLAN},
    journal=(
        line("a", 1, "start", 1, "x"),
        line("a", 1, "raise", 2, "x"),
        line("a", 2, "start", 3, "y"),
        line("a", 2, "end", 4, "y"),
        line("b", 1, "start", 5, "z", a="y"),
        line("b", 1, "end", 6, "z"),
    ),
    runs=(HistoryRun(id=RUN, graph="pair", state="success", ended=9),),
    task_runs=(HistoryTask(run=RUN, task="a", state="success"), HistoryTask(run=RUN, task="b", state="success")),
    attempts=(ended("a", 1, "failed", "2-0"), ended("a", 2, "success", "3-0"), ended("b", 1, "success", "4-0")),
    events=EVENTS,
    events_complete=True,
    submitted={RUN: "pair"},
)
OPEN = ServerRun(id=RUN, graph="pair", state="running", tasks={"a": ServerTask(state="running", attempt=1)})


def server(run: ServerRun = OPEN, **more: Any) -> ServerDump:
    listed = (run.id,) if run.state == "running" else ()
    return ServerDump(runs={run.id: run}, open={"pair": listed}, **more)


def without_history(**more: Any) -> Evidence:
    return replace(GOOD, runs=(), task_runs=(), attempts=(), events=(), journal=(), settled=False, filed=False, **more)


def test_evidence_without_fault_passes() -> None:
    assert check(GOOD) == []
    assert check(without_history(server=server(leases=(f"{RUN}_0_1",)))) == []
    assert check(without_history(server=server(replace(OPEN, state="success")))) == []


def ticks(*runs: HistoryRun) -> Evidence:
    return replace(GOOD, runs=(*GOOD.runs, *runs), ticks={"clock": (1000, 2000)})


def tick(id: str, at: int, state: str = "success", reason: str = "") -> HistoryRun:  # noqa: A002
    return HistoryRun(id=id, graph="clock", state=state, tick=at, reason=reason)


def test_ticks_that_ran_or_were_skipped_with_a_reason_pass() -> None:
    assert check(ticks(tick("c1", 1000), tick("c2", 2000, "skipped", "overlap"))) == []


SEEDED: dict[str, tuple[str, Callable[[], Evidence]]] = {
    "a tick nobody made": ("I1", lambda: ticks(tick("c1", 1000))),
    "a tick made twice": ("I1", lambda: ticks(tick("c1", 1000), tick("c2", 2000), tick("c3", 2000))),
    "a tick that was never due": ("I1", lambda: ticks(tick("c1", 1000), tick("c2", 2000), tick("c3", 1500))),
    "a skip without a reason": ("I1", lambda: ticks(tick("c1", 1000), tick("c2", 2000, "skipped"))),
    "an acknowledged run nobody knows": ("I2", lambda: replace(GOOD, submitted={RUN: "pair", "gone": "pair"})),
    "a running task without a lease": ("I2", lambda: without_history(server=server())),
    "a queued task in no queue": (
        "I2",
        lambda: without_history(server=server(replace(OPEN, tasks={"a": ServerTask(state="queued", attempt=1)}))),
    ),
    "a retry in no set": (
        "I2",
        lambda: without_history(server=server(replace(OPEN, tasks={"a": ServerTask(state="retrying", attempt=1)}))),
    ),
    "a task in two places": (
        "I2",
        lambda: without_history(server=server(leases=(f"{RUN}_0_1",), queued=(f"{RUN}_0_1",))),
    ),
    "a lease of an attempt that is over": (
        "I2",
        lambda: without_history(server=server(leases=(f"{RUN}_0_1", f"{RUN}_0_0"))),
    ),
    "a child that was never queued": (
        "I2",
        lambda: without_history(server=server(replace(OPEN, tasks={"a": ServerTask(state="success", attempt=1)}))),
    ),
    "an open run whose tasks have all ended": (
        "I2",
        lambda: without_history(
            server=server(replace(OPEN, tasks={name: ServerTask(state="success", attempt=1) for name in "ab"}))
        ),
    ),
    "an open run that is not listed": (
        "I2",
        lambda: without_history(server=ServerDump(runs={RUN: OPEN}, leases=(f"{RUN}_0_1",))),
    ),
    "a child before its parent": (
        "I3",
        lambda: replace(GOOD, journal=(line("b", 1, "start", 3.5, "z", a="y"), *GOOD.journal[:4], GOOD.journal[5])),
    ),
    "a child of a parent that was not accepted": ("I3", lambda: replace(GOOD, attempts=GOOD.attempts[::2])),
    "an attempt that began twice": ("I4", lambda: replace(GOOD, journal=(*GOOD.journal, GOOD.journal[4]))),
    "an attempt with two outcomes": (
        "I4",
        lambda: replace(GOOD, attempts=(*GOOD.attempts, ended("b", 1, "failed", "4-1"))),
    ),
    "a task that succeeded twice": (
        "I4",
        lambda: replace(GOOD, attempts=(*GOOD.attempts, ended("b", 2, "success", "4-1"))),
    ),
    "a success no body had": ("I4", lambda: replace(GOOD, journal=GOOD.journal[:5])),
    "an attempt number left out": (
        "I5",
        lambda: replace(GOOD, attempts=(GOOD.attempts[0], ended("a", 3, "success", "3-0"), GOOD.attempts[2])),
    ),
    "more failures than retries": (
        "I5",
        lambda: replace(
            GOOD, attempts=(*GOOD.attempts, ended("a", 3, "failed", "4-1"), ended("a", 4, "timed_out", "4-2"))
        ),
    ),
    "more losses than the budget": (
        "I5",
        lambda: replace(GOOD, attempts=(*GOOD.attempts, *(ended("b", n, "killed", f"4-{n}") for n in range(2, 6)))),
    ),
    "an outcome after the end of its task": (
        "I6",
        lambda: replace(GOOD, events=(*EVENTS[:4], ("4-1", told("b", 1, Outcome.FAILED, TaskState.FAILED)), EVENTS[4])),
    ),
    "an event after the end of its run": ("I6", lambda: replace(GOOD, events=(*EVENTS, EVENTS[3]))),
    "two ends of one run": ("I6", lambda: replace(GOOD, events=(*EVENTS, ("6-0", END)))),
    "server and history disagree on the end": (
        "I6",
        lambda: replace(GOOD, server=server(replace(OPEN, state="failed"))),
    ),
    "a success with a failed task": (
        "I7",
        lambda: replace(GOOD, task_runs=(GOOD.task_runs[0], HistoryTask(run=RUN, task="b", state="failed"))),
    ),
    "a failure without a failed task": (
        "I7",
        lambda: replace(GOOD, events=(), runs=(replace(GOOD.runs[0], state="failed"),)),
    ),
    "a value of an attempt that was not accepted": (
        "I8",
        lambda: replace(
            GOOD,
            journal=(
                *GOOD.journal[:1],
                line("a", 1, "end", 2, "x"),
                *GOOD.journal[2:4],
                line("b", 1, "start", 5, "z", a="x"),
                GOOD.journal[5],
            ),
        ),
    ),
    "a value from nowhere": (
        "I8",
        lambda: replace(GOOD, journal=(*GOOD.journal[:4], line("b", 1, "start", 5, "z", a="q"), GOOD.journal[5])),
    ),
    "a run that does not end": (
        "I9",
        lambda: replace(without_history(server=server(leases=(f"{RUN}_0_1",))), settled=True),
    ),
    "a secret in a log": ("I10", lambda: replace(GOOD, texts={"log": "redis://:hunter2@host"}, secrets=("hunter2",))),
    "a key left over": (
        "I11",
        lambda: replace(GOOD, baseline_keys=frozenset(), server=ServerDump(keys=frozenset({f"tm:default:run:{RUN}"}))),
    ),
    "memory that does not come back": (
        "I11",
        lambda: replace(GOOD, baseline_keys=frozenset(), baseline_memory=1 << 20, server=ServerDump(memory=1 << 24)),
    ),
    "a gap in history": ("I12", lambda: replace(GOOD, attempts=GOOD.attempts[1:])),
    "a run missing in history": ("I12", lambda: replace(GOOD, events=(*EVENTS, ("7-0", created("other"))))),
    "an entry filed twice": ("I12", lambda: replace(GOOD, attempts=(*GOOD.attempts, GOOD.attempts[0]))),
    "an entry nobody sent": ("I12", lambda: replace(GOOD, events=(*EVENTS[:1], *EVENTS[2:]))),
    "another end in history": ("I12", lambda: replace(GOOD, runs=(replace(GOOD.runs[0], state="failed"),))),
}


@pytest.mark.parametrize("kind", SEEDED)
def test_a_seeded_violation_is_caught(kind: str) -> None:
    invariant, make = SEEDED[kind]
    assert invariant in {violation.invariant for violation in check(make())}


def test_every_invariant_has_seeded_violations() -> None:
    assert {invariant for invariant, _ in SEEDED.values()} == set(RULES) == {f"I{number}" for number in range(1, 13)}


def test_what_a_rolled_back_server_makes_happen_again_is_counted_not_blamed() -> None:
    again = replace(GOOD, journal=(*GOOD.journal, *GOOD.journal[4:]), events=(*EVENTS, EVENTS[3]), rolled_back=True)
    assert check(again) == []
    assert repeats(again) == 1
    assert repeats(GOOD) == 0


def test_permanent_keys_are_no_leftovers() -> None:
    keys = frozenset({"tm:default:meta", "tm:other:plan:v1", "rq:queues", "rq:worker:x", "tm:default:events"})
    assert check(replace(GOOD, baseline_keys=frozenset(), server=ServerDump(keys=keys))) == []
