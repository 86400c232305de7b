"""What holds for a supervisor whatever happens, in whatever order."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tm.states import Outcome
from tm.store.records import UNBEGUN, Beat, Claim
from tm_worker.executors import Recall, Retire, Run, Signal, Spawn
from tm_worker.supervisor import Supervisor

if TYPE_CHECKING:
    from tm_worker.executors import Action


@dataclass
class Body:
    """An executor as it really is, of which the supervisor knows only what it reads."""

    unread: deque[Claim] = field(default_factory=deque)
    running: Claim | None = None
    said: list[list[Any]] = field(default_factory=list)  #: written, and not read by the supervisor
    ran: int = 0

    def begin(self) -> Claim:
        self.running = self.unread.popleft()
        return self.running

    def end(self, microseconds: int, *, ok: bool, leaving: bool) -> None:
        claim, self.running = self.running, None
        assert claim is not None
        self.ran += 1
        self.said.append([claim.job, claim.token, ok, b"", b"", True, microseconds, leaving])


class Life(RuleBasedStateMachine):
    """A world of executors that obey, or do not."""

    most = 40  #: attempts of an executor, so that queues can get deep

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.supervisor = Supervisor(3, grace=2.0, max_tasks=self.most)
        self.coming: list[int] = []
        self.alive: dict[int, Body] = {}
        self.asked_to_end: set[int] = set()
        self.leaving: set[int] = set()
        self.hung: set[int] = set()
        self.granted: set[str] = set()
        self.dropped: set[str] = set()
        self.begun: set[str] = set()
        self.fed = 0
        self.obey(self.supervisor.tick(0.0))

    def obey(self, actions: list[Action]) -> None:
        for action in actions:
            if isinstance(action, Spawn):
                self.coming.append(action.number)
            elif isinstance(action, Run):
                self.run(self.alive[action.number], action.claim, action.number)
            elif isinstance(action, Recall):
                self.take_back(action.number)
            elif isinstance(action, Signal):
                self.signal(action.number)
            elif isinstance(action, Retire):
                body = self.alive.pop(action.number)
                assert body.running is None
                assert not body.unread, "work sent to one that leaves"
                assert not body.said

    def run(self, body: Body, claim: Claim, number: int) -> None:
        assert claim.job not in self.begun, "an attempt begins twice"
        assert not any(claim in each.unread for each in self.alive.values()), "one attempt in two queues"
        assert not self.supervisor.draining, "work begun in a drain"
        assert number not in self.hung, "work for one that has hung up"
        before = list(self.supervisor.executors[number].queue)
        if any(held.claim is not claim for held in before):
            self.fed += 1
            shared = [claim, *(held.claim for held in before if held.claim.job in self.supervisor.held)]
            assert {each.attempt for each in shared} == {1}, "a repeat shares a queue"
        assert body.ran + len(body.unread) + (body.running is not None) < self.most, "more than max_tasks"
        body.unread.append(claim)

    def signal(self, number: int) -> None:
        self.asked_to_end.add(number)
        body = self.alive.get(number)
        if body is None or body.running is None or number in self.hung:
            return
        held = self.supervisor.held.get(body.running.job)
        assert held is None or held.ending is not None, "a signal for one attempt hits another"
        assert held is not None or body.running.job in self.dropped

    def take_back(self, number: int) -> None:
        body = self.alive.get(number)
        if body is None:  # it was let go by what came before this in the same answer; the loop says as much
            self.obey(self.supervisor.returned(number, [], [], self.now))
            return
        jobs = [claim.job for claim in body.unread]
        body.unread.clear()
        said, body.said = body.said, []
        self.obey(self.supervisor.returned(number, jobs, said, self.now))

    @rule(seconds=st.sampled_from([0.0005, 0.0025, 0.025, 0.05, 0.6, 3.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        self.obey(self.supervisor.tick(self.now))

    @precondition(lambda self: self.coming)
    @rule(data=st.data(), lives=st.sampled_from([True, True, False]))
    def birth(self, data: st.DataObject, lives: bool) -> None:
        number = data.draw(st.sampled_from(self.coming))
        self.coming.remove(number)
        if lives:
            self.alive[number] = Body()
            self.obey(self.supervisor.born(number, self.now))
        else:
            self.supervisor.unborn(number, self.now)

    def grant_some(self, count: int, task: str, attempt: int, timeout: float | None) -> None:
        jobs = [f"r_{len(self.granted) + k}_{attempt}" for k in range(count)]
        claims = [Claim(job, f"t{job}", "r", "g", "v", task, attempt, 0, timeout, None, b"", "") for job in jobs]
        self.granted.update(jobs)
        self.obey(self.supervisor.granted(claims, self.now, full=True))

    @precondition(lambda self: not self.supervisor.draining)
    @rule(
        more=st.sampled_from([0, 0, 0, 1]),
        task=st.sampled_from(["tiny", "tiny", "tiny", "new", "long"]),
        attempt=st.sampled_from([1, 1, 1, 1, 2]),
        timeout=st.sampled_from([None, 0.5]),
    )
    def grant(self, more: int, task: str, attempt: int, timeout: float | None) -> None:
        self.grant_some(self.supervisor.appetite + more, task, attempt, timeout)

    @precondition(lambda self: not self.supervisor.draining)
    @rule(rounds=st.integers(1, 4))
    def all_goes_well(self, rounds: int) -> None:
        """Work comes, runs, and is reported: this is how queues get deep."""
        for _ in range(rounds):
            self.grant_some(self.supervisor.appetite, "tiny", 1, None)
            for number in list(self.alive):
                self.works(number, 2)
                self.hear(number)
            self.now += 0.0001

    def works(self, number: int, most: int) -> None:
        body = self.alive[number]
        for _ in range(most):
            if body.running is not None:
                body.end(50 if body.running.task == "tiny" else 5_000_000, ok=True, leaving=False)
            if body.unread and number not in self.leaving:
                claim = body.begin()
                assert claim.job not in self.begun, "an attempt began twice"
                self.begun.add(claim.job)

    def hear(self, number: int) -> None:
        said, self.alive[number].said = self.alive[number].said, []
        for frame in said:
            self.obey(self.supervisor.reported(number, frame, self.now))

    @precondition(lambda self: self.alive)
    @rule(data=st.data(), most=st.integers(1, 4))
    def executors_work(self, data: st.DataObject, most: int) -> None:
        self.works(data.draw(st.sampled_from(sorted(self.alive))), most)

    @precondition(lambda self: any(body.running for body in self.alive.values()))
    @rule(data=st.data(), ok=st.booleans(), leaving=st.sampled_from([False, False, True]))
    def an_attempt_ends(self, data: st.DataObject, ok: bool, leaving: bool) -> None:
        number = data.draw(st.sampled_from([number for number, body in self.alive.items() if body.running]))
        self.alive[number].end(50, ok=ok, leaving=leaving)
        if leaving:
            self.leaving.add(number)

    @precondition(lambda self: any(body.said for body in self.alive.values()))
    @rule(data=st.data())
    def reports(self, data: st.DataObject) -> None:
        self.hear(data.draw(st.sampled_from([number for number, body in self.alive.items() if body.said])))

    @precondition(lambda self: self.alive)
    @rule(data=st.data(), code=st.sampled_from([0, 1, -9, -15]))
    def death(self, data: st.DataObject, code: int) -> None:
        self.die(data.draw(st.sampled_from(sorted(self.alive))), code)

    def die(self, number: int, code: int) -> None:
        self.supervisor.hung_up(number, self.now)
        self.hung.add(number)
        self.alive[number].running = None
        self.take_back(number)
        assert not self.alive[number].unread
        del self.alive[number]
        self.obey(self.supervisor.died(number, code, 0, self.now))

    @precondition(lambda self: self.alive)
    @rule(data=st.data())
    def no_room(self, data: st.DataObject) -> None:
        """The last claim did not fit in the socket after all."""
        number = data.draw(st.sampled_from(sorted(self.alive)))
        unread = self.alive[number].unread
        executor = self.supervisor.executors.get(number)
        if len(unread) > 1 and executor is not None and executor.queue[-1].claim is unread[-1]:
            self.obey(self.supervisor.unsent(number, unread.pop().job, self.now, full=True))

    @precondition(lambda self: self.supervisor.held)
    @rule(data=st.data(), beat=st.sampled_from([Beat.LOST, Beat.CANCEL]))
    def beaten(self, data: st.DataObject, beat: Beat) -> None:
        held = self.supervisor.held[data.draw(st.sampled_from(sorted(self.supervisor.held)))]
        self.dropped.add(held.claim.job)
        self.obey(self.supervisor.beaten([(held.claim.job, held.claim.token, beat)], self.now))

    @precondition(lambda self: self.alive)
    @rule(data=st.data())
    def too_large(self, data: st.DataObject) -> None:
        self.obey(self.supervisor.too_large(data.draw(st.sampled_from(sorted(self.alive))), 2, 1, self.now))

    @precondition(lambda self: self.alive)
    @rule(data=st.data())
    def hang_up(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(sorted(self.alive)))
        self.asked_to_end.add(number)  # gets no more work
        self.hung.add(number)
        self.supervisor.hung_up(number, self.now)
        self.take_back(number)

    @rule(limit=st.floats(0.0, 2.0))
    def drain(self, limit: float) -> None:
        self.obey(self.supervisor.drain(self.now, limit))

    @invariant()
    def nothing_is_forgotten(self) -> None:
        reported = [each.report.job for each in self.supervisor.ended]
        assert len(reported) == len(set(reported)), "one attempt, two outcomes"
        assert self.granted - set(self.supervisor.held) - set(reported) <= self.dropped
        assert not set(self.supervisor.held) & set(reported)

    @invariant()
    def only_what_began_was_killed(self) -> None:
        for each in self.supervisor.ended:
            if each.report.outcome is Outcome.KILLED:
                assert each.report.job in self.begun
            if each.report.ms == UNBEGUN:
                assert each.report.outcome is Outcome.LOST
                assert each.report.job not in self.begun, "what has begun is given back as if it had not"

    @invariant()
    def what_runs_is_known(self) -> None:
        known = self.supervisor.held
        for number, body in self.alive.items():
            executor = self.supervisor.executors.get(number)
            queue = [held.claim.job for held in executor.queue] if executor else []
            jobs = [frame[0] for frame in body.said] + ([body.running.job] if body.running else [])
            if number not in self.hung:
                assert queue == jobs + [claim.job for claim in body.unread], "the order is another"
            if body.running is not None and body.running.job in known:
                assert known[body.running.job].executor == number

    @invariant()
    def executors_are_as_many_as_wanted(self) -> None:
        assert len(self.supervisor.executors) + len(self.coming) <= self.supervisor.processes

    @invariant()
    def room_is_real(self) -> None:
        idle = [
            number
            for number, body in self.alive.items()
            if not (body.running or body.unread or body.said) and number not in self.asked_to_end
        ]
        assert self.supervisor.room <= len(idle)
        assert self.supervisor.room <= self.supervisor.appetite

    def teardown(self) -> None:
        """Whatever happened: once told to stop, everything ends, by force if need be."""
        self.obey(self.supervisor.drain(self.now, 0.0))
        for _ in range(3):
            self.now += 5.0
            for number in [n for n in self.alive if n not in self.leaving]:
                self.hear(number)
            self.obey(self.supervisor.tick(self.now))
            for number in [n for n in self.alive if n in self.asked_to_end | self.leaving]:
                self.die(number, -9)
        assert self.supervisor.finished
        self.nothing_is_forgotten()


Life.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestLife = Life.TestCase


class ShortLife(Life):
    """The same with executors that are replaced all the time."""

    most = 4


ShortLife.TestCase.settings = Life.TestCase.settings
TestShortLife = ShortLife.TestCase


def test_the_laws_are_put_to_the_test_of_deep_queues() -> None:
    """Or they would say nothing about what is fed ahead."""
    life = Life()
    for number in list(life.coming):
        life.coming.remove(number)
        life.alive[number] = Body()
        life.obey(life.supervisor.born(number, life.now))
    life.all_goes_well(8)
    assert life.fed > 20
    life.teardown()
