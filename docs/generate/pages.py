"""What all pages are made of: text that Markdown leaves as it is, tables, and the list of what is on a page."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

#: what a reader has to know who wants to change a page
MADE = "<!-- Made by `make docs` from the code; what is written here by hand is overwritten. -->"


def page(title: str, intro: str, *parts: str) -> str:
    """A whole page: title, introduction, and the parts, each of which ends without a line of its own."""
    return "\n\n".join([MADE, f"# {title}", intro.strip(), *(part.strip("\n") for part in parts)]) + "\n"


def anchor(heading: str) -> str:
    """Of a heading, as the usual renderers make it."""
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


def link(heading: str, text: str = "", file: str = "") -> str:
    """To a heading of this page, or of another one."""
    return f"[{text or heading}]({file}#{anchor(heading)})"


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; what would end a cell is escaped."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(_cell(text) for text in line) + " |" for line in lines)


def code(text: str) -> str:
    """As a piece of code in a line."""
    return f"`{text}`"


def block(text: str, language: str = "") -> str:
    """As a block of code."""
    return f"```{language}\n{text.rstrip()}\n```"


def prose(text: str, *, settings: str = "configuration.md") -> str:
    """Text of a help or a docstring: options stand as code, settings and pages are links, and nothing else is markup.

    Args:
        text: may have pieces of code between backticks.
        settings: the page on which settings are explained; empty on that page itself.
    """
    pieces = re.split(r"(`[^`]+`)", text)
    return "".join(piece if piece.startswith("`") else _plain(piece, settings) for piece in pieces)


def _plain(text: str, settings: str) -> str:
    text = re.sub(r"([*<\[\]])", r"\\\1", text)
    text = re.sub(r"(?<![\w-])(--[a-z][a-z-]*)", r"`\1`", text)
    text = re.sub(r"\bdocs/([\w/-]+\.md)\b", r"[docs/\1](../\1)", text)
    return re.sub(r"\bTM_[A-Z_]+\b", lambda found: link(found[0], code(found[0]), settings), text)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
