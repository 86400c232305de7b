"""`tm backfill`: run past ticks of a graph."""

from __future__ import annotations

import sys
from collections import Counter
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from tm.cli.face import Face, pass_face
from tm.cli.options import allowed, params_of, when, who
from tm.states import RunState

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tm.backfill import Step, Tick
    from tm.client import Client


@click.command(
    epilog="""\b
Examples:
  tm backfill etl --from 2026-11-01 --to 2026-11-07
                                 # the ticks of that week that never ran
  tm backfill etl --from 2026-11-01 --to now --failed -y
                                 # repair those whose last run did not succeed
  tm backfill etl --from 2026-11-01 --to 2026-11-07 -p source=archive
                                 # every run gets the param
  tm backfill etl.py:etl --from 2026-11-01 --to now --dry-run
                                 # by the code of a file

Exit codes: 0 all succeeded, or nothing was to do; 1 none succeeded, 2 usage, 3 no such graph, 4 refused: paused,
manual, or too many ticks, 5 unreachable, 8 some succeeded and some did not, 130 interrupted (what was started goes on).
"""
)
@click.argument("graph", metavar="GRAPH|FILE:GRAPH")
@click.option("--from", "start", required=True, metavar="TIME", help="First instant of the range.")
@click.option("--to", "end", required=True, metavar="TIME", help="Last instant; a date alone means all of that day.")
@click.option("--missing", "mode", flag_value="missing", default="missing", help="Ticks that never ran (the default).")
@click.option("--failed", "mode", flag_value="failed", help="Ticks whose last run did not succeed; what did is kept.")
@click.option("--all", "mode", flag_value="all", help="All ticks, from the beginning.")
@click.option("-p", "--param", "params", metavar="KEY=VALUE", multiple=True, help="A param of every run; JSON or text.")
@click.option("--reverse", is_flag=True, help="The latest tick first.")
@click.option("--max-active", type=click.IntRange(1), default=4, show_default=True, help="Open at the same time.")
@click.option("--force", is_flag=True, help="Also while the graph is paused, and beyond its max_active_runs.")
@click.option("--dry-run", is_flag=True, help="Say what would run.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask (needed off a terminal).")
@pass_face
def backfill(
    face: Face,
    graph: str,
    start: str,
    end: str,
    mode: str,
    params: tuple[str, ...],
    reverse: bool,
    max_active: int,
    force: bool,
    dry_run: bool,
    yes: bool,
) -> int:
    """Run the ticks of GRAPH in a range of time that never ran, and wait for them.

    Times are in the graph's zone unless they name one. The run of a tick has the id of that tick, so the same command
    again does nothing, and goes on where it was interrupted. What has not been due yet is left to the scheduler.
    """
    from tm.backfill import Action, Mode, plan_backfill, run_backfill
    from tm.requests import zone_of

    client, given = face.client(), params_of(params)
    name, info = _graph(face, client, graph)
    zone = zone_of(info)
    first, last = when(start, zone, "--from"), when(end, zone, "--to", last=True)
    if last < first:
        raise click.BadParameter(f"{end} is before {start}", param_hint="--to")
    last = min(last, datetime.now(UTC))
    ticks = plan_backfill(client, name, info, first, last, Mode(mode))
    ticks = ticks[::-1] if reverse else ticks
    todo = [each for each in ticks if each.action is not Action.NOTHING]
    if dry_run or not todo:
        _say_plan(face, ticks, todo, zone, dry_run=dry_run)
        return 0
    allowed(face, f"Start {len(todo)} run{'s' if len(todo) > 1 else ''} of {name}?", yes=yes)
    ends: dict[str, RunState] = {}
    runs: dict[str, str] = {}
    interrupted = False
    progress = _Progress(face, len(todo), zone)
    try:
        for step in run_backfill(client, name, info, todo, most=max_active, by=who(), force=force, params=given):
            runs[step.tick.run] = step.run
            if step.state is not RunState.QUEUED:
                ends[step.tick.run] = step.state
            progress.note(step)
    except KeyboardInterrupt:
        interrupted = True
    except TypeError as error:
        raise click.UsageError(str(error)) from error
    finally:
        progress.end()
    _say_summary(face, ticks, runs, ends)
    if interrupted:
        print("tm: stopped; what was started goes on, the same command starts the rest", file=sys.stderr)
        return 130
    good = sum(state is RunState.SUCCESS for state in ends.values())
    return 0 if good == len(ends) else 8 if good else 1


def _graph(face: Face, client: Client, target: str) -> tuple[str, dict[str, Any]]:
    """The name of a graph and what is known of it: by the server, or by a file."""
    from tm.requests import known

    if not (target.endswith(".py") or ":" in target or "/" in target):
        return target, known(client, target)
    from tm.loader import load, split_target
    from tm.waiting import reaching

    file, name = split_target(target)
    loaded = load(file)
    if name is None and len(loaded.graphs) > 1:
        raise click.UsageError(f"{file} has {len(loaded.graphs)} graphs; name one: {file}:{next(iter(loaded.graphs))}")
    graph = loaded.graph(name)
    with reaching(client.where):
        client.store.define(graph.plan)
    return graph.name, {"version": graph.plan.version, **graph.about(face.settings().timezone)}


class _Progress:
    """A line for each run that ended; on a terminal one line that counts."""

    def __init__(self, face: Face, total: int, zone: Any) -> None:
        self._face, self._total, self._zone = face, total, zone
        self._started = self._ended = 0
        self._counts: Counter[str] = Counter()
        self._live = face.is_terminal and not face.quiet
        self._silent = face.quiet or face.as_json

    def note(self, step: Step) -> None:
        """Show what has happened."""
        if step.state is RunState.QUEUED:
            self._started += 1
        else:
            self._ended += 1
            self._counts[step.state.value] += 1
        if self._live:
            counts = ", ".join(f"{count} {state}" for state, count in sorted(self._counts.items()))
            running = self._started - self._ended
            line = f"{self._ended}/{self._total} ended, {running} running{f': {counts}' if counts else ''}"
            print(f"\r\x1b[K{line}", end="", file=sys.stderr, flush=True)
        elif not self._silent and step.state is not RunState.QUEUED:
            at = step.tick.at.astimezone(self._zone)
            self._face.render().line(f"{at:%Y-%m-%d %H:%M:%S}  {step.run}  {step.state.value}")

    def end(self) -> None:
        """Leave the line."""
        if self._live:
            print(file=sys.stderr)


def _say_plan(face: Face, ticks: Sequence[Tick], todo: Sequence[Tick], zone: Any, *, dry_run: bool) -> None:
    render = face.render()
    if face.as_json:
        render.document("tm.backfill/1", [_document(tick, None, None) for tick in ticks])
        return
    if dry_run and todo:
        rows = [[f"{each.at.astimezone(zone):%Y-%m-%d %H:%M:%S}", each.action.value, each.run] for each in todo]
        render.table(("TICK", "WHAT", "RUN"), rows)
    there = f"{len(ticks)} tick{'s' if len(ticks) != 1 else ''} in that range"
    render.line(f"{there}: {f'{len(todo)} would run' if todo else 'nothing to do'}")


def _say_summary(face: Face, ticks: Sequence[Tick], runs: dict[str, str], ends: dict[str, RunState]) -> None:
    render = face.render()
    if face.as_json:
        render.document("tm.backfill/1", [_document(tick, runs.get(tick.run), ends.get(tick.run)) for tick in ticks])
    elif not face.quiet:
        counts = Counter(state.value for state in ends.values())
        how = [f"{count} {state}" for state, count in sorted(counts.items())]
        if waiting := len(runs) - len(ends):
            how.append(f"{waiting} still open")
        started = f"{len(runs)} started" + (f" ({', '.join(how)})" if how else "")
        render.line(
            f"{len(ticks)} tick{'s' if len(ticks) != 1 else ''}: {started}, {len(ticks) - len(runs)} left as they are"
        )


def _document(tick: Tick, run: str | None, state: RunState | None) -> dict[str, Any]:
    from tm.cli.documents import instant

    last = tick.state.value if tick.state else None
    return {
        "tick": instant(tick.at),
        "action": tick.action.value,
        "run": run or tick.run,
        "started": run is not None,
        "state": state.value if state else None,
        "before": {"run": tick.last, "state": last} if tick.last else None,
    }
