"""Every bug that the first version of Taskmaster and the other libraries have had: none may come to live here."""

from __future__ import annotations

from datetime import datetime, timedelta
from itertools import islice, pairwise
from zoneinfo import ZoneInfo

import pytest

from tm.cron import CronError, Expression


def at(text: str, zone: str | None = None, fold: int = 0) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone) if zone else None, fold=fold)


def shown(moment: datetime) -> str:
    return moment.isoformat(" ", "minutes")


# --- the first version, in Rust -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "start", "right"),
    [
        # A new year was laid out with the weekdays of the old one.
        ("0 0 * * 1", "2024-12-30", "2025-01-06 00:00"),
        ("0 0 * * 0", "2023-12-31", "2024-01-07 00:00"),
        # The fifth Sunday and Monday of a month were missing.
        ("0 0 * * 0", "2024-09-23", "2024-09-29 00:00"),
        ("0 0 * * 1", "2024-09-29", "2024-09-30 00:00"),
        # 29 February: a panic, a skipped year, a search that ended after five years.
        ("0 0 29 2 *", "2024-02-29", "2028-02-29 00:00"),
        ("0 0 29 2,3 *", "2023-03-29", "2024-02-29 00:00"),
        ("0 0 29 2 *", "2096-03-01", "2104-02-29 00:00"),
        # Sunday as 7 and as the end of a range, steps from a value.
        ("0 0 * * 7", "2024-01-01", "2024-01-07 00:00"),
        ("0 0 * * 0-7", "2024-01-01", "2024-01-02 00:00"),
        ("0 0 * * 5-7", "2024-01-01", "2024-01-05 00:00"),
        ("0 0 * * sat-sun", "2024-01-01", "2024-01-06 00:00"),
        ("5/15 * * * *", "2024-01-01 00:05", "2024-01-01 00:20"),
        # `*/n` is a star for the day rule: an odd day and a Monday.
        ("0 0 */2 * 1", "2024-01-02", "2024-01-15 00:00"),
        # The README's example: the 1st of March or a Tuesday in March, not "every Monday".
        ("1-2,*/15 0 1 3 2", "2024-01-31 20:00", "2024-03-01 00:00"),
        ("1-2,*/15 0 1 3 2", "2024-03-01 00:45", "2024-03-05 00:00"),
    ],
)
def test_first_version_next(text: str, start: str, right: str) -> None:
    assert shown(Expression(text).next(at(start))) == right


@pytest.mark.parametrize("text", ["0 0 * * 0", "0 0 * * 1", "0 0 * * 2", "0 0 29 2 *", "*/7 3 L * *"])
def test_first_version_year_ends(text: str) -> None:
    """Weekly jobs over 30 new years: no run on a wrong weekday, none left out."""
    runs = list(Expression(text).between(datetime(2000, 1, 1), datetime(2030, 1, 1)))
    if text.endswith(("0", "1", "2")) and "29" not in text:
        assert {run.isoweekday() % 7 for run in runs} == {int(text[-1])}
        assert {later - earlier for earlier, later in pairwise(runs)} == {timedelta(days=7)}


@pytest.mark.parametrize("text", ["*/0 * * * *", "30-10 * * * *", "0 20-4 * * *", "+5 * * * *", "0 0 * janfeb *"])
def test_first_version_panics_and_strange_texts_are_errors(text: str) -> None:
    with pytest.raises(CronError):
        Expression(text)


@pytest.mark.parametrize("text", ["0 0 * 1jan *", "0 0 * * sunmon", "0 0 * febjan *", "0 0 * * mon5"])
def test_first_version_names_are_not_substrings(text: str) -> None:
    with pytest.raises(CronError):
        Expression(text)


def test_first_version_range_errors_name_the_bounds() -> None:
    with pytest.raises(CronError, match="77 is not in 0-59"):
        Expression("7-77 * * * *")


# --- cronsim ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "zone", "start", "fold", "back", "right"),
    [
        # Never returned.
        ("30 * 1 11 *", "America/St_Johns", "2008-11-02 00:00", 0, False, "2008-11-01 23:30-03:30"),
        ("*/30 2 * * *", "Pacific/Chatham", "2019-04-07 03:30", 1, True, "2019-04-07 02:30+13:45"),
        # Stood still.
        ("0 */2 * * *", "America/St_Johns", "2010-11-06 23:56", 0, False, "2010-11-07 00:00-02:30"),
        ("0 */2 * * *", "America/St_Johns", "2010-11-07 00:00", 0, False, "2010-11-07 00:00-03:30"),
        ("0 */2 * * *", "America/St_Johns", "2010-11-07 00:00", 1, False, "2010-11-07 02:00-03:30"),
        # Times that do not exist: the hour from midnight is skipped.
        ("0 * * * 0", "America/Sao_Paulo", "2007-10-13 23:30", 0, False, "2007-10-14 01:00-02:00"),
        ("0 * * * 0", "America/Havana", "2013-03-09 23:30", 0, False, "2013-03-10 01:00-04:00"),
        ("0 * * * 0", "Asia/Beirut", "2014-03-29 23:30", 0, False, "2014-03-30 01:00+03:00"),
        ("0 * * * 5", "Africa/Cairo", "2014-05-15 23:30", 0, False, "2014-05-16 01:00+03:00"),
        ("0 * * * 0", "America/Santiago", "2014-09-06 23:30", 0, False, "2014-09-07 01:00-03:00"),
        ("0 * * * 0", "Atlantic/Azores", "2014-03-29 23:30", 0, False, "2014-03-30 01:00+00:00"),
        # Runs left out where the clock moves by half an hour.
        ("30 * 30 10 *", "Australia/Lord_Howe", "2005-10-30 01:30", 0, False, "2005-10-30 02:30+11:00"),
        ("5 */6 * * *", "America/Caracas", "2016-05-01 00:05", 0, False, "2016-05-01 06:05-04:00"),
        # From the second pass back to the first.
        ("30 1 * * *", "America/New_York", "2024-11-03 01:10", 1, False, "2024-11-04 01:30-05:00"),
    ],
)
def test_cronsim(text: str, zone: str, start: str, fold: int, back: bool, right: str) -> None:
    expression, moment = Expression(text), at(start, zone, fold)
    run = expression.prev(moment) if back else expression.next(moment)
    assert shown(run) == right


def test_cronsim_readings() -> None:
    assert Expression("1-1/3 * * * *") == Expression("1 * * * *")
    assert Expression("5-5/15 * * * *") == Expression("5 * * * *")
    assert Expression("0 0 * * FRIL") == Expression("0 0 * * 5L")
    with pytest.raises(CronError):
        Expression("0 0 L/2 * *")


def test_cronsim_errors_are_value_errors_that_say_what() -> None:
    with pytest.raises(ValueError, match="hour: 24 is not in 0-23") as caught:
        Expression("0 24 * * *")
    assert caught.value.field == "hour"


@pytest.mark.parametrize("day", ["2024-03-09 12:00", "2024-11-02 12:00"])
def test_cronsim_a_seconds_field_of_0_changes_nothing(day: str) -> None:
    start = at(day, "America/New_York")
    for text in ("30 2 * * *", "30 1 * * *", "*/20 1-3 * * *"):
        five, six = (list(islice(Expression(one).iter(start), 12)) for one in (text, f"0 {text}"))
        assert [shown(run) for run in five] == [shown(run) for run in six]


# --- croniter -----------------------------------------------------------------------------------------------------


def test_croniter_fixed_jobs_run_once_in_an_overlap() -> None:
    runs = islice(Expression("30 1 * * *").iter(at("2024-11-02 12:00", "America/New_York")), 2)
    assert [shown(run) for run in runs] == ["2024-11-03 01:30-04:00", "2024-11-04 01:30-05:00"]


def test_croniter_a_range_of_one_value_is_that_value() -> None:
    assert Expression("5-5 * * * *") == Expression("5 * * * *")
    assert Expression("0 0 * * 0-0") == Expression("0 0 * * 7")


def test_croniter_the_day_of_month_counts_beside_a_numbered_weekday() -> None:
    runs = Expression("0 0 13 * 5#2").between(datetime(2024, 5, 1), datetime(2024, 7, 1))
    assert [f"{run:%m-%d}" for run in runs] == ["05-10", "05-13", "06-13", "06-14"]
    assert Expression("0 0 30 2 1#1").next(datetime(2024, 1, 1)) == datetime(2024, 2, 5)


def test_croniter_weekdays() -> None:
    assert Expression("0 0 * * 7/2") == Expression("0 0 * * 0")
    assert Expression("0 0 * * 5L") != Expression("0 0 * * 5")
    Expression("0 0 LW * *")
    Expression("0 0 * * 1#1,3")


def test_croniter_wildcard_jobs_are_not_made_up_for_after_a_gap() -> None:
    run = Expression("*/15 2 * * *").next(at("2024-03-09 12:00", "America/New_York"))
    assert shown(run) == "2024-03-11 02:00-04:00"


def test_croniter_31w_needs_a_31st() -> None:
    runs = Expression("0 0 31W * *").between(datetime(2024, 1, 1), datetime(2025, 1, 1))
    assert [run.month for run in runs] == [1, 3, 5, 7, 8, 10, 12]


def test_croniter_half_hour_overlaps_have_a_second_pass() -> None:
    runs = islice(Expression("*/20 1,2 * * *").iter(at("2011-04-03 01:10", "Australia/Lord_Howe")), 5)
    assert [shown(run) for run in runs] == [
        "2011-04-03 01:20+11:00",
        "2011-04-03 01:40+11:00",
        "2011-04-03 01:40+10:30",
        "2011-04-03 02:00+10:30",
        "2011-04-03 02:20+10:30",
    ]


def test_croniter_history() -> None:
    runs = islice(Expression("0 0 */5 * *").iter(datetime(2024, 1, 25)), 4)
    assert [run.day for run in runs] == [26, 31, 1, 6]
    assert Expression("0 0 31 4 1").next(datetime(2024, 4, 1)) == datetime(2024, 4, 8)
    assert Expression("* * * * * *").match(datetime(2024, 1, 1, 0, 0, 0, 999999))
    assert not Expression("0 12 * * *").match(datetime(2024, 1, 1, 11, 59, 59, 999999))
    assert Expression("0 12 * * *").prev(datetime(2024, 1, 1, 12, 0, 0, 1)) == datetime(2024, 1, 1, 12)


@pytest.mark.parametrize("zone", ["America/New_York", "Europe/London", "Asia/Kolkata", "Pacific/Apia"])
def test_croniter_no_run_is_shifted_by_an_hour_after_a_change(zone: str) -> None:
    for run in Expression("15 13 * * *").between(at("2023-01-01", zone), at("2026-01-01", zone)):
        assert (run.hour, run.minute, run.fold) == (13, 15, 0)


# --- others -------------------------------------------------------------------------------------------------------


def test_others_a_step_beyond_the_field_is_its_first_value() -> None:
    assert Expression("*/100 5 * * *").next(datetime(2024, 1, 1)) == datetime(2024, 1, 1, 5)
    assert Expression("0 */30 * * *").next(datetime(2024, 1, 1)) == datetime(2024, 1, 2)


@pytest.mark.parametrize("text", ["? * * * *", "* ? * * *", "* * * ? *"])
def test_others_a_question_mark_is_for_days_only(text: str) -> None:
    with pytest.raises(CronError, match="only for day of month and day of week"):
        Expression(text)


@pytest.mark.parametrize("text", ["0,30 1 * * *", "0 0-3 * * *"])
def test_others_lists_run_once_in_an_overlap(text: str) -> None:
    day = Expression(text).between(at("2024-11-03", "America/New_York"), at("2024-11-04", "America/New_York"))
    walls = [run.replace(tzinfo=None) for run in day]
    assert len(walls) == len(set(walls))
    assert all(run.fold == 0 for run in walls)


def test_others_seconds_go_on_at_fall_back() -> None:
    """Half a minute was skipped where the hour repeats."""
    expression = Expression("*/30 * * * * *")
    runs = list(islice(expression.iter(at("2024-11-03 01:59", "America/New_York")), 4))
    assert [run.strftime("%H:%M:%S%z") for run in runs] == [
        "01:59:30-0400",
        "01:00:00-0500",
        "01:00:30-0500",
        "01:01:00-0500",
    ]


def test_others_prev_skips_no_day() -> None:
    for zone in ("America/New_York", "Europe/Berlin"):
        runs = list(islice(Expression("0 12 * * *").iter_back(at("2024-12-31", zone)), 366))
        days = [run.date() for run in runs]
        assert {earlier - later for earlier, later in pairwise(days)} == {timedelta(days=1)}


def test_others_equal_values_may_repeat_in_a_list() -> None:
    assert Expression("5,5,05 * * * *") == Expression("5 * * * *")


def test_others_stepped_days_are_not_ignored() -> None:
    runs = islice(Expression("0 0 1-10/3 * *").iter(datetime(2024, 1, 1, 1)), 3)
    assert [run.day for run in runs] == [4, 7, 10]
