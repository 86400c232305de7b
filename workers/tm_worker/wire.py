"""A client for the main loop of a worker: functions are called on one connection that stays at hand (see `lean`)."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from redis.exceptions import ResponseError

from tm.store.lean import FRESH, Direct

if TYPE_CHECKING:
    from collections.abc import Callable


class Wire(Direct):
    """For one thread: its connection stays out of the pool from one call of a function to the next."""

    plain = frozenset({"FCALL"})

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """See redis-py; what is said of retries there does not hold for functions, which are called once."""
        self.meanwhile: Callable[[], None] | None = None  #: what to do when a call is sent, before its answer is read
        self._line: Any = None
        self._used_at = 0.0
        super().__init__(*args, **kwargs)

    def call(self, packed: tuple[bytes]) -> Any:
        """Send this, do what is to be done meanwhile, and return the answer."""
        line = self._line
        if line is None or time.monotonic() - self._used_at > FRESH:
            self.spare()
            line = self._line = self.connection_pool.get_connection()
        try:
            line.send_packed_command(packed)
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

    def spare(self) -> None:
        """Put the connection back into the pool."""
        if self._line is not None:
            line, self._line = self._line, None
            self.connection_pool.release(line)
