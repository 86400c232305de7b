"""Equality that Python's == is too kind for: 1 is not True, NaN is NaN, 0.0 is not -0.0, fold and zone count."""

from __future__ import annotations

from datetime import datetime, time
from decimal import Decimal
from typing import Any


def same(one: Any, other: Any) -> bool:
    """Whether two values are the same in type and content, all the way down."""
    return shape(one) == shape(other)


def shape(value: Any) -> Any:
    """A value that == compares strictly."""
    kind = type(value)
    if kind is dict:
        return kind, [(shape(key), shape(item)) for key, item in value.items()]
    if kind in (list, tuple):
        return kind, [shape(item) for item in value]
    if kind in (set, frozenset):
        return kind, sorted(repr(shape(item)) for item in value)
    if kind is float:
        return kind, "nan" if value != value else value.hex()  # noqa: PLR0124
    if kind is Decimal:
        return kind, str(value)
    if kind in (datetime, time):
        return (
            kind,
            value.replace(tzinfo=None).isoformat(),
            value.fold,
            type(value.tzinfo),
            repr(value.tzinfo),
        )
    return kind, value
