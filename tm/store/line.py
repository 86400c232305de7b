"""One connection that looks at runs and hears of their ends, in whatever order that takes the fewest round trips."""

from __future__ import annotations

import os
import time
from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple

import hiredis
import redis.exceptions

from tm.states import RunState
from tm.store.lean import LeanRedis

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from redis import Redis

    from tm.store.functions import Library
    from tm.store.keys import Keys

_ANNOUNCED = frozenset({b"message", b"subscribe", b"unsubscribe"})
#: runs per call: 3 to 4 ms of the server's time, at 6 to 8 us for each with its result
RUNS_PER_LOOK = 500
#: bytes of results after which a call leaves the rest to the next
BYTES_PER_LOOK = 1 << 20
#: so many runs a line that rests may still be told of: each ends once
FEW_LEFT = 16


class Seen(NamedTuple):
    """What a look has found."""

    run: str
    state: RunState | None  #: None when the server does not hold the run
    result: bytes | None = None  #: the message of its last task; only of a run that has succeeded


def seen_of(runs: Sequence[str], found: Sequence[bytes | None]) -> list[Seen]:
    """What the function `look` has answered for these runs, or the first of them."""
    return [
        Seen(run, None if state is None else RunState(state.decode()), result)
        for run, state, result in zip(runs, found[::2], found[1::2], strict=False)
    ]


class Line:
    """A connection of its own, on which commands and announcements go side by side (RESP3).

    Not for several threads at once. After any error it is good for nothing but `close`.
    """

    def __init__(self, client: Redis, library: Library, keys: Keys) -> None:
        self._library, self._keys = library, keys
        self._skip = len(keys.ended(""))
        self._pool: Any = client.connection_pool
        if isinstance(client, LeanRedis):
            client.spare()
        self._connection: Any = self._pool.get_connection()
        self._pooled = int(self._connection.protocol) == 3
        if not self._pooled:  # announcements would shut out all other commands
            self._pool.release(self._connection)
            self._connection = self._pool.connection_class(**{**self._pool.connection_kwargs, "protocol": 3})
        self._process = os.getpid()
        self._heard: deque[Seen] = deque()
        self._listening: set[str] = set()  # runs whose ends are heard
        self._had_enough = False  # the server still tells of runs nobody waits for any more

    def look(self, runs: Sequence[str], *, listen: Iterable[str] = (), results: bool = False) -> list[Seen]:
        """The first of these runs as they are, as many as a call gives; the ends of `listen` are heard from before it.

        Nothing happens unnoticed between the two: the server takes both in order, in one round trip.
        """
        new = [run for run in listen if run not in self._listening]
        self._listening.update(new)
        commands: list[tuple[Any, ...]] = [("UNSUBSCRIBE",)] if self._had_enough else []
        self._had_enough = False
        commands += [
            ("SUBSCRIBE", *map(self._keys.ended, new[first : first + RUNS_PER_LOOK]))
            for first in range(0, len(new), RUNS_PER_LOOK)
        ]
        asked = runs[:RUNS_PER_LOOK]
        most = BYTES_PER_LOOK if results else -1
        found = self._ask([*commands, self._library.reading("look", self._keys.prefix, most, *asked)])
        return seen_of(asked, found)

    def heard(self, timeout: float) -> Seen | None:
        """A run that has ended, without its result; None after `timeout` seconds without one."""
        until = time.monotonic() + timeout
        while not self._heard:
            if not self._connection.can_read(max(0.0, until - time.monotonic())):
                return None
            self._overheard(self._connection.read_response(push_request=True))
        return self._heard.popleft()

    def rest(self) -> None:
        """Hear of nothing any more, until the next use.

        Of a few runs the server is told with the next look, which saves it and us from one more packet.
        """
        if len(self._listening) > FEW_LEFT:
            self._send([("UNSUBSCRIBE",)])
        elif self._listening:
            self._had_enough = True
        self._listening.clear()

    def wake(self) -> bool:
        """Whether a line that has rested is as good as new: this process made it, and the connection lives."""
        if self._process != os.getpid():
            return False
        try:
            while self._connection.can_read(0):  # what was said while nobody listened; or the server's farewell
                self._overheard(self._connection.read_response(push_request=True))
            self._connection.check_health()
        except (redis.exceptions.RedisError, OSError):
            return False
        self._heard.clear()
        return True

    def close(self) -> None:
        """End the connection."""
        self._connection.disconnect()
        if self._pooled and self._process == os.getpid():
            self._pool.release(self._connection)

    def _ask(self, commands: Sequence[tuple[Any, ...]]) -> Any:
        """The reply to the last of these commands; the others are answered by announcements."""
        self._send(commands)
        while self._overheard(reply := self._connection.read_response(push_request=True)):
            pass
        return reply

    def _send(self, commands: Sequence[tuple[Any, ...]]) -> None:
        packed = b"".join(map(hiredis.pack_command, commands))  # as redis-py does it, in a quarter of the time
        self._connection.send_packed_command((packed,), check_health=False)

    def _overheard(self, reply: Any) -> bool:
        """Whether this was an announcement, which is kept if it is of the end of a run, and no reply."""
        if not reply or reply[0] not in _ANNOUNCED:
            return False
        if reply[0] == b"message" and (run := reply[1].decode()[self._skip :]) in self._listening:
            self._heard.append(Seen(run, RunState(reply[2].decode())))
        return True
