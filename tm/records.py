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


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a version of a graph looks like; stored once, shared by all its runs."""

    graph: str
    version: str  #: digest of the structure, the rules and the code of the tasks
    tasks: tuple[TaskPlan, ...]  #: in topological order, so the last one gives the run's result
    timeout: float | None = None  #: seconds a whole run may take

    @property
    def roots(self) -> tuple[int, ...]:
        """Indexes of the tasks without parents, which receive `config` and params."""
        return tuple(index for index, task in enumerate(self.tasks) if not task.parents)
