"""What attempts print and log, as lines, and the chunks in which lines travel and are kept."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

import msgpack

if TYPE_CHECKING:
    from collections.abc import Sequence

#: levels as `logging` has them
LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40, "critical": 50}
#: a chunk that unpacks to more is none of ours
_MOST = 16 << 20
#: bytes of packed lines that are not worth compressing
_SMALL = 200


class Stream(StrEnum):
    """Where a line comes from."""

    STDOUT = "stdout"
    STDERR = "stderr"
    LOG = "log"  #: Python's `logging`
    TM = "tm"  #: not the task but its worker: what became of the process, what is missing

    __hash__ = str.__hash__  # that of Enum is written in Python, and each line is looked up by it twice


#: the level of what has none of its own
LEVEL_OF = {Stream.STDOUT: 20, Stream.STDERR: 30, Stream.LOG: 20, Stream.TM: 30}
_STREAMS = tuple(Stream)
_NUMBERS = {stream: number for number, stream in enumerate(_STREAMS)}


class Line(NamedTuple):
    """One line. A tuple, for there may be many: it is made in a third of the time."""

    at_us: int  #: microseconds since the epoch, when it was written, by the worker's clock
    stream: Stream
    level: int  #: as in `logging`; standard output counts as info, standard error as warning
    logger: str  #: of `logging` lines
    text: str  #: without the newline

    @property
    def level_name(self) -> str:
        """debug, info, warning, error or critical: the highest that is not above its level."""
        return next((name for name, level in reversed(LEVELS.items()) if self.level >= level), "debug")


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """Some lines of one attempt that follow each other. A claim token and a number name it."""

    run: str
    graph: str
    task: str
    attempt: int
    token: str  #: of the claim; an attempt that was lost and runs elsewhere has another one
    number: int  #: 0 for the first of the claim; one that is missing says that lines were lost on their way
    last: bool  #: nothing follows
    first_us: int  #: when its first line was written
    packed: bytes

    @property
    def key(self) -> tuple[str, int]:
        """Two chunks with the same are the same."""
        return self.token, self.number

    def lines(self) -> list[Line]:
        """The lines; a chunk that cannot be read says so in a line of its own."""
        return unpack_lines(self.packed, self.first_us)


def pack_lines(lines: Sequence[Line]) -> bytes:
    """Lines as bytes."""
    packed: bytes = msgpack.packb(
        [(line.at_us, _NUMBERS[line.stream], line.level, line.logger, line.text) for line in lines],
        unicode_errors="surrogatepass",
    )
    return b"0" + packed if len(packed) < _SMALL else b"1" + zlib.compress(packed, 1)


def unpack_lines(packed: bytes, at_us: int = 0) -> list[Line]:
    """The lines in these bytes."""
    try:
        body = packed[1:]
        if packed[:1] == b"1":
            expander = zlib.decompressobj()
            body = expander.decompress(body, _MOST)
        return [
            Line(at, _STREAMS[stream], level, logger, text)
            for at, stream, level, logger, text in msgpack.unpackb(body, unicode_errors="surrogatepass")
        ]
    except Exception:  # noqa: BLE001 - whatever is in the bytes
        return [Line(at_us, Stream.TM, LEVELS["error"], "", f"({len(packed):,} bytes that are no log lines)")]
