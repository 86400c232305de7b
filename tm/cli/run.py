"""`tm run`: start a graph now and watch it."""

from __future__ import annotations

import sys
from contextlib import nullcontext, redirect_stdout
from typing import TYPE_CHECKING

import click

from tm.cli.face import Face, pass_face
from tm.cli.options import DURATION, params_of, when
from tm.errors import RefusedError

if TYPE_CHECKING:
    from tm.graph import Graph
    from tm.loader import Loaded


@click.command(
    epilog="""\b
Examples:
  tm run etl.py             # the one graph of the file, watched to its end
  tm run etl.py:report -p day=monday -p 'limits={"rows": 10}'
  tm run etl.py --only load -p extract='{"rows": 3}'
                            # one task alone; its parents' messages are params
  tm run etl.py --detach    # print the run's id and leave it to the stack
                            # that is running

Exit codes: 0 success, 1 the run failed, 2 bad file or params, 3 no such graph, 4 refused: that tick has its run,
or --only lacks a parent; 5 no server, 7 cancelled, 124 --timeout has passed, 130 interrupted.
"""
)
@click.argument("target", metavar="FILE[:GRAPH]")
@click.option("-p", "--param", "params", metavar="KEY=VALUE", multiple=True, help="A param; JSON where it parses.")
@click.option("--tick", metavar="TIME", help="The instant the run stands for, in the graph's zone unless it names one.")
@click.option(
    "--only", metavar="TASK", multiple=True, help="TASK and nothing else; what its parents send is given by -p."
)
@click.option("--wait/--detach", default=True, show_default=True, help="Watch the run, or only start it.")
@click.option("--timeout", type=DURATION, metavar="DURATION", help="Stop watching after so long: 90, 10s, 5m.")
@click.option("--processes", type=click.IntRange(1, 1024), help="Of a stack of its own (TM_PROCESSES).")
@pass_face
def run(
    face: Face,
    target: str,
    params: tuple[str, ...],
    tick: str | None,
    only: tuple[str, ...],
    wait: bool,
    timeout: float | None,
    processes: int | None,
) -> int:
    """Run one graph of FILE now, whatever its schedule says.

    It runs on the server of TM_URL, or on the stack that is running in this directory. With neither, a stack is
    brought up for this run alone. Ctrl-C stops watching a run that a server has; a run of one's own it cancels.
    """
    from tm.cli.watch import follow
    from tm.loader import load, split_target
    from tm.requests import note_of_pause, note_of_queues
    from tm.wiring import has_server, open_client

    settings = face.settings(processes=processes)
    given = params_of(params)
    file, name = split_target(target)
    with (
        redirect_stdout(sys.stderr) if face.as_json else nullcontext()
    ):  # what the file prints is no part of the document
        loaded = load(file)
    graph = _pick(loaded, file, name)
    if only:
        from tm.parts import part_of

        graph = part_of(graph, only)
    try:
        graph.bind(given)
    except TypeError as error:
        raise click.UsageError(str(error)) from error
    at = None if tick is None else when(tick, graph.timezone or settings.timezone, "--tick")
    if has_server(settings):
        client = open_client(settings)
        queues = {each.queue for each in graph.plan.tasks}
        if not face.quiet:
            zone = settings.timezone
            for note in filter(None, (note_of_pause(client, graph.name, zone), note_of_queues(client, queues, zone))):
                print(f"tm: {note}", file=sys.stderr)
        return follow(face, client, graph, given, tick=at, wait=wait, timeout=timeout, own=False)
    if not wait:
        raise RefusedError(
            f"--detach needs somebody to leave the run to, and nothing is running in {settings.home}; "
            "start `tm up FILE`, set TM_URL, or leave out --detach"
        )
    from tm.cli.watch import output_for
    from tm.stack import Stack

    output = output_for(face)

    def front() -> int:
        return face.guard(
            lambda: follow(face, open_client(settings), graph, given, tick=at, timeout=timeout, own=True, output=output)
        )

    return Stack([*loaded.graphs.values()], settings, quiet=True, output=output).run(front)


def _pick(loaded: Loaded, file: str, name: str | None) -> Graph:
    if name is None and len(loaded.graphs) > 1:
        choices = ", ".join(f"{file}:{each}" for each in loaded.graphs)
        raise click.UsageError(f"{file} has {len(loaded.graphs)} graphs; name one: {choices}")
    return loaded.graph(name)
