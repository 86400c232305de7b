"""The rows of history as frozen records; instants are aware, in UTC."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tm.states import FINAL_RUN_STATES, Outcome, RunState, TaskState

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRow:
    """One run, as far as history knows it."""

    id: str
    graph: str  #: empty if the run's beginning was never seen
    version: str  #: of the graph; empty as `graph`
    trigger: str | None  #: None as `graph`
    tick: datetime | None  #: None for a run that no tick started
    state: RunState
    reason: str
    created: datetime
    started: datetime | None  #: when its first attempt was claimed
    ended: datetime | None
    retry_of: str = ""  #: the run it repairs; empty for none

    @property
    def open(self) -> bool:
        """Whether it may still change: what follows from the server is newer."""
        return self.state not in FINAL_RUN_STATES


@dataclass(frozen=True, slots=True, kw_only=True)
class RunDetail(RunRow):
    """One run with what it was given."""

    params: bytes = b""  #: the message; empty for none
    params_json: str = ""  #: the same, to be read; empty for none
    config: str = ""  #: text of the config file as this run read it; empty for none


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskRunRow:
    """One task of one run, once an attempt of it has ended or it was closed without one."""

    run: str
    node: int
    task: str
    state: TaskState
    reason: str
    attempts: int  #: 0 when it never began; one that was cancelled as it ran counts, and has no row of its own
    started: datetime | None  #: when its first attempt was claimed
    ended: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptRow:
    """One try at one task of one run."""

    run: str
    node: int
    task: str
    number: int  #: 1 for the first try
    outcome: Outcome
    worker: str
    claimed: datetime | None
    ended: datetime
    ms: int  #: how long the body ran
    error_type: str | None
    message: str | None
    traceback: str | None
    signal: str | None  #: what killed the process, e.g. SIGKILL
    exit_code: int | None
    max_rss: int | None  #: as the worker measured it
    due: datetime | None  #: when the retry that followed was due


@dataclass(frozen=True, slots=True, kw_only=True)
class MarkRow:
    """What a person said of a task (`tm mark`)."""

    run: str
    task: str
    was: TaskState
    state: TaskState
    by: str
    reason: str
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class NoticeRow:
    """Who was told of a run and how that went, or an alarm."""

    run: str
    kind: str  #: callback, deadline
    task: str  #: whose callback; empty for those of the graph, and for the whole run
    what: str  #: such as on_failure
    outcome: str  #: of a callback: success, failed, timed_out, killed, lost; missed
    message: str | None
    traceback: str | None
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Details:
    """What is known of one run besides the run itself."""

    run: str
    tasks: list[TaskRunRow]
    attempts: list[AttemptRow]
    marks: list[MarkRow]
    notices: list[NoticeRow]


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphRow:
    """What became of the runs of one graph."""

    graph: str
    total: int
    counts: Mapping[RunState, int]
    recent: tuple[RunRow, ...]  #: newest first


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionRow:
    """One version of a graph."""

    graph: str
    version: str
    first_seen: datetime
