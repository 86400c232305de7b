"""Reads and follows what the attempts of a run printed: from the history, and from the server what is not there yet.

Chunks go from the server into the history and are then forgotten by the server. So the server is read first: what is
in neither at that moment is in the history a moment later, and a chunk that is in both is known by its name.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tm.clock import to_ms
from tm.errors import UnavailableError
from tm.loglines import LEVELS, Line, Stream
from tm.states import FINAL_RUN_STATES, FINAL_TASK_STATES, Outcome
from tm.waiting import PATIENCE, reaching

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from tm.loglines import Chunk
    from tm.lookup import Lookup
    from tm.runinfo import AttemptInfo, RunInfo, TaskInfo
    from tm.store.logs import LogStream

#: milliseconds one look at the server waits for lines
WAIT_MS = 200
#: seconds after the end of a run in which lines may still come: those of a process that was told to end
LAST_LINES = 2.0


@dataclass(frozen=True, slots=True)
class Entry:
    """A line, and the attempt it is of."""

    task: str
    attempt: int
    line: Line


@dataclass(frozen=True, slots=True)
class Note:
    """What is to be said of an attempt whose lines are not, or not all, there."""

    task: str
    attempt: int
    text: str
    is_silence: bool = False  #: nothing is missing: it ended well and had nothing to print


@dataclass(frozen=True, slots=True)
class Found:
    """What there is of a run."""

    entries: list[Entry]  #: by time; those of one attempt as they were written
    notes: list[Note]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What of a run is asked for."""

    task: str | None = None
    attempt: int | None = None

    def has(self, task: str, attempt: int) -> bool:
        """Whether an attempt is."""
        return self.task in (None, task) and self.attempt in (None, attempt)


class Logbook:
    """The lines of runs.

    Args:
        lookup: where server and history are.
    """

    def __init__(self, lookup: Lookup) -> None:
        self._lookup = lookup
        self.trouble = ""  #: why the history could not be read, when it was asked last

    def read(self, run: RunInfo, wanted: Wanted | None = None) -> Found:
        """What there is by now.

        Raises:
            UnavailableError: neither server nor history can be reached.
        """
        wanted = wanted or Wanted()
        threads = _Threads(wanted)
        entries = threads.take(self._all(run.id, "+"))
        return Found(entries, self._notes(run, wanted, threads))

    def follow(self, run: RunInfo, wanted: Wanted | None = None) -> Iterator[list[Entry]]:
        """What there is by now, then what comes, as it comes, until all that is wanted has ended.

        A server that is away for less than a minute is waited for. No line comes twice; where some are lost a line
        says so.
        """
        wanted = wanted or Wanted()
        threads = _Threads(wanted)
        stream = self._stream()
        if stream is None:
            yield threads.take(self._all(run.id, "+"))
            return
        with reaching(self._lookup.where):
            position = stream.end()
        yield threads.take(self._all(run.id, position))
        reached = time.monotonic()
        look_at, give_up = 0.0, None
        while True:
            try:
                with reaching(self._lookup.where):
                    entries = stream.read(position, block_ms=WAIT_MS if give_up is None else 50)
                    if give_up is None and time.monotonic() >= look_at:
                        look_at = time.monotonic() + WAIT_MS / 1000
                        if self._over(run.id, wanted):
                            give_up = time.monotonic() + LAST_LINES
                reached = time.monotonic()
            except UnavailableError:
                if time.monotonic() - reached > PATIENCE:
                    raise
                time.sleep(0.2)
                continue
            if entries:
                position = entries[-1][0]
                chunks = [chunk for _, chunk in entries if chunk is not None and chunk.run == run.id]
                if threads.has_gap(chunks):
                    chunks += self._filed(run.id)
                if new := threads.take(chunks):
                    yield new
            elif give_up is not None and (threads.complete or time.monotonic() >= give_up):
                return

    def _stream(self) -> LogStream | None:
        from tm.store.logs import LogStream

        return None if self._lookup.store is None else LogStream(self._lookup.store)

    def _all(self, run: str, upto: str) -> list[Chunk]:
        chunks: list[Chunk] = []
        if (stream := self._stream()) is not None:
            with reaching(self._lookup.where):
                chunks += [chunk for _, chunk in stream.of_run(run, upto)]
        return chunks + self._filed(run, needed=stream is None)

    def _filed(self, run: str, *, needed: bool = False) -> list[Chunk]:
        self.trouble = ""
        try:
            history = self._lookup.history
            return [] if history is None else history.logs(run)
        except UnavailableError as error:
            if needed:
                raise
            self.trouble = str(error)
            return []

    def _over(self, run: str, wanted: Wanted) -> bool:
        store = self._lookup.store
        assert store is not None  # noqa: S101 - the caller has looked
        state = store.state(run)
        if state is None or state in FINAL_RUN_STATES:
            return True
        if wanted.task is None:
            return False
        for task in self._lookup.current(run).tasks:
            if task.name == wanted.task:
                last = task.attempts[-1].number if task.attempts else 0
                return task.state in FINAL_TASK_STATES or (wanted.attempt is not None and last > wanted.attempt)
        return True

    def _notes(self, run: RunInfo, wanted: Wanted, threads: _Threads) -> list[Note]:
        pruned = self._pruned(run)
        return [
            Note(task.name, attempt.number, text, is_silence=text in _SILENCES)
            for task in run.tasks
            for attempt in task.attempts
            if wanted.has(task.name, attempt.number)
            and (text := _note(run, task, attempt, threads.state_of(task.name, attempt.number), pruned=pruned))
        ]

    def _pruned(self, run: RunInfo) -> bool:
        try:
            history = self._lookup.history
            upto = None if history is None else history.logs_pruned_upto()
        except UnavailableError:
            return False
        return upto is not None and run.ended_at is not None and to_ms(run.ended_at) < upto


@dataclass(slots=True)
class _Thread:
    """The chunks of one claim."""

    task: str
    attempt: int
    next: int = 0  #: number of the chunk that follows
    last: bool = False
    at_us: int = 0  #: of its last line


@dataclass(slots=True)
class _Threads:
    """Puts chunks in order, and leaves out those that were there before."""

    wanted: Wanted
    known: dict[str, _Thread] = field(default_factory=dict)

    @property
    def complete(self) -> bool:
        """Whether nothing is to come of what has begun."""
        return all(thread.last for thread in self.known.values())

    def state_of(self, task: str, attempt: int) -> bool | None:
        """None: no line of this attempt; else whether its last one is there."""
        ends = [each.last for each in self.known.values() if (each.task, each.attempt) == (task, attempt)]
        return any(ends) if ends else None

    def has_gap(self, chunks: Iterable[Chunk]) -> bool:
        """Whether chunks are missing before these."""
        following: dict[str, int] = {}
        for chunk in chunks:
            if not self.wanted.has(chunk.task, chunk.attempt):
                continue
            known = self.known.get(chunk.token)
            expected = following.get(chunk.token, known.next if known else 0)
            if chunk.number > expected:
                return True
            following[chunk.token] = max(expected, chunk.number + 1)
        return False

    def take(self, chunks: Sequence[Chunk]) -> list[Entry]:
        """The lines of those that are wanted and new."""
        entries: list[tuple[int, Entry]] = []
        for chunk in sorted(chunks, key=lambda each: (each.first_us, each.token, each.number)):
            self.known.setdefault(chunk.token, _Thread(chunk.task, chunk.attempt))
        for chunk in sorted(chunks, key=lambda each: (each.token, each.number)):
            thread = self.known[chunk.token]
            if not self.wanted.has(chunk.task, chunk.attempt):
                thread.last = True  # not waited for
                continue
            if chunk.number < thread.next:
                continue
            lines = chunk.lines()
            if chunk.number > thread.next:
                lines.insert(0, _lost(lines[0].at_us if lines else chunk.first_us))
            thread.next, thread.last = chunk.number + 1, thread.last or chunk.last
            for line in lines:
                # in the order in which they were written, whatever the clock did
                thread.at_us = max(thread.at_us, line.at_us)
                entries.append((thread.at_us, Entry(chunk.task, chunk.attempt, line)))
        return [entry for _, entry in sorted(entries, key=lambda each: each[0])]


def _lost(at_us: int) -> Line:
    text = "[lines are missing here: the server was away for too long, or history did not take them in time]"
    return Line(at_us, Stream.TM, LEVELS["warning"], "", text)


def _silence(outcome: Outcome) -> str:
    return f"it ended as {outcome.value} and printed nothing"


_SILENCES = frozenset({_silence(Outcome.SUCCESS), _silence(Outcome.SKIPPED)})


def _note(run: RunInfo, task: TaskInfo, attempt: AttemptInfo, complete: bool | None, *, pruned: bool) -> str:
    if run.retry_of and attempt.ended_at is not None and attempt.ended_at < run.created_at:
        return f"it was kept from run {run.retry_of}, where its lines are"
    if complete is None and pruned:
        return "its lines were forgotten: they are older than TM_LOG_TTL allows"
    gone = attempt.outcome is Outcome.LOST
    reason = f": {attempt.error.message}" if attempt.error and attempt.error.message else ""
    if complete is None:
        if attempt.outcome is None:
            return "" if task.state in FINAL_TASK_STATES else "it runs and has printed nothing yet"
        if gone:
            return f"nothing of what it printed has arrived; it was lost{reason}"
        return _silence(attempt.outcome)
    if not complete and gone:
        return f"its last lines may be missing; it was lost{reason}"
    return ""
