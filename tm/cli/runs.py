"""`tm runs`: what ran, newest first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from tm.cli.face import Face, pass_face
from tm.states import RunState, Trigger

if TYPE_CHECKING:
    from datetime import datetime, tzinfo

    from click.shell_completion import CompletionItem

    from tm.cli.render import Render
    from tm.runinfo import RunInfo


class States(click.ParamType):  # type: ignore[type-arg]  # generic in newer versions only
    """States of runs, with commas between them."""

    name = "state"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[RunState, ...]:
        """failed,timed_out..."""
        if not isinstance(value, str):
            return tuple(value)
        known = [state.value for state in RunState]
        for each in value.split(","):
            if each not in known:
                self.fail(f"{each!r} is none of {', '.join(known)}", param, ctx)
        return tuple(dict.fromkeys(RunState(each) for each in value.split(",")))

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:  # noqa: ARG002 - click's signature
        """The states; after a comma the next one."""
        from click.shell_completion import CompletionItem

        before, comma, begun = incomplete.rpartition(",")
        return [CompletionItem(f"{before}{comma}{state.value}") for state in RunState if state.value.startswith(begun)]


@click.command(
    epilog="""\b
Examples:
  tm runs                       # the last 20 of all graphs
  tm runs etl --state failed    # what went wrong
  tm runs --state failed,timed_out --since 2d
                                # also --since '2026-11-24 04:05', --until now
  tm runs etl --trigger manual
  tm runs --json | jq '.items[0].id'

Exit codes: 0, 3 no such graph, 5 the server or the history cannot be reached.
"""
)
@click.argument("graph", required=False)
@click.option("--limit", "-n", default=20, show_default=True, type=click.IntRange(1, 100_000), help="At most so many.")
@click.option("--state", "states", type=States(), help="Only those in this state; several with commas.")
@click.option("--since", metavar="TIME|DURATION", help="Created then or later; a duration is so long ago.")
@click.option("--until", metavar="TIME|DURATION", help="Created before.")
@click.option("--trigger", type=click.Choice([each.value for each in Trigger]), help="Only those started so.")
@pass_face
def runs(
    face: Face,
    graph: str | None,
    limit: int,
    states: tuple[RunState, ...],
    since: str | None,
    until: str | None,
    trigger: str | None,
) -> None:
    """List runs, newest first: of all graphs, or of GRAPH."""
    lookup = face.lookup()
    zone = face.settings().timezone
    bounds = {"since": _then(since, zone, "--since"), "until": _then(until, zone, "--until")}
    # a query for each state: one for several would have to sort what an index has in order
    listed = [
        run
        for state in states or (None,)
        for run in lookup.runs(graph, state=state, limit=limit, trigger=trigger, **bounds)
    ]
    found = sorted(listed, key=lambda run: (run.created_at, run.id), reverse=True)[:limit]
    asked = bool(states or since or until or trigger)
    if not found and graph is not None:
        _refuse_unknown(graph, lookup.names())
    render = face.render()
    if face.as_json:
        from tm.cli.documents import run_document

        render.document("tm.runs/1", [run_document(run, whole=False) for run in found])
    elif not found:
        render.line(
            f"no runs{f' of graph {graph!r}' if graph else ''} yet{face.place}" if not asked else "no such runs"
        )
    else:
        from datetime import UTC, datetime

        now = datetime.now(UTC)
        rows = [_row(run, render, now) for run in found]
        render.table(("RUN", "STATE", "STARTED", ">TIME", "TRIGGER", "REASON"), rows, states=("STATE",))


def _then(text: str | None, zone: tzinfo, option: str) -> datetime | None:
    """An instant, or one that is so long ago."""
    from datetime import UTC, datetime, timedelta

    from tm.cli.options import seconds_of, when

    if text is None:
        return None
    seconds = seconds_of(text)
    return when(text, zone, option) if seconds is None else datetime.now(UTC) - timedelta(seconds=seconds)


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
