"""The supervisor's mind: which executor runs what, what its end means, and when patience ends.

No I/O and no clock: events go in, with the time of a monotonic clock where it matters; actions come out. `loop.py`
carries them out. Grants come from the server, frames from executors, deaths from the nursery.
"""

from __future__ import annotations

import itertools
import math
import random
import signal
from typing import TYPE_CHECKING, Any

from tm.states import Outcome
from tm.store.records import UNBEGUN, Beat, Claim, Grace, Report, Verdict
from tm_worker.assigning import Assigning
from tm_worker.executors import (
    ABANDONED,
    DRAINED,
    Action,
    Ended,
    Ending,
    Executor,
    Held,
    Recall,
    Retire,
    Signal,
    Spawn,
    is_report,
    killed,
    timed_out,
)
from tm_worker.pace import DEEPEST

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

#: seconds between SIGTERM and SIGKILL for what still runs when a drain has taken too long
STOP_GRACE = 1.0
#: seconds to wait before the next fork after one failed or an executor died at birth
RESPAWN_DELAY = 1.0
#: seconds between the end of an executor's stream and its death
HANG_UP_GRACE = 1.0
#: seconds an attempt waits for an executor of ours before other workers may have it
WAIT = 0.03


class Supervisor(Assigning):
    """The state of a worker.

    Args:
        processes: executors to keep.
        grace: seconds between SIGTERM and SIGKILL for an attempt that is over its time.
        max_tasks: attempts after which an executor is replaced; None for no limit.
        deepest: attempts an executor may have at once; 1 where what it has not begun cannot be taken back.
        chance: picks the jitter of retries.
    """

    def __init__(
        self,
        processes: int,
        *,
        grace: float,
        max_tasks: int | None = None,
        deepest: int = DEEPEST,
        chance: Callable[[], float] = random.random,
    ) -> None:
        super().__init__(max_tasks, deepest)
        self.processes = processes
        self.grace = grace
        self.ended: list[Ended] = []  # not delivered yet
        self._chance = chance
        self._numbers = itertools.count(1)
        self._coming: set[int] = set()  # ordered, not born
        self._spawn_at = 0.0
        self._drain_until: float | None = None

    # What the loop wants to know ------------------------------------------------------------------------------------

    @property
    def finished(self) -> bool:
        """Whether a drain has come to its end."""
        return self.draining and not self.held

    def next_time(self) -> float | None:
        """When `tick` has something to do."""
        times = [self._drain_until] if self._drain_until is not None else []
        for executor in self.executors.values():
            if executor.kill_at is not None:
                times.append(executor.kill_at)
            if not executor.queue:
                continue
            held = executor.queue[0]
            if held.kill_at is not None:
                times.append(held.kill_at)
            elif held.ending is None and held.claim.timeout is not None:
                times.append(held.since + held.claim.timeout)
            if len(executor.queue) > 1 and executor.ahead < math.inf:
                times.append(held.since + self._patience)
        if self._ready and not self.draining:
            times.append(self._ready[0].since + WAIT)
        if self._missing:
            times.append(self._spawn_at)
        return min(times) if times else None

    @property
    def _missing(self) -> int:
        return 0 if self.draining else self.processes - len(self.executors) - len(self._coming)

    # Executors come and go --------------------------------------------------------------------------------------------

    def born(self, number: int, now: float) -> list[Action]:
        """An executor is there."""
        self._coming.discard(number)
        self.executors[number] = Executor(number, now)
        self._idle[number] = None
        return self._assign(now)

    def unborn(self, number: int, now: float) -> None:
        """An executor could not be forked; another try follows in a while."""
        self._coming.discard(number)
        self._spawn_at = now + RESPAWN_DELAY

    def died(self, number: int, exit_code: int, max_rss: int, now: float) -> list[Action]:
        """An executor is gone; what it ran has ended, and it is replaced at once."""
        executor = self.executors.pop(number, None)
        self._coming.discard(number)
        self._idle.pop(number, None)
        self._awaited.pop(number, None)
        if executor is None:
            return []
        if executor.queue:
            for held in executor.queue:  # what it had not begun has been read back
                self._end_of_killed(held, exit_code, max_rss, now)
        elif not executor.ran and now - executor.born_at < RESPAWN_DELAY:
            self._spawn_at = now + RESPAWN_DELAY
        return self.tick(now)

    def _end_of_killed(self, held: Held, exit_code: int, max_rss: int, now: float) -> None:
        if held.ending is Ending.TIMED_OUT:
            self._end(held, Outcome.TIMED_OUT, now, error=timed_out(held.claim))
        elif held.ending is Ending.DRAIN:
            self._end(held, Outcome.LOST, now, error=DRAINED)
        elif held.ending in (Ending.LOST, Ending.CANCELLED):
            self._forget(held)
        else:
            self._end(held, Outcome.KILLED, now, error=killed(held, exit_code, max_rss))

    # Work comes and goes --------------------------------------------------------------------------------------------

    def granted(self, claims: Iterable[Claim], now: float, *, full: bool = False) -> list[Action]:
        """The server gave us these attempts; `full` when it may have more."""
        new = [(claim, self._pace.expected(claim)) for claim in claims if claim.job not in self.held]  # or repeated
        self._pace.granted(new, full=full)
        for claim, expected in new:
            held = Held(claim, expected, since=now)
            self.held[claim.job] = held
            self._ready.append(held)
        if self.draining:
            self._give_back(now, DRAINED)
        return self._assign(now)

    def returned(self, number: int, jobs: Iterable[str], frames: Iterable[list[Any]], now: float) -> list[Action]:
        """What was read back from an executor, and after that what it had reported.

        It reports an attempt before it begins another. So of what is left it runs the first, or none, and a signal for
        that one hits no other.
        """
        executor = self.executors.get(number)
        if executor is None:
            return []
        actions: list[Action] = []
        self._recalling = True  # nobody is given anything until it is clear what is to be ended
        self._put_back(executor, set(jobs), now)
        for frame in frames:
            actions += self.reported(number, frame, now)
        stops, executor.stops = executor.stops, []
        for held, why, grace in stops:
            if held.executor is None and held.claim.job in self.held:
                self._drop(held, why, now)
            elif held.executor == number and held.ending is None and held in executor.queue:
                actions += self._end_from_outside(held, why, now, grace)
        self._recalling = False
        if self.draining:
            self._give_back(now, DRAINED)
        if executor.leaving and not executor.queue and number in self.executors:
            del self.executors[number]
            actions += [Retire(number), *self.tick(now)]
        return actions + self._assign(now)

    def _put_back(self, executor: Executor, jobs: set[str], now: float) -> None:
        found = [each for each in executor.queue if each.claim.job in jobs]
        for held in reversed(found):
            executor.queue.remove(held)
            if held.ending in (Ending.LOST, Ending.CANCELLED):
                self._forget(held)
            else:  # whatever the signal was for, it was not this one's doing
                held.executor, held.ending, held.kill_at, held.since = None, None, None, now
                self._ready.appendleft(held)
        executor.weigh()
        if found and not executor.queue and not executor.doomed:
            self._idle[executor.number] = None

    def _drop(self, held: Held, why: Ending, now: float) -> None:
        """End an attempt that waits for an executor."""
        if why in (Ending.LOST, Ending.CANCELLED):
            self._ready.remove(held)
            self._forget(held)
        elif why is Ending.TIMED_OUT:
            held.since = now  # it had not begun

    def reported(self, number: int, frame: list[Any], now: float) -> list[Action]:
        """An executor sent its report: [job, token, success, value, error, retry, microseconds, leaving]."""
        executor = self.executors.get(number)
        if executor is None:
            return []
        held = executor.queue[0] if executor.queue else None
        if held is None or not is_report(frame, held.claim):
            return self.broken(number, now)
        _, _, success, value, error, retry, microseconds, leaving = frame
        self._take_first(executor, now)
        self._pace.took(held.claim, microseconds / 1e6)
        if held.ending is not None and not (held.ending is Ending.DRAIN and success):
            # too late, or because of our signal; nobody knows in which state this process is
            self._end_of_killed(held, 0, 0, now)
            executor.doomed = True
            return [Signal(number, signal.SIGKILL)]
        report = Report(
            held.claim.job,
            held.claim.token,
            Outcome.FAILED if not success else Outcome.SKIPPED if error else Outcome.SUCCESS,
            value,
            error,
            retry,
            microseconds // 1000,
            0.0 if success else self._chance(),
        )
        self._deliver(held, report)
        if leaving and executor.queue and not executor.doomed:
            executor.leaving = executor.doomed = True
            return [Recall(number)]
        if executor.doomed:
            return [] if executor.leaving or executor.queue else [Signal(number, signal.SIGKILL)]
        if leaving or (self.max_tasks is not None and executor.ran >= self.max_tasks):
            del self.executors[number]
            return [Retire(number), *self.tick(now)]
        if not executor.queue:
            self._idle[number] = None
        return self._assign(now)

    def hung_up(self, number: int, now: float) -> None:
        """An executor's stream has ended. As a rule it is dead, and the news of that are on their way."""
        executor = self.executors.get(number)
        if executor is not None and executor.kill_at is None:
            self._idle.pop(number, None)
            executor.doomed = True
            executor.kill_at = now + HANG_UP_GRACE

    def broken(self, number: int, now: float) -> list[Action]:
        """An executor sent rubbish: something in it has got hold of the stream. It ends."""
        executor = self.executors.get(number)
        if executor is None or executor.doomed:
            return []
        self._idle.pop(number, None)
        executor.doomed = True
        for held in executor.queue:
            if held.ending is None:
                held.ending, held.kill_at = Ending.BROKEN, now
        kill = Signal(number, signal.SIGKILL)
        return [Recall(number), kill] if len(executor.queue) > 1 else [kill]

    def too_large(self, number: int, size: int, limit: int, now: float) -> list[Action]:
        """An executor and all it has started take more memory than an attempt may. It has no time to tidy up."""
        executor = self.executors.get(number)
        held = executor.queue[0] if executor is not None and executor.queue else None
        if held is None or held.ending is not None:
            return []
        held.memory = size, limit
        return self._stop(held, Ending.TOO_LARGE, now, 0.0)

    def _end(self, held: Held, outcome: Outcome, now: float, *, error: bytes) -> None:
        milliseconds = int((now - held.since) * 1000) if held.executor is not None else UNBEGUN
        self._deliver(
            held,
            Report(
                job=held.claim.job,
                token=held.claim.token,
                outcome=outcome,
                error=error,
                ms=milliseconds,
                chance=self._chance(),
            ),
        )

    def _give_back(self, now: float, why: bytes) -> None:
        """Let other workers have what waits for an executor."""
        for held in self._ready:
            self._end(held, Outcome.LOST, now, error=why)
        self._ready.clear()

    def _deliver(self, held: Held, report: Report) -> None:
        self._forget(held)
        self.ended.append(Ended(report, held.claim, held.executor))

    def _forget(self, held: Held) -> None:
        self.held.pop(held.claim.job, None)

    def delivered(
        self, batch: Sequence[Ended], verdicts: Sequence[Verdict], now: float, server_ms: float
    ) -> list[float]:
        """The server's answer to reports. Returns when retries of ours are due, by our clock."""
        due: list[float] = []
        for each, verdict in zip(batch, verdicts, strict=True):
            if verdict.due_ms is not None:
                at = now + max(0.0, (verdict.due_ms - server_ms) / 1000)
                due.append(at)
                if each.executor in self.executors:
                    self._awaited[each.executor] = at + 1.0
        return due

    # Ends from outside ------------------------------------------------------------------------------------------------

    def beaten(self, answers: Iterable[tuple[str, str, Beat | Grace]], now: float) -> list[Action]:
        """The server's answers to heartbeats, by job and token."""
        actions: list[Action] = []
        for job, token, beat in answers:
            held = self.held.get(job)
            if held is None or held.claim.token != token or beat is Beat.OK:
                continue
            if held.executor is None:
                self._drop(held, Ending.LOST, now)
            elif beat is Beat.LOST and held.ending is not Ending.LOST:
                # somebody else may be running it by now
                actions += self._stop(held, Ending.LOST, now, 0.0)
            elif beat is Beat.LOST:
                continue
            elif held.ending is None:
                grace = beat.seconds if isinstance(beat, Grace) else self.grace
                actions += self._stop(held, Ending.CANCELLED, now, grace)
            elif isinstance(beat, Grace) and held.kill_at is not None:
                held.kill_at = min(held.kill_at, now + beat.seconds)
        return actions

    def drain(self, now: float, limit: float | None) -> list[Action]:
        """Take no more work; what still runs after `limit` seconds is given back, with None it may end."""
        self.draining = True
        self._drain_until = None if limit is None else now + limit
        self._give_back(now, DRAINED)
        recalls = [Recall(each.number) for each in self.executors.values() if len(each.queue) > 1]
        return [*recalls, *self.tick(now)]

    def abandon(self, now: float) -> None:
        """All executors are gone with the nursery, which is nobody's fault: give everything back."""
        self.draining = True
        self._ready.clear()
        self.executors.clear()
        self._idle.clear()
        for held in list(self.held.values()):
            self._end(held, Outcome.LOST, now, error=ABANDONED)

    def tick(self, now: float) -> list[Action]:
        """Time has passed."""
        actions: list[Action] = []
        if self._drain_until is not None and now >= self._drain_until:
            self._drain_until = None
            for held in self.held.values():
                if held.ending is None:
                    actions += self._stop(held, Ending.DRAIN, now, STOP_GRACE)
                elif held.kill_at is not None:
                    held.kill_at = min(held.kill_at, now + STOP_GRACE)
        for executor in self.executors.values():
            if executor.queue:
                actions += self._look_at(executor, executor.queue[0], now)
            if executor.kill_at is not None and now >= executor.kill_at:
                executor.kill_at = None
                actions.append(Signal(executor.number, signal.SIGKILL))
        if self._ready and now >= self._ready[0].since + WAIT:
            self._give_back(now, b"")
        if now >= self._spawn_at:
            for _ in range(self._missing):
                number = next(self._numbers)
                self._coming.add(number)
                actions.append(Spawn(number))
        return actions

    def _look_at(self, executor: Executor, held: Held, now: float) -> list[Action]:
        """What is due for the attempt that an executor runs."""
        if held.kill_at is not None and now >= held.kill_at:
            held.kill_at = None
            return [Signal(executor.number, signal.SIGKILL)]
        if held.ending is None and held.claim.timeout is not None and now >= held.since + held.claim.timeout:
            return self._stop(held, Ending.TIMED_OUT, now, self.grace)
        if len(executor.queue) > 1 and executor.ahead < math.inf and now >= held.since + self._patience:
            held.expected = executor.ahead = math.inf
            return [Recall(executor.number)]
        return []

    def _stop(self, held: Held, why: Ending, now: float, grace: float) -> list[Action]:
        assert held.executor is not None  # noqa: S101 - what is not running is not stopped
        executor = self.executors[held.executor]
        if len(executor.queue) > 1:  # a signal might hit another attempt, and this one may not have begun
            executor.stops.append((held, why, grace))
            return [Recall(executor.number)]
        return self._end_from_outside(held, why, now, grace)

    def _end_from_outside(self, held: Held, why: Ending, now: float, grace: float) -> list[Action]:
        assert held.executor is not None  # noqa: S101 - as above
        self.executors[held.executor].doomed = True
        held.ending = why
        held.kill_at = now + grace if grace else None
        return [Signal(held.executor, signal.SIGTERM if grace else signal.SIGKILL)]
