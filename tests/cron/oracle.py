"""A second, slow reading of the specification, to compare the engine with.

Nothing is shared with the engine: the grammar is a regular expression, fields are Python sets, a day is tested by
looking at its date, runs around a change of clocks are found by walking all the minutes on both sides of it.
"""

from __future__ import annotations

import re
from calendar import monthrange
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import cache

MINUTE = timedelta(minutes=1)
NAMES = {
    "month": {
        name: place
        for place, name in enumerate(
            ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"), 1
        )
    },
    "dow": {name: place for place, name in enumerate(("sun", "mon", "tue", "wed", "thu", "fri", "sat"))},
}
RANGES = {
    "second": (0, 59),
    "minute": (0, 59),
    "hour": (0, 23),
    "dom": (1, 31),
    "month": (1, 12),
    "dow": (0, 7),
    "year": (1970, 2199),
}
NICKNAMES = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
VALUE = r"[0-9]+|[a-z]{3}"
PLAIN = re.compile(rf"(?:(?P<star>\*)|(?P<low>{VALUE})(?:-(?P<high>{VALUE}))?)(?:/(?P<step>[0-9]+))?")
NTH = re.compile(rf"(?P<low>{VALUE})(?:-(?P<high>{VALUE}))?\#(?P<nth>[1-5]|l)")


class Bad(Exception):  # noqa: N818 -- reads better
    """Not a cron expression."""


@dataclass(frozen=True)
class Meaning:
    seconds: frozenset[int]
    minutes: frozenset[int]
    hours: frozenset[int]
    months: frozenset[int]
    years: frozenset[int] | None
    dom: str
    dow: str
    both: bool
    wildcard: bool
    with_seconds: bool

    def day(self, day: date) -> bool:
        if day.month not in self.months or (self.years is not None and day.year not in self.years):
            return False
        hits = dom_hit(self.dom, day), dow_hit(self.dow, day)
        return all(hits) if self.both else any(hits)


def read(text: str, day_rule: str = "vixie") -> Meaning:
    """The meaning of a text; raises Bad."""
    text = text.strip(" \t\r\n").lower() if text.isascii() else "?"
    text = NICKNAMES.get(text, text)
    if not re.fullmatch(r"[!-~]+(?:[ \t]+[!-~]+){4,6}", text):
        raise Bad("fields")
    fields = re.split(r"[ \t]+", text)
    with_seconds = len(fields) > 5
    second = fields.pop(0) if with_seconds else "0"
    minute, hour, dom, month, dow, *rest = fields
    for item in dom.split(","):
        if re.fullmatch(r"[0-9]+w", item):
            if item != dom or not 1 <= int(item[:-1]) <= 31:
                raise Bad(item)
        elif re.fullmatch(r"l-[0-9]+", item):
            if int(item[2:]) > 30:
                raise Bad(item)
        elif item not in {"l", "lw"} and dom != "?":
            plain("dom", item)
    weekdays = dow.removeprefix("+")
    for item in weekdays.split(","):
        found = NTH.fullmatch(item)
        if found:
            span("dow", found["low"], found["high"])
        elif re.fullmatch(rf"(?:{VALUE})l", item):
            value("dow", item[:-1])
        elif dow != "?":
            plain("dow", item)
    if day_rule == "vixie":
        both = dom[0] in "*?" or dow[0] in "*?+"
    elif day_rule == "or":
        both = dom in {"*", "?"} or dow in {"*", "?"} or dow[0] == "+"
    else:
        both = True
    meaning = Meaning(
        seconds=many("second", second),
        minutes=many("minute", minute),
        hours=many("hour", hour),
        months=many("month", month),
        years=many("year", rest[0]) if rest else None,
        dom="*" if dom == "?" else dom,
        dow="*" if dow == "?" else weekdays,
        both=both,
        wildcard=(with_seconds and second[0] == "*") or minute[0] == "*" or hour[0] == "*",
        with_seconds=with_seconds,
    )
    # One year of each kind: dates fall alike in years that begin with the same weekday and are as long.
    wanted = meaning.years if meaning.years is not None else range(2000, 2028)
    years = {(date(year, 1, 1).weekday(), date(year, 12, 31).timetuple().tm_yday): year for year in wanted}.values()
    if not any(meaning.day(day) for year in years for day in days_of(year, meaning.months)):
        raise Bad("never")
    return meaning


def days_of(year: int, months: frozenset[int]):
    for month in months:
        for day in range(1, monthrange(year, month)[1] + 1):
            yield date(year, month, day)


def many(field: str, text: str) -> frozenset[int]:
    return frozenset().union(*(plain(field, item) for item in text.split(",")))


@cache
def plain(field: str, item: str) -> set[int]:
    found = PLAIN.fullmatch(item)
    if not found:
        raise Bad(item)
    step = int(found["step"] or 1)
    if step < 1:
        raise Bad(item)
    low, high = RANGES[field]
    if found["star"]:
        values = range(low, high + 1)
        if field == "dow":
            values = range(7)
    elif found["high"] or not found["step"]:
        values = span(field, found["low"], found["high"])
    else:
        values = range(value(field, found["low"]), high + 1)
    chosen = set(values[::step])
    return {day % 7 for day in chosen} if field == "dow" else chosen


def span(field: str, low: str, high: str | None) -> range:
    first = value(field, low)
    if high is None or high == low:
        return range(first, first + 1)
    last = 7 if (field, high) == ("dow", "sun") else value(field, high)
    if last < first:
        raise Bad(f"{low}-{high}")
    return range(first, last + 1)


def value(field: str, text: str) -> int:
    number = int(text) if text.isdigit() else NAMES.get(field, {}).get(text, -1)
    low, high = RANGES[field]
    if not low <= number <= high:
        raise Bad(text)
    return number


def dom_hit(text: str, day: date) -> bool:
    length = monthrange(day.year, day.month)[1]
    for item in text.split(","):
        if item == "l":
            hit = day.day == length
        elif item == "lw":
            hit = day.day == max(one for one in range(1, length + 1) if day.replace(day=one).weekday() < 5)
        elif item.startswith("l-"):
            hit = day.day == length - int(item[2:])
        elif item.endswith("w"):
            wanted = int(item[:-1])
            workdays = [one for one in range(1, length + 1) if day.replace(day=one).weekday() < 5]
            hit = wanted <= length and day.day == min(workdays, key=lambda one: abs(one - wanted))
        else:
            hit = day.day in plain("dom", item)
        if hit:
            return True
    return False


def dow_hit(text: str, day: date) -> bool:
    length = monthrange(day.year, day.month)[1]
    weekday = day.isoweekday() % 7
    for item in text.split(","):
        found = NTH.fullmatch(item)
        if found:
            days = {one % 7 for one in span("dow", found["low"], found["high"])}
            nth = found["nth"]
            hit = weekday in days and (day.day + 7 > length if nth == "l" else (day.day - 1) // 7 + 1 == int(nth))
        elif item[-1] == "l":
            hit = weekday == value("dow", item[:-1]) % 7 and day.day + 7 > length
        else:
            hit = weekday in plain("dow", item)
        if hit:
            return True
    return False


def naive_runs(meaning: Meaning, start: datetime, end: datetime):
    """The matching wall times from `start` to before `end`, day by day, minute by minute."""
    day = start.date()
    while day <= end.date():
        if meaning.day(day):
            for hour in sorted(meaning.hours):
                for minute in sorted(meaning.minutes):
                    for second in sorted(meaning.seconds):
                        wall = datetime(day.year, day.month, day.day, hour, minute, second)
                        if start <= wall < end:
                            yield wall
        day += timedelta(days=1)


@dataclass(frozen=True, order=True)
class Change:
    """One change of a zone's clock."""

    instant: datetime  #: naive UTC
    old: timedelta
    new: timedelta


def runs_around(meaning: Meaning, change: Change, start: datetime, end: datetime) -> list[datetime]:
    """The instants (naive UTC) of the runs from `start` to before `end`, given the only change between them.

    Walks every minute the wall clock shows before and after the change.
    """
    first: dict[datetime, datetime] = {}  # wall time -> its first instant
    every: set[datetime] = set()
    for offset, low, high in ((change.old, start, change.instant), (change.new, change.instant, end)):
        for wall in shown(meaning, low + offset, high + offset):
            first.setdefault(wall, wall - offset)
            every.add(wall - offset)
    if meaning.wildcard:
        return sorted(every)
    runs = set(first.values())
    if timedelta(0) < change.new - change.old <= timedelta(hours=3):
        skipped = shown(meaning, change.instant + change.old, change.instant + change.new)
        runs |= {change.instant for _ in skipped}
    return sorted(runs)


def shown(meaning: Meaning, start: datetime, end: datetime):
    """The matching times among those a clock shows from `start` to before `end`."""
    wall = start.replace(second=0)
    while wall < end:
        if wall.minute in meaning.minutes and wall.hour in meaning.hours and meaning.day(wall.date()):
            for second in sorted(meaning.seconds):
                if start <= wall.replace(second=second) < end:
                    yield wall.replace(second=second)
        wall += MINUTE


def changes(zone, start: datetime, end: datetime, step: timedelta = timedelta(days=1)) -> list[Change]:
    """All changes of the zone's offset between two naive UTC times; none has two within a step."""
    found = []
    at = start.replace(tzinfo=zone)
    last = zone.fromutc(at).utcoffset()
    while at.replace(tzinfo=None) < end:
        offset = zone.fromutc(at + step).utcoffset()
        if offset != last:
            low, high = 0, int(step.total_seconds())
            while high - low > 1:
                middle = (low + high) // 2
                if zone.fromutc(at + timedelta(seconds=middle)).utcoffset() == last:
                    low = middle
                else:
                    high = middle
            found.append(Change((at + timedelta(seconds=high)).replace(tzinfo=None), last, offset))
        at += step
        last = offset
    return found
