"""What is left of a test for the checker to judge, as plain records: no process, no server, no clock."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.rig.journal import Line
    from tm.events import Event
    from tm.records import Plan


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryRun:
    """A row of `runs`."""

    id: str
    graph: str
    state: str
    tick: int | None = None
    reason: str = ""
    ended: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryTask:
    """A row of `task_runs`."""

    run: str
    task: str
    state: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryAttempt:
    """A row of `attempts`."""

    run: str
    task: str
    number: int
    outcome: str
    event: str
    error_type: str | None = None
    claimed: int | None = None
    ended: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerTask:
    """A task run as the server holds it; one that nothing has happened to has none."""

    state: str
    attempt: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerRun:
    """A run as the server holds it."""

    id: str
    graph: str
    state: str
    tick: int | None = None
    reason: str = ""
    tasks: Mapping[str, ServerTask] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerDump:
    """All that the server holds, taken while nobody changes it."""

    runs: Mapping[str, ServerRun] = field(default_factory=dict)
    queued: tuple[str, ...] = ()  #: jobs, of all queues
    leases: tuple[str, ...] = ()
    retry: tuple[str, ...] = ()  #: jobs of the attempts to come
    open: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  #: graph -> runs
    keys: frozenset[str] = frozenset()
    memory: int = 0  #: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """Everything the checker looks at."""

    plans: Mapping[str, Plan]  #: of the graphs, by name
    journal: tuple[Line, ...] = ()
    runs: tuple[HistoryRun, ...] = ()
    task_runs: tuple[HistoryTask, ...] = ()
    attempts: tuple[HistoryAttempt, ...] = ()
    events: tuple[tuple[str, Event], ...] = ()  #: the stream as somebody who only listened has seen it
    events_complete: bool = False  #: nothing of it was missed
    server: ServerDump = field(default_factory=ServerDump)
    submitted: Mapping[str, str] = field(default_factory=dict)  #: acknowledged run -> graph
    ticks: Mapping[str, tuple[int, ...]] = field(default_factory=dict)  #: graph -> ms of every tick that was due
    settled: bool = True  #: all faults are over and the bound has passed: nothing may be open
    rolled_back: bool = False  #: the server lost acknowledged writes: what it forgot may be done again
    filed: bool = True  #: history had its time to catch up
    texts: Mapping[str, str] = field(default_factory=dict)  #: logs and outputs by name
    secrets: tuple[str, ...] = ()
    baseline_keys: frozenset[str] | None = None  #: compared with the keys at the end, if given
    baseline_memory: int = 0
