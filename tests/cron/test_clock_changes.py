"""The days when clocks are changed, case by case; the walk over all zones is in another file."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone, tzinfo
from itertools import islice
from zoneinfo import ZoneInfo

import pytest

from tm.cron import Expression

NEW_YORK = ZoneInfo("America/New_York")


def at(text: str, zone: str | tzinfo = NEW_YORK, fold: int = 0) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone) if isinstance(zone, str) else zone, fold=fold)


def day(text: str, start: str, zone: str = "America/New_York", hours: int = 24) -> list[str]:
    first = at(start, zone)
    end = (first.astimezone(UTC) + timedelta(hours=hours)).astimezone(first.tzinfo)
    return [f"{run:%H:%M%z}" for run in Expression(text).between(first, end)]


GAP, OVERLAP = "2024-03-10", "2024-11-03"


@pytest.mark.parametrize(
    ("text", "start", "hours", "right"),
    [
        ("30 2 * * *", GAP, 23, ["03:00-0400"]),
        ("0,30 2 * * *", GAP, 23, ["03:00-0400"]),  # two skipped runs are made up for by one
        ("0 3 * * *", GAP, 23, ["03:00-0400"]),
        ("0,30 2,3 * * *", GAP, 23, ["03:00-0400", "03:30-0400"]),
        ("0 0-4 * * *", GAP, 23, ["00:00-0500", "01:00-0500", "03:00-0400", "04:00-0400"]),
        ("*/30 2 * * *", GAP, 23, []),
        ("0 * * * *", GAP, 4, ["00:00-0500", "01:00-0500", "03:00-0400", "04:00-0400"]),
        ("30 1 * * *", OVERLAP, 25, ["01:30-0400"]),
        ("0,30 1 * * *", OVERLAP, 25, ["01:00-0400", "01:30-0400"]),
        ("0 0-3 * * *", OVERLAP, 25, ["00:00-0400", "01:00-0400", "02:00-0500", "03:00-0500"]),
        ("*/30 1 * * *", OVERLAP, 25, ["01:00-0400", "01:30-0400", "01:00-0500", "01:30-0500"]),
        ("0 * * * *", OVERLAP, 4, ["00:00-0400", "01:00-0400", "01:00-0500", "02:00-0500"]),
        ("@hourly", OVERLAP, 3, ["00:00-0400", "01:00-0400", "01:00-0500"]),
        ("@daily", OVERLAP, 25, ["00:00-0400"]),
    ],
)
def test_new_york(text: str, start: str, hours: int, right: list[str]) -> None:
    assert day(text, start, hours=hours) == right


@pytest.mark.parametrize(
    ("zone", "start", "text", "right"),
    [
        ("Australia/Lord_Howe", "2024-10-06", "15 2 * * *", ["02:30+1100"]),
        ("Australia/Lord_Howe", "2024-04-07", "45 1 * * *", ["01:45+1100"]),
        (
            "Australia/Lord_Howe",
            "2024-04-07",
            "*/15 1 * * *",
            ["01:00+1100", "01:15+1100", "01:30+1100", "01:45+1100", "01:30+1030", "01:45+1030"],
        ),
        ("Antarctica/Troll", "2024-03-31", "30 1 * * *", ["03:00+0200"]),
        ("Antarctica/Troll", "2024-10-27", "30 1 * * *", ["01:30+0200"]),
        ("America/Sao_Paulo", "2018-11-04", "0 0 * * *", ["01:00-0200"]),
        # 23:30 became 24:00: the run comes with the new day.
        ("Asia/Pyongyang", "2018-05-04 22:00", "45 23 * * *", ["00:00+0900"]),
        ("America/Caracas", "2016-05-01", "45 2 * * *", ["03:00-0400"]),
        ("America/Caracas", "2007-12-09", "45 2 * * *", ["02:45-0400"]),
    ],
)
def test_other_changes(zone: str, start: str, text: str, right: list[str]) -> None:
    assert day(text, start, zone, hours=20) == right


def test_a_skipped_day_is_not_made_up_for() -> None:
    """Samoa moved over the date line: there was no 30 December 2011."""
    for text in ("30 2 * * *", "*/30 2 * * *"):
        runs = islice(Expression(text).iter(at("2011-12-29", "Pacific/Apia")), 2)
        assert [f"{run:%m-%d %H:%M}" for run in runs] in (
            ["12-29 02:30", "12-31 02:30"],
            ["12-29 02:00", "12-29 02:30"],
        )
    assert Expression("0 12 30 12 *").next(at("2011-01-01", "Pacific/Apia")).year == 2012


def test_a_repeated_day_runs_fixed_jobs_once() -> None:
    """Kwajalein moved the other way in 1969, Alaska in 1867."""
    runs = Expression("0 12 * * *").between(at("1867-10-17", "America/Juneau"), at("1867-10-20", "America/Juneau"))
    assert [f"{run:%d %H:%M} {run.fold}" for run in runs] == ["17 12:00 0", "18 12:00 0", "19 12:00 0"]


@pytest.mark.parametrize(
    ("text", "start", "fold", "following", "previous"),
    [
        # Inside the second pass a fixed job has run already.
        ("30 1 * * *", "2024-11-03 01:10", 0, "2024-11-03 01:30-04:00", "2024-11-02 01:30-04:00"),
        ("30 1 * * *", "2024-11-03 01:10", 1, "2024-11-04 01:30-05:00", "2024-11-03 01:30-04:00"),
        ("30 1 * * *", "2024-11-03 01:50", 1, "2024-11-04 01:30-05:00", "2024-11-03 01:30-04:00"),
        ("*/30 1 * * *", "2024-11-03 01:50", 0, "2024-11-03 01:00-05:00", "2024-11-03 01:30-04:00"),
        ("*/30 1 * * *", "2024-11-03 01:10", 1, "2024-11-03 01:30-05:00", "2024-11-03 01:00-05:00"),
        ("*/30 1 * * *", "2024-11-03 01:00", 1, "2024-11-03 01:30-05:00", "2024-11-03 01:30-04:00"),
        ("*/30 1 * * *", "2024-11-03 02:00", 0, "2024-11-04 01:00-05:00", "2024-11-03 01:30-05:00"),
        # 02:30 does not exist: fold 0 is 03:30 summer time, fold 1 is 01:30 winter time.
        ("0 * * * *", "2024-03-10 02:30", 0, "2024-03-10 04:00-04:00", "2024-03-10 03:00-04:00"),
        ("0 * * * *", "2024-03-10 02:30", 1, "2024-03-10 03:00-04:00", "2024-03-10 01:00-05:00"),
        ("30 2 * * *", "2024-03-10 02:30", 0, "2024-03-11 02:30-04:00", "2024-03-10 03:00-04:00"),
        ("30 2 * * *", "2024-03-10 02:30", 1, "2024-03-10 03:00-04:00", "2024-03-09 02:30-05:00"),
        # The very instant of a run that is made up for.
        ("30 2 * * *", "2024-03-10 03:00", 0, "2024-03-11 02:30-04:00", "2024-03-09 02:30-05:00"),
        ("30 2 * * *", "2024-03-10 01:59", 0, "2024-03-10 03:00-04:00", "2024-03-09 02:30-05:00"),
    ],
)
def test_starts_near_a_change(text: str, start: str, fold: int, following: str, previous: str) -> None:
    expression, moment = Expression(text), at(start, fold=fold)
    assert expression.next(moment).isoformat(" ", "minutes") == following
    assert expression.prev(moment).isoformat(" ", "minutes") == previous


def test_match_is_about_runs() -> None:
    fixed, wildcard = Expression("30 2 * * *"), Expression("*/30 2 * * *")
    assert fixed.match(at("2024-03-10 03:00"))
    assert fixed.match(at("2024-03-10 03:00:59"))
    assert not fixed.match(at("2024-03-10 03:01"))
    assert not wildcard.match(at("2024-03-10 03:00"))
    assert Expression("30 1 * * *").match(at("2024-11-03 01:30"))
    assert not Expression("30 1 * * *").match(at("2024-11-03 01:30", fold=1))
    assert Expression("*/30 1 * * *").match(at("2024-11-03 01:30", fold=1))
    # 02:30 itself does not exist; as an instant it is 03:30.
    assert not fixed.match(at("2024-03-10 02:30"))


def test_the_zone_object_is_kept_and_need_not_be_a_zoneinfo() -> None:
    class Fixed(tzinfo):
        """No `dst`, no `fromutc`: the least a zone can be."""

        def utcoffset(self, _: datetime | None) -> timedelta:
            return timedelta(hours=5, minutes=45)

        def dst(self, _: datetime | None) -> None:
            return None

        def tzname(self, _: datetime | None) -> str:
            return "fixed"

    class Silent(Fixed):
        def utcoffset(self, _: datetime | None) -> None:  # type: ignore[override]
            return None

    for zone in (Fixed(), Silent(), UTC, timezone(timedelta(hours=-3)), NEW_YORK):
        for text in ("*/5 * * * *", "30 4 * * *", "0 0 29 2 *"):
            expression, start = Expression(text), datetime(2024, 1, 1, 0, 2, tzinfo=zone)
            naive = start.replace(tzinfo=None)
            for ask, plain in (
                (expression.next(start), expression.next(naive)),
                (expression.prev(start), expression.prev(naive)),
            ):
                assert ask.tzinfo is zone
                assert ask.replace(tzinfo=None) == plain
            assert expression.match(expression.next(start))
            assert list(islice(expression.between(start, start + timedelta(days=2)), 3)) is not None


def test_results_do_not_depend_on_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    expression, start = Expression("30 2 * * *"), at("2024-03-09 12:00")
    seen = set()
    for zone in ("UTC", "America/New_York", "Pacific/Apia"):
        monkeypatch.setenv("TZ", zone)
        time.tzset()
        seen.add((expression.next(start).isoformat(), expression.next(start.replace(tzinfo=None)).isoformat()))
    monkeypatch.undo()
    time.tzset()
    assert seen == {("2024-03-10T03:00:00-04:00", "2024-03-10T02:30:00")}


def test_the_last_and_the_first_year_near_a_change() -> None:
    """On the wall calendar nothing is left, but the clock shows the hour again, or the start only looks late."""
    wildcard = Expression("0 */30 1 3 11 * 2024")
    runs = [f"{run:%H:%M%z}" for run in wildcard.iter(at("2024-11-02"))]
    assert runs == ["01:00-0400", "01:30-0400", "01:00-0500", "01:30-0500"]
    back = [f"{run:%H:%M%z}" for run in wildcard.iter_back(at("2024-11-04"))]
    assert back == runs[::-1]
    fixed = Expression("0 30 2 10 3 * 2024")
    assert [f"{run:%H:%M%z}" for run in fixed.iter(at("2024-03-09"))] == ["03:00-0400"]
    assert [f"{run:%H:%M%z}" for run in fixed.iter(at("2024-03-10 02:45", fold=1))] == ["03:00-0400"]
    assert [f"{run:%H:%M%z}" for run in fixed.iter_back(at("2024-03-10 02:15"))] == ["03:00-0400"]
    assert fixed.match(at("2024-03-10 03:00"))
    assert not Expression("0 30 2 10 3 * 2023").match(at("2024-03-10 03:00"))
    assert not Expression("0 30 2 10 3 * 2023").match(at("2024-03-10 02:30"))
