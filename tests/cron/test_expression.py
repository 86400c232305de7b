"""The object: equality, immutability, copies, threads, iteration, H, and what importing it costs."""

from __future__ import annotations

import copy
import json
import os
import pickle  # noqa: TID251 -- users pickle expressions
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from itertools import islice
from zoneinfo import ZoneInfo

import pytest

import tm.cron
from tm.cron import CronError, Exhausted, Expression

START = datetime(2024, 1, 1)


def test_public_names() -> None:
    assert tm.cron.__all__ == ["CronError", "Exhausted", "Expression"]
    assert issubclass(CronError, ValueError)
    assert issubclass(Exhausted, ValueError)


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("*/15 * * * *", "*/15 * * * *"),
        ("0 0 * * 7", "0 0 * * SUN"),
        ("0 0 1 jan *", "@yearly"),
        ("@annually", "@YEARLY"),
        ("0 0 1 * *", "@monthly"),
        ("0 0 * * 0", "@weekly"),
        ("@daily", "@midnight"),
        ("0 * * * *", "@hourly"),
        ("5,10 1 * * *", "10,05,5-5 01 * * *"),
        ("0 0 * * *", "0 0 0 * * *"),
        ("0 0 1-31 * *", "0 0 * * ?"),
        ("0 0 * * 1#1", "0 0 1-7 * +1"),
        ("0 0 L 2,4 *", "0 0 L-0 4,2 *"),
        ("0 0 30 2,3 *", "0 0 30 3 *"),  # there is no 30 February to tell them apart
        ("0 0 * * 5L", "0 0 * * fri#L"),
        (" 0\t0  * * *\r\n", "0 0 * * *"),
    ],
)
def test_equal_when_they_have_the_same_runs(one: str, two: str) -> None:
    assert Expression(one) == Expression(two)
    assert hash(Expression(one)) == hash(Expression(two))


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("0 0 * * *", "0 1 * * *"),
        ("0 0-23 * * *", "0 * * * *"),  # fixed and wildcard: they differ where clocks change
        ("0 0 13 * 5", "0 0 13 * +5"),
        ("0 0 0 * * * *", "0 0 0 * * *"),  # the years end in 2199
        ("0 0 L * *", "0 0 31 * *"),
    ],
)
def test_unequal_otherwise(one: str, two: str) -> None:
    assert Expression(one) != Expression(two)


def test_other_things_are_not_equal() -> None:
    assert Expression("* * * * *") != "* * * * *"
    assert Expression("0 0 */2 * 1") != Expression("0 0 */2 * 1", day_rule="or")
    assert Expression("0 0 * * 1") == Expression("0 0 * * 1", day_rule="or")
    assert len({Expression("@daily"), Expression("0 0 * * *"), Expression("0 0 * * 1")}) == 2


def test_text_and_repr() -> None:
    expression = Expression("*/5 * * * *")
    assert str(expression) == "*/5 * * * *"
    assert repr(expression) == "Expression('*/5 * * * *')"
    assert repr(Expression("0 0 1 * 1", day_rule="and")) == "Expression('0 0 1 * 1', day_rule='and')"
    assert repr(Expression("H 0 * * *", key="it's")) == "Expression('H 0 * * *', key=\"it's\")"
    assert (expression.text, expression.day_rule, expression.key) == ("*/5 * * * *", "vixie", None)


@pytest.mark.parametrize("name", ["text", "day_rule", "key", "_plan", "anything"])
def test_immutable(name: str) -> None:
    expression = Expression("* * * * *")
    with pytest.raises(AttributeError, match="cannot be changed"):
        setattr(expression, name, "0 0 * * *")
    with pytest.raises(AttributeError, match="cannot be changed"):
        delattr(expression, name)
    assert not hasattr(expression, "__dict__")


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickles_and_copies(protocol: int) -> None:
    for expression in (Expression("0 0 L * *", day_rule="or"), Expression("H H * * *", key="backup")):
        expression.next(START)
        for twin in (
            pickle.loads(pickle.dumps(expression, protocol)),
            copy.copy(expression),
            copy.deepcopy(expression),
        ):
            assert twin == expression
            assert repr(twin) == repr(expression)


def test_errors_pickle() -> None:
    with pytest.raises(CronError) as caught:
        Expression("0 24 * * *")
    error = pickle.loads(pickle.dumps(caught.value))
    assert str(error) == str(caught.value)
    assert (error.field, error.column, error.text, error.hint) == ("hour", 3, "0 24 * * *", "midnight is hour 0")


def test_subclasses_stay_what_they_are() -> None:
    class Mine(Expression):
        __slots__ = ()

    assert type(pickle.loads(pickle.dumps(Expression("@daily")))) is Expression
    assert type(copy.copy(Mine("@daily"))) is Mine
    assert Mine("@daily") == Expression("@daily")


def test_pattern_matching() -> None:
    match Expression("@daily"):
        case Expression(text):
            assert text == "@daily"


def test_threads_share_one_object() -> None:
    zone = ZoneInfo("Europe/Berlin")
    expression = Expression("*/7 3,4 L,15 * 1#1,5")
    starts = [datetime(2000 + number, 1 + number % 12, 1, tzinfo=zone) for number in range(40)]
    alone = [list(islice(Expression(expression.text).iter(start), 30)) for start in starts]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda start: list(islice(expression.iter(start), 30)), starts))
    assert together == alone


def test_iteration() -> None:
    expression = Expression("0 0 1 * *")
    runs = list(islice(expression.iter(START), 3))
    assert runs == [datetime(2024, 2, 1), datetime(2024, 3, 1), datetime(2024, 4, 1)]
    assert list(islice(expression.iter_back(runs[-1]), 3)) == [runs[1], runs[0], START]
    assert list(Expression("0 0 0 1 1 * 2030").iter(START)) == [datetime(2030, 1, 1)]
    assert list(Expression("0 0 0 1 1 * 2030").iter_back(START)) == []


def test_iteration_may_be_sent_nothing_and_is_lazy() -> None:
    runs = Expression("* * * * *").iter(START)
    assert next(runs) == START + timedelta(minutes=1)
    assert next(runs) == START + timedelta(minutes=2)


def test_between_takes_the_start_and_leaves_the_end() -> None:
    expression = Expression("0 0 * * *")
    days = [START + timedelta(days=number) for number in range(4)]
    assert list(expression.between(days[0], days[3])) == days[:3]
    assert list(expression.between(days[0] + timedelta(microseconds=1), days[1])) == []
    assert list(expression.between(days[3], days[0])) == []
    assert list(expression.between(days[0], days[0])) == []


def test_between_two_zones() -> None:
    berlin, utc = ZoneInfo("Europe/Berlin"), UTC
    runs = list(
        Expression("0 * * * *").between(
            datetime(2024, 1, 1, 0, tzinfo=berlin),
            datetime(2024, 1, 1, 1, tzinfo=utc),
        )
    )
    assert [run.hour for run in runs] == [0, 1]
    assert all(run.tzinfo is berlin for run in runs)
    for start, end in ((START, START.replace(tzinfo=utc)), (START.replace(tzinfo=utc), START)):
        with pytest.raises(TypeError, match="two naive or two aware"):
            Expression("* * * * *").between(start, end)


def test_match_cuts_off_what_has_no_field() -> None:
    five, six = Expression("30 4 * * *"), Expression("0 30 4 * * *")
    assert five.match(datetime(2024, 1, 1, 4, 30, 59, 999999))
    assert not six.match(datetime(2024, 1, 1, 4, 30, 59))
    assert six.match(datetime(2024, 1, 1, 4, 30, 0, 999999))
    assert not five.match(datetime(2024, 1, 1, 4, 31))


def test_years() -> None:
    expression = Expression("0 0 0 1 1 * 2024,2030-2040/5")
    assert [run.year for run in expression.iter(datetime(1, 1, 1))] == [2024, 2030, 2035, 2040]
    assert [run.year for run in expression.iter_back(datetime(9999, 1, 1))] == [2040, 2035, 2030, 2024]
    with pytest.raises(Exhausted, match="last year it names is 2040"):
        expression.next(datetime(2040, 1, 1))
    with pytest.raises(Exhausted, match="first year it names is 2024"):
        expression.prev(datetime(2024, 1, 1))


# --- H ------------------------------------------------------------------------------------------------------------


def test_h_is_the_same_for_ever() -> None:
    """Stable numbers: schedules must not move with a new Python or a new release."""
    shown = {key: Expression("H H H * *", key=key).next(START).isoformat() for key in ("backup", "report", "é\ud800")}
    assert shown == {
        "backup": "2024-01-22T16:52:00",
        "report": "2024-01-19T18:48:00",
        "é\ud800": "2024-01-25T22:29:00",
    }


@pytest.mark.parametrize(
    ("text", "low", "high", "ask"),
    [
        ("H 0 * * *", 0, 59, "minute"),
        ("H(10-20) 0 * * *", 10, 20, "minute"),
        ("0 H * * *", 0, 23, "hour"),
        ("0 0 H * *", 1, 28, "day"),
        ("0 0 H(25-31) 1 *", 25, 31, "day"),
        ("0 0 1 H *", 1, 12, "month"),
    ],
)
def test_h_covers_its_range_and_nothing_else(text: str, low: int, high: int, ask: str) -> None:
    seen = {getattr(Expression(text, key=str(number)).next(START), ask) for number in range(600)}
    assert seen == set(range(low, high + 1))


def test_h_of_weekdays_covers_seven_days() -> None:
    runs = [Expression("0 0 * * H", key=str(number)).next(START).isoweekday() for number in range(700)]
    assert set(runs) == set(range(1, 8))
    assert max(runs.count(day) for day in range(1, 8)) < 160  # 7 is no second Sunday


def test_h_with_steps() -> None:
    for number in range(50):
        quarter = Expression("H/15 * * * *", key=str(number))
        minutes = [run.minute for run in islice(quarter.iter(START), 4)]
        assert minutes == [minutes[0] + 15 * place for place in range(4)] or 0 in minutes
        assert min(minutes) < 15
        part = [run.minute for run in islice(Expression("H(0-29)/10 * * * *", key=str(number)).iter(START), 6)]
        assert max(part) < 30
        assert len(set(part)) == 3
        assert Expression("H/100 0 * * *", key=str(number)).next(START)


def test_h_is_fixed_for_changes_of_clocks_and_counts_as_a_restriction() -> None:
    assert Expression("H 2 * * *", key="a") == Expression(
        f"{Expression('H 2 * * *', key='a').next(START).minute} 2 * * *"
    )
    either = Expression("0 0 H * 1", key="a")
    assert len(list(either.between(START, START + timedelta(days=28)))) > 4


@pytest.mark.parametrize(
    "text",
    [
        "H * * * * * H",
        "H(5) * * * *",
        "H() * * * *",
        "H(20-10) * * * *",
        "H(0-60) * * * *",
        "H/0 * * * *",
        "H/x * * * *",
        "HH * * * *",
        "H-5 * * * *",
    ],
)
def test_bad_h(text: str) -> None:
    with pytest.raises(CronError):
        Expression(text, key="key")


def test_h_works_in_lists_and_beside_names() -> None:
    expression = Expression("0,H 0 * * thu", key="a")
    assert expression.next(START) == datetime(2024, 1, 4)
    with pytest.raises(CronError, match="H needs a key") as caught:
        Expression("0 5,H * * thu")
    assert caught.value.column == 5


# --- the package --------------------------------------------------------------------------------------------------


def run_python(code: str) -> str:
    done = subprocess.run([sys.executable, "-I", "-c", code], check=True, capture_output=True, text=True)
    return done.stdout


def test_it_stands_alone() -> None:
    """Nothing of the rest of tm but the package itself, nothing from outside the standard library, nothing heavy."""
    before = set(json.loads(run_python("import sys, json; import tm; print(json.dumps(sorted(sys.modules)))")))
    after = set(json.loads(run_python("import sys, json; import tm.cron; print(json.dumps(sorted(sys.modules)))")))
    added = after - before
    assert {name for name in added if name.startswith("tm.") and not name.startswith("tm.cron")} == set()
    assert {name.partition(".")[0] for name in added} <= {*sys.stdlib_module_names, "tm"}
    assert (
        added & {"re", "typing", "zoneinfo", "dataclasses", "tm.cron.explain", "tm.cron.refuse", "tm.cron.hashed"}
        == set()
    )


@pytest.mark.skipif("COVERAGE_RUN" in os.environ, reason="measures time")
def test_import_is_quick() -> None:
    """20 ms are promised; what the package itself takes is a fraction, and the best of five shows it."""
    code = "import tm; from time import perf_counter as now; a = now(); import tm.cron; print((now() - a) * 1000)"
    assert min(float(run_python(code)) for _ in range(5)) < 20
