"""Tasks that no worker takes: workers are there, and for minutes none of them has offered this one on its queue.

The usual cause is a task that was renamed while runs of the old file are open, or a queue that nobody listens to. Such
an attempt fails with the reason, so that its run ends and somebody hears of it. Where no worker is there at all nothing
fails: that is a machine that is down, and what waits for it is worked off when it is back.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol

from tm import codec
from tm.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from tm.store.housework import Waiting
    from tm.store.looking import WorkerView

log = get_logger("scheduler")

#: attempts of a queue that are looked at in one pass; the next pass goes on behind them
PAGE = 200
#: seconds between two passes, at most
LONGEST_PAUSE = 30.0

#: A queue, a graph and a task of it.
Wanted = tuple[str, str, str]


class StrandedStore(Protocol):
    """What this needs of the store."""

    def waiting(self, queue: str, first: int, count: int) -> tuple[list[Waiting], bool]:
        """Attempts of a queue from one position on, and whether more come behind them."""
        ...

    def give_up(self, job: str, error: bytes) -> bool:
        """Fail a queued attempt; False when somebody has taken it."""
        ...


def pause(after: float) -> float:
    """Seconds between two passes, for a limit of so many seconds."""
    return max(0.1, min(LONGEST_PAUSE, after / 20))


class Stranded:
    """Finds and fails them, pass by pass.

    Args:
        store: the server.
        after: seconds for which nobody must have offered the task, and the attempt must have waited.
    """

    def __init__(self, store: StrandedStore, after: float, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._store, self._after, self._monotonic = store, after, monotonic
        self._missing: dict[Wanted, float] = {}  # since when nobody has offered it, as far as we know
        self._position: dict[str, int] = {}

    def one_pass(self, now_ms: int, workers: Iterable[WorkerView], queues: Iterable[str]) -> int:
        """Look at the next page of each queue; returns how many attempts were given up."""
        alive = [worker for worker in workers if worker.alive]
        if not alive:
            self._missing.clear()
            return 0
        now, total = self._monotonic(), 0
        self._missing = {wanted: since for wanted, since in self._missing.items() if not offered(alive, wanted)}
        for queue in queues:
            for each in self._page(queue):
                wanted = queue, each.graph, each.task
                if offered(alive, wanted):
                    continue
                since = self._missing.setdefault(wanted, now)
                waited_ms = now_ms - each.since_ms
                if now - since >= self._after and waited_ms >= self._after * 1000:
                    missing_ms = now_ms - int((now - since) * 1000)
                    total += self._give_up(each, queue, max(each.since_ms, missing_ms))
        return total

    def _page(self, queue: str) -> list[Waiting]:
        first = self._position.get(queue, 0)
        page, more = self._store.waiting(queue, first, PAGE)
        self._position[queue] = first + PAGE if more else 0
        return page

    def _give_up(self, each: Waiting, queue: str, since_ms: int) -> bool:
        since = datetime.fromtimestamp(since_ms / 1000, UTC)
        message = (
            f"no worker has offered task {each.task!r} of graph {each.graph!r} on queue {queue!r} "
            f"since {since:%Y-%m-%d %H:%M:%S} UTC, for {self._after:g} s or more (setting TM_NO_WORKER_AFTER); "
            f"start a worker that has loaded it and takes from that queue, then `tm retry {each.run}`"
        )
        given_up = self._store.give_up(each.job, codec.encode(_fields(message)))
        if given_up:
            log.warning(
                "a task fails because no worker offers it", run=each.run, task=each.task, graph=each.graph, queue=queue
            )
        return given_up


def offered(workers: Iterable[WorkerView], wanted: Wanted) -> bool:
    """Whether one of these workers would take such an attempt."""
    queue, graph, task = wanted
    return any(queue in worker.queues and worker.has(graph, task) for worker in workers)


def _fields(message: str) -> Mapping[str, str]:
    return {"type": "NoWorker", "message": message, "traceback": ""}
