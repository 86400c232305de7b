"""Frozen records that the parts of Taskmaster hand each other."""

from __future__ import annotations

from dataclasses import dataclass, field

from tm.retry import RetryPolicy


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskPlan:
    """One node of a plan: what has to be known about a task in order to run it somewhere else."""

    name: str
    parents: tuple[int, ...] = ()  #: indexes into Plan.tasks
    children: tuple[int, ...] = ()  #: indexes into Plan.tasks
    queue: str = "default"
    timeout: float | None = None  #: seconds one attempt may take
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    #: kinds of events that its callbacks want; not in the repr, of which versions are made: most tasks have none
    calls: tuple[str, ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a version of a graph looks like; stored once, shared by all its runs."""

    graph: str
    version: str  #: digest of the structure, the rules and the code of the tasks
    tasks: tuple[TaskPlan, ...]  #: in topological order, so the last one gives the run's result
    timeout: float | None = None  #: seconds a whole run may take
    deadline: float | None = None  #: seconds after which a run that is still open is late
    calls: tuple[str, ...] = ()  #: kinds of events of its runs that callbacks want

    @property
    def has_callbacks(self) -> bool:
        """Whether workers are to be ready for callbacks of this graph."""
        return bool(self.calls) or any(task.calls for task in self.tasks)

    @property
    def roots(self) -> tuple[int, ...]:
        """Indexes of the tasks without parents, which receive `config` and params."""
        return tuple(index for index, task in enumerate(self.tasks) if not task.parents)
