"""Waiting for runs that somebody else may have started, and saying how they ended."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from tm.states import RunState

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tm.cli.face import Face
    from tm.client import Client

EXIT_CODES = {RunState.SUCCESS: 0, RunState.CANCELLED: 7}


def see_through(face: Face, client: Client, runs: Sequence[str], timeout: float | None) -> int:
    """Wait until all runs have ended, say how, and return the exit code: the worst of theirs.

    Ctrl-C stops waiting, the runs go on.
    """
    codes = [0]
    try:
        for run, state in client.wait(runs, timeout):
            codes.append(EXIT_CODES.get(state, 1))
            if not face.as_json:
                _say(face, client, run)
    except KeyboardInterrupt:
        names = ", ".join(runs[:3]) + (", ..." if len(runs) > 3 else "")
        print(f"tm: {names} go{'es' if len(runs) == 1 else ''} on; `tm show {runs[0]}` tells how", file=sys.stderr)
        return 130
    if face.as_json:
        from tm.cli.documents import run_document

        face.render().document("tm.run/1", [run_document(client.run(run)) for run in runs])
    return 1 if 1 in codes else max(codes)


def _say(face: Face, client: Client, run: str) -> None:
    from tm.cli import show
    from tm.cli.render import STYLES, Render, duration

    found, render = client.run(run), face.render()
    took = f" in {duration(found.seconds)}" if found.seconds is not None else ""
    if not face.quiet:
        text = f"run {run} {found.state.value}{took}{f': {found.reason}' if found.reason else ''}"
        render.styled(text, STYLES.get(found.state.value, ""))
    errors = Render(as_json=False, terminal=sys.stderr.isatty(), color=render.color, zone=render.zone, to=sys.stderr)
    show.errors(found, errors)
