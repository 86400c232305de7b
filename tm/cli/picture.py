"""The picture of a graph on a terminal or a pipe: drawn if it fits, else a list by layers; or for other programs."""

from __future__ import annotations

import shutil
import sys
from typing import TYPE_CHECKING

from tm import drawing

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tm.cli.render import Render
    from tm.records import Plan

KINDS = ("text", "ascii", "dot", "mermaid")
#: columns where there is no terminal that has a width
PIPE_WIDTH = 120
_SYMBOLS = {
    "waiting": "·.",
    "queued": "○o",
    "running": "▶>",
    "retrying": "↻~",
    "success": "✓+",
    "failed": "✗x",
    "timed_out": "✗x",
    "quarantined": "✗x",
    "cancelled": "⊘/",
    "blocked": "⊗#",
    "skipped": "»-",
}


def print_picture(plan: Plan, states: Mapping[str, str], render: Render, kind: str = "text") -> None:
    """The graph of a plan with the states of a run; without states it is that of a definition."""
    names = [node.name for node in plan.tasks]
    parents = [node.parents for node in plan.tasks]
    known = [states.get(name, "") for name in names]
    if kind == "dot":
        render.line(*drawing.dot(plan.graph, parents, names, known))
    elif kind == "mermaid":
        render.line(*drawing.mermaid(parents, names, known))
    else:
        _print_text(plan, known, render, plain=kind == "ascii" or not _knows_boxes())


def _print_text(plan: Plan, states: list[str], render: Render, *, plain: bool) -> None:
    names = [node.name for node in plan.tasks]
    parents = [node.parents for node in plan.tasks]
    width = shutil.get_terminal_size().columns if render.terminal else PIPE_WIDTH
    symbols = [_SYMBOLS[state][plain] if state in _SYMBOLS else "" for state in states]
    full = [f"{symbol} {name} {state}".strip() for symbol, name, state in zip(symbols, names, states, strict=True)]
    short = [f"{symbol} {name}".strip() for symbol, name in zip(symbols, names, strict=True)]
    for labels in (full, short):
        lines = drawing.draw(parents, labels, width, plain=plain)
        if lines is not None:
            render.pieces(
                [[(piece.text, "" if piece.node is None else states[piece.node]) for piece in line] for line in lines]
            )
            if labels is short and any(states):
                shown = dict.fromkeys(zip(symbols, states, strict=True))
                render.line("", "  ".join(f"{symbol} {state}" for symbol, state in shown))
            return
    render.line(*drawing.listed(parents, names, states, width))


def _knows_boxes() -> bool:
    """Whether what we print to can show the lines and the symbols."""
    try:
        "┼✓⊗".encode(sys.stdout.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True
