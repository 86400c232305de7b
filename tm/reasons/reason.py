"""What reasons are made of: the record, the facts beside a run, and how errors are told."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tm.clock import from_ms
from tm.states import Outcome, RunState
from tm.words import Words, shorten

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from tm.records import Plan, TaskPlan
    from tm.runinfo import AttemptInfo, ErrorInfo, RunInfo
    from tm.store.looking import Place, QueueView, Scene, WorkerView

#: a worker beats every sixth of its lease; one that has missed three beats is worth a word
SILENT_AFTER = 0.5
#: what is said when the server has more to do than one call does
LATER = "the server leaves what is much for its next calls"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """Why something is as it is."""

    code: str  #: a word that stays the same, for programs
    subject: str  #: `load`, or run etl-1
    predicate: str  #: is queued: ...
    hint: str = ""  #: what to do next, if anything
    facts: Mapping[str, Any] = field(default_factory=dict)  #: texts, numbers, instants, lists of these

    @property
    def sentence(self) -> str:
        """The whole of it."""
        return f"{self.subject} {self.predicate}."


@dataclass(frozen=True, slots=True, kw_only=True)
class Busy:
    """An attempt that some worker is at."""

    worker: str
    graph: str
    task: str
    since: datetime
    run: str = ""
    attempt: int = 1
    queue: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What is known besides the run itself."""

    words: Words
    scene: Scene | None = None  #: None: there is no server
    busy: Sequence[Busy] = ()
    places: Mapping[str, Place] = field(default_factory=dict)  #: of queued tasks of the run
    leases: Mapping[str, datetime] = field(default_factory=dict)  #: of running tasks of the run
    held: bool = True  #: the server holds the run
    current: str = ""  #: version of the run's graph that was announced last; empty: none, or of no interest


#: what to speak of first when a run has several open tasks
PRESSING = {
    code: place
    for place, code in enumerate(
        (
            "no_worker",
            "worker_silent",
            "not_loaded",
            "draining",
            "queue_paused",
            "suspended",
            "doorbell_lost",
            "running_unheard",
            "running",
            "retrying",
            "busy",
            "about_to_run",
        )
    )
}


LOSSES = frozenset({Outcome.LOST, Outcome.KILLED})
_ENDINGS = {
    Outcome.FAILED: "failed with",
    Outcome.TIMED_OUT: "timed out:",
    Outcome.LOST: "was lost with its worker",
    Outcome.KILLED: "ended with its process",
}


def ended_with(attempt: AttemptInfo) -> str:
    """Failed with, was lost with its worker: what comes before an error, if there is one."""
    text = _ENDINGS.get(attempt.outcome, "ended") if attempt.outcome else "ended"
    return text if attempt.error is not None else text.removesuffix(" with").removesuffix(":")


def in_short(error: ErrorInfo) -> str:
    """ValueError: no space (load.py, line 7)."""
    where = where_of(error)
    message = shorten(error.message, 120)
    return f"{error.type}{f': {message}' if message else ''}{f' ({where})' if where else ''}"


_FRAME = re.compile(r'^\s*File "([^"]+)", line (\d+)', re.MULTILINE)


def where_of(error: ErrorInfo) -> str:
    """The file and line that raised it."""
    frames = _FRAME.findall(error.traceback)
    return f"{frames[-1][0].rpartition('/')[2]}, line {frames[-1][1]}" if frames else ""


def error_facts(error: ErrorInfo) -> dict[str, Any]:
    """The same for programs."""
    return {"error_type": error.type, "error_message": error.message, "error_where": where_of(error) or None}


def is_of_config(run: RunInfo) -> bool:
    """Whether a run failed before it began, because its config file could not be read."""
    return run.state is RunState.FAILED and run.started_at is None and run.reason.startswith("config file ")


def is_silent(worker: WorkerView, words: Words) -> bool:
    """Whether a worker is overdue."""
    try:
        lease = float(worker.about.get("lease") or 30)
    except ValueError:
        lease = 30.0
    return (words.now - from_ms(worker.seen_ms)).total_seconds() > max(2.0, lease * SILENT_AFTER)


def worker_of(scene: Scene | None, name: str) -> WorkerView | None:
    """The worker of this name."""
    return next((each for each in scene.workers if each.name == name), None) if scene else None


def queue_of(scene: Scene | None, name: str) -> QueueView | None:
    """The queue of this name."""
    return next((each for each in scene.queues if each.name == name), None) if scene else None


def node_of(plan: Plan | None, task: str) -> TaskPlan | None:
    """What the plan says of a task."""
    return next((node for node in plan.tasks if node.name == task), None) if plan else None


def parents_of(plan: Plan, task: str) -> list[str]:
    """The names of its parents."""
    node = node_of(plan, task)
    return [plan.tasks[index].name for index in node.parents] if node else []


def above(plan: Plan | None, task: str) -> list[str]:
    """All tasks above this one, in the order of the graph."""
    node = node_of(plan, task)
    if plan is None or node is None:
        return []
    found, left = set[int](), list(node.parents)
    while left:
        index = left.pop()
        if index not in found:
            found.add(index)
            left += plan.tasks[index].parents
    return [plan.tasks[index].name for index in sorted(found)]
