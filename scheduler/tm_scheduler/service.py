"""The scheduler as a process: connect, run until told to stop, leave nothing half done.

Light to import: redis, sqlalchemy and the rest are loaded when `serve` is called, in the process that needs them.
"""

from __future__ import annotations

import os
import secrets
import socket
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from tm.clock import to_ms
from tm.errors import SettingsError, TaskmasterError, UnavailableError
from tm.logs import get_logger
from tm.redact import redact
from tm_scheduler.signals import Signals

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tm.config import Settings
    from tm.graph import Graph
    from tm.monitor import Pulse
    from tm_scheduler.alerts import Alerts
    from tm_scheduler.archiving import Archiving, FileSome
    from tm_scheduler.metrics import Tally
    from tm_scheduler.scheduler import Scheduler

log = get_logger("scheduler")

#: milliseconds; as tm_scheduler.leader.TTL_MS, which is not imported for its weight
TTL_MS = 10_000
#: seconds between two looks whether a run is still open, when we end with the last of them
LOOK_EVERY = 0.25
#: milliseconds one pass of the archiver waits for events: how long the end of the process may have to wait for it
WAIT_FOR_EVENTS_MS = 500
#: seconds history gets at the end of the process; what is not filed then waits in the server
FILE_AT_STOP = 5.0


def serve(
    graphs: Sequence[Graph],
    settings: Settings,
    *,
    once: bool = False,
    ready: Callable[[], None] | None = None,
    ttl_ms: int = TTL_MS,
) -> int:
    """Run a scheduler in the main thread of this process; returns the exit code.

    SIGTERM and SIGINT end it after the pass in hand, a second one at once. SIGUSR1 ends it when no run is open any
    more, and until then no tick is made. A server or a history that is away is waited for, for ever.

    Args:
        graphs: those to put on the clock, and manual ones, so that others can see and start them.
        settings: server, namespace, history, zone, lease.
        once: make what is due now, sweep once, file it, end; 5 if the server is away.
        ready: called once, when the clock runs or this scheduler stands by.
        ttl_ms: how long leadership lasts without renewal.
    """
    with Signals() as signals:  # first of all, so that no signal is missed
        from tm.wiring import connect, open_store
        from tm_scheduler.archiving import Archiving
        from tm_scheduler.duties import duties
        from tm_scheduler.housekeeping import Housekeeping
        from tm_scheduler.scheduler import Scheduler

        housekeeping = Housekeeping(lambda: duties(settings))
        client = connect(settings)
        tally = _tally(settings)
        alerts = _alerts(settings)
        archiving = Archiving(lambda: _archivers(settings, tell, tally, alerts))

        def lead(leading: bool) -> None:
            archiving.lead(leading)
            housekeeping.lead(leading)
            if alerts is not None:
                alerts.lead(leading)

        scheduler = Scheduler(
            open_store(settings, client),
            graphs,
            zone=settings.timezone,
            lease=settings.lease,
            who=f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(3)}",
            ttl_ms=ttl_ms,
            on_lead=lead,
            recall=lambda: _recall(settings),
            on_tick=tally.tick if tally else None,
        )

        def tell(due_ms: int | None) -> None:
            scheduler.told_of_retries(due_ms)
            if due_ms is not None:
                signals.wake()

        archiving.start()
        housekeeping.start()
        if alerts is not None:
            alerts.start()
        try:
            if once:
                return _once(scheduler, archiving, alerts)
            loop = _Loop(scheduler, archiving, signals, settings.drain, alerts)
            with ExitStack() as watching:
                if tally is not None:
                    watching.enter_context(_watched(settings, loop, scheduler, archiving, signals, tally))
                return loop.run(ready or (lambda: None))
        except SettingsError as error:  # what only shows when it is put to use
            log.error("cannot start", reason=error)  # noqa: TRY400 - the traceback would tell nobody anything
            return error.exit_code
        finally:
            _resign(scheduler)
            housekeeping.stop()
            archiving.stop()
            if alerts is not None:
                alerts.stop()
            client.close()


class _Loop:
    """Pass after pass until told to stop, whatever the server does."""

    def __init__(
        self,
        scheduler: Scheduler,
        archiving: Archiving,
        signals: Signals,
        drain: float,
        alerts: Alerts | None = None,
    ) -> None:
        from tm_scheduler.outage import Backoff

        self._scheduler, self._archiving, self._signals, self._drain = scheduler, archiving, signals, drain
        self._alerts = alerts
        self._backoff = Backoff()
        self.trouble = ""  #: why the server does not answer
        self.reconnects = 0
        self.pulse: Pulse | None = None  #: where somebody watches

    def run(self, ready: Callable[[], None]) -> int:
        """Until the end; `ready` is called after the first pass that worked."""
        told = False
        while not self._signals.stop:
            if self.pulse is not None:
                self.pulse.beat()
            pause = self._pass()
            if not told and not self.trouble:
                told = True
                ready()
            if pause is None:
                return self._end(self._drain)
            self._signals.wait(pause)
        return self._end(FILE_AT_STOP)

    def _pass(self) -> float | None:
        """One pass; returns seconds until the next, None when nothing is left to wait for."""
        import redis.exceptions

        from tm.store.outages import in_words

        scheduler, draining = self._scheduler, self._signals.drain
        try:
            scheduler.one_pass(ticking=not draining)
            if draining and not scheduler.has_open_runs():
                return None
            left = scheduler.seconds_left(ticking=not draining)
        except redis.exceptions.RedisError as error:
            scheduler.interrupted()
            why = in_words(error)
            if why != self.trouble:
                log.warning("the server is away; tried again until it is back", error=why)
            self.trouble = why
            return self._backoff.pause()
        if self.trouble:
            log.info("the server is back")
            self.trouble = ""
            self.reconnects += 1
        self._backoff.reset()
        return min(left, LOOK_EVERY) if draining else left

    def _end(self, patience: float) -> int:
        _resign(self._scheduler)  # first, for a standby need not wait for our history
        _file_the_rest(self._archiving, patience, self._alerts)
        return 0


def _tally(settings: Settings) -> Tally | None:
    """Something that counts, if somebody watches."""
    if settings.metrics_port is None:
        return None
    from tm_scheduler.metrics import Tally

    return Tally()


@contextmanager
def _watched(
    settings: Settings, loop: _Loop, scheduler: Scheduler, archiving: Archiving, signals: Signals, tally: Tally
) -> Iterator[None]:
    """Answer on the port of the settings meanwhile."""
    from tm.monitor import Pulse
    from tm.wiring import connect, open_store
    from tm_scheduler.metrics import PATIENCE, Figures, watched

    loop.pulse = Pulse(signals.wake)
    client = connect(settings, reply_timeout=PATIENCE)
    figures = Figures(
        scheduler,
        tally,
        trouble=lambda: loop.trouble,
        reconnects=lambda: loop.reconnects,
        behind=lambda: archiving.trouble,
        store=open_store(settings, client),
        lease=settings.lease,
        where=redact(settings.server_url()),
    )
    try:
        with watched(settings, loop.pulse, figures):
            yield
    finally:
        client.close()


def _once(scheduler: Scheduler, archiving: Archiving, alerts: Alerts | None) -> int:
    import redis.exceptions

    from tm.store.outages import in_words

    try:
        scheduler.one_pass()
        while scheduler.leading and scheduler.seconds_left() <= 0:  # more was due than fits in one pass
            scheduler.one_pass()
    except redis.exceptions.RedisError as error:
        log.warning("the server is away", error=in_words(error))
        return UnavailableError.exit_code
    if not scheduler.leading:
        log.info("another scheduler leads; nothing to do")
    _resign(scheduler)
    _file_the_rest(archiving, FILE_AT_STOP, alerts)
    return 0


def _file_the_rest(archiving: Archiving, patience: float, alerts: Alerts | None) -> None:
    if alerts is not None and not alerts.finish(FILE_AT_STOP):
        log.warning("alerts wait in the server for the next scheduler")
    if not archiving.finish(patience):
        log.warning("history is behind; what is missing waits in the server for the next scheduler")


def _resign(scheduler: Scheduler) -> None:
    import redis.exceptions

    try:
        scheduler.resign()
    except redis.exceptions.RedisError as error:
        log.debug("could not resign; the lease will lapse", error=str(error))


def _place(settings: Settings) -> str:
    """What history calls the server and our part of it."""
    return f"{settings.namespace}@{redact(settings.server_url())}"


def _alerts(settings: Settings) -> Alerts | None:
    if settings.webhook_url is None:
        return None
    from tm_scheduler.alerts import Alerts

    return Alerts(settings)


def _recall(settings: Settings) -> dict[str, int]:
    """The last tick of each graph, by history; nothing when it does not answer, for nothing waits for it."""
    from tm.history import open_history

    try:
        history = open_history(settings.history_url)
        try:
            return history.last_ticks(_place(settings))
        finally:
            history.close()
    except TaskmasterError as error:
        log.warning(
            "history cannot say when graphs ticked last; those the server does not know begin now", error=str(error)
        )
        return {}


@contextmanager
def _archivers(
    settings: Settings, tell: Callable[[int | None], None], tally: Tally | None, alerts: Alerts | None
) -> Iterator[FileSome]:
    """History and a connection of its own, as one function that files events."""
    from tm.history import open_history
    from tm.store.logs import LogStream
    from tm.store.store import Store
    from tm.wiring import connect
    from tm_scheduler.archive import Archiver, ArchiverConfig
    from tm_scheduler.archiving import RetryWatch
    from tm_scheduler.logfiling import LogFiling

    client = connect(settings)
    try:
        history = open_history(settings.history_url)
        try:
            raw = Store(client, settings.namespace, result_ttl=settings.result_ttl)
            store = RetryWatch(
                raw,
                tell,
                tally.read if tally else None,
            )
            if alerts is not None:
                store.ack = alerts.holding(store.ack)

            def adopt(source: str) -> None:
                lost = history.adopt(_place(settings), source, to_ms(datetime.now(UTC)))
                if lost:
                    log.error("the server was emptied; runs that were open are lost", runs=lost)

            patient = Archiver(store, history, ArchiverConfig(block_ms=WAIT_FOR_EVENTS_MS), on_source=adopt)
            hasty = Archiver(store, history, ArchiverConfig(block_ms=1), on_source=adopt)
            lines = LogFiling(
                LogStream(raw), history, hasty.one_pass, batch=ArchiverConfig().batch, keep=settings.log_ttl
            )
            yield lambda wait: lines.one_pass((patient if wait else hasty).one_pass)
        finally:
            history.close()
    finally:
        client.close()
