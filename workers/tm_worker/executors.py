"""What a supervisor knows of executors and attempts, what it has others do about them, and how it puts their ends."""

from __future__ import annotations

import signal
from collections import deque
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any

from tm_worker.faults import fault

if TYPE_CHECKING:
    from tm.store.records import Claim, Report


@dataclass(frozen=True, slots=True)
class Spawn:
    """Fork an executor under this number."""

    number: int


@dataclass(frozen=True, slots=True)
class Run:
    """Send a claim to an executor, behind those it has."""

    number: int
    claim: Claim


@dataclass(frozen=True, slots=True)
class Recall:
    """Read back what an executor has not begun, then what it has reported, and tell both to `returned`."""

    number: int


@dataclass(frozen=True, slots=True)
class Signal:
    """Signal an executor's process group."""

    number: int
    signum: int


@dataclass(frozen=True, slots=True)
class Retire:
    """Close the stream to an executor, which then ends by itself."""

    number: int


Action = Spawn | Run | Recall | Signal | Retire


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
    expected: float  #: seconds it will take; infinite when it shares no queue with others
    executor: int | None = None
    since: float = 0.0  #: when it began, came to wait in an executor's queue, or came here
    ending: Ending | None = None
    kill_at: float | None = None
    memory: tuple[int, int] = (0, 0)  #: bytes it took and the limit, when it was ended for that


@dataclass(slots=True)
class Executor:
    """An executor process, from its birth to the news of its death."""

    number: int
    born_at: float
    ran: int = 0
    queue: deque[Held] = field(default_factory=deque)  #: it runs the first one; it may have begun others meanwhile
    ahead: float = 0.0  #: seconds the queue will take
    stops: list[tuple[Held, Ending, float]] = field(default_factory=list)  #: to be ended, with grace, after a recall
    leaving: bool = False  #: it ends by itself and reads no more
    doomed: bool = False  #: gets no more work
    kill_at: float | None = None  #: it has closed its stream, so it had better die by itself until then

    @property
    def held(self) -> Held | None:
        """What it runs, as far as it has reported."""
        return self.queue[0] if self.queue else None

    def weigh(self) -> None:
        """Find out again how long the queue will take."""
        self.ahead = sum(each.expected for each in self.queue)


def is_report(frame: list[Any], claim: Claim) -> bool:
    """Whether an executor's frame is a report on this claim."""
    if len(frame) != 8:
        return False
    job, token, success, value, error, retry, microseconds, leaving = frame
    return (  # no loop: it is asked of every report
        job == claim.job
        and token == claim.token
        and type(success) is bool
        and type(value) is bytes
        and type(error) is bytes
        and type(retry) is bool
        and type(microseconds) is int
        and type(leaving) is bool
    )


def timed_out(claim: Claim) -> bytes:
    """What is said of an attempt that was over its time."""
    return fault("TimeoutError", f"the attempt ran longer than its timeout of {claim.timeout:g} s and was ended")


def killed(held: Held, exit_code: int, max_rss: int) -> bytes:
    """What is said of an attempt whose process is dead."""
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


DRAINED = fault("Drained", "the worker was told to stop and gave the attempt back")
ABANDONED = fault("Abandoned", "the process that forks executors is gone, and the executors with it")
