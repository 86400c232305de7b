"""Moves what happened from the server's event stream into history; the server then forgets it.

Nothing waits for this duty: while history is locked or full the entries stay on the server, and are filed later.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import redis.exceptions

from tm.errors import SettingsError
from tm.events import RunCreated, entry_of
from tm.logs import get_logger
from tm.store.outages import is_refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tm.events import Event
    from tm.records import Plan

log = get_logger("scheduler")


class EventSource(Protocol):
    """What the archiver needs of the Store."""

    def instance(self) -> str:
        """The id of this server's data: stream ids of two servers have nothing to do with each other."""
        ...

    def events(self, after: str, count: int = 500, block_ms: int | None = None) -> list[tuple[str, Event]]:
        """All events of up to `count` entries after this one, with their ids; waits up to `block_ms` for the first."""
        ...

    def ack(self, upto: str) -> None:
        """Everything up to and including this entry is safe elsewhere and may be forgotten."""
        ...

    def plan(self, version: str) -> Plan | None:
        """What a version of a graph looks like; None when the server does not know it."""
        ...


class Archive(Protocol):
    """What the archiver needs of History."""

    def position(self, source: str = "default") -> str:
        """The last entry that was recorded."""
        ...

    def record(self, events: Sequence[tuple[str, Event]], *, source: str = "default") -> None:
        """File these events, all of their entries, and the new position, in one transaction; safe to repeat."""
        ...

    def undefined(self) -> list[str]:
        """The versions of graphs of which it does not know what they look like."""
        ...

    def define(self, plan: Plan) -> None:
        """File what a version looks like; safe to repeat."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiverConfig:
    """How the archiver goes about it."""

    batch: int = 500  #: entries read at once, and events after which a transaction ends with their entry
    block_ms: int = 500  #: how long one pass waits for something to happen; also delays the end of the service

    def __post_init__(self) -> None:
        """Refuse what would make it spin or stand still."""
        if self.batch < 1:
            raise SettingsError(f"the archiver's batch must be at least 1, not {self.batch}")
        if self.block_ms < 1:  # 0 means for ever to the server, and the service could not stop
            raise SettingsError(f"the archiver's block_ms must be at least 1, not {self.block_ms}")


class Archiver:
    """One background duty of the scheduler that leads. Two of them at once do no harm: history knows the position."""

    def __init__(
        self,
        store: EventSource,
        history: Archive,
        config: ArchiverConfig | None = None,
        *,
        on_source: Callable[[str], None] = lambda _: None,
    ) -> None:
        """See the class; `on_source` is told which data the server holds, at first and when that has changed."""
        self._store = store
        self._history = history
        self._config = config or ArchiverConfig()
        self._known: tuple[str, str] | None = None  #: source and position; None at first and after any trouble
        self._on_source = on_source
        self._seen: set[str] = set()  #: versions of graphs that need not be looked at again

    def one_pass(self) -> int:
        """File the next events, if need be after waiting for them, and return how many there were.

        Raises:
            UnavailableError: history does not take them now. Nothing is lost; call again after a while.
            redis.exceptions.RedisError: the server is away; the same holds.
        """
        known = self._known
        # asked each time: a server may be emptied under an open connection
        source, position = known if known and known[0] == self._store.instance() else self._look_up()
        self._known = None
        events = self._store.events(position, self._config.batch, self._config.block_ms)
        for portion in portions(events, self._config.batch):
            self._history.record(portion, source=source)
            self._define(portion)
            position = entry_of(portion[-1][0])
            self._store.ack(position)
        self._known = source, position
        return len(events)

    def _define(self, events: Sequence[tuple[str, Event]]) -> None:
        """File what the graphs of new runs look like; also those of before that history has never been told of.

        Each version is asked for once; where that fails, the next run of it is the occasion.
        """
        new = {event.version for _, event in events if isinstance(event, RunCreated)} - self._seen
        if not new:
            return
        for version in self._history.undefined():
            if version not in self._seen:
                plan = self._plan(version)
                if plan is not None:
                    self._history.define(plan)
                self._seen.add(version)
        self._seen |= new

    def _plan(self, version: str) -> Plan | None:
        """What the server holds of a version; None also when it is damaged: events must not wait for that."""
        try:
            return self._store.plan(version)
        except Exception as error:
            if isinstance(error, redis.exceptions.RedisError | OSError) and not is_refusal(error):
                raise
            log.warning("what a graph looks like cannot be read on the server", version=version, reason=repr(error))
            return None

    def _look_up(self) -> tuple[str, str]:
        source = self._store.instance()
        self._on_source(source)
        position = self._history.position(source)
        self._store.ack(position)  # the last pass may have ended between recording and this
        return source, position


def portions(events: Sequence[tuple[str, Event]], enough: int) -> Iterator[Sequence[tuple[str, Event]]]:
    """The same events cut after so many of them, but only where an entry ends: positions are entries."""
    begin = 0
    for here in range(1, len(events)):
        if here - begin >= enough and entry_of(events[here][0]) != entry_of(events[here - 1][0]):
            yield events[begin:here]
            begin = here
    if events:
        yield events[begin:]
