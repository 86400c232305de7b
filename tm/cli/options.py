"""What several commands read from their command line: params, durations, instants, who asks, and whether they may."""

from __future__ import annotations

import json
import re
import sys
from typing import TYPE_CHECKING, Any

import click

from tm.instants import WHEN, instant_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime, tzinfo

    from tm.cli.face import Face

_UNITS = {"ms": 0.001, "s": 1, "m": 60, "min": 60, "h": 3600, "d": 86_400, "w": 604_800}
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|min|m|h|d|w)")


def params_of(texts: Sequence[str]) -> dict[str, Any]:
    """KEY=VALUE words as params; a value is JSON where it parses, else text."""
    params: dict[str, Any] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key.isidentifier():
            raise click.BadParameter(f"{text!r} is not KEY=VALUE", param_hint="-p")
        if key in params:
            raise click.BadParameter(f"{key!r} is given twice", param_hint="-p")
        try:
            params[key] = json.loads(value)
        except ValueError:
            params[key] = value
    return params


def seconds_of(text: str) -> float | None:
    """A duration such as 90, 10s, 5m, 1h30m or 2d in seconds; None when it is none."""
    if re.fullmatch(r"\d+(\.\d+)?", text):
        return float(text)
    if not re.fullmatch(f"(?:{_PART.pattern})+", text):
        return None
    return sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(text))


class Duration(click.ParamType):  # type: ignore[type-arg]  # generic in newer versions only
    """A duration in seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """10s, 5m, 1h30m..."""
        seconds = seconds_of(value) if isinstance(value, str) else float(value)
        if seconds is None:
            self.fail(f"{value!r} is no duration; write 10s, 5m, 1h30m or 2d", param, ctx)
        return seconds


DURATION = Duration()


def when(text: str, zone: tzinfo, option: str, *, last: bool = False) -> datetime:
    """An instant from an option; a usage error when it is none."""
    found = instant_of(text, zone, last=last)
    if found is None:
        raise click.BadParameter(f"{text!r} is no time; write {WHEN}", param_hint=option)
    return found


def who() -> str:
    """Who asks, for the record: user@host."""
    import os
    import pwd
    import socket

    try:
        user = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"


def allowed(face: Face, question: str, *, yes: bool) -> None:
    """Ask before something that cannot be undone; without a terminal only `-y` answers.

    Raises:
        click.UsageError: nobody to ask.
        click.Abort: they said no.
    """
    if yes:
        return
    if not (face.is_terminal and sys.stdin.isatty()):
        raise click.UsageError(f"{question} Say -y where nobody can be asked")
    click.confirm(question, abort=True, err=True)
