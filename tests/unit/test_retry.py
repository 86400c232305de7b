"""Delays before retries, to the millisecond."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tm.errors import DefinitionError
from tm.retry import LONGEST_DELAY, RetryPolicy


def test_the_delays_of_the_first_version() -> None:
    policy = RetryPolicy(retries=3, retry_delay=1.5, backoff=1)
    assert [policy.delay_ms(retry) for retry in range(3)] == [1500, 3000, 6000]


def test_without_backoff_every_delay_is_the_same() -> None:
    policy = RetryPolicy(retries=3, retry_delay=0.25)
    assert {policy.delay_ms(retry) for retry in range(10)} == {250}


def test_a_fraction_of_a_millisecond_is_rounded_half_up() -> None:
    assert RetryPolicy(retry_delay=0.0004).delay_ms(0) == 0
    assert RetryPolicy(retry_delay=0.0005).delay_ms(0) == 1


def test_growth_stops_at_the_cap_of_the_user() -> None:
    policy = RetryPolicy(retry_delay=1, backoff=1, max_retry_delay=5)
    assert [policy.delay_ms(retry) for retry in range(5)] == [1000, 2000, 4000, 5000, 5000]


def test_growth_stops_at_thirty_days_even_where_floats_overflow() -> None:
    policy = RetryPolicy(retry_delay=1, backoff=9)
    assert policy.delay_ms(5000) == LONGEST_DELAY * 1000
    assert RetryPolicy(retry_delay=1, backoff=1e308).delay_ms(3) == LONGEST_DELAY * 1000


def test_no_delay_stays_none_however_large_the_backoff() -> None:
    assert RetryPolicy(backoff=1).delay_ms(5000) == 0
    assert RetryPolicy(backoff=1e308, jitter=1).delay_ms(2, chance=0.5) == 0


def test_jitter_adds_up_to_its_fraction() -> None:
    policy = RetryPolicy(retry_delay=10, jitter=0.5)
    assert policy.delay_ms(0, chance=0) == 10_000
    assert policy.delay_ms(0, chance=0.5) == 12_500


@given(
    delay=st.floats(0, 1e6),
    backoff=st.floats(0, 10),
    retry=st.integers(0, 1000),
    chance=st.floats(0, 1, exclude_max=True),
    jitter=st.floats(0, 1),
)
def test_delays_are_never_negative_never_past_the_limit_and_never_shrink(delay, backoff, retry, chance, jitter) -> None:
    policy = RetryPolicy(retry_delay=delay, backoff=backoff, jitter=jitter)
    first, second = policy.delay_ms(retry, chance), policy.delay_ms(retry + 1, chance)
    assert 0 <= first <= second <= LONGEST_DELAY * 1000


@pytest.mark.parametrize(
    "options",
    [
        {"retries": -1},
        {"retries": 1.0},
        {"retries": True},
        {"retry_delay": -0.1},
        {"retry_delay": "1"},
        {"backoff": float("nan")},
        {"backoff": None},
        {"jitter": float("inf")},
        {"max_retry_delay": -1},
        {"retry_delay": True},
    ],
)
def test_what_makes_no_sense_is_refused_by_name(options) -> None:
    (name,) = options
    with pytest.raises(DefinitionError, match=f"{name} must be"):
        RetryPolicy(**options)
