"""What the server has to know of where this worker listens, and what it is handed over there.

Each ask names the ear, which is the connection we listen on, and says how much has been heard on it; so the server can
tell what is still on its way. When that connection breaks, what was on its way is lost, and asked for.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from tm import ids
from tm.logs import get_logger
from tm.store.records import Ask

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from tm.store.records import Claim
    from tm.store.store import Store

log = get_logger("worker")

#: asks that are remembered: what was handed over after an older one has lapsed or was heard
_REMEMBERED = 4096


class Hearing:
    """One ear at a time."""

    def __init__(self, store: Store, worker: str, lease_ms: int) -> None:
        self.ear = ""  #: empty while we do not listen
        self.heard = 0  #: attempts that were handed over to it
        self._store, self._worker, self._lease_ms = store, worker, lease_ms
        self.deafened = False  #: and has not asked yet for what was missed
        self._asks: deque[str] = deque(maxlen=_REMEMBERED)  # tokens of asks that named an ear

    def named_by(self, ask: Ask) -> None:
        """An ask is about to tell the server of this ear."""
        if self.ear:
            self._asks.append(ask.token)

    def claims(self, messages: Sequence[bytes]) -> list[Claim]:
        """What these messages hand over."""
        found: list[Claim] = []
        for message in messages:
            try:
                found += self._store.handed(message)
            except (ValueError, TypeError, AttributeError, LookupError) as error:
                log.warning("ignored a message that hands over no work; who has sent it?", reason=repr(error))
        self.heard += len(found)
        return found

    def deaf(self) -> None:
        """The connection is gone."""
        self.deafened = self.deafened or bool(self.ear)
        self.ear, self.heard = "", 0

    def listen(self, ear: str) -> None:
        """Listen on another connection from now on."""
        self.ear, self.heard = ear, 0

    def missed(self, ours: Collection[str]) -> list[Claim]:
        """What was lost on the way to the connection before, beside the jobs that this worker knows of.

        Errors are redis.exceptions.*, when the server is away: then call it again.
        """
        if not self.deafened:
            return []
        asks = set(self._asks)  # another process may have had our name
        found = self._take(ids.new_token(), mine=True)
        self.deafened = False
        return [each for each in found if each.job not in ours and each.token.rpartition(".")[0] in asks]

    def no_more(self) -> None:
        """Have nothing more handed over: the next ask may come late, or never."""
        if self.ear:
            self._take(ids.new_token(), ear=self.ear, heard=self.heard)

    def _take(self, token: str, **more: Any) -> list[Claim]:
        ask = Ask(worker=self._worker, lease_ms=self._lease_ms, token=token, queues=(), count=0, **more)
        return self._store.take(ask).claims
