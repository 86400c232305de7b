"""`tm trigger` and `tm wait`: start a run where the graph's code is not, and wait for runs."""

from __future__ import annotations

import re
import sys

import click

from tm.cli.face import Face, pass_face
from tm.cli.options import DURATION, params_of, when


@click.command(
    epilog="""\b
Examples:
  tm trigger etl -p day=monday --wait
  tm trigger etl --tick '2026-11-24 04:05'    # the one run of that tick
  tm trigger etl --run-id order-4711          # saying it twice starts one run
  id=$(tm -q trigger etl)                     # only the id

Exit codes: 0 started (with --wait: it succeeded), 1 it failed, 2 bad params, 3 no such graph, 4 refused: too many open
runs, or there is a run of that id, 5 unreachable, 7 cancelled, 124 --timeout has passed.
"""
)
@click.argument("graph")
@click.option("-p", "--param", "params", metavar="KEY=VALUE", multiple=True, help="A param; JSON where it parses.")
@click.option("--tick", metavar="TIME", help="The instant the run stands for, in the graph's zone unless it names one.")
@click.option("--run-id", metavar="ID", help="An id of your own: letters, digits and -.")
@click.option("--config", metavar="FILE", help="A copy of the graph's config, where its own path does not exist here.")
@click.option("--force", is_flag=True, help="Also while it has its max_active_runs.")
@click.option("--wait", is_flag=True, help="Wait until it has ended.")
@click.option("--timeout", type=DURATION, metavar="DURATION", help="With --wait: at most so long.")
@pass_face
def trigger(
    face: Face,
    graph: str,
    params: tuple[str, ...],
    tick: str | None,
    run_id: str | None,
    config: str | None,
    force: bool,
    wait: bool,
    timeout: float | None,
) -> int:
    """Start a run of GRAPH on the cluster; its file is not needed here.

    It runs in the version that the schedulers announced last, also while GRAPH is paused: a pause ends ticks, not what
    somebody asks for. Prints the run's id.
    """
    from tm.requests import known, note_of_pause, note_of_queues, queues_of, zone_of
    from tm.requests import trigger as ask

    if run_id is not None and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9-]{0,99}", run_id):
        raise click.BadParameter(f"{run_id!r}: letters, digits and '-', at most 100", param_hint="--run-id")
    client = face.client()
    at = None if tick is None else when(tick, zone_of(known(client, graph)), "--tick")
    try:
        run = ask(client, graph, params_of(params), tick=at, run=run_id, config=config, force=force)
    except TypeError as error:
        raise click.UsageError(str(error)) from error
    if not face.quiet:
        zone, queues = face.settings().timezone, queues_of(client, graph)
        for note in filter(None, (note_of_pause(client, graph, zone), note_of_queues(client, queues, zone))):
            print(f"tm: {note}", file=sys.stderr)
    if wait:
        from tm.cli.ending import see_through

        if not face.as_json and not face.quiet:
            face.render().line(f"run {run} started")
        return see_through(face, client, [run], timeout)
    if face.as_json:
        from tm.cli.documents import run_document

        face.render().document("tm.run/1", [run_document(client.run(run))])
    else:
        face.render().line(run)
    return 0


@click.command(
    epilog="""\b
Examples:
  tm wait etl@last
  tm wait etl-7k2m9qx4zt etl-8b3n1rc5wf --timeout 10m

Exit codes: 0 all succeeded, 1 one did not, 3 no such run, 5 unreachable, 7 one was cancelled, 124 --timeout has passed,
130 interrupted (the runs go on).
"""
)
@click.argument("runs", metavar="RUN...", nargs=-1, required=True)
@click.option("--timeout", type=DURATION, metavar="DURATION", help="At most so long: 90, 10s, 5m, 1h30m.")
@pass_face
def wait(face: Face, runs: tuple[str, ...], timeout: float | None) -> int:
    """Wait until each RUN has ended, and say how.

    RUN is an id, the beginning of one, GRAPH@last, GRAPH@failed or GRAPH@TICK.
    """
    from tm.cli.ending import see_through

    client = face.client()
    names = list(dict.fromkeys(client.run(run).id for run in runs))
    return see_through(face, client, names, timeout)
