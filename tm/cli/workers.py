"""`tm workers`: who there is, where, since when, and what they are at; and how they end."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from tm.callbacks import QUEUE as CALLBACKS
from tm.cli.face import Face, pass_face
from tm.cli.options import DURATION, who
from tm.clock import from_ms
from tm.errors import NotFoundError, RefusedError
from tm.words import rough, shorten

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tm.cli.render import Render
    from tm.client import Client
    from tm.insight import Crew
    from tm.store.looking import WorkerView

#: seconds between two looks at workers that drain
_LOOK_AGAIN = 0.2


@click.group(
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="""\b
Examples:
  tm workers                # those that live
  tm workers --all          # those too that were heard of within the last day
  tm workers -v             # with the graphs and versions they have loaded
  tm workers --json | jq '.items[] | {name, tasks}'
  tm workers drain box.4711 --wait

Exit codes: 0, 5 unreachable.
""",
)
@click.option("--all", "everybody", is_flag=True, help="Also those that ended or were lost within the last day.")
@click.option("-v", "--graphs", "more", is_flag=True, help="The graphs each has loaded, with their versions.")
@click.pass_context
def workers(ctx: click.Context, everybody: bool, more: bool) -> None:
    """List workers with host, process, age, queues, executors, what they are at, and their last heartbeat.

    One whose heartbeats are overdue is `silent`; when its lease has lapsed it is `lost`, and its tasks run elsewhere.
    """
    if ctx.invoked_subcommand is None:
        _list(ctx.ensure_object(Face), everybody=everybody, more=more)
    elif everybody or more:
        raise click.UsageError(f"say what is for `{ctx.invoked_subcommand}` after its name")


@workers.command(
    short_help="Have a worker finish what it has, and end.",
    epilog="""\b
Examples:
  tm workers drain box.4711    # one worker; the beginning of its name will do
  tm workers drain box.4711 --wait && reboot
  tm workers drain --all --drain-timeout 10m
                               # what still runs after 10 minutes is given
                               # back, for other workers

Exit codes: 0 told (with --wait: they have ended), 2 usage, 3 no such worker, 4 one was lost before it had ended,
5 unreachable, 124 --timeout has passed.
""",
)
@click.argument("worker", required=False)
@click.option("--all", "everybody", is_flag=True, help="All workers that live now.")
@click.option(
    "--drain-timeout",
    type=DURATION,
    metavar="DURATION",
    help="How long what runs may go on; by default until it has ended, whatever TM_DRAIN_TIMEOUT says.",
)
@click.option("--wait", is_flag=True, help="Wait until they have ended.")
@click.option("--timeout", type=DURATION, metavar="DURATION", help="With --wait: at most so long.")
@click.option("--dry-run", is_flag=True, help="Say which workers would end.")
@pass_face
def drain(
    face: Face,
    worker: str | None,
    everybody: bool,
    drain_timeout: float | None,
    wait: bool,
    timeout: float | None,
    dry_run: bool,
) -> None:
    """Have a worker take no more work, finish what it has, and end with exit code 0; on whichever host it is.

    It hears of it at its next heartbeat, a sixth of TM_LEASE. What starts workers may start another: `tm up` does, so
    there it is a restart. There is no way back.
    """
    told, ended = _tell(face, worker, everybody, drain_timeout, (wait, timeout, dry_run), "drain")
    if face.as_json:
        items = [{"worker": each, "dry_run": dry_run, "ended": ended.get(each, False)} for each in told]
        face.render().document("tm.workers.drain/1", items)
    _judge(ended)


@workers.command(
    short_help="Have a worker give back what it has, and end.",
    epilog="""\b
Examples:
  tm workers stop box.4711              # also one that drains for too long
  tm workers stop --all --wait --timeout 1m

Exit codes: 0 told (with --wait: they have ended), 2 usage, 3 no such worker, 4 one was lost before it had ended,
5 unreachable, 124 --timeout has passed.
""",
)
@click.argument("worker", required=False)
@click.option("--all", "everybody", is_flag=True, help="All workers that live now.")
@click.option("--wait", is_flag=True, help="Wait until they have ended.")
@click.option("--timeout", type=DURATION, metavar="DURATION", help="With --wait: at most so long.")
@click.option("--dry-run", is_flag=True, help="Say which workers would end.")
@pass_face
def stop(face: Face, worker: str | None, everybody: bool, wait: bool, timeout: float | None, dry_run: bool) -> None:
    """Have a worker end at once, as `drain --drain-timeout 0` does: what it runs is ended and given back for others.

    That costs no retry; those tasks begin anew with another worker. It hears of it at its next heartbeat, a sixth of
    TM_LEASE. One that is hung or cut off hears nothing; its tasks run elsewhere when its lease has lapsed. What starts
    workers may start another, as after a drain.
    """
    told, ended = _tell(face, worker, everybody, 0.0, (wait, timeout, dry_run), "stop")
    if face.as_json:
        items = [{"worker": each, "dry_run": dry_run, "ended": ended.get(each, False)} for each in told]
        face.render().document("tm.workers.stop/1", items)
    _judge(ended)


def _tell(
    face: Face,
    worker: str | None,
    everybody: bool,
    limit: float | None,
    how: tuple[bool, float | None, bool],
    verb: str,
) -> tuple[list[str], dict[str, bool]]:
    """Tell one or all, and wait if that is asked: who was told, and of each that has gone whether in good order."""
    from tm.waiting import reaching

    wait, timeout, dry_run = how
    if (worker is None) != everybody:
        raise click.UsageError("name one WORKER, or say --all")
    client, render = face.client(), face.render()
    with reaching(client.where):
        living = [each.name for each in client.store.scene().workers if each.alive]
        names = living if worker is None else [_named(living, worker)]
        told = names if dry_run else client.store.drain_workers(names, by=who(), limit=limit)
    if not face.as_json:
        for each in told:
            render.line(each if face.quiet else f"{f'would {verb}' if dry_run else f'told to {verb}'}: {each}")
        if not told:
            render.line("no worker lives")
    return told, _ends(face, client, told, timeout) if wait and not dry_run else {}


def _judge(ended: dict[str, bool]) -> None:
    if lost := [each for each, in_order in ended.items() if not in_order]:
        raise RefusedError(f"{', '.join(lost)} did not end in good order: not heard of any more")


def _named(living: Sequence[str], worker: str) -> str:
    """The name of a worker that lives, by its beginning."""
    from tm.suggest import hint

    found = [each for each in living if each == worker] or [each for each in living if each.startswith(worker)]
    if len(found) > 1:
        raise NotFoundError(f"more than one worker begins with {worker!r}: {', '.join(found)}")
    if not found:
        raise NotFoundError(f"no worker {worker!r} lives; {hint(worker, living, '`tm workers` lists them')}")
    return found[0]


def _ends(face: Face, client: Client, told: Sequence[str], timeout: float | None) -> dict[str, bool]:
    """Wait until these have ended: True for one that has left in good order, False for one that was lost."""
    import time

    from tm.waiting import reaching

    ended: dict[str, bool] = {}
    until = None if timeout is None else time.monotonic() + timeout
    while True:
        with reaching(client.where):
            there = {each.name: each.alive for each in client.store.scene().workers}
        for each in told:
            if each not in ended and not there.get(each, False):
                ended[each] = each not in there  # one that ends takes itself off the list
                if not face.as_json and not face.quiet and ended[each]:
                    face.render().line(f"ended: {each}")
        if len(ended) == len(told):
            return ended
        if until is not None and time.monotonic() >= until:
            left = [each for each in told if each not in ended]
            raise TimeoutError(f"still there: {', '.join(left)}; they were told and go on ending")
        time.sleep(_LOOK_AGAIN)


def _list(face: Face, *, everybody: bool, more: bool) -> None:
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
    if worker.draining:
        return "draining"
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
        "draining_by": worker.draining or None,
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
