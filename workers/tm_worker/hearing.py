"""What the server has to know of where this worker listens, and what it is handed over there.

Each ask names the ear, which is the connection we listen on, and says how much has been heard on it; so the server can
tell what is still on its way. When that connection breaks, what was on its way is lost, and asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tm import ids
from tm.logs import get_logger
from tm.store.records import Ask

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from tm.store.records import Claim
    from tm.store.store import Store

log = get_logger("worker")


class Hearing:
    """One ear at a time."""

    def __init__(self, store: Store, worker: str, lease_ms: int) -> None:
        self.ear = ""  #: empty while we do not listen
        self.heard = 0  #: attempts that were handed over to it
        self._store, self._worker, self._lease_ms = store, worker, lease_ms
        self._token = ""  # of the last ask that named an ear: what was handed over since has it as well

    def named_by(self, ask: Ask) -> None:
        """An ask is about to tell the server of this ear."""
        if self.ear:
            self._token = ask.token

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
        self.ear, self.heard = "", 0

    def listen(self, ear: str, ours: Collection[str]) -> list[Claim]:
        """Listen on another connection from now on. Returns what was lost on the way to the one before.

        Args:
            ear: its name.
            ours: the jobs this worker knows of.

        Errors are redis.exceptions.*, when the server is away: then call it again.
        """
        lost: list[Claim] = []
        if self._token:
            lost = [each for each in self._take(self._token, again=True) if each.job not in ours]
        self.ear, self.heard, self._token = ear, 0, ""
        return lost

    def no_more(self) -> None:
        """Have nothing more handed over: the next ask may come late, or never."""
        if self.ear:
            self._take(ids.new_token(), ear=self.ear, heard=self.heard)

    def _take(self, token: str, **more: Any) -> list[Claim]:
        ask = Ask(worker=self._worker, lease_ms=self._lease_ms, token=token, queues=(), count=0, **more)
        return self._store.take(ask).claims
