"""The doorbell: a blocking pop on the queues that is waited for together with everything else.

The pop is sent on a connection of its own; the selector says when its reply is there. A bell may get lost on the way
here, and that costs seconds at most: the leader rings again for what stays queued.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

from redis.exceptions import ConnectionError  # noqa: A004 - redis-py's own, not the built-in one

if TYPE_CHECKING:
    from collections.abc import Sequence

    from redis import Redis

#: seconds the server holds a pop; a reply that is later than that plus a margin will not come any more
HOLD, MARGIN = 5, 5.0


class Bell:
    """One blocking pop at a time on the lists of these queues, which are RQ's; `keys` has one for each."""

    def __init__(self, client: Redis, queues: Sequence[str], keys: Sequence[str]) -> None:
        self._connection: Any = client.connection_pool.make_connection()
        self._keys = dict(zip(queues, keys, strict=True))
        self._client = client
        self._id = 0
        self.armed = False
        self.without: frozenset[str] = frozenset()  #: queues that were left out the last time
        self._overdue_at = 0.0

    def arm(self, now: float, without: frozenset[str] = frozenset()) -> None:
        """Send the pop, on all but these queues; redis.exceptions.* when the server is away."""
        self.without = without
        try:
            self._send()
        except ConnectionError:  # the server closed it since the last time
            self._connection.disconnect()
            self._send()
        self.armed = True
        self._overdue_at = now + HOLD + MARGIN

    def _send(self) -> None:
        if self._connection._sock is None:  # noqa: SLF001 - see `sock`
            self._connection.connect()
            self._connection.send_command("CLIENT", "ID")
            self._id = self._connection.read_response()
        self._connection.send_command(
            "BLPOP", *(key for queue, key in self._keys.items() if queue not in self.without), HOLD
        )

    @property
    def sock(self) -> socket.socket:
        """For a selector, while armed."""
        found = self._connection._sock  # noqa: SLF001 - redis-py has no public way to wait for several connections
        assert isinstance(found, socket.socket)  # noqa: S101 - connected by `arm`
        return found

    def overdue_at(self) -> float | None:
        """When to give up waiting for a reply."""
        return self._overdue_at if self.armed else None

    def answer(self) -> str | None:
        """The reply that has arrived: a job id, or None when nobody rang. redis.exceptions.* when the server left."""
        self.armed = False
        reply = self._connection.read_response()
        return None if reply is None else reply[1].decode("utf-8", "replace")  # anybody may push anything

    def disarm(self) -> str | None:
        """Call the pop off. Returns the job it has got nevertheless; redis.exceptions.* when the server is away."""
        self._client.client_unblock(self._id)
        return self.answer()

    def drop(self) -> None:
        """Close the connection."""
        self.armed = False
        self._connection.disconnect()
