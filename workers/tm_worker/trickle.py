"""Whether work trickles in so densely that a moment's rest brings it in by handfuls.

Where runs are started one by one, faster than calls take, each call would report one attempt and bring the next. The
server would spend its time on calls. So a worker that has emptied the queues, and gets claims at short intervals all
the same, rests for a moment before it asks again. Nobody who waits for one thing after another is slowed down: what
comes seldom is asked for at once, and so is what follows from a report, as in a chain.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tm.store.records import Claim

#: mean seconds between two claims below which they come densely
DENSE = 0.0005
#: seconds of a rest
REST = 0.001
#: claims in one answer that are a handful
HANDFUL = 24
#: seconds that one interval counts for at most, so that a quiet night is forgotten after a few claims
_LONGEST = 0.02


class Trickle:
    """What one worker has seen of the intervals at which claims come."""

    def __init__(self) -> None:
        self.rest_until = 0.0
        self._interval, self._last = _LONGEST, 0.0

    def granted(self, claims: Sequence[Claim], reported: Iterable[str], now: float, *, more: bool) -> None:
        """The server has given these.

        Args:
            claims: if any.
            reported: the runs of which attempts were reported in the same call.
            now: in seconds, of any clock that does not jump.
            more: the queues may hold more.
        """
        if not claims:
            return
        interval = min(now - self._last, _LONGEST) / len(claims)
        self._last = now
        self._interval += (interval - self._interval) / 4
        if self._interval < DENSE and not more and len(claims) < HANDFUL:
            runs = set(reported)
            if not any(claim.run in runs for claim in claims):
                self.rest_until = now + REST
