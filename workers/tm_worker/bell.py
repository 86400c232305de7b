"""What an idle worker hears: the doorbell, a blocking pop on the queues, and what is handed over to it.

Both come on a connection of their own; the selector says when there is something to read. A worker whose queues were
empty at its last ask is given what comes next by the call that queues it (`_handing.lua`). The bell is rung for all
else. It may get lost on the way here, and that costs seconds at most: the leader rings again for what stays queued.
"""

from __future__ import annotations

import contextlib
import secrets
from typing import TYPE_CHECKING, Any

import redis.exceptions

if TYPE_CHECKING:
    import socket
    from collections.abc import Sequence

    from redis import Redis

    from tm.store.keys import Keys

#: seconds the server holds a pop; a reply that is later than that plus a margin will not come any more
HOLD, MARGIN = 5, 5.0


class Bell:
    """One blocking pop at a time on the lists of these queues, which are RQ's, and the messages of one channel."""

    def __init__(self, client: Redis, keys: Keys, queues: Sequence[str]) -> None:
        pool: Any = client.connection_pool
        # RESP3: with RESP2 a connection that listens to a channel can do nothing else
        self._connection: Any = pool.connection_class(**{**pool.connection_kwargs, "protocol": 3})
        self._keys, self._lists = keys, {queue: keys.bell(queue) for queue in queues}
        self._client = client
        self._id = 0
        self.ear = ""  #: names the channel we listen to; a new one for each connection, empty while there is none
        self.armed = False
        self.without: frozenset[str] = frozenset()  #: queues that were left out the last time
        self._overdue_at = 0.0
        self._handed: list[bytes] = []

    def connect(self) -> None:
        """Connect if need be; redis.exceptions.* when the server is away."""
        if self.ear:
            return
        self._connection.connect()
        parser = self._connection._parser  # noqa: SLF001 - redis-py has no public way
        parser.set_pubsub_push_handler(_as_it_is)  # its own turns each message into text, for a log
        self._connection.send_command("CLIENT", "ID")
        self._id = self._connection.read_response()
        ear = secrets.token_hex(8)
        self._connection.send_command("SUBSCRIBE", self._keys.hand(ear))
        self._connection.read_response(push_request=True)
        self.ear = ear

    def arm(self, now: float, without: frozenset[str] = frozenset()) -> None:
        """Send the pop, on all but these queues; redis.exceptions.* when the server is away."""
        self.without = without
        lists = (key for queue, key in self._lists.items() if queue not in without)
        self._send("BLPOP", *lists, HOLD)
        self.armed = True
        self._overdue_at = now + HOLD + MARGIN

    @property
    def sock(self) -> socket.socket:
        """For a selector, while connected."""
        found: socket.socket = self._connection._sock  # noqa: SLF001 - nor for waiting for several connections
        return found

    def overdue_at(self) -> float | None:
        """When to give up waiting for a reply."""
        return self._overdue_at if self.armed else None

    def read(self) -> str | None:
        """Read what has arrived; returns the job the bell rang for, if any. redis.exceptions.* when the server left.

        What was handed over is kept for `handed`.
        """
        job = None
        while True:
            reply = self._connection.read_response(push_request=True)
            if self._is_message(reply):
                self._handed.append(reply[2])
            elif self.armed:
                self.armed = False
                job = None if reply is None else reply[1].decode("utf-8", "replace")  # anybody may push anything
            if not self._connection.can_read(0):
                return job

    def handed(self) -> list[bytes]:
        """The messages that were read."""
        handed, self._handed = self._handed, []
        return handed

    def disarm(self) -> str | None:
        """Call the pop off. Returns the job it has got nevertheless; redis.exceptions.* when the server is away.

        All that was handed over before this has been read afterwards.
        """
        if self.armed:
            self._client.client_unblock(self._id)
        else:
            self._send("PING")
        while self._is_message(reply := self._connection.read_response(push_request=True)):
            self._handed.append(reply[2])
        armed, self.armed = self.armed, False
        job = reply[1].decode("utf-8", "replace") if armed and reply is not None else None
        with contextlib.suppress(redis.exceptions.RedisError, OSError):  # whoever listens next will see it
            if self._connection.can_read(0):  # behind the answer, perhaps where no selector sees it
                self.read()
        return job

    def drop(self) -> None:
        """Close the connection."""
        self.armed, self.ear = False, ""
        self._handed.clear()
        self._connection.disconnect()

    def _send(self, *command: object) -> None:
        # not tried before: what is handed over meanwhile would be taken for a part of the answer, and lost
        self._connection.send_command(*command, check_health=False)

    def _is_message(self, reply: Any) -> bool:
        return bool(reply) and reply[0] == b"message"


def _as_it_is(message: Any) -> Any:
    return message
