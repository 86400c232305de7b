"""Between a supervisor and an executor: claims there, reports back, both msgpack lists.

Reports go by a stream, each a frame with its length. Claims go by a pair of sockets that keep packets apart, and whose
other end the supervisor holds as well: it can read back those that the executor has not read, which has not begun them
then, also after its death. Every packet is read by exactly one of the two. A claim that is too large for a packet goes
by the stream, and a mark in its place. Where the system has no such sockets (macOS) all claims go by the stream.

Messages in claims and reports are bytes and stay so: a supervisor hands them on without looking into them.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import struct
from typing import TYPE_CHECKING, Any

import msgpack

if TYPE_CHECKING:
    from collections.abc import Callable
    from io import IOBase

_LENGTH = struct.Struct("!I")
#: bytes; more than any set of inputs may have, so a larger length means that somebody wrote rubbish
MAX_FRAME = 1 << 30
_CHUNK = 1 << 16
#: bytes; claims up to this size are packets
PACKET = 1 << 15
_IN_THE_STREAM = b"\xc1"  # no msgpack begins so
#: bytes; a few milliseconds of small claims fit
_ROOM = 1 << 19
#: bytes; what a system lets a stream hold, so that a large message goes in at once and nobody is woken up for its rest
_LARGE = 1 << 20


class BrokenFrameError(Exception):
    """The other side sent something that is no frame."""


# one for all: msgpack.packb maps 256 KiB of memory anew for every call
_pack: Callable[[list[Any]], bytes] = msgpack.Packer(buf_size=_CHUNK).pack


def pack(fields: list[Any]) -> bytes:
    """One frame."""
    body = _pack(fields)
    return _LENGTH.pack(len(body)) + body


def packets() -> tuple[socket.socket, socket.socket] | None:
    """A pair of sockets for claims, from the first to the second; None where there are none that keep packets apart."""
    try:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    except (AttributeError, OSError) as error:
        if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM):
            raise
        return None
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _ROOM)
    return ours, theirs


# what comes in, one for all: a buffer that is made anew for every message is memory mapped anew
_arrivals = memoryview(bytearray(1 << 19))


def _unpack(body: bytes | bytearray | memoryview) -> list[Any]:
    try:
        fields = msgpack.unpackb(body)
    except Exception as error:
        raise BrokenFrameError(f"no msgpack: {error}") from error
    if not isinstance(fields, list):
        raise BrokenFrameError(f"no list but {type(fields).__name__}")
    return fields


def can_take_back() -> bool:
    """Whether claims that an executor has not begun can be read back here."""
    pair = packets()
    for each in pair or ():
        each.close()
    return pair is not None


class SupervisorEnd:
    """The supervisor's end: never blocks.

    Args:
        sock: the stream.
        claims: both ends of a pair for claims.
    """

    def __init__(self, sock: socket.socket, claims: tuple[socket.socket, socket.socket] | None = None) -> None:
        sock.setblocking(False)
        _widen(sock)
        self.sock = sock
        self._claims: socket.socket | None = None
        self._unread: socket.socket | None = None
        if claims is not None:
            self._claims, self._unread = claims
        if self._claims is not None:
            self._claims.setblocking(False)
        self._broken = False
        self._streamed = ""  # the job of the last claim that went by the stream
        self._in = bytearray()
        self._out = bytearray()

    def fileno(self) -> int:
        """For a selector."""
        return self.sock.fileno()

    @property
    def wants_write(self) -> bool:
        """Whether `flush` is to be called once the socket is writable."""
        return bool(self._out)

    def run(self, claim: list[Any]) -> bool:
        """Send a claim, of which the first field is the job. Returns False when there is no room for it now.

        Raises:
            OSError: the executor is gone.
        """
        body = _pack(claim)
        large = self._claims is None or len(body) > PACKET
        if self._claims is not None:
            try:
                # the mark first: without room for it a claim in the stream would be taken for the next large one
                self._claims.send(_IN_THE_STREAM if large else body)
            except BlockingIOError:
                return False
        if large:
            self._streamed = claim[0]
            self.send(_LENGTH.pack(len(body)), body)
        return True

    def take_back(self) -> list[str]:
        """The jobs of the claims that the executor has not read and now never will.

        One that went by the stream has nothing behind it, and is read back only when the executor ends.
        """
        found: list[str] = []
        if self._unread is None:
            return found
        while True:
            try:
                body = self._unread.recv(PACKET, socket.MSG_DONTWAIT)
            except OSError:
                return found
            if not body:
                return found
            found.append(self._streamed if body == _IN_THE_STREAM else str(_unpack(body)[0]))

    def send(self, *parts: bytes) -> None:
        """Send a packed frame, or keep what the socket does not take now.

        Raises:
            OSError: the executor is gone.
        """
        sent = 0
        if not self._out:
            with contextlib.suppress(BlockingIOError):
                sent = self.sock.sendmsg(parts)
        for part in parts:
            if sent < len(part):
                self._out += memoryview(part)[sent:]
            sent = max(0, sent - len(part))

    def flush(self) -> None:
        """Go on with what `send` kept; OSError when the executor is gone."""
        try:
            sent = self.sock.send(self._out)
        except BlockingIOError:
            return
        del self._out[:sent]

    def receive(self) -> tuple[list[list[Any]], bool]:
        """The frames that are complete by now, and whether the stream has ended.

        Raises:
            BrokenFrameError: what came in is no frame.
        """
        frames: list[list[Any]] = []
        while not self._broken:
            try:
                size = self.sock.recv_into(_arrivals)
            except BlockingIOError:
                return frames, False
            except ConnectionError:
                return frames, True
            if not size:
                return frames, True
            try:
                self._take(_arrivals[:size], frames)
            except BrokenFrameError:
                self._broken = True
                raise
            if size < len(_arrivals):
                return frames, False
        return frames, False

    def _take(self, data: memoryview, frames: list[list[Any]]) -> None:
        if self._in:
            self._in += data
            with memoryview(self._in) as view:
                used = _cut(view, frames)
            del self._in[:used]
        elif (used := _cut(data, frames)) < len(data):
            self._in += data[used:]

    def close(self) -> None:
        """Close; the executor reads the end of what it listens to and exits when it is done."""
        self.sock.close()
        if self._claims is not None and self._unread is not None:
            self._claims.close()
            self._unread.close()


def _widen(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _LARGE)


def _cut(data: memoryview, frames: list[list[Any]]) -> int:
    """Add the frames that are complete; returns how many bytes they were."""
    start, size = 0, len(data)
    while size - start >= 4:
        (length,) = _LENGTH.unpack_from(data, start)
        if length > MAX_FRAME:
            raise BrokenFrameError(f"a frame of {length:,} bytes")
        end = start + 4 + length
        if end > size:
            break
        with data[start + 4 : end] as body:
            frames.append(_unpack(body))
        start = end
    return start


class ExecutorEnd:
    """The executor's end: blocks.

    Args:
        sock: the stream.
        claims: its end of the pair for claims.
    """

    def __init__(self, sock: socket.socket, claims: socket.socket | None = None) -> None:
        sock.setblocking(True)
        _widen(sock)
        self.sock, self._claims = sock, claims
        self._reader: IOBase | None = None
        self._packet = memoryview(bytearray(PACKET))
        if claims is not None:
            claims.setblocking(True)

    def move(self, move: Callable[[socket.socket], socket.socket]) -> None:
        """Have `move` replace the sockets, before anything was received."""
        self.sock = move(self.sock)
        self._claims = self._claims and move(self._claims)

    def receive(self) -> list[Any] | None:
        """The next claim; None when the supervisor has closed its end, or is dead."""
        if self._claims is None:
            return self._read_frame()
        try:
            size = self._claims.recv_into(self._packet)
        except ConnectionError:
            return None
        if not size:
            return None
        packet = self._packet[:size]
        return self._read_frame() if packet == _IN_THE_STREAM else _unpack(packet)

    def _read_frame(self) -> list[Any] | None:
        reader = self._reader = self._reader or self.sock.makefile("rb", buffering=_CHUNK)
        try:
            head = reader.read(4)
            if len(head) < 4:
                return None
            (length,) = _LENGTH.unpack(head)
            body = reader.read(length)
        except ConnectionError:
            return None
        return None if len(body) < length else _unpack(body)

    def send(self, fields: list[Any]) -> None:
        """Send a report; OSError when the supervisor is gone."""
        body = _pack(fields)
        head = _LENGTH.pack(len(body))
        if len(body) <= _CHUNK:
            self.sock.sendall(head + body)
        else:
            sent = self.sock.sendmsg((head, body))
            self.sock.sendall(head[sent:])  # as a rule both are sent
            self.sock.sendall(memoryview(body)[max(0, sent - len(head)) :])

    def abandon(self) -> None:
        """Close in a forked child, whatever other threads were doing, so that it cannot be taken for the executor."""
        for sock in (self.sock, self._claims):
            if sock is not None and (descriptor := sock.detach()) >= 0:
                os.close(descriptor)

    def close(self) -> None:
        """Close."""
        if self._reader is not None:
            self._reader.close()
        self.sock.close()
        if self._claims is not None:
            self._claims.close()
