"""`tm plan`: what would run now, in which order and where, and what would become of a tick. Nothing is started."""

from __future__ import annotations

import sys
from contextlib import nullcontext, redirect_stdout
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from tm.cli.face import Face, pass_face
from tm.errors import ConfigError, RefusedError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import tzinfo

    from tm.cli.render import Render
    from tm.config import Settings
    from tm.forecast import Verdict
    from tm.records import Plan, TaskPlan
    from tm.store.store import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """All that is shown."""

    graph: str
    about: Mapping[str, Any]
    plan: Plan
    tick: Verdict
    next_tick: datetime | None
    open_runs: Sequence[str]
    workers: Mapping[str, int] | None  #: living ones by queue; None without a server
    paused: Mapping[str, str]  #: who paused it and why, by queue
    config: str  #: its text now
    trouble: str  #: why there is none


@click.command(
    epilog="""\b
Examples:
  tm plan etl                    # as the schedulers have announced it
  tm plan etl.py                 # as it is in the file, before it is deployed
  tm plan etl.py:report --json

Exit codes: 0, 2 the file cannot be loaded, 3 no such graph, 5 no server (for a name), 6 its config cannot be read.
"""
)
@click.argument("target", metavar="GRAPH|FILE[:GRAPH]")
@pass_face
def plan(face: Face, target: str) -> int:
    """Show what would run now: order, queues, params, config, and what would become of a tick. Nothing is started."""
    settings = face.settings()
    found = _of_file(face, settings, target) if _is_file(target) else _of_name(face, target)
    render = face.render()
    if face.as_json:
        render.document("tm.plan/1", [_document(found)])
    else:
        _show(found, render)
    return 6 if found.trouble else 0


def _is_file(target: str) -> bool:
    return target.endswith(".py") or ".py:" in target or "/" in target


def _of_file(face: Face, settings: Settings, target: str) -> Outlook:
    from tm.loader import load, split_target
    from tm.wiring import has_server, open_store

    file, name = split_target(target)
    with redirect_stdout(sys.stderr) if face.as_json else nullcontext():
        loaded = load(file)
    if name is None and len(loaded.graphs) > 1:
        raise click.UsageError(f"{file} has {len(loaded.graphs)} graphs; name one: {file}:{next(iter(loaded.graphs))}")
    graph = loaded.graph(name)
    store = open_store(settings) if has_server(settings) else None
    return _outlook(graph.name, graph.about(settings.timezone), graph.plan, store, face.lookup().where, _zone(face))


def _of_name(face: Face, name: str) -> Outlook:
    from tm.requests import known
    from tm.waiting import reaching

    client = face.client()
    about = known(client, name)
    with reaching(client.where):
        plan = client.store.plan(str(about["version"]))
    if plan is None:
        raise RefusedError(
            f"the server does not hold the present version of graph {name!r}; start a scheduler that has it"
        )
    return _outlook(name, about, plan, client.store, client.where, _zone(face))


def _zone(face: Face) -> tzinfo | None:
    """For the times in sentences; documents have UTC."""
    return None if face.as_json else face.settings().timezone


def _outlook(
    name: str, about: Mapping[str, Any], plan: Plan, store: Store | None, where: str, zone: tzinfo | None
) -> Outlook:
    from tm.forecast import of_tick
    from tm.insight import pause_of
    from tm.requests import read_config, ticks_after, told
    from tm.waiting import reaching

    open_runs: list[str] = []
    workers: dict[str, int] | None = None
    paused: dict[str, str] = {}
    pause, leader, now = None, None, datetime.now(UTC)
    if store is not None:
        with reaching(where):
            scene = store.scene()
            pause = pause_of(store.pauses(), name, scene.now_ms)
            open_runs = store.open_runs(name)
        leads = scene.leader
        leader = leads is not None and bool(leads.who) and leads.until_ms > scene.now_ms
        queues = {task.queue for task in plan.tasks}
        workers = {queue: sum(each.alive and queue in each.queues for each in scene.workers) for queue in queues}
        paused = {each.name: told(each.pause, zone) for each in scene.queues if each.pause and each.name in queues}
        now = datetime.fromtimestamp(scene.now_ms / 1000, UTC)
    config, trouble = "", ""
    try:
        config = read_config(name, about)
    except (ConfigError, RefusedError) as error:
        trouble = str(error).partition("; ")[0]
    return Outlook(
        graph=name,
        about=about,
        plan=plan,
        tick=of_tick(about, open_runs=open_runs, pause=told(pause, zone) if pause else "", leader=leader),
        next_tick=next(ticks_after(name, about, now), None),
        open_runs=open_runs,
        workers=workers,
        paused=paused,
        config=config,
        trouble=trouble,
    )


_FATES = {
    "runs": "would run",
    "skipped": "would be recorded as skipped",
    "waits": "would wait",
    "cancels": "would cancel what is open, and run",
    "none": "is not made",
}


def _show(found: Outlook, render: Render) -> None:
    from tm.cli.render import aligned, duration, shorten
    from tm.forecast import waves

    about, rows = found.about, [("graph", f"{found.graph} (version {found.plan.version})")]
    rows.append(("file", str(about.get("file", ""))))
    schedule = str(about.get("schedule") or "manual")
    rows.append(("schedule", schedule if schedule == "manual" else f"{schedule}  {about.get('timezone', '')}"))
    if found.next_tick is not None:
        left = duration((found.next_tick - datetime.now(UTC)).total_seconds())
        rows.append(("next tick", f"{render.clock(found.next_tick, zone=found.next_tick.tzinfo)}, in {left}"))
    tick = f"a tick {_FATES[found.tick.fate.value]}"
    rows.append(("now", tick + (f", because {found.tick.because}" if found.tick.because else "")))
    rows.append(("params", ", ".join(_params(about)) or "none"))
    if found.trouble:
        rows.append(("config", found.trouble))
    elif found.config:
        rows.append(("config", f"{about['config']}: {shorten(found.config, 200)}"))
    render.line(*aligned(rows), "")
    table = [
        [str(number), task.name, task.queue, _workers(found, task.queue), _limit(task), _retries(task)]
        for number, wave in enumerate(waves(found.plan), 1)
        for task in wave
    ]
    render.table((">WAVE", "TASK", "QUEUE", ">WORKERS", ">TIMEOUT", "RETRIES"), table)
    if found.workers is not None and (idle := sorted(queue for queue, count in found.workers.items() if not count)):
        render.styled(f"no living worker takes from {', '.join(idle)}", "yellow")
    for queue, said in sorted(found.paused.items()):
        render.styled(f"queue {queue} is {said}: what comes into it waits", "yellow")


def _workers(found: Outlook, queue: str) -> str:
    return "-" if found.workers is None else str(found.workers[queue])


def _limit(task: TaskPlan) -> str:
    from tm.cli.render import duration

    return duration(task.timeout) or "-"


def _retries(task: TaskPlan) -> str:
    from tm.cli.render import duration
    from tm.forecast import retry_delays

    if not task.retry.retries:
        return "-"
    delays = [duration(delay) for delay in retry_delays(task, 4)]
    more = ", ..." if task.retry.retries > len(delays) else ""
    jitter = f", up to {task.retry.jitter:.0%} more" if task.retry.jitter and task.retry.retry_delay else ""
    return f"{task.retry.retries}: after {', '.join(delays)}{more}{jitter}"


def _params(about: Mapping[str, Any]) -> list[str]:
    """What the roots take, but for the config."""
    found: dict[str, str] = {}
    for root in about.get("roots", ()):
        for each in root["params"]:
            if each["name"] != "config" or not about.get("config"):
                found[each["name"]] = " (required)" if each["required"] else f" = {each['default']}"
    return [f"{name}{said}" for name, said in found.items()]


def _document(found: Outlook) -> dict[str, Any]:
    from tm.cli.documents import instant
    from tm.forecast import retry_delays, waves

    return {
        "graph": found.graph,
        "version": found.plan.version,
        "file": found.about.get("file") or None,
        "schedule": found.about.get("schedule") or "manual",
        "timezone": found.about.get("timezone") or None,
        "next_tick": instant(found.next_tick),
        "tick_now": {"fate": found.tick.fate.value, "because": found.tick.because or None},
        "open_runs": list(found.open_runs),
        "paused_queues": sorted(found.paused),
        "params": [{"task": root["task"], **each} for root in found.about.get("roots", ()) for each in root["params"]],
        "config": {
            "path": found.about.get("config") or None,
            "text": found.config or None,
            "error": found.trouble or None,
        },
        "waves": [
            [
                {
                    "task": task.name,
                    "queue": task.queue,
                    "workers": None if found.workers is None else found.workers[task.queue],
                    "parents": [found.plan.tasks[parent].name for parent in task.parents],
                    "timeout": task.timeout,
                    "retries": task.retry.retries,
                    "retry_delays": retry_delays(task),
                }
                for task in wave
            ]
            for wave in waves(found.plan)
        ],
    }
