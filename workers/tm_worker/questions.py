"""What the server is asked, and what is known of the answer.

A question that gets no answer may have been heard or not. So it is asked again with the same token until it is
answered, which the server takes for a repetition.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from tm.store.records import Ask, Grant, Verdict
    from tm.store.store import Store
    from tm_worker.executors import Ended

#: reports in one call: the server is not to be busy for more than a few ms
BATCH = 32
#: bytes of their values; a single one may have more
BATCH_BYTES = 8 << 20


@dataclass(slots=True)
class Question:
    """Reports, and an ask for work, in one call."""

    ask: Ask
    batch: list[Ended]
    read: Callable[[], tuple[list[Verdict], Grant]] | None = None  #: waits for the answer; None unless it is on its way

    def send(self, store: Store) -> None:
        """Send it; its answer comes after those of the questions before."""
        self.read = store.begin(self.ask, [ended.report for ended in self.batch])

    def repeat(self) -> None:
        """Nobody knows whether it was heard."""
        self.ask, self.read = replace(self.ask, again=True), None


def next_batch(ended: list[Ended]) -> list[Ended]:
    """Take from the reports that wait as many as go into one call."""
    count = size = 0
    for each in ended[:BATCH]:
        size += len(each.report.value)
        if count and size > BATCH_BYTES:
            break
        count += 1
    batch, ended[:] = ended[:count], ended[count:]
    return batch
