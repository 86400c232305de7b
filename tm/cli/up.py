"""`tm up`: everything in one terminal."""

from __future__ import annotations

import click

from tm.cli.face import Face, pass_face


@click.command(
    epilog="""\b
Examples:
  tm up etl.py     # its graphs on their schedules, server and history in .tm/
  tm up graphs/    # all graph files of a directory
  TM_URL=redis://db:6379 tm up etl.py
                   # scheduler and worker for a server that others share

Exit codes: 0 ended as asked, 2 bad file or setting, 4 another stack runs in this directory, 130 after a second Ctrl-C.
"""
)
@click.argument("targets", metavar="FILE...", nargs=-1, required=True)
@click.option("--processes", type=click.IntRange(1, 1024), help="Tasks that run at the same time (TM_PROCESSES).")
@pass_face
def up(face: Face, targets: tuple[str, ...], processes: int | None) -> int:
    """Run graph files here: server, scheduler and worker in one terminal.

    FILE is a Python file, a directory or a module name. Graphs with a schedule run when they are due; manual ones wait
    for `tm run` or `graph.submit()`. Ctrl-C waits for running graphs, a second one stops at once.
    """
    from tm.loader import load_all
    from tm.stack import Stack

    settings = face.settings(processes=processes)
    loaded = load_all(targets)
    return Stack([*loaded.graphs.values()], settings, scheduled=loaded.scheduled, quiet=face.quiet).run()
