"""Messages between tasks: msgpack, never pickle. What arrives is exactly what was sent, or it was refused.

A message is None, bool, int, float, str, bytes, list, tuple, dict (keys: str or int), set, frozenset,
datetime, date, time, timedelta, Decimal or UUID, nested at most 64 deep. Types count exactly: an IntEnum, a
Counter or a namedtuple would arrive as int, dict or tuple and act differently than in process, so subclasses
are refused, with a hint what to send instead. Two liberties: bytearray and memoryview arrive as bytes, and a
time zone that is neither fixed nor a ZoneInfo arrives as the fixed offset it had at that moment.
"""

from __future__ import annotations

import json
import math
import sys
from base64 import b64encode
from datetime import date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING, Any
from uuid import UUID
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgpack

from tm.errors import CodecError

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_MESSAGE = 1 << 20  #: bytes; the default of TM_MAX_MESSAGE
HARD_LIMIT = 64 << 20  #: bytes; nothing larger is even looked at
SPILLED = 32  #: extension type of a reference into the spill store (tm.spill), which stands for a whole message
MAX_DEPTH = 64  #: containers inside each other


_LARGER = " (setting TM_MAX_MESSAGE; larger ones where TM_SPILL names a directory for them)"


def encode(value: Any, *, where: str = "result", limit: int = MAX_MESSAGE) -> bytes:
    """The message that `decode` turns into an equal value of the same types.

    Raises:
        CodecError: something in it is no message (its path begins with `where`), or it exceeds `limit` bytes.
    """
    try:
        # first, so that nothing below recurses without bound; one quick look per container
        data = _pack(value) if _sound(value, MAX_DEPTH) else None
    except Exception as error:  # a user's tzinfo may raise anything
        _find_culprit(value, where, MAX_DEPTH)
        raise CodecError(where, f"cannot be sent: {error}") from error
    if data is None:
        _find_culprit(value, where, MAX_DEPTH)
        raise CodecError(where, "changed while it was being sent")
    if len(data) > limit:
        raise CodecError(
            where,
            f"has {len(data):,} bytes as a message; at most {limit:,} are sent{_LARGER if limit < HARD_LIMIT else ''}; "
            "keep the data in a file or table and send its name",
        )
    return data


def decode(data: bytes, *, limit: int = HARD_LIMIT) -> Any:
    """The value of a message.

    Raises:
        CodecError: it is too long, corrupt, incomplete or of a newer version. Never anything else.
    """
    if len(data) > limit:
        raise CodecError("message", f"has {len(data):,} bytes; at most {limit:,} are read")
    try:
        return _unpack(data, 0)
    except ZoneInfoNotFoundError as error:
        raise CodecError("message", f"{error.args[0]}; this machine lacks it (pip install tzdata)") from error
    except Exception as error:  # bytes from outside can be wrong in any way
        raise CodecError("message", f"is corrupt: {str(error) or type(error).__name__:.200}") from error


def as_json(value: Any, *, indent: int | None = None) -> str:
    """A value as JSON for people to read; types are lost: NaN, dates, very large numbers, ... become text."""
    try:
        return json.dumps(_plain(value), ensure_ascii=False, allow_nan=False, indent=indent)
    except RecursionError as error:
        raise CodecError("message", "is nested too deeply to be shown") from error


# Packing ----------------------------------------------------------------------------------------------------

_CONTAINERS = frozenset({dict, list, tuple, set, frozenset})


def _pack(value: Any) -> bytes:
    # strict_types: whatever is not exactly a type that msgpack knows comes to _extend
    # buf_size: with the default of 256 kB, every tuple inside a message costs 17 us for mapping memory
    return msgpack.packb(value, strict_types=True, default=_extend, buf_size=4096)  # type: ignore[no-any-return]


def _sound(value: Any, depth: int) -> bool:
    """Whether keys are str or int and nothing is too deep: the two things msgpack's C code does not check."""
    kind = type(value)
    if kind not in _CONTAINERS:
        return True
    if not depth:
        return False
    if kind is dict:
        for key in value:
            if type(key) is not str and type(key) is not int:
                return False
        value = value.values()
    for item in value:  # noqa: SIM110 - all() of a generator takes twice as long
        if type(item) in _CONTAINERS and not _sound(item, depth - 1):
            return False
    return True


def _extend(value: Any) -> msgpack.ExtType:
    code, payload = _EXTENSIONS[type(value)]
    return msgpack.ExtType(code, payload(value))


def _int(value: int) -> bytes:
    return value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True)


def _items(value: Any) -> bytes:
    return _pack(list(value))


def _datetime(value: datetime) -> bytes:
    return _pack(
        [
            value.year,
            value.month,
            value.day,
            value.hour,
            value.minute,
            value.second,
            value.microsecond,
            value.fold,
            _zone(value),
        ]
    )


def _time(value: time) -> bytes:
    return _pack([value.hour, value.minute, value.second, value.microsecond, value.fold, _zone(value)])


def _zone(value: datetime | time) -> Any:
    """None, the key of a ZoneInfo, or [offset in microseconds, name or None]."""
    zone = value.tzinfo
    if zone is None:
        return None
    if type(zone) is ZoneInfo and zone.key is not None:
        return zone.key
    offset = value.utcoffset()
    if offset is None:
        raise TypeError(f"its time zone {zone!r} has no offset without a date")
    # tzname() of a timezone made without a name invents one, which would make it another object on arrival
    named = type(zone) is not timezone or len(zone.__getinitargs__()) > 1  # type: ignore[attr-defined]
    return [offset // timedelta(microseconds=1), value.tzname() if named else None]


_EXTENSIONS: dict[type, tuple[int, Callable[[Any], bytes]]] = {
    int: (1, _int),  # beyond 64 bits
    tuple: (2, _items),
    set: (3, _items),
    frozenset: (4, _items),
    datetime: (5, _datetime),
    date: (6, lambda value: _pack([value.year, value.month, value.day])),
    time: (7, _time),
    timedelta: (8, lambda value: _pack([value.days, value.seconds, value.microseconds])),
    Decimal: (9, lambda value: str(value).encode()),
    UUID: (10, lambda value: value.bytes),
}

# Unpacking --------------------------------------------------------------------------------------------------


def _unpack(data: bytes, depth: int) -> Any:
    # timestamp=3: should somebody else's msgpack hold its standard time stamp, it is a datetime in UTC
    return msgpack.unpackb(data, strict_map_key=False, timestamp=3, ext_hook=_HOOKS[depth])


def _contract(depth: int, code: int, payload: bytes) -> Any:
    # each level holds 40 kB of C stack, so hostile nesting has to end long before Python's own limit
    if depth >= MAX_DEPTH:
        raise ValueError(f"nested more than {MAX_DEPTH} deep")
    if code == SPILLED:
        raise ValueError("it is a reference into the spill store, which is not looked up here (setting TM_SPILL)")
    if code not in _READERS:
        raise ValueError(f"unknown extension type {code}; was it sent by a newer version?")
    return _READERS[code](payload, depth + 1)


_HOOKS = tuple(partial(_contract, depth) for depth in range(MAX_DEPTH + 1))


def _list(payload: bytes, depth: int) -> list[Any]:
    items = _unpack(payload, depth)
    if type(items) is not list:
        raise ValueError("an extension without its list of parts")
    return items


def _read_datetime(payload: bytes, depth: int) -> datetime:
    year, month, day, hour, minute, second, microsecond, fold, zone = _list(payload, depth)
    return datetime(year, month, day, hour, minute, second, microsecond, fold=fold, tzinfo=_read_zone(zone))


def _read_time(payload: bytes, depth: int) -> time:
    hour, minute, second, microsecond, fold, zone = _list(payload, depth)
    return time(hour, minute, second, microsecond, fold=fold, tzinfo=_read_zone(zone))


def _read_zone(zone: Any) -> tzinfo | None:
    if zone is None:
        return None
    if isinstance(zone, str):
        return ZoneInfo(zone)
    microseconds, name = zone
    offset = timedelta(microseconds=microseconds)
    return timezone(offset) if name is None else timezone(offset, name)


def _read_set(payload: bytes, depth: int) -> set[Any]:
    return set(_list(payload, depth))


_READERS: dict[int, Callable[[bytes, int], Any]] = {
    1: lambda payload, _: int.from_bytes(payload, "big", signed=True),
    2: lambda payload, depth: tuple(_list(payload, depth)),
    3: _read_set,
    4: lambda payload, depth: frozenset(_list(payload, depth)),
    5: _read_datetime,
    6: lambda payload, depth: date(*_list(payload, depth)),
    7: _read_time,
    8: lambda payload, depth: timedelta(*_list(payload, depth)),
    9: lambda payload, _: Decimal(payload.decode("ascii")),
    10: lambda payload, _: UUID(bytes=payload),
}

# Explaining: slow, and only for what was refused ------------------------------------------------------------

_NATIVE = frozenset({type(None), bool, int, float, bytes, bytearray, memoryview})


def _find_culprit(value: Any, path: str, depth: int) -> None:
    """Raise CodecError for the first thing in `value` that cannot be sent; return if there is none."""
    kind = type(value)
    if kind in _NATIVE:
        return
    if kind is str:
        _check_text(value, path)
    elif kind in _CONTAINERS:
        if not depth:
            raise CodecError(path, f"is nested more than {MAX_DEPTH} deep; does it contain itself?")
        for key in value if kind is dict else ():
            _check_key(key, path)
        for step, item in _steps(value):
            _find_culprit(item, path + step, depth - 1)
    elif kind in _EXTENSIONS:
        try:
            _extend(value)
        except Exception as error:
            raise CodecError(path, f"this {_name(kind)} cannot be sent: {error}") from error
    else:
        raise CodecError(path, f"{_name(kind)} cannot be sent{_hint(value)}")


def _steps(value: Any) -> list[tuple[str, Any]]:
    if isinstance(value, dict):
        return [(f"[{_show_key(key)}]", item) for key, item in value.items()]
    if isinstance(value, list | tuple):
        return [(f"[{index}]", item) for index, item in enumerate(value)]
    return [("{}", item) for item in value]  # elements of a set have no address


def _check_text(text: str, path: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise CodecError(
            path,
            f"this str has half a surrogate pair ({text[error.start]!r}) at position {error.start}, "
            "which is no valid text; send a file name as os.fsencode(...), or repair it",
        ) from error


def _check_key(key: Any, path: str) -> None:
    kind = type(key)
    if kind is not str and kind is not int:
        shown = f" {key!r}" if kind in (bool, float, type(None)) else ""
        raise CodecError(
            path, f"has a key{shown} of type {_name(kind)}; keys must be str or int{_hint(key, keys=True)}"
        )
    if kind is str:
        _check_text(key, f"{path}[{_show_key(key)}]")


def _show_key(key: Any) -> str:
    if not isinstance(key, str):
        return str(key)
    short = key if len(key) <= 60 else key[:59] + "…"
    return json.dumps(short, ensure_ascii=False).encode("utf-8", "backslashreplace").decode()


def _name(kind: type) -> str:
    """Where users know a type from: pandas.DataFrame rather than pandas.core.frame.DataFrame."""
    if kind.__module__ == "builtins":
        return kind.__qualname__
    package = kind.__module__.partition(".")[0]
    public = getattr(sys.modules.get(package), kind.__qualname__, None) is kind
    return f"{package if public else kind.__module__}.{kind.__qualname__}"


def _hint(value: Any, *, keys: bool = False) -> str:
    """What to send instead, for the values people try most."""
    import dataclasses
    import enum

    kind = type(value)
    if isinstance(value, enum.Enum):
        return "; send its .value"
    if hasattr(kind, "tolist"):  # arrays and their scalars
        return "; send its .tolist()"
    if hasattr(kind, "to_dict"):  # data frames
        return '; send its .to_dict("records"), or save it and send the file name'
    if hasattr(kind, "model_dump"):
        return "; send its .model_dump()"
    if dataclasses.is_dataclass(kind):
        return "; send dataclasses.asdict(...) of it"
    if keys:
        return "; send str(...) of it"
    if hasattr(kind, "__fspath__"):
        return "; send str(...) of it"
    if hasattr(kind, "__next__"):
        return "; send list(...) of it"
    for base in (dict, list, tuple, set, frozenset, int, float, str, bytes):
        if isinstance(value, base):
            return f"; it would arrive as a plain {base.__name__}: send {base.__name__}(...) of it"
    if isinstance(value, datetime):
        return "; send a plain datetime"
    return "; send plain values (numbers, text, lists, dicts, dates)"


# Showing ----------------------------------------------------------------------------------------------------


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else {math.inf: "Infinity", -math.inf: "-Infinity"}.get(value, "NaN")
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int):
        # json.dumps would refuse to write a number of more than 4300 digits
        return value if value.bit_length() <= 64 else hex(value)
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in value]
    if isinstance(value, bytes):
        return b64encode(value).decode()
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    return str(value)
