"""The lines that attempts printed, in chunks as they came from the server; they go when their run goes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import select

from tm.history.database import Database
from tm.history.queries import LOGS_PRUNED
from tm.history.schema import log_chunks, meta, runs
from tm.history.upsert import upsert

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tm.loglines import Chunk


class LogBook(Database):
    """Keeps lines. What is filed twice is there once."""

    def file_logs(self, chunks: Sequence[Chunk]) -> int:
        """Keep chunks of runs that history knows; returns how many it does not know, which are not kept.

        All events up to these chunks must have been recorded, or runs that have just begun are not known yet.
        """
        if not chunks:
            return 0
        with self._writing() as connection:
            known: set[str] = set()
            ids = sorted({chunk.run for chunk in chunks})
            for first in range(0, len(ids), 500):
                found = connection.execute(select(runs.c.id).where(runs.c.id.in_(ids[first : first + 500])))
                known |= set(found.scalars())
            rows = {(chunk.run, chunk.key): _row(chunk) for chunk in chunks if chunk.run in known}
            upsert(connection, log_chunks, rows.values(), {})
            return sum(chunk.run not in known for chunk in chunks)

    def prune_logs(self, before_ms: int) -> int:
        """Forget the lines of runs that ended before this instant, and keep the runs; returns how many chunks went."""
        with self._writing() as connection:
            old = select(runs.c.id).where(runs.c.ended < before_ms)
            gone = connection.execute(log_chunks.delete().where(log_chunks.c.run.in_(old)))
            known = connection.execute(select(meta.c.value).where(meta.c.key == LOGS_PRUNED)).scalar()
            upto = max(before_ms, int(known or 0))
            upsert(connection, meta, [{"key": LOGS_PRUNED, "value": str(upto)}], {"value": lambda _, new: new})
            return int(gone.rowcount)


def _row(chunk: Chunk) -> dict[str, object]:
    return {
        "run": chunk.run,
        "token": chunk.token,
        "number": chunk.number,
        "graph": chunk.graph.replace("\x00", "␀"),
        "task": chunk.task.replace("\x00", "␀"),
        "attempt": chunk.attempt,
        "last": int(chunk.last),
        "first_us": chunk.first_us,
        "packed": chunk.packed,
    }
