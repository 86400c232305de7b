"""`tm why`: one sentence on why a run, a task or a graph is not running."""

from __future__ import annotations

import shutil
import textwrap
from typing import TYPE_CHECKING

import click

from tm.cli.face import Face, pass_face

if TYPE_CHECKING:
    from tm.reasons import Reason


@click.command(
    epilog="""\b
Examples:
  tm why etl                  # paused by whom, next when, held by which run
  tm why etl@last             # what its newest run waits for, or how it ended
  tm why etl@failed/report    # followed up to the task that began it
  tm why --json etl@last | jq -r .items[0].code

Exit codes: 0 whatever the reason is, 3 no such run, task or graph, 5 unreachable.
"""
)
@click.argument("what", metavar="RUN[/TASK]|GRAPH")
@pass_face
def why(face: Face, what: str) -> None:
    """Say in one sentence why a run, one of its tasks or a graph is not running.

    RUN is an id, the beginning of one, GRAPH@last, GRAPH@failed or GRAPH@TICK. A name that is both is taken as the
    graph's. What runs or has ended is told too: where and since when, or how and what to do next.
    """
    from tm.insight import Insight

    settings = face.settings()
    reason = Insight(face.lookup(), settings.timezone).why(what)
    render = face.render()
    if face.as_json:
        from tm.cli.documents import reason_document

        render.document("tm.why/1", [reason_document(reason)])
    else:
        render.line(*_lines(reason, shutil.get_terminal_size().columns if render.terminal else None))


def _lines(reason: Reason, width: int | None) -> list[str]:
    """The sentence and what to do next, in lines on a terminal and in one line each elsewhere."""
    text = [reason.sentence[:1].upper() + reason.sentence[1:], *([f"Next: {reason.hint}"] if reason.hint else [])]
    if width is None:
        return [" ".join(line.split()) for line in text]
    return [
        part
        for line in text
        for part in textwrap.wrap(line, max(40, width), break_long_words=False, break_on_hyphens=False)
    ]
