"""`tm logs`: what the attempts of a run printed and logged, as it comes with `-f`."""

from __future__ import annotations

import itertools
import json
import re
import sys
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import click

from tm.cli.face import Face, pass_face
from tm.errors import NotFoundError
from tm.loglines import LEVELS, Stream

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import tzinfo

    from tm.logbook import Entry, Found, Logbook, Wanted
    from tm.lookup import Lookup
    from tm.runinfo import RunInfo

#: colours of tasks, so that they can be told apart, and of levels
_TASKS = (36, 32, 35, 34, 96, 92, 95, 94)
_BY_LEVEL = {"warning": "33", "error": "31", "critical": "1;31", "debug": "2"}
#: what a line may do to a terminal: colours and styles, nothing else
_STYLE = re.compile(r"\x1b\[[0-9;:]*m")
_CONTROL = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


@click.command(
    epilog="""\b
Examples:
  tm logs etl@last                    # all its tasks, by time
  tm logs etl@last/load -f            # one task, as it prints, to its end
  tm logs etl@failed --level error    # what went wrong, with tracebacks
  tm logs etl@last/load --attempt 1 --tail 50
  tm logs etl@last --grep 'rows: \\d+' --since 10m
  tm logs etl@last/load --raw > load.txt
  tm logs etl@last -f --jsonl | jq -r .text

Exit codes: 0 found (also if nothing was printed), 3 no such run, task or attempt, 5 unreachable, 130 interrupted.
"""
)
@click.argument("what", metavar="RUN[/TASK]")
@click.option("-f", "--follow", is_flag=True, help="Go on with what comes, until it has ended or Ctrl-C.")
@click.option("--attempt", type=click.IntRange(1), metavar="N", help="Only attempt N.")
@click.option("-n", "--tail", type=click.IntRange(0), metavar="N", help="Only the last N lines of what is there.")
@click.option("--since", metavar="TIME|DURATION", help="Only lines since then; a duration is so long ago.")
@click.option(
    "--level", type=click.Choice(list(LEVELS)), help="Only lines of this level or above; stderr counts as warning."
)
@click.option("--grep", metavar="RE", help="Only lines in which this regular expression is found.")
@click.option("--raw", is_flag=True, help="Only the text of the lines, as it was written.")
@click.option("--jsonl", is_flag=True, help="A JSON document in each line.")
@pass_face
def logs(
    face: Face,
    what: str,
    follow: bool,
    attempt: int | None,
    tail: int | None,
    since: str | None,
    level: str | None,
    grep: str | None,
    raw: bool,
    jsonl: bool,
) -> int | None:
    """Show what the attempts of a run, or of one task of it, printed and logged, by time.

    RUN is an id, the beginning of one, GRAPH@last, GRAPH@failed or GRAPH@TICK. Standard output counts as level info,
    standard error as warning. Of what an attempt prints the head and the tail are kept (TM_LOG_LIMIT, 1 MiB).
    """
    from tm.logbook import Logbook

    lines = jsonl or face.as_lines
    if follow and face.as_json and not lines:
        raise click.UsageError("a stream is no document: --jsonl instead of --json")
    zone = face.settings().timezone
    keep = _Filter.of(level, since, grep, zone)
    lookup = face.lookup()
    run, wanted = _find(lookup, what, attempt)
    book = Logbook(lookup)
    face.as_json = face.as_json or lines
    if face.as_json and not lines:
        found = book.read(run, wanted)
        entries = _last(keep.of_all(found.entries), tail)
        face.render().document("tm.logs/1", [_document(run, each) for each in entries])
        _warn(face, book, found, wanted)
        return None
    tell = _Teller(run, wanted, zone, as_json=lines, raw=raw, color=face.render().color)
    try:
        if follow:
            for number, batch in enumerate(book.follow(run, wanted)):
                tell.all(_last(keep.of_all(batch), tail if number == 0 else None))
            run = lookup.run(run.id)
        found = book.read(run, wanted)
        if not follow:
            tell.all(_last(keep.of_all(found.entries), tail))
    except KeyboardInterrupt:
        return 130
    _warn(face, book, found, wanted)
    return None


def _find(lookup: Lookup, what: str, attempt: int | None) -> tuple[RunInfo, Wanted]:
    from tm.logbook import Wanted
    from tm.suggest import hint

    name, slash, task = what.partition("/")  # no run has a / in its name; a task may
    try:
        run = lookup.run(name)
    except NotFoundError as error:
        if name in lookup.names():
            last = f"{name}@last{slash}{task}"
            raise NotFoundError(
                f"{name!r} is a graph, and lines are of a run; `tm logs {last}` is the newest"
            ) from error
        raise
    if not slash:
        return run, Wanted(attempt=attempt)
    tasks = {each.name: each for each in run.tasks}
    if task not in tasks:
        otherwise = f"it has {', '.join([*tasks][:10])}" if tasks else "nothing is known of its tasks"
        raise NotFoundError(f"run {run.id} has no task {task!r}; {hint(task, tasks, otherwise)}")
    made = [each.number for each in tasks[task].attempts]
    if attempt is not None and attempt > max(made, default=0) and not run.is_open:
        raise NotFoundError(f"task {task!r} of run {run.id} has no attempt {attempt}; it had {max(made, default=0)}")
    return run, Wanted(task=task, attempt=attempt)


@dataclass(frozen=True, slots=True)
class _Filter:
    """Which lines are shown."""

    level: int = 0
    since_us: int = 0
    pattern: re.Pattern[str] | None = None

    @classmethod
    def of(cls, level: str | None, since: str | None, grep: str | None, zone: tzinfo) -> _Filter:
        """From the command line; a usage error says what is wrong with it."""
        from tm.cli.options import seconds_of, when

        since_us = 0
        if since is not None:
            seconds = seconds_of(since.removesuffix(" ago"))
            ago = datetime.now(UTC) - timedelta(seconds=seconds) if seconds is not None else None
            since_us = int((ago or when(since, zone, "--since")).timestamp() * 1_000_000)
        try:
            pattern = None if grep is None else re.compile(grep)
        except re.error as error:
            raise click.BadParameter(f"{grep!r} is no regular expression: {error}", param_hint="--grep") from error
        return cls(LEVELS[level] if level else 0, since_us, pattern)

    def of_all(self, entries: Iterable[Entry]) -> list[Entry]:
        """Those of the lines that are shown."""
        return [
            each
            for each in entries
            if each.line.level >= self.level
            and each.line.at_us >= self.since_us
            and (self.pattern is None or self.pattern.search(each.line.text))
        ]


def _last(entries: list[Entry], tail: int | None) -> list[Entry]:
    return entries if tail is None else entries[len(entries) - tail :] if tail < len(entries) else entries


class _Teller:
    """Writes lines to standard output."""

    def __init__(self, run: RunInfo, wanted: Wanted, zone: tzinfo, *, as_json: bool, raw: bool, color: bool) -> None:
        self._run, self._zone = run, zone
        self._as_json, self._raw, self._color = as_json, raw, color
        names = [task.name for task in run.tasks]
        self._width = min(30, max(map(len, names), default=0)) if wanted.task is None else 0
        self._colors = dict(zip(names, itertools.cycle(_TASKS), strict=False))

    def all(self, entries: Sequence[Entry]) -> None:
        """Write these."""
        if entries:
            sys.stdout.write("".join(f"{self._line(each)}\n" for each in entries))
            sys.stdout.flush()

    def _line(self, entry: Entry) -> str:
        if self._as_json:
            return json.dumps({"schema": "tm.log/1"} | _document(self._run, entry), ensure_ascii=False)
        line = entry.line
        if self._raw:
            return line.text.encode("utf-8", "replace").decode()
        at = datetime.fromtimestamp(line.at_us / 1_000_000, self._zone)
        parts = [self._styled(f"{at:%H:%M:%S}.{at.microsecond // 1000:03}", "2")]
        attempt = f" #{entry.attempt}" if entry.attempt > 1 else ""
        if self._width:
            name = f"{entry.task}{attempt}".ljust(self._width)
            parts.append(self._styled(name, str(self._colors.get(entry.task, 36))))
        elif attempt:
            parts.append(attempt.strip())
        text = self._clean(line.text)
        if line.stream is Stream.LOG:
            text = f"{line.level_name.upper()} {line.logger}: {text}"
        style = _BY_LEVEL.get(line.level_name, "") if line.stream in {Stream.LOG, Stream.TM} else ""
        return "  ".join([*parts, self._styled(text, style)])

    def _styled(self, text: str, style: str) -> str:
        return f"\x1b[{style}m{text}\x1b[0m" if style and self._color else text

    def _clean(self, text: str) -> str:
        # of what was overwritten, as progress bars do, the last state
        text = text.rstrip("\r").rpartition("\r")[2]
        styles = _STYLE.findall(text) if "\x1b" in text else []
        pieces = [_CONTROL.sub(_written_out, piece) for piece in (_STYLE.split(text) if styles else [text])]
        if not styles:
            return pieces[0]
        if not self._color:
            return "".join(pieces)
        ended = "" if styles[-1] in {"\x1b[0m", "\x1b[m"} else "\x1b[0m"
        return "".join(itertools.chain.from_iterable(zip(pieces, [*styles, ended], strict=True)))


def _written_out(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape").decode()


def _document(run: RunInfo, entry: Entry) -> dict[str, Any]:
    line = entry.line
    at = datetime.fromtimestamp(line.at_us / 1_000_000, UTC)
    return {
        "run": run.id,
        "task": entry.task,
        "attempt": entry.attempt,
        "at": at.isoformat(timespec="microseconds").replace("+00:00", "Z"),
        "stream": line.stream.value,
        "level": line.level_name,
        "logger": line.logger or None,
        "text": line.text.encode("utf-8", "replace").decode(),
    }


def _warn(face: Face, book: Logbook, found: Found, wanted: Wanted) -> None:
    """On stderr: what is missing, and why; that a task had nothing to print only to whoever asks for that task."""
    if book.trouble:
        print(f"tm: {book.trouble}; shown is what the server has", file=sys.stderr)
    if face.quiet:
        return
    silent = [note for note in found.notes if note.is_silence]
    together = wanted.task is None and not face.verbose and (len(silent) > 1 or bool(found.entries))
    for note in found.notes:
        if not (together and note.is_silence):
            print(f"tm: {note.task}, attempt {note.attempt}: {note.text}", file=sys.stderr)
    if together and silent and not found.entries:
        print(f"tm: {len(silent)} attempts ended well and printed nothing", file=sys.stderr)
