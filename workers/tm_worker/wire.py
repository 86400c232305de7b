"""A client for the main loop of a worker: functions are called on one connection that stays at hand (see `lean`)."""

from __future__ import annotations

import time
from typing import Any

import redis.exceptions
from redis.exceptions import ResponseError

from tm.store.lean import FRESH, Direct


class Wire(Direct):
    """For one thread: its connection stays out of the pool from one call of a function to the next.

    Calls may be begun while others wait for their answers; the server takes them in this order, and so are the answers
    read. What is called in between has another connection.
    """

    plain = frozenset({"FCALL"})

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """See redis-py; what is said of retries there does not hold for functions, which are called once."""
        self.owed = 0  #: answers of calls that were begun
        self._line: Any = None
        self._used_at = 0.0
        super().__init__(*args, **kwargs)

    def begin(self, *args: Any) -> None:
        """Call a function, and leave its answer to `answer`."""
        self._send(self.packed(args))
        self.owed += 1

    def answer(self) -> Any:
        """The answer to the first of the calls that were begun and not answered."""
        if not self.owed:
            raise redis.exceptions.ConnectionError("the connection is gone, and the answer with it")
        self.owed -= 1
        return self._read()

    def forget(self) -> None:
        """Give up the answers that are owed."""
        if self.owed:
            self._drop()

    def call(self, packed: tuple[bytes]) -> Any:
        """Send this, and return the answer."""
        if self.owed:
            return self._aside(packed)
        self._send(packed)
        return self._read()

    def spare(self) -> None:
        """Put the connection back into the pool."""
        if self._line is not None and not self.owed:
            line, self._line = self._line, None
            self.connection_pool.release(line)

    def _aside(self, packed: tuple[bytes]) -> Any:
        line = self.connection_pool.get_connection()
        try:
            line.send_packed_command(packed)
            return line.read_response()
        except ResponseError:
            raise
        except BaseException:
            line.disconnect()
            raise
        finally:
            self.connection_pool.release(line)

    def _send(self, packed: tuple[bytes]) -> None:
        if self._line is None or (not self.owed and time.monotonic() - self._used_at > FRESH):
            self.spare()
            self._line = self.connection_pool.get_connection()
        try:
            # not tried while answers are owed: the first of them would be taken for that to the PING
            self._line.send_packed_command(packed, check_health=not self.owed)
        except BaseException:
            self._drop()
            raise

    def _read(self) -> Any:
        try:
            answer = self._line.read_response()
        except ResponseError:
            self._used_at = time.monotonic()
            raise
        except BaseException:
            self._drop()  # or its answer would be taken for that of the next call
            raise
        self._used_at = time.monotonic()
        return answer

    def _drop(self) -> None:
        line, self._line, self.owed = self._line, None, 0
        if line is not None:
            line.disconnect()
            self.connection_pool.release(line)
