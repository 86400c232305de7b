"""`tm schedules`: what is due next, of all graphs, in order."""

from __future__ import annotations

import heapq
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import TYPE_CHECKING, Any

import click

from tm.cli.face import Face, pass_face
from tm.cli.options import DURATION

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import tzinfo

    from tm.store.records import Pause


@click.command(
    epilog="""\b
Examples:
  tm schedules                  # the next 24 hours
  tm schedules --next 7d -n 1000
  tm schedules etl --json

Exit codes: 0, 3 no such graph, 5 unreachable.
"""
)
@click.argument("graph", required=False)
@click.option("--next", "ahead", type=DURATION, default="24h", show_default=True, metavar="DURATION", help="How far.")
@click.option("-n", "--limit", type=click.IntRange(1, 100_000), default=100, show_default=True, help="At most so many.")
@pass_face
def schedules(face: Face, graph: str | None, ahead: float, limit: int) -> None:
    """List the ticks to come, of all graphs or of GRAPH, in the order in which they are due.

    Ticks of a graph that is paused are listed with who paused it: they are not made before it is resumed.
    """
    from tm.requests import known
    from tm.waiting import reaching

    client = face.client()
    with reaching(client.where):
        graphs = client.store.graphs() if graph is None else {graph: known(client, graph)}
        pauses, now_ms = client.store.pauses(), client.store.server_ms()
    now = datetime.fromtimestamp(now_ms / 1000, UTC)
    end = now + timedelta(seconds=ahead)
    walks = [_ticks(name, info, now, end) for name, info in graphs.items()]
    found = list(islice(heapq.merge(*walks, key=lambda each: (each[0], each[1])), limit + 1))
    render = face.render()
    if face.as_json:
        render.document(
            "tm.schedules/1", [_document(*each, _pause(pauses, each[1], each[0])) for each in found[:limit]]
        )
    elif not found:
        render.line("no ticks in that time")
    else:
        rows = [
            [
                f"{render.clock(at)}",
                f"in {_span((at - now).total_seconds())}",
                name,
                _note(pauses, name, at, render.zone),
            ]
            for at, name in found[:limit]
        ]
        render.table(("TICK", "", "GRAPH", ""), rows)
        if len(found) > limit:
            render.line(f"and more; -n shows them (times in {render.zone_name})")


def _ticks(name: str, info: Mapping[str, Any], after: datetime, end: datetime) -> Iterator[tuple[datetime, str]]:
    from tm.requests import ticks_after

    for tick in ticks_after(name, info, after):
        if tick > end:
            return
        yield tick, name


def _pause(pauses: Mapping[str, Pause], graph: str, at: datetime) -> Pause | None:
    ms = round(at.timestamp() * 1000)
    found = (pauses.get(graph), pauses.get(""))
    return next((each for each in found if each is not None and each.ended_ms(ms) is None), None)


def _note(pauses: Mapping[str, Pause], graph: str, at: datetime, zone: tzinfo | None) -> str:
    from tm.requests import told

    pause = _pause(pauses, graph, at)
    return told(pause, zone) if pause else ""


def _document(at: datetime, graph: str, pause: Pause | None) -> dict[str, Any]:
    from tm.cli.documents import instant, pause_document

    return {"graph": graph, "tick": instant(at), "paused": None if pause is None else pause_document(pause)}


def _span(seconds: float) -> str:
    from tm.cli.render import duration

    return duration(seconds)
