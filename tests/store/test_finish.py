"""finish: an outcome is accepted once, from the holder of the claim alone, and drives the run on."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import pytest
import redis.exceptions

from tests.store.stage import CHAIN, DIAMOND, LEASE, SINGLE, fan, plan
from tm.events import AttemptEnded, RunEnded, TaskClosed
from tm.retry import RetryPolicy
from tm.states import MAX_LOSSES, Outcome, RunState, TaskState
from tm.store.records import UNBEGUN, NewRun, Report, VerdictKind

if TYPE_CHECKING:
    from tests.store.stage import Stage


def test_a_success_is_stored_and_queues_the_next_task(stage: Stage) -> None:
    stage.start(plan(CHAIN))
    verdict, grant = stage.finish(stage.take_one(), value=b"one", count=1)
    assert verdict.kind is VerdictKind.ACCEPTED
    assert [claim.task for claim in grant.claims] == ["b"]
    assert stage.store.output("r", 0) == b"one"
    assert stage.states() == {"a": "success", "b": "running", "c": "waiting"}
    assert stage.client.zrange(stage.keys.leases, 0, -1) == [b"r_1_1"]


def test_the_last_success_closes_the_run(stage: Stage) -> None:
    stage.start(plan(CHAIN))
    assert stage.work() == ["a", "b", "c"]
    view = stage.store.run("r")
    assert view is not None
    assert (view.state, view.ended_ms) == (RunState.SUCCESS, stage.now)
    assert stage.store.result("r") == b"value of c"
    assert stage.store.open_runs() == []
    assert stage.client.pttl(stage.keys.run("r")) > 0
    assert stage.client.pttl(stage.keys.out("r")) > 0


def test_a_task_waits_for_all_its_parents(stage: Stage) -> None:
    stage.start(plan(DIAMOND))
    stage.work(1)
    left, right = stage.take(2)
    stage.finish(right)
    assert stage.states()["join"] == "waiting"
    stage.finish(left)
    assert stage.queued() == ["r_3_1"]


@pytest.mark.parametrize("outcome", [each for each in Outcome if each is not Outcome.REJECTED])
def test_reporting_twice_is_told_and_changes_nothing(stage: Stage, outcome: Outcome) -> None:
    stage.start(plan(CHAIN))
    claim = stage.take_one()
    report = Report(claim.job, claim.token, outcome, b"v")
    stage.store.finish(stage.ask(0), [report])
    before = stage.snapshot()
    [verdict], _ = stage.store.finish(stage.ask(0), [report])
    lost = outcome in {Outcome.LOST, Outcome.KILLED}  # the task has gone on to another attempt
    assert verdict.kind is (VerdictKind.REJECTED if lost else VerdictKind.DUPLICATE)
    after = stage.snapshot()
    assert {key: after[key] for key in after if key != stage.keys.events} == {
        key: before[key] for key in before if key != stage.keys.events
    }
    assert (after == before) is not lost


def test_the_same_report_twice_in_one_call_counts_once(stage: Stage) -> None:
    stage.start(plan(DIAMOND))
    claim = stage.take_one()
    report = Report(claim.job, claim.token, Outcome.SUCCESS, b"v")
    verdicts, _ = stage.store.finish(stage.ask(0), [report, report])
    assert [verdict.kind for verdict in verdicts] == [1, 0]
    assert stage.queued() == ["r_1_1", "r_2_1"]


def test_a_repeated_call_repeats_verdicts_and_claims(stage: Stage) -> None:
    stage.start(plan(CHAIN))
    claim = stage.take_one()
    ask = stage.ask(1)
    report = Report(claim.job, claim.token, Outcome.SUCCESS, b"v")
    _, first = stage.store.finish(ask, [report])
    [verdict], again = stage.store.finish(dataclasses.replace(ask, again=True), [report])
    assert verdict.kind is VerdictKind.DUPLICATE
    assert again.claims == first.claims


@pytest.mark.parametrize("token", ["forged", "", "ask1.2", "ask1", "ask1.1 "])
def test_without_the_token_nothing_is_accepted(stage: Stage, token: str) -> None:
    stage.start(plan(SINGLE))
    claim = stage.take_one(token="ask1")
    stage.later(5)
    [verdict], _ = stage.store.finish(stage.ask(0, worker="zombie"), [Report(claim.job, token, Outcome.SUCCESS, b"v")])
    assert verdict.kind is VerdictKind.REJECTED
    assert stage.states() == {"only": "running"}
    assert stage.store.output("r", 0) is None
    [told] = stage.told(AttemptEnded)
    assert (told.outcome, told.state, told.worker, told.graph, told.task) == (
        Outcome.REJECTED,
        TaskState.RUNNING,
        "zombie",
        "g",
        "only",
    )


def test_a_report_for_an_attempt_that_was_never_claimed_is_refused(stage: Stage) -> None:
    stage.start(plan(SINGLE))
    [verdict], _ = stage.store.finish(stage.ask(0), [Report("r_0_1", "", Outcome.SUCCESS, b"v")])
    assert verdict.kind is VerdictKind.REJECTED


def test_a_zombie_is_refused_and_history_knows_whose_attempt_it_was(stage: Stage) -> None:
    stage.start(plan(CHAIN))
    zombie = stage.take_one()
    stage.later(LEASE + 1)
    stage.store.reap()
    winner = stage.take_one()
    assert stage.finish(zombie, value=b"late")[0].kind is VerdictKind.REJECTED
    assert stage.finish(winner, value=b"good")[0].kind is VerdictKind.ACCEPTED
    assert stage.store.output("r", 0) == b"good"
    rejected = stage.told(AttemptEnded)[1]
    assert (rejected.outcome, rejected.attempt, rejected.graph, rejected.task) == (Outcome.REJECTED, 1, "g", "a")


@pytest.mark.parametrize("job", ["unknown_0_1", "r_7_1", "r_0_5"])
def test_an_unknown_attempt_is_refused_on_the_record(stage: Stage, job: str) -> None:
    stage.start(plan(SINGLE))
    [verdict], _ = stage.store.finish(stage.ask(0), [Report(job, "tok", Outcome.SUCCESS, b"v")])
    assert verdict.kind is VerdictKind.REJECTED
    assert [told.outcome for told in stage.told(AttemptEnded)] == [Outcome.REJECTED]


@pytest.mark.parametrize("job", ["", "nonsense", "_0_1", "r_0_0", "r__1"])
def test_what_is_no_attempt_is_refused_silently(stage: Stage, job: str) -> None:
    stage.start(plan(SINGLE))
    before = stage.snapshot()
    [verdict], _ = stage.store.finish(stage.ask(0), [Report(job, "tok", Outcome.SUCCESS, b"v")])
    assert verdict.kind is VerdictKind.REJECTED
    assert stage.snapshot() == before


@pytest.mark.parametrize("outcome", [Outcome.FAILED, Outcome.TIMED_OUT])
def test_a_failure_for_good_blocks_what_is_below_and_ends_the_run(stage: Stage, outcome: Outcome) -> None:
    stage.start(plan(DIAMOND))
    stage.finish(stage.take_one(), outcome, error=b"\x80")
    assert stage.states() == {"top": outcome.value, "left": "blocked", "right": "blocked", "join": "blocked"}
    view = stage.store.run("r")
    assert view is not None
    assert (view.state, view.tasks[0].error) == (RunState.FAILED, b"\x80")
    assert [(told.task, told.reason) for told in stage.told(TaskClosed)] == [
        (name, f"parent top {outcome.value}") for name in ("left", "join", "right")
    ]
    assert [told.state for told in stage.told(RunEnded)] == [RunState.FAILED]
    assert stage.client.pttl(stage.keys.run("r")) > 0


def test_a_failure_lets_the_other_branch_finish_first(stage: Stage) -> None:
    stage.start(plan(DIAMOND))
    stage.work(1)
    left, right = stage.take(2)
    stage.finish(left, Outcome.FAILED)
    assert stage.state() == "running"
    assert stage.states() == {"top": "success", "left": "failed", "right": "running", "join": "blocked"}
    stage.finish(right)
    assert stage.state() == "failed"
    assert stage.client.pttl(stage.keys.out("r")) > 0, "messages of a failed run must go too"


@pytest.mark.parametrize("retry", [0, 1, 2])
@pytest.mark.parametrize(
    "rules",
    [
        {"retry_delay": 1.5, "backoff": 1},
        {"retry_delay": 0.0, "backoff": 10.0},
        {"retry_delay": 2, "backoff": 0.5, "max_retry_delay": 2.5, "jitter": 0.5},
        {"retry_delay": 1e6, "backoff": 100.0},
    ],
    ids=["doubling", "none", "capped", "endless"],
)
def test_a_retry_is_due_when_the_policy_says(stage: Stage, rules: dict[str, float], retry: int) -> None:
    stage.start(plan(SINGLE, retries=3, **rules))
    for _ in range(retry):
        stage.finish(stage.take_one(), Outcome.FAILED)
        stage.later(40 * 86_400_000)
        assert stage.store.promote()[0] == 1
    verdict, _ = stage.finish(stage.take_one(), Outcome.FAILED, chance=0.5)
    expected = stage.now + RetryPolicy(retries=3, **rules).delay_ms(retry, 0.5)  # type: ignore[arg-type]
    assert verdict.due_ms == expected
    assert stage.client.zscore(stage.keys.retry, f"r_0_{retry + 2}") == expected
    view = stage.store.run("r")
    assert view is not None
    assert (view.tasks[0].state, view.tasks[0].due_ms) == (TaskState.RETRYING, expected)
    assert stage.told(AttemptEnded)[-1].due == expected


@pytest.mark.parametrize("rules", [{"retry_delay": 0, "backoff": 1}, {"retry_delay": 1, "backoff": 1}])
def test_a_delay_beyond_all_numbers_is_the_same_on_both_sides(stage: Stage, rules: dict[str, float]) -> None:
    shape = plan(SINGLE, retries=5000, **rules)
    stage.start(shape)
    claim = stage.take_one()
    record = stage.client.hget(stage.keys.run("r"), "0")
    import msgpack

    fields = msgpack.unpackb(record)
    fields[3] = 4000  # fails so far
    stage.client.hset(stage.keys.run("r"), "0", msgpack.packb(fields))
    verdict, _ = stage.finish(claim, Outcome.FAILED)
    assert verdict.due_ms == stage.now + shape.tasks[0].retry.delay_ms(4000)


def test_a_failure_that_must_not_be_retried_is_final(stage: Stage) -> None:
    stage.start(plan(SINGLE, retries=3))
    stage.finish(stage.take_one(), Outcome.FAILED, retry=False)
    assert stage.state() == "failed"


def test_work_given_back_starts_again_at_once_and_for_free(stage: Stage) -> None:
    stage.start(plan(SINGLE))
    for attempt in range(1, 3 * MAX_LOSSES):
        claim = stage.take_one()
        assert claim.attempt == attempt
        assert stage.finish(claim, Outcome.LOST)[0].kind is VerdictKind.ACCEPTED
    assert stage.work() == ["only"]
    assert stage.state() == "success"


def test_what_had_not_begun_waits_again_as_if_nobody_had_claimed_it(stage: Stage) -> None:
    stage.start(plan(SINGLE), "r1")
    stage.later(10)
    stage.start(plan(SINGLE), "r2")
    stage.later(10)
    stage.start(plan(SINGLE), "r3")
    before = stage.client.zrange(stage.keys.queued("default"), 0, -1, withscores=True)
    claims = stage.take(2)
    stage.later(5000)
    events = len(stage.events())
    reports = [Report(each.job, each.token, Outcome.LOST, ms=UNBEGUN) for each in claims]
    verdicts, _ = stage.store.finish(stage.ask(0), reports)
    assert [verdict.kind for verdict in verdicts] == [VerdictKind.ACCEPTED] * 2
    assert stage.client.zrange(stage.keys.queued("default"), 0, -1, withscores=True) == before
    assert stage.client.zcard(stage.keys.leases) == 0
    assert len(stage.events()) == events, "history was told of it"
    assert stage.store.ring() == 0
    again = stage.take(3)
    assert [(each.run, each.attempt) for each in again] == [("r1", 1), ("r2", 1), ("r3", 1)]
    assert stage.store.finish(stage.ask(0), reports)[0][0].kind is VerdictKind.REJECTED
    assert stage.states("r1") == {"only": "running"}


def test_what_had_not_begun_may_come_back_in_the_same_call_and_its_cancelled_run_stays_cancelled(stage: Stage) -> None:
    stage.start(plan(SINGLE))
    claim = stage.take_one()
    verdict, grant = stage.finish(claim, Outcome.LOST, count=1, ms=UNBEGUN)
    assert verdict.kind is VerdictKind.ACCEPTED
    [again] = grant.claims
    assert (again.job, again.token == claim.token) == (claim.job, False)
    assert stage.client.zcard(stage.keys.queued("default")) == 0
    assert stage.client.zcard(stage.keys.leases) == 1
    stage.store.cancel("r")
    assert stage.finish(again, Outcome.LOST, ms=UNBEGUN)[0].kind is VerdictKind.DUPLICATE
    assert stage.state() == "cancelled"
    assert stage.take() == []


def test_a_task_whose_process_dies_again_and_again_is_quarantined(stage: Stage) -> None:
    stage.start(plan(CHAIN, retries=50))
    for _ in range(MAX_LOSSES):
        stage.finish(stage.take_one(), Outcome.KILLED, error=b"\x80")
    assert stage.states() == {"a": "quarantined", "b": "blocked", "c": "blocked"}
    assert stage.state() == "failed"
    assert stage.take() == []


@pytest.mark.parametrize("outcome", Outcome)
def test_what_ends_after_its_run_was_cancelled_is_a_repetition(stage: Stage, outcome: Outcome) -> None:
    if outcome is Outcome.REJECTED:
        return
    stage.start(plan(CHAIN, retries=3))
    claim = stage.take_one()
    stage.store.cancel("r")
    before = stage.snapshot()
    assert stage.finish(claim, outcome)[0].kind is VerdictKind.DUPLICATE
    assert stage.snapshot() == before


def test_a_result_after_the_lease_but_before_anyone_reaped_is_accepted(stage: Stage) -> None:
    stage.start(plan(SINGLE))
    claim = stage.take_one()
    stage.later(10 * LEASE)
    assert stage.finish(claim)[0].kind is VerdictKind.ACCEPTED
    assert stage.store.reap() == 0


def test_results_are_taken_while_rq_is_suspended(stage: Stage) -> None:
    stage.start(plan(CHAIN))
    claim = stage.take_one()
    stage.client.set("rq:suspended", 1)
    verdict, grant = stage.finish(claim, count=1)
    assert verdict.kind is VerdictKind.ACCEPTED
    assert (grant.claims, grant.suspended) == ([], True)
    assert stage.bells() == ["r_1_1"]


def test_an_empty_report_asks_for_work_only(stage: Stage) -> None:
    stage.start(plan(SINGLE))
    verdicts, grant = stage.store.finish(stage.ask(1), [])
    assert verdicts == []
    assert len(grant.claims) == 1


@pytest.mark.parametrize(
    ("field", "value"), [(2, "rejected"), (2, "cancelled"), (2, ""), (6, "long"), (7, "x"), (7, "-1")]
)
def test_one_bad_report_refuses_the_whole_call_before_anything_is_written(stage: Stage, field: int, value: str) -> None:
    stage.store.start(plan(SINGLE, retries=1), [NewRun(id="a"), NewRun(id="b")])
    stage.offer("g")
    claims = stage.take(2)
    ask = ["w", str(LEASE), "tok", "0", "", "0", "", "0"]
    good, bad = ([claim.job, claim.token, "failed", b"", b"", "1", "3", "0.5"] for claim in claims)
    bad[field] = value
    before = stage.snapshot()
    for reports in ([*good, *bad], [*good, *good[:-1]]):
        with pytest.raises(redis.exceptions.ResponseError):
            stage.call("finish", *ask, *reports)
    assert stage.snapshot() == before


def test_a_fan_out_of_ten_thousand_is_queued_bit_by_bit_and_complete(stage: Stage) -> None:
    stage.start(plan(fan(10_000)))
    first = stage.take_one()
    stage.client.config_resetstat()
    stage.finish(first)
    assert len(stage.queued()) == 250
    assert stage.client.info("commandstats")["cmdstat_fcall"]["usec"] < 50_000, "far below what it takes in one piece"
    done = 1
    while claims := stage.take(200):
        done += len(claims)
        stage.store.finish(stage.ask(0), [Report(claim.job, claim.token, Outcome.SUCCESS, b"v") for claim in claims])
    assert done == 10_002
    assert stage.state() == "success"
    assert stage.client.llen(stage.keys.backlog) == 0


def test_a_fan_out_left_for_later_is_dropped_when_its_run_is_cancelled(stage: Stage) -> None:
    stage.start(plan(fan(1000)))
    stage.finish(stage.take_one())
    stage.store.cancel("r")
    while stage.store.promote()[1] is not None:
        pass
    assert stage.state() == "cancelled"
    assert stage.queued() == []
    assert len(stage.told(TaskClosed)) == 1001
    assert len(stage.told(RunEnded)) == 1


def test_thousands_below_a_failed_task_are_blocked_bit_by_bit(stage: Stage) -> None:
    stage.start(plan(fan(3000)))
    stage.finish(stage.take_one(), Outcome.FAILED)
    assert stage.state() == "running"
    assert 0 < len(stage.told(TaskClosed)) < 300
    while stage.store.promote()[1] is not None:
        pass
    assert stage.state() == "failed"
    assert len(stage.told(TaskClosed)) == 3001
    assert set(stage.states().values()) == {"failed", "blocked"}


def test_many_small_fan_outs_in_one_batch_lose_nothing(stage: Stage) -> None:
    stage.store.start(plan(fan(20)), [NewRun(id=f"x{number}") for number in range(64)])
    stage.offer("g")
    claims = stage.take(64)
    while claims:
        reports = [Report(claim.job, claim.token, Outcome.SUCCESS, b"v") for claim in claims]
        claims = stage.store.finish(stage.ask(64), reports)[1].claims
    assert stage.store.open_runs() == []
    assert {event.state for event in stage.told(RunEnded)} == {RunState.SUCCESS}
    assert len(stage.told(AttemptEnded)) == 64 * 22


def test_a_message_key_of_the_wrong_type_fails_the_attempt_and_says_why(stage: Stage) -> None:
    """An error instead would make its worker repeat the report for ever, and hold up all others in the same call."""
    stage.store.start(plan(CHAIN, retries=2), [NewRun(id="good"), NewRun(id="bad")])
    stage.offer("g")
    good, bad = stage.take(2)
    stage.client.set(stage.keys.out("bad"), "a string")
    reports = [Report(claim.job, claim.token, Outcome.SUCCESS, b"v") for claim in (bad, good)]
    verdicts, _ = stage.store.finish(stage.ask(0), reports)
    assert [verdict.kind for verdict in verdicts] == [VerdictKind.ACCEPTED] * 2
    assert stage.queued() == stage.bells() == ["good_1_1"]
    assert stage.client.zcard(stage.keys.leases) == 0
    assert (stage.state("bad"), stage.states("bad")["a"]) == ("failed", "failed")
    assert any(b"cannot be stored" in event.error for event in stage.told(AttemptEnded))
