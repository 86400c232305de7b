"""Which days: the day rule, L, W and #, and the dates that can never come."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from itertools import pairwise

import pytest

from tm.cron import CronError, Expression


def days(text: str, year: int, **options: str) -> list[str]:
    """The days of a year at midnight, as MM-DD."""
    start = datetime(year, 1, 1)
    runs = Expression(text, **options).between(start, datetime(year + 1, 1, 1))
    return [f"{run:%m-%d}" for run in runs]


def test_both_day_fields_restricted_mean_either() -> None:
    assert days("0 0 13 1 fri", 2024) == ["01-05", "01-12", "01-13", "01-19", "01-26"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0 0 */2 1 1", ["01-01", "01-15", "01-29"]),  # odd days that are Mondays
        ("0 0 1-7 1 */7", ["01-07"]),  # the first Sunday
        ("0 0 *,5 1 1", ["01-01", "01-08", "01-15", "01-22", "01-29"]),
        ("0 0 */100,1-7 1 mon", ["01-01"]),
        ("0 0 1-7 1 +1", ["01-01"]),
        ("0 0 1-7 1 ?", [f"01-0{day}" for day in range(1, 8)]),
        ("0 0 ? 1 1", ["01-01", "01-08", "01-15", "01-22", "01-29"]),
    ],
)
def test_a_field_that_begins_with_a_star_means_both(text: str, expected: list[str]) -> None:
    assert days(text, 2024) == expected


def test_1_to_31_and_0_to_6_are_restrictions() -> None:
    assert len(days("0 0 1-31 * 1", 2024)) == 366
    assert len(days("0 0 1 * 0-6", 2024)) == 366


def test_the_day_rule_can_be_chosen() -> None:
    assert days("0 0 */2 1 1", 2024, day_rule="or") == sorted(
        {*days("0 0 */2 1 *", 2024), *days("0 0 * 1 1", 2024)},
    )
    assert days("0 0 1-7 1 1", 2024, day_rule="and") == ["01-01"]
    assert days("0 0 1-7 1 +1", 2024, day_rule="or") == ["01-01"]
    assert len(days("0 0 1-7 1 *", 2024, day_rule="or")) == 7
    with pytest.raises(ValueError, match="day_rule is one of vixie, or, and"):
        Expression("* * * * *", day_rule="xor")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0 0 L 1-4 *", ["01-31", "02-29", "03-31", "04-30"]),
        ("0 0 l 2 *", ["02-29"]),
        ("0 0 L-0 2 *", ["02-29"]),
        ("0 0 L-3 2,3 *", ["02-26", "03-28"]),
        ("0 0 L-30 * *", ["01-01", "03-01", "05-01", "07-01", "08-01", "10-01", "12-01"]),
        ("0 0 LW 3,6,8 *", ["03-29", "06-28", "08-30"]),  # Sunday 31, Sunday 30, Saturday 31
        ("0 0 1W 6,9 *", ["06-03", "09-02"]),  # Saturday 1, Sunday 1
        ("0 0 15W 6,9 *", ["06-14", "09-16"]),  # Saturday, Sunday
        ("0 0 31W * *", ["01-31", "03-29", "05-31", "07-31", "08-30", "10-31", "12-31"]),
        ("0 0 L,1 2 *", ["02-01", "02-29"]),
        ("0 0 1,LW,10-11 3 *", ["03-01", "03-10", "03-11", "03-29"]),
        ("0 0 * 1 fri#2", ["01-12"]),
        ("0 0 * * 5#5", ["03-29", "05-31", "08-30", "11-29"]),
        ("0 0 * 1 5#L", ["01-26"]),
        ("0 0 * 1 5L", ["01-26"]),
        ("0 0 * 1 FRIL", ["01-26"]),
        ("0 0 * 1 7L", ["01-28"]),
        ("0 0 * 1 MON-WED#1", ["01-01", "01-02", "01-03"]),
        ("0 0 * 1 sat-sun#L", ["01-27", "01-28"]),
        ("0 0 * 1 1#1,3#3,5", ["01-01", "01-05", "01-12", "01-17", "01-19", "01-26"]),
        ("0 0 13 1 5#2", ["01-12", "01-13"]),
        ("0 0 * 1 sat-sun", ["01-06", "01-07", "01-13", "01-14", "01-20", "01-21", "01-27", "01-28"]),
        ("0 0 * 1 5-7", [f"01-{day:02}" for day in range(1, 32) if date(2024, 1, day).isoweekday() > 4]),
        ("0 0 * 1 4/3", [f"01-{day:02}" for day in range(1, 32) if date(2024, 1, day).isoweekday() in {4, 7}]),
        ("0 0 * 1 7", ["01-07", "01-14", "01-21", "01-28"]),
        ("0 0 * 1 sun-sun", ["01-07", "01-14", "01-21", "01-28"]),
        ("0 0 * jan 0-7/7", ["01-07", "01-14", "01-21", "01-28"]),
    ],
)
def test_special_days_of_2024(text: str, expected: list[str]) -> None:
    assert days(text, 2024) == expected


@pytest.mark.parametrize(
    "text",
    [
        "0 0 30 2 *",
        "0 0 31 4,6,9,11 *",
        "0 0 30,31 2 *",
        "0 0 31W 2 *",
        "0 0 L-30 2,4 *",
        "0 0 0 29 2 * 2023",
        "0 0 0 29 2 * 2100",
        "0 0 0 29 2 +1 2024",  # a Thursday
        "0 0 1-7 * +1#2",
        "0 0 8-31 * +fri#1",
        "0 0 0 * 2 5#5 2023",
        "0 0 30 2 */2",
    ],
)
def test_dates_that_never_come_are_refused_at_once(text: str) -> None:
    with pytest.raises(CronError, match="can never occur"):
        Expression(text)


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("0 0 30 2 1", datetime(2024, 1, 1)),  # no 30 February, but Mondays in February
        ("0 0 29 2 *", datetime(2024, 2, 29)),
        ("0 0 29 2 +mon", datetime(2044, 2, 29)),
        ("0 0 0 * 2 5#5 2024,2036,2052", datetime(2036, 2, 29)),
        ("0 0 29,30 2 *", datetime(2024, 2, 29)),
    ],
)
def test_rare_dates_are_found(text: str, first: datetime) -> None:
    run = Expression(text).next(datetime(2023, 12, 31))
    assert run == first or text.startswith("0 0 30 2 1")
    if text.startswith("0 0 30 2 1"):
        assert run == datetime(2024, 2, 5)


def test_the_longest_wait_is_40_years() -> None:
    expression = Expression("0 0 29 2 +sat")
    runs = list(expression.between(datetime(1900, 3, 1), datetime(2300, 3, 1)))
    assert max(later - earlier for earlier, later in pairwise(runs)) == timedelta(days=40 * 365 + 9)


def test_a_whole_cycle_of_the_calendar() -> None:
    """400 years, day by day: the weekdays and lengths behind every mask."""
    expression = Expression("0 0 L * 1#1")
    runs = [run.date() for run in expression.between(datetime(1999, 12, 31), datetime(2400, 1, 1))]
    day, expected = date(1999, 12, 31), []
    while day < date(2400, 1, 1):
        if (day + timedelta(days=1)).day == 1 or (day.weekday() == 0 and day.day <= 7):
            expected.append(day)
        day += timedelta(days=1)
    assert runs == expected
