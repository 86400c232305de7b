"""When the server is away: how long to wait before the next try."""

from __future__ import annotations

import random

#: seconds between two tries at first and at last; 5 s after the server is back work is to go on
SHORTEST, LONGEST = 0.1, 3.0


class Backoff:
    """Growing pauses with jitter, so that many processes do not come back at one instant."""

    def __init__(self) -> None:
        self._next = SHORTEST

    def pause(self) -> float:
        """Seconds to wait before the next try."""
        pause = self._next
        self._next = min(self._next * 2, LONGEST)
        return pause * random.uniform(0.5, 1.0)  # noqa: S311 - spreads load, hides nothing

    def reset(self) -> None:
        """It worked: the next trouble begins with a short pause again."""
        self._next = SHORTEST
