"""Instants, spans and lists as people say them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from tm.words import Words, count, duration, printable, quoted, rough, shorten, span

NOW = datetime(2026, 11, 24, 12, 4, 3, tzinfo=UTC)
WORDS = Words(now=NOW, zone=UTC)


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (8, "at 12:04:11, in 8 s"),
        (0.2, "at 12:04:03, now"),
        (-0.2, "at 12:04:02 (just now)"),
        (-90, "at 12:02:33 (90 s ago)"),
        (-3600, "at 11:04:03 (1 h 0 min ago)"),
        (86_400, "on Wed 25 Nov 12:04:03, in 24 h 0 min"),
        (400 * 86_400, "on 2027-12-29 12:04:03, in 400 d"),
    ],
)
def test_an_instant_is_told_by_the_clock_and_from_now(seconds: float, said: str) -> None:
    assert WORDS.at(NOW + timedelta(seconds=seconds)) == said


def test_since_when() -> None:
    assert WORDS.since(NOW - timedelta(minutes=4)) == "since 12:00:03 (4 min)"


def test_a_clock_that_is_a_little_ahead_makes_no_negative_span() -> None:
    assert WORDS.since(NOW + timedelta(seconds=2)) == "since 12:04:05 (1 s)"


@pytest.mark.parametrize(
    ("seconds", "exact", "short"),
    [(0.003, "3 ms", "3 ms"), (1.24, "1.2 s", "1 s"), (125, "2 min 5 s", "2 min"), (11_520, "3 h 12 min", "3 h 12 min"), (187_200, "2 d 4 h", "2 d 4 h")],
)  # fmt: skip
def test_spans(seconds: float, exact: str, short: str) -> None:
    assert (duration(seconds), rough(seconds)) == (exact, short)


@pytest.mark.parametrize(("seconds", "said"), [(8, "8 s"), (0.5, "0.5 s"), (120, "2 min"), (90, "90 s"), (7200, "2 h")])
def test_what_somebody_wrote_is_told_as_it_was_meant(seconds: float, said: str) -> None:
    assert span(seconds) == said


def test_lists_and_counts() -> None:
    assert [quoted(list("abcde"[:number])) for number in (0, 1, 2, 3, 5)] == [
        "nothing",
        "`a`",
        "`a` and `b`",
        "`a`, `b` and `c`",
        "`a`, `b`, `c` and 2 more",
    ]
    assert (count(1, "run"), count(1200, "run")) == ("1 run", "1,200 runs")


def test_nothing_that_is_shown_moves_the_cursor() -> None:
    assert printable("a\x1b[31mb\tc\nd\x9b e\u202e") == "a\\x1b[31mb\tc\nd\\x9b e\\u202e"
    assert shorten("two\nlines \x07 and more", 20) == "two lines \\x07 and …"
