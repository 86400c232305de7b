"""Waiting for runs to end: look and listen at once, then only listen; no polling, and no end is ever missed."""

from __future__ import annotations

import math
import random
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from tm.errors import UnavailableError
from tm.states import FINAL_RUN_STATES, RunState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from tm.store.line import Line, Seen
    from tm.store.store import Store

#: seconds; a message can be lost (a fail-over, a full buffer), so waiters look again this often
LOOK_AGAIN = 5.0
#: seconds a waiter keeps trying to reach a server that went away
PATIENCE = 60.0
#: runs that are waited for together when only the end of all matters
LOT = 500
#: so many of them are listened to
FEW = 16


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


class Waiting:
    """Sees runs end, through one connection: one round trip looks at hundreds of them and begins to listen.

    Messages can be lost (a fail-over, a full buffer), so whoever is still open is looked at again every `LOOK_AGAIN`
    seconds. An outage of less than `PATIENCE` seconds is waited out, unless the server was not there at first.

    Args:
        store: of the server.
        where: the server, for error messages.
        forgotten: the state of a run that the server does not hold; None when nobody knows it.
        spare: lines that rest; one is taken from there, and put back by `close`.
        timeout: seconds for all that is waited for together.
    """

    def __init__(
        self,
        store: Store,
        where: str,
        forgotten: Callable[[str], RunState | None],
        spare: list[Line],
        timeout: float | None = None,
    ) -> None:
        self._store, self._where, self._forgotten = store, where, forgotten
        self._spare, self._timeout = spare, timeout
        self._until = math.inf if timeout is None else time.monotonic() + timeout
        self._reached = -math.inf
        self._line: Line | None = None

    def ended(self, runs: Iterable[str]) -> Iterator[Seen]:
        """Each run as soon as it has ended, and one that nobody knows at once. Results are not fetched.

        Raises:
            TimeoutError: not all of them ended in time.
            UnavailableError: the server was not there at first, or was away for longer than `PATIENCE` seconds.
        """
        for over in self._ended([*dict.fromkeys(runs)]):
            yield from over

    def all_ended(self, runs: Iterable[str], *, results: bool) -> Iterator[list[Seen]]:
        """The same in the order of the runs, lot by lot; within a lot as they are seen to have ended.

        A few that are picked at random stand for their lot: when the last of them has ended, so have nearly all, and
        the others need no announcement. Raises as `ended` does.
        """
        distinct = [*dict.fromkeys(runs)]
        for first in range(0, len(distinct), LOT):
            lot, later = distinct[first : first + LOT], distinct[first + LOT :]
            yield from self._ended(lot, few=FEW, results=results, later=later)

    def close(self) -> None:
        """Give the line back."""
        line, self._line = self._line, None
        if line is None:
            return
        if not self._spare:
            with suppress(UnavailableError), reaching(self._where):
                line.rest()
                self._spare.append(line)
                return
        line.close()

    def _ended(
        self, runs: Sequence[str], *, few: int | None = None, results: bool = False, later: Sequence[str] = ()
    ) -> Iterator[list[Seen]]:
        left = dict.fromkeys(runs)
        unseen, watched = [*left], _some(left, few)
        while left:
            over: list[Seen] = []
            seen, heard = self._turn(unseen, watched, results=results)
            if heard is not None and heard.run in watched:
                watched.discard(heard.run)
                over = [] if results else [heard]  # the result takes another look
            elif seen:
                over = [each for each in seen if self._is_over(each)]
                unseen = unseen[len(seen) :]
            for each in over:
                del left[each.run]
                watched.discard(each.run)
            if over:
                yield over
            if not (seen or heard) or not (unseen or watched):
                # nothing was said for a while, or the server was away, or all that stood for the others have ended
                unseen, watched = [*left], _some(left, few)
            if left and time.monotonic() >= self._until:
                yield from self._last_look([*left, *later], results=results)
                return

    def _last_look(self, runs: Sequence[str], *, results: bool) -> Iterator[list[Seen]]:
        """The time is up: what has ended by now, and then a TimeoutError if that is not all."""
        still_open: list[str] = []
        while runs:
            seen, _ = self._turn(runs, (), results=results)
            if not seen:  # away
                still_open += runs
                break
            over = [each for each in seen if self._is_over(each)]
            still_open += {each.run: None for each in seen}.keys() - {each.run for each in over}
            if over:
                yield over
            runs = runs[len(seen) :]
        if still_open:
            them = f"run {still_open[0]} is" if len(still_open) == 1 else f"{len(still_open)} runs are"
            raise TimeoutError(f"{them} still open after {round(self._timeout or 0, 3):g} s")

    def _turn(self, unseen: Sequence[str], watched: Iterable[str], *, results: bool) -> tuple[list[Seen], Seen | None]:
        """Look at the first of the unseen, or listen when there are none; nothing of either when the server is away."""
        import redis.exceptions

        line, self._line = self._line, None  # after any error it is of no use
        try:
            with reaching(self._where):
                try:
                    line = line or self._new_line()
                    seen = line.look(unseen, listen=watched, results=results) if unseen else []
                    heard = None if unseen else line.heard(self._rest())
                except redis.exceptions.ResponseError as error:
                    if "unction not found" not in str(error):
                        raise
                    self._store.load()
                    seen, heard = [], None
                else:
                    self._line, line = line, None
        except UnavailableError:
            if time.monotonic() - self._reached > PATIENCE:
                raise
            time.sleep(max(0.0, min(self._rest(), random.uniform(0.1, 0.5))))  # noqa: S311 - spreads the clients
            return [], None
        finally:
            if line is not None:
                line.close()
        self._reached = time.monotonic()
        return seen, heard

    def _new_line(self) -> Line:
        while self._spare:
            line = self._spare.pop()
            if line.wake():
                return line
            line.close()
        return self._store.line()

    def _is_over(self, seen: Seen) -> bool:
        if seen.state is not None:
            return seen.state in FINAL_RUN_STATES
        state = self._forgotten(seen.run)
        return state is None or state in FINAL_RUN_STATES

    def _rest(self) -> float:
        return max(0.0, min(LOOK_AGAIN, self._until - time.monotonic()))


def _some(runs: Iterable[str], most: int | None) -> set[str]:
    known = [*runs]
    return set(known) if most is None or len(known) <= most else set(random.sample(known, most))
