"""`tm help`: a command, or one of the things that all commands have in common."""

from __future__ import annotations

import click

from tm.cli.face import Face, pass_face

#: what the exit codes of all commands mean
EXIT_CODES = {
    0: "all is well",
    1: "the run failed",
    2: "the command line, a file or a setting makes no sense",
    3: "there is no such run, graph or task",
    4: "refused in the present state: paused, too many open runs, already over",
    5: "the server or the history cannot be reached",
    6: "check, doctor or lint found errors",
    7: "the run was cancelled",
    8: "partly done: of several, some failed",
    124: "the time to wait is over; what was waited for goes on",
    130: "interrupted (Ctrl-C)",
}

RUNS = """\
A run is named by
  its id               etl-20261124T040500Z, etl-7k2m9qx4zt
  the beginning of it  etl-20261124T04, as long as no other run begins so
  GRAPH@last           the newest run of a graph
  GRAPH@failed         the newest that failed
  GRAPH@TICK           the run of a tick: etl@2026-11-24T04:05Z, or on the
                       graph's own clock: 'etl@2026-11-24 05:05'

A run of a schedule has the id of its graph and tick, so there is one of each;
others have ten random letters. A retry is called RUN-2, RUN-3... A task of a
run is RUN/TASK."""

TIMES = """\
An instant is written 2026-11-24, '2026-11-24 04:05', 2026-11-24T04:05:00Z,
04:05 or now. Where it names no zone, it is on the clock of the graph's own
zone. A duration is written 90, 10s, 5m, 1h30m, 2d or 1w; a bare number is
seconds.

Times are shown in the zone of TM_TZ. JSON has UTC (RFC 3339), and durations
in seconds."""

JSON = """\
--json prints one document: {"schema": "tm.runs/1", "items": [...]}; --jsonl a
line for each item, with its schema. Names and meanings only grow; the number
behind the slash changes when they do not. Errors are a document on stderr:
{"error": {"code": "not_found", "message": "...", "hint": "..."}}"""


@click.command(
    "help",
    epilog="""\b
Examples:
  tm help retry               # as tm retry --help
  tm help exit-codes
  tm help references          # how runs are named; also times, json, settings

Exit codes: 0, 2 there is no such topic.
""",
)
@click.argument("topic", required=False, nargs=-1)
@click.pass_context
@pass_face
def show_help(face: Face, ctx: click.Context, topic: tuple[str, ...]) -> None:
    """Explain a command, or what all have in common: exit-codes, references (to runs), times, json, settings."""
    render, word = face.render(), " ".join(topic)
    if word == "exit-codes":
        if face.as_json:
            items = [{"code": code, "meaning": said} for code, said in EXIT_CODES.items()]
            render.document("tm.help.exit-codes/1", items)
        else:
            render.table((">CODE", "MEANING"), [[str(code), said] for code, said in EXIT_CODES.items()])
    elif word in {"references", "times", "json"}:
        render.line({"references": RUNS, "times": TIMES, "json": JSON}[word])
    elif word == "settings":
        from tm.cli.config import reference

        ctx.invoke(reference)
    else:
        _of_command(ctx, topic)


def _of_command(ctx: click.Context, words: tuple[str, ...]) -> None:
    assert ctx.parent is not None  # noqa: S101 - it is a command of tm
    context = ctx.parent
    command: click.Command = context.command
    for word in words:
        if not isinstance(command, click.Group):
            raise click.UsageError(f"{context.command_path} has no commands of its own")
        name, found, _ = command.resolve_command(context, [word])
        assert found is not None  # noqa: S101 - else it has raised
        command, context = found, click.Context(found, info_name=name, parent=context)
    click.echo(command.get_help(context))
