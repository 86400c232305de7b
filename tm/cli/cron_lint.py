"""What `tm cron lint` reads: crontabs, graph files and expressions; and what it has to say about them."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from tm.cron import CronError, Expression
from tm.cron.odd_days import odd_days
from tm.cron.traps import follows_the_clock, notes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime, tzinfo

    from tm.cron.expression import DayRule

_SETTING = re.compile(r"""\s*(?:"[^"]*"|'[^']*'|[A-Za-z_]\w*)\s*=""")
_ZONE = re.compile(r"""\s*CRON_TZ\s*=\s*["']?([\w/+-]+)["']?\s*$""")
_NOT_CRON = {"manual", ""}  # schedules of a graph that are no expressions


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One problem at one place."""

    file: str  #: as given; empty for an expression of the command line
    line: int  #: from 1
    column: int  #: from 1
    code: str  #: `error`, or the name of a trap such as `uneven-step`
    message: str
    expression: str
    hint: str = ""

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}:{self.column}" if self.file else self.expression
        return f"{place}: {self.code}: {self.message}" + (f" (hint: {self.hint})" if self.hint else "")

    def document(self) -> dict[str, str | int]:
        """For `--json`."""
        return {
            "file": self.file,
            "line": self.line,
            "column": self.column,
            "severity": "error" if self.code == "error" else "warning",
            "code": self.code,
            "message": self.message,
            "hint": self.hint,
            "expression": self.expression,
        }


def lint_expression(text: str, tz: tzinfo | None, start: datetime) -> list[Finding]:
    """Findings in one expression."""
    return list(_lint(text, "", 1, 1, tz, start))


def lint_crontab(file: str, text: str, tz: tzinfo | None, start: datetime) -> list[Finding]:
    """Findings in a crontab; `CRON_TZ` lines set the zone of those that follow."""
    findings: list[Finding] = []
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        zone = _ZONE.match(line)
        if zone:
            try:
                tz = ZoneInfo(zone[1])
            except (OSError, ValueError, KeyError):
                message = f"there is no time zone {zone[1]!r}"
                findings.append(_finding(file, number, line.index(zone[1]) + 1, "error", message, line.strip()))
        if _SETTING.match(line):
            continue
        column = line.index(words[0])
        expression = words[0]
        if not expression.startswith("@"):
            # Five fields and a command: the blanks between them stay, so that columns are those of the file.
            fields = re.match(r"\s*(\S+(?:[ \t]+\S+){0,4})", line)
            expression = fields[1] if fields else ""
        findings += _lint(expression, file, number, column + 1, tz, start)
    return findings


def lint_graph_file(file: str, text: str, tz: tzinfo | None, start: datetime) -> list[Finding]:
    """Findings in the `schedule=` texts of all `Graph(...)` calls of a Python file, which is only parsed."""
    try:
        tree = ast.parse(text, file)
    except (SyntaxError, ValueError) as error:
        line, column = getattr(error, "lineno", None) or 1, getattr(error, "offset", None) or 1
        message = f"this is not Python: {getattr(error, 'msg', error)}"
        return [_finding(file, line, column, "error", message, "")]
    findings: list[Finding] = []
    for call in ast.walk(tree):
        if not isinstance(call, ast.Call) or _name(call.func) != "Graph":
            continue
        given = {keyword.arg: keyword.value for keyword in call.keywords}
        schedule, own = given.get("schedule"), given.get("timezone")
        if not isinstance(schedule, ast.Constant) or not isinstance(schedule.value, str):
            continue
        if schedule.value in _NOT_CRON:
            continue
        zone = tz
        if isinstance(own, ast.Constant) and isinstance(own.value, str):
            try:
                zone = ZoneInfo(own.value)
            except (OSError, ValueError, KeyError):
                message = f"there is no time zone {own.value!r}"
                findings.append(_finding(file, own.lineno, own.col_offset + 1, "error", message, own.value))
        # One behind the quote.
        findings += _lint(schedule.value, file, schedule.lineno, schedule.col_offset + 2, zone, start)
    return sorted(findings, key=lambda finding: (finding.line, finding.column))


def _name(function: ast.expr) -> str:
    """`Graph` for `Graph(...)` and for `tm.Graph(...)`."""
    if isinstance(function, ast.Attribute):
        return function.attr
    return function.id if isinstance(function, ast.Name) else ""


def _lint(
    text: str, file: str, line: int, column: int, tz: tzinfo | None, start: datetime, day_rule: DayRule = "vixie"
) -> Iterator[Finding]:
    try:
        # H is no problem: its key comes later.
        expression = Expression(text, day_rule=day_rule, key="lint")
    except CronError as error:
        what = f"{error.field}: {error.reason}" if error.field else error.reason
        yield _finding(file, line, column + (error.column or 1) - 1, "error", what, text, error.hint)
        return
    for note in notes(expression):
        if note.warn:
            yield _finding(file, line, column, note.code, note.text, text)
    if next(expression.iter(start), None) is None:
        yield _finding(file, line, column, "no-run-left", "all of its years are over", text)
    # A job of every hour is expected to follow the clock; one that is tied to some hours is not.
    if tz is not None and not follows_the_clock(expression):
        for change in odd_days(expression, start.replace(tzinfo=tz)):
            yield _finding(file, line, column, "clock-change", f"{tz}, {change}", text)


def _finding(file: str, line: int, column: int, code: str, message: str, expression: str, hint: str = "") -> Finding:
    return Finding(file=file, line=line, column=column, code=code, message=message, expression=expression, hint=hint)
