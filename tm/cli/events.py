"""`tm events`: what happens, one line for each change, from the past on or as it comes."""

from __future__ import annotations

import json
import re
import sys
import time
from typing import TYPE_CHECKING, Any

import click

from tm.cli.face import Face, pass_face
from tm.errors import UnavailableError
from tm.words import duration, printable, shorten

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime

    from tm.cli.render import Render
    from tm.happenings import Happening
    from tm.insight import Insight
    from tm.lookup import Lookup
    from tm.runinfo import RunInfo
    from tm.store.looking import Position

#: ms of one wait for the next event: Ctrl-C and a closed pipe are noticed in between
_BLOCK_MS = 1000
#: seconds a follower waits for a server that went away
_PATIENCE = 60.0
#: changes that are remembered so that none is told twice
_REMEMBERED = 20_000


@click.command(
    epilog="""\b
Examples:
  tm events               # the last 20 changes
  tm events -f            # and those to come, until Ctrl-C
  tm events -f etl        # of one graph; or of one run: tm events -f etl@last
  tm events -f --jsonl --from 1790000000000-0 >> changes.jsonl
                          # go on where a file ends

Exit codes: 0, 3 no such run or graph, 5 unreachable, 130 interrupted.
"""
)
@click.argument("what", metavar="[GRAPH|RUN]", required=False)
@click.option("-f", "--follow", is_flag=True, help="Go on with what happens from now on, until Ctrl-C.")
@click.option(
    "--from",
    "start",
    metavar="ID",
    help="What came after the event of this id; one may come twice.",
)
@click.option(
    "-n", "--limit", type=click.IntRange(0, 10_000), help="The newest so many of the past (20; with --from all)."
)
@click.option("--jsonl", is_flag=True, help="A JSON document in each line.")
@pass_face
def events(face: Face, what: str | None, follow: bool, start: str | None, limit: int | None, jsonl: bool) -> int | None:
    """Tell what happened and happens: runs that begin and end, attempts, tasks that are blocked, cancelled or marked.

    The past is put together from history: it keeps how things ended, and for how long as `tm prune` says.
    """
    from tm.insight import Insight

    lines, lookup = jsonl or face.as_lines, face.lookup()
    if follow and lookup.store is None:
        raise UnavailableError("there is no server whose events could be followed; start one with `tm up FILE`")
    if follow and face.as_json and not lines:
        raise click.UsageError("a stream is no document: --jsonl instead of --json")
    insight = Insight(lookup, face.settings().timezone)
    name, task, run = insight.find(what) if what else (None, None, None)
    if task is not None:
        raise click.UsageError(f"events are of a whole run: {name}")
    wanted = {"run": run.id if run else None, "graph": name if run is None else None}
    since = None if start is None else _instant_of(start)
    most = limit if limit is not None else None if start is not None else 20
    render = face.render()
    position = _position(lookup) if follow else None
    past = insight.past(run=wanted["run"], graph=wanted["graph"], since=since, limit=most) if most != 0 else []
    if face.as_json and not lines:
        render.document("tm.events/1", [document(each) for each in past])
        return None
    tell = _document_teller() if lines else _line_teller(render)
    for each in past:
        tell(each)
    if not past and not follow and not lines and not face.quiet:
        render.line("nothing has happened yet")
    if position is not None:
        try:
            for each in _following(insight, lookup, position, past, wanted):
                tell(each)
        except KeyboardInterrupt:
            return 130
    return None


def _position(lookup: Lookup) -> Position | None:
    from tm.waiting import reaching

    if lookup.store is None:
        return None
    with reaching(lookup.where):
        return lookup.store.position()


def document(happening: Happening) -> dict[str, Any]:
    """One change, for programs."""
    from tm.cli.documents import instant

    return {
        "id": happening.id,
        "at": instant(happening.at),
        "what": happening.what,
        "run": happening.run,
        "graph": happening.graph or None,
        "task": happening.task or None,
        "attempt": happening.attempt,
        "outcome": happening.outcome or None,
        "state": happening.state or None,
        "worker": happening.worker or None,
        "seconds": happening.seconds,
        "detail": happening.detail or None,
    }


def past_documents(insight: Insight, run: RunInfo) -> list[dict[str, Any]]:
    """What happened in a run."""
    return [document(each) for each in insight.past(run=run.id)]


def print_past(insight: Insight, run: RunInfo, render: Render) -> None:
    """The same for people."""
    render.line("")
    tell = _line_teller(render, of_run=run.id)
    for each in insight.past(run=run.id):
        tell(each)


def _following(
    insight: Insight, lookup: Lookup, position: Position, told: list[Happening], wanted: dict[str, str | None]
) -> Iterator[Happening]:
    """What happens after a position; what history took before it could be read is fetched from there."""
    from tm.clock import from_ms
    from tm.happenings import from_event
    from tm.waiting import reaching

    store = lookup.store
    assert store is not None  # noqa: S101 - for the type checker: there is a position
    known = dict.fromkeys(each.key for each in told)
    reached = time.monotonic()
    with reaching(lookup.where):
        last = told[-1].at if told else from_ms(store.server_ms())
    while True:
        try:
            with reaching(lookup.where):
                entries, position, missed = store.follow(position, _BLOCK_MS)
            reached = time.monotonic()
        except UnavailableError:
            if time.monotonic() - reached > _PATIENCE:
                raise
            time.sleep(0.5)
            continue
        read = (insight.named(each) for stream_id, event in entries for each in from_event(stream_id, event))
        fresh = [each for each in read if insight.concerns(each, wanted["run"], wanted["graph"])]
        if missed:
            fresh = [*insight.past(run=wanted["run"], graph=wanted["graph"], since=last), *fresh]
        for each in fresh:
            if each.key not in known:
                known[each.key] = None
                last = each.at
                yield each
        while len(known) > _REMEMBERED:
            del known[next(iter(known))]


def _instant_of(start: str) -> datetime:
    from tm.clock import from_ms

    if not re.fullmatch(r"\d{1,15}(-\d+){0,2}", start):
        raise click.BadParameter(f"{start!r} is no id of an event; they look like 1790000000000-0", param_hint="--from")
    return from_ms(int(start.partition("-")[0]))


def _document_teller() -> Callable[[Happening], None]:
    def tell(happening: Happening) -> None:
        text = json.dumps({"schema": "tm.event/1"} | document(happening), ensure_ascii=False)
        print(text, file=sys.stdout, flush=True)

    return tell


def _line_teller(render: Render, of_run: str | None = None) -> Callable[[Happening], None]:
    def tell(happening: Happening) -> None:
        said = _said(happening)
        run = "" if of_run else f"  {happening.run}"
        line = f"{render.clock(happening.at)}{run}  {said}"
        render.pieces(
            [[(printable(line), ""), (f"  {shorten(happening.detail)}" if happening.detail else "", "waiting")]]
        )

    return tell


def _said(happening: Happening) -> str:
    if happening.what == "attempt_ended":
        after = f" in {duration(happening.seconds)}" if happening.seconds is not None else ""
        then = f", {happening.state}" if happening.state not in {"", happening.outcome} else ""
        return f"{happening.task}: attempt {happening.attempt} {happening.outcome}{after}{then}"
    if happening.what == "run_ended":
        return f"run ended: {happening.state}"
    if happening.what == "run_created":
        return "run created" if happening.state == "queued" else f"run recorded: {happening.state}"
    if happening.what == "tick_skipped":
        return "tick skipped"
    how = {"task_marked": "marked ", "tasks_kept": "kept as "}.get(happening.what, "")
    return f"{happening.task}: {how}{happening.state}"
