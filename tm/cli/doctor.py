"""`tm doctor`: whether everything is in order, and what to do where it is not."""

from __future__ import annotations

import click

from tm.cli.face import Face, pass_face


@click.command(
    epilog="""\b
Examples:
  tm doctor                             # server, scheduler, workers, queues,
                                        # history, disk, clocks
  tm doctor graphs/                     # and these graph files
  tm doctor --json | jq '.items[] | select(.verdict != "ok")'

Exit codes: 0 nothing failed (warnings may be), 6 something did.
"""
)
@click.argument("targets", metavar="[FILE|DIR]...", nargs=-1, type=click.Path(exists=True))
@pass_face
def doctor(face: Face, targets: tuple[str, ...]) -> int:
    """Look whether everything that Taskmaster stands on is in order. Changes nothing.

    Graph files are looked into as `tm check` does: those given, else those of the known graphs, where they are on this
    machine.
    """
    from tm.doctor import Verdict, gather, judge

    checks = judge(gather(face.settings(), targets))
    render = face.render()
    if face.as_json:
        items = [
            {"name": each.name, "verdict": each.verdict.value, "said": each.said, "hint": each.hint or None}
            for each in checks
        ]
        render.document("tm.doctor/1", items)
    else:
        width = max(len(each.name) for each in checks)
        for each in checks:
            if face.quiet and each.verdict is Verdict.OK:
                continue
            style = {"ok": "success", "warn": "retrying", "fail": "failed"}[each.verdict.value]
            render.beside([(f"{each.verdict.value:<4}", style), (f"  {each.name:<{width}}  ", "")], each.said)
            if each.hint:
                render.beside([(f"{'':<6}{'':<{width}}  -> ", "")], each.hint)
    return 6 if any(each.verdict is Verdict.FAIL for each in checks) else 0
