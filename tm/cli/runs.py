"""`tm runs`: what ran, newest first."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from tm.cli.face import Face, pass_face
from tm.states import RunState

if TYPE_CHECKING:
    from datetime import datetime

    from tm.cli.render import Render
    from tm.runinfo import RunInfo


@click.command(
    epilog="""\b
Examples:
  tm runs                       # the last 20 of all graphs
  tm runs etl --state failed    # what went wrong
  tm runs --json | jq '.items[0].id'

\b
Exit codes: 0, 3 no such graph, 5 the server or the history cannot be reached.
"""
)
@click.argument("graph", required=False)
@click.option("--limit", "-n", default=20, show_default=True, type=click.IntRange(1, 100_000), help="At most so many.")
@click.option("--state", type=click.Choice([state.value for state in RunState]), help="Only those in this state.")
@pass_face
def runs(face: Face, graph: str | None, limit: int, state: str | None) -> None:
    """List runs, newest first: of all graphs, or of GRAPH."""
    lookup = face.lookup()
    found = lookup.runs(graph, state=RunState(state) if state else None, limit=limit)
    if not found and graph is not None:
        _refuse_unknown(graph, lookup.names())
    render = face.render()
    if face.as_json:
        from tm.cli.documents import run_document

        render.document("tm.runs/1", [run_document(run, whole=False) for run in found])
    elif not found:
        render.line(f"no runs{f' of graph {graph!r}' if graph else ''} yet" if state is None else "no such runs")
    else:
        from datetime import UTC, datetime

        now = datetime.now(UTC)
        rows = [_row(run, render, now) for run in found]
        render.table(("RUN", "STATE", "STARTED", ">TIME", "TRIGGER", "REASON"), rows, states=("STATE",))


def _refuse_unknown(graph: str, known: list[str]) -> None:
    """A graph that nobody knows is misspelt, unless nobody knows any: then nothing has run yet."""
    from tm.errors import NotFoundError
    from tm.suggest import hint

    if known and graph not in known:
        raise NotFoundError(f"there is no graph {graph!r}; {hint(graph, known, '`tm graphs` lists those there are')}")


def _row(run: RunInfo, render: Render, now: datetime) -> list[str]:
    from tm.cli.render import duration, shorten

    seconds = (now - run.started_at).total_seconds() if run.is_open and run.started_at else run.seconds
    started = render.clock(run.started_at or run.created_at, now=now)
    return [run.id, run.state.value, started, duration(seconds), run.trigger, shorten(run.reason, 60)]
