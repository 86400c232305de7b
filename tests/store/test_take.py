"""take: a queued attempt is claimed once, by a worker that knows its graph, and with its messages."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import pytest
import redis.exceptions

from tests.store.stage import CHAIN, DIAMOND, LEASE, SINGLE, Stage, fan, pack, plan
from tm.events import AttemptEnded
from tm.states import Outcome, RunState
from tm.store.records import NewRun, Report

if TYPE_CHECKING:
    from tests.servers import Server
    from tm.store.records import Claim


def runs(stage: Stage, *names: str, graph: str = "g", **more: object) -> None:
    """One run of a single task for each name, in this order."""
    shape = plan(SINGLE, graph=graph, **more)  # type: ignore[arg-type]
    stage.store.start(shape, [NewRun(id=name) for name in names])
    stage.offer("g")


def test_a_claim_says_all_a_worker_must_know(stage: Stage) -> None:
    shape = plan(SINGLE, task_timeout=1.5)
    stage.start(shape, params=b"\x80", config="{}")
    stage.later(7)
    claim = stage.take_one(token="tok")
    assert (claim.job, claim.run, claim.graph, claim.version) == ("r_0_1", "r", "g", shape.version)
    assert (claim.task, claim.attempt, claim.claimed_ms, claim.timeout) == ("only", 1, stage.now, 1.5)
    assert (claim.tick_ms, claim.params, claim.config, claim.inputs) == (None, b"\x80", "{}", [])
    assert claim.token.startswith("tok.")
    assert stage.client.zscore(stage.keys.leases, "r_0_1") == stage.now + LEASE
    view = stage.store.run("r")
    assert view is not None
    assert (view.state, view.started_ms) == (RunState.RUNNING, stage.now)
    assert view.tasks[0].worker == "w"


def test_what_is_claimed_is_in_no_queue_any_more(stage: Stage) -> None:
    stage.start(plan(SINGLE))
    stage.take_one()
    assert stage.queued() == stage.bells() == []
    assert not stage.client.exists(stage.keys.rq_job("r_0_1"))
    assert stage.take() == []


def test_the_oldest_comes_first_and_queues_in_strict_order(stage: Stage) -> None:
    runs(stage, "slow1", "slow2", queue="slow")
    runs(stage, "a", "b")
    assert [claim.run for claim in stage.take(3, queues=("default", "slow"))] == ["a", "b", "slow1"]
    assert stage.take(3, queues=("default",)) == []


def wide_and_small(stage: Stage, width: int, *, queued: bool = True) -> None:
    """A run whose `width` tasks all wait, or have begun to be queued, and behind it a chain."""
    stage.start(plan({f"t{number}": [] for number in range(width)}, graph="wide"), "wide")
    while queued and stage.store.promote()[1] is not None:
        pass
    stage.start(plan(CHAIN, graph="small"), "small")
    stage.offer("wide", "small")


@pytest.mark.parametrize("queued", [True, False])
@pytest.mark.parametrize("batch", [1, 3, 4, 32])
def test_a_small_run_behind_a_wide_one_does_not_wait_for_all_of_it(stage: Stage, batch: int, *, queued: bool) -> None:
    wide_and_small(stage, 1000, queued=queued)
    order: list[Claim] = []
    claims = stage.take(batch)
    while stage.state("small") != "success":
        assert claims
        order += claims
        reports = [Report(claim.job, claim.token, Outcome.SUCCESS, b"v") for claim in claims]
        claims = stage.store.finish(stage.ask(batch), reports)[1].claims
    for claim in claims:
        order.append(claim)
        stage.finish(claim)
    assert len(order) <= 4 * max(batch, 4)
    ages = [int(claim.task[1:]) for claim in order if claim.run == "wide"]
    assert set(range(len(order) // 2)) <= set(ages), "the oldest go on meanwhile"
    rest = []
    while claims := stage.take(batch):
        rest += claims
        for claim in claims:
            stage.finish(claim)
    assert stage.state("wide") == "success"
    jobs = [claim.job for claim in order + rest]
    assert len(jobs) == len(set(jobs)) == 1003
    assert stage.queued() == stage.bells() == []


@pytest.mark.parametrize("count", [0, 1, 3, 5, 10, 20])
def test_what_a_report_makes_ready_comes_after_what_waited_and_is_rung_for_when_it_is_not_handed_out(
    stage: Stage, count: int
) -> None:
    stage.start(plan(fan(10)), "r")
    first = stage.take_one()
    runs(stage, "before", "before too")
    due = ["before_0_1", "before too_0_1", *(f"r_{node}_1" for node in range(1, 11))]
    _, grant = stage.finish(first, count=count)
    assert [claim.job for claim in grant.claims] == due[:count]
    assert stage.bells() == due[count:]
    assert sorted(stage.queued()) == sorted(due[count:])
    assert [stage.client.exists(stage.keys.rq_job(job)) for job in due] == [0] * min(count, 12) + [1] * (12 - count)


@pytest.mark.parametrize("batch", [1, 4, 32])
def test_a_queue_that_is_not_deep_is_worked_off_by_age(stage: Stage, batch: int) -> None:
    wide_and_small(stage, 90)
    tasks: list[str] = []
    while claims := stage.take(batch):
        tasks += [claim.task for claim in claims if claim.run == "wide"]
    assert tasks == [f"t{number}" for number in range(90)]


def test_the_newest_of_a_deep_queue_may_be_nobodys(stage: Stage) -> None:
    wide_and_small(stage, 300)
    for number in range(50):
        stage.client.rpush(stage.keys.bell("default"), f"nobody_{number}_1")
    assert stage.work(2000).count("c") == 1
    assert (stage.state("wide"), stage.state("small")) == ("success", "success")


@pytest.mark.parametrize(("count", "given"), [(0, 0), (1, 1), (2, 2), (3, 3), (100, 3)])
def test_no_more_than_wanted_is_given(stage: Stage, count: int, given: int) -> None:
    runs(stage, "a", "b", "c")
    claims = stage.take(count)
    assert len(claims) == given
    assert len({claim.token for claim in claims}) == given
    assert len(stage.bells()) == 3 - given


def test_one_call_never_hands_out_more_than_256(stage: Stage) -> None:
    runs(stage, *(f"x{number}" for number in range(300)))
    assert len(stage.take(10_000)) == 256


@pytest.mark.parametrize("count", [1, 2])
def test_the_bell_that_woke_the_worker_is_claimed_first(stage: Stage, count: int) -> None:
    runs(stage, "a", "b", "c")
    bell = stage.client.lpop(stage.keys.bell("default")).decode()
    assert [claim.run for claim in stage.take(count, bell=bell)] == ["a", "b"][:count]


@pytest.mark.parametrize(
    "bell",
    ["", "nonsense", "r_0_2", "r_0_0", "r_0_01", "r_9_1", "unknown_0_1", "_0_1", "r_0_99999999999999999999", "*"],
)
def test_a_bell_for_nothing_is_dropped(stage: Stage, bell: str) -> None:
    stage.start(plan(SINGLE))
    if bell:
        stage.client.lpush(stage.keys.bell("default"), bell)
    assert [claim.job for claim in stage.take(1, bell=bell)] == ["r_0_1"]
    assert stage.bells() == []


def test_a_bell_that_rings_twice_is_answered_once(stage: Stage) -> None:
    stage.start(plan(SINGLE))
    stage.client.rpush(stage.keys.bell("default"), "r_0_1", "r_0_1")
    assert len(stage.take(5)) == 1
    assert stage.take(5, bell="r_0_1") == []


def test_a_job_of_another_program_in_our_queue_keeps_its_data(stage: Stage) -> None:
    stage.client.rpush(stage.keys.bell("default"), "9f1b1c1e-foreign")
    stage.client.hset("rq:job:9f1b1c1e-foreign", "data", "theirs")
    stage.start(plan(SINGLE))
    assert len(stage.take(2)) == 1
    assert stage.client.hgetall("rq:job:9f1b1c1e-foreign") == {b"data": b"theirs"}


def test_a_thousand_bells_for_nothing_do_not_make_one_call_long(stage: Stage) -> None:
    stage.client.rpush(stage.keys.bell("default"), *(f"gone_0_{number}" for number in range(1, 3001)))
    assert stage.take(1) == []
    assert len(stage.bells()) == 2000
    while stage.bells():
        stage.take(32)


def test_work_of_a_graph_that_is_not_loaded_is_left_for_others(stage: Stage) -> None:
    runs(stage, "other1", "other2", graph="other")
    runs(stage, "mine")
    stage.later(1)
    grant = stage.store.take(stage.ask(2))
    assert ([claim.run for claim in grant.claims], grant.passed) == (["mine"], 2)
    assert stage.bells() == stage.queued() == ["other1_0_1", "other2_0_1"]
    stage.offer("other", worker="v")
    assert [claim.run for claim in stage.take(2, worker="v")] == ["other1", "other2"]


def test_a_worker_that_never_announced_itself_gets_nothing(stage: Stage) -> None:
    runs(stage, "a")
    grant = stage.store.take(stage.ask(1, worker="stranger"))
    assert (grant.claims, grant.passed) == ([], 1)
    assert stage.queued() == stage.bells() == ["a_0_1"]


def test_strange_work_does_not_keep_one_call_busy(stage: Stage) -> None:
    runs(stage, *(f"x{number}" for number in range(200)), graph="other")
    grant = stage.store.take(stage.ask(1))
    assert (grant.claims, grant.passed) == ([], 16)
    assert len(stage.bells()) == len(stage.queued()) == 200


def test_announcing_no_graph_offers_none(stage: Stage) -> None:
    runs(stage, "a")
    stage.store.announce("w", [], {}, 10_000)
    assert stage.take() == []
    stage.store.announce("w", ["g"], {"host": "x"}, 10_000)
    assert len(stage.take()) == 1
    stage.store.retire("w")
    stage.store.retire("w")
    assert not stage.client.exists(stage.keys.offers("w"), stage.keys.worker("w"))


def test_the_same_ask_again_gets_what_it_was_given(stage: Stage) -> None:
    stage.start(plan(DIAMOND), params=b"p")
    runs(stage, "a", "b", "c")
    ask = stage.ask(2)
    given = stage.store.take(ask).claims
    other = stage.take_one()
    again = dataclasses.replace(ask, again=True)
    before = stage.snapshot()
    for _ in range(2):
        assert sorted(stage.store.take(again).claims, key=lambda claim: claim.job) == sorted(
            given, key=lambda claim: claim.job
        )
    assert stage.snapshot() == before
    assert other.job not in {claim.job for claim in given}


def test_a_server_that_was_started_meanwhile_searches_the_leases_and_not_all_of_them(own_server: Server) -> None:
    def restarted() -> Stage:
        own_server.stop()
        own_server.start()
        return Stage(own_server.client())

    stage = Stage(own_server.client())
    runs(stage, *(f"r{n}" for n in range(2202)))
    ask = stage.ask(2, lease_ms=2 * LEASE)
    given = stage.store.take(ask).claims
    again = dataclasses.replace(ask, again=True)
    stage.offer("g", worker="other")
    others: list[Claim] = []
    while claims := stage.store.take(stage.ask(256, worker="other")).claims:
        others += claims
    assert len(others) == 2200
    stage = restarted()
    assert {claim.job for claim in stage.store.take(again).claims} == {claim.job for claim in given}
    stage.store.beat(3 * LEASE, [(claim.job, claim.token) for claim in others])
    stage = restarted()
    assert stage.store.take(again).claims == [], "behind 2,000 that run longer; they are lost with their lease"
    stage.later(3 * LEASE)
    stage.store.reap()
    assert {event.outcome for event in stage.told(AttemptEnded)} == {"lost"}


def test_an_ask_that_was_never_heard_is_answered_when_it_is_repeated(stage: Stage) -> None:
    runs(stage, "a")
    assert len(stage.store.take(stage.ask(1, again=True)).claims) == 1


def test_a_repeated_ask_does_not_get_what_ended_meanwhile(stage: Stage) -> None:
    runs(stage, "a", "b")
    ask = stage.ask(2)
    first, second = stage.store.take(ask).claims
    stage.finish(first)
    assert stage.store.take(dataclasses.replace(ask, again=True)).claims == [second]


def test_a_token_that_begins_like_another_is_another(stage: Stage) -> None:
    runs(stage, "a", "b")
    stage.store.take(stage.ask(1, token="long-token"))
    [claim] = stage.store.take(stage.ask(1, token="long", again=True)).claims
    assert claim.run == "b"


def test_messages_of_all_parents_arrive_in_their_order(stage: Stage) -> None:
    stage.start(plan(DIAMOND))
    stage.work(3)
    assert stage.take_one().inputs == [("left", b"value of left"), ("right", b"value of right")]


@pytest.mark.parametrize("value", [b"", b"\x00\xff" * 10, b"x" * 200_000], ids=["empty", "binary", "large"])
def test_messages_arrive_byte_for_byte(stage: Stage, value: bytes) -> None:
    stage.start(plan(CHAIN))
    stage.finish(stage.take_one(), value=value)
    assert stage.take_one().inputs == [("a", value)]


def test_a_fan_in_of_thousands_gets_all_messages(stage: Stage) -> None:
    stage.start(plan(fan(5000)))
    stage.finish(stage.take_one())
    while len(claims := stage.take(256)) > 1 or claims[0].task != "last":
        stage.store.finish(stage.ask(0), [_report(claim) for claim in claims])
    assert claims[0].inputs == [(f"m{number}", b"from m%d" % number) for number in range(5000)]


def _report(claim: object) -> object:
    from tm.store.records import Report

    return Report(claim.job, claim.token, Outcome.SUCCESS, b"from " + claim.task.encode())  # type: ignore[attr-defined]


def test_a_task_whose_message_somebody_deleted_fails_and_says_why(stage: Stage) -> None:
    stage.start(plan(CHAIN, retries=5))
    stage.finish(stage.take_one())
    stage.client.delete(stage.keys.out("r"))
    assert stage.take() == []
    assert stage.states() == {"a": "success", "b": "failed", "c": "blocked"}
    assert stage.state() == "failed"
    lost = stage.told(AttemptEnded)[-1]
    assert (lost.task, lost.outcome, lost.worker, lost.claimed) == ("b", Outcome.FAILED, "w", stage.now)
    assert pack("MessageLost") in lost.error
    assert stage.queued() == []


def test_while_rq_is_suspended_nothing_is_handed_out_and_no_bell_is_lost(stage: Stage) -> None:
    runs(stage, "a", "b")
    stage.client.set("rq:suspended", 1)
    bell = stage.client.lpop(stage.keys.bell("default")).decode()
    grant = stage.store.take(stage.ask(1, bell=bell))
    assert (grant.claims, grant.suspended) == ([], True)
    assert stage.bells() == ["a_0_1", "b_0_1"]
    stage.client.delete("rq:suspended")
    assert [claim.run for claim in stage.take(2)] == ["a", "b"]


def test_while_suspended_a_bell_for_nothing_is_still_dropped(stage: Stage) -> None:
    stage.client.set("rq:suspended", 1)
    for bell in ("unknown_0_1", "nonsense"):
        assert stage.store.take(stage.ask(1, bell=bell)).suspended
    assert stage.bells() == []


def test_a_repeated_ask_is_answered_though_rq_was_suspended_meanwhile(stage: Stage) -> None:
    runs(stage, "a")
    ask = stage.ask(1)
    given = stage.store.take(ask)
    stage.client.set("rq:suspended", 1)
    assert stage.store.take(dataclasses.replace(ask, again=True)).claims == given.claims


@pytest.mark.parametrize("suspended", [False, True])
def test_rq_sees_the_state_of_a_worker_it_knows(stage: Stage, suspended: bool) -> None:
    if suspended:
        stage.client.set("rq:suspended", 1)
    stage.client.hset("rq:worker:w", "state", "idle")
    stage.take(state="busy")
    assert stage.client.hget("rq:worker:w", "state") == b"busy"


def test_a_worker_rq_has_forgotten_leaves_no_half_entry(stage: Stage) -> None:
    stage.take(state="busy")
    assert not stage.client.exists("rq:worker:w")


@pytest.mark.parametrize(
    ("field", "value"),
    [(1, "soon"), (1, "0"), (1, "-1"), (1, "nan"), (2, ""), (5, "many"), (5, "-1"), (7, "x")],
)
def test_a_bad_ask_is_refused_and_claims_nothing(stage: Stage, field: int, value: str) -> None:
    runs(stage, "a")
    arguments = ["w", str(LEASE), "tok", "0", "", "1", "", "1", "default"]
    arguments[field] = value
    before = stage.snapshot()
    with pytest.raises(redis.exceptions.ResponseError):
        stage.call("take", *arguments)
    assert stage.snapshot() == before


@pytest.mark.parametrize(
    "damage", [b"\xc1", b"", b"\x93\x01\x02\x03", b"text"], ids=["unreadable", "empty", "short", "text"]
)
def test_a_damaged_record_is_passed_over_and_its_run_can_still_be_cancelled(stage: Stage, damage: bytes) -> None:
    runs(stage, "bad", "good")
    stage.client.hset(stage.keys.run("bad"), "0", damage)
    assert [claim.run for claim in stage.take(2)] == ["good"]
    assert stage.store.cancel("bad")
    assert stage.state("bad") == "cancelled"


def test_a_run_key_of_the_wrong_type_does_not_keep_others_from_working(stage: Stage) -> None:
    runs(stage, "bad", "good")
    stage.client.set(stage.keys.run("bad"), "a string")
    assert [claim.run for claim in stage.take(2)] == ["good"]


def test_something_else_in_the_place_of_a_queue_keeps_nobody_else_from_working(stage: Stage) -> None:
    stage.client.set(stage.keys.bell("default"), "a string")
    shape = plan({"a": [], "b": ["a"]}, queue={"a": "slow", "b": "default"})
    stage.start(shape)
    [claim] = stage.take(1, queues=("default", "slow"))
    stage.finish(claim)
    assert stage.states() == {"a": "success", "b": "queued"}
    assert stage.queued() == ["r_1_1"]
    stage.client.delete(stage.keys.bell("default"))
    stage.later(16_000)
    assert stage.store.ring() == 1
    assert stage.take_one().task == "b"
