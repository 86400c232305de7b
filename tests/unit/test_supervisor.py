"""The supervisor's decisions, event by event: no process, no server, no clock."""

from __future__ import annotations

import signal
from itertools import count
from typing import TYPE_CHECKING, Any

import pytest

from tm import codec
from tm.states import Outcome
from tm.store.records import UNBEGUN, Beat, Claim, Verdict, VerdictKind
from tm_worker.assigning import IDLE_PATIENCE, PATIENCE
from tm_worker.executors import Ended, Recall, Retire, Run, Signal, Spawn
from tm_worker.pace import AHEAD, DEEPEST, SMALL
from tm_worker.supervisor import STOP_GRACE, WAIT, Supervisor

if TYPE_CHECKING:
    from tm_worker.executors import Action

_jobs = count(1)


def claim(task: str = "t", *, timeout: float | None = None, job: str = "") -> Claim:
    job = job or f"run_{next(_jobs)}_1"
    return Claim(job, f"token-{job}", "run", "g", "v1", task, 1, 0, timeout, None, b"", "")


def ready(processes: int = 2, **options: Any) -> Supervisor:
    """A supervisor with all its executors, numbered from 1."""
    supervisor = Supervisor(processes, grace=10.0, chance=lambda: 0.25, **options)
    spawned = supervisor.tick(0.0)
    assert spawned == [Spawn(number + 1) for number in range(processes)]
    for number in range(processes):
        assert supervisor.born(number + 1, 0.0) == []
    return supervisor


def run(supervisor: Supervisor, what: Claim, now: float = 0.0) -> int:
    """Have a claim run; the number of the executor."""
    [action] = supervisor.granted([what], now)
    assert isinstance(action, Run)
    assert action.claim is what
    return action.number


def report(supervisor: Supervisor, number: int, what: Claim, now: float = 1.0, **fields: Any) -> list[Action]:
    frame = {"ok": True, "value": b"\x01", "error": b"", "retry": False, "us": 5_000, "leaving": False} | fields
    return supervisor.reported(number, [what.job, what.token, *frame.values()], now)


def last(supervisor: Supervisor) -> Ended:
    [ended] = supervisor.ended
    return ended


def said(supervisor: Supervisor) -> dict[str, Any]:
    fields = codec.decode(last(supervisor).report.error)
    assert isinstance(fields, dict)
    return fields


def test_room_is_what_could_begin_now() -> None:
    supervisor = Supervisor(2, grace=10.0)
    assert supervisor.room == 0
    supervisor.tick(0.0)
    supervisor.born(1, 0.0)
    assert supervisor.room == 1
    supervisor.born(2, 0.0)
    assert supervisor.room == 2
    run(supervisor, claim())
    assert supervisor.room == 1


def test_a_report_is_kept_for_delivery_and_frees_the_executor() -> None:
    supervisor = ready(1)
    what = claim()
    number = run(supervisor, what)
    assert report(supervisor, number, what) == []
    got = last(supervisor).report
    assert (got.job, got.token, got.outcome, got.value, got.ms) == (what.job, what.token, Outcome.SUCCESS, b"\x01", 5)
    assert supervisor.room == 1
    assert not supervisor.held


def test_a_failure_keeps_its_error_and_whether_to_retry() -> None:
    supervisor = ready(1)
    what = claim()
    number = run(supervisor, what)
    report(supervisor, number, what, ok=False, value=b"", error=b"E", retry=True)
    got = last(supervisor).report
    assert (got.outcome, got.error, got.retry, got.chance) == (Outcome.FAILED, b"E", True, 0.25)


def test_claims_beyond_the_room_wait_for_the_next_free_executor() -> None:
    supervisor = ready(1)
    first, second = claim(), claim()
    assert supervisor.granted([first, second], 0.0) == [Run(1, first)]
    assert supervisor.room == 0
    assert report(supervisor, 1, first) == [Run(1, second)]


def test_a_task_goes_to_the_executor_that_ran_it_last() -> None:
    supervisor = ready(3)
    a, b, c = claim("a"), claim("b"), claim("c")
    numbers = {each.task: run(supervisor, each) for each in (a, b, c)}
    for each in (c, a, b):
        report(supervisor, numbers[each.task], each)
    for task, number in numbers.items():
        assert run(supervisor, claim(task)) == number


def test_other_work_avoids_the_executor_that_a_retry_will_look_for() -> None:
    supervisor = ready(2)
    flaky = claim("flaky")
    number = run(supervisor, flaky)
    report(supervisor, number, flaky, ok=False)
    due = supervisor.delivered(supervisor.ended, [Verdict(VerdictKind.ACCEPTED, 5_500)], 1.0, 4_000.0)
    assert due == [2.5]
    assert run(supervisor, claim("other"), 1.1) != number
    assert run(supervisor, claim("flaky"), 2.5) == number


def test_the_executor_is_used_all_the_same_when_there_is_no_other() -> None:
    supervisor = ready(1)
    flaky = claim("flaky")
    report(supervisor, run(supervisor, flaky), flaky, ok=False)
    supervisor.delivered(supervisor.ended, [Verdict(VerdictKind.ACCEPTED, 5_000)], 1.0, 0.0)
    assert run(supervisor, claim("other"), 1.1) == 1


def test_a_repeated_grant_changes_nothing() -> None:
    supervisor = ready(2)
    what = claim()
    run(supervisor, what)
    assert supervisor.granted([what], 0.1) == []
    assert len(supervisor.held) == 1


def test_a_timeout_asks_first_and_kills_after_the_grace() -> None:
    supervisor = ready(1)
    what = claim(timeout=3.0)
    run(supervisor, what, now=100.0)
    assert supervisor.next_time() == 103.0
    assert supervisor.tick(102.9) == []
    assert supervisor.tick(103.0) == [Signal(1, signal.SIGTERM)]
    assert supervisor.next_time() == 113.0
    assert supervisor.tick(112.9) == []
    assert supervisor.tick(113.0) == [Signal(1, signal.SIGKILL)]
    assert supervisor.tick(114.0) == []
    assert supervisor.died(1, -9, 0, 113.1) == [Spawn(2)]
    assert last(supervisor).report.outcome is Outcome.TIMED_OUT
    assert last(supervisor).report.retry
    assert said(supervisor)["message"].startswith("the attempt ran longer than its timeout of 3 s")


def test_a_result_that_comes_after_the_timeout_is_too_late() -> None:
    supervisor = ready(1)
    what = claim(timeout=1.0)
    run(supervisor, what)
    supervisor.tick(1.0)
    assert report(supervisor, 1, what, now=1.5) == [Signal(1, signal.SIGKILL)]
    assert last(supervisor).report.outcome is Outcome.TIMED_OUT
    assert supervisor.room == 0
    assert supervisor.died(1, -9, 0, 1.6) == [Spawn(2)]
    assert len(supervisor.ended) == 1


def test_a_death_is_reported_with_its_signal_and_memory() -> None:
    supervisor = ready(1)
    run(supervisor, claim())
    assert supervisor.died(1, -signal.SIGKILL, 300 << 20, 2.0) == [Spawn(2)]
    assert last(supervisor).report.outcome is Outcome.KILLED
    assert last(supervisor).report.ms == 2000
    assert said(supervisor) == {
        "type": "Killed",
        "message": "the process was ended by SIGKILL (out of memory?); it had used 300 MiB at most",
        "traceback": "",
        "signal": "SIGKILL",
        "max_rss": 300 << 20,
    }


def test_an_exit_is_reported_with_its_code() -> None:
    supervisor = ready(1)
    run(supervisor, claim())
    supervisor.died(1, 3, 0, 2.0)
    assert said(supervisor)["exit_code"] == 3


def test_an_executor_that_dies_at_birth_is_not_replaced_in_a_tight_circle() -> None:
    supervisor = ready(1)
    assert supervisor.died(1, 1, 0, 0.1) == []
    assert supervisor.next_time() == 1.1
    assert supervisor.tick(1.1) == [Spawn(2)]


def test_a_fork_that_fails_is_tried_again_later() -> None:
    supervisor = ready(1)
    what = claim()
    run(supervisor, what)
    [spawn] = supervisor.died(1, -11, 0, 5.0)
    assert isinstance(spawn, Spawn)
    supervisor.unborn(spawn.number, 5.0)
    assert supervisor.room == 0
    assert supervisor.tick(5.9) == []
    assert supervisor.tick(6.0) == [Spawn(3)]


def test_a_claim_that_could_not_be_sent_goes_to_another() -> None:
    supervisor = ready(2)
    what = claim()
    number = run(supervisor, what)
    assert supervisor.unsent(number, what.job, 0.0) == [Run(3 - number, what)]
    supervisor.died(number, 1, 0, 5.0)
    assert not supervisor.ended
    assert list(supervisor.held) == [what.job]


def test_the_lost_are_killed_at_once_and_not_reported() -> None:
    supervisor = ready(1)
    what = claim()
    run(supervisor, what)
    assert supervisor.beaten([(what.job, "another token", Beat.LOST)], 1.0) == []
    assert supervisor.beaten([(what.job, what.token, Beat.OK)], 1.0) == []
    assert supervisor.beaten([(what.job, what.token, Beat.LOST)], 1.0) == [Signal(1, signal.SIGKILL)]
    assert supervisor.beaten([(what.job, what.token, Beat.LOST)], 2.0) == []
    assert supervisor.died(1, -9, 0, 2.0) == [Spawn(2)]
    assert not supervisor.ended
    assert not supervisor.held


def test_the_cancelled_may_tidy_up() -> None:
    supervisor = ready(1)
    what = claim()
    run(supervisor, what)
    assert supervisor.beaten([(what.job, what.token, Beat.CANCEL)], 1.0) == [Signal(1, signal.SIGTERM)]
    assert supervisor.tick(11.0) == [Signal(1, signal.SIGKILL)]
    supervisor.died(1, -9, 0, 11.1)
    assert not supervisor.ended


def test_lost_before_it_began_is_just_dropped() -> None:
    supervisor = ready(1)
    first, second = claim(), claim()
    supervisor.granted([first, second], 0.0)
    assert supervisor.beaten([(second.job, second.token, Beat.LOST)], 0.5) == []
    assert report(supervisor, 1, first) == []
    assert not supervisor.held


def test_a_drain_takes_no_more_and_waits() -> None:
    supervisor = ready(2)
    what = claim()
    number = run(supervisor, what)
    assert supervisor.drain(10.0, 30.0) == []
    assert supervisor.room == 0
    assert not supervisor.finished
    assert report(supervisor, number, what, now=20.0) == []
    assert supervisor.finished
    assert last(supervisor).report.outcome is Outcome.SUCCESS


def test_at_the_limit_of_a_drain_the_rest_is_given_back() -> None:
    supervisor = ready(1)
    what = claim()
    run(supervisor, what)
    supervisor.drain(10.0, 30.0)
    assert supervisor.next_time() == 40.0
    assert supervisor.tick(40.0) == [Signal(1, signal.SIGTERM)]
    assert supervisor.tick(40.0 + STOP_GRACE) == [Signal(1, signal.SIGKILL)]
    assert supervisor.died(1, -9, 0, 41.1) == []
    assert supervisor.finished
    assert last(supervisor).report.outcome is Outcome.LOST
    assert said(supervisor)["type"] == "Drained"


def test_a_result_that_beats_the_end_of_a_drain_counts() -> None:
    supervisor = ready(1)
    what = claim()
    run(supervisor, what)
    supervisor.drain(0.0, 0.0)
    assert report(supervisor, 1, what, now=0.5) == [Signal(1, signal.SIGKILL)]
    assert last(supervisor).report.outcome is Outcome.SUCCESS
    assert supervisor.finished


def test_a_failure_at_the_end_of_a_drain_is_our_doing() -> None:
    supervisor = ready(1)
    what = claim()
    run(supervisor, what)
    supervisor.drain(0.0, 0.0)
    report(supervisor, 1, what, now=0.5, ok=False)
    assert last(supervisor).report.outcome is Outcome.LOST


def test_an_executor_that_hangs_up_but_lives_is_ended() -> None:
    supervisor = ready(1)
    supervisor.hung_up(1, 5.0)
    assert supervisor.room == 0
    assert supervisor.next_time() == 6.0
    assert supervisor.tick(6.0) == [Signal(1, signal.SIGKILL)]
    assert supervisor.died(1, -9, 0, 6.1) == [Spawn(2)]


def test_a_death_after_the_end_of_the_stream_tells_its_own_reason() -> None:
    supervisor = ready(1)
    run(supervisor, claim())
    supervisor.hung_up(1, 1.0)
    supervisor.died(1, -signal.SIGSEGV, 0, 1.1)
    assert said(supervisor)["signal"] == "SIGSEGV"


def test_the_second_drain_shortens_the_first() -> None:
    supervisor = ready(1)
    run(supervisor, claim())
    supervisor.drain(10.0, 30.0)
    assert supervisor.drain(11.0, 0.0) == [Signal(1, signal.SIGTERM)]


def test_a_drain_gives_back_what_has_not_begun() -> None:
    supervisor = ready(1)
    first, second, third = claim(), claim(), claim()
    supervisor.granted([first, second], 0.0)
    supervisor.drain(1.0, 30.0)
    supervisor.granted([third], 1.1)  # was on its way
    assert [each.report.job for each in supervisor.ended] == [second.job, third.job]
    assert {each.report.outcome for each in supervisor.ended} == {Outcome.LOST}


def test_an_executor_is_retired_after_so_many_tasks() -> None:
    supervisor = ready(1, max_tasks=2)
    for _ in range(2):
        what = claim()
        actions = report(supervisor, run(supervisor, what), what)
    assert actions == [Retire(1), Spawn(2)]
    assert supervisor.died(1, 0, 0, 2.0) == []
    assert supervisor.born(2, 2.0) == []
    assert supervisor.room == 1


def test_an_executor_that_leaves_is_replaced() -> None:
    supervisor = ready(1)
    what = claim()
    assert report(supervisor, run(supervisor, what), what, leaving=True) == [Retire(1), Spawn(2)]


def test_rubbish_ends_the_executor_and_its_attempt() -> None:
    rubbish: list[list[Any]] = [
        [],
        ["x"],
        ["job", "token", True, b"", b"", False, 1, False],
        ["job", "token", "yes", None, b"", False, 1, False],
    ]
    for frame in rubbish:
        supervisor = ready(1)
        run(supervisor, claim())
        assert supervisor.reported(1, frame, 1.0) == [Signal(1, signal.SIGKILL)]
        assert not supervisor.ended
        supervisor.died(1, -9, 0, 1.1)
        assert last(supervisor).report.outcome is Outcome.KILLED


def test_a_report_nobody_asked_for_ends_the_executor() -> None:
    supervisor = ready(1)
    assert report(supervisor, 1, claim()) == [Signal(1, signal.SIGKILL)]
    assert supervisor.room == 0


def test_without_the_nursery_everything_is_given_back() -> None:
    supervisor = ready(2)
    first, second, third = claim(), claim(), claim()
    supervisor.granted([first, second, third], 0.0)
    supervisor.abandon(1.0)
    assert {each.report.job for each in supervisor.ended} == {first.job, second.job, third.job}
    assert {each.report.outcome for each in supervisor.ended} == {Outcome.LOST}
    assert supervisor.finished
    assert supervisor.tick(5.0) == []


def test_an_attempt_that_takes_too_much_memory_is_killed_and_says_so() -> None:
    supervisor = ready(2)
    number = run(supervisor, claim("greedy"))
    assert supervisor.running() == [number]
    assert supervisor.too_large(number, 300 << 20, 256 << 20, 1.0) == [Signal(number, signal.SIGKILL)]
    assert supervisor.running() == []
    assert supervisor.too_large(number, 400 << 20, 256 << 20, 1.5) == [], "it is being ended"
    assert supervisor.died(number, -9, 310 << 20, 2.0) == [Spawn(3)]
    assert last(supervisor).report.outcome is Outcome.KILLED
    assert "300 MiB" in said(supervisor)["message"]
    assert "limit of 256 MiB (TM_MEMORY_LIMIT)" in said(supervisor)["message"]
    assert said(supervisor)["max_rss"] == 310 << 20
    assert supervisor.too_large(1, 300 << 20, 256 << 20, 2.0) == [], "an idle one is nobody's attempt"


# What is fed ahead ------------------------------------------------------------------------------------------------


def deep(processes: int = 1, **options: Any) -> Supervisor:
    """A supervisor that has seen tiny tasks come from a deep queue, with nothing to do now."""
    supervisor = ready(processes, **options)
    for _ in range(8):
        claims = [claim() for _ in range(supervisor.appetite)]
        sent = [action for action in supervisor.granted(claims, 0.0, full=True) if isinstance(action, Run)]
        assert len(sent) == len(claims)
        for action in sent:
            report(supervisor, action.number, action.claim, now=0.0, us=20)
    supervisor.ended.clear()
    return supervisor


def sent(actions: list[Action]) -> list[tuple[int, Claim]]:
    assert all(isinstance(action, Run) for action in actions)
    return [(action.number, action.claim) for action in actions if isinstance(action, Run)]


def test_an_executor_gets_one_attempt_at_a_time_until_tasks_are_known_and_the_queue_is_deep() -> None:
    supervisor = ready(1)
    assert supervisor.appetite == 1
    what = claim()
    supervisor.granted([what], 0.0, full=True)
    assert supervisor.appetite == 0
    report(supervisor, 1, what, us=20)
    depths = []
    for _ in range(7):
        claims = [claim() for _ in range(supervisor.appetite)]
        supervisor.granted(claims, 0.0, full=True)
        for each in claims:
            report(supervisor, 1, each, us=20)
        depths.append(supervisor.appetite)
    assert depths == [2, 4, 8, 16, 32, 32, 32]
    assert depths[-1] == DEEPEST


def test_a_queue_that_is_not_deep_is_left_to_others() -> None:
    supervisor = ready(1)
    for _ in range(5):
        what = claim()
        supervisor.granted([what], 0.0, full=False)
        report(supervisor, 1, what, us=20)
    assert supervisor.appetite == 1


def test_work_is_spread_over_the_executors() -> None:
    supervisor = deep(2)
    numbers = [number for number, _ in sent(supervisor.granted([claim() for _ in range(20)], 0.0))]
    assert sorted(numbers) == [1] * 10 + [2] * 10


def test_reports_come_in_the_order_of_the_queue() -> None:
    supervisor = deep()
    claims = [claim() for _ in range(3)]
    supervisor.granted(claims, 0.0)
    for each in claims:
        assert report(supervisor, 1, each, us=20) == []
    assert [ended.report.job for ended in supervisor.ended] == [each.job for each in claims]
    supervisor.granted(claims := [claim(), claim()], 0.0)
    assert report(supervisor, 1, claims[1]) == [Recall(1), Signal(1, signal.SIGKILL)]


def test_a_long_task_waits_behind_nothing_and_nothing_behind_it() -> None:
    supervisor = deep(2)
    long, tiny = claim("long"), [claim() for _ in range(3)]
    supervisor._pace.took(long, 1.0)
    tinies = [claim() for _ in range(4)]
    supervisor.granted(tinies, 0.0)
    assert supervisor.granted([long, *tiny], 0.0) == []
    assert supervisor.room == 0
    for number in (1, 2):
        mine = [held.claim for held in supervisor.executors[number].queue]
        if number == 1:
            assert report(supervisor, 1, mine[0], us=20) == []
            assert sent(report(supervisor, 1, mine[1], us=20)) == [(1, long)]
    assert [each.claim for each in supervisor.executors[1].queue] == [long]


@pytest.mark.parametrize("kind", ["a repeat", "large", "many messages", "unknown"])
def test_what_is_never_fed_ahead(kind: str) -> None:
    supervisor = deep()
    if kind == "a repeat":
        what = Claim("r_1_2", "token", "run", "g", "v1", "t", 2, 0, None, None, b"", "")
    elif kind == "large":
        what = Claim("r_1_1", "token", "run", "g", "v1", "t", 1, 0, None, None, bytes(SMALL + 1), "")
    elif kind == "many messages":
        inputs = [(f"p{n}", b"") for n in range(100)]
        what = Claim("r_1_1", "token", "run", "g", "v1", "t", 1, 0, None, None, b"", "", inputs)
    else:
        what = Claim("r_1_1", "token", "run", "another graph", "v1", "t", 1, 0, None, None, b"", "")
    assert len(sent(supervisor.granted([claim(), what], 0.0))) == 1
    assert supervisor.appetite == 0


def test_a_task_not_seen_yet_is_judged_by_its_graph() -> None:
    supervisor = deep()
    assert len(sent(supervisor.granted([claim("new 1"), claim("new 2")], 0.0))) == 2


def test_an_executor_has_a_few_milliseconds_of_work_at_most() -> None:
    supervisor = ready(1)
    for _ in range(8):
        claims = [claim() for _ in range(supervisor.appetite)]
        for number, each in sent(supervisor.granted(claims, 0.0, full=True)):
            report(supervisor, number, each, now=0.0, us=900)
    supervisor.granted([claim() for _ in range(10)], 0.0)
    assert len(supervisor.executors[1].queue) * 900e-6 <= AHEAD


def test_what_waits_behind_a_slow_one_goes_to_an_idle_executor() -> None:
    supervisor = deep(2)
    claims = [claim() for _ in range(6)]
    supervisor.granted(claims, 0.0)
    mine = [held.claim for held in supervisor.executors[1].queue]
    for held in list(supervisor.executors[2].queue):
        report(supervisor, 2, held.claim, now=0.0005, us=20)
    assert supervisor.next_time() == IDLE_PATIENCE
    assert supervisor.tick(0.0019) == []
    assert supervisor.tick(IDLE_PATIENCE) == [Recall(1)]
    assert sent(supervisor.returned(1, [each.job for each in mine[1:]], [], 0.002)) == [(2, each) for each in mine[1:]]
    assert supervisor.tick(0.003) == []


def test_what_waits_behind_a_slow_one_goes_back_to_the_server_when_nobody_is_idle() -> None:
    supervisor = deep()
    claims = [claim() for _ in range(3)]
    supervisor.granted(claims, 0.0)
    assert supervisor.tick(PATIENCE - 0.001) == []
    assert supervisor.tick(PATIENCE) == [Recall(1)]
    assert supervisor.returned(1, [each.job for each in claims[1:]], [], PATIENCE) == []
    assert supervisor.tick(PATIENCE + WAIT - 0.001) == []
    assert supervisor.tick(PATIENCE + WAIT) == []
    assert [(each.report.job, each.report.outcome, each.report.ms) for each in supervisor.ended] == [
        (each.job, Outcome.LOST, UNBEGUN) for each in claims[1:]
    ]
    assert list(supervisor.held) == [claims[0].job]


def test_a_death_is_blamed_on_the_attempt_that_ran() -> None:
    supervisor = deep()
    claims = [claim() for _ in range(4)]
    supervisor.granted(claims, 0.0)
    report(supervisor, 1, claims[0], us=20)
    supervisor.hung_up(1, 0.1)
    assert supervisor.returned(1, [each.job for each in claims[2:]], [], 0.1) == []
    [spawn] = supervisor.died(1, -11, 0, 0.1)
    assert [(each.report.job, each.report.outcome) for each in supervisor.ended] == [
        (claims[0].job, Outcome.SUCCESS),
        (claims[1].job, Outcome.KILLED),
    ]
    assert isinstance(spawn, Spawn)
    assert sent(supervisor.born(spawn.number, 0.11)) == [(spawn.number, claims[2]), (spawn.number, claims[3])]


def test_a_timeout_counts_from_the_begin_and_its_signal_hits_no_other() -> None:
    supervisor = deep()
    first, second, third = claim(), claim(timeout=0.015), claim()
    supervisor.granted([first, second, third], 0.0)
    report(supervisor, 1, first, now=0.01, us=20)
    assert supervisor.tick(0.024) == []
    assert supervisor.tick(0.025) == [Recall(1)]
    assert supervisor.returned(1, [third.job], [], 0.025) == [Signal(1, signal.SIGTERM)]


def test_one_that_ended_while_it_was_to_be_stopped_is_left_alone_and_so_is_the_next() -> None:
    supervisor = deep()
    first, second = claim(timeout=0.01), claim()
    supervisor.granted([first, second], 0.0)
    assert supervisor.tick(0.01) == [Recall(1)]
    frame = [first.job, first.token, True, b"", b"", False, 20, False]
    assert supervisor.returned(1, [], [frame], 0.01) == []  # it is at the second one by now
    assert last(supervisor).report.outcome is Outcome.SUCCESS
    assert supervisor.running() == [1]


def test_a_cancelled_attempt_that_waits_in_a_queue_never_begins() -> None:
    supervisor = deep()
    first, second, third = claim(), claim(), claim()
    supervisor.granted([first, second, third], 0.0)
    assert supervisor.beaten([(second.job, second.token, Beat.CANCEL)], 0.001) == [Recall(1)]
    assert sent(supervisor.returned(1, [second.job, third.job], [], 0.001)) == [(1, third)]
    assert list(supervisor.held) == [first.job, third.job]


def test_a_drain_gives_back_what_waits_in_a_queue() -> None:
    supervisor = deep()
    first, second = claim(), claim()
    supervisor.granted([first, second], 0.0)
    assert supervisor.drain(0.001, 30.0) == [Recall(1)]
    assert supervisor.returned(1, [second.job], [], 0.001) == []
    assert (last(supervisor).report.job, last(supervisor).report.ms) == (second.job, UNBEGUN)
    assert report(supervisor, 1, first, us=20) == []
    assert supervisor.finished


def test_an_executor_that_leaves_passes_on_what_it_has_not_begun() -> None:
    supervisor = deep(2)
    claims = [claim() for _ in range(4)]
    supervisor.granted(claims, 0.0)
    mine = [held.claim for held in supervisor.executors[1].queue]
    assert report(supervisor, 1, mine[0], us=20, leaving=True) == [Recall(1)]
    actions = supervisor.returned(1, [mine[1].job], [], 0.0)
    assert actions[0] == Retire(1)
    assert isinstance(actions[1], Spawn)
    assert sent(actions[2:]) == [(2, mine[1])]


def test_an_executor_gets_no_more_than_max_tasks() -> None:
    supervisor = deep(max_tasks=500)
    executor = supervisor.executors[1]
    executor.ran = 498
    assert len(sent(supervisor.granted([claim() for _ in range(5)], 0.0))) == 2


def test_a_claim_that_does_not_fit_waits_its_turn() -> None:
    supervisor = deep()
    first, second = claim(), claim()
    supervisor.granted([first, second], 0.0)
    assert supervisor.unsent(1, second.job, 0.0, full=True) == []
    assert sent(report(supervisor, 1, first, us=20)) == [(1, second)]


def test_results_are_collected_only_while_every_executor_has_work() -> None:
    supervisor = deep(2)
    assert supervisor.leisure(0.0) == 0.0
    supervisor.granted([claim() for _ in range(60)], 0.0)
    assert 0.0 < supervisor.leisure(0.0) <= 0.001
    assert supervisor.leisure(0.01) == 0.0
    for held in list(supervisor.executors[1].queue)[:-1]:
        report(supervisor, 1, held.claim, now=0.0, us=20)
    assert supervisor.leisure(0.0) == 0.0


def test_where_nothing_can_be_taken_back_nothing_is_fed_ahead() -> None:
    supervisor = deep(deepest=1)
    assert supervisor.appetite == 1
