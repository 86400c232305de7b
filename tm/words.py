"""How instants, spans and lists are put for people."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import tzinfo


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """One moment and one zone, in which everything is told."""

    now: datetime  #: aware
    zone: tzinfo | None = None  #: None for the machine's

    def clock(self, instant: datetime) -> str:
        """12:04:11, or with its date when that is another day."""
        return clock(instant, now=self.now, zone=self.zone)

    def at(self, instant: datetime) -> str:
        """At 12:04:11, in 8 s; at 12:04:11 (8 s ago); on another day: on Wed 25 Nov 06:00:00."""
        said = self.clock(instant)
        away = self.away(instant)
        day = "at" if len(said) == len("12:04:11") else "on"
        return f"{day} {said}, {away}" if instant > self.now else f"{day} {said} ({away})"

    def away(self, instant: datetime) -> str:
        """In 8 s; 8 s ago; now; just now."""
        seconds = (instant - self.now).total_seconds()
        if abs(seconds) < 0.5:
            return "now" if seconds > 0 else "just now"
        told = rough(max(1.0, abs(seconds)))
        return f"in {told}" if seconds > 0 else f"{told} ago"

    def since(self, instant: datetime) -> str:
        """Since 12:04:11 (8 s)."""
        return f"since {self.clock(instant)} ({rough(max(1.0, (self.now - instant).total_seconds()))})"


def clock(instant: datetime, *, now: datetime | None = None, zone: tzinfo | None = None) -> str:
    """An instant on the clock of a zone: the time alone when it is today."""
    local, today = instant.astimezone(zone), (now or datetime.now(UTC)).astimezone(zone)
    if local.date() == today.date():
        return f"{local:%H:%M:%S}"
    return f"{local:%a %d %b %H:%M:%S}" if local.year == today.year else f"{local:%Y-%m-%d %H:%M:%S}"


def duration(seconds: float | None) -> str:
    """A duration for people: 3 ms, 1.2 s, 2 min 5 s, 3 h 12 min, 2 d 4 h."""
    if seconds is None:
        return ""
    if seconds < 0.9995:
        return f"{max(0, round(seconds * 1000))} ms"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    if whole < 172_800:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole // 86_400} d {whole % 86_400 // 3600} h"


def rough(seconds: float) -> str:
    """The same without what nobody wants to know: 8 s, 2 min, 3 h 12 min, 2 d 4 h."""
    if seconds < 0.9995:
        return duration(seconds)
    if seconds < 119.5:
        return f"{round(seconds)} s"
    if seconds < 3599.5:
        return f"{round(seconds / 60)} min"
    return duration(seconds) if seconds < 30 * 86_400 else f"{round(seconds / 86_400)} d"


def span(seconds: float) -> str:
    """A number of seconds as somebody wrote it: 8 s, 0.5 s, 2 min, 1 h."""
    for unit, size in (("h", 3600), ("min", 60)):
        if seconds >= size and seconds % size == 0:
            return f"{seconds / size:g} {unit}"
    return f"{seconds:g} s"


def shorten(text: str, width: int = 100) -> str:
    """Text on one line, cut with an ellipsis; nothing in it moves the cursor."""
    line = printable(" ".join(text[: 20 * width].split()))
    return line if len(line) <= width else f"{line[: width - 1]}…"


def printable(text: str) -> str:
    """Text without what a terminal would obey: control characters become visible, but line ends and tabs stay."""
    if text.isprintable():
        return text
    return "".join(
        letter if letter.isprintable() or letter in "\n\t " else letter.encode("unicode_escape").decode("ascii")
        for letter in text
    )


def quoted(names: Sequence[str], most: int = 3) -> str:
    """`a`, `b` and `c`; beyond `most` of them, how many more."""
    shown = [f"`{name}`" for name in names[:most]]
    if len(names) > most:
        return f"{', '.join(shown)} and {len(names) - most} more"
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}" if shown else "nothing"


def count(number: int, thing: str, things: str = "") -> str:
    """1 attempt, 2 attempts."""
    return f"{number:,} {thing if number == 1 else things or f'{thing}s'}"


def size(number: int) -> str:
    """870 bytes, 1.5 MiB, 210 GiB."""
    if number < 1024:
        return f"{number} bytes"
    scaled, units = number / 1024, ["KiB", "MiB", "GiB", "TiB"]
    while scaled >= 1024 and len(units) > 1:
        scaled /= 1024
        del units[0]
    return f"{scaled:.0f} {units[0]}" if scaled >= 100 else f"{scaled:.1f} {units[0]}"
