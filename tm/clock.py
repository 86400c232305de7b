"""Where time comes from: one small object, so that tests and simulations bring their own."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """What an in-process run needs of time."""

    def now(self) -> datetime:
        """The present instant, aware, in UTC."""
        ...

    def sleep(self, seconds: float) -> None:
        """Let this much time pass."""
        ...


class SystemClock:
    """The clock of this machine."""

    def now(self) -> datetime:
        """The present instant, aware, in UTC."""
        return datetime.now(UTC)

    def sleep(self, seconds: float) -> None:
        """Let this much time pass."""
        time.sleep(seconds)


def from_ms(ms: int) -> datetime:
    """The instant that is `ms` milliseconds after the Unix epoch."""
    return datetime.fromtimestamp(ms / 1000, UTC)


def to_ms(instant: datetime) -> int:
    """Milliseconds from the Unix epoch to an aware instant, rounded down."""
    return int(instant.timestamp() * 1000)
