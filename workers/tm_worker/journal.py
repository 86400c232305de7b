"""What one attempt has printed, on its way to the server: lines into chunks, and no more of them than are kept.

No I/O and no clock. The head of the output goes out as it comes. Beyond half of the limit lines are kept back, the last
ones only, and follow when the attempt has ended, after a line that says what is missing.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from tm.loglines import LEVEL_OF, LEVELS, Chunk, Line, Stream, pack_lines

if TYPE_CHECKING:
    from collections.abc import Sequence

#: bytes of a line beyond which it is broken in two
LONGEST_LINE = 16 << 10
#: bytes a line counts beside its text, or empty ones would be free
LINE_COST = 32
#: bytes of lines in one chunk
CHUNK = 64 << 10
#: a named tuple in half the time that its own constructor, written in Python, takes
_new = tuple.__new__


class About(NamedTuple):
    """The attempt that something belongs to."""

    token: str
    run: str
    graph: str
    task: str
    attempt: int


class Journal:
    """The lines of one attempt.

    Args:
        about: the attempt.
        limit: bytes that are kept of it.
    """

    def __init__(self, about: About, limit: int) -> None:
        self.about = about
        self.ended = False  #: its executor has said that nothing follows
        self.fresh: list[Line] = []  #: not in a chunk yet
        self._limit = limit
        self._head_left = limit // 2
        self._tail: deque[Line] | None = None
        self._tail_size = 0
        self._cut_lines = self._cut_bytes = 0
        self._begun: dict[Stream, tuple[int, bytes]] = {}  # lines without an end yet
        self._number = 0

    def take(self, stream: Stream, data: bytes, at_us: int) -> list[Line]:
        """Bytes that were written; returns the lines they complete."""
        begun = self._begun.pop(stream, None) if self._begun else None
        if begun is not None:
            at_us, data = begun[0], begun[1] + data
        elif data.find(b"\n") == len(data) - 1 < LONGEST_LINE:  # one line and all of it, as `print` has it
            text = data[:-1].decode("utf-8", "replace")
            line = _new(Line, (at_us, stream, LEVEL_OF[stream], "", text))
            size = len(text) + LINE_COST
            if self._tail is None and size <= self._head_left:  # as `add` has it
                self._head_left -= size
                self.fresh.append(line)
            else:
                self.add(line)
            return [line]
        lines = [self._line(stream, each, at_us) for each in self._pieces(stream, data, at_us)]
        for line in lines:
            self.add(line)
        return lines

    def _pieces(self, stream: Stream, data: bytes, at_us: int) -> list[bytes]:
        *whole, rest = data.split(b"\n")
        while len(rest) > LONGEST_LINE:
            whole.append(rest[:LONGEST_LINE])
            rest = rest[LONGEST_LINE:]
        if rest:
            self._begun[stream] = at_us, rest
        if all(len(each) <= LONGEST_LINE for each in whole):
            return whole
        return [
            each[start : start + LONGEST_LINE] for each in whole for start in range(0, max(len(each), 1), LONGEST_LINE)
        ]

    def _line(self, stream: Stream, text: bytes, at_us: int) -> Line:
        return Line(at_us, stream, LEVEL_OF[stream], "", text.decode("utf-8", "replace"))

    @property
    def unfinished(self) -> bool:
        """Whether there are lines that have no end yet."""
        return bool(self._begun)

    def break_off(self, before_us: int | None = None) -> list[Line]:
        """Make lines of what has had no end since then, or of all that has none."""
        lines = [
            self._line(stream, text, at)
            for stream, (at, text) in self._begun.items()
            if before_us is None or at < before_us
        ]
        for line in lines:
            del self._begun[line.stream]
            self.add(line)
        return lines

    def add(self, line: Line) -> None:
        """A whole line."""
        size = len(line.text) + LINE_COST
        if self._tail is None:
            if size <= self._head_left:
                self._head_left -= size
                self.fresh.append(line)
                return
            self._tail = deque()
        self._tail.append(line)
        self._tail_size += size
        while self._tail_size > self._limit - self._limit // 2 and len(self._tail) > 1:
            gone = self._tail.popleft()
            self._tail_size -= len(gone.text) + LINE_COST
            self._cut_lines += 1
            self._cut_bytes += len(gone.text) + 1

    def conclude(self, words: Sequence[Line] = ()) -> list[Line]:
        """Nothing follows but these words of the worker's; returns the lines that were broken off by that."""
        broken = self.break_off()
        if self._tail is not None:
            if self._cut_lines:
                self.fresh.append(
                    Line(
                        self._tail[0].at_us,
                        Stream.TM,
                        LEVELS["warning"],
                        "",
                        f"[{self._cut_lines:,} lines, {self._cut_bytes:,} bytes, are missing here: of the output of "
                        f"an attempt {self._limit:,} bytes are kept, its head and its tail (TM_LOG_LIMIT)]",
                    )
                )
            self.fresh += self._tail
            self._tail = None
        self.fresh += words
        self.ended = True
        return broken

    def chunks(self, *, last: bool = False) -> list[Chunk]:
        """Pack what is fresh."""
        chunks: list[Chunk] = []
        lines, self.fresh = self.fresh, []
        start = 0
        while start < len(lines) or (last and not chunks):
            end, size = start, 0
            while end < len(lines) and size < CHUNK:
                size += len(lines[end].text) + LINE_COST
                end += 1
            chunks.append(self._chunk(lines[start:end], last=last and end == len(lines)))
            start = end
        return chunks

    def _chunk(self, lines: list[Line], *, last: bool) -> Chunk:
        about, number = self.about, self._number
        self._number += 1
        return Chunk(
            run=about.run,
            graph=about.graph,
            task=about.task,
            attempt=about.attempt,
            token=about.token,
            number=number,
            last=last,
            first_us=lines[0].at_us if lines else 0,
            packed=pack_lines(lines),
        )
