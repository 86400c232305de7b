"""The group `tm`: global options, commands that load on demand, and what happens when something goes wrong."""

from __future__ import annotations

import importlib
import io
import sys
from typing import TYPE_CHECKING, Any

import click

from tm import __version__
from tm.cli.face import Face, PipeClosed, shared_options

if TYPE_CHECKING:
    from collections.abc import Sequence

#: where each command lives; its help line is here too, so that `tm --help` imports none of them
COMMANDS: dict[str, tuple[str, str]] = {
    "up": ("tm.cli.up:up", "Run graph files in this terminal: server, scheduler and worker in one."),
    "run": ("tm.cli.run:run", "Run one graph now and watch it."),
    "graphs": ("tm.cli.graphs:graphs", "List graphs with schedule, next tick and last states."),
    "runs": ("tm.cli.runs:runs", "List runs, newest first."),
    "trigger": ("tm.cli.trigger:trigger", "Start a run on a running cluster, without its file."),
    "wait": ("tm.cli.trigger:wait", "Wait until runs have ended."),
    "retry": ("tm.cli.repair:retry", "Repair a run: keep what succeeded, run the rest."),
    "cancel": ("tm.cli.repair:cancel", "End a run, or all open runs of a graph."),
    "mark": ("tm.cli.repair:mark", "Say how a task ended; kept for the record."),
    "pause": ("tm.cli.pausing:pause", "Make no ticks of a graph until it is resumed."),
    "resume": ("tm.cli.pausing:resume", "Make ticks of a graph again, and catch up."),
    "backfill": ("tm.cli.backfill:backfill", "Run past ticks of a graph that never ran."),
    "schedules": ("tm.cli.schedules:schedules", "List the ticks to come of all graphs."),
    "show": ("tm.cli.show:show", "Show a run, a task or a graph: picture, attempts, errors."),
    "logs": ("tm.cli.logs:logs", "Show what the tasks of a run printed, as they print it with -f."),
    "plan": ("tm.cli.plan:plan", "Show what would run now, in which order and where; start nothing."),
    "check": ("tm.cli.check:check", "Find what is wrong in graph files before anything runs."),
    "why": ("tm.cli.why:why", "Say why a run, a task or a graph is not running."),
    "queues": ("tm.cli.queues:queues", "List queues: what waits, what runs, who works."),
    "workers": ("tm.cli.workers:workers", "List workers: where, since when, what they are at."),
    "events": ("tm.cli.events:events", "Follow what happens, one line for each change."),
    "doctor": ("tm.cli.doctor:doctor", "Look whether everything is in order, and say what to do."),
    "prune": ("tm.cli.keeping:prune", "Drop old runs from history."),
    "backup": ("tm.cli.keeping:backup", "Copy the history to a file, also while it is in use."),
    "restore": ("tm.cli.keeping:restore", "Put a backup in the place of the history."),
    "config": ("tm.cli.config:config", "Settings: what counts here and where it comes from."),
    "completion": ("tm.cli.completion:completion", "Print what a shell needs to complete words of tm."),
    "help": ("tm.cli.help:show_help", "Explain a command, or exit codes, runs, times, settings."),
    "cron": ("tm.cli.cron:cron_group", "Cron expressions: next and previous times, explanations."),
}


class LazyGroup(click.Group):
    """A group whose commands are imported only when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """In the order of daily use."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """Import one command."""
        if name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[name][0].partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        if ctx.resilient_parsing:  # a shell asks how a word may go on
            from tm.cli.completion import complete

            complete(command)
        return shared_options(command)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; a pipe that is closed is not click's business."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError as error:
            raise PipeClosed from error

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        """Say what was meant when a command is misspelt."""
        if args and not ctx.resilient_parsing and self.get_command(ctx, args[0]) is None:
            import difflib

            close = difflib.get_close_matches(args[0], self.list_commands(ctx), 1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            ctx.fail(f"no such command {args[0]!r}{hint}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's signature
        """The list of commands, without importing them."""
        rows = [(name, line) for name, (_, line) in COMMANDS.items()]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit codes: 0 ok, 1 the run failed, 2 usage, 3 not found, 4 refused, 5 unreachable, "
    "6 check found errors, 7 cancelled, 8 partly done, 124 timed out, 130 interrupted (tm help exit-codes).",
)
@click.option("--url", metavar="URL", help="Server to use (TM_URL); without one, the stack that runs in --home.")
@click.option("--home", metavar="DIR", help="Where the embedded server and the history live (TM_HOME; .tm).")
@click.option("--json", "as_json", is_flag=True, help="One JSON document instead of text.")
@click.option("--jsonl", "as_lines", is_flag=True, help="The same, one line for each item.")
@click.option("--no-color", is_flag=True, help="Plain text on a terminal too (NO_COLOR).")
@click.option("-q", "--quiet", is_flag=True, help="Only what was asked for and errors.")
@click.option("-v", "--verbose", is_flag=True, help="Tell more.")
@click.version_option(__version__, prog_name="taskmaster", message="%(prog)s %(version)s")
@click.pass_obj
def cli(face: Face, /, **options: Any) -> None:
    """Taskmaster runs Python functions as graphs, on a schedule or now, here or on many workers."""
    face.take(**options)


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="replace")  # a terminal that knows no such letter shows another
    face = Face(as_json="--json" in words or "--jsonl" in words)
    # commands return their exit code, or None for 0
    return face.guard(lambda: cli.main(words, "tm", standalone_mode=False, obj=face))
