"""The thread that keeps history up to date, so that nothing else waits for a database.

It works while this process leads, on a connection of its own. A history that is locked, full or away is tried again
for ever; events wait in the server meanwhile.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import redis.exceptions

from tm.errors import TaskmasterError
from tm.events import AttemptEnded
from tm.logs import get_logger
from tm_scheduler.outage import Backoff

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from tm.events import Event
    from tm_scheduler.archive import EventSource

log = get_logger("scheduler")

#: so few events in one pass, and the next one waits a little for more: history is written in larger pieces
FEW, LITTLE = 100, 0.1

#: Files a batch of events and returns how many there were; True: waits a moment for the first of them.
FileSome = Callable[[bool], int]


class Archiving:
    """Files events in a thread of its own.

    Args:
        opened: opens history and connection and gives what files events; called again after every trouble.
    """

    def __init__(self, opened: Callable[[], AbstractContextManager[FileSome]]) -> None:
        self._opened = opened
        self._changed = threading.Condition()
        self._active = self._finishing = self._stopped = False
        self._all_filed = False
        self._trouble = ""
        self._thread = threading.Thread(target=self._run, name="archive", daemon=True)

    def start(self) -> None:
        """Start the thread; it files nothing before `lead(True)`."""
        self._thread.start()

    def lead(self, leading: bool) -> None:
        """Say whether this process is the one that files."""
        with self._changed:
            self._active = leading
            self._changed.notify_all()

    @property
    def trouble(self) -> str:
        """Why history is not written; empty while it is."""
        return self._trouble

    def finish(self, timeout: float) -> bool:
        """File what is there, then stop filing; False when that took longer than `timeout` seconds."""
        with self._changed:
            if not self._active:
                return True
            self._finishing, self._all_filed = True, False
            self._changed.notify_all()
            done = self._changed.wait_for(lambda: self._all_filed, timeout)
            self._finishing = self._active = False
            return done

    def stop(self, timeout: float = 2.0) -> None:
        """End the thread; a batch that is stuck in the database is left to its fate, which is to be filed again."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join(timeout)

    def _run(self) -> None:
        backoff = Backoff()
        while self._our_turn():
            asked = self._finishing
            try:
                with self._opened() as file_some:
                    while self._active and not self._stopped:
                        # only a pass that began after `finish` was called can say that all is filed
                        asked = self._finishing
                        filed = file_some(not asked)
                        self._works()
                        backoff.reset()
                        if filed < FEW:
                            self._rest(LITTLE if filed else 0.0, asked, empty=not filed)
            except (TaskmasterError, redis.exceptions.RedisError, OSError) as error:
                if str(error) != self._trouble:
                    log.warning("history is behind; tried again until it works", error=str(error))
                self._trouble = str(error)
                self._rest(backoff.pause(), asked)
            except Exception as error:
                self._trouble = repr(error)
                log.exception("history is behind, for a reason nobody foresaw; tried again until it works")
                self._rest(backoff.pause(), asked)

    def _works(self) -> None:
        if self._trouble:
            log.info("history is written again")
            self._trouble = ""

    def _our_turn(self) -> bool:
        """Wait until this process leads; False when the thread is to end."""
        with self._changed:
            self._changed.wait_for(lambda: self._active or self._stopped)
            return not self._stopped

    def _rest(self, seconds: float, asked: bool, *, empty: bool = False) -> None:
        with self._changed:
            if empty and asked:
                self._all_filed = True
                self._changed.notify_all()
            if seconds:
                self._changed.wait_for(lambda: self._stopped or self._finishing != asked, seconds)


class RetryWatch:
    """An event source that tells of retries as their events pass, so that nobody has to look for them all the time.

    Args:
        source: the store.
        tell: called whenever events were looked for: with the time (ms) when the first retry among them is due, or
            with None.
        read: told of the events themselves, where somebody counts them.
    """

    def __init__(
        self,
        source: EventSource,
        tell: Callable[[int | None], None],
        read: Callable[[Sequence[tuple[str, Event]]], None] | None = None,
    ) -> None:
        self._source, self._tell, self._read = source, tell, read
        self.instance = source.instance
        self.ack: Callable[[str], None] = source.ack
        self.plan = source.plan

    def events(self, after: str, count: int = 500, block_ms: int | None = None) -> list[tuple[str, Event]]:
        """The same as those of the source."""
        events = self._source.events(after, count, block_ms)
        due = [event.due for _, event in events if isinstance(event, AttemptEnded) and event.due is not None]
        self._tell(min(due, default=None))
        if self._read is not None:
            self._read(events)
        return events
