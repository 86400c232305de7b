"""What a leading scheduler counts: ticks as the server answers, runs and attempts as their events pass."""

from __future__ import annotations

from tm.events import AttemptEnded, DeadlineMissed, RunCreated, RunEnded, TaskClosed
from tm.states import Outcome, RunState, TaskState, Trigger
from tm.store.records import DueTick, TickAnswer
from tm_scheduler.metrics import Tally


def tick(**more) -> DueTick:
    return DueTick(run="g-1", at_ms=0, **more)


def counted(counts) -> dict[tuple[str, ...], int]:
    return dict(counts.items())


def test_a_tick_counts_once_it_is_a_run_or_a_record() -> None:
    tally = Tally()
    for answer in (TickAnswer.EXISTS, TickAnswer.HELD, TickAnswer.HELD, TickAnswer.PAUSED, TickAnswer.FENCED):
        tally.tick("g", tick(), answer, 5)
    assert counted(tally.ticks) == {}
    tally.tick("g", tick(), TickAnswer.CREATED, 1500)
    tally.tick("g", tick(trigger=Trigger.CATCHUP), TickAnswer.CREATED, 60_000)
    tally.tick("g", tick(born=RunState.FAILED, reason="config file c.json: broken"), TickAnswer.CREATED, -3)
    assert counted(tally.ticks) == {("g", "run"): 2, ("g", "failed"): 1}
    lag = {labels: (buckets[-1][1], total) for labels, buckets, total in tally.lag.items()}
    assert lag == {("g", "schedule"): (2, 1.5), ("g", "catchup"): (1, 60.0)}, "a clock that is behind counts as none"


def test_skips_are_told_apart_by_a_few_words_whatever_their_reasons_say() -> None:
    tally = Tally()
    for reason in (
        "misfire: 70 s late, outside the misfire window of 60 s",
        "overlap: an earlier tick is waiting already",
        "paused by anna (maintenance): missed",
        "because of the moon",
    ):
        tally.tick("g", tick(born=RunState.SKIPPED, reason=reason), TickAnswer.CREATED, 70_000)
    tally.tick("g", tick(), TickAnswer.OVERLAPPED, 5)
    assert counted(tally.ticks) == {("g", "skipped"): 5}
    assert counted(tally.skips) == {
        ("g", "misfire"): 1,
        ("g", "overlap"): 2,
        ("g", "paused"): 1,
        ("g", "other"): 1,
    }
    assert not list(tally.lag.items())


def created(state: RunState = RunState.QUEUED) -> RunCreated:
    return RunCreated(
        run="g-1",
        graph="g",
        version="v",
        trigger="manual",
        tick=None,
        params=b"",
        config="",
        state=state,
        reason="",
        at=0,
    )


def ended(outcome: Outcome, state: TaskState | None) -> AttemptEnded:
    return AttemptEnded(
        run="g-1",
        graph="g",
        node=0,
        task="t",
        attempt=1,
        outcome=outcome,
        state=state,
        worker="w",
        claimed=0,
        at=0,
        ms=1,
        error=b"",
        due=None,
    )


def test_events_that_come_once_more_do_not_count_once_more() -> None:
    tally = Tally()
    entries = [
        ("1-0", created()),
        ("1-1", created(RunState.SKIPPED)),
        ("2-0", ended(Outcome.FAILED, TaskState.RETRYING)),
        ("10-0", ended(Outcome.LOST, TaskState.QUEUED)),
        ("10-1", ended(Outcome.KILLED, TaskState.QUARANTINED)),
        ("10-2", ended(Outcome.REJECTED, None)),
        ("10-10", TaskClosed(run="g-1", node=1, task="u", state=TaskState.BLOCKED, reason="", at=0)),
        ("11-0", RunEnded(run="g-1", graph="g", state=RunState.FAILED, reason="", at=2500, started=1000)),
        ("11-1", DeadlineMissed(run="g-2", graph="g", state=RunState.RUNNING, due=1, at=2)),
        ("12-0", RunEnded(run="g-2", graph="g", state=RunState.CANCELLED, reason="", at=2500, started=None)),
    ]
    tally.read(entries[:6])
    tally.read(entries[2:])  # the database would not take them the first time
    tally.read(entries)
    assert tally.filed == len(entries)
    assert counted(tally.started) == {("g", "manual"): 1}
    assert counted(tally.attempts) == {
        ("g", "failed"): 1,
        ("g", "lost"): 1,
        ("g", "killed"): 1,
        ("g", "rejected"): 1,
    }
    assert counted(tally.tasks) == {("g", "retrying"): 1, ("g", "quarantined"): 1}
    assert counted(tally.late) == {("g",): 1}
    assert counted(tally.ended) == {("g", "failed"): 1, ("g", "cancelled"): 1}
    [(labels, buckets, total)] = tally.run_seconds.items()
    assert (labels, buckets[-1][1], total) == (("g",), 1, 1.5)
