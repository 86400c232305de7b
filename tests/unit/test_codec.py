"""What is sent arrives as it was: same values, same types."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.same import same
from tm.codec import MAX_DEPTH, as_json, decode, encode

MIB = 1 << 20

zones = st.one_of(
    st.none(),
    st.just(UTC),
    st.sampled_from(["UTC", "Europe/Zurich", "America/Los_Angeles", "Asia/Kathmandu"]).map(ZoneInfo),
    st.timedeltas(timedelta(hours=-23), timedelta(hours=23)).map(timezone),
    st.just(timezone(timedelta(hours=1), "CET")),
)
hashable = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.integers(-(2**200), 2**200),
        st.floats(),
        st.text(),
        st.binary(),
        st.datetimes(timezones=zones, allow_imaginary=True),
        st.dates(),
        st.times(timezones=zones),
        st.timedeltas(),
        st.decimals(allow_nan=True).filter(lambda number: not number.is_snan()),  # cannot be hashed
        st.uuids(),
    ),
    lambda inner: st.one_of(st.frozensets(inner, max_size=3), st.lists(inner, max_size=3).map(tuple)),
    max_leaves=6,
)
messages = st.recursive(
    hashable,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.text() | st.integers(-(2**63), 2**64), inner, max_size=4),
        st.lists(inner, max_size=3).map(tuple),
        st.sets(hashable, max_size=3),
    ),
    max_leaves=20,
)


@given(messages)
def test_every_message_arrives_as_it_was_sent(value: Any) -> None:
    assert same(decode(encode(value)), value)


def shown(value: Any) -> str:
    """A name that is the same in every process: sets have another order in each."""
    if isinstance(value, int):
        return f"{value:#x}"[:40]
    return f"a set of {len(value)}" if isinstance(value, set) and len(value) > 1 else f"{value!r:.40}"


@pytest.mark.parametrize(
    "value",
    [
        2**63 - 1,
        -(2**63),
        2**64 - 1,
        2**64,
        2**70,
        -(2**63) - 1,
        2**127,
        -(2**127),
        -(2**127) - 1,
        10**5000,
        math.inf,
        -math.inf,
        math.nan,
        -0.0,
        5e-324,
        "",
        "a\x00b",
        "😀",
        b"",
        [],
        {},
        (),
        set(),
        frozenset(),
        {1: "int", "1": "str", -5: "negative"},
        {frozenset({(1, "a")}), frozenset()},
        (1, [2, (3, {4})]),
        Decimal("0.10"),
        Decimal("-0"),
        Decimal("NaN123"),
        Decimal("sNaN"),
        Decimal("-Infinity"),
        Decimal("1E+999999"),
        datetime(1, 1, 1),
        datetime(9999, 12, 31, 23, 59, 59, 999_999),
        datetime(2024, 10, 27, 2, 30, fold=1, tzinfo=ZoneInfo("Europe/Zurich")),
        datetime(2024, 10, 27, 2, 30, fold=0, tzinfo=ZoneInfo("Europe/Zurich")),
        datetime(2024, 3, 31, 2, 30, tzinfo=ZoneInfo("Europe/Zurich")),  # does not exist on that day
        datetime(2024, 1, 1, tzinfo=timezone(timedelta(hours=-3, minutes=-30, seconds=-52))),
        time(2, 30, fold=1, tzinfo=ZoneInfo("Europe/Zurich")),
        date.max,
        timedelta.min,
        timedelta.max,
        UUID(int=0),
    ],
    ids=shown,
)
def test_the_corners_arrive_too(value: Any) -> None:
    assert same(decode(encode(value)), value)


def test_a_zone_keeps_its_rules() -> None:
    arrived = decode(encode(datetime(2024, 1, 31, 12, tzinfo=ZoneInfo("Europe/Zurich"))))
    assert (arrived + timedelta(days=180)).utcoffset() == timedelta(hours=2)


class Summer(tzinfo):
    """A zone of somebody's own."""

    def utcoffset(self, _: datetime | None) -> timedelta:
        return timedelta(hours=2)

    def tzname(self, _: datetime | None) -> str:
        return "CEST"

    def dst(self, _: datetime | None) -> timedelta:
        return timedelta(hours=1)


def test_a_foreign_zone_arrives_as_the_offset_it_had() -> None:
    sent = datetime(2024, 7, 1, 12, tzinfo=Summer())
    arrived = decode(encode(sent))
    assert arrived == sent
    assert arrived.replace(tzinfo=None) == sent.replace(tzinfo=None)
    assert (type(arrived.tzinfo), arrived.tzname()) == (timezone, "CEST")


def test_buffers_arrive_as_bytes() -> None:
    assert decode(encode([bytearray(b"abc"), memoryview(b"def")])) == [b"abc", b"def"]


def test_the_standard_time_stamp_of_msgpack_is_understood() -> None:
    assert decode(msgpack.packb(msgpack.Timestamp(1, 500_000_000))) == datetime(1970, 1, 1, 0, 0, 1, 500_000, UTC)


def test_plain_values_are_plain_msgpack() -> None:
    value = {"rows": 3, "names": ["a", "é"], "ratio": 0.5, "raw": b"\x00", "none": None, 7: True}
    assert encode(value) == msgpack.packb(value)


def test_depth_64_passes() -> None:
    value: Any = 1
    for level in range(MAX_DEPTH):
        value = [value] if level % 2 else (value,)
    assert same(decode(encode(value)), value)


def test_a_message_may_be_as_long_as_the_limit() -> None:
    value = b"x" * (MIB - 5)
    assert len(encode(value)) == MIB


def test_json_for_people() -> None:
    value = {
        "n": math.nan, "i": [math.inf, -math.inf], 1: (True, None), "d": Decimal("1.50"),
        "t": datetime(2024, 1, 31, tzinfo=UTC), "é": {"x"}, "b": b"\x00\xff", "big": 2**70,
        "delta": timedelta(seconds=90),
    }  # fmt: skip
    assert as_json(value) == (
        '{"n": "NaN", "i": ["Infinity", "-Infinity"], "1": [true, null], "d": "1.50", '
        '"t": "2024-01-31T00:00:00+00:00", "é": ["x"], "b": "AP8=", "big": "0x400000000000000000", "delta": "0:01:30"}'
    )
