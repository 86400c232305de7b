"""What holds for a supervisor whatever happens, in whatever order."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tm.store.records import Beat, Claim
from tm_worker.supervisor import Retire, Run, Signal, Spawn, Supervisor


class Life(RuleBasedStateMachine):
    """A world of executors that obey, or do not."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.supervisor = Supervisor(3, grace=2.0, max_tasks=4)
        self.coming: list[int] = []
        self.alive: dict[int, Claim | None] = {}
        self.asked_to_end: set[int] = set()
        self.granted: set[str] = set()
        self.dropped: set[str] = set()
        self.begun: set[str] = set()
        self.obey(self.supervisor.tick(0.0))

    def obey(self, actions: list[object]) -> None:
        for action in actions:
            if isinstance(action, Spawn):
                self.coming.append(action.number)
            elif isinstance(action, Run):
                assert self.alive[action.number] is None, "two attempts in one executor"
                assert action.claim.job not in self.begun, "an attempt began twice"
                assert not self.supervisor.draining, "work begun in a drain"
                self.begun.add(action.claim.job)
                self.alive[action.number] = action.claim
            elif isinstance(action, Signal):
                self.asked_to_end.add(action.number)
            elif isinstance(action, Retire):
                assert self.alive.pop(action.number) is None

    @rule(seconds=st.floats(0.01, 3.0))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        self.obey(self.supervisor.tick(self.now))

    @precondition(lambda self: self.coming)
    @rule(data=st.data(), lives=st.booleans())
    def birth(self, data: st.DataObject, lives: bool) -> None:
        number = data.draw(st.sampled_from(self.coming))
        self.coming.remove(number)
        if lives:
            self.alive[number] = None
            self.obey(self.supervisor.born(number, self.now))
        else:
            self.supervisor.unborn(number, self.now)

    @rule(data=st.data(), timeout=st.sampled_from([None, 0.5]))
    def grant(self, data: st.DataObject, timeout: float | None) -> None:
        if self.supervisor.draining:
            return
        jobs = [f"r_{len(self.granted) + k}_1" for k in range(data.draw(st.integers(0, self.supervisor.room + 1)))]
        claims = [Claim(job, f"t{job}", "r", "g", "v", "t", 1, 0, timeout, None, b"", "") for job in jobs]
        self.granted.update(jobs)
        self.obey(self.supervisor.granted(claims, self.now))

    @precondition(lambda self: any(self.alive.values()))
    @rule(data=st.data(), ok=st.booleans())
    def reports(self, data: st.DataObject, ok: bool) -> None:
        number = data.draw(st.sampled_from([number for number, claim in self.alive.items() if claim]))
        claim = self.alive[number]
        assert claim is not None
        self.alive[number] = None
        frame = [claim.job, claim.token, ok, b"", b"", True, 1, False]
        self.obey(self.supervisor.reported(number, frame, self.now))

    @precondition(lambda self: self.alive)
    @rule(data=st.data(), code=st.sampled_from([0, 1, -9, -15]))
    def death(self, data: st.DataObject, code: int) -> None:
        number = data.draw(st.sampled_from(sorted(self.alive)))
        del self.alive[number]
        self.obey(self.supervisor.died(number, code, 0, self.now))

    @precondition(lambda self: self.supervisor.held)
    @rule(data=st.data(), beat=st.sampled_from([Beat.LOST, Beat.CANCEL]))
    def beaten(self, data: st.DataObject, beat: Beat) -> None:
        held = self.supervisor.held[data.draw(st.sampled_from(sorted(self.supervisor.held)))]
        self.dropped.add(held.claim.job)
        self.obey(self.supervisor.beaten([(held.claim.job, held.claim.token, beat)], self.now))

    @precondition(lambda self: self.alive)
    @rule(data=st.data())
    def hang_up(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(sorted(self.alive)))
        self.asked_to_end.add(number)  # gets no more work
        self.supervisor.hung_up(number, self.now)

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
    def executors_are_as_many_as_wanted(self) -> None:
        assert len(self.supervisor.executors) + len(self.coming) <= self.supervisor.processes

    @invariant()
    def room_is_real(self) -> None:
        idle = [n for n, claim in self.alive.items() if claim is None and n not in self.asked_to_end]
        assert self.supervisor.room <= len(idle)

    def teardown(self) -> None:
        """Whatever happened: once told to stop, everything ends, by force if need be."""
        self.obey(self.supervisor.drain(self.now, 0.0))
        for _ in range(3):
            self.now += 5.0
            self.obey(self.supervisor.tick(self.now))
            for number in [n for n in self.alive if n in self.asked_to_end]:
                del self.alive[number]
                self.obey(self.supervisor.died(number, -9, 0, self.now))
        assert self.supervisor.finished
        self.nothing_is_forgotten()


Life.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestLife = Life.TestCase
