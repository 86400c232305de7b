"""The wall calendar: the first match after a date and time, and the last before one. No zones here.

Both functions read year to microsecond of `at` and give plain datetimes with fold 0 that carry `tz` untouched.
"""

from __future__ import annotations

from datetime import datetime, timedelta, tzinfo

from tm.cron.days import CYCLE, SHAPES, YEAR_KINDS
from tm.cron.errors import Exhausted
from tm.cron.fields import FIRST_YEAR

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tm.cron.plan import Plan

_MINUTES = tuple(timedelta(minutes=count) for count in range(60))


def after(plan: Plan, at: datetime, tz: tzinfo | None) -> datetime:
    """The first match strictly after `at`; Exhausted past the year field or the year 9999."""
    if plan.quick:
        # Later in this hour: half of all answers in practice, and adding is three times as fast as building.
        minutes = plan.minutes >> at.minute >> 1
        if minutes and plan.hours >> at.hour & 1 and not at.second and not at.microsecond and type(at) is datetime:
            return at + _MINUTES[(minutes & -minutes).bit_length()]
    year, month, day = at.year, at.month, at.day
    if plan.months >> month & 1 and (plan.years is None or _has_year(plan.years, year)):
        shape = SHAPES[year % 400 * 12 + month]
        days = plan.masks[shape]
        if days < 0:
            days = plan.days(shape)
        days >>= day
        if days & 1:
            hour = at.hour
            hours = plan.hours >> hour
            if hours & 1:
                minute = at.minute
                minutes = plan.minutes >> minute
                # Only a set of seconds beyond {0} can have a match later in this minute: bit 0 is never after.
                if minutes & 1 and plan.seconds != 1:
                    second = at.second
                    seconds = plan.seconds >> second + 1
                    if seconds:
                        second += (seconds & -seconds).bit_length()
                        return datetime(year, month, day, hour, minute, second, 0, tz)
                minutes >>= 1
                if minutes:
                    minute += (minutes & -minutes).bit_length()
                    return datetime(year, month, day, hour, minute, plan.first_second, 0, tz)
            hours >>= 1
            if hours:
                hour += (hours & -hours).bit_length()
                return datetime(year, month, day, hour, plan.first_minute, plan.first_second, 0, tz)
        days >>= 1
        if days:
            day += (days & -days).bit_length()
            return datetime(year, month, day, plan.first_hour, plan.first_minute, plan.first_second, 0, tz)
    year, month, days = _later_month(plan, year, month)
    day = (days & -days).bit_length() - 1
    return datetime(year, month, day, plan.first_hour, plan.first_minute, plan.first_second, 0, tz)


def before(plan: Plan, at: datetime, tz: tzinfo | None) -> datetime:
    """The last match strictly before `at`; Exhausted before the year field or the year 1."""
    year, month, day = at.year, at.month, at.day
    if plan.months >> month & 1 and (plan.years is None or _has_year(plan.years, year)):
        shape = SHAPES[year % 400 * 12 + month]
        days = plan.masks[shape]
        if days < 0:
            days = plan.days(shape)
        if days >> day & 1:
            hour = at.hour
            if plan.hours >> hour & 1:
                minute = at.minute
                if plan.minutes >> minute & 1:
                    second = at.second
                    # The whole second itself is before any fraction of it.
                    seconds = plan.seconds & ((2 if at.microsecond else 1) << second) - 1
                    if seconds:
                        return datetime(year, month, day, hour, minute, seconds.bit_length() - 1, 0, tz)
                minutes = plan.minutes & (1 << minute) - 1
                if minutes:
                    minute = minutes.bit_length() - 1
                    return datetime(year, month, day, hour, minute, plan.seconds.bit_length() - 1, 0, tz)
            hours = plan.hours & (1 << hour) - 1
            if hours:
                return _end_of(plan, year, month, day, hours, tz)
        days &= (1 << day) - 1
        if days:
            return _end_of(plan, year, month, days.bit_length() - 1, plan.hours, tz)
    year, month, days = _earlier_month(plan, year, month)
    return _end_of(plan, year, month, days.bit_length() - 1, plan.hours, tz)


def matches(plan: Plan, at: datetime) -> bool:
    """Whether the wall time is in every set; the seconds are looked at only if the expression has a field for them."""
    return bool(
        plan.minutes >> at.minute & 1
        and plan.hours >> at.hour & 1
        and plan.months >> at.month & 1
        and (not plan.with_seconds or plan.seconds >> at.second & 1)
        and plan.days(SHAPES[at.year % 400 * 12 + at.month]) >> at.day & 1
        and (plan.years is None or _has_year(plan.years, at.year))
    )


def _end_of(plan: Plan, year: int, month: int, day: int, hours: int, tz: tzinfo | None) -> datetime:
    hour, minute, second = (
        hours.bit_length() - 1,
        plan.minutes.bit_length() - 1,
        plan.seconds.bit_length() - 1,
    )
    return datetime(year, month, day, hour, minute, second, 0, tz)


def _has_year(years: int, year: int) -> bool:
    return year >= FIRST_YEAR and years >> year - FIRST_YEAR & 1 == 1


def _later_month(plan: Plan, year: int, month: int) -> tuple[int, int, int]:
    """Year, month and days of the first month after the given one that has any."""
    months = plan.months >> month + 1 << month + 1
    if plan.years is not None and not _has_year(plan.years, year):
        months = 0
    while True:
        # A year without the 29th of February or a fifth Friday is one look at its kind per month it names.
        shapes = YEAR_KINDS[CYCLE[year % 400]]
        while months:
            bit = months & -months
            month = bit.bit_length() - 1
            days = plan.days(shapes[month - 1])
            if days:
                return year, month, days
            months ^= bit
        year += 1
        months = plan.months
        if plan.years is not None:
            later = plan.years >> max(0, year - FIRST_YEAR)
            if not later:
                raise Exhausted(f"no run is left: the last year it names is {FIRST_YEAR + plan.years.bit_length() - 1}")
            year = max(year, FIRST_YEAR) + (later & -later).bit_length() - 1
        if year > 9999:
            raise Exhausted("no run is left before the end of the calendar, the year 9999")


def _earlier_month(plan: Plan, year: int, month: int) -> tuple[int, int, int]:
    """Year, month and days of the last month before the given one that has any."""
    months = plan.months & (1 << month) - 1
    if plan.years is not None and not _has_year(plan.years, year):
        months = 0
    while True:
        shapes = YEAR_KINDS[CYCLE[year % 400]]
        while months:
            month = months.bit_length() - 1
            days = plan.days(shapes[month - 1])
            if days:
                return year, month, days
            months ^= 1 << month
        year -= 1
        months = plan.months
        if plan.years is not None:
            earlier = plan.years & (1 << max(0, year - FIRST_YEAR + 1)) - 1
            if not earlier:
                first = (plan.years & -plan.years).bit_length() - 1 + FIRST_YEAR
                raise Exhausted(f"no run is left: the first year it names is {first}")
            year = FIRST_YEAR + earlier.bit_length() - 1
        if year < 1:
            raise Exhausted("no run is left after the beginning of the calendar, the year 1")
