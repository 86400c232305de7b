"""When a failed task may try again, and after how long."""

from __future__ import annotations

import math
from dataclasses import dataclass

from tm.errors import DefinitionError


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How often and how late a task that failed is tried again. Delays are in seconds."""

    retries: int = 0  #: attempts after the first
    retry_delay: float = 0.0  #: before the first retry
    backoff: float = 0.0  #: growth per retry: 1 doubles the delay each time
    max_retry_delay: float | None = None
    jitter: float = 0.0  #: up to this fraction of the delay is added, at random

    def __post_init__(self) -> None:
        """Refuse what makes no sense while the line that wrote it is still on the stack."""
        if not isinstance(self.retries, int) or isinstance(self.retries, bool) or self.retries < 0:
            raise DefinitionError(f"retries must be a whole number of at least 0, not {self.retries!r}")
        for name in ("retry_delay", "backoff", "max_retry_delay", "jitter"):
            value = getattr(self, name)
            if value is None and name == "max_retry_delay":
                continue
            if not isinstance(value, int | float) or isinstance(value, bool):
                raise DefinitionError(f"{name} must be a number, not {value!r}")
            if not math.isfinite(value) or value < 0:
                raise DefinitionError(f"{name} must be a finite number of at least 0, not {value!r}")

    def delay_ms(self, retry: int, chance: float = 0.0) -> int:
        """Milliseconds to wait before retry number `retry` (0-based).

        `chance` in [0, 1) picks the jitter. The server function `finish` computes the same number from the same
        policy; the model test holds the two equal.
        """
        if self.retry_delay == 0:
            return 0  # and never 0 times infinity
        try:
            # in floats, as the server does: whole numbers of Python would grow without end
            delay = self.retry_delay * (1.0 + self.backoff) ** retry
        except OverflowError:
            delay = math.inf
        if self.max_retry_delay is not None:
            delay = min(delay, self.max_retry_delay)
        delay = min(delay * (1 + self.jitter * chance), LONGEST_DELAY)
        return math.floor(delay * 1000 + 0.5)


#: seconds; without a cap of the user's own, exponential growth stops at 30 days
LONGEST_DELAY = 30 * 86_400.0
