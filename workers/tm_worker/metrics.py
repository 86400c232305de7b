"""What a worker shows to those who watch it; loaded only when somebody has named a port.

The loop counts what ends, as plain numbers; everything else is read from where it is at the moment somebody asks.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import tm
from tm.monitor import Counts, Monitor, Pulse, Seconds, by_label, counter, histogram, single
from tm.states import Outcome
from tm.store.records import UNBEGUN, VerdictKind

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from prometheus_client import Metric

    from tm.config import Settings
    from tm.store.records import Verdict
    from tm_worker.exchange import Exchange
    from tm_worker.executors import Ended
    from tm_worker.heart import Heart
    from tm_worker.loop import Loop, Waker
    from tm_worker.nursery import Nursery
    from tm_worker.supervisor import Supervisor


class Tally:
    """Counts the attempts that end here."""

    def __init__(self) -> None:
        self.attempts, self.seconds = Counts(), Seconds()

    def settled(self, batch: Sequence[Ended], verdicts: Sequence[Verdict]) -> None:
        """The server has answered for these reports."""
        for ended, verdict in zip(batch, verdicts, strict=True):
            report, claim = ended.report, ended.claim
            if report.ms == UNBEGUN:
                continue
            # a report that an earlier worker left behind does not say of which task it is
            about = (claim.graph, claim.task) if claim else ("", "")
            rejected = verdict.kind is VerdictKind.REJECTED
            self.attempts.add(*about, (Outcome.REJECTED if rejected else report.outcome).value)
            if claim is not None and ended.executor is not None:
                self.seconds.add(report.ms / 1000, *about)


class Figures:
    """The metrics of one worker, as `prometheus_client` collects them."""

    def __init__(
        self, tally: Tally, supervisor: Supervisor, exchange: Exchange, heart: Heart, nursery: Nursery
    ) -> None:
        self._tally, self._supervisor, self._exchange = tally, supervisor, exchange
        self._heart, self._nursery = heart, nursery

    def collect(self) -> Iterable[Metric]:
        """All of them, as they are now."""
        supervisor, exchange, heart = self._supervisor, self._exchange, self._heart
        yield by_label("taskmaster_worker_info", "1; the version of this worker", "version", [(tm.__version__, 1)])
        yield single("taskmaster_worker_server_up", "1 while the server answers", float(not self.away))
        yield single(
            "taskmaster_worker_reconnects", "Times the server came back", exchange.outage.recovered, total=True
        )
        yield counter(
            "taskmaster_worker_attempts",
            "Attempts that ended here and were reported",
            ("graph", "task", "outcome"),
            self._tally.attempts,
        )
        yield histogram(
            "taskmaster_worker_task_seconds", "How long attempts ran", ("graph", "task"), self._tally.seconds
        )
        yield by_label("taskmaster_worker_executors", "Executor processes", "state", self._executors())
        yield by_label(
            "taskmaster_worker_executor_deaths",
            "Executor processes that ended, by exit code 0, another one, or signal",
            "how",
            sorted(self._nursery.deaths.copy().items()),
            total=True,
        )
        yield single("taskmaster_worker_claims", "Attempts claimed and not ended", len(supervisor.held))
        yield single("taskmaster_worker_reports_waiting", "Reports not delivered yet", exchange.undelivered)
        yield single("taskmaster_worker_reports_spooled", "Those of them that are on disk", exchange.spooled)
        yield single(
            "taskmaster_worker_leases_lost", "Attempts that the server gave to others meanwhile", heart.lost, total=True
        )
        yield single(
            "taskmaster_worker_heartbeats_missed", "Heartbeats that were not answered", heart.missed, total=True
        )
        yield single("taskmaster_worker_draining", "1 when no more work is taken", float(supervisor.draining))
        yield single("taskmaster_worker_suspended", "1 after `rq suspend`", float(exchange.suspended))

    @property
    def away(self) -> bool:
        """Whether the server did not answer the last time, by what the loop or the heartbeats know."""
        return self._exchange.outage.retry_at is not None or self._heart.outage.retry_at is not None

    def unready(self) -> list[str]:
        """Why this worker gets no work done."""
        reasons = []
        if self.away:
            reasons.append(f"the server is away: {self._exchange.outage.where}")
        if not self._exchange.registered:
            reasons.append("not registered with the server yet")
        if not self._supervisor.executors:
            reasons.append("no executor process is up")
        if self._supervisor.draining:
            reasons.append("told to stop: no more work is taken")
        return reasons

    def _executors(self) -> list[tuple[str, float]]:
        here = list(self._supervisor.executors.copy().values())
        ending = sum(each.doomed for each in here)
        busy = sum(each.held is not None and not each.doomed for each in here)
        missing = max(0, self._supervisor.processes - len(here))
        return [("busy", busy), ("ending", ending), ("idle", len(here) - ending - busy), ("missing", missing)]


@contextmanager
def watched(
    settings: Settings,
    loop: Loop,
    supervisor: Supervisor,
    exchange: Exchange,
    heart: Heart,
    nursery: Nursery,
    waker: Waker,
) -> Iterator[None]:
    """Answer on the port of the settings meanwhile. The nursery has been forked: nothing of this is in executors.

    Raises:
        SettingsError: the port cannot be had.
    """
    assert settings.metrics_port is not None  # noqa: S101 - the caller has looked
    tally, pulse = Tally(), Pulse(waker.wake)
    figures = Figures(tally, supervisor, exchange, heart, nursery)
    monitor = Monitor(
        settings.metrics_host,
        settings.metrics_port,
        collector=figures,
        alive=pulse.problem,
        ready=figures.unready,
    )
    exchange.tally, loop.pulse = tally, pulse
    monitor.start()
    try:
        yield
    finally:
        monitor.stop()
