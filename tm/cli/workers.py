"""`tm workers`: who there is, where, since when, and what they are at."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from tm.callbacks import QUEUE as CALLBACKS
from tm.cli.face import Face, pass_face
from tm.clock import from_ms
from tm.words import rough, shorten

if TYPE_CHECKING:
    from tm.cli.render import Render
    from tm.insight import Crew
    from tm.store.looking import WorkerView


@click.command(
    epilog="""\b
Examples:
  tm workers                    # those that live
  tm workers --all              # those too that were heard of within the last day
  tm workers -v                 # with the graphs they have loaded, and the version of each
  tm workers --json | jq '.items[] | {name, tasks}'

\b
Exit codes: 0, 5 unreachable.
"""
)
@click.option("--all", "everybody", is_flag=True, help="Also those that ended or were lost within the last day.")
@click.option("-v", "--graphs", "more", is_flag=True, help="The graphs each has loaded, with their versions.")
@pass_face
def workers(face: Face, everybody: bool, more: bool) -> None:
    """List workers with host, process, age, queues, executors, what they are at, and their last heartbeat.

    One whose heartbeats are overdue is `silent`; when its lease has lapsed it is `lost`, and its tasks run elsewhere.
    """
    from tm.insight import Insight

    client, zone = face.client(), face.settings().timezone
    crew = Insight(client.lookup, zone).crew()
    scene, render = crew.known.scene, face.render()
    assert scene is not None  # noqa: S101 - for the type checker: there is a server
    found = [worker for worker in scene.workers if everybody or worker.alive]
    if face.as_json:
        render.document("tm.workers/1", [_document(worker, crew) for worker in found])
        return
    if not found:
        render.line("no worker lives; start one: `tm-worker FILE`")
        return
    columns: tuple[str, ...] = (
        "WORKER",
        "STATE",
        "HOST",
        ">PID",
        "SINCE",
        ">BUSY",
        "QUEUES",
        "HEARTBEAT",
        "AT WORK ON",
    )
    rows = [_row(worker, crew, render) for worker in found]
    if render.room(rows, columns) < 20:  # a narrow terminal: the name begins with host and process
        columns, rows = columns[:2] + columns[4:], [row[:2] + row[4:] for row in rows]
    room = max(20, render.room(rows, columns))
    render.table(columns, [[*row[:-1], shorten(row[-1], room)] for row in rows], states=("STATE",))
    if more or face.verbose:
        render.line("")
        listed = [[worker.name, graph, worker.versions.get(graph, "")] for worker in found for graph in worker.graphs]
        render.table(("WORKER", "GRAPH", "VERSION"), listed)


def _state(worker: WorkerView, crew: Crew) -> str:
    from tm.reasons.reason import is_silent

    if not worker.alive:
        return "lost"
    if is_silent(worker, crew.known.words):
        return "silent"
    scene = crew.known.scene
    return "suspended" if scene is not None and scene.suspended else "busy" if crew.at(worker.name) else "idle"


def _since(worker: WorkerView) -> datetime | None:
    try:
        return datetime.fromisoformat(worker.about["started"])
    except (KeyError, ValueError):
        return None


def _row(worker: WorkerView, crew: Crew, render: Render) -> list[str]:
    words, started, busy = crew.known.words, _since(worker), crew.at(worker.name)
    doing = ", ".join(f"{each.graph}.{each.task} {rough((words.now - each.since).total_seconds())}" for each in busy)
    return [
        worker.name,
        _state(worker, crew),
        worker.about.get("host", ""),
        worker.about.get("pid", ""),
        render.clock(started, now=words.now) if started else "",
        f"{len(busy)}/{worker.about.get('processes', '?')}",
        ",".join(queue for queue in worker.queues if queue != CALLBACKS),
        words.away(from_ms(worker.seen_ms)),
        doing,
    ]


def _document(worker: WorkerView, crew: Crew) -> dict[str, Any]:
    from tm.cli.documents import instant

    about, pid, slots = worker.about, worker.about.get("pid", ""), worker.about.get("processes", "")
    return {
        "name": worker.name,
        "state": _state(worker, crew),
        "host": about.get("host"),
        "pid": int(pid) if pid.isdecimal() else None,
        "started_at": instant(_since(worker)),
        "heartbeat_at": instant(from_ms(worker.seen_ms)),
        "executors": int(slots) if slots.isdecimal() else None,
        "queues": list(worker.queues),
        "graphs": {graph: worker.versions.get(graph) for graph in worker.graphs},
        "tasks": [
            {
                "run": each.run,
                "graph": each.graph,
                "task": each.task,
                "attempt": each.attempt,
                "since": instant(each.since),
            }
            for each in crew.at(worker.name)
        ],
    }
