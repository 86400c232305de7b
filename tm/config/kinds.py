"""What values of settings there are: each takes text or the real thing and returns the real thing.

For anything else it raises `ValueError`, or `Reason` where more can be said than what is allowed.
"""

from __future__ import annotations

import base64
import math
import re
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable
    from zoneinfo import ZoneInfo

#: bytes; the codec refuses anything larger, so a larger limit could not be kept
HARD_MAX_MESSAGE = 64 << 20

#: what a webhook can be told
ALERTS = (
    *("run.success", "run.failed", "run.timed_out", "run.cancelled", "run.skipped"),
    *("task.success", "task.skipped", "task.retrying", "task.queued"),
    *("task.failed", "task.timed_out", "task.quarantined"),
    *("deadline.missed", "callback.failed"),
)
DEFAULT_ALERTS = ("run.failed", "run.timed_out", "deadline.missed", "task.quarantined")


class Reason(ValueError):  # noqa: N818 - carries a half sentence for the message, never leaves this package
    """What exactly is wrong with a value."""


def url(value: str | None) -> str | None:
    """The address of a server."""
    if value is None:
        return None
    if re.search(r"\s", value):
        raise Reason("it has a blank in it; write %20")
    parts = urlsplit(value)
    if parts.scheme not in {"redis", "rediss", "unix"}:
        raise Reason("no scheme" if not parts.scheme else "unknown scheme")
    if parts.scheme == "unix":
        if not parts.path.startswith("/"):
            raise Reason("no path")
        return value
    _refuse_late_at(value)
    try:
        port = parts.port
    except ValueError as error:
        raise Reason("bad port") from error
    if not parts.hostname or port == 0:
        raise Reason("no host" if not parts.hostname else "bad port")
    if not re.fullmatch(r"/?|/\d+", parts.path):
        raise Reason("the path is no database number")
    return value


def _refuse_late_at(value: str) -> None:
    """An `@` after the host comes from a password that is not encoded; half of it would pass for host and path."""
    _, *rest = re.split(r"[/?#]", value.partition("://")[2], maxsplit=1)
    if any("@" in each for each in rest):
        raise Reason("in a password '/' is written %2F, '?' %3F, '#' %23, '@' %40")


def history(value: str) -> str:
    """The address of a database."""
    if re.search(r"\s", value) and not value.startswith("sqlite:"):
        raise Reason("it has a blank in it; write %20")
    scheme, separator, rest = value.partition("://")
    if scheme == "postgres":
        raise Reason("the scheme is written postgresql")
    if not separator or scheme.partition("+")[0] not in {"sqlite", "postgresql"}:
        raise Reason("unknown scheme" if separator else "no scheme")
    if scheme == "sqlite" and not rest.startswith("/"):
        raise Reason("a path begins after three slashes, an absolute one after four")
    if scheme != "sqlite":
        _refuse_late_at(value)
    return value


def absolute(value: str | Path) -> Path:
    """A folder, whatever the working directory becomes."""
    if not str(value) or "\0" in str(value):
        raise ValueError(value)
    return Path(value).expanduser().absolute()


def optional_folder(value: str | Path | None) -> Path | None:
    """A folder, or none."""
    return None if value is None else absolute(value)


def webhook(value: str | None) -> str | None:
    """The address of a web server, or none."""
    if value is None:
        return None
    parts = urlsplit(value)
    if parts.scheme not in {"http", "https"} or not parts.hostname or re.search(r"\s", value):
        raise Reason("no address of a web server")
    if "@" in parts.netloc:
        raise Reason("a name and a password in it would not be sent; put a token into the path")
    _ = parts.port  # ValueError for a bad one
    return value


def secret(value: str | None) -> str | None:
    """What alerts are signed with, or nothing."""
    if value is not None:
        if value.startswith("whsec_"):
            try:
                base64.b64decode(value.removeprefix("whsec_"), validate=True)
            except ValueError:
                raise Reason("what follows whsec_ is no base64") from None
        if len(value) < 16:
            raise Reason("it is too short to keep anybody out")
    return value


def alerts(value: str | tuple[str, ...]) -> tuple[str, ...]:
    """Names of alerts."""
    given = value.split(",") if isinstance(value, str) else value
    names = tuple(dict.fromkeys(each.strip() for each in given if each.strip()))
    if not names or (unknown := sorted({*names} - {*ALERTS})):
        raise Reason(f"no alert is called {', '.join(unknown)}" if names else "nothing is named")
    return names


def zone(value: str | ZoneInfo) -> ZoneInfo:
    """A time zone."""
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

    if isinstance(value, ZoneInfo):
        return value
    try:
        return ZoneInfo(value)
    except (ZoneInfoNotFoundError, OSError) as error:
        raise Reason("unknown zone") from error


def pattern(allowed: str) -> Callable[[str], str]:
    """Text that matches in whole."""

    def parse(value: str) -> str:
        if not re.fullmatch(allowed, value):
            raise ValueError(value)
        return value

    return parse


def seconds(*, zero: bool) -> Callable[[str | float], float]:
    """A span of time, which may be nothing or may not."""

    def parse(value: str | float) -> float:
        number = float(value)
        if isinstance(value, bool) or not math.isfinite(number) or number < 0 or (number == 0 and not zero):
            raise ValueError(value)
        return number

    return parse


def seconds_or_none(value: str | float | None) -> float | None:
    """A span of time above 0, or none."""
    return None if value is None else seconds(zero=False)(value)


def whole(least: int, most: int) -> Callable[[str | int], int]:
    """A whole number in these bounds."""

    def parse(value: str | int) -> int:
        number = int(value)
        if isinstance(value, bool | float) or not least <= number <= most:
            raise ValueError(value)
        return number

    return parse


def port(value: str | int | None) -> int | None:
    """A port, or none."""
    return None if value is None else whole(0, 65_535)(value)


def size(value: str | int) -> int:
    """Bytes that a message may have."""
    if isinstance(value, str) and (match := re.fullmatch(r"(\d+) ?(KiB|MiB)", value, re.IGNORECASE)):
        value = int(match[1]) << (10 if match[2].lower() == "kib" else 20)
    return whole(1024, HARD_MAX_MESSAGE)(value)


def size_or_none(value: str | int) -> int:
    """The same, or 0."""
    return 0 if value in {"0", 0} and not isinstance(value, bool) else size(value)


def mebibytes(value: str | int | None) -> int | None:
    """An amount of memory, or none."""
    if value is None:
        return None
    if isinstance(value, str) and (match := re.fullmatch(r"(\d+) ?(MiB|GiB)", value, re.IGNORECASE)):
        value = int(match[1]) << (10 if match[2].lower() == "gib" else 0)
    return whole(16, 1 << 30)(value)


def choice(*allowed: str) -> Callable[[str], str]:
    """One of these words, in any case."""

    def parse(value: str) -> str:
        if value.lower() not in allowed:
            raise ValueError(value)
        return value.lower()

    return parse
