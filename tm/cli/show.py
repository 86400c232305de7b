"""`tm show`: a run, its picture, its attempts, what went wrong; or a graph."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from tm.cli.face import Face, pass_face
from tm.cli.picture import KINDS, print_picture
from tm.errors import NotFoundError
from tm.states import TaskState
from tm.words import duration, printable, shorten

if TYPE_CHECKING:
    from tm.cli.render import Render
    from tm.insight import Insight
    from tm.reasons import Reason
    from tm.records import Plan
    from tm.runinfo import AttemptInfo, RunInfo, TaskInfo


@click.command(
    epilog="""\b
Examples:
  tm show etl-20261124T040500Z
  tm show etl-2026112404        # a beginning that no other run shares
  tm show etl@last              # the newest run of graph etl; etl@failed is
                                # the newest that failed
  tm show etl@last/load         # one task: what it waits for, each attempt,
                                # its messages
  tm show etl                   # the graph itself: tasks, schedule, next
                                # ticks, last runs
  tm show etl@last --messages --events
  tm show etl --graph dot | dot -Tsvg > etl.svg

Exit codes: 0 found (however it ended), 3 no such run, task, attempt or graph, 5 unreachable.
"""
)
@click.argument("what", metavar="RUN[/TASK]|GRAPH")
@click.option("--graph", "picture", type=click.Choice(KINDS), help="Only the graph, as text or for other programs.")
@click.option("--messages", is_flag=True, help="What the tasks returned, shortened; with --json whole.")
@click.option("--events", is_flag=True, help="What happened, in order.")
@click.option("--attempt", type=click.IntRange(1), metavar="N", help="Only attempt N of each task, with its traceback.")
@pass_face
def show(face: Face, what: str, picture: str | None, messages: bool, events: bool, attempt: int | None) -> None:
    """Show a run, a task of it, or a graph: the picture with states, attempts with times, errors with traceback.

    RUN is an id, the beginning of one, GRAPH@last, GRAPH@failed or GRAPH@TICK. A name that is both is taken as the
    graph's.
    """
    from tm.insight import Insight

    insight = Insight(face.lookup(), face.settings().timezone)
    name, task, run = insight.find(what)
    if run is None:
        from tm.cli.definition import show_graph

        show_graph(face, insight, name, picture)
        return
    plan = insight.plan(run.version)
    if task is not None:
        insight.task(run, plan, task)  # refuses a task there is not
        run = replace(run, tasks=tuple(each for each in insight.complete(run, plan).tasks if each.name == task))
    if attempt is not None:
        run = replace(run, tasks=tuple(_only(each, attempt) for each in run.tasks))
        if not any(each.attempts for each in run.tasks):
            raise NotFoundError(f"no task of run {run.id} has an attempt {attempt}")
    render = face.render()
    if face.as_json:
        from tm.cli.documents import run_document

        render.document("tm.run/1", [run_document(run) | _more(insight, run, plan, messages=messages, events=events)])
        return
    if picture is not None:
        if plan is None:
            raise NotFoundError(f"nobody knows any more how the tasks of run {run.id} hang together")
        print_picture(plan, _states(run, plan), render, picture)
        return
    _show_run(insight, run, plan, render, task)
    if messages:
        from tm.cli.messages import print_messages

        print_messages(insight, run, plan, render)
    if events:
        from tm.cli.events import print_past

        print_past(insight, run, render)
    notices(run, render)
    errors(run, render)


def _show_run(insight: Insight, run: RunInfo, plan: Plan | None, render: Render, task: str | None) -> None:
    head(run, render)
    if task is not None:
        render.line("", _sentence(insight.of_run(run, task, plan=plan)))
    elif plan is not None and len(plan.tasks) > 1:
        render.line("")
        print_picture(plan, _states(run, plan), render)
    if run.tasks:
        render.line("")
        attempts_table(run, render, datetime.now(UTC))
    if task is None and run.is_open:
        render.line("", _sentence(insight.of_run(run, plan=plan)))


def _sentence(reason: Reason) -> str:
    return reason.sentence[:1].upper() + reason.sentence[1:]


def _states(run: RunInfo, plan: Plan) -> dict[str, str]:
    """Of every task; one that nobody has heard of yet waits."""
    return {node.name: "waiting" for node in plan.tasks} | {task.name: task.state.value for task in run.tasks}


def _only(task: TaskInfo, attempt: int) -> TaskInfo:
    return replace(task, attempts=tuple(each for each in task.attempts if each.number == attempt))


def _more(insight: Insight, run: RunInfo, plan: Plan | None, *, messages: bool, events: bool) -> dict[str, Any]:
    """What the document has beyond that of a run."""
    more: dict[str, Any] = {}
    if plan is not None:
        more["edges"] = [[plan.tasks[each].name, node.name] for node in plan.tasks for each in node.parents]
    if messages:
        from tm.cli.messages import messages_document

        more["messages"] = messages_document(insight, run, plan)
    if events:
        from tm.cli.events import past_documents

        more["events"] = past_documents(insight, run)
    return more


def attempts_table(run: RunInfo, render: Render, now: datetime) -> None:
    """A row for each attempt, and one for each task without any."""
    columns: tuple[str, ...] = ("TASK", "STATE", ">ATTEMPT", "STARTED", ">TIME", "WORKER", "")
    rows = [row for task in run.tasks for row in _attempt_rows(task, render, now)]
    if not any(row[5] for row in rows):
        columns, rows = columns[:5] + columns[6:], [row[:5] + row[6:] for row in rows]
    room = render.room(rows, columns)
    if room < 24 and len(columns) == 7:  # a name of a worker is long, and what went wrong is worth more
        columns, rows = columns[:5] + columns[6:], [row[:5] + row[6:] for row in rows]
        room = render.room(rows, columns)
    render.table(columns, [[*row[:-1], shorten(row[-1], max(24, room))] for row in rows], states=("STATE",))


def _attempt_rows(task: TaskInfo, render: Render, now: datetime) -> list[list[str]]:
    if not task.attempts:
        return [[task.name, task.state.value, "", "", "", "", task.reason]]
    rows = []
    for each in task.attempts:
        last = each is task.attempts[-1]
        seconds = each.seconds
        if seconds is None and each.started_at is not None and each.outcome is None:
            seconds = max(0.0, (now - each.started_at).total_seconds())
        note = f"{each.error.type}: {each.error.message}" if each.error else ""
        if last and task.due_at is not None:
            note = f"again in {duration(max(0.0, (task.due_at - now).total_seconds()))}; {note}"
        if last and task.reason:
            note = task.reason
        state = (
            task.state.value
            if last and task.state is not TaskState.QUEUED
            else each.outcome.value
            if each.outcome
            else ""
        )
        started = render.clock(each.started_at, now=now)
        rows.append([task.name, state, str(each.number), started, duration(seconds), each.worker, note])
    if task.state is TaskState.QUEUED:
        rows.append([task.name, task.state.value, str(task.attempt or len(rows) + 1), "", "", "", ""])
    return rows


TASK_COLUMNS = ("TASK", "STATE", ">ATTEMPT", "STARTED", ">TIME", "")


def task_rows(run: RunInfo, render: Render, now: datetime) -> list[list[str]]:
    """A row for each task; `now` measures what is running."""
    return [_task_row(task, render, now) for task in run.tasks]


def _task_row(task: TaskInfo, render: Render, now: datetime) -> list[str]:
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
    from tm.cli.render import aligned

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


def notices(run: RunInfo, render: Render) -> None:
    """Who was told of it and how that went, and alarms."""
    if not run.notices:
        return
    rows = [
        [
            render.clock(each.at),
            each.kind,
            each.what + (f" of {each.task}" if each.task else ""),
            each.outcome,
            each.message,
        ]
        for each in run.notices
    ]
    render.line("")
    render.table(("AT", "NOTICE", "WHAT", "OUTCOME", ""), rows, states=("OUTCOME",))


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
    text = f"{task.name}, attempt {attempt.number} {outcome}: {error.type}: {error.message}"
    render.styled(printable(text), "bold red")
    for name, value in error.more:
        render.line(printable(f"  {name}: {value}"))
    if whole and error.traceback:
        render.line(*(f"  {printable(line)}" for line in error.traceback.rstrip().splitlines()))
