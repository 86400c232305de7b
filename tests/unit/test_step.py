"""The rules of a run, one by one; the model test holds the server functions to the same."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tm.records import Plan, TaskPlan
from tm.retry import RetryPolicy
from tm.states import MAX_LOSSES, TASK_TRANSITIONS, Outcome, RunState
from tm.step import Answer, Begun, Claimed, Close, Due, Ended, Enqueue, Lapsed, Run, Stopped, Wait, step

NO_RETRY = RetryPolicy()


def plan(*parents: tuple[int, ...], retry: RetryPolicy = NO_RETRY) -> Plan:
    """A plan from the parents of each node."""
    return Plan(
        graph="g",
        version="v",
        tasks=tuple(
            TaskPlan(
                name=f"t{node}",
                parents=above,
                children=tuple(child for child, its in enumerate(parents) if node in its),
                retry=retry,
            )
            for node, above in enumerate(parents)
        ),
    )


class Played:
    """A run to which events happen; holds the commands of the last one."""

    def __init__(self, plan: Plan) -> None:
        self.run = Run(plan)
        self.commands: list = []
        self(Begun())

    def __call__(self, event) -> int:
        decision = step(self.run, event)
        for node, after in decision.tasks.items():
            before = self.run.task_state(node)
            assert before == after.state or after.state in TASK_TRANSITIONS[before], (before, after.state)
        self.run.apply(decision)
        self.commands = decision.commands
        return decision.answer

    def claim(self, node: int, attempt: int = 1, token: str = "t") -> int:
        return self(Claimed(node, attempt, token))

    def end(self, node: int, outcome=Outcome.SUCCESS, attempt: int = 1, token: str = "t", **more) -> int:
        return self(Ended(node, attempt, token, outcome, **more))

    def do(self, node: int, outcome=Outcome.SUCCESS, attempt: int = 1, **more) -> None:
        assert self.claim(node, attempt) == Answer.ACCEPTED
        assert self.end(node, outcome, attempt, **more) == Answer.ACCEPTED

    def states(self) -> list[str]:
        return [str(self.run.task_state(node)) for node in range(len(self.run.plan.tasks))]


def test_the_roots_are_queued_when_a_run_begins() -> None:
    run = Played(plan((), (), (0, 1)))
    assert run.states() == ["queued", "queued", "waiting"]
    assert run.commands == [Enqueue(0, 1), Enqueue(1, 1)]
    assert run.run.state is RunState.QUEUED


def test_a_run_begins_once() -> None:
    run = Played(plan(()))
    assert run(Begun()) == Answer.DUPLICATE


def test_the_first_claim_makes_a_run_running() -> None:
    run = Played(plan(()))
    run.claim(0)
    assert run.run.state is RunState.RUNNING


def test_a_child_is_queued_by_its_last_parent() -> None:
    run = Played(plan((), (), (0, 1)))
    run.do(1)
    assert run.states() == ["queued", "success", "waiting"]
    run.do(0)
    assert run.commands == [Enqueue(2, 1)]


def test_the_last_task_closes_the_run() -> None:
    run = Played(plan((), (0,)))
    run.do(0)
    run.do(1)
    assert run.commands == [Close(RunState.SUCCESS)]
    assert run.run.state is RunState.SUCCESS


def test_only_one_of_two_claims_is_accepted() -> None:
    run = Played(plan(()))
    assert run.claim(0, token="a") == Answer.ACCEPTED
    assert run.claim(0, token="b") == Answer.REFUSED
    assert run.end(0, token="b") == Answer.REFUSED
    assert run.end(0, token="a") == Answer.ACCEPTED


def test_a_report_that_is_repeated_changes_nothing() -> None:
    run = Played(plan((), (0,)))
    run.do(0)
    assert run.end(0) == Answer.DUPLICATE
    assert run.end(0, Outcome.FAILED) == Answer.DUPLICATE
    assert run.states() == ["success", "queued"]
    assert run.commands == []


def test_what_is_not_queued_cannot_be_claimed() -> None:
    run = Played(plan((), (0,)))
    assert run.claim(1) == Answer.REFUSED
    assert run.claim(0, attempt=2) == Answer.REFUSED


def test_a_failure_blocks_everything_below_at_once() -> None:
    run = Played(plan((), (0,), (1,), (0, 2), ()))
    run.do(0, Outcome.FAILED)
    assert run.states() == ["failed", "blocked", "blocked", "blocked", "queued"]
    assert run.commands == []
    run.do(4)
    assert run.commands == [Close(RunState.FAILED)]


def test_a_task_with_one_failed_parent_is_blocked_even_when_the_other_succeeds_later() -> None:
    run = Played(plan((), (), (0, 1)))
    run.claim(1)
    run.do(0, Outcome.FAILED)
    assert run.states() == ["failed", "running", "blocked"]
    assert run.end(1) == Answer.ACCEPTED
    assert run.states() == ["failed", "success", "blocked"]
    assert run.commands == [Close(RunState.FAILED)]


@pytest.mark.parametrize("outcome", [Outcome.FAILED, Outcome.TIMED_OUT])
def test_a_failure_of_the_task_uses_up_retries(outcome: Outcome) -> None:
    run = Played(plan((), retry=RetryPolicy(retries=2, retry_delay=1.5, backoff=1)))
    for attempt, delay in ((1, 1500), (2, 3000)):
        run.do(0, outcome, attempt)
        assert run.commands == [Wait(0, attempt + 1, delay)]
        assert run.states() == ["retrying"]
        assert run(Due(0, attempt + 1)) == Answer.ACCEPTED
        assert run.commands == [Enqueue(0, attempt + 1)]
    run.do(0, outcome, 3)
    assert run.states() == [outcome.value]
    assert run.commands == [Close(RunState.FAILED)]


def test_a_failure_that_no_retry_can_mend_is_final() -> None:
    run = Played(plan((), retry=RetryPolicy(retries=5)))
    run.do(0, Outcome.FAILED, retry=False)
    assert run.states() == ["failed"]


def test_a_retry_is_due_once() -> None:
    run = Played(plan((), retry=RetryPolicy(retries=1)))
    assert run(Due(0, 2)) == Answer.REFUSED
    run.do(0, Outcome.FAILED)
    assert run(Due(0, 1)) == Answer.REFUSED
    assert run(Due(0, 2)) == Answer.ACCEPTED
    assert run(Due(0, 2)) == Answer.REFUSED


def test_a_lapsed_lease_starts_the_next_attempt_at_once_without_using_a_retry() -> None:
    run = Played(plan(()))
    run.claim(0, token="dead")
    assert run(Lapsed(0, 1)) == Answer.ACCEPTED
    assert run.commands == [Enqueue(0, 2)]
    assert run.end(0, token="dead") == Answer.REFUSED  # it was not dead after all, but too late
    run.do(0, attempt=2)
    assert run.run.state is RunState.SUCCESS


def test_a_lease_that_is_gone_cannot_lapse() -> None:
    run = Played(plan(()))
    assert run(Lapsed(0, 1)) == Answer.REFUSED
    run.do(0)
    assert run(Lapsed(0, 1)) == Answer.REFUSED


def test_a_task_that_keeps_killing_its_process_is_quarantined() -> None:
    run = Played(plan((), (0,), retry=RetryPolicy(retries=9)))
    for attempt in range(1, MAX_LOSSES):
        run.do(0, Outcome.KILLED, attempt)
        assert run.states() == ["queued", "waiting"]
    run.do(0, Outcome.KILLED, MAX_LOSSES)
    assert run.states() == ["quarantined", "blocked"]
    assert run.run.state is RunState.FAILED


def test_work_that_its_holder_gives_back_is_never_held_against_it() -> None:
    run = Played(plan(()))
    for attempt in range(1, 4 * MAX_LOSSES):
        run.do(0, Outcome.LOST, attempt)
    assert run.states() == ["queued"]


@pytest.mark.parametrize("state", [RunState.CANCELLED, RunState.TIMED_OUT])
def test_a_stopped_run_cancels_what_is_open(state: RunState) -> None:
    run = Played(plan((), (), (0,), (1,), retry=RetryPolicy(retries=1)))
    run.do(0)
    run.do(1, Outcome.FAILED)
    run.claim(2)
    assert run(Stopped(state)) == Answer.ACCEPTED
    assert run.states() == ["success", "cancelled", "cancelled", "cancelled"]
    assert run.commands == [Close(state)]
    assert run.end(2) == Answer.DUPLICATE  # its claim is over
    assert run(Stopped(state)) == Answer.REFUSED
    assert run(Due(1, 2)) == Answer.REFUSED


@given(st.data())
def test_every_run_comes_to_an_end_and_counts_what_ended(data: st.DataObject) -> None:
    size = data.draw(st.integers(1, 8))
    parents = [()] + [tuple(sorted(data.draw(st.sets(st.integers(0, node - 1))))) for node in range(1, size)]
    run = Played(plan(*parents, retry=RetryPolicy(retries=data.draw(st.integers(0, 2)))))
    queue, closed = list(run.commands), []
    while queue:
        command = queue.pop(data.draw(st.integers(0, len(queue) - 1)))
        if isinstance(command, Wait):
            run(Due(command.node, command.attempt))
        elif isinstance(command, Close):
            closed.append(command)
            continue
        else:
            run.do(
                command.node,
                data.draw(st.sampled_from([o for o in Outcome if o is not Outcome.REJECTED])),
                command.attempt,
            )
        queue += run.commands
        if len(closed) == 0 and data.draw(st.integers(0, 30)) == 0 and run.run.state is RunState.RUNNING:
            run(Stopped(RunState.CANCELLED))
            assert run.commands == [Close(RunState.CANCELLED)]
            return
    assert len(closed) == 1
    assert run.run.ended == size
    states = set(run.states())
    assert states <= {"success", "skipped", "failed", "timed_out", "quarantined", "blocked"}
    assert (run.run.state is RunState.SUCCESS) == (states <= {"success", "skipped"})
    for node, task in enumerate(run.run.plan.tasks):
        if run.run.task_state(node) == "success":
            assert all(run.run.task_state(parent) == "success" for parent in task.parents)
