"""The threads that tell a webhook what went wrong: one reads events, one sends; nothing else waits for either.

What is to be sent lies in the server until it is sent, so a change of leader or a receiver that is away for hours loses
nothing; it may be sent twice, with the same id. Both threads work while this process leads, on their own connections.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import redis.exceptions

from tm import runinfo
from tm.errors import TaskmasterError
from tm.events import entry_of, order_of
from tm.logs import get_logger
from tm.store.outbox import Alert, Outbox, Tries
from tm_scheduler import webhook
from tm_scheduler.outage import Backoff

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from tm.config import Settings
    from tm.runinfo import RunInfo
    from tm.store.store import Store

log = get_logger("scheduler")

#: messages that may wait for a receiver; what comes on top is left out, and said in the log
MOST = 10_000
#: entries taken up at once; some 30 events in each at most, and a look at its run for each that is worth a message
BATCH = 100
#: ms one look at the events waits for the first of them; how long the end of the process may have to wait for it
BLOCK_MS = 500
#: seconds between two looks whether another process has left something to send
LOOK_EVERY = 1.0

Send = Callable[[str, bytes | None, Alert, int], webhook.Reply]


class Collector:
    """Reads the events for those that are worth a message; the position outlives it."""

    def __init__(self, store: Store, outbox: Outbox, wanted: Collection[str], *, block_ms: int = BLOCK_MS) -> None:
        self._store, self._outbox, self._wanted, self._block_ms = store, outbox, wanted, block_ms

    def one_pass(self, batch: int = BATCH) -> tuple[str, int]:
        """Take up the events of the next entries, if need be after waiting for the first.

        Returns:
            The position, and how many events there were.
        """
        position = self._outbox.position()
        events = self._store.events(position, batch, self._block_ms)
        if not events:
            return position, 0
        found = [
            webhook.alert_of(id_, event, self._wanted, self._store.keys.namespace, self._look_up)
            for id_, event in events
        ]
        after = entry_of(events[-1][0])
        left_out = self._outbox.collect(position, after, [each for each in found if each], MOST)
        if left_out:
            log.error("too many alerts wait for the webhook; the latest are left out", left_out=left_out, waiting=MOST)
        return (position, 0) if left_out is None else (after, len(events))

    def _look_up(self, run: str) -> RunInfo | None:
        view = self._store.run(run)
        return None if view is None else runinfo.from_view(view)


class Sender:
    """Sends what waits, in order; what the receiver cannot take now is tried again, for hours."""

    def __init__(self, store: Store, outbox: Outbox, url: str, key: bytes | None, send: Send = webhook.send) -> None:
        self._store, self._outbox, self._url, self._key, self._send = store, outbox, url, key, send
        self._where = urlsplit(url).hostname or "?"

    def one_pass(self) -> float | None:
        """Send the next message if it is time to; returns seconds until the next try, None when nothing waits."""
        head = self._outbox.head()
        if head is None:
            return None
        alert, tries = head
        now = self._store.server_ms()
        if tries.next_ms > now:
            return (tries.next_ms - now) / 1000
        reply = self._send(self._url, self._key, alert, now // 1000)
        about = {"type": alert.type, "run": alert.run, "id": alert.id, "host": self._where}
        if reply.sent:
            self._outbox.remove(alert)
            log.info("alert sent", **about)
            return 0.0
        count, first = tries.count + 1, tries.first_ms or now
        if not reply.again or now - first > webhook.GIVE_UP * 1000:
            self._outbox.remove(alert)
            self._store.note(alert.run, "webhook", alert.type, "given up", reply.problem)
            log.error("alert given up", problem=reply.problem, tries=count, **about)
            return 0.0
        pause = webhook.pause_after(count, reply)
        after = self._store.server_ms() + round(pause * 1000)
        self._outbox.postpone(alert, replace(tries, count=count, first_ms=first, next_ms=after))
        again = {"tries": count, "again_in": f"{pause:.3g}s"}
        log.warning("alert not sent, tried again", problem=reply.problem, **again, **about)
        return pause


class Alerts:
    """Collects and sends in threads of its own, while this process leads."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._url = settings.webhook_url or ""
        self._key = None if settings.webhook_secret is None else webhook.key_of(settings.webhook_secret)
        self._changed = threading.Condition()
        self._active = self._stopped = False
        self._position = "0-0"  # the entry up to which events are collected
        self._idle = {"collect": False, "send": False}  # whether the last pass found nothing to do now
        self._threads = [
            threading.Thread(target=self._work, args=("collect", self._collecting), name="alerts", daemon=True),
            threading.Thread(target=self._work, args=("send", self._sending), name="webhook", daemon=True),
        ]

    def start(self) -> None:
        """Start the threads; they do nothing before `lead(True)`."""
        for each in self._threads:
            each.start()

    def lead(self, leading: bool) -> None:
        """Say whether this process is the one that sends."""
        with self._changed:
            self._active = leading
            self._changed.notify_all()

    def holding(self, ack: Callable[[str], None]) -> Callable[[str], None]:
        """An `ack` of events that lets none go that has not been collected."""

        def held(upto: str) -> None:
            ack(min(upto, self._position, key=order_of))

        return held

    def finish(self, timeout: float) -> bool:
        """Collect and send what is there; False when something is left after `timeout` seconds."""
        with self._changed:
            if not self._active:
                return True
            self._idle = dict.fromkeys(self._idle, False)
            self._changed.notify_all()
            done = self._changed.wait_for(lambda: all(self._idle.values()), timeout)
            self._active = False
            return done and not self._left()

    def stop(self, timeout: float = 1.0) -> None:
        """End the threads; a try that is under way is left to its fate, which is to be made again."""
        with self._changed:
            self._active, self._stopped = False, True
            self._changed.notify_all()
        for each in self._threads:
            if each.is_alive():
                each.join(timeout)

    def _left(self) -> bool:
        try:
            with self._connected() as (_, outbox):
                return outbox.waiting() > 0
        except redis.exceptions.RedisError:
            return True

    def _work(self, name: str, turn: Callable[[Store, Outbox], None]) -> None:
        backoff, trouble = Backoff(), ""
        while self._our_turn():
            try:
                with self._connected() as (store, outbox):
                    while self._active and not self._stopped:
                        turn(store, outbox)
                        backoff.reset()
                        trouble = ""
            except (TaskmasterError, redis.exceptions.RedisError, OSError) as error:
                if str(error) != trouble:
                    log.warning("alerts wait; tried again until it works", part=name, error=str(error))
                trouble = str(error)
                self._rest(backoff.pause())
            except Exception:
                log.exception("alerts wait, for a reason nobody foresaw; tried again until it works", part=name)
                self._rest(backoff.pause())

    def _collecting(self, store: Store, outbox: Outbox) -> None:
        asked = not self._idle["collect"]
        self._position, count = Collector(store, outbox, self._settings.webhook_events).one_pass()
        with self._changed:
            self._idle["collect"] = asked and not count
            if count:
                self._idle["send"] = False
            self._changed.notify_all()

    def _sending(self, store: Store, outbox: Outbox) -> None:
        pause = Sender(store, outbox, self._url, self._key).one_pass()
        if pause == 0.0:
            return
        with self._changed:
            # what has to wait for its next try is nothing to wait for at the end
            self._idle["send"] = self._idle["collect"]
            self._changed.notify_all()
        self._rest(min(LOOK_EVERY, pause or LOOK_EVERY))

    @contextmanager
    def _connected(self) -> Iterator[tuple[Store, Outbox]]:
        from tm.wiring import connect, open_store

        client = connect(self._settings)
        try:
            store = open_store(self._settings, client)
            yield store, Outbox(client, store.keys)
        finally:
            client.close()

    def _our_turn(self) -> bool:
        with self._changed:
            self._changed.wait_for(lambda: self._active or self._stopped)
            return not self._stopped

    def _rest(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        with self._changed:
            # woken by whatever is collected meanwhile, and by the end
            self._changed.wait(max(0.0, until - time.monotonic()))


__all__ = ["Alerts", "Collector", "Sender", "Tries"]
