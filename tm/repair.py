"""What a retry keeps and what it runs: pure, from how the tasks of a run ended and the plan they are to run by now."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tm.errors import NotFoundError, RefusedError
from tm.states import TaskState
from tm.store.records import RUN, SKIP, RetryTask

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from tm.records import Plan

#: how a task must have ended to be kept: its message is there, or None stands for it
KEEPABLE = frozenset({TaskState.SUCCESS, TaskState.SKIPPED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Which part of a run is to run again; what had not succeeded does in any case, unless it is `only`."""

    again: tuple[str, ...] = ()  #: these tasks and all that is below them
    only: tuple[str, ...] = ()  #: these and nothing else; what had not ended well is left out
    taken: Mapping[str, TaskState] = field(default_factory=dict)  #: somebody says that these are over, and how

    @property
    def is_usual(self) -> bool:
        """Whether it is only about what had not succeeded."""
        return not (self.again or self.only or self.taken)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mending:
    """What becomes of each task of the plan."""

    tasks: tuple[RetryTask, ...]  #: for the store
    runs: tuple[str, ...]
    kept: tuple[str, ...]
    left_out: tuple[str, ...]  #: not asked for
    taken: tuple[str, ...]


def mend(old: Sequence[tuple[str, TaskState]], plan: Plan, choice: Choice) -> Mending:
    """Decide what a retry does with each task of `plan`.

    A task is kept when it had ended well, the plan still has it (by name), and all its parents are kept: so
    nothing that is kept can have come from something that runs again. Only `only` sets that last condition aside.

    Args:
        old: names and states of the tasks of the run to repair, in the order of its plan.
        plan: by which the retry runs.
        choice: what is to run again.

    Raises:
        NotFoundError: the plan has no task of a name that was given.
        RefusedError: nothing would run, or a task would run without the message of a parent.
    """
    names = [task.name for task in plan.tasks]
    for name in (*choice.again, *choice.only, *choice.taken):
        if name not in names:
            raise NotFoundError(f"graph {plan.graph!r} has no task {name!r}; it has {', '.join(names)}")
    before = {name: (index, state) for index, (name, state) in enumerate(old)}
    below = _with_all_below(plan, choice.again)
    tasks: list[RetryTask] = []
    for task in plan.tasks:
        index, was = before.get(task.name, (-1, TaskState.WAITING))
        if task.name in choice.taken:
            tasks.append((choice.taken[task.name].value, was.value))
        elif choice.only:
            tasks.append(RUN if task.name in choice.only else index if was in KEEPABLE else SKIP)
        elif was in KEEPABLE and task.name not in below and all(tasks[parent] != RUN for parent in task.parents):
            tasks.append(index)
        else:
            tasks.append(RUN)
    for index, task in enumerate(plan.tasks):
        if tasks[index] == RUN and (lacking := [names[each] for each in task.parents if tasks[each] == SKIP]):
            raise RefusedError(
                f"task {task.name!r} needs the message of {lacking[0]!r}, which did not succeed; "
                f"name both with --only, or leave it out and retry what failed"
            )
    mending = Mending(
        tasks=tuple(tasks),
        runs=_named(names, tasks, lambda each: each == RUN),
        kept=_named(names, tasks, lambda each: isinstance(each, int) and each >= 0),
        left_out=_named(names, tasks, lambda each: each == SKIP),
        taken=_named(names, tasks, lambda each: isinstance(each, tuple)),
    )
    if not mending.runs and not mending.taken:
        raise RefusedError("nothing of it failed; `--from TASK` runs a task again with all that is below it")
    return mending


def _named(names: Sequence[str], tasks: Sequence[RetryTask], fits: Callable[[RetryTask], bool]) -> tuple[str, ...]:
    return tuple(name for name, task in zip(names, tasks, strict=True) if fits(task))


def _with_all_below(plan: Plan, names: Collection[str]) -> frozenset[str]:
    found: set[int] = set()
    pending = [index for index, task in enumerate(plan.tasks) if task.name in names]
    while pending:
        index = pending.pop()
        if index not in found:
            found.add(index)
            pending += plan.tasks[index].children
    return frozenset(plan.tasks[index].name for index in found)


__all__ = ["Choice", "Mending", "mend"]
