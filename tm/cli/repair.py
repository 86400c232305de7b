"""`tm retry`, `tm cancel`, `tm mark`: putting runs right."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from tm.cli.face import Face, pass_face
from tm.cli.options import DURATION, allowed, params_of, who
from tm.errors import RefusedError
from tm.states import RunState, TaskState

if TYPE_CHECKING:
    from tm.client import Client
    from tm.retries import Afresh, Retry


@click.command(
    epilog="""\b
Examples:
  tm retry etl@failed                    # what failed and what waited for it;
                                         # the rest is kept
  tm retry etl-20261124T040500Z --from clean
                                         # clean and all below it run again
  tm retry etl@last --only report        # report alone, on the messages that
                                         # are there
  tm retry etl@last --all -p day=monday  # everything, with another param
  tm retry etl@failed --dry-run          # only say what would run

Exit codes: 0 started (with --wait: it succeeded), 1 it failed, 2 bad params, 3 no such run or task, 4 refused: the run
is open, or succeeded, or its messages are gone, 5 unreachable, 7 cancelled, 124 --timeout has passed.
"""
)
@click.argument("run")
@click.option("--failed", is_flag=True, help="What failed, and what was blocked by it (the default).")
@click.option("--from", "again", metavar="TASK", multiple=True, help="TASK and all below it, and what failed.")
@click.option("--only", metavar="TASK", multiple=True, help="TASK and nothing else.")
@click.option("--all", "everything", is_flag=True, help="Everything; works for runs the server has forgotten too.")
@click.option("-p", "--param", "params", metavar="KEY=VALUE", multiple=True, help="Instead of the run's own param.")
@click.option(
    "--code",
    type=click.Choice(["current", "original"]),
    help="Version of the graph; by default the current one, where a scheduler has announced it.",
)
@click.option("--dry-run", is_flag=True, help="Say what would be kept and what would run.")
@click.option("--wait", is_flag=True, help="Wait until it has ended.")
@click.option("--timeout", type=DURATION, metavar="DURATION", help="With --wait: at most so long.")
@pass_face
def retry(
    face: Face,
    run: str,
    failed: bool,
    again: tuple[str, ...],
    only: tuple[str, ...],
    everything: bool,
    params: tuple[str, ...],
    code: str | None,
    dry_run: bool,
    wait: bool,
    timeout: float | None,
) -> int:
    """Repair RUN: a new run keeps what succeeded, with its messages, and runs the rest.

    The new run is called RUN-2 (then -3...), has the same tick, config and params, and RUN itself stays as it ended.
    RUN is an id, the beginning of one, GRAPH@last, GRAPH@failed or GRAPH@TICK; once it was retried, its last retry is
    repaired.
    """
    from tm.repair import Choice
    from tm.retries import plan_afresh, plan_retry, start_retry

    if sum((failed, bool(again), bool(only), everything)) > 1:
        raise click.UsageError("choose one of --failed, --from, --only and --all")
    client, given = face.client(), params_of(params)
    try:
        if everything:
            afresh = plan_afresh(client, run, params=given, code=code)
            _heed(client, afresh.source)
            return _afresh(face, client, afresh, dry_run=dry_run, wait=wait, timeout=timeout)
        planned = plan_retry(client, run, Choice(again=again, only=only), params=given, code=code)
    except TypeError as error:
        raise click.UsageError(str(error)) from error
    _heed(client, planned.source)
    if not dry_run:
        start_retry(client, planned, by=who())
    _say_retry(face, planned, dry_run=dry_run, silent=wait and face.as_json)
    return _wait(face, client, planned.run, timeout) if wait and not dry_run else 0


def _heed(client: Client, source: str) -> None:
    """Warn where workers alive would run the code again that failed: why it failed is known to the person only."""
    from tm.insight import Insight

    heed = Insight(client.lookup).before_retry(client.run(source))
    if heed:
        print(f"tm: {heed}", file=sys.stderr)


def _afresh(face: Face, client: Client, afresh: Afresh, *, dry_run: bool, wait: bool, timeout: float | None) -> int:
    from tm.retries import start_afresh
    from tm.store.records import TriggerAnswer

    if not dry_run and start_afresh(client, afresh) is not TriggerAnswer.CREATED:
        raise RefusedError(f"somebody has just started run {afresh.run}; `tm show {afresh.run}`")
    if face.as_json:
        if not (wait and not dry_run):
            item = {"run": afresh.run, "retry_of": afresh.source, "version": afresh.version, "newer": afresh.newer}
            face.render().document(
                "tm.retry/1", [item | {"dry_run": dry_run, "runs": None, "kept": [], "left_out": []}]
            )
    elif face.quiet:
        face.render().line(afresh.run)
    else:
        does = "would run" if dry_run else "runs"
        newer = " (by a newer version of the graph)" if afresh.newer else ""
        face.render().line(f"run {afresh.run} {does} all of {afresh.source} again{newer}")
    return _wait(face, client, afresh.run, timeout) if wait and not dry_run else 0


def _say_retry(face: Face, planned: Retry, *, dry_run: bool, silent: bool = False) -> None:
    render, mending = face.render(), planned.mending
    if face.as_json:
        if not silent:
            render.document(
                "tm.retry/1",
                [
                    {
                        "run": planned.run,
                        "retry_of": planned.source,
                        "version": planned.version,
                        "newer": planned.newer,
                        "dry_run": dry_run,
                        "runs": list(mending.runs),
                        "kept": list(mending.kept),
                        "left_out": list(mending.left_out),
                    }
                ],
            )
    elif face.quiet:
        render.line(planned.run)
    else:
        newer = " by a newer version of the graph" if planned.newer else ""
        render.line(f"run {planned.run} {'would repair' if dry_run else 'repairs'} {planned.source}{newer}")
        for what, names in (("runs", mending.runs), ("keeps", mending.kept), ("leaves out", mending.left_out)):
            if names:
                render.line(f"  {what:<10}  {_several(names)}")


def _several(names: tuple[str, ...], most: int = 20) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _wait(face: Face, client: Client, run: str, timeout: float | None) -> int:
    from tm.cli.ending import see_through

    return see_through(face, client, [run], timeout)


@click.command(
    epilog="""\b
Examples:
  tm cancel etl@last                          # its tasks get SIGTERM, and
                                              # SIGKILL after TM_GRACE
  tm cancel etl-20261124T040500Z --grace 60s  # let them tidy up for longer
  tm cancel etl@last --force                  # SIGKILL at once
  tm cancel --graph etl -y                    # all open runs of a graph

Exit codes: 0 cancelled, 3 no such run, 4 it has ended already, 5 unreachable.
"""
)
@click.argument("run", required=False)
@click.option("--graph", metavar="GRAPH", help="All open runs of GRAPH.")
@click.option("--force", is_flag=True, help="Kill what runs at once; also of a run that is cancelled already.")
@click.option("--grace", type=DURATION, metavar="DURATION", help="How long tasks may tidy up, in place of TM_GRACE.")
@click.option("--reason", default="", metavar="TEXT", help="Why, for the record.")
@click.option("--dry-run", is_flag=True, help="Say what would be cancelled.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask (needed off a terminal, with --graph).")
@pass_face
def cancel(
    face: Face,
    run: str | None,
    graph: str | None,
    force: bool,
    grace: float | None,
    reason: str,
    dry_run: bool,
    yes: bool,
) -> None:
    """End RUN, or all open runs of a graph: what waits is dropped, what runs is stopped.

    A worker learns of it at its next heartbeat (a sixth of TM_LEASE): then the task gets SIGTERM, and SIGKILL when
    its grace is over.
    """
    if (run is None) == (graph is None):
        raise click.UsageError("name one RUN, or --graph GRAPH")
    if run is not None and "/" in run:
        task = run.partition("/")[2]
        raise click.UsageError(f"a run is cancelled as a whole; to give up one task: tm mark {run} failed ({task})")
    if force and grace is not None:
        raise click.UsageError("--force leaves no --grace")
    client = face.client()
    why = f"cancelled by {who()}" + (f": {reason}" if reason else "")
    limit = 0.0 if force else grace
    if run is not None:
        found = client.run(run)
        hurry = limit is not None and found.state is RunState.CANCELLED
        if not found.is_open and not hurry:
            raise RefusedError(f"run {found.id} has ended already: {found.state}")
        runs = [found.id]
    else:
        assert graph is not None  # noqa: S101 - for the type checker: seen above
        runs = client.open_runs(graph)
        if runs and not dry_run:
            allowed(face, f"Cancel {len(runs)} open run{'s' if len(runs) > 1 else ''} of {graph}?", yes=yes)
    done = {each: dry_run or client.cancel(each, why, grace=limit) for each in runs}
    _say_cancelled(face, done, dry_run=dry_run)


def _say_cancelled(face: Face, done: dict[str, bool], *, dry_run: bool) -> None:
    render = face.render()
    if face.as_json:
        items = [{"run": run, "cancelled": ended and not dry_run, "dry_run": dry_run} for run, ended in done.items()]
        render.document("tm.cancel/1", items)
        return
    for run, ended in done.items():
        if face.quiet:
            render.line(run)
        elif dry_run:
            render.line(f"would cancel {run}")
        else:
            render.line(f"cancelled {run}" if ended else f"{run} had ended before")
    if not done:
        render.line("no open runs")


@click.command(
    epilog="""\b
Examples:
  tm mark etl@last/load success --reason "loaded by hand"
                                                 # what is below it goes on
  tm mark etl@last/report skipped --reason "no numbers today"
  tm mark etl@last/load failed --reason "will not come back"
                                                 # do not wait for its retries

Exit codes: 0 done, 2 usage, 3 no such run or task, 4 the task is over already, 5 unreachable.
"""
)
@click.argument("what", metavar="RUN/TASK")
@click.argument("state", type=click.Choice(["success", "failed", "skipped"]))
@click.option("--reason", required=True, metavar="TEXT", help="Why; kept in history with your name and the time.")
@pass_face
def mark(face: Face, what: str, state: str, reason: str) -> None:
    """Say how a task ended. Its children run then, and receive None in place of its value.

    In an open run the task is over at once: an attempt of it that runs is ended. A run that has ended stays as it is:
    it is retried, with the task taken as you say.
    """
    from tm.retries import mark as say

    run, slash, task = what.rpartition("/")
    if not slash or not run or not task:
        raise click.UsageError(f"{what!r} is not RUN/TASK")
    if not reason.strip():
        raise click.UsageError("--reason is for those who will ask later; it cannot be empty")
    done = say(face.client(), run, task, TaskState(state), by=who(), reason=reason)
    render = face.render()
    if face.as_json:
        item: dict[str, Any] = {"run": done.run, "task": done.task, "was": done.was.value, "state": done.state.value}
        render.document("tm.mark/1", [item | {"retry": done.retry}])
    elif done.retry:
        render.line(f"the run had ended; run {done.run} repairs it, with {task} taken as {state}")
    else:
        render.line(f"{task} of run {done.run} is {state} now (was {done.was})")
