"""Chunks of lines on their way to the server: a few calls a second, and nothing ever waits for them.

While the server is away they are kept, within bounds; beyond them the oldest go, and whoever reads sees by the numbers
that some are missing. A call that was not answered is repeated: the server may then hold a chunk twice, readers and
history know it by its name.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import redis.exceptions

from tm.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from tm.loglines import Chunk

log = get_logger("worker")

#: seconds between two calls
EVERY = 0.05
#: bytes in one call, and in the calls of one turn
CALL, TURN = 1 << 20, 4 << 20
#: bytes that wait at most
KEPT = 16 << 20
#: seconds to wait after the server has refused
REFUSED_PAUSE = 5.0
#: a chunk counts at least so much
_COST = 256


class Outgoing:
    """Sends chunks when it may.

    Args:
        send: one call.
        may_send: whether the server answers, as far as is known.
        away: told when it does not.
    """

    def __init__(
        self,
        send: Callable[[Sequence[Chunk]], object],
        may_send: Callable[[], bool],
        away: Callable[[Exception, float], None],
    ) -> None:
        self._send, self._may_send, self._away = send, may_send, away
        self._waiting: deque[Chunk] = deque()
        self._size = 0
        self._next = 0.0
        self._complained = False
        self.lost = 0  #: chunks that were given up

    def put(self, chunks: Iterable[Chunk]) -> None:
        """Have these sent."""
        for chunk in chunks:
            self._waiting.append(chunk)
            self._size += len(chunk.packed) + _COST
        while self._size > KEPT:
            self._drop()

    @property
    def waiting(self) -> bool:
        """Whether there is something to send."""
        return bool(self._waiting)

    def due(self, now: float) -> bool:
        """Whether a call may be made."""
        return now >= self._next and self._may_send()

    def next_time(self, *, more: bool) -> float | None:
        """When `turn` has something to do; `more`: there will be more to send by then."""
        return self._next if (more or self._waiting) and self._may_send() else None

    def turn(self, now: float, *, hurry: bool = False) -> None:
        """Send what waits; in a hurry at once, for a report follows."""
        if not self._waiting or not self._may_send() or now < self._next - (EVERY if hurry else 0.0):
            return
        self._next = now + EVERY
        sent = 0
        while self._waiting and sent < TURN:
            batch, size = self._batch()
            try:
                self._send(batch)
            except redis.exceptions.OutOfMemoryError as error:
                self._refused(error, now)
                for _ in batch:
                    self._drop()
                return
            except redis.exceptions.ResponseError as error:
                self._refused(error, now)
                return
            except (redis.exceptions.RedisError, OSError) as error:
                self._away(error, now)
                return
            for _ in batch:
                self._waiting.popleft()
            self._size -= size
            sent += size
            self._complained = False

    def _batch(self) -> tuple[list[Chunk], int]:
        batch: list[Chunk] = []
        size = 0
        for chunk in self._waiting:
            batch.append(chunk)
            size += len(chunk.packed) + _COST
            if size >= CALL:
                break
        return batch, size

    def _drop(self) -> None:
        self._size -= len(self._waiting.popleft().packed) + _COST
        self.lost += 1

    def _refused(self, error: Exception, now: float) -> None:
        """The server is there, but takes no lines: results go on."""
        self._next = now + REFUSED_PAUSE
        if not self._complained:
            log.warning("the server takes no log lines; results go on", reason=error)
            self._complained = True
