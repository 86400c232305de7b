"""In the supervisor: reads what executors print, files it by attempts, shows it, and has it sent to the server.

Everything is read as it comes, so that no task waits for long, but no more often than every few milliseconds, and no
more at a time than a pipe holds: a task that floods cannot keep the loop from its work. What was printed before a
report is read before the report is delivered; so when a run has ended, its lines are on the server.

An executor that prints nothing costs nothing here: its pipes wait in a selector of their own.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import selectors
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgpack

from tm import codec
from tm.errors import CodecError
from tm.loglines import LEVELS, Line, Stream
from tm.states import Outcome
from tm.store.records import UNBEGUN
from tm_worker import frames
from tm_worker.frames import Piece, Splitter
from tm_worker.journal import About, Journal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from tm.config import Settings
    from tm.store.records import Claim
    from tm.store.store import Store
    from tm_worker.echo import Echo
    from tm_worker.exchange import Exchange
    from tm_worker.executors import Ended
    from tm_worker.outgoing import Outgoing

#: bytes an executor can be ahead of us; a thousand lines go in without waiting
PIPE_SIZE = 128 << 10
_F_SETPIPE_SZ = 1031
#: executors beyond which pipes stay as they are (64 KiB): a user may have 64 MiB in all, and gets tiny ones after that
_LARGE_PIPES = 128
#: so often a pipe is read at its end, should somebody who has escaped write on and on
_LAST_READS = 16
#: seconds between two looks at pipes where something comes in
PACE = 0.005
#: seconds after which a line that has no end is shown as it is
PATIENCE = 1.0
#: seconds the end of a worker waits for whoever reads its output
LAST_PATIENCE = 1.0
#: outcomes of which the worker has nothing to say
_QUIET = frozenset({Outcome.SUCCESS, Outcome.SKIPPED})
_STREAM_OF = {frames.OUT: Stream.STDOUT, frames.ERR: Stream.STDERR}


@dataclass(slots=True)
class _Pipe:
    """Standard output or standard error of an executor."""

    number: int
    descriptor: int
    stream: Stream
    told: int  #: where the executor hears of each read
    news: tuple[bytes, bytes, bytes]  #: it begins; it found ends of attempts at most; it found more
    splitter: Splitter = field(default_factory=Splitter)
    about: About | None = None  #: the attempt that has said to be writing


class Lines:
    """All that the executors of one worker print.

    Args:
        limit: bytes that are kept of one attempt; 0 keeps nothing.
        outgoing: to the server.
        echo: where lines are shown as well.
        secrets: bytes that are never passed on, and what stands there instead.
    """

    def __init__(
        self,
        limit: int,
        outgoing: Outgoing,
        *,
        echo: Echo | None = None,
        secrets: Sequence[tuple[bytes, bytes]] = (),
    ) -> None:
        self._limit, self._outgoing, self._echo, self._secrets = limit, outgoing, echo, secrets
        self._pipes: dict[int, list[_Pipe]] = {}
        self._journals: dict[str, Journal] = {}
        self._of: dict[int, set[str]] = {}  # attempts of an executor that have an open journal
        self._fresh = False  # some journal has lines that are in no chunk
        self._told: set[str] = set()  # attempts whose end is written down, and whose report waits
        self._inner = selectors.DefaultSelector()
        self._outer: selectors.BaseSelector | None = None
        self._hear: Callable[[int], None] = lambda _: None
        self._running: Callable[[int], Claim | None] = lambda _: None
        self._read_at: float | None = None  # None: the selector tells
        self._look_at: float | None = None

    def attach(
        self,
        selector: selectors.BaseSelector,
        hear: Callable[[int], None],
        running: Callable[[int], Claim | None],
    ) -> None:
        """Wake a loop up when there is something to read.

        Args:
            selector: of the loop.
            hear: takes in what an executor has reported by now.
            running: the attempt an executor is at, by its reports.
        """
        self._outer, self._hear, self._running = selector, hear, running
        selector.register(self._inner, selectors.EVENT_READ, self._on_readable)

    # Executors come and go ------------------------------------------------------------------------------------------

    def open(self, number: int) -> tuple[int, ...]:
        """Pipes for an executor that is about to be forked.

        Returns:
            For the executor: where its standard output and standard error lead, the other ends of both, and where it
            hears that they are read. They are the caller's to close.
        """
        made: list[int] = []
        try:
            for _ in range(3):
                made += os.pipe()
            for descriptor in (made[0], made[2], made[4], made[5]):
                os.set_blocking(descriptor, False)
            if len(self._pipes) < _LARGE_PIPES:
                with contextlib.suppress(OSError):  # not Linux, or the user has many pipes already
                    fcntl.fcntl(made[1], _F_SETPIPE_SZ, PIPE_SIZE)
            made += os.dup(made[0]), os.dup(made[2])
        except OSError:
            for descriptor in made:
                os.close(descriptor)
            raise
        out, out_end, err, err_end, hears, told, *readers = made
        of_out, of_err = frames.NEWS
        pipes = [_Pipe(number, out, Stream.STDOUT, told, of_out), _Pipe(number, err, Stream.STDERR, told, of_err)]
        self._pipes[number] = pipes
        for pipe in pipes:
            self._inner.register(pipe.descriptor, selectors.EVENT_READ, pipe)
        return out_end, err_end, *readers, hears

    def died(self, number: int) -> None:
        """An executor is gone, or was never born: read what is left, which nobody adds to."""
        for pipe in self._pipes.get(number, ()):
            for _ in range(_LAST_READS):
                if not self._read(pipe):
                    break
            if left := pipe.splitter.left():
                self._take(pipe, [Piece(frames.RAW, 0, left)])
            with contextlib.suppress(KeyError):  # at its end already
                self._inner.unregister(pipe.descriptor)
            os.close(pipe.descriptor)
        if pipes := self._pipes.pop(number, None):
            os.close(pipes[0].told)

    def forget(self, number: int, ended: Iterable[Ended]) -> None:
        """After `died`, when it is known what it means: close what nobody reports on, being cancelled or lost."""
        tokens = self._of.pop(number, None)
        if tokens is None:
            return
        for token in tokens - {each.report.token for each in ended}:
            if (journal := self._journals.pop(token, None)) is not None:
                words = _words("the attempt was called off, and its process has ended", LEVELS["warning"])
                self._conclude(journal, words)

    # The loop's turn ------------------------------------------------------------------------------------------------

    def turn(self, ended: Sequence[Ended]) -> None:
        """Read, write down, send.

        Args:
            ended: the attempts whose reports are about to be delivered.
        """
        if ended:
            self._read_all()
            for each in ended:
                self._ended(each)
        else:
            if self._told:
                self._told.clear()
            if not self._busy:
                return
        now = time.monotonic()
        if self._read_at is not None and now >= self._read_at:
            self._read_on(now)
        if self._look_at is not None and now >= self._look_at:
            self._look(now)
        if self._fresh and (ended or self._outgoing.due(now)):
            self._pack()
        self._outgoing.turn(now, hurry=bool(ended))
        if self._echo is not None and self._echo.waiting:
            self._echo.flush()

    @property
    def _busy(self) -> bool:
        waiting = self._fresh or self._outgoing.waiting or (self._echo is not None and self._echo.waiting)
        return waiting or self._read_at is not None or self._look_at is not None

    def next_time(self) -> float | None:
        """When `turn` has something to do."""
        if not self._busy:
            return None
        known = (self._read_at, self._look_at, self._outgoing.next_time(more=self._fresh))
        times = [each for each in known if each is not None]
        if self._echo is not None and self._echo.waiting:
            times.append(time.monotonic() + PACE)
        return min(times) if times else None

    def close(self) -> None:
        """The worker ends: read, send and show what is left."""
        for number in list(self._pipes):
            self.died(number)
        for journal in self._journals.values():
            self._conclude(journal, [])
        self._journals.clear()
        self._outgoing.turn(time.monotonic(), hurry=True)
        if self._echo is not None:
            until = time.monotonic() + LAST_PATIENCE
            while self._echo.waiting and time.monotonic() < until:
                self._echo.flush()
                time.sleep(PACE)
        self._inner.close()

    # Reading --------------------------------------------------------------------------------------------------------

    def _on_readable(self, *_: object) -> None:
        assert self._outer is not None  # noqa: S101 - it has called us
        self._outer.unregister(self._inner)  # a line wakes the loop up at once, those that follow soon after do not
        self._read_on(time.monotonic())

    def _read_on(self, now: float) -> None:
        crowded = self._echo is not None and self._echo.crowded
        if crowded or self._read_all():
            self._read_at = now + PACE
        elif self._outer is not None:
            self._read_at = None
            self._outer.register(self._inner, selectors.EVENT_READ, self._on_readable)

    def _read_all(self) -> int:
        return sum(self._read(key.data) for key, _ in self._inner.select(0))

    def _read(self, pipe: _Pipe) -> int:
        pieces: list[Piece] = []
        if size := self._fetch(pipe, pieces):
            self._take(pipe, pieces)
        return size

    def _fetch(self, pipe: _Pipe, pieces: list[Piece]) -> int:
        """Add to these what waits in a pipe; returns how many bytes that was."""
        begins, marks, more = pipe.news
        # the other order would let an attempt end between the two, and not know that it was read
        _tell(pipe.told, begins)
        try:
            data = os.read(pipe.descriptor, PIPE_SIZE)
        except BlockingIOError:
            _tell(pipe.told, marks)
            return 0
        if not data:
            with contextlib.suppress(KeyError):
                self._inner.unregister(pipe.descriptor)
            return 0
        found = pipe.splitter.feed(data)
        quiet = not pipe.splitter.waits and all(piece.kind == frames.END for piece in found)
        _tell(pipe.told, marks if quiet else more)
        pieces += found
        return len(data)

    def _take(self, pipe: _Pipe, pieces: list[Piece]) -> None:
        journal = None if pipe.about is None else self._journal(pipe.number, pipe.about)
        shown: list[Line] = []
        for index, (kind, at_us, data) in enumerate(pieces):  # which may become more meanwhile
            stream = _STREAM_OF.get(kind)
            if journal is not None and stream is not None:  # nearly always
                shown += journal.take(stream, self._without_secrets(data) if self._secrets else data, at_us)
                continue
            if journal is not None:
                self._show(journal, shown)
                shown = []
            if kind == frames.BEGIN:
                pipe.about = _about(data)
            elif kind == frames.END:
                pipe.about = None
            elif kind == frames.LOG:
                self._file_record(pipe, data, at_us)
            elif kind == frames.RAW:
                about = pipe.about or self._whose(pipe, pieces, index + 1)
                self._file(pipe, about, pipe.stream, data, time.time_ns() // 1000)
            else:
                self._file(pipe, None, _STREAM_OF[kind], data, at_us)
            journal = None if pipe.about is None else self._journal(pipe.number, pipe.about)
        if journal is not None:
            self._show(journal, shown)

    def _whose(self, pipe: _Pipe, pieces: list[Piece], after: int) -> About | None:
        """Of which attempt something is that was written past Python.

        An attempt that ends says so in the pipe when something is unread by then, or was read while it ran; what others
        have said of their ends does not count. So it is of the one that says so next. Where nobody does, it is of the
        one that runs: those that have reported before would have said so before, and what they said is read here.
        """
        for _ in range(_LAST_READS):
            for piece in pieces[after:]:
                if piece.kind in {frames.BEGIN, frames.END}:
                    return _about(piece.data)
            after = len(pieces)
            self._hear(pipe.number)
            if not self._fetch(pipe, pieces):
                break
        claim = self._running(pipe.number)
        return None if claim is None else About(claim.token, claim.run, claim.graph, claim.task, claim.attempt)

    # Filing ---------------------------------------------------------------------------------------------------------

    def _file(self, pipe: _Pipe, about: About | None, stream: Stream, data: bytes, at_us: int) -> None:
        data = self._without_secrets(data)
        if about is not None:
            journal = self._journal(pipe.number, about)
            self._show(journal, journal.take(stream, data, at_us))
        elif self._echo is not None:
            self._echo.stray(1 if stream is Stream.STDOUT else 2, data)

    def _file_record(self, pipe: _Pipe, data: bytes, at_us: int) -> None:
        level, logger, text = frames.unpack_record(data)
        text = self._without_secrets(text)
        if pipe.about is None:
            if self._echo is not None:
                self._echo.stray(2, text + b"\n")
            return
        lines = [Line(at_us, Stream.LOG, level, logger, each) for each in text.decode(errors="replace").split("\n")]
        journal = self._journal(pipe.number, pipe.about)
        for line in lines:
            journal.add(line)
        self._show(journal, lines)

    def _journal(self, number: int, about: About) -> Journal:
        journal = self._journals.get(about.token)
        if journal is None:
            journal = self._journals[about.token] = Journal(about, self._limit)
            self._of.setdefault(number, set()).add(about.token)
        return journal

    def _show(self, journal: Journal, lines: Sequence[Line]) -> None:
        self._fresh = True
        if self._echo is not None and lines:
            self._echo.lines(lines, journal.about)
        if self._look_at is None and journal.unfinished:
            self._look_at = time.monotonic() + PATIENCE

    def _without_secrets(self, data: bytes) -> bytes:
        for secret, instead in self._secrets:
            if secret in data:
                data = data.replace(secret, instead)
        return data

    def _look(self, now: float) -> None:
        """Show lines that have had no end for a while: somebody waits for them."""
        self._look_at = None
        before_us = time.time_ns() // 1000 - int(PATIENCE * 1e6)
        for journal in self._journals.values():
            if journal.unfinished:
                self._show(journal, journal.break_off(before_us))
                if journal.unfinished:
                    self._look_at = now + PATIENCE / 2

    # Ends -----------------------------------------------------------------------------------------------------------

    def _ended(self, ended: Ended) -> None:
        report, claim = ended.report, ended.claim
        journal = self._journals.pop(report.token, None)
        if report.ms == UNBEGUN:
            return  # it will be made by somebody else, as this attempt
        if claim is None or (journal is None and (report.outcome in _QUIET or report.token in self._told)):
            return
        if ended.executor is not None and journal is not None and ended.executor in self._of:
            self._of[ended.executor].discard(report.token)
        self._told.add(report.token)
        words = [] if report.outcome in _QUIET else _last_words(report.outcome, report.error, silent=journal is None)
        if journal is None:
            about = About(claim.token, claim.run, claim.graph, claim.task, claim.attempt)
            journal = Journal(about, self._limit)
        self._conclude(journal, words)

    def _conclude(self, journal: Journal, words: Sequence[Line]) -> None:
        self._show(journal, journal.conclude(words))
        if self._limit:
            self._outgoing.put(journal.chunks(last=True))

    def _pack(self) -> None:
        self._fresh = False
        if self._limit:
            for journal in self._journals.values():
                if journal.fresh:
                    self._outgoing.put(journal.chunks())


def _tell(descriptor: int, news: bytes) -> None:
    with contextlib.suppress(OSError):  # an executor that has so many news knows enough; or it is gone
        os.write(descriptor, news)


def _about(packed: bytes) -> About | None:
    try:
        return About(*msgpack.unpackb(packed))
    except Exception:  # noqa: BLE001 - whatever somebody has put there
        return None


def _last_words(outcome: Outcome, error: bytes, *, silent: bool) -> list[Line]:
    """What the worker has to say of an attempt that went wrong."""
    try:
        told = codec.decode(error)
        text = told.get("traceback") or f"{told['type']}: {told['message']}"
    except (CodecError, KeyError, AttributeError, TypeError):
        text = outcome.value
    if outcome is Outcome.FAILED:
        return _words(text, LEVELS["error"])
    level = LEVELS["warning" if outcome is Outcome.LOST else "error"]
    return _words(f"{text}; it had printed nothing" if silent else text, level)


def _words(text: str, level: int) -> list[Line]:
    at_us = time.time_ns() // 1000
    return [Line(at_us, Stream.TM, level, "", each) for each in text.rstrip("\n").split("\n")]


def lines_of(settings: Settings, store: Store, exchange: Exchange) -> Lines:
    """What a worker with these settings needs."""
    from tm.store.logs import LogStream
    from tm_worker.echo import echo_of
    from tm_worker.outgoing import Outgoing

    outgoing = Outgoing(
        LogStream(store).add,
        # also as the first to try again after an outage: results follow their lines
        lambda: exchange.registered and exchange.outage.may_try(time.monotonic()),
        exchange.outage.failed,
    )
    return Lines(
        settings.log_limit,
        outgoing,
        echo=echo_of(settings.task_output, settings.log_format),
        secrets=secrets_of(settings),
    )


def secrets_of(settings: Settings) -> list[tuple[bytes, bytes]]:
    """The passwords in our own URLs, as they stand there: whoever prints the environment must not give them away."""
    from urllib.parse import urlsplit

    passwords = {urlsplit(url).password for url in (settings.url, settings.history_url) if url and "@" in url}
    return [(f":{password}@".encode(), b":***@") for password in passwords if password]
