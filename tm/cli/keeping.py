"""`tm prune`, `tm backup`, `tm restore`: history in bounds, and safe."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tm.cli.face import Face, pass_face
from tm.cli.options import DURATION, allowed
from tm.errors import RefusedError, UnavailableError
from tm.states import FINAL_RUN_STATES, RunState

if TYPE_CHECKING:
    from tm.config import Settings
    from tm.history.keeping import Keeper


@click.command(
    epilog="""\b
Examples:
  tm prune --older-than 30d --dry-run      # what would go
  tm prune --older-than 30d -y             # as from a cron of your own
  tm prune --keep 1000 --state success -y  # of each graph the last 1000 runs,
                                           # and whatever did not succeed
  tm prune --older-than 90d --compact -y   # and give the disk its room back

Exit codes: 0 done, or nothing was to do; 2 usage, 3 there is no history yet, 5 it cannot be reached or is locked.
"""
)
@click.option("--older-than", type=DURATION, metavar="DURATION", help="Runs created longer ago: 30d, 12w.")
@click.option("--keep", type=click.IntRange(1), metavar="N", help="Runs beyond the newest N of their graph.")
@click.option("--graph", metavar="GRAPH", help="Of this graph alone.")
@click.option(
    "--state",
    "states",
    multiple=True,
    type=click.Choice(sorted(state.value for state in FINAL_RUN_STATES)),
    help="Only those that ended so; may be repeated.",
)
@click.option("--compact", is_flag=True, help="Give the room back to the disk (SQLite; needs as much again meanwhile).")
@click.option("--dry-run", is_flag=True, help="Say what would go.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask (needed off a terminal).")
@pass_face
def prune(
    face: Face,
    older_than: float | None,
    keep: int | None,
    graph: str | None,
    states: tuple[str, ...],
    compact: bool,
    dry_run: bool,
    yes: bool,
) -> None:
    """Drop old runs from history, with their tasks, attempts and marks. Open runs stay, and the newest of each graph.

    With --older-than and --keep both must hold. A backfill takes ticks whose run was dropped for ticks that never ran.
    The file does not shrink by itself: the room is used again.
    """
    if older_than is None and keep is None:
        raise click.UsageError("say what is too old: --older-than 30d, or --keep N, or both")
    keeper = _keeper(face.settings())
    before = None if older_than is None else datetime.now(UTC) - timedelta(seconds=older_than)
    found = keeper.prunable(before=before, keep=keep or 1, states=[RunState(state) for state in states], graph=graph)
    counts = Counter(graph for _, graph in found)
    render, dropped = face.render(), 0
    if found and not dry_run:
        allowed(face, f"Drop {_runs(len(found))} of {', '.join(sorted(counts)[:5])} from history?", yes=yes)
        dropped = sum(keeper.drop([run for run, _ in found]))
    if compact and not dry_run:
        keeper.compact()
    keeper.close()
    if face.as_json:
        items = [{"graph": name, "runs": count, "dropped": not dry_run} for name, count in sorted(counts.items())]
        render.document("tm.prune/1", items)
        return
    if dry_run and found:
        render.table(("GRAPH", ">RUNS"), [[name, f"{count:,}"] for name, count in sorted(counts.items())])
    if not face.quiet:
        render.line(f"{_runs(len(found))} would be dropped" if dry_run else f"{_runs(dropped)} dropped")


@click.command(
    epilog="""\b
Examples:
  tm backup history-$(date +%F).db              # also while everything runs
  tm backup /mnt/backup/history.db -y           # in the place of the last one

Exit codes: 0 done, 2 usage, 3 there is no history yet, 4 it is no file, or FILE exists; 5 it cannot be read or written.
"""
)
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("-y", "--yes", is_flag=True, help="In the place of a FILE that is there.")
@pass_face
def backup(face: Face, file: Path, yes: bool) -> None:
    """Copy the history to FILE, as it is at one moment, also while it is written to.

    The copy is checked, and whole or not there at all. It holds params, configs and errors as the history does, and is
    readable for its owner alone. Open runs are on the server, not in it.
    """
    if file.exists() and not yes:
        raise RefusedError(f"{file} exists; name another file, or say -y to replace it")
    keeper = _keeper(face.settings())
    size = keeper.back_up(file.absolute())
    keeper.close()
    if face.as_json:
        face.render().document("tm.backup/1", [{"file": str(file), "bytes": size, "history": keeper.name}])
    elif not face.quiet:
        face.render().line(f"{keeper.name} copied to {file} ({size:,} bytes)")


@click.command(
    epilog="""\b
Examples:
  tm restore history-2026-11-24.db --dry-run    # whether it could be
  tm restore history-2026-11-24.db              # with nothing running here
  tm restore history-2026-11-24.db -y

Exit codes: 0 done, 2 usage, 3 there is no such FILE, 4 refused: something runs here, or FILE is no backup; 5 it cannot
be read or written.
"""
)
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--dry-run", is_flag=True, help="Say what would be put where; refused as the restore itself would be.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask (needed off a terminal).")
@pass_face
def restore(face: Face, file: Path, dry_run: bool, yes: bool) -> None:
    """Put a backup in the place of the history, while nothing runs. The former history is kept beside it.

    What has happened since the backup is then no longer known; ticks are not made again, for the server knows of them.
    """
    from tm.history.keeping import examine, put_back

    settings = face.settings()
    path = _path(settings)
    count = examine(file)
    _refuse_while_used(settings)
    there = " in the place of the present one" if path.exists() else ""
    former = None
    if not dry_run:
        allowed(face, f"Put {file} ({_runs(count)}){there} at {path}?", yes=yes)
        former = put_back(file, path, aside=f"before-{datetime.now(UTC):%Y%m%dT%H%M%SZ}")
    if face.as_json:
        item = {"file": str(file), "history": str(path), "runs": count, "former": str(former) if former else None}
        face.render().document("tm.restore/1", [item | {"dry_run": dry_run}])
    elif dry_run:
        face.render().line(f"{_runs(count)} would be restored to {path}{there}")
    elif not face.quiet:
        kept = f"; the former one is {former}" if former else ""
        face.render().line(f"{_runs(count)} restored to {path}{kept}")


def _runs(number: int) -> str:
    return f"{number:,} run{'s' if number != 1 else ''}"


def _keeper(settings: Settings) -> Keeper:
    from tm.history.keeping import Keeper

    keeper = Keeper(settings.history_url)
    keeper.prepare(create=False)
    return keeper


def _path(settings: Settings) -> Path:
    if not settings.history_url.startswith("sqlite:///"):
        from tm.redact import redact

        raise RefusedError(
            f"history {redact(settings.history_url)} is no file; restore it with the database's own tools (pg_restore)"
        )
    return Path(settings.history_url.removeprefix("sqlite:///")).absolute()


def _refuse_while_used(settings: Settings) -> None:
    """Whoever leads writes to the history, and would go on with the one that was put aside."""
    from tm.embedded import alive
    from tm.waiting import reaching
    from tm.wiring import has_server, open_store

    if owner := alive(settings.home):
        raise RefusedError(
            f"a stack runs in {settings.home} (process {owner.pid}: {owner.command}); stop it first, then restore"
        )
    if has_server(settings):
        try:
            with reaching("the server"):
                scene = open_store(settings).scene()
        except UnavailableError:
            return
        if scene.leader is not None and scene.leader.who and scene.leader.until_ms > scene.now_ms:
            raise RefusedError(
                f"scheduler {scene.leader.who} leads and writes to the history; stop all schedulers first, then restore"
            )
