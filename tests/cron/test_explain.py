"""Schedules in English: what is said, that it is true, and which traps are named."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import assume, given

from tests.cron import oracle
from tests.cron.effort import law
from tests.cron.strategies import texts
from tm.cron import CronError, Expression
from tm.cron.odd_days import odd_days


def summary(text: str, **options: str) -> str:
    return Expression(text, **options).explain().split("\n")[0]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("* * * * *", "Every minute"),
        ("*/5 * * * *", "Every 5 minutes"),
        ("*/60 * * * *", "Every hour, on the hour"),
        ("@hourly", "Every hour, on the hour"),
        ("1 * * * *", "At 1 minute past every hour"),
        ("15 * * * *", "At 15 minutes past every hour"),
        ("0,30 * * * *", "Every 30 minutes"),
        ("5,35 * * * *", "At minutes 5 and 35 of every hour"),
        ("10-20 * * * *", "At minutes 10 to 20 of every hour"),
        ("@daily", "At 00:00 every day"),
        ("30 2 * * *", "At 02:30 every day"),
        ("0,30 9,17 * * *", "At 09:00, 09:30, 17:00 and 17:30 every day"),
        ("0 9-17 * * *", "Every hour from 09:00 to 17:00 every day"),
        ("*/15 9-17 * * mon-fri", "Every 15 minutes from 09:00 to 17:45, Monday to Friday"),
        ("* 2 * * *", "Every minute from 02:00 to 02:59 every day"),
        ("0 */2 * * *", "Every 2 hours from 00:00 to 22:00 every day"),
        ("0 1,2,3,5,8,13,21 * * *", "At minute 0 of the hours 1 to 3, 5, 8, 13 and 21 every day"),
        ("7,11,13 1-3 * * *", "At minutes 7, 11 and 13 of every hour from 1 to 3 every day"),
        ("1-10 */6 * * *", "At minutes 1 to 10 of every 6th hour from 0 to 18 every day"),
        ("*/5 1,2,7 * * *", "Every 5 minutes in the hours 1, 2 and 7 every day"),
        ("* * * * * *", "Every second"),
        ("*/10 * * * * *", "Every 10 seconds"),
        ("5 * * * * *", "At second 5 of every minute"),
        ("5 0 12 * * *", "At 12:00:05 every day"),
        ("1,2 0 12 * * *", "At seconds 1 and 2, in these minutes: at 12:00 every day"),
        ("30 2 LW * *", "At 02:30 on the last weekday of the month"),
        ("0 0 L * *", "At 00:00 on the last day of the month"),
        ("0 0 L-1 * *", "At 00:00 on 1 day before the last day of the month"),
        ("0 0 15W * *", "At 00:00 on the weekday nearest the 15th of the month"),
        (
            "0 0 1,2,3,11,12,13,21,22,23 * *",
            "At 00:00 on the 1st to the 3rd, the 11th to the 13th and the 21st to the 23rd of the month",
        ),
        ("0 0 1,L * *", "At 00:00 on the 1st and the last day of the month"),
        ("0 0 */3 * *", "At 00:00 on every 3rd day from the 1st to the 31st of the month"),
        ("0 0 * * 1", "At 00:00 on Monday"),
        ("0 0 * * sat-sun", "At 00:00 on Saturday and Sunday"),
        ("0 0 * * 5-7", "At 00:00, Friday to Sunday"),
        ("0 0 * * 0,1,3", "At 00:00 on Monday, Wednesday and Sunday"),
        ("0 0 * * 5#2", "At 00:00 on the second Friday of the month"),
        ("0 0 * * 1#1,FRIL", "At 00:00 on the first Monday of the month and the last Friday of the month"),
        ("0 0 * * mon-wed#3", "At 00:00 on the third Monday, Tuesday and Wednesday of the month"),
        ("0 0 13 * 5", "At 00:00 on the 13th of the month, and also on Friday"),
        ("0 0 13 * +5", "At 00:00 on Friday when it falls on the 13th of the month"),
        ("0 0 1-31 * 5", "At 00:00 every day"),
        ("0 0 1 jan *", "At 00:00 on the 1st of the month in January"),
        ("0 0 * 6,12 *", "At 00:00 every day in June and December"),
        ("0 0 * 6-9 *", "At 00:00 every day from June to September"),
        ("0 0 0 1 1 * 2030", "At 00:00 on the 1st of the month in January in the year 2030"),
        ("0 0 0 1 1 * 2030-2040/5", "At 00:00 on the 1st of the month in January in the years 2030, 2035 and 2040"),
        ("0 0 0 * * * *", "At 00:00 every day in the years 1970 to 2199"),
    ],
)
def test_sentences(text: str, expected: str) -> None:
    assert summary(text) == expected


def test_h_is_explained_with_its_values() -> None:
    assert summary("H H * * *", key="backup") == "At 16:52 every day"


@law
@given(texts())
def test_every_schedule_has_a_sentence_with_its_own_times(text: str) -> None:
    try:
        expression = Expression(text)
    except CronError:
        assume(False)
        raise
    said = expression.explain()
    first, *rest = said.split("\n")
    assert re.match(r"(At|Every) [0-9a-z]", first)
    assert not first.endswith((".", " ", ","))
    assert "  " not in said
    assert rest
    assert all(line.startswith("Note: ") for line in rest)
    meaning = oracle.read(text)
    # Times that are listed one by one are exactly those of the schedule.
    listed = re.findall(r"\d\d:\d\d", first)
    if first.startswith("At ") and listed and "in these minutes" not in first:
        assert listed == [
            f"{hour:02}:{minute:02}" for hour in sorted(meaning.hours) for minute in sorted(meaning.minutes)
        ]
    elif listed:
        # Otherwise they are the first and the last of the day.
        assert listed[0] == f"{min(meaning.hours):02}:{min(meaning.minutes):02}"
        assert listed[-1] == f"{max(meaning.hours):02}:{max(meaning.minutes):02}"


@pytest.mark.parametrize(
    ("text", "piece"),
    [
        ("*/7 * * * *", "*/7 is uneven: after minute 56 comes 0, 4 instead of 7 later"),
        ("0 */5 * * *", "*/5 is uneven: after hour 20 comes 0, 4 instead of 5 later"),
        ("0 0 1 */5 *", "*/5 is uneven: after month 11 comes 1, 2 instead of 5 later"),
        ("0 0 * * */2", "after day of week 6 comes 0, 1 instead of 2 later"),
        ("*/50 * * * * *", "after second 50 comes 0, 10 instead of 50 later"),
        ("0 0 */2 * *", "begins anew every month: after day 31 comes day 1"),
        ("*/100 * * * *", "*/100 in the minute field is just 0"),
        ("0 0 1-7 * */7", "*/7 in the day of week field is just Sunday"),
        ("0 0 13 * 5", "either one is enough; for days that are both write +5"),
        ("0 0 1-31 * 5", "the day of month lists every day, and either day field is enough"),
        ("0 0 */2 * 1", "a day must match both day fields, because the day of month begins with *"),
        ("0 0 31 * *", "months without a day 31 are skipped"),
        ("0 0 29 2 *", "29 February comes only in leap years"),
        ("* 2 * * *", "it runs 60 times in the hour; for one run write 0 2"),
        ("30 2 * * *", "a skipped run is made up for right after the gap"),
        ("0 0-23 * * *", "the hour is 0-23; with * it would run in both passes"),
        ("*/15 * * * *", "it runs in both passes of the hour that comes twice"),
    ],
)
def test_traps_are_named(text: str, piece: str) -> None:
    assert piece in Expression(text).explain()


@pytest.mark.parametrize("text", ["*/15 * * * *", "0 */6 * * *", "0 9 * * mon-fri", "0 0 1 */3 *", "*/30 * * * * *"])
def test_no_false_alarms(text: str) -> None:
    assert Expression(text).explain().count("Note:") == 1  # the clock changes


@pytest.mark.parametrize(
    ("text", "zone", "expected"),
    [
        (
            "30 2 * * *",
            "America/New_York",
            ["2026-03-08: the clock skips from 02:00 to 03:00; the run of 02:30 comes at 03:00"],
        ),
        (
            "30 1 * * *",
            "America/New_York",
            ["2026-11-01: the clock shows 01:00 to 02:00 twice; the run of 01:30 comes once, the first time"],
        ),
        (
            "*/30 * * * *",
            "Australia/Lord_Howe",
            [
                "2026-04-05: the clock shows 01:30 to 02:00 twice; runs such as 01:30 come in both passes",
                "2026-10-04: the clock skips from 02:00 to 02:30; runs such as 02:00 are left out",
            ],
        ),
        ("0 12 * * *", "America/New_York", []),
        ("30 2 * * *", "Asia/Kolkata", []),
        (
            "15 30 2 * * *",
            "Europe/Berlin",
            [
                "2026-03-29: the clock skips from 02:00 to 03:00; the run of 02:30:15 comes at 03:00",
                "2026-10-25: the clock shows 02:00 to 03:00 twice; the run of 02:30:15 comes once, the first time",
            ],
        ),
    ],
)
def test_odd_days_of_a_zone(text: str, zone: str, expected: list[str]) -> None:
    assert odd_days(Expression(text), datetime(2026, 1, 1, tzinfo=ZoneInfo(zone))) == expected


def test_odd_days_of_the_date_line_and_of_nothing() -> None:
    apia = datetime(2011, 6, 1, tzinfo=ZoneInfo("Pacific/Apia"))
    assert odd_days(Expression("30 2 * * *"), apia)[-1] == (
        "2011-12-30: the clock skips from 00:00 to 00:00 of 2011-12-31; the runs of that time are lost"
    )
    assert odd_days(Expression("* * * * *"), datetime.max.replace(tzinfo=UTC)) == []
    assert odd_days(Expression("0 30 2 * * * 2000"), datetime(2026, 1, 1, tzinfo=ZoneInfo("Europe/Berlin"))) == []
    with pytest.raises(TypeError, match="aware"):
        odd_days(Expression("* * * * *"), datetime(2026, 1, 1))
