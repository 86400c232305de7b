"""Hypothesis strategies for expressions and moments."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

from hypothesis import strategies as st

from tests.cron import oracle

MONTHS, DAYS = list(oracle.NAMES["month"]), list(oracle.NAMES["dow"])


@st.composite
def items(draw, low: int, high: int, names: tuple[str, ...] = ()) -> str:
    def spelled(number: int) -> str:
        style = draw(st.integers(0, 5))
        if names and style > 2 and number - low < len(names):
            name = names[number - low]
            return name.upper() if style == 5 else name
        return f"{number:02}" if style == 1 else str(number)

    kind = draw(st.sampled_from(("value", "value", "range", "star/", "range/", "value/")))
    step = f"/{draw(st.integers(1, high + 3))}"
    if kind == "star/":
        return "*" + step
    first = draw(st.integers(low, high))
    if kind == "value":
        return spelled(first)
    if kind == "value/":
        return spelled(first) + step
    last = draw(st.integers(first, high))
    # A name for 7 at the end of a range is spelled sun; as a start the numbers are enough.
    text = f"{spelled(first)}-{'sun' if names and high == 7 and last == 7 else spelled(last)}"
    return text + (step if kind == "range/" else "")


def lists(low: int, high: int, names: tuple[str, ...] = ()) -> st.SearchStrategy[str]:
    item = items(low, high, names)
    return st.one_of(st.just("*"), item, st.lists(item, min_size=1, max_size=4).map(",".join))


month_days = st.one_of(
    st.just("*"),
    st.just("*"),
    lists(1, 31),
    st.sampled_from(("?", "L", "LW", "L-3", "l-30", "1W", "15W", "31w", "L,15", "1,LW,10-12", "L-1,L-2", "*,5")),
    st.integers(1, 31).map("{}W".format),
)
weekdays = st.one_of(
    st.just("*"),
    st.just("*"),
    lists(0, 7, tuple(DAYS)),
    st.sampled_from(
        ("?", "5#2", "FRI#L", "5L", "friL", "1-3#1", "mon-wed#L", "1#1,3#3,5", "sat-sun", "+1-5", "*/7", "+fri#1")
    ),
    st.builds("{}#{}".format, st.integers(0, 7), st.integers(1, 5)),
    lists(0, 7, tuple(DAYS)).map("+{}".format),
)


@st.composite
def texts(draw, fields: tuple[int, ...] = (5, 5, 5, 6, 7)) -> str:
    """A text of the grammar; a few can never occur, so filter with `possible`."""
    count = draw(st.sampled_from(fields))
    parts = [
        draw(lists(0, 59)),
        draw(lists(0, 23)),
        draw(month_days),
        draw(lists(1, 12, tuple(MONTHS))),
        draw(weekdays),
    ]
    if count > 5:
        parts.insert(0, draw(lists(0, 59)))
    if count > 6:
        parts.append(draw(st.sampled_from(("*", "2020-2030", "2024", "*/4", "2000/3", "1999,2100-2110"))))
    return draw(st.sampled_from((" ", " ", "\t", "  "))).join(parts)


moments = st.datetimes(datetime(1960, 1, 1), datetime(2210, 1, 1)) | st.datetimes(
    datetime(2015, 1, 1), datetime(2035, 1, 1)
)
# Changes of half an hour, an hour, two hours and a day; at midnight, without summer time, none at all.
ZONES = (
    "America/New_York",
    "Europe/London",
    "Australia/Lord_Howe",
    "Antarctica/Troll",
    "America/Sao_Paulo",
    "Asia/Beirut",
    "Africa/Casablanca",
    "America/Caracas",
    "Asia/Pyongyang",
    "Pacific/Apia",
    "America/St_Johns",
    "Pacific/Chatham",
    "Asia/Kolkata",
    "UTC",
)
zones = st.sampled_from(ZONES).map(ZoneInfo)
