"""How far ahead executors are fed: how long tasks take, as seen here, and whether there is more where they came from.

One attempt at a time costs a round trip each. So when tasks are tiny and the queue is deep, an executor gets a few
milliseconds of work at once. What is long, large, unknown or a repeat waits behind nothing, and nothing behind it.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tm.store.records import Claim

#: seconds a task may take, overhead included, to wait in an executor's queue
TINY = 0.001
#: seconds of expected work an executor has at most when it is fed ahead
AHEAD = 0.003
#: attempts an executor has at most, so that a batch of their reports keeps the server busy for a few ms only
DEEPEST = 32
#: bytes of messages, and how many of them, that a claim may have to wait in an executor's queue
SMALL, FEW = 4096, 16


class Pace:
    """What one worker has seen of its tasks.

    The mean of a task is quick to rise and slow to fall. A task that has not been seen is judged by its graph.

    Args:
        deepest: attempts an executor has at most, counting the one it runs.
    """

    def __init__(self, deepest: int = DEEPEST) -> None:
        self._deepest = deepest
        self.depth = 1  #: attempts an executor gets, counting the one it runs
        self._tasks: dict[tuple[str, str], float] = {}
        self._graphs: dict[str, float] = {}

    def took(self, claim: Claim, seconds: float) -> None:
        """An attempt has ended after so long."""
        task, graph = (claim.graph, claim.task), claim.graph
        self._tasks[task] = _mean(self._tasks.get(task), seconds)
        self._graphs[graph] = _mean(self._graphs.get(graph), seconds)

    def expected(self, claim: Claim) -> float:
        """Seconds an attempt will take as far as one can tell; infinite for one that shares no queue with others."""
        if claim.attempt > 1:
            return math.inf  # whatever killed or failed the one before should hit nobody else
        mean = self._tasks.get((claim.graph, claim.task))
        if mean is None:
            mean = self._graphs.get(claim.graph, math.inf)
        return mean if mean <= TINY and not _large(claim) else math.inf

    def granted(self, claims: Sequence[tuple[Claim, float]], *, full: bool) -> None:
        """The server gave these, expected to take so long; `full` when it may have more, for it gave all we wanted."""
        alone = [claim for claim, expected in claims if expected > TINY]
        if any(claim.attempt == 1 for claim in alone):
            self.depth = 1
        elif alone:
            self.depth = max(1, self.depth // 2)
        elif full:
            self.depth = min(self.depth * 2, self._deepest)


def _large(claim: Claim) -> bool:
    if len(claim.inputs) > FEW:
        return True
    return len(claim.params) + len(claim.config) + sum(len(value) for _, value in claim.inputs) > SMALL


def _mean(before: float | None, seconds: float) -> float:
    if before is None:
        return seconds
    return before + (seconds - before) / (2 if seconds > before else 8)
