"""The outbox of log lines on the server: workers put chunks in, followers read them, the archiver takes them out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgpack

from tm.loglines import Chunk
from tm.store.events import stream_entries
from tm.store.functions import default_library

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tm.store.store import Store

#: bytes of chunks that wait for history; the oldest go first
LIMIT = 64 << 20
#: chunks that one call forgets
_AT_ONCE = 200


class LogStream:
    """The lines of all attempts, in the order in which they came in.

    Errors of the server surface as `redis.exceptions.*`.
    """

    def __init__(self, store: Store, *, limit: int = LIMIT) -> None:
        self._redis: Any = store.client
        self._keys, self._limit = store.keys, limit
        self._key = store.keys.logs

    def _call(self, name: str, *args: Any) -> int:
        return int(default_library().call(self._redis, name, self._keys.prefix, *args))

    def add(self, chunks: Sequence[Chunk]) -> int:
        """Put chunks in; one round trip. Returns how many old ones had to go for them."""
        args: list[Any] = [self._limit]
        for chunk in chunks:
            args += (chunk.run, _pack(chunk))
        return self._call("log", *args)

    def end(self) -> str:
        """The id of the last chunk there ever was."""
        if not self._redis.exists(self._key):
            return "0-0"
        return _text(self._redis.xinfo_stream(self._key)["last-generated-id"])

    def of_run(self, run: str, upto: str = "+") -> list[tuple[str, Chunk]]:
        """The chunks of a run that are still here, oldest first."""
        wanted = run.encode()
        found: list[tuple[str, Chunk]] = []
        after = "-"
        while entries := self._redis.xrange(self._key, after, upto, count=500):
            found += [
                (_text(entry), chunk)
                for entry, fields in entries
                if fields.get(b"r") == wanted and (chunk := _unpack(fields.get(b"d", b""))) is not None
            ]
            after = f"({_text(entries[-1][0])}"
        return found

    def read(self, after: str, count: int = 200, block_ms: int | None = None) -> list[tuple[str, Chunk | None]]:
        """The next chunks of all runs; None for one that cannot be read. Waits up to `block_ms` for the first."""
        reply = self._redis.xread({self._key: after}, count=count, block=block_ms)
        return [(_text(entry), _unpack(fields.get(b"d", b""))) for entry, fields in stream_entries(reply)]

    def filed(self, upto: str) -> None:
        """Forget chunks up to and with this one."""
        while self._call("logs_filed", upto, _AT_ONCE) == _AT_ONCE:
            pass


def _pack(chunk: Chunk) -> bytes:
    packed: bytes = msgpack.packb(
        (
            chunk.run,
            chunk.graph,
            chunk.task,
            chunk.attempt,
            chunk.token,
            chunk.number,
            chunk.last,
            chunk.first_us,
            chunk.packed,
        )
    )
    return packed


def _unpack(packed: bytes) -> Chunk | None:
    try:
        run, graph, task, attempt, token, number, last, first_us, lines = msgpack.unpackb(packed)
        return Chunk(
            run=str(run),
            graph=str(graph),
            task=str(task),
            attempt=int(attempt),
            token=str(token),
            number=int(number),
            last=bool(last),
            first_us=int(first_us),
            packed=bytes(lines),
        )
    except Exception:  # noqa: BLE001 - bytes from outside can be wrong in any way
        return None


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
