"""`tm graphs`: what there is, when it runs next, how it went."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from tm.cli.face import Face, pass_face

if TYPE_CHECKING:
    from tm.cli.render import Render
    from tm.runinfo import GraphInfo


@click.command(epilog="Exit codes: 0, 5 if the server or the history cannot be reached.")
@click.option("--last", default=10, show_default=True, type=click.IntRange(0, 100), help="States of so many runs.")
@pass_face
def graphs(face: Face, last: int) -> None:
    """List graphs with schedule, next tick and the states of their last runs, newest first."""
    found = face.lookup().graphs(recent=last)
    render = face.render()
    if face.as_json:
        render.document("tm.graphs/1", [_document(graph) for graph in found])
    elif not found:
        render.line("no graphs yet; run some with `tm up FILE`")
    else:
        rows = [_row(graph, render) for graph in found]
        render.table(("GRAPH", "SCHEDULE", "NEXT TICK", ">RUNS", "LAST"), rows, states=("LAST",))


def _row(graph: GraphInfo, render: Render) -> list[str]:
    tick = f"{render.clock(graph.next_tick, zone=graph.next_tick.tzinfo)} {graph.timezone}" if graph.next_tick else ""
    states = " ".join(run.state.value for run in graph.recent)
    return [graph.name, graph.schedule or "unknown", tick, str(graph.total), states]


def _document(graph: GraphInfo) -> dict[str, Any]:
    from tm.cli.documents import instant, run_document

    return {
        "name": graph.name,
        "schedule": graph.schedule or None,
        "timezone": graph.timezone or None,
        "next_tick": instant(graph.next_tick),
        "file": graph.file or None,
        "version": graph.version or None,
        "tasks": list(graph.tasks),
        "total_runs": graph.total,
        "last_runs": [run_document(run, whole=False) for run in graph.recent],
    }
