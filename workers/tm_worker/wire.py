"""A client whose calls of server functions cost little: redis-py's own way takes longer than a task does.

Connections are made, greeted and read by redis-py. What is left out is what it does around each command: taking the
connection out of the pool, looking whether the server has closed it, measuring, putting it back.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import hiredis
import redis
from redis.exceptions import DataError, ResponseError

if TYPE_CHECKING:
    from collections.abc import Callable

#: seconds for which a connection is taken to be open still; one that was closed later is replaced without an error
FRESH = 0.2


class Wire(redis.Redis):
    """For one thread: its connection stays out of the pool from one call of a function to the next."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """See redis-py; what is said of retries there does not hold for functions, which are called once."""
        self.meanwhile: Callable[[], None] | None = None  #: what to do when a call is sent, before its answer is read
        self._line: Any = None
        self._used_at = 0.0
        super().__init__(*args, **kwargs)

    def execute_command(self, *args: Any, **options: Any) -> Any:
        """One command and its answer."""
        if args[0] != "FCALL" or options:
            self._put_back()
            return super().execute_command(*args, **options)  # type: ignore[no-untyped-call]
        try:
            packed = hiredis.pack_command(args)
        except TypeError as error:
            raise DataError(*error.args) from error
        line = self._line
        if line is None or time.monotonic() - self._used_at > FRESH:
            line = self._take()
        try:
            line.send_packed_command((packed,))
            if self.meanwhile is not None:
                self.meanwhile()
            answer = line.read_response()
        except ResponseError:
            self._used_at = time.monotonic()
            raise
        except BaseException:
            self._line = None
            line.disconnect()  # or its answer would be taken for that of the next call
            self.connection_pool.release(line)
            raise
        self._used_at = time.monotonic()
        return answer

    def pipeline(self, *args: Any, **kwargs: Any) -> Any:
        """As redis-py has it, on the same connection."""
        self._put_back()
        return super().pipeline(*args, **kwargs)

    def close(self) -> None:
        """Close all connections."""
        self._put_back()
        super().close()

    def _take(self) -> Any:
        self._put_back()
        self._line = self.connection_pool.get_connection()
        return self._line

    def _put_back(self) -> None:
        if self._line is not None:
            line, self._line = self._line, None
            self.connection_pool.release(line)
