"""From a refusal to a CronError: where the bad piece stands, and what the writer probably meant.

Imported only when something was refused, so it may take its time.
"""

from __future__ import annotations

from tm.cron.errors import CronError
from tm.cron.fields import DOM, DOW, HOUR, MINUTE, MONTH, ORDER, SECOND, WEEKDAYS, YEAR, Field
from tm.cron.parse import NICKNAMES, Refusal


def explained(text: str, fields: list[str] | tuple[str, ...], refusal: Refusal) -> CronError:
    """The error to raise for a refusal; `fields` are those that were read, H already replaced."""
    if refusal.field is not None:
        return _in_a_field(text, fields, refusal, refusal.field)
    if refusal.place is not None:
        blank = refusal.piece.isspace() or not refusal.piece.isprintable()
        hint = "only spaces and tabs separate fields" if blank else "expressions are plain ASCII text"
        return CronError(refusal.reason, column=refusal.place + 1, text=text, hint=hint)
    if fields:
        return CronError(refusal.reason, text=text, hint=_never_hint(fields))
    return _not_fields(text)


def _in_a_field(text: str, fields: list[str] | tuple[str, ...], refusal: Refusal, field: Field) -> CronError:
    place = ORDER[len(fields)].index(field)
    start, written = _columns(text)[place]
    items = fields[place].removeprefix("+").split(",") if field is DOW else fields[place].split(",")
    # The first of equal items is the one that was refused.
    number = items.index(refusal.item) if refusal.item in items else 0
    start += sum(len(item) + 1 for item in written.split(",")[:number])
    start += number == 0 and field is DOW and written.startswith("+")
    item = written.split(",")[number]
    offset = item.lower().rfind(refusal.piece) if refusal.piece[:1] in {"/", "#"} else item.lower().find(refusal.piece)
    if offset < 0:  # an H was replaced by what it stands for
        offset, length = 0, len(item)
    else:
        # In `5/0` and `1#6` the mark finds the number; the number is what is wrong.
        marked = refusal.piece[:1] in {"/", "#"} and len(refusal.piece) > 1
        offset, length = offset + marked, len(refusal.piece) - marked
    # Messages are about what was written: `Monday`, not `monday`.
    as_read, as_written = refusal.piece[len(refusal.piece) - length :], item[offset : offset + length]
    return CronError(
        refusal.reason.replace(repr(as_read), repr(as_written)),
        field=field.name,
        column=start + offset + 1,
        length=length,
        text=text,
        hint=_hint(field, refusal),
    )


def _columns(text: str) -> list[tuple[int, str]]:
    """Start (from 0) and text of every field."""
    found, place = [], 0
    for word in text.split():
        place = text.index(word, place)
        found.append((place, word))
        place += len(word)
    return found


def _hint(field: Field, refusal: Refusal) -> str:
    item, piece = refusal.item, refusal.piece
    if "runs backwards" in refusal.reason:
        return _wrapped(field, item)
    if "?" in item and field not in {DOM, DOW}:
        return "? is only for day of month and day of week; write *"
    if "?" in item:
        return "? stands alone, for `any day`"
    if "~" in item:
        return "random values are written H, with a key: Expression(text, key=...)"
    if field is HOUR and piece == "24":
        return "midnight is hour 0"
    if field in {MINUTE, SECOND} and piece == "60":
        return f"{field.name}s go from 0 to 59; the full hour or minute is 0"
    if field is DOW and piece == "l":
        return "the last day of the month is an L in the day-of-month field; 5L is the last Friday"
    if field is DOW and piece[:1] == "l" and piece[1:] in DOW.values:
        return f"the last such day of the month is written {piece[1:].upper()}L"
    if field is DOW and piece.endswith("w"):
        return "weekdays nearest to a day (15W) belong in the day-of-month field; Monday to Friday is 1-5"
    if field is DOM and piece[:3] in DOW.values and piece[:3].isalpha():
        return "days of the week belong in the last field of five (the sixth of six or seven)"
    if field in {MONTH, DOW} and piece[:3] in field.names:
        return f"names have three letters: {piece[:3]}"
    if field is MONTH and piece == "0":
        return "January is 1"
    if field is DOM and piece == "0":
        return "the first day is 1, the last is L"
    if field is YEAR:
        return "leave the year out for every year"
    if piece[:2] == "/0":
        return "*/1 is every value"
    if piece.startswith("@"):
        return "a nickname stands alone"
    if not item:
        return "lists are separated by single commas, without blanks"
    if field is DOW and piece.startswith("+"):
        return "the + for `both day fields` stands once, in front of the field"
    if piece.startswith(("-", "+")):
        return "values have no sign"
    return ""


def _wrapped(field: Field, item: str) -> str:
    """`fri-mon` as the list it means, `22-2` as two ranges."""
    base, slash, _ = item.partition("/")
    first, _, last = base.partition("-")
    if item.startswith("h"):
        return "write H(low-high)"
    if slash or "#" in item:
        return "write two ranges, each with its own step or #"
    low, high = field.values[first.lstrip("0") or "0"], field.ends[last.lstrip("0") or "0"]
    if field is DOW:
        days = [place % 7 for place in range(low, high % 7 + 8)]
        return "write " + ",".join(WEEKDAYS[day] if first.isalpha() else str(day) for day in days)
    if field.names and first.isalpha():
        return f"write {first}-{field.names[-1]},{field.names[0]}-{last}"
    top, bottom = str(field.high), str(field.low)
    left = first if low + field.shift == field.high else f"{first}-{top}"
    right = last if high + field.shift == field.low else f"{bottom}-{last}"
    return f"write {left},{right}"


def _never_hint(fields: list[str] | tuple[str, ...]) -> str:
    if len(fields) == 7 and fields[6] != "*":
        return "no such day in the years it names"
    return "no month it names has such a day"


def _not_fields(text: str) -> CronError:
    words = text.lower().split()
    if not words:
        return CronError(
            "the expression is empty",
            text=text,
            hint="five fields: minute hour day-of-month month day-of-week",
        )
    start = text.index(text.split(maxsplit=1)[0])
    if words[0] == "@reboot":
        return CronError(
            "@reboot is no schedule: it names an event, not a time",
            column=start + 1,
            length=7,
            text=text,
            hint="start the work when your program starts, or choose one of " + ", ".join(NICKNAMES),
        )
    if words[0].startswith("@"):
        if words[0] in NICKNAMES:
            return CronError(
                "a nickname stands alone",
                column=start + 1,
                length=len(words[0]),
                text=text,
                hint=f"just {words[0]}",
            )
        from difflib import get_close_matches

        near = get_close_matches(words[0], NICKNAMES, 1)
        return CronError(
            f"{words[0][:40]} is not a nickname",
            column=start + 1,
            length=len(words[0]),
            text=text,
            hint=f"did you mean {near[0]}?" if near else "there are " + ", ".join(NICKNAMES),
        )
    hint = "minute hour day-of-month month day-of-week, with seconds before them and a year after them if needed"
    if len(words) > 7:
        hint = "lists have no blanks, and a shell replaces * where the expression is not quoted"
    return CronError(f"5, 6 or 7 fields are needed, not {len(words)}", text=text, hint=hint)
