"""The only formatter: tables and states for people, aligned text for pipes, one JSON document for programs."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any, TextIO

from tm.words import clock, duration, shorten

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime, tzinfo

    from rich.console import Console
    from rich.table import Table

__all__ = ["STYLES", "Render", "aligned", "duration", "shorten"]

#: how a state looks on a terminal; the word is always there, so colour is never all there is
STYLES = {
    "success": "green",
    "running": "cyan",
    "queued": "blue",
    "retrying": "yellow",
    "waiting": "dim",
    "failed": "bold red",
    "timed_out": "bold red",
    "quarantined": "bold red",
    "killed": "red",
    "lost": "red",
    "cancelled": "magenta",
    "blocked": "dim red",
    "skipped": "dim",
}


class Render:
    """Writes answers.

    Args:
        as_json: documents instead of text.
        as_lines: of a document one line for each item.
        terminal: a person looks at it.
        color: wanted, as far as there is a terminal.
        zone: for times; JSON has UTC.
        to: somewhere else than stdout.
    """

    def __init__(
        self,
        *,
        as_json: bool,
        terminal: bool,
        color: bool,
        as_lines: bool = False,
        zone: tzinfo | None = None,
        to: TextIO | None = None,
    ) -> None:
        self._to = to or sys.stdout
        self.as_json, self.as_lines, self.terminal = as_json, as_lines, terminal
        self.color = color and terminal
        self.zone = zone

    def document(self, schema: str, items: Sequence[Mapping[str, Any]]) -> None:
        """The one JSON document of a command, or a line for each item of it."""
        if self.as_lines:
            for item in items:
                print(json.dumps({"schema": schema, **item}, ensure_ascii=False), file=self._to)
            return
        json.dump({"schema": schema, "items": items}, self._to, ensure_ascii=False, indent=2)
        print(file=self._to)

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[str]], *, states: Sequence[str] = ()) -> None:
        """Rows under headings.

        Args:
            columns: headings; those that begin with ">" are aligned to the right.
            rows: text, not markup.
            states: headings of columns that hold states (several in one cell are divided by blanks).
        """
        if self.terminal:
            self.console().print(self.rich_table(columns, rows, states=states))
        else:
            self.line(*aligned([[column.lstrip(">") for column in columns], *rows], columns))

    def room(self, rows: Sequence[Sequence[str]], columns: Sequence[str]) -> int:
        """The cells that are left for the last column; on a pipe enough for a line."""
        if not self.terminal:
            return 100
        widths = [max(len(row[index]) for row in (columns, *rows)) for index in range(len(columns) - 1)]
        return self.console().width - sum(widths) - 2 * len(widths)

    def rich_table(self, columns: Sequence[str], rows: Sequence[Sequence[str]], *, states: Sequence[str] = ()) -> Table:
        """The same as something rich can show."""
        from rich.table import Table

        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
        for index, column in enumerate(columns):
            right = column.startswith(">")
            # the first column names things, and half a name is none
            table.add_column(column.lstrip(">"), justify="right" if right else "left", no_wrap=index == 0)
        for row in rows:
            table.add_row(*(_cell(text, column in states) for text, column in zip(row, columns, strict=True)))
        return table

    def line(self, *lines: str) -> None:
        """Plain text, as it is."""
        for each in lines:
            print(each, file=self._to, flush=True)

    def styled(self, text: str, style: str) -> None:
        """One line in a style, where there are styles."""
        if self.terminal:
            from rich.text import Text

            self.console().print(Text(text, style=style), soft_wrap=True)
        else:
            self.line(text)

    def pieces(self, lines: Sequence[Sequence[tuple[str, str]]]) -> None:
        """Lines of texts, each with the state whose style it has, or none."""
        for line in lines:
            if self.terminal:
                from rich.text import Text

                parts = [(text, STYLES.get(state, "")) for text, state in line]
                self.console().print(Text.assemble(*parts), soft_wrap=True)
            else:
                self.line("".join(text for text, _ in line))

    def beside(self, lead: Sequence[tuple[str, str]], text: str) -> None:
        """A text beside texts with their states; on a terminal its further lines stay beside them."""
        left = sum(len(each) for each, _ in lead)
        first, *more = [text]
        if self.terminal:
            from textwrap import wrap

            # paths and ids stay whole, to be copied; what has no room at all is the terminal's to break
            room = max(self.console().width - left, 20)
            first, *more = wrap(text, room, break_long_words=False, break_on_hyphens=False) or [text]
        self.pieces([[*lead, (first, "")], *([(" " * left + line, "")] for line in more)])

    def console(self) -> Console:
        """Rich's console on stdout."""
        from rich.console import Console

        return Console(file=self._to, no_color=not self.color, highlight=False, emoji=False, markup=False)

    @property
    def zone_name(self) -> str:
        """The zone in which times are shown."""
        return str(self.zone or "")

    def clock(self, instant: datetime | None, *, now: datetime | None = None, zone: tzinfo | None = None) -> str:
        """An instant for people: the time alone when it is today."""
        if instant is None:
            return ""
        return clock(instant, now=now, zone=zone or self.zone)


def aligned(rows: Sequence[Sequence[str]], columns: Sequence[str] = ()) -> list[str]:
    """Rows as text in columns, two blanks between them."""
    widths = [max(len(row[index]) for row in rows) for index in range(len(rows[0]))]
    right = [column.startswith(">") for column in columns] or [False] * len(widths)
    return [
        "  ".join(
            text.rjust(width) if is_right else text.ljust(width)
            for text, width, is_right in zip(row, widths, right, strict=True)
        ).rstrip()
        for row in rows
    ]


def _cell(text: str, is_state: bool) -> Any:
    from rich.text import Text

    if not is_state:
        return Text(text)
    return Text(" ").join(Text(word, style=STYLES.get(word, "")) for word in text.split())
