"""Clients whose calls of server functions cost little; redis-py's own way takes longer than the server does.

Connections are made, greeted, read and repeated by redis-py. What is left out is what it does around each command:
taking the connection out of the pool, looking whether the server has closed it, measuring, putting it back.
"""

from __future__ import annotations

import os
import time
from typing import Any

import hiredis
import redis
from redis.exceptions import DataError, ResponseError

#: seconds for which a connection is taken to be open still; one that was closed later is replaced without an error
FRESH = 0.2


class Direct(redis.Redis):
    """What such clients share; they say how a call is made and how connections go back into the pool."""

    #: functions, and what redis-py would hand on as it comes
    plain: frozenset[str] = frozenset({"FCALL", "FCALL_RO", "HGET"})

    def call(self, packed: tuple[bytes]) -> Any:
        """Send this, and return the answer."""
        raise NotImplementedError

    def spare(self) -> None:
        """Put idle connections back into the pool, for who is about to take one there: it may be limited."""
        raise NotImplementedError

    def execute_command(self, *args: Any, **options: Any) -> Any:
        """One command and its answer."""
        if args[0] not in self.plain or options:
            self.spare()
            return super().execute_command(*args, **options)  # type: ignore[no-untyped-call]
        return self.call(self.packed(args))

    @staticmethod
    def packed(args: tuple[Any, ...]) -> tuple[bytes]:
        """A command as it is sent."""
        try:
            return (hiredis.pack_command(args),)
        except TypeError as error:
            raise DataError(*error.args) from error

    def pipeline(self, *args: Any, **kwargs: Any) -> Any:
        """As redis-py has it, on the same connections."""
        self.spare()
        return super().pipeline(*args, **kwargs)

    def close(self) -> None:
        """Close all connections."""
        self.spare()
        super().close()


class LeanRedis(Direct):
    """For any number of threads: connections stay out of the pool from one call of a function to the next."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """See redis-py."""
        self._idle: list[tuple[float, Any]] = []  # connections, and when each was last used; append and pop are atomic
        super().__init__(*args, **kwargs)

    def call(self, packed: tuple[bytes]) -> Any:
        """Send this, and return the answer; repeated as redis-py would."""
        line = self._take()

        def exchange() -> Any:
            line.send_packed_command(packed)
            return line.read_response()

        try:
            answer = line.retry.call_with_retry(exchange, lambda _: line.disconnect())
        except ResponseError:
            self._idle.append((time.monotonic(), line))
            raise
        except BaseException:
            line.disconnect()  # or its answer would be taken for that of the next call
            self.connection_pool.release(line)
            raise
        self._idle.append((time.monotonic(), line))
        return answer

    def spare(self) -> None:
        """Put idle connections back into the pool."""
        while (kept := self._pop()) is not None:
            self.connection_pool.release(kept[1])

    def _take(self) -> Any:
        kept = self._pop()
        if kept is not None:
            used_at, line = kept
            if line.pid == os.getpid() and time.monotonic() - used_at < FRESH:
                return line
            self.connection_pool.release(line)  # which drops one that was inherited by a fork
            self.spare()
        return self.connection_pool.get_connection()

    def _pop(self) -> tuple[float, Any] | None:
        try:
            return self._idle.pop()
        except IndexError:  # none is idle
            return None
