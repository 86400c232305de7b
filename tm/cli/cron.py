"""`tm cron`: the cron engine on the command line, for any expression or crontab, with no server in sight.

Exit codes: 0 all is well, 1 `match` says no, 2 usage or a bad expression, 6 `lint` found something.
"""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime, tzinfo
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tm.cron import CronError, Expression

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tm.cron.expression import DayRule


def _zone(_: click.Context, __: click.Parameter, name: str | None) -> tzinfo | None:
    """The zone of that name; UTC is Python's own, which needs no database."""
    if name is None:
        return None
    if name.upper() in {"UTC", "Z"}:
        return UTC
    from zoneinfo import ZoneInfo

    try:
        return ZoneInfo(name)
    except (OSError, ValueError, KeyError):
        raise click.BadParameter(f"there is no time zone {name!r}; names look like Europe/Berlin") from None


def _moment(_: click.Context, __: click.Parameter, text: str | None) -> datetime | None:
    """A date and time as it was written: naive without an offset; `now` is understood."""
    if text is None:
        return None
    if text == "now":
        return datetime.now(UTC)
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        message = f"{text!r} is not a time such as 2026-11-24T04:30 or 2026-11-24T04:30:00Z"
        raise click.BadParameter(message) from None


class BadExpression(click.ClickException):
    """The text is not an expression; the message is the engine's own."""

    exit_code = 2


def _common(command: Callable[..., None]) -> Callable[..., None]:
    """The options of all commands that take one expression."""
    for option in (
        click.option("--json", "as_json", is_flag=True, help="One JSON document instead of text."),
        click.option("--key", help="What H values are made from."),
        click.option(
            "--day-rule",
            type=click.Choice(["vixie", "or", "and"]),
            default="vixie",
            show_default=True,
            help="When a day must be in both day fields: if either begins with *, only beside a bare *, or always.",
        ),
        click.option(
            "--tz",
            metavar="ZONE",
            callback=_zone,
            default="UTC",
            show_default=True,
            help="Zone the schedule is read in.",
        ),
        click.argument("expression"),
    ):
        command = option(command)
    return command


@click.group(
    "cron",
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="""\b
Examples:
  tm cron next "*/15 9-17 * * mon-fri" --tz Europe/Berlin
  tm cron explain "0 0 13 * fri"
  tm cron lint /etc/crontab
""",
)
def cron_group() -> None:
    """Cron expressions: next and previous times, explanations, and a look for traps.

    An expression is one argument, so quote it: tm cron next "*/15 9-17 * * mon-fri".
    """


@cron_group.command(
    "next",
    epilog="""\b
Examples:
  tm cron next "*/15 9-17 * * mon-fri" --tz Europe/Berlin
  tm cron next @daily -n 3 --from 2026-11-24
  tm cron next "H 3 * * *" --key orders       # the minute of graph orders

Exit codes: 0, 2 a bad expression.
""",
)
@_common
@click.option("-n", "count", type=click.IntRange(1, 10_000), default=5, show_default=True, help="How many.")
@click.option(
    "--from", "start", metavar="TIME", callback=_moment, default="now", help="Start (not included); now by default."
)
@click.pass_context
def next_command(ctx: click.Context, /, **options: Any) -> None:
    """Show the next times."""
    _show_times(ctx, "next", Expression.iter, **options)


@cron_group.command(
    "prev",
    epilog="""\b
Examples:
  tm cron prev "30 6 1 * *" -n 12        # the first of the last twelve months

Exit codes: 0, 2 a bad expression.
""",
)
@_common
@click.option("-n", "count", type=click.IntRange(1, 10_000), default=5, show_default=True, help="How many.")
@click.option(
    "--from", "start", metavar="TIME", callback=_moment, default="now", help="Start (not included); now by default."
)
@click.pass_context
def prev_command(ctx: click.Context, /, **options: Any) -> None:
    """Show the previous times, latest first."""
    _show_times(ctx, "prev", Expression.iter_back, **options)


def _show_times(
    ctx: click.Context,
    name: str,
    walk: Callable[[Expression, datetime], Iterator[datetime]],
    *,
    expression: str,
    count: int,
    start: datetime,
    tz: tzinfo,
    as_json: bool,
    key: str | None,
    day_rule: DayRule,
) -> None:
    runs = list(islice(walk(_read(expression, day_rule, key), _in_zone(start, tz)), count))
    if _wants_json(ctx, given=as_json):
        _print_json(name, [{"at": _rfc3339(run)} for run in runs], expression=expression, timezone=str(tz))
        return
    for run in runs:
        click.echo(_for_people(run))
    if len(runs) < count:
        click.echo("no further run" if runs else "no run is left in that direction", err=True)


@cron_group.command(
    "match",
    epilog="""\b
Examples:
  tm cron match "*/15 * * * *" 2026-11-24T04:30
  tm cron match "0 6 * * *" --tz Europe/Berlin && echo due

Exit codes: 0 yes, 1 no, 2 a bad expression.
""",
)
@_common
@click.argument("time", callback=_moment, required=False)
@click.option(
    "--from", "start", metavar="TIME", callback=_moment, default="now", help="The time to look at, if not an argument."
)
@click.pass_context
def match_command(
    ctx: click.Context,
    /,
    *,
    expression: str,
    time: datetime | None,
    start: datetime,
    tz: tzinfo,
    as_json: bool,
    key: str | None,
    day_rule: DayRule,
) -> None:
    """Say whether there is a run at TIME (now by default)."""
    at = _in_zone(time or start, tz)
    matches = _read(expression, day_rule, key).match(at)
    if _wants_json(ctx, given=as_json):
        _print_json("match", [{"at": _rfc3339(at), "matches": matches}], expression=expression, timezone=str(tz))
    else:
        click.echo(f"{'yes' if matches else 'no'}: {_for_people(at)}")
    ctx.exit(0 if matches else 1)


@cron_group.command(
    "explain",
    epilog="""\b
Examples:
  tm cron explain "0 0 13 * fri"            # and what could surprise about it
  tm cron explain "30 2 * * *" --tz Europe/Berlin
                                            # and what clock changes do to it

Exit codes: 0, 2 a bad expression.
""",
)
@_common
@click.option(
    "--from", "start", metavar="TIME", callback=_moment, default="now", help="Look for odd days of --tz from then on."
)
@click.pass_context
def explain_command(
    ctx: click.Context,
    /,
    *,
    expression: str,
    start: datetime,
    tz: tzinfo,
    as_json: bool,
    key: str | None,
    day_rule: DayRule,
) -> None:
    """Say in English what an expression means, and what could surprise about it.

    With --tz also on which days of the coming year the zone's clock changes touch it.
    """
    from tm.cron.odd_days import odd_days

    read = _read(expression, day_rule, key)
    summary, *notes = read.explain().split("\n")
    changes = odd_days(read, _in_zone(start, tz))
    if _wants_json(ctx, given=as_json):
        item = {
            "expression": expression,
            "summary": summary,
            "notes": [note.removeprefix("Note: ") for note in notes],
            "clock_changes": changes,
        }
        _print_json("explain", [item], timezone=str(tz))
        return
    click.echo("\n".join([summary, *notes, *(f"{tz}, {change}" for change in changes)]))


@cron_group.command(
    "lint",
    epilog="""\b
Examples:
  tm cron lint /etc/crontab
  tm cron lint graphs/*.py --tz Europe/Berlin
  crontab -l | tm cron lint -

Exit codes: 0 nothing found, 2 a file cannot be read, 6 something was found.
""",
)
@click.argument("sources", nargs=-1, required=True, metavar="FILE|EXPRESSION...")
@click.option(
    "--tz", metavar="ZONE", callback=_zone, help="Also warn about the clock changes of this zone in the coming year."
)
@click.option(
    "--from", "start", metavar="TIME", callback=_moment, default="now", help="Where that year begins; now by default."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON document instead of text.")
@click.pass_context
def lint_command(
    ctx: click.Context, /, *, sources: tuple[str, ...], tz: tzinfo | None, start: datetime, as_json: bool
) -> None:
    """Look for errors and traps in crontabs, graph files and single expressions.

    Files that end in .py are read as graph files (the text of every `schedule=` of a Graph; nothing is imported),
    others as crontabs, - is a crontab on stdin.
    """
    from tm.cli.cron_lint import Finding, lint_crontab, lint_expression, lint_graph_file

    findings: list[Finding] = []
    for source in sources:
        path = Path(source)
        if source == "-":
            findings += lint_crontab("-", sys.stdin.read(), tz, start)
        elif _is_file(path):
            try:
                text = path.read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError) as error:
                raise click.UsageError(f"{source} cannot be read: {error}") from error
            find = lint_graph_file if path.suffix == ".py" else lint_crontab
            findings += find(source, text, tz, start)
        elif " " in source.strip() or source.lstrip().startswith("@"):
            findings += lint_expression(source, tz, start)
        else:
            raise click.UsageError(f"{source} is neither a file nor an expression")
    if _wants_json(ctx, given=as_json):
        _print_json("lint", [finding.document() for finding in findings])
    else:
        for finding in findings:
            click.echo(str(finding))
        if not findings:
            click.echo("nothing found", err=True)
    ctx.exit(6 if findings else 0)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name too long for the system, or with a null character
        return False


def _read(text: str, day_rule: DayRule, key: str | None) -> Expression:
    try:
        return Expression(text, day_rule=day_rule, key=key)
    except CronError as error:
        raise BadExpression(str(error)) from error


def _in_zone(at: datetime, tz: tzinfo) -> datetime:
    """A time without offset is one of the zone; others are moved there."""
    try:
        return at.replace(tzinfo=tz) if at.tzinfo is None else at.astimezone(tz)
    except OverflowError:
        raise click.UsageError(f"{at.isoformat()} is outside of the calendar in {tz}") from None


def _rfc3339(at: datetime) -> str:
    offset = at.utcoffset()
    if offset is not None and offset.total_seconds() % 60:
        at = at.astimezone(UTC)  # offsets of old had seconds, for which RFC 3339 has no room
    return at.isoformat(timespec="microseconds" if at.microsecond else "seconds").replace("+00:00", "Z")


def _for_people(at: datetime) -> str:
    return f"{at:%a} {at.isoformat(' ', 'seconds')}"


def _wants_json(ctx: click.Context, *, given: bool) -> bool:
    """`--json` counts before the command's name too, where the group above takes it."""
    return given or bool(getattr(ctx.obj, "as_json", False))


def _print_json(name: str, items: list[dict[str, Any]], **more: str) -> None:
    click.echo(json.dumps({"schema": f"tm.cron.{name}/1", **more, "items": items}, ensure_ascii=False))
