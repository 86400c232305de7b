"""What surprises people about a schedule that is right: found for `explain()` and for `tm cron lint`."""

from __future__ import annotations

from tm.cron.days import ALL_DAYS
from tm.cron.fields import DAY_NAMES, DOM, DOW, HOUR, MINUTE, MONTH, ORDER, SECOND, YEAR
from tm.cron.parse import plain_fields

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from tm.cron.expression import Expression
    from tm.cron.fields import Field
    from tm.cron.plan import Plan


class Note:
    """One surprise."""

    __slots__ = ("code", "text", "warn")

    code: str  #: stable short name, as `uneven-step`
    text: str  #: what happens, in a sentence without a full stop
    warn: bool  #: worth a warning from `lint`; otherwise only part of an explanation

    def __init__(self, code: str, text: str, *, warn: bool = True) -> None:
        self.code, self.text, self.warn = code, text, warn


def notes(expression: Expression) -> list[Note]:
    """All that could surprise about the expression, in the order of its fields."""
    plan = expression._plan  # noqa: SLF001 -- one package
    fields = plain_fields(expression.text, expression.key)
    found = [note for field, text in zip(ORDER[len(fields)], fields, strict=True) for note in _steps(field, text)]
    found += _every_minute(plan, fields)
    found += _days(plan, fields, expression.day_rule)
    found.append(_clock_changes(plan, fields))
    return found


def follows_the_clock(expression: Expression) -> bool:
    """Whether it runs all round the clock and in both passes of a repeated hour: no change of clocks surprises then."""
    plan = expression._plan  # noqa: SLF001 -- one package
    return plan.wildcard and plan.hours == HOUR.star


def _steps(field: Field, text: str) -> Iterator[Note]:
    """`*/7` and `0/7`, which do not divide their field evenly, and steps longer than it."""
    for item in text.split(","):
        base, slash, step_text = item.partition("/")
        if not slash or field is YEAR:
            continue
        step = int(step_text[-6:]) if len(step_text) < 7 else 10**6
        low = field.low if base == "*" else field.values.get(base.partition("-")[0].lstrip("0") or "0", -1)
        span = base.partition("-")[2]
        high = (6 if field is DOW and base == "*" else field.high) if not span else field.ends.get(span, field.high)
        size = high - low + 1
        if low < 0:
            continue
        if step >= size > 1:
            value = DAY_NAMES[low] if field is DOW else low
            yield Note("beyond-range", f"{item} in the {field.name} field is just {value}: no second step fits")
        elif base == "*" and field is DOM and step > 1:
            last = low + (size - 1) // step * step
            yield Note("uneven-step", f"{item} begins anew every month: after day {last} comes day 1, {_after(last)}")
        elif base == "*" and field is not DOM and step > 1 and _circle(field) % step:
            last = low + (size - 1) // step * step
            gap = low + _circle(field) - last
            yield Note(
                "uneven-step", f"{item} is uneven: after {field.name} {last} comes {low}, {gap} instead of {step} later"
            )


def _circle(field: Field) -> int:
    return {SECOND: 60, MINUTE: 60, HOUR: 24, MONTH: 12, DOW: 7}[field]


def _after(last: int) -> str:
    return "the next day or a few days later" if last > 28 else "a few days later"


def _every_minute(plan: Plan, fields: list[str]) -> Iterator[Note]:
    minute, hour = fields[0:2] if len(fields) == 5 else fields[1:3]
    if minute == "*" and plan.hours != HOUR.star and plan.seconds == 1:
        yield Note("every-minute", f"the minute is *: it runs 60 times in the hour; for one run write 0 {hour}")


def _days(plan: Plan, fields: list[str], day_rule: str) -> Iterator[Note]:
    dom, month, dow = fields[2:5] if len(fields) == 5 else fields[3:6]
    free_dom = not plan.dom_special and plan.dom == ALL_DAYS[3]
    free_dow = plan.dow == 127
    if not plan.both and not (dom in {"*", "?"} or dow in {"*", "?"}):
        if free_dom or free_dow:
            field = "day of month" if free_dom else "day of week"
            text = f"the {field} lists every day, and either day field is enough: it runs every day"
        else:
            text = "day of month and day of week are both restricted: either one is enough"
        yield Note("either-day", f"{text}; for days that are both write +{dow}")
    elif not (free_dom or free_dow) and day_rule == "vixie" and dow[0] != "+":
        star = f"the day of month begins with {dom[0]}" if dom[0] in "*?" else f"the day of week begins with {dow[0]}"
        yield Note("both-days", f"a day must match both day fields, because {star}")
    yield from _short_months(plan, month, free_dow)


def _short_months(plan: Plan, month: str, free_dow: bool) -> Iterator[Note]:
    nearest = plan.dom_special[2] if plan.dom_special else 0
    first = nearest or (plan.dom & -plan.dom).bit_length() - 1
    alone = (plan.both or free_dow) and (nearest or (plan.dom_special is None and first > 28))
    if alone and first == 29 and plan.months == 1 << 2 and free_dow:
        yield Note("leap-years", "29 February comes only in leap years")
    elif alone and first > 28:
        has = [number for number in range(1, 13) if plan.months >> number & 1]
        short = [number for number in has if (first == 31 and number in {2, 4, 6, 9, 11}) or number == 2]
        if short and (month == "*" or len(short) < len(has)):
            yield Note("short-months", f"months without a day {first} are skipped; the last day of every month is L")
    if plan.dow_special and plan.dow_special[4]:
        yield Note("fifth-weekday", "most months have no fifth such weekday; the last one is written #L")


def _clock_changes(plan: Plan, fields: list[str]) -> Note:
    hour = fields[1] if len(fields) == 5 else fields[2]
    if plan.wildcard:
        return Note(
            "clock-change",
            "on the two odd days of a zone with summer time it runs in both passes of the hour that comes twice,"
            " and not at all in the hour that is skipped",
            warn=False,
        )
    text = (
        "on the two odd days of a zone with summer time a skipped run is made up for right after the gap,"
        " and a time that comes twice runs once, at the first"
    )
    if plan.hours == HOUR.star:
        text += f" (the hour is {hour}; with * it would run in both passes)"
    return Note("clock-change", text, warn=plan.hours == HOUR.star)
