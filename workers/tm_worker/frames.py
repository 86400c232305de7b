"""How lines travel from an executor to its supervisor: frames among whatever else is written to the same pipes.

Standard output and standard error of an executor are two pipes. What subprocesses and C code write there arrives as it
is. What Python prints and logs goes into the first of them as frames, with time and kind, and in order with the rest.
A frame begins with a mark, random bytes that open each pipe, and is never longer than what the kernel writes in one
piece: no other writer can tear it, and no process that dies leaves half of one behind.
"""

from __future__ import annotations

import select
import struct
from typing import NamedTuple

#: bytes of the mark
MARK = 8
#: mark, kind, microseconds since the epoch, bytes that follow
_HEAD = struct.Struct(f"!{MARK}sBQH")
#: bytes a frame can carry; POSIX promises 512, Linux and macOS give 4096 and 512
ROOM = getattr(select, "PIPE_BUF", 512) - _HEAD.size

#: kinds: what comes in between the frames, Python's two streams, a logging record, an attempt begins, it has ended
RAW, OUT, ERR, LOG, BEGIN, END = range(6)

#: what an executor is told of reads of its standard output, and of its standard error: one begins; it found ends of
#: attempts at most; it found more
NEWS = (b"r", b"m", b"d"), (b"R", b"M", b"D")

_LEVEL = struct.Struct("!HB")  # of a logging record: level, bytes of the logger's name


class Piece(NamedTuple):
    """What one frame holds, or what came in between two of them. A tuple, for there may be many."""

    kind: int
    at_us: int  #: 0 for what came in between
    data: bytes


#: in half the time that the constructor of a named tuple takes
_new = tuple.__new__


def head(mark: bytes, kind: int, at_us: int, size: int) -> bytes:
    """What stands before the `size` bytes of a frame."""
    return _HEAD.pack(mark, kind, at_us, size)


def pack_record(level: int, logger: str, text: bytes) -> bytes:
    """A logging record; cut to what fits into one frame."""
    name = logger.encode(errors="replace")[:255]
    return (_LEVEL.pack(max(0, min(level, 0xFFFF)), len(name)) + name + text)[:ROOM]


def unpack_record(data: bytes) -> tuple[int, str, bytes]:
    """Level, logger and text."""
    level, size = _LEVEL.unpack_from(data)
    name = data[_LEVEL.size : _LEVEL.size + size]
    return level, name.decode(errors="replace"), data[_LEVEL.size + size :]


class Splitter:
    """Takes what comes out of one pipe apart."""

    def __init__(self) -> None:
        self._mark = b""
        self._rest = b""

    def feed(self, data: bytes) -> list[Piece]:
        """The pieces that are complete by now, in order."""
        if self._rest:
            data = self._rest + data
        start = 0
        if not self._mark:
            if len(data) < MARK:
                self._rest = data
                return []
            self._mark, start = data[:MARK], MARK
        pieces: list[Piece] = []
        size, header, ours, unpack = len(data), _HEAD.size, self._mark, _HEAD.unpack_from
        while start < size:
            if size - start >= header:  # nearly always
                mark, kind, at_us, length = unpack(data, start)
                if mark == ours and RAW < kind <= END and length <= ROOM:
                    after = start + header + length
                    if after > size:
                        break
                    pieces.append(_new(Piece, (kind, at_us, data[start + header : after])))
                    start = after
                    continue
            if not data.startswith(self._mark, start):
                end = data.find(self._mark, start)
                if end < 0:
                    end = size - self._begun(data, start)
                if end > start:
                    pieces.append(Piece(RAW, 0, data[start:end]))
                    start = end
                if end == size or not data.startswith(self._mark, end):
                    break
                continue
            if size - start < header:
                break
            pieces.append(Piece(RAW, 0, data[start : start + MARK]))  # somebody has written the mark, for some reason
            start += MARK
        self._rest = data[start:]
        return pieces

    @property
    def waits(self) -> bool:
        """Whether the last bytes are no piece yet."""
        return bool(self._rest)

    def left(self) -> bytes:
        """What is no piece and never will be, for nothing follows."""
        left, self._rest = self._rest, b""
        return left if self._mark else b""

    def _begun(self, data: bytes, start: int) -> int:
        """How many bytes at the end may be the beginning of the mark."""
        for length in range(min(MARK - 1, len(data) - start), 0, -1):
            if data.endswith(self._mark[:length]):
                return length
        return 0
