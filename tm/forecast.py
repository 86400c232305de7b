"""What would run if a run began now, and what would become of a tick that is due now. Pure; nothing is started."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tm.records import Plan, TaskPlan


class Fate(StrEnum):
    """What would become of a tick that is due now."""

    RUNS = "runs"
    SKIPPED = "skipped"  #: recorded as such, with a reason
    WAITS = "waits"  #: for an open run to end
    CANCELS = "cancels"  #: ends the open runs, and runs
    NONE = "none"  #: no tick is made at all


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The fate of a tick, and why."""

    fate: Fate
    because: str = ""


def of_tick(
    about: Mapping[str, Any], *, open_runs: Sequence[str], pause: str = "", leader: bool | None = True
) -> Verdict:
    """What would become of a tick that is due now.

    Args:
        about: what is said of the graph (`Graph.about`).
        open_runs: of the graph, oldest first.
        pause: who paused it and why, in half a sentence; empty when it is not paused.
        leader: whether a scheduler leads; None when there is no server to ask.
    """
    if str(about.get("schedule") or "manual") == "manual":
        return Verdict(fate=Fate.NONE, because="it has no schedule")
    if leader is None:
        return Verdict(fate=Fate.NONE, because="no server is running here")
    if not leader:
        return Verdict(fate=Fate.NONE, because="no scheduler leads")
    if pause:
        return Verdict(fate=Fate.NONE, because=f"it is {pause}")
    overlap, most = str(about.get("overlap", "allow")), int(about.get("max_active_runs") or 0)
    limit = most or (1 if overlap != "allow" else 0)
    if not limit or len(open_runs) < limit:
        return Verdict(fate=Fate.RUNS)
    others = f" and {len(open_runs) - 1} more" if len(open_runs) > 1 else ""
    because = f"run {open_runs[0]}{others} {'are' if others else 'is'} open (overlap={overlap!r}"
    because += f", max_active_runs={most})" if most else ")"
    fates = {"skip": Fate.SKIPPED, "cancel_other": Fate.CANCELS}
    return Verdict(fate=fates.get(overlap, Fate.WAITS), because=because)


def waves(plan: Plan) -> list[list[TaskPlan]]:
    """The tasks in the order in which they can begin: those of a wave wait for nothing but the waves before."""
    depth: list[int] = []
    for task in plan.tasks:  # in topological order
        depth.append(max((depth[parent] + 1 for parent in task.parents), default=0))
    found: list[list[TaskPlan]] = [[] for _ in range(max(depth) + 1)]
    for task, number in zip(plan.tasks, depth, strict=True):
        found[number].append(task)
    return found


def retry_delays(task: TaskPlan, most: int = 5) -> list[float]:
    """Seconds before each of the first retries, without their jitter."""
    return [task.retry.delay_ms(number) / 1000 for number in range(min(task.retry.retries, most))]
