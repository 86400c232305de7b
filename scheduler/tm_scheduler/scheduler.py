"""One scheduler: it leads or stands by, and while it leads the clock runs and the sweep goes round.

One thread, one connection, driven by `one_pass`; how long it may sleep until the next pass it knows exactly.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from tm import callbacks
from tm.clock import from_ms
from tm.ids import slug
from tm.logs import get_logger
from tm.store.looking import MAX_BACKLOG
from tm_scheduler.clock import ServerClock
from tm_scheduler.leader import TTL_MS, Leader
from tm_scheduler.sweep import Sweep
from tm_scheduler.ticks import TickMaker

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from zoneinfo import ZoneInfo

    from tm.graph import Graph
    from tm.store.records import Leadership
    from tm.store.store import Store
    from tm_scheduler.ticks import OnTick

log = get_logger("scheduler")

#: seconds between two looks at the server's clock
MEASURE_EVERY = 3.0
#: seconds a standby leaves the leader to make its graphs known, before it compares them with its own
COMPARE_AFTER = 5.0
#: a step of the server's clock that makes leases look older than they are
STEP_MS = 2000


class Scheduler:
    """Makes ticks and sweeps while it leads.

    Args:
        store: the server.
        graphs: all that this process knows, manual ones included.
        zone: for graphs that name none.
        lease: seconds a worker may be silent.
        who: unlike any other scheduler's, of this boot or another.
        ttl_ms: how long the leadership lasts without renewal.
        max_backlog: bytes of events that may wait for history; beyond, ticks are held until it has caught up.
        recall: the last tick of each graph as history has it, asked when the server knows none.
        on_lead: told True when leadership begins and False when it ends.
        on_tick: see `TickMaker`.
    """

    def __init__(
        self,
        store: Store,
        graphs: Sequence[Graph],
        *,
        zone: ZoneInfo,
        lease: float,
        who: str,
        ttl_ms: int = TTL_MS,
        on_lead: Callable[[bool], None] = lambda _: None,
        recall: Callable[[], Mapping[str, int]] = dict,
        on_tick: OnTick | None = None,
        max_backlog: int = MAX_BACKLOG,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store, self._graphs, self._zone = store, graphs, zone
        self._on_lead, self._recall, self._monotonic = on_lead, recall, monotonic
        self._leader = Leader(store, who, ttl_ms=ttl_ms, monotonic=monotonic)
        self._clock = ServerClock(store, monotonic=monotonic)
        self._ticks = TickMaker(store, graphs, self._clock, zone, monotonic=monotonic, on_tick=on_tick)
        self._sweep = Sweep(store, lease=lease, monotonic=monotonic, server_ms=self._clock.now_ms)
        self._office: Leadership | None = None  # the leadership for which everything is set up
        self._measure_at = 0.0
        self._max_backlog, self._behind = max_backlog, False  # whether history is too far behind for more ticks
        self.standing_by = False
        self._compare_at: float | None = None
        self.leading = False

    @property
    def term(self) -> int:
        """A number that grows with every change of leader; 0 for one that does not lead."""
        office = self._office
        return office.token if office else 0

    def one_pass(self, *, ticking: bool = True) -> None:
        """Lead or ask to; when leading, make the due ticks (unless told not to) and sweep.

        Raises:
            redis.exceptions.RedisError: the server is away. Call `interrupted`, wait, try again.
        """
        leadership = self._leader.one_pass()
        if leadership is None:
            self._stand_by()
            return
        if leadership != self._office:
            self._take_office(leadership)
        if self._monotonic() >= self._measure_at:
            self._measure()
        if ticking and not self._behind and not self._ticks.one_pass(leadership):
            self._leader.step_down()
            self._stand_by()
            return
        self._sweep.one_pass()

    def seconds_left(self, *, ticking: bool = True) -> float:
        """How long nothing has to be done."""
        left = self._leader.seconds_left()
        if self.leading:
            left = min(left, self._sweep.seconds_left(), max(0.0, self._measure_at - self._monotonic()))
            if ticking and not self._behind:
                left = min(left, self._ticks.seconds_left())
        return left

    def has_open_runs(self) -> bool:
        """Whether runs of our graphs have not ended, or callbacks of them wait; a standby is not responsible for any.

        Runs of other graphs, left over from another file or run by others, are nothing we could wait for.
        """
        if not self.leading:
            return False
        telling = tuple(f"{slug(graph.name)}-" for graph in self._graphs if graph.plan.has_callbacks)
        if telling and any(job.startswith(telling) for job in self._store.waiting(callbacks.QUEUE)):
            return True
        return any(self._store.open_count(graph.name) for graph in self._graphs)

    def interrupted(self) -> None:
        """The server was away: look at everything afresh, and give workers time to be heard of again."""
        self._office = None
        self._leader.ask_now()
        self._sweep.hold_reaping()

    def told_of_retries(self, due_ms: int | None) -> None:
        """Somebody watches the events, and the next retry is due at that time of the server's; from any thread."""
        due = None if due_ms is None else self._monotonic() + self._clock.seconds_until(due_ms)
        self._sweep.told_of_retries(due)

    def resign(self) -> None:
        """Let a standby take over at once; no pass may follow.

        `on_lead` hears nothing: what this scheduler still does for the runs it made, such as filing them, may go on.
        """
        self.leading = False
        self._leader.resign()

    def _take_office(self, leadership: Leadership) -> None:
        self._measure()
        for graph in self._graphs:
            # with the token, so that a graph which only an earlier leader knew is told from one that is on the clock
            self._store.define(graph.plan, {**graph.about(self._zone), "leader": leadership.token})
        self._ticks.start(self._recall)
        self._office = leadership
        if not self.leading:
            self.leading, self.standing_by = True, False
            log.info("leading", who=self._leader.who, graphs=len(self._graphs))
            for graph, tick in self._ticks.upcoming():
                none = "paused" if self._ticks.is_paused(graph.name) else "never"
                after = none if tick is None else from_ms(tick).astimezone(graph.timezone or self._zone)
                log.info("on the clock", graph=graph.name, schedule=str(graph.schedule), next=str(after))
            self._on_lead(True)

    def _stand_by(self) -> None:
        self._leave_office()
        if not self.standing_by:
            self.standing_by, self._compare_at = True, self._monotonic() + COMPARE_AFTER
            log.info("standing by", who=self._leader.who)
        if self._compare_at is not None and self._monotonic() >= self._compare_at:
            self._compare_at = None
            known = self._store.graphs()
            if unknown := [graph.name for graph in self._graphs if graph.name not in known]:
                log.warning(
                    "the leading scheduler does not know these graphs, so they do not run: "
                    "all schedulers of a namespace load the same files",
                    graphs=", ".join(unknown),
                )

    def _leave_office(self) -> None:
        self._office = None
        if self.leading:
            self.leading = False
            self._on_lead(False)

    def _measure(self) -> None:
        self._measure_at = self._monotonic() + MEASURE_EVERY
        if abs(self._clock.measure()) > STEP_MS:
            self._sweep.hold_reaping()
        waiting = self._store.backlog_bytes()
        behind = waiting > self._max_backlog
        if behind and not self._behind:
            log.error("history is too far behind; ticks are held until it has caught up", mib=waiting >> 20)
        elif self._behind and not behind:
            log.info("history has caught up; held ticks are made now")
        self._behind = behind
