"""What is no message is refused by path and type; what is no longer a message never raises anything but CodecError."""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import pathlib
import time
from collections import Counter, OrderedDict, defaultdict, namedtuple
from datetime import UTC, datetime, tzinfo
from datetime import time as clock_time
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tm.codec import as_json, decode, encode
from tm.errors import CodecError


class Colour(enum.IntEnum):
    RED = 1


class Mood(enum.StrEnum):
    GOOD = "good"


class Text(str):
    __slots__ = ()


class Moment(datetime):
    pass


@dataclasses.dataclass
class Order:
    total: int


class Frame:
    def to_dict(self) -> dict[str, int]:
        return {}


class Array:
    def tolist(self) -> list[int]:
        return []


class BrokenZone(tzinfo):
    def utcoffset(self, _: datetime | None) -> Any:
        raise RuntimeError("no network, no zone")


class NoOffset(tzinfo):
    def utcoffset(self, _: datetime | None) -> None:
        return None

    def tzname(self, _: datetime | None) -> str:
        return "nowhere"


Point = namedtuple("Point", "x y")  # noqa: PYI024
HERE = __name__


def refusal(value: Any, **options: Any) -> CodecError:
    with pytest.raises(CodecError) as caught:
        encode(value, **options)
    return caught.value


@pytest.mark.parametrize(
    ("value", "path"),
    [
        (object(), "result"),
        ([0, object()], "result[1]"),
        ({"frame": [1, 2, object()]}, 'result["frame"][2]'),
        ({3: (1, {"ä b": object()})}, 'result[3][1]["ä b"]'),
        ({"tags": {1, object}}, 'result["tags"]{}'),
        ({'"': object()}, r'result["\""]'),
        ({"k" * 100: object()}, f'result["{"k" * 59}…"]'),
        ([{"a": 1}] * 1000 + [{"a": object()}], 'result[1000]["a"]'),
    ],
)
def test_the_path_leads_to_the_culprit(value: Any, path: str) -> None:
    assert refusal(value).path == path


def test_the_path_begins_where_the_caller_says() -> None:
    assert str(refusal({"day": object()}, where="params")).startswith('params["day"]: object cannot be sent')


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (object(), "object cannot be sent; send plain values (numbers, text, lists, dicts, dates)"),
        (Colour.RED, f"{HERE}.Colour cannot be sent; send its .value"),
        (Mood.GOOD, f"{HERE}.Mood cannot be sent; send its .value"),
        (Text("x"), f"{HERE}.Text cannot be sent; it would arrive as a plain str: send str(...) of it"),
        (Counter("a"), "collections.Counter cannot be sent; it would arrive as a plain dict: send dict(...) of it"),
        (OrderedDict(), "collections.OrderedDict cannot be sent; it would arrive as a plain dict: send dict(...) of it"),
        (defaultdict(int), "collections.defaultdict cannot be sent; it would arrive as a plain dict: send dict(...) of it"),
        (Point(1, 2), f"{HERE}.Point cannot be sent; it would arrive as a plain tuple: send tuple(...) of it"),
        (Moment(2024, 1, 1), f"{HERE}.Moment cannot be sent; send a plain datetime"),
        (Order(1), f"{HERE}.Order cannot be sent; send dataclasses.asdict(...) of it"),
        (Frame(), f'{HERE}.Frame cannot be sent; send its .to_dict("records"), or save it and send the file name'),
        (Array(), f"{HERE}.Array cannot be sent; send its .tolist()"),
        (pathlib.PurePosixPath("x"), "pathlib.PurePosixPath cannot be sent; send str(...) of it"),
        ((n for n in []), "generator cannot be sent; send list(...) of it"),
        (1j, "complex cannot be sent"),
        (int, "type cannot be sent"),
        (len, "builtin_function_or_method cannot be sent"),
        ({}.keys(), "dict_keys cannot be sent"),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, str) else "",
)  # fmt: skip
def test_the_problem_names_the_type_and_what_to_send_instead(value: Any, problem: str) -> None:
    for wrapped, path in ((value, "result"), ({"x": (value,)}, 'result["x"][0]')):
        error = refusal(wrapped)
        assert error.path == path
        assert error.problem.startswith(problem)


def test_a_type_is_named_as_its_users_import_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Frame, "__module__", "collections.core.frame")
    monkeypatch.setattr("collections.Frame", Frame, raising=False)
    assert refusal(Frame()).problem.startswith("collections.Frame cannot be sent")


@pytest.mark.parametrize(
    ("key", "shown"),
    [
        (1.5, "a key 1.5 of type float"),
        (None, "a key None of type NoneType"),
        (True, "a key True of type bool"),
        (b"k", "a key of type bytes"),
        ((1, 2), "a key of type tuple"),
        (frozenset(), "a key of type frozenset"),
        (Mood.GOOD, f"a key of type {HERE}.Mood; keys must be str or int; send its .value"),
        (Text("t"), f"a key of type {HERE}.Text"),
    ],
)
def test_other_keys_are_refused_by_the_path_of_their_dict(key: Any, shown: str) -> None:
    error = refusal({"good": [{"fine": 1}, {"also": 1, key: 2}]})
    assert error.path == 'result["good"][1]'
    assert shown in error.problem
    assert "must be str or int" in error.problem


@pytest.mark.parametrize("wrap", [lambda v: [v], lambda v: (v,), lambda v: {"k": v}, lambda v: frozenset({v})])
def test_depth_65_is_refused(wrap: Any) -> None:
    value: Any = ()
    for _ in range(64):
        value = wrap(value)
    error = refusal(value)
    assert "nested more than 64 deep" in error.problem
    assert len(error.path) >= 64 * 2


def test_ten_thousand_levels_are_refused_at_once() -> None:
    value: Any = []
    for _ in range(10_000):
        value = [value, (value,)]
    assert "nested more than 64 deep" in refusal(value).problem


def test_a_value_that_contains_itself_is_refused() -> None:
    loop: list[Any] = []
    loop += [loop, loop]
    assert refusal({"x": loop}).path == 'result["x"]' + "[0]" * 63


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ("a\udc80", "result"),
        (["ok", ("b\ud800",)], "result[1][0]"),
        ({"x\udcff": 1}, 'result["x\\udcff"]'),
    ],
)
def test_half_surrogates_are_refused(value: Any, path: str) -> None:
    error = refusal(value)
    assert error.path == path
    assert "half a surrogate pair" in error.problem
    assert "at position 1" in error.problem
    str(error).encode()  # can itself be written anywhere


def test_a_zone_that_cannot_tell_its_offset_is_refused() -> None:
    error = refusal([datetime(2024, 1, 1, tzinfo=BrokenZone())])
    assert (error.path, error.problem) == (
        "result[0]",
        "this datetime.datetime cannot be sent: no network, no zone",
    )
    assert "has no offset without a date" in refusal(clock_time(1, tzinfo=NoOffset())).problem


def test_what_the_packer_alone_refuses_is_refused_in_words() -> None:
    assert "cannot be sent" in refusal([memoryview(b"abcdef")[::2]]).problem


@pytest.mark.parametrize("limit", [10, 1 << 20])
def test_a_long_message_is_refused_with_size_cap_and_setting(limit: int) -> None:
    error = refusal(b"x" * limit, limit=limit)
    assert error.path == "result"
    for part in (f"at most {limit:,}", "TM_MAX_MESSAGE", "bytes as a message"):
        assert part in error.problem


# Reading --------------------------------------------------------------------------------------------------------------


def extension(code: int, payload: Any) -> bytes:
    return msgpack.packb(msgpack.ExtType(code, payload if isinstance(payload, bytes) else msgpack.packb(payload)))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc1",
        b"\x92\x01",
        b"\x01\x02",
        b"\xa2\xff\xfe",  # not UTF-8
        b"\x81\x90\x01",  # a list as key
        b"\xdd\xff\xff\xff\xff",  # four billion items to come
        b"\xc6\xff\xff\xff\xffx",
        b"\x80\x04\x95.",  # a pickle
        extension(0, b""),
        extension(11, b""),
        extension(127, b""),
        extension(2, b""),
        extension(2, 1),
        extension(2, {"a": 1}),
        extension(3, [[]]),  # a list in a set
        extension(5, [2024, 13, 1, 0, 0, 0, 0, 0, None]),
        extension(5, [2024, 1, 1]),
        extension(5, [2024, 1, 1, 0, 0, 0, 0, 0, "Mars/Olympus"]),
        extension(5, [2024, 1, 1, 0, 0, 0, 0, 0, "../../../etc/passwd"]),
        extension(5, [2024, 1, 1, 0, 0, 0, 0, 0, ""]),
        extension(5, [2024, 1, 1, 0, 0, 0, 0, 0, "Europe"]),
        extension(5, [2024, 1, 1, 0, 0, 0, 0, 0, [10**18, None]]),
        extension(5, [2024, 1, 1, 0, 0, 0, 0, 2, None]),
        extension(5, [2024, 1, 1, 0, 0, 0, 0, 0, 7]),
        extension(6, ["x"]),
        extension(7, [25, 0, 0, 0, 0, None]),
        extension(8, [10**10, 0, 0]),
        extension(9, b"ten"),
        extension(9, b"\xff"),
        extension(10, b"short"),
        b"\xd7\xff" + b"\xff" * 8,  # the standard time stamp with impossible nanoseconds
        b"\xc7\x0c\xff" + b"\x00" * 4 + b"\x7f" + b"\xff" * 7,  # and one after the end of time
        b"\x91" * 100_000,
    ],
)
def test_bad_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(CodecError):
        decode(data)


def test_every_cut_of_a_message_is_refused() -> None:
    data = encode({"a": [1, (2.5, {3})], "when": datetime(2024, 1, 1, tzinfo=UTC), "big": 2**70})
    for end in range(len(data)):
        with pytest.raises(CodecError):
            decode(data[:end])
    with pytest.raises(CodecError):
        decode(data + b"\x00")


def test_nested_extensions_end_before_the_stack_does() -> None:
    data = b""
    for _ in range(20_000):
        size = len(data) + 1 if data else 0
        data = b"\xc9" + size.to_bytes(4, "big") + b"\x02" + (b"\x91" + data if data else b"")
        if len(data) > 200_000:
            break
    with pytest.raises(CodecError, match="nested more than 64 deep"):
        decode(data)


def test_a_hostile_message_is_refused_quickly() -> None:
    began = time.perf_counter()
    for data in (b"\xdd\x00\x0f\xff\xff" * 200_000, b"\xdf\x00\x0f\xff\xff" * 200_000):
        with pytest.raises(CodecError):
            decode(data)
    assert time.perf_counter() - began < 10


def test_what_is_too_deep_to_show_is_refused_too() -> None:
    with pytest.raises(CodecError, match="nested too deeply"):
        as_json(decode(b"\x91" * 1000 + b"\x01"))


def test_length_is_looked_at_first() -> None:
    with pytest.raises(CodecError, match="has 11 bytes; at most 10 are read"):
        decode(b"\xc1" * 11, limit=10)


def test_a_zone_this_machine_lacks_is_named() -> None:
    with pytest.raises(CodecError, match="Mars/Olympus"):
        decode(extension(5, [2024, 1, 1, 0, 0, 0, 0, 0, "Mars/Olympus"]))


@given(st.binary(max_size=300))
def test_no_bytes_raise_anything_else(data: bytes) -> None:
    with contextlib.suppress(CodecError):
        decode(data)


@given(st.binary(max_size=60), st.integers(1, 10))
def test_no_extension_raises_anything_else(payload: bytes, code: int) -> None:
    with contextlib.suppress(CodecError):
        decode(extension(code, payload))


@given(
    st.lists(st.integers(0, 255), max_size=10) | st.lists(st.none() | st.text() | st.floats()),
    st.integers(1, 10),
)
def test_no_parts_of_an_extension_raise_anything_else(parts: list[Any], code: int) -> None:
    with contextlib.suppress(CodecError):
        decode(extension(code, parts))
