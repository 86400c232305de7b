"""The odd days of a zone: which changes of clocks touch a schedule in the time to come, and what it does then."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo

from tm.cron import search
from tm.cron.errors import Exhausted
from tm.cron.zones import LONGEST_GAP_TO_CATCH_UP

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from tm.cron.expression import Expression
    from tm.cron.plan import Plan

_DAY, _MICROSECOND = timedelta(days=1), timedelta(microseconds=1)
_EARLIEST, _LATEST = datetime(2, 1, 1, tzinfo=UTC), datetime(9998, 1, 1, tzinfo=UTC)


def odd_days(expression: Expression, start: datetime, days: int = 366) -> list[str]:
    """One sentence for each change of clocks that touches the schedule within some days of an aware `start`."""
    if start.tzinfo is None:
        raise TypeError("odd days are those of a zone: an aware datetime is needed")
    plan = expression._plan  # noqa: SLF001 -- one package
    sentences = [_sentence(plan, *change) for change in _changes(start, start.tzinfo, days)]
    return [sentence for sentence in sentences if sentence]


def _changes(start: datetime, tz: tzinfo, days: int) -> Iterator[tuple[datetime, datetime]]:
    """The last wall time before each change of offset and the first one after it (naive; the later first: a gap)."""
    # At the ends of the calendar there is no year to look at.
    at = min(max(start, _EARLIEST), _LATEST).astimezone(UTC).replace(microsecond=0)
    for _ in range(days):
        low, high = at, at + _DAY
        if _offset(low, tz) != _offset(high, tz):
            while high - low > timedelta(seconds=1):
                middle = low + (high - low) // 2
                middle = middle.replace(microsecond=0)
                if _offset(middle, tz) == _offset(at, tz):
                    low = middle
                else:
                    high = middle
            yield (high + _offset(at, tz)).replace(tzinfo=None), (high + _offset(high, tz)).replace(tzinfo=None)
        at += _DAY


def _offset(at: datetime, tz: tzinfo) -> timedelta:
    return at.astimezone(tz).utcoffset() or timedelta(0)


def _sentence(plan: Plan, before: datetime, behind: datetime) -> str:
    """What happens when the clock jumps from `before` to `behind`; empty when no run is in between."""
    low, high = min(before, behind), max(before, behind)
    try:
        touched = search.after(plan, low - _MICROSECOND, None)
    except Exhausted:
        return ""
    if touched >= high:
        return ""
    example = f"{touched:%H:%M:%S}" if touched.second else f"{touched:%H:%M}"
    if behind > before:
        head = f"{low:%Y-%m-%d}: the clock skips from {low:%H:%M} to {high:%H:%M}"
        if plan.wildcard:
            return f"{head}; runs such as {example} are left out"
        if high - low > LONGEST_GAP_TO_CATCH_UP:
            return f"{head} of {high:%Y-%m-%d}; the runs of that time are lost"
        return f"{head}; the run of {example} comes at {high:%H:%M}"
    head = f"{high:%Y-%m-%d}: the clock shows {low:%H:%M} to {high:%H:%M} twice"
    if plan.wildcard:
        return f"{head}; runs such as {example} come in both passes"
    return f"{head}; the run of {example} comes once, the first time"
