"""Every change of clocks of every zone of tzdata, against runs found by walking the minutes."""

from __future__ import annotations

import random
from datetime import datetime, timedelta
from itertools import pairwise, takewhile
from zoneinfo import ZoneInfo, available_timezones

import pytest

from tests.cron import oracle
from tests.cron.effort import nightly_only
from tm.cron import Expression

TEXTS = (
    "*/15 * * * *",
    "0 * * * *",
    "30 2 * * *",
    "0 0 * * *",
    "0,30 0-3 * * *",
    "*/20 1,2 * * *",
    "5 */6 * * *",
    "15 23,0 * * mon-fri",
    "59 23 L * *",
    "*/30 0-3 * * 0",
    "10 0-23 * * 0#L",
    "17,47 1-4 1-7 3,4,9-11 *",
)
MINUTE = timedelta(minutes=1)
FIXED_AND_WILDCARD = ("30 2 * * *", "*/30 * * * *", "0 0-4 * * *")


def utc(at: datetime) -> datetime:
    offset = at.utcoffset()
    assert offset is not None
    return at.replace(tzinfo=None) - offset


def compare(zone: ZoneInfo, change: oracle.Change, texts: tuple[str, ...], chance: random.Random) -> None:
    reach = timedelta(hours=4) + abs(change.new - change.old)
    start, end = change.instant - reach, change.instant + reach
    first, last = (at.replace(tzinfo=zone) for at in (start, end))
    first, last = zone.fromutc(first), zone.fromutc(last)
    for text in texts:
        expression, meaning = Expression(text), oracle.read(text)
        right = oracle.runs_around(meaning, change, start, end)
        where = f"{text} around {change} in {zone}"

        forward = takewhile(lambda run: utc(run) < end, expression.iter(first))
        assert [utc(run) for run in forward] == [run for run in right if run > start], where
        back = takewhile(lambda run: utc(run) >= start, expression.iter_back(last))
        assert [utc(run) for run in back] == right[::-1], where
        assert [utc(run) for run in expression.between(first, last)] == right, where

        # From anywhere in between, to the microsecond, and at the change itself.
        for seconds in (0, -1e-6, 1e-6, *(chance.uniform(-9000, 9000) for _ in range(3))):
            instant = change.instant + timedelta(seconds=seconds)
            at = zone.fromutc(instant.replace(tzinfo=zone))
            for run in [one for one in right if one > instant][:1]:
                assert utc(expression.next(at)) == run, (where, at)
            for run in [one for one in right if one < instant][-1:]:
                assert utc(expression.prev(at)) == run, (where, at)
            if start + MINUTE < instant < end - MINUTE and abs(change.new - change.old) >= MINUTE:
                # A run that the same pass of the clock shows within the same minute.
                near = [zone.fromutc(run.replace(tzinfo=zone)) for run in right if abs(run - instant) < MINUTE]
                hit = any(run.replace(second=0) == at.replace(second=0, microsecond=0) for run in near)
                assert expression.match(at) == hit, (where, at)


def changes_of(names: list[str], start: datetime, end: datetime) -> dict[oracle.Change, ZoneInfo]:
    """Each distinct change once, with one of its zones: the engine sees nothing else of a zone."""
    found: dict[oracle.Change, ZoneInfo] = {}
    for name in names:
        zone = ZoneInfo(name)
        for change in oracle.changes(zone, start, end):
            found.setdefault(change, zone)
    return found


def test_a_sample_of_the_changes_of_20_years() -> None:
    chance = random.Random(20)
    names = sorted(available_timezones())
    changes = changes_of(chance.sample(names, 60), datetime(2007, 1, 1), datetime(2027, 1, 1))
    sample = chance.sample(sorted(changes), 60)
    for change in sample:
        compare(changes[change], change, TEXTS, chance)


# One of each sort: what the sample could miss.
@pytest.mark.parametrize(
    ("name", "start"),
    [
        ("Australia/Lord_Howe", datetime(2011, 3, 1)),
        ("Antarctica/Troll", datetime(2014, 3, 1)),
        ("America/Sao_Paulo", datetime(2007, 10, 1)),
        ("America/Havana", datetime(2013, 3, 1)),
        ("Asia/Beirut", datetime(2014, 3, 1)),
        ("Africa/Cairo", datetime(2014, 5, 1)),
        ("America/Caracas", datetime(2007, 11, 1)),
        ("America/Caracas", datetime(2016, 4, 15)),
        ("Asia/Pyongyang", datetime(2015, 8, 1)),
        ("Pacific/Apia", datetime(2011, 12, 1)),
        ("America/St_Johns", datetime(2008, 10, 1)),
        ("Pacific/Chatham", datetime(2019, 4, 1)),
        ("America/Juneau", datetime(1867, 10, 1)),
        ("Asia/Manila", datetime(1844, 12, 1)),
        ("Pacific/Kwajalein", datetime(1993, 8, 1)),
        ("Africa/Monrovia", datetime(1972, 1, 1)),
    ],
)
def test_one_change_of_each_sort(name: str, start: datetime) -> None:
    zone = ZoneInfo(name)
    found = oracle.changes(zone, start, start + timedelta(days=60))
    assert found
    for change in found:
        compare(zone, change, TEXTS, random.Random(name))


@nightly_only
@pytest.mark.timeout(3600)
def test_all_changes_of_all_zones_of_20_years() -> None:
    chance = random.Random(20)
    count = 0
    for name in sorted(available_timezones()):
        zone = ZoneInfo(name)
        for change in oracle.changes(zone, datetime(2007, 1, 1), datetime(2027, 1, 1)):
            compare(zone, change, TEXTS, chance)
            count += 1
    assert count > 5_000


@nightly_only
@pytest.mark.timeout(3600)
def test_all_different_changes_since_1840() -> None:
    chance = random.Random(1840)
    changes = changes_of(sorted(available_timezones()), datetime(1840, 1, 1), datetime(2040, 1, 1))
    assert len(changes) > 5_000
    for change, zone in changes.items():
        compare(zone, change, FIXED_AND_WILDCARD, chance)


@nightly_only
@pytest.mark.timeout(600)
def test_no_zone_changes_twice_within_a_day() -> None:
    """The assumption behind `zones._DAY`."""
    for name in sorted(available_timezones()):
        zone = ZoneInfo(name)
        found = oracle.changes(zone, datetime(1840, 1, 1), datetime(2040, 1, 1), timedelta(hours=12))
        instants = [change.instant for change in found]
        gaps = [later - earlier for earlier, later in pairwise(instants)]
        assert not gaps or min(gaps) > timedelta(days=3), name
