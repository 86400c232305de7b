"""In an executor: whether an attempt that is about to end has written something past Python.

Whatever subprocesses and C code write into the pipes shows there as bytes that wait, or as a read of the supervisor.
What attempts say of their ends does so too, and must not count: else each end would make the next one say that it
ended, for ever. So the supervisor tells before a read that it begins and after it what it found, and the bytes that
wait when an end has been told of are remembered.
"""

from __future__ import annotations

import fcntl
import select
import struct
import termios
from os import read

from tm_worker import frames

#: what a pipe holds on Linux; news are a byte each
_ALL = 1 << 16
_INT = struct.Struct("i")


class Unread:
    """What waits in the pipes of this process, and what was taken out of them.

    Args:
        readers: the reading ends of standard output and standard error, and where the supervisor tells of its reads.
    """

    def __init__(self, readers: tuple[int, int, int]) -> None:
        out, err, self._news = readers
        self._pipes = [_Pipe(descriptor, news) for descriptor, news in zip((out, err), frames.NEWS, strict=True)]
        self._reading = False
        self._poll = select.poll()
        for descriptor in readers:
            self._poll.register(descriptor, select.POLLIN)

    def nothing(self) -> bool:
        """Whether nothing was written since the last call; False in doubt. Nearly always one question to the kernel."""
        if not self._reading and not self._poll.poll(0):
            return True
        # sizes come before the news: a read that begins in between is in them
        sizes = [each.unread() for each in self._pipes]
        try:
            news = read(self._news, _ALL)
        except OSError:  # none
            news = b""
        found = [pipe.nothing(size, news) for pipe, size in zip(self._pipes, sizes, strict=True)]
        self._reading = any(each.reading for each in self._pipes)
        return all(found)

    def marked(self) -> None:
        """What waits now is known: the end of an attempt has just been marked in both pipes."""
        for each in self._pipes:
            each.known = each.unread()


class _Pipe:
    """One of them."""

    def __init__(self, descriptor: int, news: tuple[bytes, bytes, bytes]) -> None:
        self._descriptor = descriptor
        self._begins, _, self._more = news
        self._others = b"".join(each for codes in frames.NEWS if codes != news for each in codes)
        self.known = 0  #: bytes that wait unless there was a read
        self.reading = False  #: a read had begun, and what it found was not told yet

    def unread(self) -> int:
        """Bytes that wait."""
        try:
            return int(_INT.unpack(fcntl.ioctl(self._descriptor, termios.FIONREAD, bytes(_INT.size)))[0])
        except OSError:  # a task has closed what it did not open
            return 0

    def nothing(self, size: int, news: bytes) -> bool:
        was_reading, news = self.reading, news.translate(None, self._others)
        if not news:
            return size == self.known and not was_reading
        self.reading = news.endswith(self._begins)
        nothing = not (size or was_reading or self.reading or self._more in news)
        if nothing:
            self.known = 0
        return nothing
