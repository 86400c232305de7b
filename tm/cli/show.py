"""`tm show`: one run, its tasks, their attempts, what went wrong."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from tm.cli.face import Face, pass_face

if TYPE_CHECKING:
    from tm.cli.render import Render
    from tm.runinfo import AttemptInfo, RunInfo, TaskInfo


@click.command(
    epilog="""\b
Examples:
  tm show etl-20261124T040500Z
  tm show etl-2026112404        # a beginning that no other run shares
  tm show etl@last              # the newest run of graph etl; etl@failed is the newest that failed

\b
Exit codes: 0 found (however it ended), 3 no such run, 5 unreachable.
"""
)
@click.argument("run")
@pass_face
def show(face: Face, run: str) -> None:
    """Show one run: its tasks with states and times, its attempts, and the errors with traceback.

    RUN is an id, the beginning of one, GRAPH@last or GRAPH@failed.
    """
    found = face.lookup().run(run)
    render = face.render()
    if face.as_json:
        from tm.cli.documents import run_document

        render.document("tm.run/1", [run_document(found)])
    else:
        head(found, render)
        render.line("")
        render.table(TASK_COLUMNS, task_rows(found, render, datetime.now(UTC)), states=("STATE",))
        errors(found, render)


TASK_COLUMNS = ("TASK", "STATE", ">ATTEMPT", "STARTED", ">TIME", "")


def task_rows(run: RunInfo, render: Render, now: datetime) -> list[list[str]]:
    """A row for each task; `now` measures what is running."""
    return [_task_row(task, render, now) for task in run.tasks]


def _task_row(task: TaskInfo, render: Render, now: datetime) -> list[str]:
    from tm.cli.render import duration

    last = task.attempts[-1] if task.attempts else None
    if last is None:
        return [task.name, task.state.value, "", "", "", task.reason]
    seconds = last.seconds
    if seconds is None and last.started_at is not None and last.outcome is None:
        seconds = max(0.0, (now - last.started_at).total_seconds())
    note = task.reason
    if task.due_at is not None and last.error is not None:
        wait = max(0.0, (task.due_at - now).total_seconds())
        note = f"again in {duration(wait)}: {last.error.type}"
    started = render.clock(task.attempts[0].started_at, now=now)
    return [task.name, task.state.value, str(last.number), started, duration(seconds), note]


def head(run: RunInfo, render: Render) -> None:
    """What a run is and how it went."""
    from tm.cli.render import aligned, duration, shorten

    when = render.clock(run.started_at or run.created_at)
    took = f", took {duration(run.seconds)}" if run.seconds is not None else ""
    rows = [
        ("run", run.id),
        ("state", run.state.value),
        ("graph", f"{run.graph} (version {run.version})"),
        ("started" if run.started_at else "created", f"{when} {render.zone_name}{took}"),
        ("trigger", f"{run.trigger}{f', tick {render.clock(run.tick)}' if run.tick else ''}"),
    ]
    if run.retry_of:
        rows.append(("repairs", run.retry_of))
    if run.reason:
        rows.append(("reason", run.reason))
    if run.params:
        from tm import codec

        rows.append(("params", shorten(codec.as_json(codec.decode(run.params)), 200)))
    if run.config:
        rows.append(("config", shorten(run.config, 200)))
    for line in aligned(rows):
        render.line(line)


def errors(run: RunInfo, render: Render) -> None:
    """Each attempt that went wrong: of earlier ones the error, of a task's last one the traceback too."""
    for task in run.tasks:
        for attempt in task.attempts:
            if attempt.error is not None:
                _error(task, attempt, render, whole=attempt is task.attempts[-1])


def _error(task: TaskInfo, attempt: AttemptInfo, render: Render, *, whole: bool) -> None:
    error = attempt.error
    if error is None:
        return
    outcome = attempt.outcome.value if attempt.outcome else "running"
    render.line("")
    render.styled(f"{task.name}, attempt {attempt.number} {outcome}: {error.type}: {error.message}", "bold red")
    for name, value in error.more:
        render.line(f"  {name}: {value}")
    if whole and error.traceback:
        render.line(*(f"  {line}" for line in error.traceback.rstrip().splitlines()))
