"""Handing over: a worker whose queues were empty is given what comes next by the call that queues it."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import pytest
import redis

from tests.store.stage import CHAIN, LEASE, SINGLE, Stage, fan, plan
from tm import codec
from tm.states import Outcome, RunState
from tm.store import Store
from tm.store.records import UNBEGUN, NewRun, Report

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.servers import Server
    from tm.records import Plan
    from tm.store.records import Claim


_numbers = itertools.count(1)


class Ear:
    """A worker that listens."""

    def __init__(self, stage: Stage, worker: str, *graphs: str) -> None:
        self.stage, self.worker, self.heard = stage, worker, 0
        self.name = f"{worker}{next(_numbers)}"  # the functions remember one that was used before
        stage.offer(*(graphs or ("g",)), worker=worker)
        self._line: Any = stage.client.pubsub()
        self._line.subscribe(stage.keys.hand(self.name))
        self._line.get_message(timeout=5)

    def ask(self, count: int = 1, **more: Any) -> list[Claim]:
        """What an ask is given at once; the rest may be handed over."""
        return self.stage.take(count, worker=self.worker, ear=self.name, heard=self.heard, **more)

    def hear(self) -> list[Claim]:
        """What was handed over since the last time."""
        claims: list[Claim] = []
        while (message := self._line.get_message(timeout=0.05)) is not None:
            claims += self.stage.store.handed(message["data"])
        self.heard += len(claims)
        return claims

    def close(self) -> None:
        """The connection is gone, as when the worker was killed."""
        self._line.close()


@pytest.fixture
def ear(stage: Stage) -> Iterator[Ear]:
    made = Ear(stage, "w")
    yield made
    made.close()


@pytest.fixture
def other(stage: Stage) -> Iterator[Ear]:
    made = Ear(stage, "v")
    yield made
    made.close()


def start(stage: Stage, *runs: str, shape: Plan | None = None, **more: Any) -> None:
    stage.store.start(shape or plan(SINGLE, **more), [NewRun(id=run) for run in runs])


def names(claims: list[Claim]) -> list[str]:
    return [claim.run for claim in claims]


def test_it_is_claimed_by_the_call_that_starts_it(stage: Stage, ear: Ear) -> None:
    assert ear.ask(token="tok") == []
    shape = plan(SINGLE, task_timeout=1.5)
    stage.store.start(shape, [NewRun(id="r", params=b"\x80", config="{}")])
    [claim] = ear.hear()
    assert (claim.job, claim.run, claim.graph, claim.version) == ("r_0_1", "r", "g", shape.version)
    assert (claim.task, claim.attempt, claim.claimed_ms, claim.timeout) == ("only", 1, stage.now, 1.5)
    assert (claim.tick_ms, claim.params, claim.config, claim.inputs) == (None, b"\x80", "{}", [])
    assert claim.token.startswith("tok.")
    assert stage.client.zscore(stage.keys.leases, "r_0_1") == stage.now + LEASE
    assert stage.states() == {"only": "running"}
    assert stage.finish(claim)[0].kind.name == "ACCEPTED"
    assert stage.state() == "success"


def test_nothing_is_left_in_a_queue_nor_shown_as_queued(stage: Stage, ear: Ear) -> None:
    ear.ask()
    start(stage, "r")
    assert stage.queued() == stage.bells() == []
    assert not stage.client.exists(stage.keys.rq_job("r_0_1"))
    assert ear.ask() == []


def test_as_many_as_were_asked_for_and_not_given(stage: Stage, ear: Ear) -> None:
    start(stage, "a")
    assert names(ear.ask(3)) == ["a"]
    start(stage, "b", "c", "d")
    assert names(ear.hear()) == ["b", "c"]
    assert stage.bells() == ["d_0_1"]
    start(stage, "e")
    assert ear.hear() == []
    assert names(ear.ask(9)) == ["d", "e"]


def test_each_has_a_token_of_its_own(stage: Stage, ear: Ear) -> None:
    start(stage, "a", "b")
    given = ear.ask(9)
    start(stage, "c")
    start(stage, "d")
    given += ear.hear()
    assert names(given) == ["a", "b", "c", "d"]
    assert len({claim.token for claim in given}) == 4


def test_who_does_not_listen_is_handed_nothing(stage: Stage) -> None:
    stage.offer("g")
    assert stage.take() == []
    start(stage, "r")
    assert stage.bells() == ["r_0_1"]


def test_who_wants_no_more_is_handed_nothing(stage: Stage, ear: Ear) -> None:
    ear.ask(5)
    ear.ask(0, queues=())
    start(stage, "r")
    assert ear.hear() == []
    assert stage.bells() == ["r_0_1"]


def test_a_new_ask_takes_the_place_of_the_last(stage: Stage, ear: Ear) -> None:
    ear.ask(5)
    ear.ask(1)
    start(stage, "a", "b")
    assert names(ear.hear()) == ["a"]


def test_what_is_on_its_way_counts_as_given(stage: Stage, ear: Ear) -> None:
    ear.ask(2)
    start(stage, "a", "b")
    start(stage, "c")
    assert ear.ask(2) == [], "it has not heard of two yet, and wants no more than these"
    assert names(ear.hear()) == ["a", "b"]
    assert names(ear.ask(1)) == ["c"]


def test_the_dead_are_handed_nothing(stage: Stage, ear: Ear, other: Ear) -> None:
    ear.ask(5)
    ear.close()
    stage.client.ping()
    start(stage, "a")
    assert stage.bells() == ["a_0_1"]
    assert names(other.ask(1)) == ["a"]
    other.ask(5)
    start(stage, "b")
    assert names(other.hear()) == ["b"]


def test_nor_is_one_that_has_not_been_heard_of(stage: Stage, ear: Ear) -> None:
    """Its machine has no network: the connection looks as if it were open."""
    ear.ask(9)
    stage.later(LEASE // 2)
    start(stage, "a")
    stage.offer("g", worker="w")  # a heartbeat
    stage.later(LEASE // 2)
    start(stage, "b")
    assert names(ear.hear()) == ["a", "b"]
    stage.later(1)
    start(stage, "c")
    assert ear.hear() == []
    assert stage.bells() == ["c_0_1"]
    assert names(ear.ask(1)) == ["c"]


def test_workers_take_turns(stage: Stage, ear: Ear, other: Ear) -> None:
    ear.ask(3)
    other.ask(3)
    start(stage, "a", "b", "c")
    start(stage, "d")
    assert names(ear.hear()) == ["a", "c"]
    assert names(other.hear()) == ["b", "d"]


def test_only_to_those_who_have_loaded_the_task(stage: Stage) -> None:
    one, two = Ear(stage, "w", "other"), Ear(stage, "v", "g")
    one.ask(5)
    two.ask(5)
    start(stage, "a", "b")
    start(stage, "x", graph="other")
    assert names(two.hear()) == ["a", "b"]
    assert names(one.hear()) == ["x"]
    start(stage, "y", graph="nobody")
    assert one.hear() == two.hear() == []
    assert stage.bells() == ["y_0_1"]


def test_only_of_the_queues_asked_for(stage: Stage, ear: Ear) -> None:
    ear.ask(5, queues=("default", "high"))
    start(stage, "a", queue="slow")
    start(stage, "b", queue="high")
    start(stage, "c")
    assert names(ear.hear()) == ["b", "c"]
    assert stage.bells("slow") == ["a_0_1"]


def test_a_worker_of_two_queues_is_given_what_it_wants_and_no_more(stage: Stage, ear: Ear) -> None:
    ear.ask(1, queues=("default", "high"))
    start(stage, "a", queue="high")
    start(stage, "b")
    assert names(ear.hear()) == ["a"]
    assert stage.bells() == ["b_0_1"]


@pytest.mark.parametrize("queues", [("hi", "lo"), ("lo", "hi")])
@pytest.mark.parametrize("tasks", [("hi", "lo"), ("lo", "hi")])
def test_queues_in_strict_order(stage: Stage, ear: Ear, queues: tuple[str, str], tasks: tuple[str, str]) -> None:
    ear.ask(1, queues=queues)
    stage.store.start(plan({name: [] for name in tasks}, queue={"hi": "hi", "lo": "lo"}), [NewRun(id="r")])
    assert [claim.task for claim in ear.hear()] == [queues[0]]
    assert len(stage.bells(queues[1])) == 1


def test_also_of_workers_that_want_them_in_another_order(stage: Stage, ear: Ear, other: Ear) -> None:
    ear.ask(1, queues=("hi", "lo"))
    other.ask(1, queues=("lo", "hi"))
    stage.store.start(plan({"lo": [], "hi": []}, queue={"hi": "hi", "lo": "lo"}), [NewRun(id="r")])
    first, second = ear.hear(), other.hear()
    assert "lo" not in [claim.task for claim in first]
    assert "hi" not in [claim.task for claim in second]
    assert len(first) + len(second) + len(stage.bells("hi")) + len(stage.bells("lo")) == 2


def test_nothing_large(stage: Stage, ear: Ear) -> None:
    """The server closes the connection of who is slow to read tens of megabytes."""
    ear.ask(9)
    stage.store.start(
        plan(SINGLE), [NewRun(id="large", params=b"x" * 300_000), NewRun(id="small", params=b"x" * 200_000)]
    )
    assert names(ear.hear()) == ["small"]
    assert stage.bells() == ["large_0_1"]
    [large] = ear.ask(1)
    stage.store.start(plan(CHAIN), [NewRun(id="chain")])
    [first] = stage.take(1)
    ear.ask(9)
    stage.finish(first, value=b"x" * 300_000)
    assert ear.hear() == []
    assert stage.bells() == ["chain_1_1"]
    assert large.params == b"x" * 300_000


def test_what_cannot_be_read_is_left_to_the_bell(stage: Stage, ear: Ear, other: Ear) -> None:
    stage.start(plan(CHAIN))
    [first] = ear.ask(1)
    stage.finish(first)
    ear.ask(1)
    stage.client.set(stage.keys.out("r"), "no hash")
    stage.later(LEASE)
    other.ask(1)
    assert stage.store.reap() == 1
    assert other.hear() == []
    assert stage.bells() == ["r_1_2"]


def test_not_too_much_at_once(stage: Stage, ear: Ear) -> None:
    ear.ask(64)
    shape = plan(SINGLE)
    for first in range(0, 40, 4):
        stage.store.start(shape, [NewRun(id=f"r{first + k}", params=b"x" * 250_000) for k in range(4)])
    assert len(ear.hear()) + len(stage.bells()) == 40


def test_who_may_not_publish_rings(stage: Stage, ear: Ear, server: Server) -> None:
    stage.client.acl_setuser(
        "clerk", enabled=True, passwords=["+clerk"], commands=["+@all"], keys=["*"], channels=["tm:*:ended:*"]
    )
    clerk = redis.Redis.from_url(server.url, username="clerk", password="clerk")
    try:
        ear.ask(5)
        assert Store(clerk, library=stage.library).start(plan(SINGLE), [NewRun(id="a"), NewRun(id="b")]) == [True, True]
        assert ear.hear() == []
        assert stage.bells() == ["a_0_1", "b_0_1"]
        assert stage.client.zcard(stage.keys.leases) == 0
        assert sorted(stage.queued()) == ["a_0_1", "b_0_1"]
        assert names(ear.ask(5)) == ["a", "b"]
    finally:
        clerk.close()
        stage.client.acl_deluser("clerk")


def test_nothing_of_a_paused_queue(stage: Stage, ear: Ear) -> None:
    ear.ask(5)
    stage.store.pause_queue("default", by="me")
    start(stage, "a")
    assert ear.hear() == []
    assert stage.bells() == ["a_0_1"]
    assert stage.store.resume_queue("default")
    start(stage, "b")
    assert names(ear.hear()) == ["b"]


def test_nothing_while_rq_is_suspended(stage: Stage, ear: Ear) -> None:
    ear.ask(5)
    stage.client.set("rq:suspended", 1)
    start(stage, "a")
    assert ear.hear() == []
    assert stage.bells() == ["a_0_1"]


def test_children_go_to_whoever_is_idle(stage: Stage, ear: Ear, other: Ear) -> None:
    stage.start(plan(fan(5)))
    [first] = ear.ask(1)
    other.ask(2)
    report = Report(first.job, first.token, Outcome.SUCCESS, codec.encode(1))
    _, grant = stage.store.finish(stage.ask(1, ear=ear.name, heard=0), [report])
    assert [claim.task for claim in grant.claims] == ["m0"]
    handed = other.hear()
    assert [claim.task for claim in handed] == ["m1", "m2"]
    assert [claim.inputs for claim in handed] == [[("first", codec.encode(1))]] * 2
    assert stage.bells() == ["r_4_1", "r_5_1"]


def test_so_does_a_retry_that_is_due(stage: Stage, ear: Ear, other: Ear) -> None:
    stage.start(plan(SINGLE, retries=1, retry_delay=1.0))
    [claim] = ear.ask(1)
    other.ask(1)
    stage.finish(claim, Outcome.FAILED, retry=True)
    stage.later(1000)
    assert stage.store.promote() == (1, None)
    [again] = other.hear()
    assert (again.attempt, again.claimed_ms) == (2, stage.now)


def test_so_does_what_was_lost(stage: Stage, ear: Ear, other: Ear) -> None:
    stage.start(plan(SINGLE))
    ear.ask(1)
    stage.later(LEASE)
    other.ask(1)
    assert stage.store.reap() == 1
    assert [claim.attempt for claim in other.hear()] == [2]


def test_what_is_given_back_rings(stage: Stage, ear: Ear, other: Ear) -> None:
    """It goes to the head of its queue as the same attempt; whoever hears the bell has it."""
    stage.start(plan(SINGLE))
    [claim] = ear.ask(1)
    other.ask(1)
    stage.finish(claim, Outcome.LOST, ms=UNBEGUN)
    [again] = [*other.hear(), *other.ask(1)]
    assert again.attempt == 1


@pytest.mark.parametrize("forgotten", [False, True])
def test_it_comes_again_in_one_way_only(stage: Stage, ear: Ear, client: redis.Redis, forgotten: bool) -> None:
    """Either connection may break, and a repeated ask must not bring back what was heard on the other and has run."""
    start(stage, "a")
    given = ear.ask(3, token="tok")
    start(stage, "b")
    handed = ear.hear()
    if forgotten:
        client.function_flush()
        stage.library.load(client)
    assert stage.take(0, worker="w", token="tok", again=True, queues=()) == given
    assert stage.take(0, worker="w", mine=True, queues=()) == handed


def test_the_bell_rings_when_the_server_has_forgotten_who_listens(stage: Stage, ear: Ear, client: redis.Redis) -> None:
    ear.ask(3)
    client.function_flush()
    stage.library.load(client)
    start(stage, "b")
    assert stage.bells() == ["b_0_1"]
    assert names(ear.ask(1)) == ["b"]


def test_a_message_that_is_gone_fails_its_task(stage: Stage, ear: Ear, other: Ear) -> None:
    stage.start(plan(CHAIN))
    [claim] = ear.ask(1)
    stage.finish(claim)
    [claim] = ear.ask(1)
    stage.client.hdel(stage.keys.out("r"), "0")
    stage.later(LEASE)
    other.ask(1)
    assert stage.store.reap() == 1
    assert other.hear() == []
    assert stage.states() == {"a": "success", "b": "failed", "c": "blocked"}
    assert stage.state() == "failed"


def test_no_token_is_used_twice_when_an_ask_is_repeated(stage: Stage, ear: Ear) -> None:
    ear.ask(2, token="tok")
    start(stage, "a")
    [first] = ear.hear()
    stage.store.cancel("a", RunState.CANCELLED, "because")
    ear.heard = 0
    ear.ask(2, token="tok", again=True)
    start(stage, "b")
    second = ear.hear()
    assert not second or second[0].token != first.token
    assert second or stage.bells() == ["b_0_1"], "a repeated ask does not make it wait"


def test_who_asks_without_an_ear_has_none(stage: Stage, ear: Ear) -> None:
    """Its connection may look as if it were open: the network has dropped it on the way."""
    ear.ask(5)
    stage.take(0, worker="w", queues=())
    start(stage, "a")
    assert ear.hear() == []
    assert stage.bells() == ["a_0_1"]


def test_all_that_was_handed_over_and_is_running(stage: Stage, ear: Ear) -> None:
    start(stage, "answered")
    ear.ask(5)
    start(stage, "a", "b", "c")
    handed = ear.hear()
    stage.finish(handed[1])
    mine = stage.take(0, worker="w", mine=True, queues=())
    assert names(mine) == ["a", "c"]
    assert stage.take(0, worker="v", mine=True, queues=()) == []


def test_callbacks_ring(stage: Stage, ear: Ear) -> None:
    """They are given the value they tell of, however large."""
    stage.start(plan(SINGLE, task_calls=["success"]))
    [claim] = ear.ask(1, queues=("default", "tm-callbacks"))
    ear.ask(5, queues=("default", "tm-callbacks"))
    stage.store.finish(stage.ask(0, worker="x"), [Report(claim.job, claim.token, Outcome.SUCCESS, b"v")])
    assert ear.hear() == []
    assert len(stage.bells("tm-callbacks")) == 1


def test_many_runs_leave_room_for_those_who_ask(stage: Stage, ear: Ear) -> None:
    ear.ask(200)
    start(stage, *(f"r{n}" for n in range(50)))
    start(stage, *(f"s{n}" for n in range(50)))
    assert len(ear.hear()) == 100
    assert stage.bells() == []


def test_bad_arguments_change_nothing(stage: Stage, ear: Ear, client: redis.Redis) -> None:
    ear.ask(1)
    before = stage.snapshot()
    for heard in ("x", "-1"):
        with pytest.raises(Exception, match="not a good number"):
            ear.stage.take(1, worker="w", ear=ear.name, heard=heard)
    assert stage.snapshot() == before
