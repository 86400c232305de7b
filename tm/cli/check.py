"""`tm check`: what is wrong with graph files, found before anything runs."""

from __future__ import annotations

import click

from tm.cli.face import Face, pass_face
from tm.cli.options import DURATION


@click.command(
    epilog="""\b
Examples:
  tm check etl.py
  tm check graphs/ --strict     # warnings fail too, as in a pre-commit hook
  tm check graphs/ --format github
                                # as annotations on the page of a pull request
  tm check --codes              # all that is looked for

\b
A line that ends with `# tm: ignore[code]` is left in peace.

Exit codes: 0 no errors, 2 no such file, 6 errors (with --strict: anything).
"""
)
@click.argument("targets", metavar="FILE|DIR...", nargs=-1)
@click.option("--strict", is_flag=True, help="Exit with 6 for warnings too.")
@click.option("--format", "form", type=click.Choice(["text", "json", "github"]), help="By default text.")
@click.option("--timeout", type=DURATION, default="60s", show_default=True, help="For the import of one file.")
@click.option("--codes", is_flag=True, help="List the codes of findings and what they mean.")
@pass_face
def check(face: Face, targets: tuple[str, ...], strict: bool, form: str | None, timeout: float, codes: bool) -> int:
    """Find what is wrong in graph files before anything runs.

    Files are imported, each in a process of its own, and nothing of them is run. Found are parameters and parents that
    do not fit, annotations that contradict each other, keys that no parent sends, schedules that surprise or never
    fire, tasks that nothing reaches, settings without effect, configs that cannot be read, and more.
    """
    from tm.checks import CODES, check

    render = face.render()
    if codes:
        if face.as_json or form == "json":
            items = [{"code": code, "severity": kind.value, "meaning": said} for code, (kind, said) in CODES.items()]
            render.document("tm.check.codes/1", items)
        else:
            render.table(("CODE", "SEVERITY", "FOUND WHEN"), [[code, *row] for code, row in CODES.items()])
        return 0
    if not targets:
        raise click.UsageError("Missing argument 'FILE|DIR...'.")
    report = check(targets, patience=timeout)
    form = form or ("json" if face.as_json else "text")
    if form == "json":
        render.document("tm.check/1", [finding.document() for finding in report.findings])
    elif form == "github":
        render.line(*(finding.github() for finding in report.findings))
    else:
        for finding in report.findings:
            render.styled(str(finding), "red" if finding.severity == "error" else "yellow")
        if not face.quiet:
            what = f"{_count(report.files, 'file')}, {_count(report.graphs, 'graph')}"
            warnings = len(report.findings) - report.errors
            how = (
                f"{_count(report.errors, 'error')}, {_count(warnings, 'warning')}"
                if report.findings
                else "nothing found"
            )
            render.line(f"{what}: {how}")
    return 6 if report.errors or (strict and report.findings) else 0


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'s' if number != 1 else ''}"
