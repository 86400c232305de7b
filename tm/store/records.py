"""What goes into the server functions and what comes out of them, as frozen records."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import NamedTuple

from tm.states import Outcome, RunState, TaskState, Trigger


class NewRun(NamedTuple):
    """A run to be started by hand or by an application."""

    id: str
    params: bytes = b""  #: msgpack map for the roots; empty for none
    config: str = ""  #: text of the config file as read now


@dataclass(frozen=True, slots=True, kw_only=True)
class DueTick:
    """One tick of a graph, to become one run or one recorded skip."""

    run: str  #: `ids.tick_run_id`
    at_ms: int
    config: str = ""
    trigger: Trigger = Trigger.SCHEDULE
    born: RunState = RunState.QUEUED  #: FAILED (broken config) or SKIPPED (misfire) to be recorded only
    reason: str = ""
    overlap: str = "allow"
    most: int = 0  #: open runs that are too many for it; 0: one, and with "allow" any number is fine


class TickAnswer(StrEnum):
    """What became of a due tick."""

    CREATED = "created"  #: a run, or a recorded skip or failure
    EXISTS = "exists"  #: this tick was handled before; nothing was done
    OVERLAPPED = "overlapped"  #: recorded as skipped, for another run is open (overlap="skip")
    HELD = "held"  #: nothing recorded, ask again (overlap="queue" while a run is open)
    PAUSED = "paused"  #: nothing recorded, the graph is paused; the cursor stays
    FENCED = "fenced"  #: the asker is no longer the leader


@dataclass(frozen=True, slots=True, kw_only=True)
class Leadership:
    """The right to make ticks, as long as the server still holds this token for `who`."""

    who: str
    token: int  #: grows with every change of leader


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """A worker asks for work."""

    worker: str
    lease_ms: int
    token: str  #: fresh for each ask, repeated when the same ask is sent again
    queues: tuple[str, ...]  #: in strict order
    count: int  #: attempts wanted at most; 0 asks for none
    bell: str = ""  #: job id that the blocking pop returned
    state: str = ""  #: the worker's new state for RQ ("busy", "idle"); empty when unchanged
    again: bool = False  #: the reply to this very ask was lost
    mine: bool = False  #: for no new work, but for what was handed over to this worker and is running
    ear: str = ""  #: where the worker listens for what is handed over to it later; empty when it does not
    heard: int = 0  #: attempts that were handed over there so far


@dataclass(frozen=True, slots=True)
class Claim:
    """One attempt that a worker may run now. Positional, for it is made on the hot path."""

    job: str
    token: str
    run: str
    graph: str
    version: str
    task: str
    attempt: int
    claimed_ms: int
    timeout: float | None  #: seconds
    tick_ms: int | None
    params: bytes  #: roots only
    config: str  #: roots only
    inputs: list[tuple[str, bytes]] = field(default_factory=list)  #: parent's name and its value, undecoded
    ends_ms: int | None = None  #: when the time-out of the run ends it


@dataclass(frozen=True, slots=True)
class Grant:
    """The answer to an ask."""

    claims: list[Claim]
    suspended: bool = False  #: `rq suspend` is in force
    passed: int = 0  #: attempts put back because this worker has not loaded their graph
    paused: frozenset[str] = frozenset()  #: those of the queues asked for of which nothing is handed out


#: `Report.ms` of what was lost before it began: it is queued again as if nobody had claimed it
UNBEGUN = -1


@dataclass(frozen=True, slots=True)
class Report:
    """How an attempt ended, as its worker saw it."""

    job: str
    token: str
    outcome: Outcome
    value: bytes = b""  #: the message, when it succeeded
    error: bytes = b""  #: msgpack map (type, message, traceback, ...), when it did not; the reason, when it was skipped
    retry: bool = True  #: False when another attempt is pointless
    ms: int = 0  #: how long the body ran, or UNBEGUN
    chance: float = 0.0  #: in [0, 1), picks the jitter of a retry


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the server made of a report."""

    kind: VerdictKind
    due_ms: int | None = None  #: when a retry is due


class VerdictKind(IntEnum):
    """Accepted, repeated or refused."""

    ACCEPTED = 1
    DUPLICATE = 0
    REJECTED = -1  #: this worker no longer held the attempt; nothing was changed


class Beat(IntEnum):
    """The answer to the heartbeat of one attempt."""

    OK = 1
    LOST = 0  #: somebody else has it, or it is over: end the process
    CANCEL = -1  #: the run was cancelled: end the process


@dataclass(frozen=True, slots=True)
class Grace:
    """The run of an attempt was cancelled by somebody who said how long its tasks may tidy up."""

    seconds: float


class TriggerAnswer(IntEnum):
    """What became of a run that was asked for."""

    CREATED = 1
    EXISTS = 0  #: that id is taken
    PAUSED = -1
    FULL = -2  #: as many runs of the graph are open as may be


@dataclass(frozen=True, slots=True, kw_only=True)
class Pause:
    """Why and since when a graph makes no runs, or made none."""

    graph: str  #: "" stands for all graphs
    by: str
    reason: str
    since_ms: int
    until_ms: int | None = None  #: when it ends by itself
    resumed_ms: int | None = None  #: when somebody ended it; its missed ticks may not have been dealt with yet
    catch_up: str = ""  #: skip, latest, all; empty for the graph's own rule
    packed: bytes = b""  #: as stored

    def ended_ms(self, now_ms: int) -> int | None:
        """When it ended; None while it is in force."""
        if self.resumed_ms is not None:
            return self.resumed_ms
        return self.until_ms if self.until_ms is not None and self.until_ms <= now_ms else None


@dataclass(frozen=True, slots=True, kw_only=True)
class QueuePause:
    """Why and since when nothing of a queue is handed out."""

    queue: str
    by: str
    reason: str
    since_ms: int
    until_ms: int | None = None  #: when it ends by itself

    def in_force(self, now_ms: int) -> bool:
        """Whether it has not ended by itself."""
        return self.until_ms is None or self.until_ms > now_ms


@dataclass(frozen=True, slots=True, kw_only=True)
class Purged:
    """What a purge has ended."""

    attempts: int  #: that waited when it began
    runs: tuple[str, ...]  #: now cancelled


@dataclass(frozen=True, slots=True)
class DrainOrder:
    """Somebody wants a worker to finish what it has, and to end."""

    by: str
    limit: float | None = None  #: seconds after which it gives back what still runs; None: it waits for it


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryRun:
    """A run that repairs one which has ended."""

    source: str  #: the run to repair
    id: str
    tasks: tuple[RetryTask, ...]  #: one for each node of the plan
    params: bytes = b""
    config: str = ""
    by: str = ""
    reason: str = ""


#: what a retry does with a node: an `int` keeps that node of the old run, RUN runs it, SKIP leaves it out,
#: and a pair of states says that somebody takes it as the first, which was the second
RetryTask = int | tuple[str, str]
RUN, SKIP = -1, -2


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskRunView:
    """One task of one run, as the server holds it."""

    task: str
    state: TaskState
    attempt: int = 0
    claimed_ms: int | None = None
    ended_ms: int | None = None
    due_ms: int | None = None  #: of the retry
    queued_ms: int | None = None  #: since when it waits for a worker
    fails: int = 0  #: attempts that used up a retry
    losses: int = 0  #: attempts that ended with their worker or process
    worker: str = ""
    error: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunView:
    """One run, as the server holds it."""

    id: str
    graph: str
    version: str
    state: RunState
    trigger: Trigger
    tick_ms: int | None
    created_ms: int
    started_ms: int | None
    ended_ms: int | None
    reason: str
    config: str
    params: bytes
    tasks: tuple[TaskRunView, ...]  #: in topological order
    retry_of: str = ""  #: the run it repairs
    pinned: bool = False  #: somebody said of a task how it ended
    noticed: bool = False  #: its graph has callbacks or a deadline, so there may be more to be told of it
