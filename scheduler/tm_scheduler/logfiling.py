"""Moves the lines that attempts print from the server into history; the server then forgets them.

Beside the archiver of events and after it: lines of a run are kept where the run is known. Nothing waits for this duty.
While history is away the lines stay on the server, within its bounds, and the oldest go first.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Protocol

from tm.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tm.loglines import Chunk

log = get_logger("scheduler")

#: chunks in one transaction
BATCH = 200
#: seconds between two looks for lines that are too old
PRUNE_EVERY = 3600.0


class LogSource(Protocol):
    """What this duty needs of the server."""

    def read(self, after: str, count: int = 200) -> list[tuple[str, Chunk | None]]:
        """The next chunks, with their ids."""
        ...

    def filed(self, upto: str) -> None:
        """Chunks up to and with this one may be forgotten."""
        ...


class LogArchive(Protocol):
    """What it needs of history."""

    def file_logs(self, chunks: Sequence[Chunk]) -> int:
        """Keep these; safe to repeat."""
        ...

    def prune_logs(self, before_ms: int) -> int:
        """Forget the lines of runs that ended before this instant."""
        ...


class LogFiling:
    """Files lines. Two of them at once do no harm: a chunk has a name, and is in history once.

    Args:
        source: the server.
        archive: history.
        events: files events, and returns how many; fewer than `batch` mean that there are no more.
        batch: as said.
        keep: seconds that lines are kept after the end of their run; None for as long as the run is.
    """

    def __init__(
        self,
        source: LogSource,
        archive: LogArchive,
        events: Callable[[], int],
        *,
        batch: int,
        keep: float | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._source, self._archive, self._events, self._batch = source, archive, events, batch
        self._keep, self._now = keep, now
        self._prune_at = 0.0

    def one_pass(self, wait: Callable[[], int]) -> int:
        """File the next events and lines; returns how many.

        Args:
            wait: files events, if need be after waiting for them; used when there are no lines.
        """
        self._prune()
        entries = self._source.read("0-0", BATCH)
        if not entries:
            return wait()
        filed = 0
        # what was read was printed in runs that had begun: once the events of today are filed, history knows them
        while (count := self._events()) >= self._batch:
            filed += count
        unknown = self._archive.file_logs([chunk for _, chunk in entries if chunk is not None])
        if unknown:
            log.debug("lines of runs that history does not know were left out", chunks=unknown)
        self._source.filed(entries[-1][0])
        return filed + count + len(entries)

    def _prune(self) -> None:
        if self._keep is None or self._now() < self._prune_at:
            return
        self._prune_at = self._now() + PRUNE_EVERY
        gone = self._archive.prune_logs(int((self._now() - self._keep) * 1000))
        if gone:
            log.info("lines of old runs were forgotten", chunks=gone)
