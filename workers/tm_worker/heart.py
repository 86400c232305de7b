"""Heartbeats: a thread with a connection of its own, so that nothing the loop does delays them.

A beat extends the leases of all attempts held, keeps this worker listed and its offers valid. What the server answers
about attempts, and whether RQ is suspended, goes to the loop.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import TYPE_CHECKING

from tm.store.records import Beat
from tm_worker.outage import AWAY, Outage

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from tm.store.records import DrainOrder, Grace
    from tm.store.store import Store
    from tm_worker.worker import TmWorker


class Heart:
    """Beats from `start` to `stop`.

    Args:
        store: on a connection that nobody else uses.
        worker: the entry in RQ's registry.
        graphs: names of the graphs this worker has loaded.
        info: what to tell of it.
        held: the (job, token) pairs to keep; called from the thread.
        wake: wakes the loop up when there is something in `answers`, or another `order`.
    """

    def __init__(
        self,
        store: Store,
        worker: TmWorker,
        graphs: Sequence[str],
        info: Mapping[str, str],
        *,
        lease: float,
        every: float,
        held: Callable[[], list[tuple[str, str]]],
        wake: Callable[[], None],
    ) -> None:
        self.answers: deque[tuple[str, str, Beat | Grace]] = deque()  #: job, token, what became of them, if anything
        self.suspended = False  #: as of the last beat
        self.order: DrainOrder | None = None  #: to drain, once somebody has given it
        self.outage = Outage("heartbeats", quiet=True)
        self.missed = 0  #: beats that were not answered
        self.lost = 0  #: attempts that turned out to be somebody else's
        self._lost: set[str] = set()  # tokens of those; the server says so at each beat until they are given up
        self._store, self._worker = store, worker
        self._graphs, self._info = graphs, info
        self._lease_ms, self._every = int(lease * 1000), every
        self._held, self._wake = held, wake
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heart", daemon=True)

    def start(self) -> None:
        """Begin; the first beat follows after the first pause."""
        self._thread.start()

    def stop(self) -> None:
        """End; what is being sent now is the last beat."""
        self._over.set()
        self._thread.join(timeout=10)

    def _run(self) -> None:
        outage, pause = self.outage, self._every
        while not self._over.wait(pause):
            try:
                self.beat()
            except AWAY as error:
                now = time.monotonic()
                self.missed += 1
                outage.failed(error, now)
                pause = min(self._every, (outage.retry_at or now) - now)
            else:
                outage.over()
                pause = self._every

    def beat(self) -> None:
        """One beat; redis.exceptions.* when the server is away."""
        held = self._held()
        if held:
            bad = [
                (job, token, beat)
                for (job, token), beat in zip(held, self._store.beat(self._lease_ms, held), strict=True)
                if beat != 1
            ]
            self.answers.extend(bad)
            lost = {token for _, token, beat in bad if beat is Beat.LOST}
            self.lost += len(lost - self._lost)
            self._lost = lost
        self.announce(self._store)
        suspended = self._worker.beat(self._store.client)
        changed, self.suspended = suspended != self.suspended, suspended
        if changed or self.answers:
            self._wake()

    def announce(self, store: Store) -> None:
        """Say which graphs this worker has loaded; it is offered only their attempts. From any thread."""
        order = store.announce(self._worker.name, self._graphs, self._info, self._lease_ms * 2)
        if order is not None and order != self.order:  # None: the server may have been emptied meanwhile
            self.order = order
            self._wake()  # at once: what follows may fail, and no other beat would see a change
