"""The clockwork: when a tick is due, hand it to the server, which makes exactly one run or one record of it.

The server's cursor says what was handled, so this file may forget everything: after an error, a restart or a
take-over it reads the cursors and goes on. Ticks are never dropped here; while the server is away or full the cursor
stands still and `due` sorts out later what was missed.
"""

from __future__ import annotations

import heapq
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import redis.exceptions

from tm.clock import from_ms
from tm.errors import ConfigError
from tm.ids import tick_run_id
from tm.logs import get_logger
from tm.states import RunState, Trigger
from tm.store.outages import is_outage
from tm.store.records import DueTick, Leadership, Pause, TickAnswer
from tm_scheduler.clock import JUMP_MS, ServerClock
from tm_scheduler.due import Paused, due, next_tick, trigger_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import tzinfo

    from tm.cron import Expression
    from tm.graph import Graph
    from tm.records import Plan

    #: told of each answer of the server: graph, tick, answer, and how many ms after the tick
    OnTick = Callable[[str, DueTick, TickAnswer, int], None]

log = get_logger("scheduler")

#: graphs in the first pipeline of a crowded instant: few, so that the first runs start early; then twice as many
FIRST_BATCH, LARGEST_BATCH = 8, 256
#: ticks of one graph in one call, for the server is deaf to others meanwhile
TICKS_PER_CALL = 50
#: seconds after which a pass stops even if more is due, so that the lease is renewed in between
LONGEST_PASS = 0.5
#: seconds between two looks whether a held tick may start
ASK_HELD_EVERY = 0.25
#: seconds between two looks whether a paused graph goes on
LOOK_AT_PAUSES_EVERY = 0.5
#: seconds until a server that was full is tried again, or one that refused a single graph
AGAIN_WHEN_FULL, AGAIN_WHEN_REFUSED = 1.0, 5.0


class TickStore(Protocol):
    """What the clockwork needs of the store."""

    def tick_many(self, leader: Leadership, due: Sequence[tuple[Plan, Sequence[DueTick]]]) -> list[list[TickAnswer]]:
        """Turn due ticks of many graphs into runs or records, in one pipeline."""
        ...

    def cursors(self) -> dict[str, int]:
        """The last tick handled, by graph."""
        ...

    def held(self) -> dict[str, int]:
        """The tick that waits for an open run to end, by graph."""
        ...

    def set_cursor_if_absent(self, graph: str, at_ms: int) -> int:
        """Where the ticks of a new graph begin."""
        ...

    def open_count(self, graph: str) -> int:
        """How many runs of a graph are open."""
        ...

    def pauses(self) -> dict[str, Pause]:
        """Pauses by graph ("" for all), those that are over included."""
        ...

    def settle(self, pause: Pause) -> bool:
        """Forget a pause that is over and dealt with."""
        ...


@dataclass(slots=True)
class _Hand:
    """One graph on the clock. Mutable: the cursor and the held tick move with the answers of the server."""

    graph: Graph
    schedule: Expression
    zone: tzinfo
    cursor_ms: int = 0
    held: DueTick | None = None
    paused: bool = False  #: off the clock until somebody resumes it
    past: Paused | None = None  #: the pause whose ticks have not been dealt with


class TickMaker:
    """Makes the ticks of all graphs that have a schedule, as long as the caller leads.

    Args:
        store: where ticks go.
        graphs: manual ones are passed over.
        clock: the server's.
        zone: for graphs that name none.
        monotonic: seconds, for pauses.
        on_tick: counts what becomes of ticks, where somebody watches.
    """

    def __init__(
        self,
        store: TickStore,
        graphs: Sequence[Graph],
        clock: ServerClock,
        zone: tzinfo,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        on_tick: OnTick | None = None,
    ) -> None:
        self._store, self._clock, self._monotonic = store, clock, monotonic
        self._on_tick = on_tick
        self._hands = [
            _Hand(graph, graph.schedule, graph.timezone or zone) for graph in graphs if graph.schedule is not None
        ]
        self._queue: list[tuple[int, int]] = []  # heap of (when to look, index of the hand)
        self._ask_held_at = 0.0
        self._look_at_pauses_at = 0.0
        self._ended: list[Pause] = []  # pauses that are over, to be settled
        self._full_until = 0.0
        self._full = False

    def start(self, recall: Callable[[], Mapping[str, int]] = dict) -> None:
        """Read where the server's cursors stand; to be called whenever leadership or connection is new.

        A graph the server has never seen begins now: ticks before it was known are not missed ticks. Unless `recall`
        knows its last tick, because the server has been emptied.
        """
        now = self._clock.now_ms()
        cursors, held = self._store.cursors(), self._store.held()
        recalled = recall() if any(hand.graph.name not in cursors for hand in self._hands) else {}
        for hand in self._hands:
            name = hand.graph.name
            cursor = cursors.get(name)
            hand.cursor_ms = (
                self._store.set_cursor_if_absent(name, recalled.get(name, now)) if cursor is None else cursor
            )
            hand.held = self._still_held(hand, held[name], now) if name in held else None
            if hand.cursor_ms > now + JUMP_MS:
                log.warning(
                    "the server's clock is behind the last tick; no tick is made before it has caught up",
                    graph=name,
                    last_tick=_shown(hand.cursor_ms),
                )
        self._ask_held_at = self._full_until = 0.0
        self._read_pauses(now)
        self._wind()

    def one_pass(self, leader: Leadership) -> bool:
        """Make what is due, earliest first; returns False when the server says that somebody else leads.

        Raises:
            redis.exceptions.RedisError: the server is away. Call `start` before the next pass.
        """
        if self._monotonic() < self._full_until:
            return True
        try:
            self._look_at_pauses()
            going = self._make_due(leader) and self._ask_held(leader)
            if going:
                self._settle_pauses()
        except redis.exceptions.OutOfMemoryError:
            if not self._full:
                log.warning("the server is full (maxmemory); ticks are held until it has room")
            self._full, self._full_until = True, self._monotonic() + AGAIN_WHEN_FULL
            self._wind()
            return True
        return going

    def seconds_left(self) -> float:
        """Until there is something to do: exactly the next tick, a look at held ticks, or a full server again."""
        now = self._monotonic()
        left = self._clock.seconds_until(self._queue[0][0]) if self._queue else 3600.0
        if any(hand.held and not hand.paused for hand in self._hands):
            left = min(left, self._ask_held_at - now)
        if any(hand.paused for hand in self._hands):
            left = min(left, self._look_at_pauses_at - now)
        return max(0.0, left, self._full_until - now)

    def upcoming(self) -> list[tuple[Graph, int | None]]:
        """Every graph with its next tick in ms, for people."""
        following = {index: at for at, index in self._queue}
        return [(hand.graph, following.get(index)) for index, hand in enumerate(self._hands)]

    def is_paused(self, graph: str) -> bool:
        """Whether a graph has no next tick because it is paused."""
        return any(hand.paused for hand in self._hands if hand.graph.name == graph)

    def _wind(self) -> None:
        """Put every graph on the clock by its cursor."""
        self._queue = [
            (following, index)
            for index, hand in enumerate(self._hands)
            if not hand.paused and (following := next_tick(hand.schedule, hand.zone, hand.cursor_ms)) is not None
        ]
        heapq.heapify(self._queue)

    def _read_pauses(self, now: int) -> None:
        """Which graphs are paused, and which were until a while ago."""
        self._look_at_pauses_at = self._monotonic() + LOOK_AT_PAUSES_EVERY
        pauses = self._store.pauses()
        self._ended = [each for each in pauses.values() if each.ended_ms(now) is not None]
        for hand in self._hands:
            name = hand.graph.name
            found = [pauses[key] for key in (name, "") if key in pauses]
            was, hand.paused = hand.paused, any(each.ended_ms(now) is None for each in found)
            over = [_past(each, at) for each in found if (at := each.ended_ms(now)) is not None]
            hand.past = max(over, key=lambda each: each.ended_ms) if over and not hand.paused else None
            if was != hand.paused:
                log.info("paused" if hand.paused else "resumed", graph=name)

    def _look_at_pauses(self) -> None:
        """Put graphs whose pause is over back on the clock."""
        if not any(hand.paused for hand in self._hands) or self._monotonic() < self._look_at_pauses_at:
            return
        self._read_pauses(self._clock.now_ms())
        self._wind()

    def _settle_pauses(self) -> None:
        """What was missed in pauses that are over has been dealt with, as soon as nothing more is due."""
        if self._ended and not (self._queue and self._queue[0][0] <= self._clock.now_ms()):
            for pause in self._ended:
                self._store.settle(pause)
            self._ended = []
            for hand in self._hands:
                hand.past = None

    def _make_due(self, leader: Leadership) -> bool:
        started, size = self._monotonic(), FIRST_BATCH
        while self._queue and self._queue[0][0] <= (now := self._clock.now_ms()):
            batch: list[tuple[int, list[DueTick]]] = []
            while self._queue and self._queue[0][0] <= now and len(batch) < size:
                _, index = heapq.heappop(self._queue)
                batch.append((index, self._due_ticks(self._hands[index], now)))
            if not self._send(leader, batch):
                return False
            if self._monotonic() - started > LONGEST_PASS:
                break
            size = min(size * 2, LARGEST_BATCH)
        return True

    def _due_ticks(self, hand: _Hand, now: int) -> list[DueTick]:
        graph = hand.graph
        found = due(
            hand.schedule,
            hand.zone,
            cursor_ms=hand.cursor_ms,
            now_ms=now,
            misfire=graph.misfire,
            misfire_window=graph.misfire_window,
            pause=hand.past,
        )
        skips = [_skip(graph, tick, reason) for tick, reason in found.skipped]
        missed = hand.past.ended_ms if hand.past else -1  # in the pause, however short ago
        return skips + [
            _run(graph, tick, Trigger.CATCHUP if tick <= missed else trigger_of(tick, now)) for tick in found.run
        ]

    def _send(self, leader: Leadership, batch: Sequence[tuple[int, list[DueTick]]]) -> bool:
        """Hand a batch to the server, and put its graphs back on the clock."""
        calls = [
            (index, ticks[first : first + TICKS_PER_CALL])
            for index, ticks in batch
            for first in range(0, len(ticks), TICKS_PER_CALL)
        ]
        try:
            answers = self._store.tick_many(leader, [(self._hands[index].graph.plan, ticks) for index, ticks in calls])
        except redis.exceptions.ResponseError as error:
            if isinstance(error, redis.exceptions.OutOfMemoryError) or is_outage(error):
                raise
            if len(batch) > 1:  # find the one: the others must not suffer
                return all(self._send(leader, [each]) for each in batch)
            self._refused(batch[0][0], error)
            return True
        if any(TickAnswer.FENCED in each for each in answers):
            return False
        if self._full:
            self._full = False
            log.info("the server has room again; held ticks are made now")
        for (index, ticks), said in zip(calls, answers, strict=True):
            self._note(self._hands[index], ticks, said)
        for index, _ in batch:
            hand = self._hands[index]
            if hand.paused:
                continue
            following = next_tick(hand.schedule, hand.zone, hand.cursor_ms)
            if following is not None:
                heapq.heappush(self._queue, (following, index))
        return True

    def _refused(self, index: int, error: redis.exceptions.ResponseError) -> None:
        log.warning(
            "the server refused the tick of a graph; it is tried again",
            graph=self._hands[index].graph.name,
            error=str(error),
        )
        heapq.heappush(self._queue, (self._clock.now_ms() + round(AGAIN_WHEN_REFUSED * 1000), index))

    def _note(self, hand: _Hand, ticks: Sequence[DueTick], answers: Sequence[TickAnswer]) -> None:
        for tick, answer in zip(ticks, answers, strict=True):
            if self._on_tick is not None:
                self._on_tick(hand.graph.name, tick, answer, self._clock.now_ms() - tick.at_ms)
            if answer is TickAnswer.PAUSED:
                if not hand.paused:
                    hand.paused, self._look_at_pauses_at = True, self._monotonic() + LOOK_AT_PAUSES_EVERY
                    log.info("paused", graph=hand.graph.name)
                return
            hand.cursor_ms = max(hand.cursor_ms, tick.at_ms)
            if answer is TickAnswer.HELD:
                if hand.held is None:
                    self._ask_held_at = self._monotonic() + ASK_HELD_EVERY
                hand.held = tick
            elif hand.held is not None and hand.held.at_ms == tick.at_ms:
                hand.held = None
            usual = answer is TickAnswer.EXISTS or (answer is TickAnswer.CREATED and tick.born is RunState.QUEUED)
            failed = answer is TickAnswer.CREATED and tick.born is RunState.FAILED  # its config file cannot be read
            say = log.debug if usual else log.warning if failed else log.info
            say(
                "tick failed" if failed else "tick",
                graph=hand.graph.name,
                run=tick.run,
                answer=answer.value,
                state=tick.born.value,
                reason=tick.reason,
            )

    def _ask_held(self, leader: Leadership) -> bool:
        """Start the ticks that overlap="queue" kept waiting and whose graph has no open run any more."""
        waiting = [hand for hand in self._hands if hand.held is not None and not hand.paused]
        if not waiting or self._monotonic() < self._ask_held_at:
            return True
        self._ask_held_at = self._monotonic() + ASK_HELD_EVERY
        for hand in waiting:
            assert hand.held is not None  # noqa: S101 - for the type checker: filtered above
            if hand.held.born is RunState.QUEUED and self._is_full(hand.graph):
                continue
            # the config is read when the run starts, not when the tick was due
            again = hand.held
            if again.born is RunState.QUEUED:
                again = _run(hand.graph, again.at_ms, again.trigger)
            [answers] = self._store.tick_many(leader, [(hand.graph.plan, [again])])
            if TickAnswer.FENCED in answers:
                return False
            self._note(hand, [again], answers)
        return True

    def _still_held(self, hand: _Hand, tick_ms: int, now: int) -> DueTick:
        """A tick an earlier leader left waiting: it waits on beside an open run, else its misfire window counts."""
        late = now - tick_ms
        if late > hand.graph.misfire_window * 1000 and not self._is_full(hand.graph):
            window = f"{hand.graph.misfire_window:g} s"
            reason = f"misfire: {late // 1000} s late, outside the misfire window of {window}"
            return _skip(hand.graph, tick_ms, reason)
        run = tick_run_id(hand.graph.name, from_ms(tick_ms))
        return DueTick(run=run, at_ms=tick_ms, overlap="queue", most=hand.graph.max_active_runs or 0)

    def _is_full(self, graph: Graph) -> bool:
        return self._store.open_count(graph.name) >= (graph.max_active_runs or 1)


def _run(graph: Graph, tick_ms: int, trigger: Trigger) -> DueTick:
    """A tick as the run it becomes; with a broken config it is a run that has failed, and the clock goes on."""
    run = tick_run_id(graph.name, from_ms(tick_ms))
    try:
        config = graph.read_config() or ""
    except Exception as error:  # noqa: BLE001 - whatever a file may hold, it must not stop the clock
        reason = str(error) if isinstance(error, ConfigError) else f"config file {graph.config}: {error!r:.500}"
        return DueTick(run=run, at_ms=tick_ms, trigger=trigger, born=RunState.FAILED, reason=reason)
    most = graph.max_active_runs or 0
    # a limit needs a rule for what is beyond it
    overlap = "queue" if most and graph.overlap == "allow" else graph.overlap
    return DueTick(run=run, at_ms=tick_ms, config=config, trigger=trigger, overlap=overlap, most=most)


def _past(pause: Pause, ended_ms: int) -> Paused:
    reason = f"paused by {pause.by}" + (f" ({pause.reason})" if pause.reason else "")
    return Paused(ended_ms=ended_ms, why=reason, catch_up=pause.catch_up)


def _skip(graph: Graph, tick_ms: int, reason: str) -> DueTick:
    run = tick_run_id(graph.name, from_ms(tick_ms))
    return DueTick(run=run, at_ms=tick_ms, trigger=Trigger.CATCHUP, born=RunState.SKIPPED, reason=reason)


def _shown(ms: int) -> str:
    return from_ms(ms).isoformat().replace("+00:00", "Z")
