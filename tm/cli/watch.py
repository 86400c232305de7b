"""Following one run: a live table on a terminal, a line for each change on a pipe, one document with `--json`."""

from __future__ import annotations

import sys
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from tm.cli import show
from tm.cli.render import STYLES, Render, duration, shorten
from tm.states import RunState, TaskState
from tm.tap import Tap, ToStderr

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console, Group

    from tm.cli.face import Face
    from tm.client import Client
    from tm.graph import Graph
    from tm.runinfo import RunInfo

    Output = Tap | ToStderr

#: seconds between two looks at a run; a look costs two commands
LOOK_EVERY = 0.05
#: seconds a run may wait for a worker before it is said that there is none
LONELY_AFTER = 3.0

EXIT_CODES = {RunState.SUCCESS: 0, RunState.CANCELLED: 7}


def output_for(face: Face) -> Output | None:
    """Where a stack of one's own prints to, so that it does not disturb what `follow` prints."""
    return ToStderr() if face.as_json else Tap() if face.is_terminal else None


def follow(
    face: Face,
    client: Client,
    graph: Graph,
    params: dict[str, Any],
    *,
    tick: datetime | None = None,
    wait: bool = True,
    timeout: float | None = None,
    own: bool,
    output: Output | None = None,
) -> int:
    """Start a run and follow it to its end; returns the exit code.

    Args:
        face: the options of the command.
        client: of the server.
        graph: to run.
        params: of the run.
        tick: the instant it stands for.
        wait: False returns as soon as the run is started.
        timeout: seconds until TimeoutError.
        own: the run is ours alone: when we stop watching it is cancelled.
        output: what the run prints, when it comes through us.
    """
    render = face.render()
    handle = client.submit(graph, params, tick=tick)
    if not wait:
        _say_started(face, client, render, handle.id)
        return 0
    watched = _until(_noticed(client, handle.id, graph, face), handle.id, timeout)
    try:
        if face.as_json:
            last = _silently(watched)
        elif face.is_terminal:
            last = Live(render, output if isinstance(output, Tap) else None).show(watched)
        else:
            last = _in_lines(watched, render)
    except (KeyboardInterrupt, TimeoutError) as error:
        _let_go(client, handle.id, own=own)
        if isinstance(error, TimeoutError):
            raise
        return 130
    _conclude(face, client, render, last)
    return EXIT_CODES.get(last.state, 1)


def _say_started(face: Face, client: Client, render: Render, run: str) -> None:
    if face.as_json:
        from tm.cli.documents import run_document

        render.document("tm.run/1", [run_document(client.lookup.current(run))])
    else:
        render.line(run)


def _let_go(client: Client, run: str, *, own: bool) -> None:
    if own:
        client.cancel(run, reason="interrupted")
        print(f"tm: cancelled run {run}", file=sys.stderr)
    else:
        print(f"tm: run {run} goes on; `tm show {run}` tells how", file=sys.stderr)


def _until(looks: Iterator[RunInfo], run: str, timeout: float | None) -> Iterator[RunInfo]:
    end = None if timeout is None else time.monotonic() + timeout
    for info in looks:
        yield info
        if info.is_open and end is not None and time.monotonic() >= end:
            raise TimeoutError(f"run {run} is still open after {timeout:g} s")


def _noticed(client: Client, run: str, graph: Graph, face: Face) -> Iterator[RunInfo]:
    """The looks at a run; says once when nobody is there to run it."""
    began, told = time.monotonic(), face.quiet
    for info in client.watch(run, every=LOOK_EVERY):
        if not told and info.state is RunState.QUEUED and time.monotonic() - began > LONELY_AFTER:
            told = True
            if not client.lookup.workers(graph.name):
                print(
                    f"tm: no living worker has loaded graph {graph.name!r}; start one: tm-worker {graph.file.name}",
                    file=sys.stderr,
                )
        yield info


def _silently(looks: Iterator[RunInfo]) -> RunInfo:
    last = None
    for last in looks:  # noqa: B007 - only the last one counts
        pass
    assert last is not None  # noqa: S101 - the end of a run is always seen
    return last


def _in_lines(looks: Iterator[RunInfo], render: Render) -> RunInfo:
    """A line for each change of a task, for pipes and logs."""
    seen: dict[str, tuple[TaskState, int]] = {}
    last: RunInfo | None = None
    for info in looks:
        if last is None:
            render.line(f"{_now(render)}  run {info.id} started")
        width = max(len(task.name) for task in info.tasks)
        for task in info.tasks:
            attempt = task.attempts[-1] if task.attempts else None
            now = (task.state, attempt.number if attempt else 0)
            if seen.get(task.name) != now and task.state not in {TaskState.WAITING, TaskState.QUEUED}:
                seen[task.name] = now
                took = duration(attempt.seconds) if attempt else ""
                error = f"{attempt.error.type}: {attempt.error.message}" if attempt and attempt.error else task.reason
                line = f"{_now(render)}  {task.name:<{width}}  {task.state.value:<9}  {took}  {shorten(error)}"
                render.line(line.rstrip())
        last = info
    assert last is not None  # noqa: S101 - the end of a run is always seen
    return last


def _now(render: Render) -> str:
    return f"{datetime.now(render.zone):%H:%M:%S}"


def _conclude(face: Face, client: Client, render: Render, run: RunInfo) -> None:
    """How it ended: the result, or the errors on stderr."""
    from tm import codec

    message = client.store.result(run.id) if run.state is RunState.SUCCESS else None
    if face.as_json:
        from tm.cli.documents import run_document, value

        result = value(message) if message is not None else None
        render.document("tm.run/1", [run_document(client.run(run.id)) | {"result": result}])
        return
    if not face.is_terminal:
        took = f" in {duration(run.seconds)}" if run.seconds is not None else ""
        render.line(f"{_now(render)}  run {run.id} {run.state.value}{took}{f': {run.reason}' if run.reason else ''}")
    elif run.reason:
        render.styled(run.reason, STYLES.get(run.state.value, ""))
    if message is not None and (result := codec.decode(message)) is not None:
        render.line(f"result: {shorten(codec.as_json(result), 1000)}")
    errors = Render(as_json=False, terminal=sys.stderr.isatty(), color=render.color, zone=render.zone, to=sys.stderr)
    show.errors(client.run(run.id), errors)


class Live:
    """A table of the tasks that is redrawn in place; what tasks print scrolls by above it."""

    def __init__(self, render: Render, tap: Tap | None) -> None:
        self._render, self._tap = render, tap

    def show(self, looks: Iterator[RunInfo]) -> RunInfo:
        """Show a run until it has ended."""
        import rich.live

        console = self._render.console()
        last: RunInfo | None = None
        with rich.live.Live(console=console, auto_refresh=False, transient=False) as live:
            for last in looks:
                self._print(console, all_of_it=not last.is_open)
                live.update(self._picture(last, console), refresh=True)
        assert last is not None  # noqa: S101 - the end of a run is always seen
        return last

    def _print(self, console: Console, *, all_of_it: bool) -> None:
        from rich.text import Text

        for line in self._tap.lines(all_of_it=all_of_it) if self._tap else ():
            console.print(Text.from_ansi(line), soft_wrap=True)

    def _picture(self, run: RunInfo, console: Console) -> Group:
        from rich.console import Group
        from rich.text import Text

        now = datetime.now(UTC)
        rows = show.task_rows(run, self._render, now)
        room, hidden = max(3, console.height - 4), 0
        done = sum(task.state is TaskState.SUCCESS for task in run.tasks)
        if len(rows) > room:
            # what is going on counts more than what is over or has not begun
            order = sorted(range(len(rows)), key=lambda index: _INTEREST.get(run.tasks[index].state, 5))
            hidden = len(rows) - room + 1
            rows = [rows[index] for index in sorted(order[: room - 1])]
        since = run.started_at or run.created_at
        took = duration(((run.ended_at or now) - since).total_seconds())
        head = Text.assemble(
            (run.id, "bold"),
            "  ",
            (run.state.value, STYLES.get(run.state.value, "")),
            f"  {done}/{len(run.tasks)}  {took}",
        )
        table = self._render.rich_table(show.TASK_COLUMNS, rows, states=("STATE",))
        return Group(head, table, *([Text(f"and {hidden} more", style="dim")] if hidden else []))


_INTEREST = {
    TaskState.RUNNING: 0,
    TaskState.FAILED: 1,
    TaskState.RETRYING: 1,
    TaskState.TIMED_OUT: 1,
    TaskState.QUARANTINED: 1,
    TaskState.QUEUED: 2,
    TaskState.WAITING: 3,
    TaskState.BLOCKED: 4,
}
