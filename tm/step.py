"""The rules of a run, pure: a state and an event give a decision, and nothing else happens.

The same rules live in the server functions (`tm/store/lua`), where they are atomic and fast. Here they drive runs in
this process and simulations, and a test runs both side by side and compares every state they reach.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from tm.states import FINAL_TASK_STATES, INFRASTRUCTURE_OUTCOMES, MARKABLE, MAX_LOSSES, Outcome, RunState, TaskState

if TYPE_CHECKING:
    from collections.abc import Callable

    from tm.records import Plan

# State -------------------------------------------------------------------------------------------------------------


class TaskRun(NamedTuple):
    """One task of a run. A task that nothing has happened to has no record: it is waiting."""

    state: TaskState
    attempt: int
    token: str = ""  #: of the last claim
    fails: int = 0  #: attempts that used up a retry
    losses: int = 0  #: attempts that the infrastructure lost


class Run:
    """Where a run stands. Only `apply` changes it."""

    __slots__ = ("arrived", "bad", "ended", "plan", "state", "tasks")

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.state = RunState.QUEUED
        self.tasks: dict[int, TaskRun] = {}  #: by node
        self.arrived: dict[int, int] = {}  #: messages so far, of nodes with several parents
        self.ended = 0  #: tasks in a final state
        self.bad = False  #: a task failed for good

    def task_state(self, node: int) -> TaskState:
        """The state of a node."""
        task = self.tasks.get(node)
        return TaskState.WAITING if task is None else task.state

    def apply(self, decision: Decision) -> None:
        """Let a decision become true."""
        self.tasks.update(decision.tasks)
        if decision.arrived:
            self.arrived.update(decision.arrived)
        self.ended += decision.ended
        self.bad = self.bad or decision.bad
        self.state = decision.state


# looking up a member of an enumeration takes as long as half a call, and these are looked up for every task
_QUEUED, _RUNNING, _SUCCESS = TaskState.QUEUED, TaskState.RUNNING, TaskState.SUCCESS
_RUN_RUNNING, _DONE = RunState.RUNNING, Outcome.SUCCESS
_FIRST_ATTEMPT = TaskRun(_QUEUED, 1)

# Events ------------------------------------------------------------------------------------------------------------


class Begun(NamedTuple):
    """The run was created."""


class Claimed(NamedTuple):
    """A worker took a queued attempt."""

    node: int
    attempt: int
    token: str


class Ended(NamedTuple):
    """The holder of a claim reports its outcome."""

    node: int
    attempt: int
    token: str
    outcome: Outcome
    retry: bool = True  #: another attempt may help
    chance: float = 0.0  #: in [0, 1), picks the jitter


class PutBack(NamedTuple):
    """The holder of a claim has not begun and will not: somebody else is to make this very attempt."""

    node: int
    attempt: int
    token: str


class Lapsed(NamedTuple):
    """The lease of an attempt ran out."""

    node: int
    attempt: int


class Due(NamedTuple):
    """The delay before a retry is over."""

    node: int
    attempt: int  #: the one that may be queued now


class Stopped(NamedTuple):
    """Somebody, or the deadline, ends the run."""

    state: RunState


class Marked(NamedTuple):
    """A person says how a task has ended."""

    node: int
    state: TaskState  #: one of MARKABLE


Event = Marked | Begun | Claimed | Ended | PutBack | Lapsed | Due | Stopped

# Decisions -----------------------------------------------------------------------------------------------------------


class Enqueue(NamedTuple):
    """Let a worker have this attempt."""

    node: int
    attempt: int


class Wait(NamedTuple):
    """Send `Due` for this attempt after a delay."""

    node: int
    attempt: int
    delay_ms: int


class Close(NamedTuple):
    """The run is over."""

    state: RunState


Command = Enqueue | Wait | Close


class Answer:
    """What the sender of an event hears."""

    ACCEPTED = 1
    DUPLICATE = 0  #: the same token reported this before
    REFUSED = -1  #: not in this state, not this attempt or not this token


class Decision:
    """What an event changes, and what is to be done about it."""

    __slots__ = ("answer", "arrived", "bad", "commands", "ended", "state", "tasks")

    def __init__(self, state: RunState, answer: int = Answer.ACCEPTED) -> None:
        self.state = state  #: of the run, afterwards
        self.answer = answer
        self.tasks: dict[int, TaskRun] = {}
        self.arrived: dict[int, int] = {}
        self.ended = 0
        self.bad = False
        self.commands: list[Command] = []


def step(run: Run, event: Event) -> Decision:
    """What `event` means for `run`; neither is changed.

    An event that does not fit the state (late, repeated, of another claim) is answered so and changes nothing.
    """
    return _RULES[type(event)](run, event)


def _begun(run: Run, _event: Begun) -> Decision:
    if run.tasks or run.state is not RunState.QUEUED:
        return Decision(run.state, Answer.DUPLICATE)
    decision = Decision(RunState.QUEUED)
    for root in run.plan.roots:
        _queue(decision, root, _FIRST_ATTEMPT)
    return decision


def _claimed(run: Run, event: Claimed) -> Decision:
    node, attempt, token = event
    task = run.tasks.get(node)
    if task is None or task.state is not _QUEUED or task.attempt != attempt:
        return Decision(run.state, Answer.REFUSED)
    decision = Decision(_RUN_RUNNING)
    decision.tasks[node] = TaskRun(_RUNNING, attempt, token, task.fails, task.losses)
    return decision


def _ended(run: Run, event: Ended) -> Decision:
    node, attempt, token, outcome, _, _ = event
    task = run.tasks.get(node)
    if task is None or task.attempt != attempt or not token or task.token != token:
        return Decision(run.state, Answer.REFUSED)
    if task.state is not _RUNNING:
        return Decision(run.state, Answer.DUPLICATE)
    if outcome is _DONE:
        return _succeeded(run, node, task)
    if outcome is Outcome.SKIPPED:
        return _closed_early(run, node, task, TaskState.SKIPPED)
    # a loss that the holder itself reports was a way of giving work back: it is not charged
    return _failed(run, event, task, charged=outcome is not Outcome.LOST)


def _put_back(run: Run, event: PutBack) -> Decision:
    node, attempt, token = event
    task = run.tasks.get(node)
    if task is None or task.attempt != attempt or not token or task.token != token:
        return Decision(run.state, Answer.REFUSED)
    if task.state is not _RUNNING:
        return Decision(run.state, Answer.DUPLICATE)
    decision = Decision(run.state)
    _queue(decision, node, task._replace(state=_QUEUED, token=""))
    return decision


def _lapsed(run: Run, event: Lapsed) -> Decision:
    task = run.tasks.get(event.node)
    if task is None or task.state is not TaskState.RUNNING or task.attempt != event.attempt:
        return Decision(run.state, Answer.REFUSED)
    lost = Ended(event.node, event.attempt, task.token, Outcome.LOST)
    return _failed(run, lost, task, charged=True)


def _due(run: Run, event: Due) -> Decision:
    task = run.tasks.get(event.node)
    if task is None or task.state is not TaskState.RETRYING or task.attempt + 1 != event.attempt:
        return Decision(run.state, Answer.REFUSED)
    decision = Decision(run.state)
    _queue(decision, event.node, TaskRun(TaskState.QUEUED, event.attempt, "", task.fails, task.losses))
    return decision


def _stopped(run: Run, event: Stopped) -> Decision:
    if run.state not in {RunState.QUEUED, RunState.RUNNING}:
        return Decision(run.state, Answer.REFUSED)
    decision = Decision(event.state)
    for node in range(len(run.plan.tasks)):
        task = run.tasks.get(node) or TaskRun(TaskState.WAITING, 0)
        if task.state in {TaskState.WAITING, TaskState.QUEUED, TaskState.RUNNING, TaskState.RETRYING}:
            decision.tasks[node] = task._replace(state=TaskState.CANCELLED)
    decision.commands.append(Close(event.state))
    return decision


def _marked(run: Run, event: Marked) -> Decision:
    task = run.tasks.get(event.node) or TaskRun(TaskState.WAITING, 0)
    if run.state not in {RunState.QUEUED, RunState.RUNNING} or task.state in FINAL_TASK_STATES:
        return Decision(run.state, Answer.REFUSED)
    if event.state not in MARKABLE:
        raise ValueError(f"no task is marked {event.state}")
    if event.state is TaskState.SUCCESS:
        return _succeeded(run, event.node, task)
    return _closed_early(run, event.node, task, event.state)


def _succeeded(run: Run, node: int, task: TaskRun) -> Decision:
    decision = Decision(run.state)
    _, attempt, token, fails, losses = task
    decision.tasks[node] = TaskRun(_SUCCESS, attempt, token, fails, losses)
    decision.ended = 1
    tasks = run.plan.tasks
    for child in tasks[node].children:
        if child in run.tasks:
            continue  # somebody said how it ended before its parents had
        parents = len(tasks[child].parents)
        if parents > 1:
            arrived = run.arrived.get(child, 0) + 1
            decision.arrived[child] = arrived
            if arrived < parents:
                continue
        _queue(decision, child, _FIRST_ATTEMPT)
    _close_if_over(run, decision)
    return decision


def _failed(run: Run, event: Ended, task: TaskRun, *, charged: bool) -> Decision:
    node, outcome = event.node, event.outcome
    decision = Decision(run.state)
    if outcome in INFRASTRUCTURE_OUTCOMES:
        losses = task.losses + charged
        if losses < MAX_LOSSES:
            _queue(decision, node, TaskRun(TaskState.QUEUED, task.attempt + 1, "", task.fails, losses))
            return decision
        after = task._replace(state=TaskState.QUARANTINED, losses=losses)
    else:
        fails = task.fails + 1
        policy = run.plan.tasks[node].retry
        if event.retry and fails <= policy.retries:
            decision.tasks[node] = task._replace(state=TaskState.RETRYING, fails=fails)
            delay = policy.delay_ms(fails - 1, event.chance)
            decision.commands.append(Wait(node, task.attempt + 1, delay))
            return decision
        after = task._replace(state=TaskState(outcome.value), fails=fails)
    return _closed_early(run, node, after, after.state)


def _closed_early(run: Run, node: int, task: TaskRun, state: TaskState) -> Decision:
    """A task ended without a message: whatever waits below it will never run, and says so now."""
    decision = Decision(run.state)
    decision.tasks[node] = task._replace(state=state)
    decision.ended, decision.bad = 1, state is not TaskState.SKIPPED
    _close_below(run, decision, node, TaskState.BLOCKED if decision.bad else TaskState.SKIPPED)
    _close_if_over(run, decision)
    return decision


def _close_below(run: Run, decision: Decision, node: int, state: TaskState) -> None:
    pending = [node]
    while pending:
        for child in run.plan.tasks[pending.pop()].children:
            if child not in run.tasks and child not in decision.tasks:
                decision.tasks[child] = TaskRun(state, 0)
                decision.ended += 1
                pending.append(child)


def _queue(decision: Decision, node: int, task: TaskRun) -> None:
    decision.tasks[node] = task
    decision.commands.append(Enqueue(node, task.attempt))


def _close_if_over(run: Run, decision: Decision) -> None:
    if run.ended + decision.ended == len(run.plan.tasks):
        decision.state = RunState.FAILED if run.bad or decision.bad else RunState.SUCCESS
        decision.commands.append(Close(decision.state))


_RULES: dict[type, Callable[[Run, Any], Decision]] = {
    Begun: _begun,
    Claimed: _claimed,
    Ended: _ended,
    PutBack: _put_back,
    Lapsed: _lapsed,
    Due: _due,
    Stopped: _stopped,
    Marked: _marked,
}
