"""The supervisor's mind: which executor runs what, what its end means, and when patience ends.

No I/O and no clock: events go in, with the time of a monotonic clock where it matters; actions come out. `loop.py`
carries them out. Grants come from the server, frames from executors, deaths from the nursery.
"""

from __future__ import annotations

import itertools
import random
import signal
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

from tm.states import Outcome
from tm.store.records import Beat, Claim, Grace, Report, Verdict
from tm_worker.faults import fault

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

#: seconds between SIGTERM and SIGKILL for what still runs when a drain has taken too long
STOP_GRACE = 1.0
#: seconds to wait before the next fork after one failed or an executor died at birth
RESPAWN_DELAY = 1.0
#: seconds between the end of an executor's stream and its death
HANG_UP_GRACE = 1.0


@dataclass(frozen=True, slots=True)
class Spawn:
    """Fork an executor under this number."""

    number: int


@dataclass(frozen=True, slots=True)
class Run:
    """Send a claim to an executor."""

    number: int
    claim: Claim


@dataclass(frozen=True, slots=True)
class Signal:
    """Signal an executor's process group."""

    number: int
    signum: int


@dataclass(frozen=True, slots=True)
class Retire:
    """Close the stream to an executor, which then ends by itself."""

    number: int


Action = Spawn | Run | Signal | Retire


@dataclass(frozen=True, slots=True)
class Ended:
    """An attempt that has ended here and whose report is to be delivered."""

    report: Report
    claim: Claim | None  #: None for a report that an earlier worker left behind
    executor: int | None


class Ending(Enum):
    """Why a running attempt is being ended from outside."""

    TIMED_OUT = "timed out"
    LOST = "lost"
    CANCELLED = "cancelled"
    DRAIN = "drain"
    BROKEN = "broken"
    TOO_LARGE = "too large"


@dataclass(slots=True)
class Held:
    """An attempt this worker has claimed."""

    claim: Claim
    executor: int | None = None
    since: float = 0.0
    ending: Ending | None = None
    kill_at: float | None = None
    memory: tuple[int, int] = (0, 0)  #: bytes it took and the limit, when it was ended for that


@dataclass(slots=True)
class Executor:
    """An executor process, from its birth to the news of its death."""

    number: int
    born_at: float
    ran: int = 0
    held: Held | None = None
    doomed: bool = False  #: gets no more work
    kill_at: float | None = None  #: it has closed its stream, so it had better die by itself until then


class Supervisor:
    """The state of a worker.

    Args:
        processes: executors to keep.
        grace: seconds between SIGTERM and SIGKILL for an attempt that is over its time.
        max_tasks: attempts after which an executor is replaced; None for no limit.
        chance: picks the jitter of retries.
    """

    def __init__(
        self,
        processes: int,
        *,
        grace: float,
        max_tasks: int | None = None,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.processes = processes
        self.grace = grace
        self.max_tasks = max_tasks
        self.held: dict[str, Held] = {}  # by job id: running, or waiting for an executor
        self.ended: list[Ended] = []  # not delivered yet
        self.executors: dict[int, Executor] = {}
        self.draining = False
        self._chance = chance
        self._numbers = itertools.count(1)
        self._coming: set[int] = set()  # ordered, not born
        self._idle: dict[int, None] = {}  # the one used last comes last
        self._ready: list[Held] = []  # held, no executor yet
        self._last: dict[tuple[str, str], int] = {}  # who ran this task last
        self._awaited: dict[int, float] = {}  # executors a retry will look for, until when
        self._spawn_at = 0.0
        self._drain_until: float | None = None

    # What the loop wants to know ------------------------------------------------------------------------------------

    @property
    def room(self) -> int:
        """How many more attempts could begin now."""
        return 0 if self.draining else max(0, len(self._idle) - len(self._ready))

    @property
    def finished(self) -> bool:
        """Whether a drain has come to its end."""
        return self.draining and not self.held

    def running(self) -> list[int]:
        """Executors in the middle of an attempt that nothing has ended yet."""
        busy = ((number, each.held) for number, each in self.executors.items())
        return [number for number, held in busy if held is not None and held.ending is None]

    def next_time(self) -> float | None:
        """When `tick` has something to do."""
        times = [self._drain_until] if self._drain_until is not None else []
        for held in self.held.values():
            if held.executor is None:
                continue
            if held.kill_at is not None:
                times.append(held.kill_at)
            elif held.ending is None and held.claim.timeout is not None:
                times.append(held.since + held.claim.timeout)
        times += [each.kill_at for each in self.executors.values() if each.kill_at is not None]
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
        if executor.held is not None:
            self._end_of_killed(executor.held, exit_code, max_rss, now)
        elif not executor.ran and now - executor.born_at < RESPAWN_DELAY:
            self._spawn_at = now + RESPAWN_DELAY
        return self.tick(now)

    def _end_of_killed(self, held: Held, exit_code: int, max_rss: int, now: float) -> None:
        if held.ending is Ending.TIMED_OUT:
            self._end(held, Outcome.TIMED_OUT, now, error=_timed_out(held.claim))
        elif held.ending is Ending.DRAIN:
            self._end(held, Outcome.LOST, now, error=_DRAINED)
        elif held.ending in (Ending.LOST, Ending.CANCELLED):
            self._forget(held)
        else:
            self._end(held, Outcome.KILLED, now, error=_killed(held, exit_code, max_rss))

    # Work comes and goes --------------------------------------------------------------------------------------------

    def granted(self, claims: Iterable[Claim], now: float) -> list[Action]:
        """The server gave us these attempts."""
        for claim in claims:
            if claim.job in self.held:
                continue  # the reply to a repeated ask
            held = Held(claim)
            self.held[claim.job] = held
            self._ready.append(held)
        if self.draining:
            for held in self._ready:
                self._end(held, Outcome.LOST, now, error=_DRAINED)
            self._ready.clear()
        return self._assign(now)

    def _assign(self, now: float) -> list[Action]:
        actions: list[Action] = []
        while self._ready and self._idle:
            held = self._ready.pop(0)
            number = self._choose(held.claim, now)
            del self._idle[number]
            executor = self.executors[number]
            executor.held, held.executor, held.since = held, number, now
            self._last[held.claim.graph, held.claim.task] = number
            actions.append(Run(number, held.claim))
        return actions

    def _choose(self, claim: Claim, now: float) -> int:
        """The idle executor that ran this task last; else one that no retry is going to look for."""
        last = self._last.get((claim.graph, claim.task))
        if last in self._idle:
            self._awaited.pop(last, None)
            return last
        idle = list(reversed(self._idle))
        return next((number for number in idle if self._awaited.get(number, 0.0) < now), idle[0])

    def unsent(self, number: int, now: float) -> list[Action]:
        """A claim could not be sent because its executor is gone: it has not begun, so another may have it."""
        executor = self.executors.get(number)
        if executor is None or executor.held is None:
            return []
        held, executor.held, executor.doomed = executor.held, None, True
        held.executor = None
        self._ready.insert(0, held)
        return self._assign(now)

    def reported(self, number: int, frame: list[Any], now: float) -> list[Action]:
        """An executor sent its report: [job, token, success, value, error, retry, ms, leaving]."""
        executor = self.executors.get(number)
        if executor is None:
            return []
        held = executor.held
        if held is None or not _is_report(frame, held.claim):
            return self.broken(number, now)
        _, _, success, value, error, retry, milliseconds, leaving = frame
        executor.held = None
        executor.ran += 1
        if held.ending is not None and not (held.ending is Ending.DRAIN and success):
            # too late, or because of our signal; nobody knows in which state this process is
            self._end_of_killed(held, 0, 0, now)
            executor.doomed = True
            return [Signal(number, signal.SIGKILL)]
        report = Report(
            job=held.claim.job,
            token=held.claim.token,
            outcome=Outcome.FAILED if not success else Outcome.SKIPPED if error else Outcome.SUCCESS,
            value=value,
            error=error,
            retry=retry,
            ms=milliseconds,
            chance=0.0 if success else self._chance(),
        )
        self._deliver(held, report)
        if executor.doomed:
            return [Signal(number, signal.SIGKILL)]
        if leaving or (self.max_tasks is not None and executor.ran >= self.max_tasks):
            del self.executors[number]
            return [Retire(number), *self.tick(now)]
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
        if executor.held is not None and executor.held.ending is None:
            executor.held.ending = Ending.BROKEN
            executor.held.kill_at = now
        return [Signal(number, signal.SIGKILL)]

    def too_large(self, number: int, size: int, limit: int, now: float) -> list[Action]:
        """An executor and all it has started take more memory than an attempt may. It has no time to tidy up."""
        executor = self.executors.get(number)
        held = None if executor is None else executor.held
        if held is None or held.ending is not None:
            return []
        held.memory = size, limit
        return self._stop(held, Ending.TOO_LARGE, now, 0.0)

    def _end(self, held: Held, outcome: Outcome, now: float, *, error: bytes) -> None:
        milliseconds = int((now - held.since) * 1000) if held.executor is not None else 0
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
                self._ready.remove(held)
                self._forget(held)
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

    def drain(self, now: float, limit: float) -> list[Action]:
        """Take no more work; what still runs after `limit` seconds is given back."""
        self.draining = True
        self._drain_until = now + limit
        for held in self._ready:
            self._end(held, Outcome.LOST, now, error=_DRAINED)
        self._ready.clear()
        return self.tick(now)

    def abandon(self, now: float) -> None:
        """All executors are gone with the nursery, which is nobody's fault: give everything back."""
        self.draining = True
        self._ready.clear()
        self.executors.clear()
        self._idle.clear()
        for held in list(self.held.values()):
            self._end(held, Outcome.LOST, now, error=_ABANDONED)

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
        for held in self.held.values():
            if held.executor is None:
                continue
            if held.kill_at is not None and now >= held.kill_at:
                held.kill_at = None
                actions.append(Signal(held.executor, signal.SIGKILL))
            elif held.ending is None and held.claim.timeout is not None and now >= held.since + held.claim.timeout:
                actions += self._stop(held, Ending.TIMED_OUT, now, self.grace)
        for executor in self.executors.values():
            if executor.kill_at is not None and now >= executor.kill_at:
                executor.kill_at = None
                actions.append(Signal(executor.number, signal.SIGKILL))
        if now >= self._spawn_at:
            for _ in range(self._missing):
                number = next(self._numbers)
                self._coming.add(number)
                actions.append(Spawn(number))
        return actions

    def _stop(self, held: Held, why: Ending, now: float, grace: float) -> list[Action]:
        assert held.executor is not None  # noqa: S101 - what is not running is not stopped
        self.executors[held.executor].doomed = True
        held.ending = why
        held.kill_at = now + grace if grace else None
        return [Signal(held.executor, signal.SIGTERM if grace else signal.SIGKILL)]


def _is_report(frame: list[Any], claim: Claim) -> bool:
    kinds = (str, str, bool, bytes, bytes, bool, int, bool)
    if len(frame) != len(kinds) or not all(isinstance(field, kind) for field, kind in zip(frame, kinds, strict=True)):
        return False
    return bool(frame[0] == claim.job and frame[1] == claim.token)


def _timed_out(claim: Claim) -> bytes:
    return fault("TimeoutError", f"the attempt ran longer than its timeout of {claim.timeout:g} s and was ended")


def _killed(held: Held, exit_code: int, max_rss: int) -> bytes:
    memory = f"; it had used {max_rss / (1 << 20):,.0f} MiB at most" if max_rss else ""
    if held.ending is Ending.BROKEN:
        return fault("Killed", "something in the process wrote into Taskmaster's own stream, so it was ended")
    if held.ending is Ending.TOO_LARGE:
        size, limit = held.memory
        return fault(
            "Killed",
            f"the attempt took {size / (1 << 20):,.0f} MiB of memory with all it had started, more than the limit of "
            f"{limit >> 20:,} MiB (TM_MEMORY_LIMIT), and was ended",
            signal="SIGKILL",
            max_rss=max(size, max_rss),
        )
    if exit_code >= 0:
        return fault(
            "Killed", f"the process ended itself with exit code {exit_code}", exit_code=exit_code, max_rss=max_rss
        )
    try:
        name = signal.Signals(-exit_code).name
    except ValueError:
        name = f"signal {-exit_code}"
    hint = " (out of memory?)" if name == "SIGKILL" else ""
    return fault("Killed", f"the process was ended by {name}{hint}{memory}", signal=name, max_rss=max_rss)


_DRAINED = fault("Drained", "the worker was told to stop and gave the attempt back")
_ABANDONED = fault("Abandoned", "the process that forks executors is gone, and the executors with it")
