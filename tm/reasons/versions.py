"""Which versions of a graph the workers alive have: a worker runs the code as it was when it was started."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tm.reasons.reason import is_silent
from tm.words import quoted

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tm.reasons.reason import Known
    from tm.records import Plan


def loaded(known: Known, graph: str, task: str, plan: Plan | None) -> dict[str, str]:
    """The workers that would be given a task, by name, with the version of its graph that each has told."""
    if known.scene is None:
        return {}
    node = next((each for each in plan.tasks if each.name == task), None) if plan else None
    queue = node.queue if node else None
    return {
        each.name: each.versions[graph]
        for each in known.scene.workers
        if each.alive
        and not each.draining
        and not is_silent(each, known.words)
        and (queue is None or queue in each.queues)
        and each.has(graph, task)
        and graph in each.versions
    }


def other_code(workers: Mapping[str, str], version: str, current: str) -> tuple[str, str]:
    """Where workers would run an attempt by another version than that of its run: a clause, and what to do.

    Both are empty where all of them have the version of the run. Which of two versions is the older one nobody
    knows; `current` is what a scheduler has announced last.
    """
    others = sorted({each for each in workers.values() if each != version})
    if not others:
        return "", ""
    which = "the current version" if others == [current] else f"{'another' if len(others) == 1 else 'other'} version"
    which += "s" if len(others) > 1 else ""
    text = f"by {which} of its code ({quoted(others)}, where the run has `{version}`)"
    if version in workers.values():
        text = f"{quoted(sorted(name for name, each in workers.items() if each != version))} would run it {text}"
    else:
        text = f"it will be run {text}"
    return text, "" if others == [current] else RESTART


#: where workers and schedulers have loaded different files
RESTART = "restart whichever of workers and schedulers still has the old file"


def still_failing(workers: Mapping[str, str], version: str, current: str) -> str:
    """What to heed before a retry of what has failed, where a worker would run the same code again.

    Args:
        workers: as `loaded` has them.
        version: of the run that failed.
        current: what a scheduler has announced last; empty where none has.
    """
    same = sorted(name for name, each in workers.items() if each == version)
    if same:
        them, have = ("worker", "has") if len(same) == 1 else ("workers", "have")
        return f"if its file was changed, first restart {them} {quoted(same)}, which still {have} version `{version}`"
    if workers and version == current:
        theirs = quoted(sorted(set(workers.values())))
        return f"{RESTART}: workers have version {theirs} where the scheduler has `{version}`"
    return ""
