"""A schedule in plain English, worded from its sets and not from its text, so that it is true.

The first line is one sentence on times, days, months and years; every further line is a note on something that could
surprise (`tm.cron.traps`).
"""

from __future__ import annotations

from itertools import pairwise

from tm.cron.days import ALL_DAYS
from tm.cron.fields import DAY_NAMES, FIRST_YEAR, MONTH_NAMES, YEAR
from tm.cron.traps import notes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tm.cron.expression import Expression
    from tm.cron.plan import Plan

_NTH = ("first", "second", "third", "fourth", "fifth", "last")
_MOST_TIMES = 6  # times of day that are listed one by one; more are described


def explain(expression: Expression) -> str:
    """The sentence, and a line for every note."""
    lines = [summary(expression._plan)]  # noqa: SLF001 -- one package
    lines += [f"Note: {note.text}" for note in notes(expression)]
    return "\n".join(lines)


def summary(plan: Plan) -> str:
    """The one sentence, without a full stop."""
    times, once = _times(plan)
    days = _days(plan)
    if once and not days:
        # "At 02:30" alone would leave open how often.
        days = " every day"
    return times + days + _months(plan) + _years(plan)


# --- times of day -------------------------------------------------------------------------------------------------


def _times(plan: Plan) -> tuple[str, bool]:
    """The words for the times, and whether they are times of day (`At 02:30`) that call for a day."""
    seconds, minutes, hours = bits(plan.seconds), bits(plan.minutes), bits(plan.hours)
    if seconds == [0]:
        return _minutes(minutes, hours, "")
    if len(seconds) == 1 and len(minutes) * len(hours) <= _MOST_TIMES:
        return _minutes(minutes, hours, f":{seconds[0]:02}")
    which = _stepped(seconds, 60, "second") or f"At {_plural('second', seconds)}"
    if len(minutes) == 60 and len(hours) == 24:
        return which if which.startswith("Every") else f"{which} of every minute", False
    words, once = _minutes(minutes, hours, "")
    return f"{which}, in these minutes: {words[0].lower()}{words[1:]}", once


def _minutes(minutes: list[int], hours: list[int], second: str) -> tuple[str, bool]:
    step = _stepped(minutes, 60, "minute")
    solid = hours == list(range(hours[0], hours[-1] + 1))
    if len(hours) == 24:
        if step:
            return step, False
        if minutes == [0]:
            return "Every hour, on the hour", False
        if len(minutes) == 1:
            return f"At {minutes[0]} minute{'s' * (minutes[0] != 1)} past every hour", False
        return f"At {_plural('minute', minutes)} of every hour", False
    span = f"from {hours[0]:02}:{minutes[0]:02} to {hours[-1]:02}:{minutes[-1]:02}"
    if step and solid and len(minutes) > 2:
        return f"{step} {span}", True
    if len(minutes) * len(hours) <= _MOST_TIMES:
        return "At " + joined([f"{hour:02}:{minute:02}{second}" for hour in hours for minute in minutes]), True
    if len(minutes) == 1:
        if solid:
            return f"Every hour {span}", True
        if _even(hours):
            return f"Every {hours[1] - hours[0]} hours {span}", True
        return f"At {_plural('minute', minutes)} of the hours {listed(hours)}", True
    if solid:
        which = f"the hour {hours[0]}" if len(hours) == 1 else f"every hour from {hours[0]} to {hours[-1]}"
    elif _even(hours):
        which = f"every {_ordinal(hours[1] - hours[0])} hour from {hours[0]} to {hours[-1]}"
    else:
        which = f"the hours {listed(hours)}"
    return (f"{step} in {which}" if step else f"At {_plural('minute', minutes)} of {which}"), True


def _stepped(values: list[int], size: int, unit: str) -> str:
    """`Every 15 minutes` when the values are that far apart all round the clock; otherwise empty."""
    if len(values) == size:
        return f"Every {unit}"
    if len(values) > 1 and values[0] == 0 and _even([*values, size]):
        return f"Every {values[1]} {unit}s"
    return ""


def _even(values: Sequence[int]) -> bool:
    return len({later - earlier for earlier, later in pairwise(values)}) == 1


def _plural(unit: str, values: list[int]) -> str:
    return f"{unit}{'s' * (len(values) > 1)} {listed(values)}"


# --- days, months, years ------------------------------------------------------------------------------------------


def _days(plan: Plan) -> str:
    all_dom = not plan.dom_special and plan.dom & ALL_DAYS[3] == ALL_DAYS[3]
    all_dow = plan.dow == 127
    dom, dow = _days_of_month(plan), _days_of_week(plan)  # `the 1st of the month`, ` on Friday` or `, Monday to Friday`
    if plan.both:
        if all_dom and all_dow:
            return ""
        if all_dom:
            return dow
        return f" on {dom}" if all_dow else f"{dow} when it falls on {dom}"
    if all_dom or all_dow:
        return ""
    return f" on {dom}, and also{dow.removeprefix(',')}"


def _days_of_month(plan: Plan) -> str:
    parts = []
    days = bits(plan.dom)
    if len(days) > _MOST_TIMES and _even(days) and days[1] - days[0] > 1:
        step = _ordinal(days[1] - days[0])
        parts.append(f"every {step} day from the {_ordinal(days[0])} to the {_ordinal(days[-1])}")
    elif days:
        parts.append(f"the {listed(days, _ordinal, ' to the ', ', the ', ' and the ')}")
    if plan.dom_special:
        before_last, last_weekday, nearest = plan.dom_special
        for back in bits(before_last):
            many = f"{back} day{'s' * (back != 1)} before "
            parts.append(f"{many if back else ''}the last day")
        if last_weekday:
            parts.append("the last weekday")
        if nearest:
            parts.append(f"the weekday nearest the {_ordinal(nearest)}")
    return f"{joined(parts)} of the month"


def _days_of_week(plan: Plan) -> str:
    parts = []
    plain = bits(plan.dow)
    # Weeks are read from Monday: Sunday last, so that sat-sun and 5-7 are one piece.
    week = sorted(plain, key=lambda day: day or 7)
    if len(week) > 2 and [day or 7 for day in week] == list(range(week[0], (week[-1] or 7) + 1)):
        span = f"{DAY_NAMES[week[0]]} to {DAY_NAMES[week[-1]]}"
        if not plan.dow_special:
            return f", {span}"
        parts.append(span)
    elif week:
        parts.append(joined([DAY_NAMES[day] for day in week]))
    if plan.dow_special:
        for nth, days in zip(_NTH, plan.dow_special, strict=True):
            if days:
                names = [DAY_NAMES[day] for day in sorted(bits(days), key=lambda day: day or 7)]
                parts.append(f"the {nth} {joined(names)} of the month")
    return f" on {joined(parts)}"


def _months(plan: Plan) -> str:
    months = bits(plan.months)
    if len(months) == 12:
        return ""
    if len(months) > 2 and months == list(range(months[0], months[-1] + 1)):
        return f" from {MONTH_NAMES[months[0] - 1]} to {MONTH_NAMES[months[-1] - 1]}"
    return " in " + joined([MONTH_NAMES[month - 1] for month in months])


def _years(plan: Plan) -> str:
    if plan.years is None:
        return ""
    if plan.years == YEAR.star:
        return f" in the years {YEAR.low} to {YEAR.high}"
    years = [FIRST_YEAR + bit for bit in bits(plan.years)]
    return f" in the year{'s' * (len(years) > 1)} {listed(years)}"


# --- words --------------------------------------------------------------------------------------------------------


def bits(mask: int) -> list[int]:
    """The numbers of the bits that are set, rising."""
    return [bit for bit in range(mask.bit_length()) if mask >> bit & 1]


def joined(parts: Sequence[str], comma: str = ", ", last: str = " and ") -> str:
    """`a`, `a and b`, `a, b and c`."""
    return last.join((comma.join(parts[:-1]), parts[-1])) if len(parts) > 1 else "".join(parts)


def listed(
    values: list[int],
    spelled: Callable[[int], str] = str,
    to: str = " to ",
    comma: str = ", ",
    last: str = " and ",
) -> str:
    """Rising numbers in words; three and more in a row become `a to c`."""
    parts: list[str] = []
    start = 0
    for place, value in enumerate(values):
        if place + 1 == len(values) or values[place + 1] != value + 1:
            row = values[start : place + 1]
            parts += [f"{spelled(row[0])}{to}{spelled(row[-1])}"] if len(row) > 2 else [spelled(one) for one in row]
            start = place + 1
    return joined(parts, comma, last)


def _ordinal(number: int) -> str:
    if number % 100 in {11, 12, 13}:
        return f"{number}th"
    return f"{number}{ {1: 'st', 2: 'nd', 3: 'rd'}.get(number % 10, 'th') }"
