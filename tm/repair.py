"""What a retry keeps and what it runs: pure, from how the tasks of a run ended and the plan they are to run by now."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tm.errors import NotFoundError, RefusedError
from tm.states import TaskState
from tm.store.records import RUN, SKIP, RetryTask

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from tm.records import Plan, TaskPlan

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
    What is below a skipped task is skipped; it runs once that task is taken as a success.

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

    def inherited(task: TaskPlan) -> bool:
        return any(before.get(names[each], (0, None))[1] is TaskState.SKIPPED for each in task.parents)

    tasks: list[RetryTask] = []
    skipped: set[int] = set()  # they have no message, so what is below them is skipped as well
    for node, task in enumerate(plan.tasks):
        index, was = before.get(task.name, (-1, TaskState.WAITING))
        if task.name in choice.taken:
            tasks.append((choice.taken[task.name].value, was.value))
        elif choice.only:
            tasks.append(RUN if task.name in choice.only else index if was in KEEPABLE else SKIP)
        elif (
            was in KEEPABLE
            and task.name not in below
            and all(tasks[parent] != RUN for parent in task.parents)
            and not (was is TaskState.SKIPPED and inherited(task) and skipped.isdisjoint(task.parents))
        ):
            tasks.append(index)
        elif skipped.isdisjoint(task.parents) or task.name in choice.again:
            tasks.append(RUN)
        else:
            tasks.append(SKIP)
        _check_messages(names, task.parents, skipped, tasks, name=task.name)
        taken = choice.taken.get(task.name, was if tasks[node] == index else TaskState.SUCCESS)
        if tasks[node] == SKIP or taken is TaskState.SKIPPED:
            skipped.add(node)
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


def _check_messages(
    names: Sequence[str], parents: Sequence[int], skipped: Collection[int], tasks: Sequence[RetryTask], *, name: str
) -> None:
    """A task that somebody named does not run without the messages of its parents."""
    lacking = [each for each in parents if each in skipped]
    if tasks[-1] != RUN or not lacking:
        return
    parent = names[lacking[0]]
    if tasks[lacking[0]] == SKIP:
        raise RefusedError(
            f"task {name!r} needs the message of {parent!r}, which did not succeed; "
            f"name both, or leave it out and retry what failed"
        )
    raise RefusedError(
        f"task {name!r} needs the message of {parent!r}, which was skipped; name that too, "
        f"or `tm mark RUN/{parent} success`: it receives None then"
    )


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
