"""`tm queues`: what waits in each queue, what runs, and who works on it; and pausing, resuming and purging one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from tm.callbacks import QUEUE as CALLBACKS
from tm.cli.face import Face, pass_face
from tm.cli.options import allowed, who
from tm.clock import from_ms
from tm.errors import NotFoundError, RefusedError
from tm.words import Words, count, rough

if TYPE_CHECKING:
    from tm.client import Client
    from tm.insight import Crew
    from tm.store.looking import QueueView
    from tm.store.records import QueuePause

#: runs that a dry run of a purge names; more are counted
_NAMED = 20


@click.group(
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="""\b
Examples:
  tm queues                     # is anybody there for what waits?
  tm queues --json | jq -r '.items[] | select(.live_workers == 0).name'
  tm queues pause gpu --reason "driver update" --until 2h
  tm queues purge gpu --dry-run

Exit codes: 0, 5 unreachable.
""",
)
@click.pass_context
def queues(ctx: click.Context) -> None:
    """List the queues that graphs or workers name: what waits and since when, what runs, how many workers live.

    A worker counts as alive as long as it beats. `rq suspend` stops all of them at once, and that is said too.
    """
    if ctx.invoked_subcommand is None:
        _list(ctx.ensure_object(Face))


@queues.command(
    short_help="Hand out nothing of a queue until it is resumed.",
    epilog="""\b
Examples:
  tm queues pause gpu --reason "driver update"
  tm queues pause gpu --until 18:00     # goes on by itself; also --until 2h

Exit codes: 0 paused, 3 no such queue, 5 unreachable.
""",
)
@click.argument("queue")
@click.option("--reason", default="", metavar="TEXT", help="Why; `tm why` and `tm queues` tell it.")
@click.option("--until", metavar="TIME|DURATION", help="When it ends by itself; a duration is from now.")
@pass_face
def pause(face: Face, queue: str, reason: str, until: str | None) -> None:
    """Hand out nothing of QUEUE until it is resumed; what runs goes on, what comes waits.

    It lasts through restarts and holds for all workers, at once.
    """
    from tm.cli.pausing import instant_ms
    from tm.waiting import reaching

    client = face.client()
    with reaching(client.where):
        _known(client, queue)
        until_ms = None if until is None else instant_ms(face, client, until)
        fresh = client.store.pause_queue(queue, by=who(), reason=reason, until_ms=until_ms)
        found = client.store.queue_pauses(0)[queue]
    render = face.render()
    if face.as_json:
        render.document("tm.queues.pause/1", [{"queue": queue, **_pause_document(found)}])
        return
    till = f" until {render.clock(from_ms(found.until_ms))} {render.zone_name}" if found.until_ms else ""
    again = f"queue {queue} was paused before; reason and end are as you say now{till}"
    render.line(f"paused queue {queue}{till}" if fresh else again)


@queues.command(
    short_help="Hand out the work of a queue again.",
    epilog="""\b
Examples:
  tm queues resume gpu

Exit codes: 0 resumed, 3 no such queue, 4 it is not paused, 5 unreachable.
""",
)
@click.argument("queue")
@pass_face
def resume(face: Face, queue: str) -> None:
    """Hand out the work of QUEUE again; idle workers take it within a second."""
    from tm.waiting import reaching

    client = face.client()
    with reaching(client.where):
        _known(client, queue)
        resumed = client.store.resume_queue(queue)
    if not resumed:
        raise RefusedError(f"queue {queue!r} is not paused")
    if face.as_json:
        face.render().document("tm.queues.resume/1", [{"queue": queue, "resumed": True}])
    else:
        face.render().line(f"resumed queue {queue}")


@queues.command(
    short_help="Cancel the runs of what waits in a queue.",
    epilog="""\b
Examples:
  tm queues purge gpu --dry-run               # which runs would end
  tm queues purge gpu -y --reason "wrong day"
  tm queues pause gpu && tm queues purge gpu  # and nothing is taken meanwhile

Exit codes: 0 done, 2 nobody to ask and no -y, 3 no such queue, 5 unreachable.
""",
)
@click.argument("queue")
@click.option("--reason", default="", metavar="TEXT", help="Why, for the record.")
@click.option("--dry-run", is_flag=True, help="Say what would end.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask (needed off a terminal).")
@pass_face
def purge(face: Face, queue: str, reason: str, dry_run: bool, yes: bool) -> None:
    """End what waits in QUEUE now: the runs it is of are cancelled, as whole runs, with the reason in their record.

    What runs of them, in other queues too, is stopped as `tm cancel` does; `tm retry` repairs such a run. Attempts that
    run, of runs that have nothing waiting in QUEUE, go on. Callbacks that wait are given up, and history notes that.
    """
    from tm.ids import split_job_id
    from tm.waiting import reaching

    client = face.client()
    with reaching(client.where):
        _known(client, queue)
        jobs = list(client.store.jobs_of(queue))
    attempts, runs = len(jobs), [] if queue == CALLBACKS else list(dict.fromkeys(split_job_id(job)[0] for job in jobs))
    if not dry_run and attempts:
        question = f"Cancel {count(len(runs), 'run')} with {count(attempts, 'attempt')} waiting in queue {queue}?"
        allowed(face, question, yes=yes)
        with reaching(client.where):
            done = client.store.purge_queue(
                queue, f"queue {queue} purged by {who()}" + (f": {reason}" if reason else "")
            )
        attempts, runs = done.attempts, list(done.runs)
    render = face.render()
    if face.as_json:
        item = {"queue": queue, "attempts": attempts, "runs": runs, "purged": not dry_run, "dry_run": dry_run}
        render.document("tm.queues.purge/1", [item])
        return
    if not attempts:
        render.line(f"nothing waits in queue {queue}")
        return
    what = f"{count(len(runs), 'run')}, with {count(attempts, 'attempt')} waiting in queue {queue}"
    render.line(f"would cancel {what}" if dry_run else f"cancelled {what}")
    for run in runs[:_NAMED]:
        render.line(f"  {run}")
    if len(runs) > _NAMED:
        render.line(f"  and {len(runs) - _NAMED} more")


def _known(client: Client, queue: str) -> None:
    """Refuse a queue that no graph and no worker has named."""
    from tm.suggest import hint

    names = [each.name for each in client.store.scene().queues]
    if queue not in names:
        raise NotFoundError(f"there is no queue {queue!r}; {hint(queue, names, '`tm queues` lists them')}")


def _list(face: Face) -> None:
    from tm.insight import Insight

    client, zone = face.client(), face.settings().timezone
    crew = Insight(client.lookup, zone).crew()
    scene, render = crew.known.scene, face.render()
    assert scene is not None  # noqa: S101 - for the type checker: there is a server
    if face.as_json:
        render.document("tm.queues/1", [_document(queue, crew) for queue in scene.queues])
        return
    if not scene.queues:
        render.line("no queues yet; run a graph, or start a worker")
        return
    render.table(
        ("QUEUE", ">WAITING", "OLDEST", ">RUNNING", ">WORKERS", ""),
        [_row(queue, crew) for queue in scene.queues],
    )
    if scene.suspended:
        left = f" for another {rough(scene.suspended_for_ms / 1000)}" if scene.suspended_for_ms is not None else ""
        render.styled(f"all workers are suspended{left}; `rq resume` ends that", "bold yellow")


def _row(queue: QueueView, crew: Crew) -> list[str]:
    words = crew.known.words
    oldest = words.since(from_ms(queue.oldest_ms)).removeprefix("since ") if queue.oldest_ms is not None else ""
    live = crew.live_on(queue.name)
    return [
        queue.name,
        str(queue.depth),
        oldest,
        str(crew.running_on(queue.name)),
        str(live),
        _note(queue, live, words),
    ]


def _note(queue: QueueView, live: int, words: Words) -> str:
    notes = [] if queue.pause is None else [_paused(queue.pause, words)]
    if not live and queue.attended_ms is None:
        notes.append("never had a worker")
    elif not live and queue.attended_ms is not None:
        notes.append(f"no live worker {words.since(from_ms(queue.attended_ms))}")
    return "; ".join(notes)


def _paused(pause: QueuePause, words: Words) -> str:
    until = f" until {words.clock(from_ms(pause.until_ms))}" if pause.until_ms is not None else ""
    why = f" ({pause.reason})" if pause.reason else ""
    return f"paused by {pause.by} {words.since(from_ms(pause.since_ms))}{until}{why}"


def _document(queue: QueueView, crew: Crew) -> dict[str, Any]:
    from tm.cli.documents import instant

    scene = crew.known.scene
    return {
        "name": queue.name,
        "waiting": queue.depth,
        "doorbells": queue.bells,
        "oldest_since": None if queue.oldest_ms is None else instant(from_ms(queue.oldest_ms)),
        "running": crew.running_on(queue.name),
        "live_workers": crew.live_on(queue.name),
        "heartbeat_at": None if queue.attended_ms is None else instant(from_ms(queue.attended_ms)),
        "suspended": scene.suspended if scene else False,
        "paused": None if queue.pause is None else _pause_document(queue.pause),
    }


def _pause_document(pause: QueuePause) -> dict[str, Any]:
    from tm.cli.documents import instant

    return {
        "by": pause.by,
        "reason": pause.reason or None,
        "since": instant(from_ms(pause.since_ms)),
        "until": None if pause.until_ms is None else instant(from_ms(pause.until_ms)),
    }
