"""Runs in a time zone: what a schedule means on the days when clocks are changed.

A *wildcard* schedule (second, minute or hour begins with `*`) runs at every instant whose wall clock matches. A
*fixed* one runs once for each matching wall time: at its first reading when the clock shows it twice, at the first
instant after the gap when a gap of up to three hours skips it, never when a longer one does (only moves of the date
line are longer).

The search happens on the wall calendar. A result is accepted at once when the zone shows that neither it nor the start
is near a change; otherwise the exact rules below decide. They ask the zone for nothing but `utcoffset` with fold 0 and
1 (PEP 495): equal offsets are a plain time, a smaller one for fold 1 an overlap, a larger one a gap. Datetimes of the
same zone are never compared or added to across a change, because Python does both on the wall clock.
"""

from __future__ import annotations

from datetime import datetime, timedelta, tzinfo

from tm.cron import search
from tm.cron.errors import Exhausted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tm.cron.plan import Plan

LONGEST_GAP_TO_CATCH_UP = timedelta(hours=3)  # as Debian's cron; gaps beyond it are moves of the date line
_MICROSECOND, _SECOND, _MINUTE = timedelta(microseconds=1), timedelta(seconds=1), timedelta(minutes=1)
# No zone changes its offset twice within a day (a test looks through all of them), so equal offsets less than a day
# apart mean that nothing happened between them.
_DAY = timedelta(days=1)


def after(plan: Plan, at: datetime, tz: tzinfo) -> datetime:
    """The first run strictly after the instant `at`, an aware time of `tz`."""
    try:
        if not at.fold:
            found = search.after(plan, at, tz)
            end = _real_offset(found, tz)
            if end is not None:
                if tz.utcoffset(at) == end:
                    # Nothing changed in between, or so much that a fixed schedule does not care. A wildcard does: a
                    # start that comes twice sees the same wall times again.
                    if not plan.wildcard or found - at < _DAY or _is_plain(at, tz):
                        return found
                elif _is_plain(at, tz):
                    return found
    except Exhausted:
        pass  # of the wall calendar; the second pass of an overlap may still come
    try:
        return _after(plan, at, tz)
    except OverflowError:
        raise Exhausted("no run is left before the end of the calendar, the year 9999") from None


def before(plan: Plan, at: datetime, tz: tzinfo) -> datetime:
    """The last run strictly before the instant `at`, an aware time of `tz`."""
    try:
        if not at.fold:
            found = search.before(plan, at, tz)
            start = _real_offset(at, tz)
            if start is not None:
                end = _real_offset(found, tz)
                # A wildcard's last run is the second reading of a wall time that comes twice.
                if end is not None and (
                    not plan.wildcard or (start == end and at - found < _DAY) or _is_plain(found, tz)
                ):
                    return found
    except Exhausted:
        pass  # of the wall calendar; a start in a gap is really later than it looks
    try:
        return _before(plan, at, tz)
    except OverflowError:
        raise Exhausted("no run is left after the beginning of the calendar, the year 1") from None


def matches(plan: Plan, at: datetime, tz: tzinfo) -> bool:
    """Whether a run falls into the minute of `at` (the second, for a schedule with seconds)."""
    wall, overlap = _shown(at, tz)
    if plan.with_seconds:
        whole, length = wall.replace(microsecond=0), _SECOND
    else:
        whole, length = wall.replace(second=0, microsecond=0), _MINUTE
    return _run_in(plan, wall, whole, length, overlap, at.fold, tz) is not None


def run_at(plan: Plan, at: datetime) -> datetime | None:
    """The run at exactly that instant, or naive time; None if there is none."""
    tz = at.tzinfo
    if tz is None:
        whole = not at.microsecond and (plan.with_seconds or not at.second)
        return at.replace(fold=0) if whole and search.matches(plan, at) else None
    wall, overlap = _shown(at, tz)
    return _run_in(plan, wall, wall, _MICROSECOND, overlap, at.fold, tz)


def _run_in(
    plan: Plan, wall: datetime, whole: datetime, length: timedelta, overlap: _Change | None, fold: int, tz: tzinfo
) -> datetime | None:
    """A run within `length` of the wall time `whole`, which is `wall` itself or the beginning of its minute or second.

    `overlap` and `fold` say where `wall` is; it is a time that exists.
    """
    hit = not whole.microsecond and (plan.with_seconds or not whole.second) and search.matches(plan, whole)
    if hit and whole != wall:
        # Offsets of old had seconds: the minute may have begun on the other side of a change.
        change = _change(whole, tz)
        if overlap is None and change is not None:
            hit = not change.skipped and plan.wildcard
            fold, overlap = 1, change
        elif overlap is not None and fold and whole < overlap.start:
            hit = False
    if hit and (plan.wildcard or overlap is None or not fold):
        # A fixed schedule is through with a wall time after its first reading.
        return whole.replace(tzinfo=tz, fold=fold if overlap else 0)
    if plan.wildcard:
        return None
    # Or does a gap with a skipped run end here? Then the second before it, or `whole` itself, is in the gap.
    for back in (0, 1) if whole.toordinal() > 1 else (0,):
        change = _change(whole - back * _SECOND, tz)
        if change and change.skipped and whole <= change.end < whole + length and _catches_up(plan, change):
            return change.end.replace(tzinfo=tz)
    return None


def _catches_up(plan: Plan, gap: _Change) -> bool:
    """Whether a fixed schedule has a run to make up for at the end of a gap."""
    return gap.size <= LONGEST_GAP_TO_CATCH_UP and _next_wall(plan, gap.start - _MICROSECOND) < gap.end


def _real_offset(at: datetime, tz: tzinfo) -> timedelta | None:
    """The offset of a time with fold 0 that the clock does show, None for one in a gap (or if the zone cannot tell)."""
    offset = tz.utcoffset(at)
    try:
        # The round trip through UTC moves a time out of a gap. Same tzinfo: compared by wall clock, as meant here.
        return offset if tz.fromutc(at - offset) == at else None  # type: ignore[operator]
    except (OverflowError, TypeError, ValueError):
        return None  # the ends of the calendar, or a zone without an offset or `dst()`


def _zoned(wall: datetime, tz: tzinfo, fold: int = 0) -> datetime:
    """The naive wall time with its zone; ten times as quick as `replace` for fold 0."""
    if fold:
        return datetime(
            wall.year, wall.month, wall.day, wall.hour, wall.minute, wall.second, wall.microsecond, tz, fold=1
        )
    return datetime.combine(wall, wall.time(), tz)


def _is_plain(at: datetime, tz: tzinfo) -> bool:
    """Whether a time with fold 0 is shown exactly once."""
    return tz.utcoffset(at) == tz.utcoffset(_zoned(at, tz, 1))


class _Change:
    """The change of clocks around a wall time that is shown twice or not at all."""

    __slots__ = ("end", "size", "skipped", "start")

    start: datetime  #: first wall time (naive) that is shown twice, or is skipped
    end: datetime  #: first wall time behind it
    size: timedelta
    skipped: bool  #: a gap; otherwise an overlap

    def __init__(self, wall: datetime, tz: tzinfo, old: timedelta, new: timedelta) -> None:
        self.skipped = new > old
        self.size = abs(new - old)
        # With fold 0 the old offset holds up to `end`, in gaps and overlaps alike: walk to the last second that has
        # it, in steps of falling powers of two.
        last = _zoned(wall - timedelta(microseconds=wall.microsecond), tz)
        for power in range(self.size.seconds.bit_length() if self.size < _DAY else len(_POWERS) - 1, -1, -1):
            later = last + _POWERS[power]
            if tz.utcoffset(later) == old:
                last = later
        self.end = datetime.combine(last, last.time()) + _SECOND
        self.start = self.end - self.size


_POWERS = tuple(timedelta(seconds=1 << power) for power in range(18))  # up to three days


def _change(wall: datetime, tz: tzinfo) -> _Change | None:
    """The change a naive wall time falls into; None for a time shown exactly once."""
    old, new = tz.utcoffset(_zoned(wall, tz)), tz.utcoffset(_zoned(wall, tz, 1))
    if old == new or old is None or new is None:
        return None
    return _Change(wall, tz, old, new)


def _shown(at: datetime, tz: tzinfo) -> tuple[datetime, _Change | None]:
    """What the wall clock really shows at the instant `at` (naive), and the overlap it is in, if any."""
    wall = at.replace(tzinfo=None, fold=0) if at.fold else datetime.combine(at, at.time())
    change = _change(wall, tz)
    if change is None or not change.skipped:
        return wall, change
    # In a gap Python reads fold 0 with the offset before it and fold 1 with the one after it.
    return (wall - change.size if at.fold else wall + change.size), None


def _next_wall(plan: Plan, wall: datetime) -> datetime:
    """`search.after`, but the end of time when nothing is left."""
    try:
        return search.after(plan, wall, None)
    except Exhausted:
        return datetime.max  # noqa: DTZ901 -- naive like all wall times here


def _prev_wall(plan: Plan, wall: datetime) -> datetime:
    """`search.before`, but the beginning of time when nothing is left."""
    try:
        return search.before(plan, wall, None)
    except Exhausted:
        return datetime.min  # noqa: DTZ901 -- naive like all wall times here


def _after(plan: Plan, at: datetime, tz: tzinfo) -> datetime:
    """`after` by the rules, for starts and results near a change."""
    wall, overlap = _shown(at, tz)
    if overlap and plan.wildcard:
        found = _next_wall(plan, wall)
        if found < overlap.end:
            return _zoned(found, tz, at.fold)
        if not at.fold:
            # The first pass is over; the second shows the same times again.
            found = _next_wall(plan, overlap.start - _MICROSECOND)
            if found < overlap.end:
                return _zoned(found, tz, 1)
    if overlap and (plan.wildcard or at.fold):
        wall = overlap.end - _MICROSECOND
    while True:
        found = search.after(plan, wall, None)
        change = _change(found, tz)
        if change is None or not change.skipped:
            return _zoned(found, tz)
        if not plan.wildcard and change.size <= LONGEST_GAP_TO_CATCH_UP:
            return _zoned(change.end, tz)
        wall = change.end - _MICROSECOND


def _before(plan: Plan, at: datetime, tz: tzinfo) -> datetime:
    """`before` by the rules, for starts and results near a change."""
    shown, overlap = _shown(at, tz)
    wall = shown
    if overlap and plan.wildcard:
        found = _prev_wall(plan, wall)
        if found >= overlap.start:
            return _zoned(found, tz, at.fold)
        if at.fold:
            found = _prev_wall(plan, overlap.end)
            if found >= overlap.start:
                return _zoned(found, tz)
        wall = overlap.start
    elif overlap and at.fold:
        # A fixed schedule ran all of it in the first pass.
        wall = overlap.end
    while True:
        found = search.before(plan, wall, None)
        change = _change(found, tz)
        if change is None:
            return _zoned(found, tz)
        if not change.skipped:
            return _zoned(found, tz, int(plan.wildcard))
        small = change.size <= LONGEST_GAP_TO_CATCH_UP
        if small and not plan.wildcard and change.end < shown:
            return _zoned(change.end, tz)
        wall = change.start
