"""Frames between a supervisor and an executor: a length, then a msgpack list.

Messages inside a frame are bytes and stay so: a supervisor hands them on without looking into them.
"""

from __future__ import annotations

import os
import struct
from typing import TYPE_CHECKING, Any

import msgpack

if TYPE_CHECKING:
    import socket

_LENGTH = struct.Struct("!I")
#: bytes; more than any set of inputs may have, so a larger length means that somebody wrote rubbish
MAX_FRAME = 1 << 30
_CHUNK = 1 << 16


class BrokenFrameError(Exception):
    """The other side sent something that is no frame."""


def pack(fields: list[Any]) -> bytes:
    """One frame."""
    body: bytes = msgpack.packb(fields)
    return _LENGTH.pack(len(body)) + body


def _unpack(body: bytes | bytearray | memoryview) -> list[Any]:
    try:
        fields = msgpack.unpackb(body)
    except Exception as error:
        raise BrokenFrameError(f"no msgpack: {error}") from error
    if not isinstance(fields, list):
        raise BrokenFrameError(f"no list but {type(fields).__name__}")
    return fields


class SupervisorEnd:
    """The supervisor's end: never blocks."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.sock = sock
        self._in = bytearray()
        self._out = bytearray()

    def fileno(self) -> int:
        """For a selector."""
        return self.sock.fileno()

    @property
    def wants_write(self) -> bool:
        """Whether `flush` is to be called once the socket is writable."""
        return bool(self._out)

    def send(self, frame: bytes) -> None:
        """Send one packed frame, or keep what the socket does not take now.

        Raises:
            OSError: the executor is gone.
        """
        if self._out:
            self._out += frame
            return
        try:
            sent = self.sock.send(frame)
        except BlockingIOError:
            sent = 0
        if sent < len(frame):
            self._out += memoryview(frame)[sent:]

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
        while True:
            try:
                data = self.sock.recv(_CHUNK)
            except BlockingIOError:
                return frames, False
            except ConnectionError:
                return frames, True
            if not data:
                return frames, True
            self._in += data
            self._cut(frames)
            if len(data) < _CHUNK:
                return frames, False

    def _cut(self, frames: list[list[Any]]) -> None:
        start, size = 0, len(self._in)
        with memoryview(self._in) as view:
            while size - start >= 4:
                (length,) = _LENGTH.unpack_from(view, start)
                if length > MAX_FRAME:
                    raise BrokenFrameError(f"a frame of {length:,} bytes")
                if size - start - 4 < length:
                    break
                with view[start + 4 : start + 4 + length] as body:
                    frames.append(_unpack(body))
                start += 4 + length
        if start:
            del self._in[:start]

    def close(self) -> None:
        """Close; the executor reads the end of the stream and exits when it is done."""
        self.sock.close()


class ExecutorEnd:
    """The executor's end: blocks."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(True)
        self.sock = sock
        self._reader = sock.makefile("rb", buffering=_CHUNK)

    def receive(self) -> list[Any] | None:
        """The next frame; None when the supervisor has closed its end, or is dead."""
        try:
            head = self._reader.read(4)
            if head is None or len(head) < 4:
                return None
            (length,) = _LENGTH.unpack(head)
            body = self._reader.read(length)
        except ConnectionError:
            return None
        return None if len(body) < length else _unpack(body)

    def send(self, frame: bytes) -> None:
        """Send one packed frame; OSError when the supervisor is gone."""
        self.sock.sendall(frame)

    def abandon(self) -> None:
        """Close in a forked child, whatever other threads were doing, so that it cannot be taken for the executor."""
        if (descriptor := self.sock.detach()) >= 0:
            os.close(descriptor)

    def close(self) -> None:
        """Close."""
        self._reader.close()
        self.sock.close()
