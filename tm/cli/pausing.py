"""`tm pause` and `tm resume`: graphs that make no runs for a while."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from tm.cli.face import Face, pass_face
from tm.cli.options import seconds_of, when, who
from tm.errors import RefusedError

if TYPE_CHECKING:
    from tm.client import Client

_ALL = ""


@click.command(
    epilog="""\b
Examples:
  tm pause etl --reason "the source moves house"
  tm pause etl --until 18:00       # goes on by itself; --until 2h does so too
  tm pause --all                   # every graph, those yet to come included

Exit codes: 0 paused, 3 no such graph, 5 unreachable.
"""
)
@click.argument("graph", required=False)
@click.option("--all", "everything", is_flag=True, help="All graphs, those yet to come included.")
@click.option("--reason", default="", metavar="TEXT", help="Why; it is in the record of every tick that is missed.")
@click.option("--until", metavar="TIME|DURATION", help="When it ends by itself; a duration is from now.")
@pass_face
def pause(face: Face, graph: str | None, everything: bool, reason: str, until: str | None) -> None:
    """Make no ticks of GRAPH until it is resumed; open runs go on.

    It lasts through restarts. What somebody asks for (`tm trigger`, `tm run`, `tm retry`) runs all the same.
    """
    from tm.waiting import reaching

    client = face.client()
    name = _named(client, graph, everything=everything)
    with reaching(client.where):
        until_ms = None if until is None else instant_ms(face, client, until)
        fresh = client.store.pause(name, by=who(), reason=reason, until_ms=until_ms)
        found = client.store.pauses()[name]
    if face.as_json:
        from tm.cli.documents import pause_document

        face.render().document("tm.pause/1", [pause_document(found)])
    else:
        from tm.clock import from_ms

        render = face.render()
        till = f" until {render.clock(from_ms(found.until_ms))} {render.zone_name}" if found.until_ms else ""
        whom = name or "all graphs"
        render.line(
            f"paused {whom}{till}" if fresh else f"{whom} paused before; reason and end are as you say now{till}"
        )


@click.command(
    epilog="""\b
Examples:
  tm resume etl                         # missed ticks are treated by the
                                        # graph's misfire rule
  tm resume etl --catch-up latest       # run the last one that was missed
  tm resume --all --catch-up skip       # all pauses, one by one ones too;
                                        # missed ticks are recorded as skipped

Exit codes: 0 resumed, 3 no such graph, 4 it is not paused, 5 unreachable.
"""
)
@click.argument("graph", required=False)
@click.option("--all", "everything", is_flag=True, help="All pauses, those of single graphs included.")
@click.option(
    "--catch-up", type=click.Choice(["skip", "latest", "all"]), help="Missed ticks; by default as the graph says."
)
@pass_face
def resume(face: Face, graph: str | None, everything: bool, catch_up: str | None) -> None:
    """Make ticks of GRAPH again, and deal with those that were missed.

    Each that does not run is recorded as skipped, with who paused it and why. At most the latest 100 run.
    """
    from tm.waiting import reaching

    client = face.client()
    name = _named(client, graph, everything=everything)
    with reaching(client.where):
        ended = client.store.resume(name, by=who(), catch_up=catch_up or "")
    if ended < 0:
        raise RefusedError(f"all graphs are paused, and {graph!r} with them; `tm resume --all`")
    if not ended:
        raise RefusedError(f"graph {graph!r} is not paused" if graph else "no graph is paused")
    if face.as_json:
        item = {"graph": graph, "resumed": ended, "catch_up": catch_up}
        face.render().document("tm.resume/1", [item])
    else:
        face.render().line(f"resumed {name}" if name else f"resumed: {ended} pause{'s' if ended > 1 else ''} ended")


def _named(client: Client, graph: str | None, *, everything: bool) -> str:
    from tm.requests import known

    if (graph is None) != everything:
        raise click.UsageError("name one GRAPH, or say --all")
    if graph is not None:
        known(client, graph)
    return graph or _ALL


def instant_ms(face: Face, client: Client, until: str) -> int:
    """What --until says, by the server's clock in ms: a time, or a duration from now."""
    from tm.clock import to_ms

    now = client.store.server_ms()
    seconds = seconds_of(until)
    found = to_ms(when(until, face.settings().timezone, "--until", last=True)) if seconds is None else None
    at = now + round((seconds or 0) * 1000) if found is None else found
    if at <= now:
        raise click.BadParameter("that time has passed", param_hint="--until")
    return at
