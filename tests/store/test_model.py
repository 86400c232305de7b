"""The server functions and the step function, side by side: every state they reach is the same.

Hypothesis picks plans, orders of events, repeats, stale and foreign tokens, pauses; after each event the server's
records, sets and verdicts are compared with the state of `tm.step`. TM_MODEL_STEPS sets how many events are played.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import msgpack
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tm.ids import job_id
from tm.records import Plan, TaskPlan
from tm.retry import RetryPolicy
from tm.states import TASK_TRANSITIONS, Outcome, RunState, TaskState
from tm.step import Answer, Begun, Claimed, Due, Ended, Lapsed, Marked, PutBack, Run, Stopped, Wait, step
from tm.store import Library, Store
from tm.store.records import UNBEGUN, Ask, Beat, Grant, NewRun, Report, VerdictKind

if TYPE_CHECKING:
    from collections.abc import Collection

    import redis

CLOCK = "local function server_now() return tonumber(redis.call('GET', 'test:clock')) end"
LEASE = 1000
STEPS = int(os.environ.get("TM_MODEL_STEPS", "3000"))


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    """Small graphs of any shape, with retries here and there."""
    size = draw(st.integers(1, 6))
    parents = [
        tuple(sorted(draw(st.sets(st.integers(0, node - 1), max_size=3)))) if node else () for node in range(size)
    ]
    calls = draw(st.sampled_from([(), ("success", "failure", "retry")]))  # which must change nothing
    tasks = tuple(
        TaskPlan(
            name=f"t{node}",
            parents=parents[node],
            children=tuple(child for child in range(size) if node in parents[child]),
            queue=draw(st.sampled_from(["default", "slow"])),
            calls=calls,
            retry=RetryPolicy(
                retries=draw(st.integers(0, 2)),
                retry_delay=draw(st.sampled_from([0.0, 0.5, 1.5])),
                backoff=draw(st.sampled_from([0.0, 1.0, 0.7])),
                max_retry_delay=draw(st.sampled_from([None, 1.0])),
                jitter=draw(st.sampled_from([0.0, 0.5])),
            ),
        )
        for node in range(size)
    )
    version = draw(st.integers(0, 2**60))
    return Plan(graph="model", version=f"v{version:x}-{hash(tasks):x}", tasks=tasks)


class Model(RuleBasedStateMachine):
    """One run, played on both sides."""

    client: redis.Redis
    library: Library
    played = 0  #: events, by all examples
    ears = 0  #: names that were used, for the functions remember them
    handed = 0  #: attempts that were handed over

    @initialize(plan=plans(), waits=st.booleans())
    def begin(self, plan: Plan, waits: bool) -> None:
        type(self).played -= 1  # the look after this one follows no event
        self.client.flushdb()
        self.now = 1_000_000
        self.client.set("test:clock", self.now)
        self.store = Store(self.client, "model", library=self.library)
        self.plan, self.run = plan, Run(plan)
        self.claims: dict[tuple[int, int], str] = {}  # every token ever given, by node and attempt
        self.leases: dict[tuple[int, int], int] = {}
        self.retries: dict[tuple[int, int], int] = {}
        self.asks = 0
        self.marked: set[int] = set()
        self.paused: set[str] = set()
        self.holders: dict[tuple[int, int], str] = {}
        self.broken = False
        self.listen()
        for name in ("a", "b"):
            self.store.announce(name, ["model"], {"host": "here"}, 10**9)
        if waits:
            self.take("b", 1, "")
        assert self.store.start(plan, [NewRun(id="run_1")]) == [True]
        assert self.store.start(plan, [NewRun(id="run_1")]) == [False]
        self.apply(Begun())

    def listen(self) -> None:
        """Worker `b` listens on a connection of its own, and has heard nothing there."""
        type(self).ears += 1
        self.ear, self.heard, self.wanted = f"ear{type(self).ears}", 0, 0
        self.line: Any = self.client.pubsub()
        self.line.subscribe(self.store.keys.hand(self.ear))
        self.line.get_message(timeout=5)

    def teardown(self) -> None:
        if hasattr(self, "line"):
            self.line.close()

    def hear(self) -> list[Any]:
        """What `b` was handed over since the last event."""
        claims: list[Any] = []
        self.client.ping()
        while (message := self.line.get_message()) is not None:
            claims += self.store.handed(message["data"])
        return claims

    def apply(self, event: Any) -> int:
        before = {node: self.run.task_state(node) for node in range(len(self.plan.tasks))}
        decision = step(self.run, event)
        self.run.apply(decision)
        for node, was in before.items():
            now = self.run.task_state(node)
            assert now is was or now in TASK_TRANSITIONS[was], f"{was} -> {now} is not in the table"
        for command in decision.commands:
            if isinstance(command, Wait):
                self.retries[command.node, command.attempt] = self.now + command.delay_ms
        return decision.answer

    def ask(self, worker: str, count: int, **more: Any) -> Ask:
        self.asks += 1
        return Ask(
            worker=worker,
            lease_ms=LEASE,
            token=f"k{self.asks}",
            queues=("default", "slow"),
            count=count,
            **({"ear": self.ear, "heard": self.heard} if worker == "b" else {}),
            **more,
        )

    def answered(self, ask: Ask, grant: Grant) -> None:
        if ask.ear:
            self.wanted = ask.count - len(grant.claims)

    def took(self, worker: str, claims: list[Any], at_most: int) -> None:
        assert len(claims) <= at_most
        for claim in claims:
            node, _ = self.place_of(claim)
            assert claim.job == job_id("run_1", node, claim.attempt)
            assert self.plan.tasks[node].queue not in self.paused, "its queue is paused"
            assert (node, claim.attempt) not in self.claims, "one attempt was claimed twice"
            assert self.apply(Claimed(node, claim.attempt, claim.token)) == Answer.ACCEPTED
            self.claims[node, claim.attempt] = claim.token
            self.leases[node, claim.attempt] = self.now + LEASE
            self.holders[node, claim.attempt] = worker
            parents = self.plan.tasks[node].parents
            assert [name for name, _ in claim.inputs] == [self.plan.tasks[p].name for p in parents]
            assert [value for _, value in claim.inputs] == [self.value_of(p) for p in parents], "a wrong message"

    def value_of(self, node: int) -> bytes:
        return b"\xc0" if node in self.marked else b"value of %d" % node

    @rule(
        worker=st.sampled_from(["a", "b"]), count=st.integers(1, 3), heard=st.sampled_from(["", "", "default", "slow"])
    )
    def take(self, worker: str, count: int, heard: str) -> None:
        bell = (self.client.lpop(self.store.keys.bell(heard)) or b"").decode() if heard else ""
        rings = {self.store.keys.rq_id(job) for job in self.store.waiting(heard)} if heard else set()
        ask = self.ask(worker, count, bell=bell)
        grant = self.store.take(ask)
        self.answered(ask, grant)
        assert grant.paused == self.paused
        if heard in self.paused and bell in rings:
            assert self.client.lpos(self.store.keys.bell(heard), bell) == 0, "a doorbell was not handed back"
        again = Ask(**{**{f: getattr(ask, f) for f in ask.__slots__}, "again": True, "count": 0, "ear": ""})
        if grant.claims:
            repeated = self.store.take(again)
            key = lambda claim: claim.job  # noqa: E731
            assert sorted(repeated.claims, key=key) == sorted(grant.claims, key=key), "a repeated ask differs"
        self.took(worker, grant.claims, count)

    @precondition(lambda self: self.claims)
    @rule(
        data=st.data(),
        outcome=st.sampled_from(
            [
                Outcome.SUCCESS,
                Outcome.SUCCESS,
                Outcome.SKIPPED,
                Outcome.FAILED,
                Outcome.TIMED_OUT,
                Outcome.KILLED,
                Outcome.LOST,
            ]
        ),
        retry=st.booleans(),
        chance=st.sampled_from([0.0, 0.25, 0.999]),
        forged=st.sampled_from([False, False, False, True]),
        worker=st.sampled_from(["a", "b"]),
        count=st.integers(0, 2),
    )
    def finish(
        self, data: st.DataObject, outcome: Outcome, retry: bool, chance: float, forged: bool, worker: str, count: int
    ) -> None:
        (node, attempt), token = data.draw(st.sampled_from(sorted(self.claims.items())))
        token = "forged" if forged else token
        report = Report(
            job_id("run_1", node, attempt),
            token,
            outcome,
            b"value of %d" % node,
            b"",
            retry=retry,
            chance=chance,
        )
        ask = self.ask(worker, count)
        verdicts, grant = self.store.finish(ask, [report])
        self.answered(ask, grant)
        answer = self.apply(Ended(node, attempt, token, outcome, retry, chance))
        assert verdicts[0].kind == VerdictKind(answer)
        if answer == Answer.ACCEPTED:
            del self.leases[node, attempt]
            if self.run.task_state(node) is TaskState.RETRYING:
                assert verdicts[0].due_ms == self.retries[node, attempt + 1]
        self.took(worker, grant.claims, count)

    @precondition(lambda self: self.claims)
    @rule(data=st.data(), forged=st.sampled_from([False, False, False, True]), count=st.integers(0, 2))
    def put_back(self, data: st.DataObject, forged: bool, count: int) -> None:
        """A worker has not begun what it claimed, and lets others have it."""
        (node, attempt), token = data.draw(st.sampled_from(sorted(self.claims.items())))
        token = "forged" if forged else token
        report = Report(job_id("run_1", node, attempt), token, Outcome.LOST, ms=UNBEGUN)
        verdicts, grant = self.store.finish(self.ask("a", count), [report])
        answer = self.apply(PutBack(node, attempt, token))
        assert verdicts[0].kind == VerdictKind(answer)
        if answer == Answer.ACCEPTED:
            del self.leases[node, attempt], self.claims[node, attempt]
        self.took("a", grant.claims, count)

    @rule(chance=st.integers(0, 4))
    def the_ear_is_cut_off(self, chance: int) -> None:
        """What is handed over from here on until the next event is lost on the way."""
        self.broken = not chance

    def take_what_was_handed_over(self) -> None:
        claims = self.hear()
        assert len(claims) <= self.wanted, "more than was wanted"
        if self.broken and claims:
            lost = self.store.take(Ask(worker="b", lease_ms=LEASE, token="mine", queues=(), count=0, mine=True)).claims
            known = [claim for claim in lost if self.claims.get(self.place_of(claim)) != claim.token]
            assert sorted(known, key=str) == sorted(claims, key=str), "what was lost on the way is not given again"
            self.line.close()
            self.listen()
            self.broken = False
        else:
            self.heard, self.wanted = self.heard + len(claims), self.wanted - len(claims)
        type(self).handed += len(claims)
        self.took("b", claims, 200)

    def place_of(self, claim: Any) -> tuple[int, int]:
        return next(i for i, task in enumerate(self.plan.tasks) if task.name == claim.task), claim.attempt

    @precondition(lambda self: self.claims)
    @rule(data=st.data(), forged=st.booleans())
    def beat(self, data: st.DataObject, forged: bool) -> None:
        (node, attempt), token = data.draw(st.sampled_from(sorted(self.claims.items())))
        answer = self.store.beat(LEASE, [(job_id("run_1", node, attempt), "forged" if forged else token)])
        task = self.run.tasks[node]
        current = task.attempt == attempt and task.token == token and not forged
        if current and task.state is TaskState.RUNNING:
            assert answer == [Beat.OK]
            self.leases[node, attempt] = self.now + LEASE
        else:
            assert answer == [Beat.CANCEL if current and task.state is TaskState.CANCELLED else Beat.LOST]

    @rule(ms=st.sampled_from([1, 400, 1100, 16_000]))
    def time_passes(self, ms: int) -> None:
        self.now += ms
        self.client.set("test:clock", self.now)

    @rule()
    def reap(self) -> None:
        lapsed = sorted((due, key) for key, due in self.leases.items() if due <= self.now)
        assert self.store.reap() == len(lapsed)
        for _, (node, attempt) in lapsed:
            assert self.apply(Lapsed(node, attempt)) == Answer.ACCEPTED
            del self.leases[node, attempt]

    @rule(worker=st.sampled_from(["a", "b"]), chance=st.integers(0, 4))
    def a_worker_is_known_to_be_dead(self, worker: str, chance: int) -> None:
        if chance:
            return
        if worker == "b":  # and with it, its connection
            self.line.close()
            self.listen()
        held = sorted((due, key) for key, due in self.leases.items() if self.holders[key] == worker)
        assert self.store.lost([worker], limit=2) == len(held)
        for _, (node, attempt) in held:
            assert self.apply(Lapsed(node, attempt)) == Answer.ACCEPTED
            del self.leases[node, attempt]
        self.store.announce(worker, ["model"], {"host": "here"}, 10**9)

    @rule(data=st.data(), chance=st.integers(0, 9))
    def nobody_takes_a_task(self, data: st.DataObject, chance: int) -> None:
        queued = sorted(node for node, task in self.run.tasks.items() if task.state is TaskState.QUEUED)
        if chance or not queued:
            return
        node = data.draw(st.sampled_from(queued))
        attempt = self.run.tasks[node].attempt
        assert self.store.give_up(job_id("run_1", node, attempt), b"\x80")
        # as if it had been marked, but that the attempt counts as one that failed
        assert self.apply(Marked(node, TaskState.FAILED)) == Answer.ACCEPTED
        task = self.run.tasks[node]
        self.run.tasks[node] = task._replace(fails=task.fails + 1)
        assert not self.store.give_up(job_id("run_1", node, attempt), b"\x80")

    @rule()
    def promote(self) -> None:
        due = sorted((at, key) for key, at in self.retries.items() if at <= self.now)
        for _, (node, attempt) in due:
            assert self.apply(Due(node, attempt)) == Answer.ACCEPTED
            del self.retries[node, attempt]
        wait = min(self.retries.values()) - self.now if self.retries else None
        assert self.store.promote() == (len(due), wait)

    @rule()
    def a_bell_is_lost_and_rung_again(self) -> None:
        for queue in ("default", "slow"):
            self.client.lpop(self.store.keys.bell(queue))
        self.time_passes(16_000)
        self.store.ring()

    @rule(
        data=st.data(),
        chance=st.integers(0, 4),
        state=st.sampled_from([TaskState.SUCCESS, TaskState.SKIPPED, TaskState.FAILED]),
    )
    def mark(self, data: st.DataObject, chance: int, state: TaskState) -> None:
        if chance:
            return  # rarely, or most tasks would never run
        node = data.draw(st.integers(0, len(self.plan.tasks) - 1))
        before, is_open = self.run.tasks.get(node), self.run.state in {RunState.QUEUED, RunState.RUNNING}
        was = self.run.task_state(node) if is_open else self.run.state
        done, told = self.store.mark("run_1", node, state, by="me", reason="because")
        assert told == was
        assert done == (self.apply(Marked(node, state)) == Answer.ACCEPTED)
        if done:
            if state is TaskState.SUCCESS:
                self.marked.add(node)
            if before is not None:
                self.leases.pop((node, before.attempt), None)
                self.retries.pop((node, before.attempt + 1), None)

    @rule(queue=st.sampled_from(["default", "slow"]), chance=st.integers(0, 2))
    def a_queue_is_paused_or_goes_on(self, queue: str, chance: int) -> None:
        if queue in self.paused and chance:
            assert self.store.resume_queue(queue)
            self.paused.remove(queue)
        elif queue not in self.paused:
            assert self.store.pause_queue(queue, by="me")
            assert not self.store.pause_queue(queue, by="me")
            self.paused.add(queue)

    @rule(queue=st.sampled_from(["default", "slow"]), chance=st.integers(0, 11))
    def a_queue_is_purged(self, queue: str, chance: int) -> None:
        if chance:
            return  # rarely, or no run would get far
        waits = {
            node
            for node, task in self.run.tasks.items()
            if task.state is TaskState.QUEUED and self.plan.tasks[node].queue == queue
        }
        done = self.store.purge_queue(queue, "because", limit=2)
        assert (done.attempts, done.runs) == (len(waits), ("run_1",) if waits else ())
        if waits:
            assert self.apply(Stopped(RunState.CANCELLED)) == Answer.ACCEPTED
            self.leases.clear()
            self.retries.clear()

    @precondition(lambda self: self.run.state in {RunState.QUEUED, RunState.RUNNING})
    @rule(chance=st.integers(0, 11), state=st.sampled_from([RunState.CANCELLED, RunState.TIMED_OUT]))
    def stop(self, chance: int, state: RunState) -> None:
        if chance:
            return  # rarely, or no run would get far
        assert self.store.cancel("run_1", state, "because")
        assert self.apply(Stopped(state)) == Answer.ACCEPTED
        assert not self.store.cancel("run_1", state, "because")
        self.leases.clear()
        self.retries.clear()

    @invariant()
    def both_sides_agree(self) -> None:
        type(self).played += 1
        self.take_what_was_handed_over()
        while self.client.llen(self.store.keys.backlog):
            self.store.promote(0)
            self.take_what_was_handed_over()
        stored = self.client.hgetall(self.store.keys.run("run_1"))
        assert stored[b"state"].decode() == self.run.state
        for node in range(len(self.plan.tasks)):
            packed = stored.get(b"%d" % node)
            ours = self.run.tasks.get(node)
            if ours is None or packed is None:
                assert packed is None, f"node {node}: the server has {packed!r}"
                assert ours is None or (ours.state is TaskState.CANCELLED and ours.attempt == 0)
                continue
            state, attempt, token, fails, losses, *_ = msgpack.unpackb(packed)
            assert (state, attempt, fails, losses) == (ours.state, ours.attempt, ours.fails, ours.losses)
            if ours.state is not TaskState.QUEUED:
                assert token == ours.token

    @invariant()
    def every_open_task_is_in_exactly_one_place(self) -> None:
        places = {
            "leases": {job_id("run_1", *key): float(at) for key, at in self.leases.items()},
            "retry": {job_id("run_1", *key): float(at) for key, at in self.retries.items()},
        }
        for name, ours in places.items():
            theirs = {
                job.decode(): at for job, at in self.client.zrange(f"{self.store.prefix}{name}", 0, -1, withscores=True)
            }
            assert theirs == ours, name
        queued = {
            job.decode()
            for queue in ("default", "slow")
            for job in self.client.zrange(f"{self.store.prefix}queued:{queue}", 0, -1)
        }
        assert queued == {
            job_id("run_1", node, task.attempt)
            for node, task in self.run.tasks.items()
            if task.state is TaskState.QUEUED
        }
        is_open = self.run.state in {RunState.QUEUED, RunState.RUNNING}
        assert self.store.open_runs("model") == (["run_1"] if is_open else [])


def play(client: redis.Redis, library: Library, steps: int, phases: Collection[Phase] = tuple(Phase)) -> None:
    """Play so many events, at least: Hypothesis plays fewer for an example than it may."""
    machine = type("BoundModel", (Model,), {"client": client, "library": library, "played": 0, "handed": 0})
    per_example = 40
    while machine.played < steps:
        run_state_machine_as_test(
            machine,
            settings=settings(
                max_examples=(steps - machine.played) // per_example + 1,
                stateful_step_count=per_example,
                deadline=None,
                phases=phases,
                suppress_health_check=list(HealthCheck),
            ),
        )
    assert machine.handed > steps / 400, f"only {machine.handed} were handed over"


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.xdist_group("model")
def test_lua_and_step_function_agree_on_every_state(client: redis.Redis) -> None:
    play(client, Library(clock=CLOCK), STEPS)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.xdist_group("model, hardly any room")
def test_they_agree_too_when_calls_leave_nearly_everything_for_later(client: redis.Redis) -> None:
    play(client, changed("local ROOM = 200", "local ROOM = 1"), STEPS // 2)


def test_the_model_would_notice_a_missing_token_check(client: redis.Redis) -> None:
    with pytest.raises(AssertionError):
        play(
            client, changed(" or a.r[TOKEN] ~= token then", " then"), 2000, {Phase.generate}
        )  # to be found is enough: the smallest case takes a minute


def test_the_model_would_notice_work_of_a_paused_queue(client: redis.Redis) -> None:
    with pytest.raises(AssertionError):
        play(client, changed("while not paused[queue] and ", "while "), 10_000, {Phase.generate})


def changed(old: str, new: str) -> Library:
    """The library with a change in its source, under a name of its own."""
    library = Library(clock=CLOCK)
    assert old in library.source
    name = "tm_changed_" + "".join(char for char in new if char.isalnum())
    library.source = library.source.replace(old, new).replace(library.name, name)
    library._functions = {each: function.replace(library.name, name) for each, function in library._functions.items()}
    return library
