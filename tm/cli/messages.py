"""The messages of a run: what its tasks returned, as JSON, shortened and with nothing a terminal would obey."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tm.spill import read_reference
from tm.states import TaskState
from tm.words import shorten

if TYPE_CHECKING:
    from tm.cli.render import Render
    from tm.insight import Insight
    from tm.records import Plan
    from tm.runinfo import RunInfo

#: bytes of a message that are decoded to be shown on one line
MOST_SHOWN = 1 << 20


def print_messages(insight: Insight, run: RunInfo, plan: Plan | None, render: Render) -> None:
    """A line for each task: its message, or why there is none."""
    rows = []
    done = {task.name for task in run.tasks if task.state in {TaskState.SUCCESS, TaskState.SKIPPED}}
    for task, message in insight.messages(run, plan).items():
        if message is None:
            rows.append([task, "", "no longer on the server" if task in done else "none"])
        else:
            reference = read_reference(message)
            size = len(message) if reference is None else reference.size
            text = _in_short(message) if reference is None else "in the spill store; --json has it whole"
            rows.append([task, f"{size:,} B", text])
    if not rows:
        render.line("", "messages: the server no longer has those of this run")
        return
    columns = ("MESSAGE OF", ">SIZE", "")
    room = max(24, render.room(rows, columns))
    render.line("")
    render.table(columns, [[task, size, shorten(text, room)] for task, size, text in rows])


def messages_document(insight: Insight, run: RunInfo, plan: Plan | None) -> dict[str, Any]:
    """By task; null for one that the server does not have."""
    from tm.cli.documents import value

    return {task: None if message is None else value(message) for task, message in insight.messages(run, plan).items()}


def _in_short(message: bytes) -> str:
    from tm import codec
    from tm.errors import CodecError

    if len(message) > MOST_SHOWN:
        return "too large to be shown here; --json has it whole"
    try:
        return codec.as_json(codec.decode(message))
    except CodecError as error:
        return f"unreadable: {error}"
