"""Which executor runs what: the part of a supervisor that gives out attempts, and tells how many more could begin."""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING

from tm_worker.executors import Action, Executor, Held, Run
from tm_worker.pace import AHEAD, Pace

if TYPE_CHECKING:
    from tm.store.records import Claim

#: seconds an attempt may keep others waiting in its executor's queue: while another executor is idle, and at all
IDLE_PATIENCE, PATIENCE = 0.002, 0.02
#: seconds of work that all executors have at least while results are collected, and the longest time to collect them
LEAST_LEISURE, MOST_LEISURE = 0.0002, 0.001


class Assigning:
    """Attempts that are held, and the executors for them. See `Supervisor` for the arguments."""

    def __init__(self, max_tasks: int | None, deepest: int) -> None:
        self.max_tasks = max_tasks
        self.held: dict[str, Held] = {}  # by job id: running, or waiting for an executor
        self.executors: dict[int, Executor] = {}
        self.draining = False
        self._idle: dict[int, None] = {}  # the one used last comes last
        self._pace = Pace(deepest)
        self._recalling = False
        self._ready: deque[Held] = deque()  # held, no executor yet
        self._last: dict[tuple[str, str], int] = {}  # who ran this task last
        self._awaited: dict[int, float] = {}  # executors a retry will look for, until when

    @property
    def room(self) -> int:
        """How many more attempts could begin now."""
        return 0 if self.draining else max(0, len(self._idle) - len(self._ready))

    @property
    def hands(self) -> int:
        """Executors that could be given something once they have ended what they are at."""
        return 0 if self.draining else sum(not each.doomed for each in self.executors.values())

    @property
    def appetite(self) -> int:
        """How many more attempts executors could be given now, including those that would wait in their queues."""
        depth = self._pace.depth
        if depth == 1 or self.draining or self._ready:
            return self.room
        return sum(
            depth - len(each.queue)
            for each in self.executors.values()
            if not each.doomed and each.ahead < AHEAD and len(each.queue) < depth
        )

    def leisure(self, now: float) -> float:
        """Seconds for which all executors have work: no result is urgent as long as only others could go on with it."""
        if self._pace.depth == 1 or self._idle or self._ready or self.draining:
            return 0.0
        least = MOST_LEISURE * 2
        for each in self.executors.values():
            if len(each.queue) < 2 or each.ahead == math.inf:
                return 0.0
            least = min(least, each.ahead - (now - each.queue[0].since))
        return least / 2 if least / 2 >= LEAST_LEISURE else 0.0

    def running(self) -> list[int]:
        """Executors in the middle of an attempt that nothing has ended yet."""
        return [number for number, each in self.executors.items() if each.queue and each.queue[0].ending is None]

    @property
    def _patience(self) -> float:
        return IDLE_PATIENCE if self._idle else PATIENCE

    def _assign(self, now: float) -> list[Action]:
        actions: list[Action] = []
        while self._ready and not self._recalling:
            held = self._ready[0]
            if self._idle:
                number = self._choose(held.claim, now)
                del self._idle[number]
                executor = self.executors[number]
            elif (found := self._shortest(held.expected, now)) is not None:
                executor, number = found, found.number
            else:
                break  # what comes behind does not overtake, or this one might wait for ever
            del self._ready[0]
            executor.queue.append(held)
            executor.ahead += held.expected
            held.executor, held.since = number, now
            self._last[held.claim.graph, held.claim.task] = number
            actions.append(Run(number, held.claim))
        return actions

    def _shortest(self, expected: float, now: float) -> Executor | None:
        """The busy executor that would begin an attempt first, if it may wait in a queue at all."""
        best, least = None, AHEAD - expected
        if least < 0:
            return None
        for each in self.executors.values():
            if each.ahead > least or each.doomed or not each.queue or len(each.queue) >= self._pace.depth:
                continue
            spent = self.max_tasks is not None and each.ran + len(each.queue) >= self.max_tasks
            if not spent and now - each.queue[0].since < PATIENCE:
                best, least = each, each.ahead
        return best

    def _choose(self, claim: Claim, now: float) -> int:
        """The idle executor that ran this task last; else one that no retry is going to look for."""
        last = self._last.get((claim.graph, claim.task))
        if last in self._idle:
            self._awaited.pop(last, None)
            return last
        idle = list(reversed(self._idle))
        return next((number for number in idle if self._awaited.get(number, 0.0) < now), idle[0])

    def unsent(self, number: int, job: str, now: float, *, full: bool = False) -> list[Action]:
        """A claim could not be sent, for its executor is gone or, if `full`, has enough: another may have it."""
        executor, held = self.executors.get(number), self.held.get(job)
        if executor is None or held is None or held not in executor.queue:
            return []
        executor.queue.remove(held)
        held.executor, held.since = None, now
        executor.weigh()
        if full and executor.queue:
            executor.ahead = math.inf  # until it has ended something
        else:
            executor.doomed = True
        self._ready.appendleft(held)
        return self._assign(now)

    def _take_first(self, executor: Executor, now: float) -> None:
        """The attempt an executor was running has ended, and the next one has begun."""
        held = executor.queue.popleft()
        executor.ran += 1
        if not executor.queue:
            executor.ahead = 0.0
            return
        executor.queue[0].since = now
        if executor.ahead < math.inf:
            executor.ahead -= held.expected
        else:
            executor.weigh()
