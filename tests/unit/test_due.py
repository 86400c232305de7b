"""Which missed ticks run and which are recorded as skipped: every rule, every kind of outage, both clock changes."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tm.clock import to_ms
from tm.cron import Expression
from tm.states import Trigger
from tm_scheduler.due import MAX_CATCHUP, MAX_COUNTED, MAX_SKIPS, ON_TIME_MS, Due, due, next_tick, trigger_of

BERLIN, NEW_YORK, LORD_HOWE = (
    ZoneInfo("Europe/Berlin"),
    ZoneInfo("America/New_York"),
    ZoneInfo("Australia/Lord_Howe"),
)
MINUTELY, SECONDLY = Expression("* * * * *"), Expression("* * * * * *")
NOON = to_ms(datetime(2026, 3, 10, 12, tzinfo=UTC))
MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000


def after(outage_ms, *, schedule=MINUTELY, misfire="latest", window=3600.0, now=NOON + 30_000, zone=UTC, **more) -> Due:
    """What is due at `now` when the last tick was handled `outage_ms` ago."""
    return due(schedule, zone, cursor_ms=now - outage_ms, now_ms=now, misfire=misfire, misfire_window=window, **more)


# The usual day


@pytest.mark.parametrize("misfire", ["latest", "all", "skip"])
def test_a_tick_that_is_on_time_runs_under_every_rule(misfire):
    found = after(MINUTE, misfire=misfire, now=NOON + 3)
    assert found == Due(run=(NOON,), cursor=NOON)


def test_a_tick_is_due_at_its_very_millisecond_and_not_before():
    assert after(MINUTE - 2, now=NOON - 1) == Due(cursor=NOON - MINUTE + 1)
    assert after(MINUTE - 2, now=NOON).run == (NOON,)


def test_a_tick_at_the_cursor_was_handled():
    assert after(0, now=NOON) == Due(cursor=NOON)


def test_a_cursor_ahead_of_a_clock_that_went_back_makes_nothing():
    assert after(-HOUR) == Due(cursor=NOON + 30_000 + HOUR)


def test_a_take_over_is_no_outage_every_second_of_it_runs():
    found = after(12_000, schedule=SECONDLY, misfire="skip", now=NOON)
    assert found.run == tuple(range(NOON - 11_000, NOON + 1, 1000))
    assert not found.skipped


def test_triggers_tell_late_from_on_time():
    assert trigger_of(NOON, NOON + ON_TIME_MS) is Trigger.SCHEDULE
    assert trigger_of(NOON, NOON + ON_TIME_MS + 1) is Trigger.CATCHUP


# After an outage


@pytest.mark.parametrize(
    ("misfire", "outage", "window", "runs", "reasons"),
    [
        ("latest", 10, 3600, 1, {"a later tick runs instead": 9}),
        ("all", 10, 3600, 10, {}),
        ("skip", 10, 3600, 0, {'misfire="skip"': 10}),
        ("latest", 10, 300, 1, {"a later tick runs instead": 4, "outside the misfire window of 300 s": 5}),
        ("all", 10, 300, 5, {"outside the misfire window of 300 s": 5}),
        ("skip", 10, 300, 0, {'misfire="skip"': 5, "outside the misfire window of 300 s": 5}),
        ("latest", 10, 20, 0, {"outside the misfire window of 20 s": 10}),
        ("all", 10, 20, 0, {"outside the misfire window of 20 s": 10}),
        ("all", 130, 1e9, 100, {"only the latest 100 missed ticks run": 30}),
        ("latest", 1, 3600, 1, {}),
        ("skip", 1, 3600, 0, {'misfire="skip"': 1}),
    ],
)
def test_table_of_rules(misfire, outage, window, runs, reasons):
    """A graph of every minute, back half a minute after the last tick it missed."""
    found = after(outage * MINUTE, misfire=misfire, window=float(window))
    assert found.run == tuple(NOON - MINUTE * back for back in reversed(range(runs)))
    seen: dict[str, int] = {}
    for tick, reason in found.skipped:
        late, why = reason.removeprefix("misfire: ").split(" s late, ")
        assert int(late) == (NOON + 30_000 - tick) // 1000
        seen[why] = seen.get(why, 0) + 1
    assert seen == reasons
    assert found.cursor == NOON


def test_back_exactly_at_a_tick_that_tick_runs_and_the_missed_ones_give_way():
    found = after(3 * MINUTE, now=NOON)
    assert found.run == (NOON,)
    assert [tick for tick, _ in found.skipped] == [NOON - 2 * MINUTE, NOON - MINUTE]
    assert found.skipped[0][1] == "misfire: 120 s late, a later tick runs instead"


def test_skips_come_before_runs_so_the_order_of_time_is_the_order_of_sending():
    found = after(30 * MINUTE, misfire="all", window=600.0)
    assert [*(tick for tick, _ in found.skipped), *found.run] == sorted({*found.run, *dict(found.skipped)})


@pytest.mark.parametrize("misfire", ["latest", "all", "skip"])
@pytest.mark.parametrize("window", [60.0, 3600.0, float("inf")])
def test_a_year_away_from_a_schedule_of_every_second_is_bounded_work(misfire, window):
    started = time.perf_counter()
    found = after(365 * DAY, schedule=SECONDLY, misfire=misfire, window=window, zone=BERLIN)
    assert time.perf_counter() - started < 0.5, "about 5 ms on a quiet machine"
    assert len(found.run) <= MAX_CATCHUP + ON_TIME_MS // 1000 + 1
    assert len(found.skipped) == MAX_SKIPS + 1
    assert found.skipped[0][1] == (
        "misfire: stands for this tick and more than 1,000 before it, from 2025-03-10T12:00:31Z on, all missed"
    )


def test_the_record_that_stands_for_many_counts_them():
    found = after((MAX_SKIPS + 1 + 41) * MINUTE, misfire="skip", window=1e9)
    assert len(found.skipped) == MAX_SKIPS + 1
    tick, reason = found.skipped[0]
    assert tick == NOON - MAX_SKIPS * MINUTE
    assert reason == "misfire: stands for this tick and 41 before it, from 2026-03-10T09:39:00Z on, all missed"


def test_the_record_that_stands_for_one_says_so():
    assert after((MAX_SKIPS + 1) * MINUTE, misfire="skip", window=1e9).skipped[0][1] == "misfire: missed"


# The end of a schedule


def test_a_schedule_that_is_over_has_no_next_tick():
    once = Expression("0 0 12 10 3 * 2026")
    assert next_tick(once, UTC, NOON - 1) == NOON
    assert next_tick(once, UTC, NOON) is None
    assert after(DAY, schedule=once, now=NOON + DAY // 2, window=1e9).run == (NOON,)
    assert after(DAY, schedule=once, now=NOON - 1) == Due(cursor=NOON - 1 - DAY)


# Days when the clocks are changed


def local_runs(schedule, zone, start, end, step=timedelta(minutes=7)):
    """All runs of a scheduler that looks every few minutes, in local time with offset."""
    expression, runs = Expression(schedule), []
    cursor, now, last = to_ms(start), to_ms(start), to_ms(end)
    while now < last:
        now = min(now + int(step.total_seconds() * 1000), last)
        found = due(
            expression,
            zone,
            cursor_ms=cursor,
            now_ms=now,
            misfire="all",
            misfire_window=3600,
            late_after_ms=1000,
        )
        assert not found.skipped
        cursor = found.cursor
        runs += [datetime.fromtimestamp(tick / 1000, UTC).astimezone(zone).isoformat() for tick in found.run]
    return runs


@pytest.mark.parametrize(
    ("zone", "schedule", "day", "runs"),
    [
        (BERLIN, "30 2 * * *", (2026, 3, 29), ["2026-03-29T03:00:00+02:00"]),  # 02:30 does not exist
        (BERLIN, "30 2 * * *", (2026, 10, 25), ["2026-10-25T02:30:00+02:00"]),  # exists twice, runs once
        (NEW_YORK, "30 2 * * *", (2026, 3, 8), ["2026-03-08T03:00:00-04:00"]),
        (NEW_YORK, "30 1 * * *", (2026, 11, 1), ["2026-11-01T01:30:00-04:00"]),
        (LORD_HOWE, "15 2 * * *", (2026, 10, 4), ["2026-10-04T02:30:00+11:00"]),  # a gap of half an hour
        (LORD_HOWE, "45 1 * * *", (2026, 4, 5), ["2026-04-05T01:45:00+11:00"]),
        (
            BERLIN,
            "*/30 2 * * *",  # wildcard: every instant that reads so
            (2026, 10, 25),
            [f"2026-10-25T02:{minute}:00+0{offset}:00" for offset in (2, 1) for minute in ("00", "30")],
        ),
        (BERLIN, "*/30 2 * * *", (2026, 3, 29), []),
    ],
)
def test_each_local_tick_once_on_the_days_of_a_clock_change(zone, schedule, day, runs):
    start = datetime(*day, tzinfo=zone)
    end = datetime(*day, tzinfo=zone) + timedelta(days=1)
    assert local_runs(schedule, zone, start, end) == runs


# Laws

schedules = st.sampled_from(
    ["* * * * *", "*/7 * * * *", "30 2 * * *", "*/15 2,3 * * *", "0 */2 * * *", "*/20 * * * * *", "5 1 * * 0"]
).map(Expression)
zones = st.sampled_from([UTC, BERLIN, NEW_YORK, LORD_HOWE, ZoneInfo("Asia/Kathmandu")])
instants = st.integers(to_ms(datetime(2026, 3, 1, tzinfo=UTC)), to_ms(datetime(2026, 11, 30, tzinfo=UTC)))
rules = st.fixed_dictionaries(
    {
        "misfire": st.sampled_from(["latest", "all", "skip"]),
        "misfire_window": st.sampled_from([0.0, 60.0, 3600.0, 1e9, float("inf")]),
        "late_after_ms": st.sampled_from([0, 1000, ON_TIME_MS]),
    }
)


def every_tick(schedule, zone, after_ms, until_ms):
    ticks = []
    tick = next_tick(schedule, zone, after_ms)
    while tick is not None and tick <= until_ms:
        ticks.append(tick)
        tick = next_tick(schedule, zone, tick)
    return ticks


@given(schedules, zones, instants, st.integers(0, 100 * MINUTE), rules)
def test_runs_and_skips_together_are_all_ticks_and_none_twice(schedule, zone, now, outage, rules):
    """Up to the number that gets records of its own, which 100 minutes never pass but for seconds."""
    found = due(schedule, zone, cursor_ms=now - outage, now_ms=now, **rules)
    handled = [*(tick for tick, _ in found.skipped), *found.run]
    ticks = every_tick(schedule, zone, now - outage, now)
    if len(found.skipped) > MAX_SKIPS:
        assert "stands for this tick" in found.skipped[0][1] or found.skipped[0][1] == "misfire: missed"
        ticks = [tick for tick in ticks if tick >= handled[0]]
    assert handled == ticks
    assert found.cursor == (ticks[-1] if ticks else now - outage)


@given(schedules, zones, instants, st.integers(0, 30 * MINUTE), rules)
def test_on_time_ticks_run_and_windows_hold(schedule, zone, now, outage, rules):
    found = due(schedule, zone, cursor_ms=now - outage, now_ms=now, **rules)
    late = [now - tick for tick in found.run if now - tick > rules["late_after_ms"]]
    assert all(now - tick > rules["late_after_ms"] for tick, _ in found.skipped)
    assert all(each <= rules["misfire_window"] * 1000 for each in late)
    assert len(late) <= {"latest": 1, "all": MAX_CATCHUP, "skip": 0}[rules["misfire"]]


@given(schedules, zones, instants, st.lists(st.integers(0, 20 * MINUTE), max_size=10), rules)
def test_looking_often_or_rarely_no_tick_is_handled_twice_or_missed(schedule, zone, start, steps, rules):
    cursor = now = start
    handled = []
    for step in steps:
        now += step
        found = due(schedule, zone, cursor_ms=cursor, now_ms=now, **rules)
        handled += [*(tick for tick, _ in found.skipped), *found.run]
        assert found.cursor >= cursor
        cursor = found.cursor
    assert handled == every_tick(schedule, zone, start, now)


def test_the_counted_limit_is_the_documented_one():
    assert MAX_COUNTED == 1000
