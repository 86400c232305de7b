"""What the leader looks after beside its passes, in a thread of its own: nothing waits for it, nor for its disks.

Each duty has its own period. Trouble of one is logged once and does not keep the others from their turn.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import redis.exceptions

from tm.errors import TaskmasterError
from tm.logs import get_logger
from tm.store.outages import is_outage
from tm_scheduler.outage import Backoff

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

log = get_logger("scheduler")


@dataclass(frozen=True, slots=True)
class Duty:
    """Something to do every so many seconds."""

    name: str
    every: float
    action: Callable[[], object]


class Housekeeping:
    """Does its duties while this process leads.

    Args:
        opened: opens a connection and gives the duties; called again after every outage.
    """

    def __init__(self, opened: Callable[[], AbstractContextManager[Sequence[Duty]]]) -> None:
        self._opened = opened
        self._changed = threading.Condition()
        self._active = self._stopped = False
        self._failing: set[str] = set()
        self._thread = threading.Thread(target=self._run, name="housekeeping", daemon=True)

    def start(self) -> None:
        """Start the thread; it does nothing before `lead(True)`."""
        self._thread.start()

    def lead(self, leading: bool) -> None:
        """Say whether this process is the one that does it."""
        with self._changed:
            self._active = leading
            self._changed.notify_all()

    def stop(self, timeout: float = 2.0) -> None:
        """End the thread; a duty that hangs, on a disk for instance, is not waited for."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        if self._thread.ident is not None:
            self._thread.join(timeout)

    def _run(self) -> None:
        backoff = Backoff()
        while self._wait_to_lead():
            try:
                with self._opened() as duties:
                    self._work(duties, backoff)
            except (redis.exceptions.RedisError, OSError) as error:
                log.debug("housekeeping waits for the server", error=str(error))
                self._pause(backoff.pause())

    def _work(self, duties: Sequence[Duty], backoff: Backoff) -> None:
        due = dict.fromkeys(range(len(duties)), time.monotonic())
        while self._leading():
            for position, duty in enumerate(duties):
                if time.monotonic() >= due[position] and self._leading():
                    self._do(duty)
                    due[position] = time.monotonic() + duty.every
            backoff.reset()
            self._pause(min(due.values(), default=time.monotonic() + 60) - time.monotonic())

    def _do(self, duty: Duty) -> None:
        try:
            duty.action()
        except redis.exceptions.RedisError as error:
            if is_outage(error):
                raise
            self._complain(duty, error)
        except (TaskmasterError, OSError) as error:
            self._complain(duty, error)
        except Exception as error:  # noqa: BLE001 - a thread that ends would leave its duties undone for good
            self._complain(duty, error)
        else:
            self._failing.discard(duty.name)

    def _complain(self, duty: Duty, error: Exception) -> None:
        if duty.name not in self._failing:
            log.warning("a duty of the leader fails, the others go on", duty=duty.name, error=str(error) or repr(error))
        self._failing.add(duty.name)

    def _leading(self) -> bool:
        with self._changed:
            return self._active and not self._stopped

    def _wait_to_lead(self) -> bool:
        with self._changed:
            self._changed.wait_for(lambda: self._active or self._stopped)
            return not self._stopped

    def _pause(self, seconds: float) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._stopped or not self._active, timeout=max(0.0, seconds))
