"""The group `tm`: global options, commands that load on demand, and what happens when something goes wrong."""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

import click

from tm import __version__
from tm.cli.face import Face, shared_options

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
    "show": ("tm.cli.show:show", "Show one run: its tasks, attempts and errors."),
    "check": ("tm.cli.check:check", "Find what is wrong in graph files before anything runs."),
    "why": ("tm.cli.why:why", "Say why a run, a task or a graph is not running."),
    "cron": ("tm.cli.cron:cron_group", "Cron expressions: next and previous times, explanations."),
}
#: commands of other distributions and of the two services, found by their entry points
ENTRY_POINTS = "tm.commands"


class LazyGroup(click.Group):
    """A group whose commands are imported only when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """In the order of daily use."""
        return [*COMMANDS, *sorted(_plugins())]

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:  # noqa: ARG002 - click's signature
        """Import one command."""
        if name in COMMANDS:
            module, _, attribute = COMMANDS[name][0].partition(":")
            command: click.Command = getattr(importlib.import_module(module), attribute)
            return shared_options(command)
        if plugin := _plugins().get(name):
            found: click.Command = plugin.load()
            return found
        return None

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        """Say what was meant when a command is misspelt."""
        if args and self.get_command(ctx, args[0]) is None:
            import difflib

            close = difflib.get_close_matches(args[0], self.list_commands(ctx), 1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            ctx.fail(f"no such command {args[0]!r}{hint}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's signature
        """The list of commands, without importing them."""
        rows = [(name, line) for name, (_, line) in COMMANDS.items()]
        rows += [(name, f"{plugin.value.partition(':')[0]}.") for name, plugin in sorted(_plugins().items())]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


def _plugins() -> dict[str, Any]:
    from importlib.metadata import entry_points

    return {plugin.name: plugin for plugin in entry_points(group=ENTRY_POINTS)}


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit codes: 0 ok, 1 the run failed, 2 usage, 3 not found, 4 refused, 5 unreachable, "
    "6 check found errors, 7 cancelled, 8 partly done, 124 timed out, 130 interrupted.",
)
@click.option("--url", metavar="URL", help="Server to use (TM_URL); without one, the stack that runs in --home.")
@click.option("--home", metavar="DIR", help="Where the embedded server and the history live (TM_HOME; .tm).")
@click.option("--json", "as_json", is_flag=True, help="One JSON document instead of text.")
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
    face = Face(as_json="--json" in words)
    # commands return their exit code, or None for 0
    return face.guard(lambda: cli.main(words, "tm", standalone_mode=False, obj=face))
