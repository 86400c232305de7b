"""What a scheduler shows to those who watch it; loaded only when somebody has named a port.

The leader shows its ticks, what it files, and what waits on the server; a standby only that it stands by, so that sums
over all schedulers count nothing twice. What waits is read when somebody asks, on a connection of its own.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import redis.exceptions

import tm
from tm.events import AttemptEnded, DeadlineMissed, RunCreated, RunEnded, order_of
from tm.monitor import Counts, Monitor, Pulse, Seconds, by_label, counter, histogram, single
from tm.redact import redact
from tm.states import RunState, TaskState
from tm.store import gauges
from tm.store.records import TickAnswer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from prometheus_client import Metric

    from tm.config import Settings
    from tm.events import Event
    from tm.store.records import DueTick
    from tm.store.store import Store
    from tm_scheduler.scheduler import Scheduler

#: seconds; the server's answer to somebody who watches is not worth more
PATIENCE = 2.0
#: how reasons for skipped ticks begin
REASONS = ("misfire", "overlap", "paused")


class Tally:
    """Counts ticks, in the thread that makes them, and what the events tell, in the one that files them."""

    def __init__(self) -> None:
        self.ticks, self.skips, self.lag = Counts(), Counts(), Seconds()
        self.started, self.ended, self.attempts, self.tasks = Counts(), Counts(), Counts(), Counts()
        self.run_seconds, self.late = Seconds(), Counts()
        self.filed = 0
        self._upto = (0, 0, 0)

    def tick(self, graph: str, tick: DueTick, answer: TickAnswer, late_ms: int) -> None:
        """The server has answered for a tick; what was handled before, or is to be asked again, does not count."""
        if answer is TickAnswer.CREATED and tick.born is not RunState.SKIPPED:
            self.ticks.add(graph, "run" if tick.born is RunState.QUEUED else "failed")
            self.lag.add(max(0, late_ms) / 1000, graph, tick.trigger.value)
        elif answer is TickAnswer.OVERLAPPED or answer is TickAnswer.CREATED:
            self.ticks.add(graph, "skipped")
            reason = "overlap" if answer is TickAnswer.OVERLAPPED else tick.reason
            self.skips.add(graph, next((each for each in REASONS if reason.startswith(each)), "other"))

    def read(self, events: Sequence[tuple[str, Event]]) -> None:
        """Events on their way to history; those that come once more, because it would not take them, do not count."""
        for id_, event in events:
            at = order_of(id_)
            if at <= self._upto:
                continue
            self._upto = at
            self.filed += 1
            if isinstance(event, AttemptEnded):
                self.attempts.add(event.graph, event.outcome.value)
                if event.state in _TOLD:
                    self.tasks.add(event.graph, event.state.value)
            elif isinstance(event, RunEnded):
                self.ended.add(event.graph, event.state.value)
                if event.started is not None:
                    self.run_seconds.add((event.at - event.started) / 1000, event.graph)
            elif isinstance(event, DeadlineMissed):
                self.late.add(event.graph)
            elif isinstance(event, RunCreated) and event.state is RunState.QUEUED:
                self.started.add(event.graph, event.trigger)


_TOLD = frozenset(
    {
        TaskState.SUCCESS,
        TaskState.SKIPPED,
        TaskState.FAILED,
        TaskState.TIMED_OUT,
        TaskState.QUARANTINED,
        TaskState.RETRYING,
    }
)


class Figures:
    """The metrics of one scheduler, as `prometheus_client` collects them.

    Args:
        scheduler: who leads or stands by.
        tally: what it has counted.
        trouble: what is wrong with the server as the loop sees it; empty when it answers.
        reconnects: how often it came back.
        behind: what is wrong with history; empty when it is written.
        store: the server, on a connection that nobody else uses.
        lease: seconds a worker may be silent.
        where: the server, for people.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        tally: Tally,
        *,
        trouble: Callable[[], str],
        reconnects: Callable[[], int],
        behind: Callable[[], str],
        store: Store,
        lease: float,
        where: str,
    ) -> None:
        self._lease = lease
        self._scheduler, self._tally, self._store, self._where = scheduler, tally, store, where
        self._trouble, self._reconnects, self._behind = trouble, reconnects, behind

    def collect(self) -> Iterable[Metric]:
        """All of them, as they are now."""
        waiting, up = self._look()
        leading = self._scheduler.leading
        yield by_label(
            "taskmaster_scheduler_info", "1; the version of this scheduler", "version", [(tm.__version__, 1)]
        )
        yield single("taskmaster_scheduler_leading", "1 for the one that makes ticks", float(leading))
        yield single("taskmaster_scheduler_server_up", "1 while the server answers", float(up))
        yield single("taskmaster_scheduler_reconnects", "Times the server came back", self._reconnects(), total=True)
        if leading:
            yield single("taskmaster_scheduler_term", "Grows with every change of leader", self._scheduler.term)
            yield single("taskmaster_history_up", "1 while history takes what is filed", float(not self._behind()))
            yield from self._counted()
        if waiting is not None:
            yield from _waiting(waiting)

    def unready(self) -> list[str]:
        """Why this scheduler neither leads nor could."""
        if trouble := self._trouble() or self._silence():
            return [f"the server is away: {self._where}: {redact(trouble)}"]
        if not self._scheduler.leading and not self._scheduler.standing_by:
            return ["neither leading nor standing by yet"]
        return []

    def _silence(self) -> str:
        """Why the server does not answer us: the loop may still wait for an answer of one that froze."""
        try:
            self._store.client.ping()
        except redis.exceptions.RedisError as error:
            return str(error)
        return ""

    def _look(self) -> tuple[gauges.Gauges | None, bool]:
        if self._trouble():
            return None, False
        if not self._scheduler.leading:
            return None, True
        try:
            return gauges.read(self._store, self._lease), True
        except redis.exceptions.RedisError:
            return None, False

    def _counted(self) -> Iterator[Metric]:
        tally = self._tally
        yield counter("taskmaster_ticks", "Ticks that became a run or a record", ("graph", "result"), tally.ticks)
        yield counter("taskmaster_ticks_skipped", "Ticks recorded as skipped", ("graph", "reason"), tally.skips)
        yield histogram("taskmaster_tick_lag_seconds", "From a tick to its run", ("graph", "trigger"), tally.lag)
        yield counter("taskmaster_runs_started", "Runs begun", ("graph", "trigger"), tally.started)
        yield counter("taskmaster_runs_ended", "Runs ended", ("graph", "state"), tally.ended)
        yield counter("taskmaster_deadlines_missed", "Runs open beyond their deadline", ("graph",), tally.late)
        yield histogram("taskmaster_run_seconds", "From a run's first claim to its end", ("graph",), tally.run_seconds)
        yield counter("taskmaster_attempts", "Attempts ended, on all workers", ("graph", "outcome"), tally.attempts)
        yield counter("taskmaster_task_runs", "What attempts made of their tasks", ("graph", "state"), tally.tasks)
        yield single("taskmaster_archive_events", "Events read to be filed in history", tally.filed, total=True)


def _waiting(found: gauges.Gauges) -> Iterator[Metric]:
    depths = [(queue, float(depth.size)) for queue, depth in found.queues.items()]
    ages = [(queue, depth.age) for queue, depth in found.queues.items()]
    open_runs = [(graph, float(count)) for graph, count in found.open_runs.items()]
    yield by_label("taskmaster_queue_waiting", "Attempts that wait for a worker", "queue", depths)
    yield by_label("taskmaster_queue_age_seconds", "How long the oldest of them has waited", "queue", ages)
    paused = [(queue, float(queue in found.paused_queues)) for queue in {**found.queues}.keys() | found.paused_queues]
    yield by_label("taskmaster_queue_paused", "1 while nothing of it is handed out", "queue", sorted(paused))
    yield by_label("taskmaster_runs_open", "Runs that have not ended", "graph", open_runs)
    yield single("taskmaster_leases", "Attempts that are claimed", found.leases.size)
    yield single(
        "taskmaster_leases_overdue_seconds", "How long the first lapsed lease has not been reaped", found.leases.age
    )
    yield single("taskmaster_retries_waiting", "Attempts that wait for their time", found.retries.size)
    yield single("taskmaster_retries_overdue_seconds", "How long the first retry that is due waits", found.retries.age)
    yield single("taskmaster_backlog", "Pieces of work that calls left for later ones", found.backlog)
    yield single("taskmaster_pauses", "Pauses of graphs in force", found.pauses)
    yield single("taskmaster_workers", "Workers heard of within a lease", found.workers)
    yield single("taskmaster_alerts_waiting", "Messages that the webhook has not got", found.alerts)
    yield single("taskmaster_log_lag_chunks", "Pieces of task output that history has not got", found.log_chunks)
    lag = "Entries of the event stream that history has not got; each holds an event or several"
    yield single("taskmaster_archive_lag_entries", lag, found.events.size)
    yield single("taskmaster_archive_lag_bytes", "The server's memory that they take", found.events_bytes)
    yield single("taskmaster_archive_lag_seconds", "The age of the oldest of them", found.events.age)


@contextmanager
def watched(settings: Settings, pulse: Pulse, figures: Figures) -> Iterator[None]:
    """Answer on the port of the settings meanwhile.

    Raises:
        SettingsError: the port cannot be had.
    """
    assert settings.metrics_port is not None  # noqa: S101 - the caller has looked
    monitor = Monitor(
        settings.metrics_host,
        settings.metrics_port,
        collector=figures,
        alive=pulse.problem,
        ready=figures.unready,
    )
    monitor.start()
    try:
        yield
    finally:
        monitor.stop()
