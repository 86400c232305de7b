"""Waiting for runs to end: subscribe first, then look, then listen; no polling, and no end is ever missed."""

from __future__ import annotations

import math
import random
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tm.errors import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from tm.states import RunState
    from tm.store.store import Store

#: seconds; a message can be lost (a fail-over, a full buffer), so waiters look again this often
LOOK_AGAIN = 5.0
#: seconds a waiter keeps trying to reach a server that went away
PATIENCE = 60.0


@contextmanager
def reaching(where: str) -> Iterator[None]:
    """Turn errors of the connection to the server at `where` (a redacted URL) into one plain sentence."""
    import redis

    try:
        yield
    except redis.exceptions.AuthenticationError as error:
        raise UnavailableError(f"the server at {where} refused the password or user in TM_URL") from error
    except (redis.exceptions.ConnectionError, redis.exceptions.TimeoutError) as error:
        raise UnavailableError(f"cannot reach the server at {where}: {_reason(error)}; is it running?") from error
    except redis.exceptions.RedisError as error:
        raise UnavailableError(f"the server at {where} refused: {error}") from error


def _reason(error: BaseException) -> str:
    cause = error
    while cause.__cause__ or cause.__context__:
        cause = cause.__cause__ or cause.__context__ or cause
    if isinstance(cause, TimeoutError):
        return "no answer in time"
    if isinstance(cause, OSError) and cause.strerror:
        return cause.strerror[:1].lower() + cause.strerror[1:]
    return str(error)


def ended(
    store: Store,
    where: str,
    runs: Iterable[str],
    state_of: Callable[[str], RunState | None],
    timeout: float | None = None,
) -> Iterator[tuple[str, RunState]]:
    """Each run with its final state as soon as it has one, in the order they end; all through one connection.

    Args:
        store: whose server announces the ends.
        where: the server, for error messages.
        runs: ids.
        state_of: looks a run up; None while it is open.
        timeout: seconds for all of them together.

    Raises:
        TimeoutError: not all of them ended in time.
        UnavailableError: the server was not there at first, or was away for longer than `PATIENCE` seconds.
    """
    left = {store.ended_channel(run).encode(): run for run in runs}
    until = None if timeout is None else time.monotonic() + timeout
    listener: _Listener | None = None
    reached = -math.inf
    try:
        while left:
            try:
                with reaching(where):
                    if listener is None:
                        listener, heard = _Listener(store, list(left)), None
                    else:
                        heard = listener.next(_rest(until))
                    for channel in list(left) if heard is None else [heard] if heard in left else []:
                        if (state := state_of(left[channel])) is not None:
                            yield left.pop(channel), state
                reached = time.monotonic()
            except UnavailableError:
                if time.monotonic() - reached > PATIENCE:
                    raise
                if listener is not None:
                    listener.close()
                    listener = None
                time.sleep(min(_rest(until), random.uniform(0.1, 0.5)))  # noqa: S311 - spreads the clients
            if left and until is not None and time.monotonic() >= until:
                names = sorted(left.values())
                them = f"run {names[0]} is" if len(names) == 1 else f"{len(names)} runs are"
                raise TimeoutError(f"{them} still open after {round(timeout or 0, 3):g} s")
    finally:
        if listener is not None:
            listener.close()


def _rest(until: float | None) -> float:
    return LOOK_AGAIN if until is None else max(0.0, min(LOOK_AGAIN, until - time.monotonic()))


class _Listener:
    """One connection that is subscribed to the ends of runs."""

    def __init__(self, store: Store, channels: list[bytes]) -> None:
        self._pubsub: Any = store.client.pubsub()
        try:
            for start in range(0, len(channels), 1000):
                batch = channels[start : start + 1000]
                self._pubsub.subscribe(*batch)
                # confirmed, or a look on another connection could overtake the subscription
                for _ in batch:
                    self._pubsub.get_message(timeout=LOOK_AGAIN)
        except BaseException:
            self.close()
            raise

    def next(self, timeout: float) -> bytes | None:
        """The channel of a run that ended; None after `timeout` seconds."""
        until = time.monotonic() + timeout
        while True:
            message = self._pubsub.get_message(timeout=max(0.0, until - time.monotonic()))
            if message is not None and message["type"] == "message":
                channel: bytes = message["channel"]
                return channel
            if time.monotonic() >= until:
                return None

    def close(self) -> None:
        """Give the connection back."""
        self._pubsub.close()
