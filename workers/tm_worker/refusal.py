"""A report that the server refuses must neither keep back the others of its call nor be sent for ever.

The call is taken apart until one report stands alone. Of that the server is told instead that it could not be
delivered, which fails its attempt without a retry. When it refuses that too, though it takes other calls, the report is
dead: it is set aside in the spool, and its attempt is lost when its lease has lapsed.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from tm.logs import get_logger
from tm.states import Outcome
from tm_worker.faults import fault

if TYPE_CHECKING:
    from collections.abc import Callable

    from tm.store.records import Report
    from tm_worker.executors import Ended

log = get_logger("worker")

#: characters of an error that are worth telling
_MAX_REASON = 500


class Refused:
    """The reports of refused calls, in the portions in which they are tried next.

    Args:
        bury: sets a dead report aside, as it was at first, with the reason.
    """

    def __init__(self, bury: Callable[[Report, str], None]) -> None:
        self._bury = bury
        self._portions: list[list[Ended]] = []
        self._told: dict[str, Report] = {}  # by token: those that have been replaced

    def __bool__(self) -> bool:
        return bool(self._portions)

    def reports(self) -> list[Ended]:
        """All of them; from any thread."""
        return [each for portion in self._portions.copy() for each in portion]

    def next(self) -> list[Ended]:
        """The portion to try now."""
        return self._portions.pop(0)

    def sort_out(self, batch: list[Ended], error: Exception) -> list[Ended]:
        """A call was refused and the server takes others. Returns those given up; the rest is tried in portions."""
        if len(batch) > 1:
            half = len(batch) // 2
            self._portions[:0] = [batch[:half], batch[half:]]
            return []
        [ended] = batch
        report, reason = ended.report, f"{type(error).__name__}: {error}"[:_MAX_REASON]
        if report.token in self._told:
            log.error("a report is refused whatever it says; its attempt will be lost", job=report.job, reason=reason)
            self._bury(self._told.pop(report.token), reason)
            return batch
        log.error("the server refuses a report; its attempt fails", job=report.job, reason=reason)
        self._told[report.token] = report
        self._portions.insert(0, [replace(ended, report=_instead(report, reason))])
        return []

    def delivered(self, batch: list[Ended]) -> None:
        """The server has answered for these."""
        for ended in batch if self._told else ():
            self._told.pop(ended.report.token, None)


def _instead(report: Report, reason: str) -> Report:
    size = len(report.value) if isinstance(report.value, bytes) else 0
    said = f"the server refused the report of this attempt ({report.outcome}, {size:,} bytes): {reason}"
    return replace(
        report,
        outcome=Outcome.FAILED,
        value=b"",
        error=fault("ReportRefused", said),
        retry=False,
        ms=report.ms if isinstance(report.ms, int) else 0,
        chance=0.0,
    )
