"""The public class: one cron expression, and the questions it answers."""

from __future__ import annotations

from datetime import datetime, timezone

from tm.cron import search, zones
from tm.cron.errors import Exhausted
from tm.cron.parse import parse

TYPE_CHECKING = False
if TYPE_CHECKING:  # importing typing would double the import time of the package
    from collections.abc import Iterator
    from typing import Literal, NoReturn

    from tm.cron.plan import Plan

    DayRule = Literal["vixie", "or", "and"]

_DAY_RULES = ("vixie", "or", "and")


class Expression:
    """A cron expression: five fields, six with seconds first, seven with a year last, or a nickname such as `@daily`.

    Immutable, hashable, picklable and free to share between threads: no call leaves a trace in another. Two expressions
    are equal when they have the same runs, however they are written.

    Naive times are plain calendar arithmetic. For aware times the schedule is read in their own zone, and results carry
    the same tzinfo object; docs/cron.md has the rules for the days when clocks are changed.
    """

    __slots__ = ("_plan", "day_rule", "key", "text")
    __match_args__ = ("text",)

    text: str  #: the expression as it was given
    day_rule: DayRule  #: when a day must be in both day fields: "vixie" (either begins with * or ?), "or", "and"
    key: str | None  #: what H values are made from
    _plan: Plan

    def __init__(self, text: str, *, day_rule: DayRule = "vixie", key: str | None = None) -> None:
        """Read the text.

        Raises:
            CronError: the text is no cron expression, or can never run (`0 0 30 2 *`).
            ValueError: `day_rule` is none of the three.
        """
        if not isinstance(text, str):
            raise TypeError(f"the text of an expression is a str, not {type(text).__name__}")
        if day_rule not in _DAY_RULES:
            raise ValueError(f"day_rule is one of {', '.join(_DAY_RULES)}, not {day_rule!r}")
        _set_plan(self, parse(text, day_rule, key))
        _set_text(self, text)
        _set_day_rule(self, day_rule)
        _set_key(self, key)

    def next(self, dt: datetime) -> datetime:
        """The first run strictly after `dt`; raises Exhausted when there is none."""
        tz = dt.tzinfo
        if tz is None or type(tz) is timezone:
            return search.after(self._plan, dt, tz)
        return zones.after(self._plan, dt, tz)

    def prev(self, dt: datetime) -> datetime:
        """The last run strictly before `dt`; raises Exhausted when there is none."""
        tz = dt.tzinfo
        if tz is None or type(tz) is timezone:
            return search.before(self._plan, dt, tz)
        return zones.before(self._plan, dt, tz)

    def iter(self, start: datetime) -> Iterator[datetime]:
        """The runs strictly after `start`, in order; ends when none is left."""
        try:
            while True:
                start = self.next(start)
                yield start
        except Exhausted:
            return

    def iter_back(self, start: datetime) -> Iterator[datetime]:
        """The runs strictly before `start`, latest first; ends when none is left."""
        try:
            while True:
                start = self.prev(start)
                yield start
        except Exhausted:
            return

    def between(self, start: datetime, end: datetime) -> Iterator[datetime]:
        """The runs from `start` (included) to `end` (not included), so that adjoining windows share none.

        The schedule is read in the zone of `start`; `end` may be of another one, but both or neither must be aware.
        """
        if (start.tzinfo is None) != (end.tzinfo is None):
            raise TypeError("between() needs two naive or two aware datetimes")
        return self._between(start, end)

    def _between(self, start: datetime, end: datetime) -> Iterator[datetime]:
        offset = end.utcoffset()
        if offset is not None:
            # Two times of one zone would be compared by the wall clock; with a fixed offset, as instants.
            end = end.replace(tzinfo=timezone(offset), fold=0)
        try:
            run = zones.run_at(self._plan, start) or self.next(start)
            while run < end:
                yield run
                run = self.next(run)
        except Exhausted:
            return

    def match(self, dt: datetime) -> bool:
        """Whether there is a run in the minute of `dt`, or in its second when the expression has a seconds field.

        For aware times these are the runs that `next` gives: a fixed `30 2 * * *` matches 03:00 on the day that has no
        02:30, and does not match the second 02:30 of a day that has two.
        """
        tz = dt.tzinfo
        if tz is None or type(tz) is timezone:
            return search.matches(self._plan, dt)
        return zones.matches(self._plan, dt, tz)

    def explain(self) -> str:
        """The schedule in English: when it runs, and on further lines what could surprise (see docs/cron.md)."""
        from tm.cron.explain import explain

        return explain(self)

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        rule = "" if self.day_rule == "vixie" else f", day_rule={self.day_rule!r}"
        key = "" if self.key is None else f", key={self.key!r}"
        return f"Expression({self.text!r}{rule}{key})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Expression):
            return NotImplemented
        return self._plan.meaning() == other._plan.meaning()

    def __hash__(self) -> int:
        return hash(self._plan.meaning())

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"an Expression cannot be changed ({name})")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"an Expression cannot be changed ({name})")

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.text, self.day_rule, self.key)


def _rebuild(kind: type[Expression], text: str, day_rule: DayRule, key: str | None) -> Expression:
    return kind(text, day_rule=day_rule, key=key)


# The slots' own setters: the class forbids assignment, and object.__setattr__ would look each name up again.
_set_plan, _set_text, _set_day_rule, _set_key = (
    vars(Expression)[slot].__set__ for slot in ("_plan", "text", "day_rule", "key")
)
