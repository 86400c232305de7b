"""Texts that are no expressions: always a CronError, whatever they are, and never accepted by accident."""

from __future__ import annotations

import random
from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.cron import oracle
from tests.cron.effort import law
from tm.cron import CronError, Expression

SEEDS = (
    "* * * * *",
    "*/15 0-6 1,15 * mon-fri",
    "0 0 L * *",
    "0 0 LW * 5#2",
    "0 0 15W * *",
    "0 0 L-3 jan,dec +1-5",
    "30 4 ? * FRIL",
    "5/10 1-23/2 * 2-11 sat-sun",
    "0 0 0 29 2 * 2024-2100/4",
    "*/5 0 12 ? * 1-3#1",
    "@daily",
    "@monthly",
)
LETTERS = (
    "0123456789*/-,#?LWlw+ \t@janmonsuxyzH()~.;:'\"\\\n\r\0\x0b\x1f\x7f\u00a0\u2003\u0660\u00b2\u0130é\U0001f600\ud800"
)


def mutated(chance: random.Random) -> str:
    letters = list(chance.choice(SEEDS))
    for _ in range(chance.randint(1, 4)):
        place = chance.randint(0, len(letters))
        kind = chance.randrange(4)
        if kind == 0:
            letters.insert(place, chance.choice(LETTERS))
        elif kind == 1 and letters:
            letters.pop(place % len(letters))
        elif kind == 2 and letters:
            letters[place % len(letters)] = chance.choice(LETTERS)
        else:
            letters[place:place] = chance.choice(
                ("99", "-", "/0", "#6", ",,", "L", "W", "mon", " * ", "60", "2200", "--")
            )
    return "".join(letters)


def check(text: str) -> bool:
    """Whether the text is bad; the engine and the oracle must think alike."""
    try:
        oracle.read(text)
        good = True
    except oracle.Bad:
        good = False
    if good:
        assert Expression(text).text == text
        return False
    with pytest.raises(CronError) as caught:
        Expression(text)
    error = caught.value
    assert error.text == text
    assert str(error)
    assert error.column is None or 1 <= error.column <= len(text) + 1
    return True


def test_ten_thousand_bad_texts() -> None:
    chance = random.Random(10_000)
    bad = 0
    while bad < 10_000:
        bad += check(mutated(chance))


@law
@given(st.text(max_size=40))
def test_any_text_at_all(text: str) -> None:
    check(text)


@law
@given(st.text(alphabet="0123456789*/-,#?LW+ montue", max_size=40))
def test_any_text_of_the_right_letters(text: str) -> None:
    check(text)


@pytest.mark.parametrize(
    "text",
    [
        f"{'9' * 5000} * * * *",
        f"*/{'9' * 5000} * * * *",
        f"{'0' * 5000}1 * * * *",
        f"{'1,' * 5000}1 * * * *",
        "* " * 5000,
        f"0 0 L-{'9' * 5000} * *",
        f"0 0 {'9' * 5000}W * *",
        f"H({'9' * 5000}-5) * * * *",
        "x" * 100_000,
    ],
    ids=range(9),
)
def test_very_long_texts(text: str) -> None:
    if "1 * * * *" in text:
        assert Expression(text).next(datetime(2024, 1, 1)) == datetime(2024, 1, 1, 0, 1)
        return
    if text.startswith("*/"):
        assert Expression(text) == Expression("0 * * * *")
        return
    with pytest.raises(CronError) as caught:
        Expression(text)
    assert len(str(caught.value)) < 2000


@pytest.mark.parametrize("thing", [None, 5, b"* * * * *", ["*"] * 5])
def test_other_types_are_a_type_error(thing: object) -> None:
    with pytest.raises(TypeError, match="text"):
        Expression(thing)  # type: ignore[arg-type]


# text, field, column, pieces of the message
MESSAGES = [
    ("0 24 * * *", "hour", 3, ["hour: 24 is not in 0-23 (column 3 of '0 24 * * *')", "midnight is hour 0"]),
    ("60 * * * *", "minute", 1, ["60 is not in 0-59"]),
    ("* * * * 8", "day of week", 9, ["8 is not in 0-7"]),
    ("* * 0 * *", "day of month", 5, ["0 is not in 1-31", "first day is 1"]),
    ("* * * 13 *", "month", 7, ["13 is not in 1-12"]),
    ("* * * 0 *", "month", 7, ["January is 1"]),
    ("0 0 0 1 1 * 2200", "year", 13, ["2200 is not in 1970-2199"]),
    ("0 0 * * fri-mon", "day of week", 9, ["runs backwards", "write fri,sat,sun,mon"]),
    ("0 0 * * 5-1", "day of week", 9, ["write 5,6,0,1"]),
    ("0 22-2 * * *", "hour", 3, ["write 22-23,0-2"]),
    ("0 23-0 * * *", "hour", 3, ["write 23,0"]),
    ("0 0 * nov-feb *", "month", 7, ["write nov-dec,jan-feb"]),
    ("30-10 * * * *", "minute", 1, ["write 30-59,0-10"]),
    ("*/0 * * * *", "minute", 3, ["a step is at least 1"]),
    ("*/ * * * *", "minute", 2, ["the step is missing"]),
    ("0 0 1 * 1,+2", "day of week", 11, ["the + for `both day fields` stands once"]),
    ("*/x * * * *", "minute", 3, ["'x' is not a step"]),
    ("1,2,77 * * * *", "minute", 5, ["77 is not in 0-59"]),
    ("1,,2 * * * *", "minute", 3, ["a value is missing"]),
    ("5- * * * *", "minute", 1, ["a value is missing in '5-'"]),
    ("+5 * * * *", "minute", 1, ["is not a number"]),
    ("0 0 * janfeb *", "month", 7, ["'janfeb' is not a number", "names have three letters: jan"]),
    ("0 0 * * Monday", "day of week", 9, ["'Monday'", "names have three letters: mon"]),
    ("0 0 mon * *", "day of month", 5, ["belong in the last field"]),
    ("0 0 15W,3 * *", "day of month", 5, ["cannot be in a list"]),
    ("0 0 3,15W * *", "day of month", 7, ["cannot be in a list"]),
    ("0 0 L-31 * *", "day of month", 6, ["31 is not in 0-30"]),
    ("0 0 L5 * *", "day of month", 5, ["'L5' is not L, LW or L-n"]),
    ("0 0 * * 5#6", "day of week", 11, ["'6' is not 1-5 or L"]),
    ("0 0 * * +1,5#6", "day of week", 14, ["'6' is not 1-5 or L"]),
    ("0 0 * * */2#1", "day of week", 9, ["only a day or a range of days"]),
    ("0 0 * * 1,9#1", "day of week", 11, ["9 is not in 0-7"]),
    ("0 0 * * L", "day of week", 9, ["5L is the last Friday"]),
    ("0 0 * * L5", "day of week", 9, ["written 5L"]),
    ("0 0 ?,1 * *", "day of month", 5, ["? stands alone"]),
    ("? 0 * * *", "minute", 1, ["write *"]),
    ("1 2 3 4", None, None, ["5, 6 or 7 fields are needed, not 4"]),
    ("1 2 3 4 5 6 7 8", None, None, ["not 8", "no blanks"]),
    ("", None, None, ["empty"]),
    ("@reboot", None, 1, ["names an event"]),
    (" @dayly", None, 2, ["did you mean @daily?"]),
    ("@daily 5", None, 1, ["stands alone"]),
    ("0\u00a00 * * *", None, 2, ["only spaces and tabs"]),
    ("0 0 30 2 *", None, None, ["it can never occur"]),
    ("0 0 0 29 2 * 2023", None, None, ["it can never occur", "in the years it names"]),
    ("H * * * *", "minute", 1, ["H needs a key"]),
]


@pytest.mark.parametrize(("text", "field", "column", "pieces"), MESSAGES)
def test_messages_say_what_where_and_what_next(text: str, field: str | None, column: int, pieces: list[str]) -> None:
    with pytest.raises(CronError) as caught:
        Expression(text)
    error = caught.value
    assert (error.field, error.column, error.text) == (field, column, text)
    for piece in pieces:
        assert piece in str(error)
    if column is not None:
        # The caret stands under the column.
        shown, caret = str(error).splitlines()[1:3]
        assert caret.index("^") - 4 == column - 1
        assert len(shown) - 4 == len(text)


@pytest.mark.parametrize("item", ["9-5", "09-05", "0009-0005", "9-5/2", "5-1#2", "sat-thu#1", "23-0", "9-9,8-7"])
def test_backward_ranges_of_every_spelling(item: str) -> None:
    for place in range(5):
        fields = ["*"] * 5
        fields[place] = item
        with pytest.raises(CronError):
            Expression(" ".join(fields))
    with pytest.raises(CronError):
        Expression(f"0 0 0 1 1 * {item}")


def test_hint_for_backward_years_and_steps() -> None:
    with pytest.raises(CronError, match="write 2030-2199,1970-2020"):
        Expression("0 0 0 1 1 * 2030-2020")
    with pytest.raises(CronError, match="write two ranges"):
        Expression("30-10/5 * * * *")
