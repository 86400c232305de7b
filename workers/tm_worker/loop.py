"""The loop of a worker: waits for everything at once and carries out what the supervisor decides.

One selector over the executors, the nursery, the doorbell, and a pipe for signals and heartbeats. Nothing is polled:
an idle worker wakes up for the doorbell's time-out and its heartbeats.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import time
from typing import TYPE_CHECKING

from tm.logs import get_logger
from tm_worker import channel
from tm_worker.executors import Action, Recall, Retire, Run, Signal, Spawn
from tm_worker.nursery import Born, Died
from tm_worker.outage import AWAY

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterator

    from tm.monitor import Pulse
    from tm.store.records import Claim, DrainOrder
    from tm_worker.bell import Bell
    from tm_worker.exchange import Exchange
    from tm_worker.heart import Heart
    from tm_worker.lines import Lines
    from tm_worker.memory import Watch
    from tm_worker.nursery import Nursery
    from tm_worker.supervisor import Supervisor

log = get_logger("worker")

_HEART = 0  # in the pipe of signals: no signal has this number


class Loop:
    """Runs until told to stop.

    Args:
        drain: seconds that running tasks get when it is time to stop.
        burst: stop when all queues are empty and nothing is running.
        ready: called once, when the worker is known to the server.
    """

    def __init__(
        self,
        supervisor: Supervisor,
        exchange: Exchange,
        nursery: Nursery,
        bell: Bell,
        heart: Heart,
        waker: Waker,
        watch: Watch,
        lines: Lines,
        *,
        drain: float,
        ready: Callable[[], None],
    ) -> None:
        self.broken = False  #: the nursery is gone
        self.pulse: Pulse | None = None  #: where somebody watches
        self._supervisor, self._exchange = supervisor, exchange
        self._nursery, self._bell, self._heart, self._waker = nursery, bell, heart, waker
        self._watch_memory, self._lines = watch, lines
        self._drain, self._ready = drain, ready
        self._give_up_at: float | None = None
        self._signalled = False
        self._heard: DrainOrder | None = None
        self._bell_sock: socket.socket | None = None  # while it is watched; redis-py forgets it when it breaks
        self._channels: dict[int, channel.SupervisorEnd] = {}
        self._selector = selectors.DefaultSelector()
        self._selector.register(nursery, selectors.EVENT_READ, self._on_nursery)
        self._selector.register(waker.fileno(), selectors.EVENT_READ, self._on_wake)
        lines.attach(self._selector, self._on_executor, self._running)
        exchange.attach(self._prepare, self._hear_all, self._carry_out)

    def run(self, burst: bool = False) -> int:
        """Work. Returns how many attempts were delivered."""
        started = False
        while True:
            now = time.monotonic()
            if self.pulse is not None:
                self.pulse.beat()
            self._carry_out(self._supervisor.tick(now))
            self._look_at_memory(now)
            self._lines.turn(self._supervisor.ended)
            self._exchange.turn(now)
            if self._exchange.registered and not started:
                started = True
                self._heart.start()
                self._ready()
            if self._over(time.monotonic(), burst):
                break
            if not burst:
                self._listen()
            self._wait()
        if not self._exchange.quiet:
            self._exchange.spool()
            log.warning("the server is away; results that it has not got are kept for the next worker")
        if started:
            self._heart.stop()
        self._bell.drop()
        for each in self._channels.values():
            each.close()
        self._lines.close()
        self._selector.close()
        return self._exchange.done

    def _prepare(self) -> None:
        """Reports are about to be sent: what was printed is there before the result is."""
        self._lines.turn(self._supervisor.ended)

    def _over(self, now: float, burst: bool) -> bool:
        exchange = self._exchange
        if self._supervisor.finished:
            return exchange.quiet or (self._give_up_at is not None and now >= self._give_up_at)
        if not burst or not exchange.registered:
            return False
        nothing_to_get = not exchange.hungry or exchange.suspended
        return exchange.quiet and not self._supervisor.held and nothing_to_get

    # Waiting --------------------------------------------------------------------------------------------------------

    def _listen(self) -> None:
        """Listen to what is handed over, and arm the doorbell if there is room and nothing to do."""
        now = time.monotonic()
        if self._exchange.outage.retry_at is not None or not self._exchange.registered:
            return
        try:
            if not self._bell.ear:
                self._bell.connect()
                self._bell_sock = self._bell.sock
                self._selector.register(self._bell_sock, selectors.EVENT_READ, self._on_bell)
                self._exchange.listens(self._bell.ear, now)
            if self._bell.armed and self._bell.without != self._exchange.paused:
                self._attend(self._bell.disarm(), now)  # a queue was paused, or goes on
            if not self._bell.armed and self._exchange.may_sleep(now):
                self._bell.arm(now, self._exchange.paused)
        except AWAY as error:
            self._lose_bell(error)

    def _wait(self) -> None:
        now = time.monotonic()
        times = [
            self._supervisor.next_time(),
            self._exchange.next_time(now),
            self._lines.next_time(),
            self._bell.overdue_at(),
            self._watch_memory.next_time(self._supervisor.running),
            self._give_up_at if self._supervisor.finished else None,
        ]
        known = [each for each in times if each is not None]
        timeout = max(0.0, min(known) - now) if known else None
        if (rest := self._exchange.rest(now)) > 0:
            # every report that comes wakes us up, on a CPU that an executor had just then
            time.sleep(rest)
            timeout = 0.0
        for key, events in self._selector.select(timeout):
            key.data(key.fileobj, events)
        overdue = self._bell.overdue_at()
        if overdue is not None and time.monotonic() >= overdue:
            self._lose_bell(TimeoutError("no answer from the server"))

    def _on_bell(self, *_: object) -> None:
        if not self._bell.ear:
            return  # dropped meanwhile
        try:
            self._attend(self._bell.read(), time.monotonic())
        except AWAY as error:
            self._lose_bell(error)

    def _attend(self, job: str | None, now: float) -> None:
        if handed := self._bell.handed():
            self._exchange.handed(handed, now)
        if job is not None:
            self._exchange.rung(job, now)

    def _stop_listening(self) -> None:
        """Nothing more is to come; what comes nevertheless is given back, for the supervisor drains."""
        if not self._bell.ear:
            return
        now = time.monotonic()
        try:
            self._exchange.wants_no_more(now)
            self._attend(self._bell.disarm(), now)
        except AWAY as error:
            self._lose_bell(error)

    def _lose_bell(self, error: Exception) -> None:
        if self._bell_sock is not None:
            self._selector.unregister(self._bell_sock)
            self._bell_sock = None
        self._attend(None, time.monotonic())  # what came in before it broke
        self._bell.drop()
        self._exchange.hearing.deaf()
        self._exchange.outage.failed(error, time.monotonic())

    def _on_wake(self, *_: object) -> None:
        for number in self._waker.read():
            if number == _HEART:
                self._on_heart()
            else:
                self._on_signal(number)

    def _on_heart(self) -> None:
        now = time.monotonic()
        answers = []
        while self._heart.answers:
            answers.append(self._heart.answers.popleft())
        self._carry_out(self._supervisor.beaten(answers, now))
        self._exchange.told_suspended(self._heart.suspended, now)
        if (order := self._heart.order) is not None and order != self._heard:
            self._heard = order  # a later one changes the time that is left: `tm workers stop` after `drain`
            self._on_order(order, now)

    def _on_order(self, order: DrainOrder, now: float) -> None:
        if self.broken:
            return  # everything was given back
        until = None if order.limit is None else now + order.limit + 2.0
        if self._signalled and (until is None or (self._give_up_at is not None and self._give_up_at <= until)):
            return  # whoever sent the signal allows less
        about = {} if order.limit is None else {"seconds": order.limit}
        said = "told to stop" if order.limit == 0 else "told to drain; running tasks may end"
        log.info(said, by=order.by, running=len(self._supervisor.held), **about)
        self._give_up_at = until
        self._carry_out(self._supervisor.drain(now, order.limit))
        self._stop_listening()

    def _on_signal(self, number: int) -> None:
        again = self._signalled or self.broken
        self._signalled = True
        limit = 0.0 if again else self._drain
        log.info(
            "stopping now" if again else "stopping; running tasks may end",
            signal=signal.Signals(number).name,
            running=len(self._supervisor.held),
            seconds=limit,
        )
        now = time.monotonic()
        # what the supervisor gives back has to be told to the server, if it is there
        self._give_up_at = now + limit + 2.0
        self._carry_out(self._supervisor.drain(now, limit))
        self._stop_listening()

    def _look_at_memory(self, now: float) -> None:
        limit = self._watch_memory.limit
        for number, size in self._watch_memory.beyond(self._supervisor.running, now).items():
            log.warning("an attempt takes too much memory and is ended", mib=size >> 20, limit=(limit or 0) >> 20)
            self._carry_out(self._supervisor.too_large(number, size, limit or 0, now))

    # Executors ------------------------------------------------------------------------------------------------------

    def _on_nursery(self, *_: object) -> None:
        news, ended = self._nursery.news()
        now = time.monotonic()
        for each in news:
            if isinstance(each, Born):
                self._watch_memory.born(each.number, each.pid)
                self._carry_out(self._supervisor.born(each.number, now))
            elif isinstance(each, Died):
                self._watch_memory.died(each.number)
                self._supervisor.hung_up(each.number, now)  # what it has not begun is not for it any more
                self._recall(each.number)  # and it may have reported before it died
                self._close(each.number)
                self._lines.died(each.number)
                if each.number in self._supervisor.executors:
                    log.debug("executor ended", pid=each.pid, exit_code=each.exit_code)
                self._carry_out(self._supervisor.died(each.number, each.exit_code, each.max_rss, now))
                self._lines.forget(each.number, self._supervisor.ended)
            else:
                log.warning("cannot fork an executor, trying again", reason=each.reason)
                self._close(each.number)
                self._lines.died(each.number)
                self._supervisor.unborn(each.number, now)
        if ended:
            log.error("the process that forks executors is gone; giving everything back and ending")
            self.broken = True
            self._give_up_at = now + self._drain
            self._selector.unregister(self._nursery)
            for number in list(self._channels):
                self._supervisor.hung_up(number, now)
                self._recall(number)
            self._supervisor.abandon(now)
            self._stop_listening()

    def _recall(self, number: int) -> None:
        """Take back what an executor has not begun, and after that read all it has said: then it can say no more."""
        stream = self._channels.get(number)
        if stream is None:
            self._carry_out(self._supervisor.returned(number, (), (), time.monotonic()))
        else:
            self._hear(number, stream, stream.take_back())

    def _running(self, number: int) -> Claim | None:
        """The attempt an executor is at, by what it has reported."""
        executor = self._supervisor.executors.get(number)
        return None if executor is None or executor.held is None else executor.held.claim

    def _on_executor(self, number: int, events: int = selectors.EVENT_READ) -> None:
        stream = self._channels.get(number)
        if stream is None:
            return  # closed meanwhile
        if events & selectors.EVENT_WRITE:
            with contextlib.suppress(OSError):  # its death is news of the nursery
                stream.flush()
            self._watch(number, stream)
        if events & selectors.EVENT_READ:
            self._hear(number, stream, None)

    def _hear_all(self) -> None:
        """Read what executors have said, without waiting."""
        for number in self._supervisor.running():
            if (stream := self._channels.get(number)) is not None:
                self._hear(number, stream, None)

    def _hear(self, number: int, stream: channel.SupervisorEnd, back: list[str] | None) -> None:
        """Read what an executor has said, since these jobs were taken back from it."""
        self._exchange.catch_up()  # claims come to an executor in the order they were given to it
        supervisor, now, rubbish = self._supervisor, time.monotonic(), None
        try:
            frames, ended = stream.receive()
        except channel.BrokenFrameError as error:
            frames, ended, rubbish = [], False, error
        if back is not None:
            self._carry_out(supervisor.returned(number, back, frames, now))
        else:
            for frame in frames:
                self._carry_out(supervisor.reported(number, frame, now))
        if rubbish is not None:
            log.warning("an executor sent rubbish and is ended", reason=rubbish)
            self._carry_out(supervisor.broken(number, now))
            self._close(number)
        elif ended and number in self._channels:
            supervisor.hung_up(number, now)
            self._close(number)

    def _watch(self, number: int, stream: channel.SupervisorEnd) -> None:
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if stream.wants_write else 0)
        self._selector.modify(stream, events, lambda _, ready: self._on_executor(number, ready))

    def _close(self, number: int) -> None:
        stream = self._channels.pop(number, None)
        if stream is not None:
            self._selector.unregister(stream)
            back = stream.take_back()
            stream.close()
            if back:
                self._carry_out(self._supervisor.returned(number, back, (), time.monotonic()))

    def _carry_out(self, actions: list[Action]) -> None:
        for action in actions:
            if isinstance(action, Run):
                self._send(action)
            elif isinstance(action, Spawn):
                self._spawn(action.number)
            elif isinstance(action, Recall):
                self._recall(action.number)
            elif isinstance(action, Signal):
                self._nursery.signal(action.number, action.signum)
            elif isinstance(action, Retire):
                self._close(action.number)

    def _send(self, run: Run) -> None:
        claim = run.claim
        fields = [
            claim.job,
            claim.token,
            claim.run,
            claim.graph,
            claim.task,
            claim.attempt,
            claim.tick_ms,
            claim.params,
            claim.config,
            claim.inputs,
            claim.timeout,
            claim.ends_ms,
        ]
        stream = self._channels.get(run.number)
        try:
            if stream is None:
                raise BrokenPipeError
            taken = stream.run(fields)
        except OSError:
            self._carry_out(self._supervisor.unsent(run.number, claim.job, time.monotonic()))
            return
        if not taken:
            self._carry_out(self._supervisor.unsent(run.number, claim.job, time.monotonic(), full=True))
        if stream.wants_write:
            self._watch(run.number, stream)

    def _spawn(self, number: int) -> None:
        pipes: tuple[int, ...] = ()
        try:
            pipes = self._lines.open(number)
            stream = self._nursery.spawn(number, pipes)
        except OSError as error:
            log.warning("cannot fork an executor, trying again", reason=error)
            self._lines.died(number)
            self._supervisor.unborn(number, time.monotonic())
            return
        finally:
            for descriptor in pipes:
                os.close(descriptor)
        self._channels[number] = stream
        self._selector.register(stream, selectors.EVENT_READ, lambda _, ready: self._on_executor(number, ready))


class Waker:
    """A pipe that wakes the loop up: signals, by Python's own wake-up descriptor, and heartbeats."""

    def __init__(self) -> None:
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._reader, False)
        os.set_blocking(self._writer, False)

    def fileno(self) -> int:
        """For a selector."""
        return self._reader

    def wake(self) -> None:
        """Called from the thread of heartbeats."""
        with contextlib.suppress(BlockingIOError):  # full: it will wake up anyway
            os.write(self._writer, bytes([_HEART]))

    def read(self) -> list[int]:
        """What came in: signal numbers, and 0 for a heartbeat."""
        try:
            return list(os.read(self._reader, 4096))
        except BlockingIOError:
            return []

    @contextlib.contextmanager
    def catching(self, *signals: signal.Signals) -> Iterator[None]:
        """Turn these signals into bytes in the pipe. One that is ignored, being meant for our parent, stays so."""
        caught = [each for each in signals if signal.getsignal(each) is not signal.SIG_IGN]
        before = {each: signal.signal(each, lambda *_: None) for each in caught}
        wakeup_before = signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        try:
            yield
        finally:
            signal.set_wakeup_fd(wakeup_before)
            for each, handler in before.items():
                signal.signal(each, handler)
