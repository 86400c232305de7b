"""What happened, as the server tells history: one frozen record per transition worth keeping.

The server functions write them into one stream in the order in which they became true; `tm.store.events`
reads the bytes and `tm.history` files the records. Times are ms since the epoch, by the server's clock.

What one call makes happen is one entry of that stream, or several when it is much. Positions are ids of entries. Each
event has an id of its own, from which `entry_of` tells the entry.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tm.states import Outcome, RunState, TaskState


def event_id(entry: str, number: int) -> str:
    """The id of an event: the first of an entry has that of the entry, the second ends in `-2`, and so on.

    So ids of events that are alone in their entries, as all once were, are what they were. No dots: the signature of
    a webhook has them between its parts.
    """
    return entry if number == 1 else f"{entry}-{number}"


def entry_of(event: str) -> str:
    """The entry that holds the event of this id; an id of an entry is its own."""
    return "-".join(event.split("-", 2)[:2])


def order_of(event: str) -> tuple[int, int, int]:
    """What ids are sorted by, for as text 10-0 would come before 9-0: those of events, or of entries.

    Raises:
        ValueError: this is no such id.
    """
    entry, _, rest = event.partition("-")
    sequence, _, number = rest.partition("-")
    return int(entry), int(sequence or 0), int(number or 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunCreated:
    """A run began, or a tick was recorded that never runs (state `skipped` or `failed`: nothing follows)."""

    run: str
    graph: str
    version: str  #: of the graph
    trigger: str
    tick: int | None  #: ms; None for a run that no tick started
    params: bytes  #: msgpack map for the roots; empty for none
    config: str  #: text of the config file as it was read; empty for none
    state: RunState
    reason: str
    at: int
    retry_of: str = ""  #: the run it repairs; empty for none


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptEnded:
    """One try at one task ended, or somebody reported one that was no longer theirs (outcome `rejected`)."""

    run: str
    graph: str  #: empty when the server had forgotten the run already (rejected attempts only)
    node: int
    task: str  #: empty as `graph`
    attempt: int  #: 1 for the first try
    outcome: Outcome
    state: TaskState | None  #: of the task from now on; None when the server no longer knew
    worker: str
    claimed: int | None  #: ms
    at: int
    ms: int  #: how long the body ran
    error: bytes  #: msgpack map (type, message, traceback, ...); empty when there was none
    due: int | None  #: ms; when the retry may begin


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskClosed:
    """A task will not run (any more), for a reason outside itself: `blocked` or `cancelled`."""

    run: str
    node: int
    task: str
    state: TaskState
    reason: str
    at: int
    attempt: int = 0  #: the one that ran, of which nobody will report; 0 for none
    claimed: int | None = None  #: ms; when it began


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptTask:
    """One task of a retry that was over before it began."""

    node: int
    task: str
    state: TaskState  #: `success`, `skipped`


@dataclass(frozen=True, slots=True, kw_only=True)
class TasksKept:
    """A retry began with these tasks as the run it repairs left them, their messages included."""

    run: str
    source: str  #: the run they come from
    tasks: tuple[KeptTask, ...]
    at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskMarked:
    """A person said how a task ended. Kept as an audit: who, when, why, and what the task was before."""

    run: str
    node: int
    task: str
    was: TaskState
    state: TaskState
    by: str
    reason: str
    at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEnded:
    """A run reached its final state."""

    run: str
    graph: str
    state: RunState
    reason: str
    at: int
    started: int | None  #: ms; None when no attempt of it ever began


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadlineMissed:
    """A run is still open although the deadline of its graph has passed; told once."""

    run: str
    graph: str
    state: RunState
    due: int  #: ms; when it should have ended
    at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Noted:
    """Something about a run that happened outside of it."""

    run: str
    kind: str  #: webhook
    what: str  #: such as run.failed
    outcome: str
    message: str
    at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CallbackEnded:
    """The functions that were to be told something have been called, or will not be called again."""

    run: str
    graph: str
    task: str  #: whose callbacks; empty for those of the graph
    kind: str  #: success, failure, retry, deadline
    id: str  #: of what they were told; unlike any other
    outcome: str  #: success, failed, timed_out, killed, or lost: with too many workers that were to call them
    worker: str
    deliveries: int  #: above 1 when workers vanished that may have called them before
    ms: int
    error: bytes  #: msgpack map, as of an attempt; empty when all went well
    at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class UnknownEvent:
    """An entry that this version cannot read, kept apart so that it never holds up what comes after it."""

    problem: str


Event = (
    RunCreated
    | AttemptEnded
    | TaskClosed
    | TasksKept
    | TaskMarked
    | RunEnded
    | DeadlineMissed
    | Noted
    | CallbackEnded
    | UnknownEvent
)
