"""A clock that jumps: sleeping is over at once, and is remembered."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta


class FakeClock:
    """Time that passes only when somebody sleeps, such as a run that waits for a retry.

    Tasks that look at the machine's clock, or sleep themselves, are not deceived by it.

    Args:
        now: where it begins: an aware datetime, or one as text, such as "2026-03-29T02:30+01:00"; without offset UTC.
    """

    def __init__(self, now: datetime | str = "2026-01-01T00:00") -> None:
        self._now = as_instant(now)
        self.slept: list[float] = []  #: seconds, each time

    def __repr__(self) -> str:
        return f"FakeClock({self._now.isoformat()!r})"

    def now(self) -> datetime:
        """The present instant, in UTC."""
        return self._now

    def sleep(self, seconds: float) -> None:
        """Let this many seconds pass, at once."""
        self.slept.append(seconds)
        self.advance(seconds)

    def advance(self, seconds: float) -> None:
        """Go forward by so many seconds without anybody having slept."""
        self._now += timedelta(seconds=seconds)


def as_instant(value: datetime | str) -> datetime:
    """An aware datetime in UTC; what has no offset is taken for UTC.

    Raises:
        ValueError: a text that is no ISO 8601 date and time.
    """
    instant = datetime.fromisoformat(value) if isinstance(value, str) else value
    return instant.replace(tzinfo=UTC) if instant.tzinfo is None else instant.astimezone(UTC)
