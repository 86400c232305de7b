"""What a stack says when it starts and when it is asked to stop: a few calm lines."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tm import __version__
from tm.redact import redact

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from tm.config import Settings
    from tm.graph import Graph


def greeting(graphs: Sequence[Graph], scheduled: Sequence[Graph], settings: Settings, now: datetime) -> list[str]:
    """Where the stack runs, and each graph with its schedule and next tick."""
    where = redact(settings.url) if settings.url else f"{_near(settings.home)} (embedded server)"
    counts = f"{_count(len(graphs), 'graph')}, {_count(settings.processes, 'executor')}"
    rows = [
        (graph.name, *schedule_of(graph, settings, now, active=graph in scheduled))
        for graph in sorted(graphs, key=lambda graph: graph not in scheduled)
    ]
    names, schedules = (max(len(row[column]) for row in rows) for column in (0, 1))
    return [
        f"taskmaster {__version__}  {counts}, {where}",
        *(f"  {name:<{names}}  {schedule:<{schedules}}  {tick}".rstrip() for name, schedule, tick in rows),
    ]


def ready(*, shared: bool) -> str:
    """What is said once schedules count and commands know the graphs."""
    return f"up; Ctrl-C waits for running {'tasks' if shared else 'graphs'}"


def schedule_of(graph: Graph, settings: Settings, now: datetime, *, active: bool = True) -> tuple[str, str]:
    """The schedule of a graph in words of its own, and its next tick."""
    if graph.schedule is None:
        return "manual", ""
    if not active:
        return str(graph.schedule), "not scheduled here"
    zone = graph.timezone or settings.timezone
    return str(graph.schedule), next_tick(graph, now.astimezone(zone))


def next_tick(graph: Graph, now: datetime) -> str:
    """The next tick after `now` (aware, in the graph's zone), with the day when it is not today."""
    from tm.cron import Exhausted

    if graph.schedule is None:
        return ""
    try:
        tick = graph.schedule.next(now)
    except Exhausted:
        return "no more ticks"
    day = "" if tick.date() == now.date() else f"{tick:%a %d %b} " if tick.year == now.year else f"{tick:%d %b %Y} "
    return f"next {day}{tick:%H:%M:%S} {now.tzinfo}"


def farewell(running: int | None, *, shared: bool = False) -> str:
    """What the first Ctrl-C says; `running` is None when it cannot be told."""
    if running == 0:
        return "stopping; no graph is running"
    who = "running tasks" if shared else "running graphs" if running is None else _count(running, "running graph")
    return f"waiting for {who}; Ctrl-C again stops at once"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _near(home: Path) -> str:
    """A path as the person at the terminal would write it."""
    try:
        return f"{home.relative_to(Path.cwd())}/"
    except ValueError:
        return str(home)
