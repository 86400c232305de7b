"""The environment of this process and of others, beside the settings that are read from it."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tm.config.table import TABLE

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


def environment_with(variables: Mapping[str, str]) -> dict[str, str]:
    """The environment for another process: this one's without the settings in it, and with these variables."""
    ours = {each.variable for each in TABLE}
    return {name: value for name, value in os.environ.items() if name not in ours} | dict(variables)


@contextmanager
def within(variables: Mapping[str, str]) -> Iterator[None]:
    """Have this process, and what it starts meanwhile, be told by these variables and no other settings."""
    ours = {*variables, *(each.variable for each in TABLE)}
    before = {name: os.environ[name] for name in ours if name in os.environ}
    try:
        for name in ours:
            os.environ.pop(name, None)
        os.environ.update(variables)
        yield
    finally:
        for name in ours:
            os.environ.pop(name, None)
        os.environ.update(before)


def surroundings() -> tuple[object, ...]:
    """All that the settings of a process are made of; while it is equal, so are they, and it is had in 2 us."""
    try:
        folder = os.getcwd()  # noqa: PTH109 - twenty times as fast
    except FileNotFoundError:
        folder = ""
    # the dict of bytes inside: to read the variables one by one takes as long as to make the settings
    return os.getpid(), folder, dict(os.environ._data)  # type: ignore[attr-defined]  # noqa: SLF001


def sources(**overrides: Any) -> dict[str, str]:
    """Where the value of each setting comes from, by field: "command line", "environment" or "default"."""
    found = {}
    for each in TABLE:
        given = overrides.get(each.field) is not None
        told = bool(os.environ.get(each.variable, "").strip())
        found[each.field] = "command line" if given else "environment" if told else "default"
    return found


def wants_color() -> bool:
    """Whether the person at the terminal has nothing against colours (https://no-color.org)."""
    return not os.environ.get("NO_COLOR")


def has_cursor() -> bool:
    """Whether a terminal can be written to elsewhere than at its end."""
    return os.environ.get("TERM", "") not in {"", "dumb"}
