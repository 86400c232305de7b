"""Which ticks of a schedule are to be made now: pure, from cursor, time and rules to runs and skips.

On-time ticks always run. After an outage the misfire rule of the graph decides: the latest missed tick runs,
or all of them, or none, and whatever does not run is handed back with its reason, so that nothing vanishes. The
work is bounded: a schedule of every second that was away for a year costs a thousand look-ups, not 30 million.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import timedelta, tzinfo
from itertools import islice

from tm.clock import from_ms, to_ms
from tm.cron import Exhausted, Expression
from tm.states import Trigger

#: a tick no later than this is on time: a take-over (12 s) or a quick restart is no outage
ON_TIME_MS = 15_000
#: so many late ticks run at most under misfire="all", the latest ones
MAX_CATCHUP = 100
#: so many skipped ticks get a record of their own, the latest ones; one more stands for all before them
MAX_SKIPS = 100
#: so many of those are counted; beyond, the record says "more than"
MAX_COUNTED = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """What is to be made of the ticks after a cursor. Times are milliseconds since the epoch, ascending.

    All skipped ticks are older than all that run, so skips first, runs second is the order of time.
    """

    run: tuple[int, ...] = ()
    skipped: tuple[tuple[int, str], ...] = ()  #: tick and reason
    cursor: int  #: the last tick this covers; the cursor that was given if there is none


@dataclass(frozen=True, slots=True, kw_only=True)
class Paused:
    """A pause that is over."""

    ended_ms: int
    why: str  #: "paused by ...", for the records of what it cost
    catch_up: str = ""  #: what becomes of its ticks: skip, latest, all; empty for the graph's misfire rule


def next_tick(schedule: Expression, zone: tzinfo, after_ms: int) -> int | None:
    """The first tick strictly after an instant; None when the schedule has no more."""
    try:
        return to_ms(schedule.next(from_ms(after_ms).astimezone(zone)))
    except Exhausted:
        return None


def trigger_of(tick_ms: int, now_ms: int, late_after_ms: int = ON_TIME_MS) -> Trigger:
    """Whether a tick that runs now is on schedule or catching up."""
    return Trigger.SCHEDULE if now_ms - tick_ms <= late_after_ms else Trigger.CATCHUP


def due(
    schedule: Expression,
    zone: tzinfo,
    *,
    cursor_ms: int,
    now_ms: int,
    misfire: str,
    misfire_window: float,
    late_after_ms: int = ON_TIME_MS,
    pause: Paused | None = None,
) -> Due:
    """Sort every tick in (`cursor_ms`, `now_ms`] into those that run and those that are skipped.

    Args:
        schedule: read on the wall clock of `zone`; on the days of a clock change as docs/cron.md says.
        zone: of the graph.
        cursor_ms: the last tick that was handled.
        now_ms: the present, by the server's clock.
        misfire: of the graph: "latest", "all" or "skip".
        misfire_window: seconds; later ticks than this never run, whatever `misfire` says.
        late_after_ms: up to this lateness a tick is on time.
        pause: the graph was paused until a while ago: what was due until then is late, however late it is.
    """
    if pause is not None and pause.catch_up:
        misfire, misfire_window = pause.catch_up, math.inf
    run: list[int] = []
    skipped: list[tuple[int, str]] = []
    late_runs = 0
    # Backwards, so that the ticks that matter come first and the walk can stop early. `now_ms` itself counts.
    for instant in schedule.iter_back(from_ms(now_ms + 1).astimezone(zone)):
        tick = to_ms(instant)
        if tick <= cursor_ms:
            break
        late = now_ms - tick
        paused = pause is not None and tick <= pause.ended_ms
        if late <= late_after_ms and not paused:
            run.append(tick)
            continue
        if len(skipped) == MAX_SKIPS:
            skipped.append(_rest(schedule, zone, cursor_ms, tick, pause.why if pause and paused else "misfire"))
            break
        if late > misfire_window * 1000:
            why = f"outside the misfire window of {misfire_window:g} s"
        elif misfire == "skip":
            why = "not caught up" if paused else 'misfire="skip"'
        elif misfire == "latest" and run:
            why = "a later tick runs instead"
        elif misfire == "all" and late_runs == MAX_CATCHUP:
            why = f"only the latest {MAX_CATCHUP} missed ticks run"
        else:
            run.append(tick)
            late_runs += 1
            continue
        because = pause.why if pause and paused else "misfire"
        skipped.append((tick, f"{because}: {late // 1000} s late, {why}"))
    cursor = run[0] if run else skipped[0][0] if skipped else cursor_ms
    return Due(run=tuple(reversed(run)), skipped=tuple(reversed(skipped)), cursor=cursor)


def _rest(schedule: Expression, zone: tzinfo, cursor_ms: int, last_ms: int, because: str) -> tuple[int, str]:
    """One record for all ticks in (`cursor_ms`, `last_ms`], dated like the last of them."""
    start, end = from_ms(cursor_ms).astimezone(zone), from_ms(last_ms)
    earlier = list(islice(schedule.between(start + timedelta(milliseconds=1), end), MAX_COUNTED + 1))
    if not earlier:
        return last_ms, f"{because}: missed"
    count = f"{len(earlier):,}" if len(earlier) <= MAX_COUNTED else f"more than {MAX_COUNTED:,}"
    since = from_ms(to_ms(earlier[0])).isoformat().replace("+00:00", "Z")
    return last_ms, f"{because}: stands for this tick and {count} before it, from {since} on, all missed"
