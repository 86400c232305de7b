"""From text to sets: the grammar, and a message for whatever does not fit it.

The good case is dict look-ups and int arithmetic; all that serves the message (columns, hints) happens after a
`Refusal` and lives in `tm.cron.refuse`.
"""

from __future__ import annotations

from tm.cron.days import can_occur
from tm.cron.fields import DOM, DOW, HOUR, MINUTE, MONTH, SECOND, STEPS, YEAR, Field
from tm.cron.plan import Plan

NICKNAMES = {
    "@yearly": ("0", "0", "1", "1", "*"),
    "@annually": ("0", "0", "1", "1", "*"),
    "@monthly": ("0", "0", "1", "*", "*"),
    "@weekly": ("0", "0", "*", "*", "0"),
    "@daily": ("0", "0", "*", "*", "*"),
    "@midnight": ("0", "0", "*", "*", "*"),
    "@hourly": ("0", "*", "*", "*", "*"),
}
_EARLY_DAYS = (1 << 29) - 2  # days that every month has


class Refusal(Exception):  # noqa: N818 -- never leaves the package: it becomes a CronError
    """A piece of text that does not fit the grammar."""

    def __init__(
        self,
        reason: str,
        field: Field | None = None,
        item: str = "",
        piece: str = "",
        *,
        place: int | None = None,
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.field = field  #: None when the fault is not in one field
        self.item = item  #: the list item at fault, in lower case
        self.piece = piece  #: the part of the item to blame, in lower case
        self.place = place  #: where in the text, from 0, when no field is known


def parse(text: str, day_rule: str, key: str | None) -> Plan:
    """The plan of an expression; raises CronError when the text is none or can never run."""
    fields: list[str] | tuple[str, ...] = ()
    try:
        fields = split(text)
        if ("h" in text or "H" in text) and any(field[0] == "h" or ",h" in field for field in fields):
            fields = plain_fields(text, key)
        return _plan(fields, day_rule)
    except Refusal as refusal:
        from tm.cron.refuse import explained

        raise explained(text, fields, refusal) from None


def plain_fields(text: str, key: str | None) -> list[str]:
    """The fields of a text that is an expression, in lower case, nicknames and H spelled out."""
    from tm.cron.hashed import resolve

    return resolve(split(text), key)


def split(text: str) -> list[str] | tuple[str, ...]:
    """The five, six or seven fields in lower case; a nickname gives the five it stands for."""
    # Printable ASCII has no blank but the space, so only other texts need the slow look at every character.
    if not (text.isascii() and text.isprintable()):
        _check_characters(text)
    fields = text.lower().split()
    if 5 <= len(fields) <= 7:
        return fields
    if len(fields) == 1 and fields[0] in NICKNAMES:
        return NICKNAMES[fields[0]]
    raise Refusal("not a cron expression")


def _check_characters(text: str) -> None:
    """Fields are separated by spaces and tabs; a line end may only stand before or after them all."""
    body = text.strip(" \t\r\n")
    start = text.find(body)
    for place, letter in enumerate(body):
        if not (" " <= letter <= "~" or letter == "\t"):
            raise Refusal(f"the character {letter!a} has no place in it", piece=letter, place=start + place)


def _plan(fields: list[str] | tuple[str, ...], day_rule: str) -> Plan:
    count = len(fields)
    years = None
    if count == 5:
        minute, hour, dom, month, dow = fields
        seconds = 1
        wildcard = minute[0] == "*" or hour[0] == "*"
    else:
        second, minute, hour, dom, month, dow = fields[:6]
        seconds = SECOND.table.get(second) or plain(SECOND, second)
        wildcard = second[0] == "*" or minute[0] == "*" or hour[0] == "*"

    # One value or `*` is a single look-up; everything else is read item by item.
    minutes = MINUTE.table.get(minute) or plain(MINUTE, minute)
    hours = HOUR.table.get(hour) or plain(HOUR, hour)
    days, days_special = DOM.table.get(dom), None
    if not days:
        days, days_special = days_of_month(dom)
    months = MONTH.table.get(month) or plain(MONTH, month)
    weekdays, weekdays_special = DOW.table.get(dow), None
    if not weekdays:
        weekdays, weekdays_special = days_of_week(dow)
    if count == 7:
        years = YEAR.table.get(fields[6]) or plain(YEAR, fields[6])

    if day_rule == "vixie":
        both = dom[0] in "*?" or dow[0] in "*?+"
    elif day_rule == "or":
        both = dom in _BARE_STARS or dow in _BARE_STARS or dow[0] == "+"
    else:
        both = True

    plan = Plan(
        seconds,
        minutes,
        hours,
        days,
        months,
        weekdays,
        years,
        days_special,
        weekdays_special,
        both,
        wildcard,
        count > 5,
    )
    # Any day that all months have falls on any weekday in some year; what is left needs a look at the calendar.
    if (years is not None or not weekdays or (both and not days & _EARLY_DAYS)) and not can_occur(plan):
        raise Refusal("it can never occur")
    return plan


def plain(field: Field, text: str) -> int:
    """The bits of a list of values, ranges and steps."""
    table = field.table
    bits = 0
    for item in text.split(","):
        bits |= table.get(item) or _span(field, item, item)
    return bits


def _span(field: Field, item: str, text: str) -> int:
    """The bits of `a`, `a-b`, `a/s`, `a-b/s` or `*/s`; `text` is the whole of `item` but for a `#`."""
    base, slash, step_text = text.partition("/")
    step = 1
    if slash:
        step = STEPS.get(step_text) or _step(field, item, step_text)
    if base == "*":
        low, high = field.low - field.shift, field.high - field.shift
    else:
        first, dash, last = base.partition("-")
        low = field.values.get(first, -1)
        if low < 0:
            low = _value(field, item, first)
        if not dash:
            high = field.high - field.shift if slash else low
        elif first == last:
            high = low  # `sun-sun` is one day, though `sun` ends a range as 7
        else:
            high = field.ends.get(last, -1)
            if high < 0:
                high = _value(field, item, last)
            if low > high:
                raise Refusal(f"the range {short(base)} runs backwards", field, item, base)
    combs = field.combs
    # A step beyond the range leaves its first value.
    return (combs[step] if step < len(combs) else 1) << low & (2 << high) - 1


def _step(field: Field, item: str, text: str) -> int:
    digits = text.lstrip("0")
    if not text.isdecimal():
        raise Refusal(f"{short(text)!r} is not a step" if text else "the step is missing", field, item, "/" + text)
    if not digits:
        raise Refusal("a step is at least 1", field, item, "/" + text)
    # No range has 1,000 values, and int() refuses numbers of some thousands of digits.
    return int(digits) if len(digits) < 4 else 1000


def _value(field: Field, item: str, text: str) -> int:
    """The bit number of one value, however many zeros it begins with."""
    value = field.values.get((text.lstrip("0") or "0") if text.isdecimal() else text)
    if value is not None:
        return value
    if text.isdecimal():
        raise Refusal(f"{short(text)} is not in {field.low}-{field.high}", field, item, text)
    if not item:
        raise Refusal("a value is missing", field, item, text)
    if not text:
        raise Refusal(f"a value is missing in {short(item)!r}", field, item, item)
    kinds = f"a number from {field.low} to {field.high}"
    if field.names:
        kinds += f" or a name ({field.names[0]} to {field.names[-1]})"
    raise Refusal(f"{short(text)!r} is not {kinds}", field, item, text)


def days_of_month(text: str) -> tuple[int, tuple[int, bool, int] | None]:
    """The plain days, and `L`, `L-n`, `LW`, `nW` as (bits of n days before the last, LW, n of nW or 0)."""
    if text == "?":
        return DOM.star, None
    bits = before_last = nearest = 0
    last_weekday = False
    for item in text.split(","):
        one = DOM.table.get(item)
        if one:
            bits |= one
        elif item == "lw":
            last_weekday = True
        elif item[:1] == "l":
            before_last |= 1 << _days_before_last(item)
        elif item[-1:] == "w":
            if item != text:
                raise Refusal("a weekday nearest to a day (nW) cannot be in a list", DOM, item, item)
            nearest = _value(DOM, item, item[:-1])
        else:
            bits |= _span(DOM, item, item)
    if before_last or last_weekday or nearest:
        return bits, (before_last, last_weekday, nearest)
    return bits, None


def _days_before_last(item: str) -> int:
    if item == "l":
        return 0
    digits = item[2:].lstrip("0") or "0"
    if item[1] != "-" or not item[2:].isdecimal():
        raise Refusal(f"{short(item)!r} is not L, LW or L-n", DOM, item, item)
    if len(digits) > 2 or int(digits) > 30:
        raise Refusal(f"{short(digits)} is not in 0-30", DOM, item, item[1:])
    return int(digits)


def days_of_week(text: str) -> tuple[int, tuple[int, int, int, int, int, int] | None]:
    """The plain weekdays (bit 0 is Sunday), and the sets of `#1` to `#5` and `#L`."""
    if text == "?":
        return DOW.star, None
    bits = 0
    special = [0, 0, 0, 0, 0, 0]
    for item in text.removeprefix("+").split(","):
        one = DOW.table.get(item)
        if one:
            bits |= one
        elif "#" in item:
            base, _, nth = item.partition("#")
            if nth not in _NTHS:
                raise Refusal(f"{short(nth)!r} is not 1-5 or L", DOW, item, "#" + nth)
            if "/" in base or "*" in base:
                raise Refusal("only a day or a range of days can have a #", DOW, item, base)
            special[_NTHS[nth]] |= _span(DOW, item, base)
        elif item[-1:] == "l":
            special[5] |= 1 << _value(DOW, item, item[:-1])
        else:
            bits |= _span(DOW, item, item)
    if any(special):
        first, second, third, fourth, fifth, last = (_folded(days) for days in special)
        return _folded(bits), (first, second, third, fourth, fifth, last)
    return _folded(bits), None


def _folded(bits: int) -> int:
    """Sunday is 0 and 7 in the text, and bit 0 afterwards."""
    return (bits | bits >> 7) & 127


def short(text: str) -> str:
    """A piece for a message; the caret shows all of it."""
    return text if len(text) <= 40 else text[:40] + "..."


_NTHS = {"1": 0, "2": 1, "3": 2, "4": 3, "5": 4, "l": 5}
_BARE_STARS = ("*", "?")
