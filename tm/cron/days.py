"""The calendar: which days of a month a schedule means.

A month has one of 28 shapes: the weekday of its first day (7) and its length (28 to 31). The days a schedule means
depend on nothing else, so they are computed once for each shape and the whole calendar is table look-ups.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from tm.cron.plan import Plan

SHAPE_COUNT = 28
ALL_DAYS = tuple((2 << 28 + shape % 4) - 2 for shape in range(SHAPE_COUNT))  # shape -> bits 1 .. length
_WEEKS = 0b1_0000001_0000001_0000001_0000001 << 1  # one bit a week, the first on day 1


def _year_kinds() -> tuple[bytes, ...]:
    """Twelve shapes for each of the 14 kinds of year; index is 2 * weekday of 1 January + leap."""
    kinds = []
    for kind in range(14):
        first, leap = divmod(kind, 2)
        shapes = []
        for length in (31, 28 + leap, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31):
            shapes.append(first * 4 + length - 28)
            first = (first + length) % 7
        kinds.append(bytes(shapes))
    return tuple(kinds)


def _calendar(kinds: tuple[bytes, ...]) -> tuple[bytes, bytes]:
    """The kind of every year of the 400-year cycle, and the shape of its every month."""
    cycle = bytearray()
    first = 6  # 1 January of the year 0 (and 400, ..., 2000) is a Saturday
    for year in range(400):
        leap = year % 4 == 0 and (year % 100 != 0 or year == 0)
        cycle.append(first * 2 + leap)
        first = (first + 365 + leap) % 7
    # One unused byte in front: months count from 1.
    return bytes(cycle), b"\0" + b"".join(kinds[kind] for kind in cycle)


YEAR_KINDS = _year_kinds()
CYCLE, SHAPES = _calendar(YEAR_KINDS)  # the shape of a month is SHAPES[year % 400 * 12 + month]


def month_days(plan: Plan, shape: int) -> int:
    """The days of a month of this shape, bit d for day d; the month and year fields are not looked at."""
    first, length = shape >> 2, 28 + (shape & 3)
    every = ALL_DAYS[shape]

    dom = plan.dom & every
    if plan.dom_special:
        dom |= _special_days(plan, first, length)

    dow = (_turned(plan.dow, first) * _WEEKS) & every
    if plan.dow_special:
        for nth, weekdays in enumerate(plan.dow_special[:5]):
            dow |= _turned(weekdays, first) << (7 * nth + 1) & every
        last = plan.dow_special[5]
        dow |= (_turned(last, first) * _WEEKS) & (127 << length - 6) & every

    return dom & dow if plan.both else dom | dow


def _turned(weekdays: int, first: int) -> int:
    """The weekday set (bit 0 is Sunday) as days of a week that begins with weekday `first`."""
    return (weekdays >> first | weekdays << 7 - first) & 127


def _special_days(plan: Plan, first: int, length: int) -> int:
    """`L`, `L-n`, `LW` and `nW` in a month of that first weekday and length."""
    assert plan.dom_special is not None  # noqa: S101 -- for the type checker: the caller looked
    before_last, last_weekday, nearest = plan.dom_special
    days = 0
    for back in range(length):
        if before_last >> back & 1:
            days |= 1 << length - back
    if last_weekday:
        days |= 1 << _nearest_weekday(length, _weekday(first, length), length)
    if 0 < nearest <= length:
        days |= 1 << _nearest_weekday(nearest, _weekday(first, nearest), length)
    return days


def _weekday(first: int, day: int) -> int:
    return (first + day - 1) % 7


def _nearest_weekday(day: int, weekday: int, length: int) -> int:
    """Monday to Friday nearest to `day` without leaving the month."""
    if weekday == 6:
        return day - 1 if day > 1 else 3
    if weekday == 0:
        return day + 1 if day < length else day - 2
    return day


def can_occur(plan: Plan) -> bool:
    """Whether any day of any year matches: exact, for there are only 14 kinds of year."""
    if plan.years is None:
        kinds: Iterable[int] = range(14)
    else:
        kinds = {CYCLE[(1970 + bit) % 400] for bit in range(plan.years.bit_length()) if plan.years >> bit & 1}
    months = [month for month in range(1, 13) if plan.months >> month & 1]
    return any(plan.days(YEAR_KINDS[kind][month - 1]) for kind in kinds for month in months)
