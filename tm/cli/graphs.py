"""`tm graphs`: what there is, when it runs next, how it went."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from tm.cli.face import Face, pass_face
from tm.clock import from_ms
from tm.states import RunState
from tm.words import shorten

if TYPE_CHECKING:
    from tm.cli.render import Render
    from tm.lookup import Lookup
    from tm.runinfo import GraphInfo
    from tm.store.records import Pause


@click.command(
    epilog="""\b
Examples:
  tm graphs                     # all of them
  tm graphs 'etl*' --failing    # whose newest run did not succeed
  tm graphs --paused
  tm show etl                   # all about one

Exit codes: 0, 5 if the server or the history cannot be reached.
"""
)
@click.argument("pattern", required=False)
@click.option("--paused", is_flag=True, help="Only those that are paused.")
@click.option("--failing", is_flag=True, help="Only those whose newest run that has ended did not succeed.")
@click.option("--last", default=10, show_default=True, type=click.IntRange(0, 100), help="States of so many runs.")
@pass_face
def graphs(face: Face, pattern: str | None, paused: bool, failing: bool, last: int) -> None:
    """List graphs with schedule, next tick and the states of their last runs, newest first.

    PATTERN is a name in which * and ? stand for anything. Of a graph that is paused it says by whom and why.
    """
    from fnmatch import fnmatchcase

    lookup, render = face.lookup(), face.render()
    found = lookup.graphs(recent=max(last, 1 if failing else 0))
    pauses = _pauses(lookup)
    shown = [
        graph
        for graph in found
        if (pattern is None or fnmatchcase(graph.name, pattern))
        and (not paused or _of(pauses, graph))
        and (not failing or _is_failing(graph))
    ]
    if face.as_json:
        render.document("tm.graphs/1", [_document(graph, _of(pauses, graph), last) for graph in shown])
    elif not found:
        render.line(f"no graphs yet{face.place}; run some with `tm up FILE`")
    elif not shown:
        render.line("no such graphs")
    else:
        rows = [_row(graph, _of(pauses, graph), render, last) for graph in shown]
        render.table(("GRAPH", "SCHEDULE", "NEXT TICK", ">RUNS", "LAST"), rows, states=("LAST",))


def _pauses(lookup: Lookup) -> dict[str, Pause]:
    """Those in force."""
    from tm.waiting import reaching

    if lookup.store is None:
        return {}
    with reaching(lookup.where):
        pauses, now = lookup.store.pauses(), lookup.store.server_ms()
    return {graph: pause for graph, pause in pauses.items() if pause.ended_ms(now) is None}


def _of(pauses: dict[str, Pause], graph: GraphInfo) -> Pause | None:
    return pauses.get(graph.name) or pauses.get("")


def _is_failing(graph: GraphInfo) -> bool:
    ended = [run for run in graph.recent if not run.is_open and run.state is not RunState.SKIPPED]
    return bool(ended) and ended[0].state is not RunState.SUCCESS


def _row(graph: GraphInfo, pause: Pause | None, render: Render, last: int) -> list[str]:
    tick = f"{render.clock(graph.next_tick, zone=graph.next_tick.tzinfo)} {graph.timezone}" if graph.next_tick else ""
    if pause is not None:
        until = f" until {render.clock(from_ms(pause.until_ms))}" if pause.until_ms is not None else ""
        tick = f"paused by {pause.by}{until}{f' ({shorten(pause.reason, 40)})' if pause.reason else ''}"
    states = " ".join(run.state.value for run in graph.recent[:last])
    return [graph.name, graph.schedule or "unknown", tick, str(graph.total), states]


def _document(graph: GraphInfo, pause: Pause | None, last: int) -> dict[str, Any]:
    from tm.cli.documents import instant, pause_document, run_document

    return {
        "name": graph.name,
        "schedule": graph.schedule or None,
        "timezone": graph.timezone or None,
        "next_tick": instant(graph.next_tick),
        "paused": None if pause is None else pause_document(pause),
        "file": graph.file or None,
        "version": graph.version or None,
        "tasks": list(graph.tasks),
        "total_runs": graph.total,
        "last_runs": [run_document(run, whole=False) for run in graph.recent[:last]],
    }
