"""The laws every expression keeps, on expressions and moments that Hypothesis makes up."""

from __future__ import annotations

import pickle  # noqa: TID251 -- users pickle expressions
from datetime import UTC, datetime, timedelta, timezone
from itertools import islice, pairwise

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tests.cron import oracle
from tests.cron.effort import law
from tests.cron.strategies import moments, texts, zones
from tm.cron import CronError, Exhausted, Expression

MICROSECOND = timedelta(microseconds=1)
RULES = st.sampled_from(("vixie", "or", "and"))


def possible(text: str, **options: str) -> Expression:
    try:
        return Expression(text, **options)
    except CronError as error:
        if error.reason != "it can never occur":
            raise
        assume(False)
        raise


def utc(at: datetime) -> datetime:
    return at.astimezone(UTC).replace(tzinfo=None)


def next_or_none(expression: Expression, at: datetime) -> datetime | None:
    try:
        return expression.next(at)
    except Exhausted:
        return None


def prev_or_none(expression: Expression, at: datetime) -> datetime | None:
    try:
        return expression.prev(at)
    except Exhausted:
        return None


@law
@given(texts(), RULES)
def test_the_grammar_and_the_calendar_agree_with_the_oracle(text: str, rule: str) -> None:
    try:
        meaning = oracle.read(text, rule)
    except oracle.Bad:
        meaning = None
    try:
        expression = Expression(text, day_rule=rule)
    except CronError:
        expression = None
    assert (meaning is None) == (expression is None)
    if meaning is not None and expression is not None:
        plan = expression._plan
        assert {bit for bit in range(60) if plan.minutes >> bit & 1} == meaning.minutes
        assert {bit for bit in range(60) if plan.hours >> bit & 1} == meaning.hours
        assert {bit for bit in range(60) if plan.seconds >> bit & 1} == meaning.seconds
        assert {bit for bit in range(60) if plan.months >> bit & 1} == meaning.months
        assert plan.wildcard == meaning.wildcard


@law
@given(texts(), RULES, st.integers(1970, 2198))
def test_every_day_of_two_years_is_right(text: str, rule: str, year: int) -> None:
    expression = possible(text, day_rule=rule)
    meaning = oracle.read(text, rule)
    noon_or_so = datetime(2000, 1, 1, min(meaning.hours), min(meaning.minutes), min(meaning.seconds)).time()
    start = datetime(year, 1, 1)
    for number in range(731):
        at = datetime.combine(start + timedelta(days=number), noon_or_so)
        assert expression.match(at) == meaning.day(at.date()), at


@law
@given(texts(), moments)
def test_next_is_later_matches_and_leaves_nothing_out(text: str, at: datetime) -> None:
    expression = possible(text)
    run = next_or_none(expression, at)
    if run is None:
        return
    assert run > at
    assert run.microsecond == 0
    assert expression.match(run)
    assert run.tzinfo is None
    meaning = oracle.read(text)
    earlier = oracle.naive_runs(meaning, max(at + MICROSECOND, run - timedelta(days=40)), run + timedelta(seconds=1))
    assert next(earlier) == run


@law
@given(texts(), moments)
def test_prev_is_earlier_matches_and_leaves_nothing_out(text: str, at: datetime) -> None:
    expression = possible(text)
    run = prev_or_none(expression, at)
    if run is None:
        return
    assert run < at
    assert expression.match(run)
    later = oracle.naive_runs(oracle.read(text), run, min(at, run + timedelta(days=40)))
    assert next(later) == run
    assert next(later, None) is None


@law
@given(texts(), moments)
def test_next_and_prev_undo_each_other(text: str, at: datetime) -> None:
    expression = possible(text)
    run = next_or_none(expression, at)
    assume(run is not None)
    assert run is not None
    assert expression.next(run - MICROSECOND) == run
    assert expression.prev(run + MICROSECOND) == run
    before = prev_or_none(expression, run)
    if before is not None:
        assert before <= at < run
        assert expression.next(before) == run


@law
@given(texts(), st.lists(moments, min_size=2, max_size=5), zones)
def test_next_and_prev_are_monotone_in_any_zone(text: str, starts: list[datetime], zone) -> None:
    expression = possible(text)
    aware = sorted((start.replace(tzinfo=zone) for start in starts), key=utc)
    for ask in (next_or_none, prev_or_none):
        found = [utc(run) for start in aware if (run := ask(expression, start))]
        assert found == sorted(found)


@law
@given(texts(), moments, zones, st.sampled_from((0, 1)))
def test_aware_runs_exist_move_forward_and_keep_their_zone(text: str, at: datetime, zone, fold: int) -> None:
    expression = possible(text)
    at = at.replace(tzinfo=zone, fold=fold)
    runs = list(islice(expression.iter(at), 4))
    for earlier, later in pairwise([at, *runs]):
        assert utc(later) > utc(earlier)
        assert later.tzinfo is zone
        # A time that exists survives the way through UTC, fold and all.
        back = later.astimezone(UTC).astimezone(zone)
        assert (back.replace(tzinfo=None), back.fold) == (later.replace(tzinfo=None), later.fold)
        assert expression.match(later)
    for earlier, later in pairwise(runs):
        assert expression.prev(later) == earlier
        assert utc(expression.prev(later)) == utc(earlier)
    for earlier, later in pairwise([at, *islice(expression.iter_back(at), 4)]):
        assert utc(later) < utc(earlier)
        assert expression.match(later)


@law
@given(texts(), moments, st.integers(-23 * 60, 23 * 60))
def test_utc_and_fixed_offsets_are_as_naive(text: str, at: datetime, minutes: int) -> None:
    expression = possible(text)
    for ask in (next_or_none, prev_or_none):
        naive = ask(expression, at)
        for zone in (UTC, timezone(timedelta(minutes=minutes))):
            aware = ask(expression, at.replace(tzinfo=zone))
            assert (aware.replace(tzinfo=None) if aware else None) == naive
            assert aware is None or aware.tzinfo is zone


@law
@given(texts(fields=(5,)), moments, zones)
def test_a_leading_0_for_the_seconds_changes_nothing(text: str, at: datetime, zone) -> None:
    five, six = possible(text), possible("0 " + text)
    assert five == six
    assert hash(five) == hash(six)
    for start in (at, at.replace(tzinfo=zone)):
        assert next_or_none(five, start) == next_or_none(six, start)
        assert prev_or_none(five, start) == prev_or_none(six, start)


@law
@given(texts(), moments, zones, RULES)
def test_copies_answer_alike(text: str, at: datetime, zone, rule: str) -> None:
    expression = possible(text, day_rule=rule)
    for start in (at, at.replace(tzinfo=zone)):
        first = next_or_none(expression, start)
        for twin in (
            expression,
            pickle.loads(pickle.dumps(expression)),
            eval(repr(expression), {"Expression": Expression}),
            Expression(f"  {text.swapcase()}\n", day_rule=rule),
        ):
            assert twin == expression
            assert hash(twin) == hash(expression)
            assert next_or_none(twin, start) == first


@law
@given(texts(), texts(), RULES, RULES)
def test_equal_means_the_same_days_and_times(one: str, two: str, first_rule: str, second_rule: str) -> None:
    first, second = possible(one, day_rule=first_rule), possible(two, day_rule=second_rule)
    start = datetime(1999, 12, 31)
    same = list(islice(first.iter(start), 50)) == list(islice(second.iter(start), 50))
    assert not (first == second and not same)
    assert (first == second) == (second == first)


@law
@given(texts(), moments, zones, st.timedeltas(timedelta(0), timedelta(days=3)))
def test_between_tiles_without_overlap(text: str, at: datetime, zone, length: timedelta) -> None:
    expression = possible(text)
    for start in (at, at.replace(tzinfo=zone)):
        middle, end = start + length, start + 2 * length
        if zone is not None and start.tzinfo and not utc(start) <= utc(middle) <= utc(end):
            continue
        parts = [*islice(expression.between(start, middle), 3000), *islice(expression.between(middle, end), 3000)]
        if len(parts) < 3000:
            assert parts == list(expression.between(start, end))


@pytest.mark.parametrize("text", ["* * * * *", "0 0 29 2 *", "30 2 * * *", "*/7 1-5 L * *"])
@pytest.mark.parametrize("zone", [None, UTC, "America/New_York", "Asia/Tokyo"])
def test_the_ends_of_the_calendar_are_an_end(text: str, zone) -> None:
    from zoneinfo import ZoneInfo

    tz = ZoneInfo(zone) if isinstance(zone, str) else zone
    expression = Expression(text)
    last, first = datetime.max.replace(tzinfo=tz), datetime.min.replace(tzinfo=tz)
    with pytest.raises(Exhausted, match="9999"):
        expression.next(last)
    with pytest.raises(Exhausted, match="year 1"):
        expression.prev(first)
    assert len(list(expression.iter(last - timedelta(days=2)))) < 3000
    assert list(expression.iter_back(first)) == []
    assert expression.prev(last) < last
    assert expression.next(first) > first
    expression.match(last)
    expression.match(first)
    list(islice(expression.between(first, last), 2))
