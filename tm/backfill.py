"""Running past ticks on request: which of a range are to run, and then so many at a time.

The run of a tick has the one id of that tick, so a backfill that is repeated, or meets the scheduler, starts nothing
twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from tm import codec
from tm.clock import to_ms
from tm.errors import RefusedError
from tm.ids import tick_run_id
from tm.requests import asking, check_params, pause_of, read_config, ticks_after, told
from tm.retries import plan_afresh, plan_retry, start_afresh, start_retry
from tm.states import FINAL_RUN_STATES, RunState, Trigger
from tm.store.records import NewRun, TriggerAnswer

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import datetime

    from tm.client import Client

#: ticks of one backfill
MOST = 10_000
#: seconds between two looks whether there is room, when the open runs are not ours
LOOK_EVERY = 1.0


class Mode(StrEnum):
    """Which ticks of the range are to run."""

    MISSING = "missing"  #: those that never ran; skipped ones never did
    FAILED = "failed"  #: those whose last run did not succeed
    ALL = "all"


class Action(StrEnum):
    """What is to be done about a tick."""

    START = "start"  #: its first run
    REPAIR = "repair"  #: a retry of its last run, which keeps what succeeded
    REPEAT = "repeat"  #: another run from the beginning
    NOTHING = "nothing"  #: it ran, or runs now


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """One tick of the range."""

    at: datetime
    action: Action
    run: str  #: to be started; else the last run of this tick
    last: str = ""  #: the last run of this tick; empty if there was none
    state: RunState | None = None  #: of that


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What has just happened."""

    tick: Tick
    state: RunState  #: QUEUED: its run was started; else how it ended
    run: str


def choose(ticks: Sequence[datetime], graph: str, states: Mapping[str, RunState], mode: Mode) -> list[Tick]:
    """What is to be done about each tick; pure.

    Args:
        ticks: in any order.
        graph: their graph.
        states: of the runs of these ticks and of their retries, by id, as far as there are any.
        mode: which ticks are to run.
    """
    found = []
    for at in ticks:
        base = tick_run_id(graph, at)
        number, last = 1, base if base in states else ""
        while f"{base}-{number + 1}" in states:
            number += 1
            last = f"{base}-{number}"
        state = states.get(last)
        action = _action(state, mode)
        run = base if not last else f"{base}-{number + 1}" if action is not Action.NOTHING else last
        found.append(Tick(at=at, action=action, run=run, last=last, state=state))
    return found


def _action(state: RunState | None, mode: Mode) -> Action:
    if state is None:
        return Action.NOTHING if mode is Mode.FAILED else Action.START
    if state not in FINAL_RUN_STATES:
        return Action.NOTHING
    if mode is Mode.ALL or (mode is Mode.MISSING and state is RunState.SKIPPED):
        return Action.REPEAT
    if mode is Mode.FAILED and state in {RunState.FAILED, RunState.CANCELLED, RunState.TIMED_OUT}:
        return Action.REPAIR
    return Action.NOTHING


def plan_backfill(
    client: Client, graph: str, info: Mapping[str, Any], start: datetime, end: datetime, mode: Mode
) -> list[Tick]:
    """The ticks from `start` to `end`, both included, oldest first, and what is to be done about each.

    Raises:
        RefusedError: the graph is manual, or there are more than 10,000 ticks.
    """
    if str(info.get("schedule") or "manual") == "manual":
        raise RefusedError(f"graph {graph!r} has no schedule, so no ticks; start runs of it with `tm trigger {graph}`")
    ticks: list[datetime] = []
    for tick in ticks_after(graph, info, start - timedelta(microseconds=1)):
        if tick > end:
            break
        if len(ticks) == MOST:
            raise RefusedError(f"there are more than {MOST:,} ticks in that range; narrow it")
        ticks.append(tick)
    ids = [tick_run_id(graph, tick) for tick in ticks]
    states = client.lookup.states(ids)
    frontier, number = [each for each in ids if each in states], 2
    while frontier:
        more = client.lookup.states([f"{each}-{number}" for each in frontier])
        frontier = [each for each in frontier if f"{each}-{number}" in more]
        states |= more
        number += 1
    return choose(ticks, graph, states, mode)


def run_backfill(
    client: Client,
    graph: str,
    info: Mapping[str, Any],
    ticks: Sequence[Tick],
    *,
    most: int,
    by: str,
    force: bool = False,
    params: Mapping[str, Any] | None = None,
) -> Iterator[Step]:
    """Start the runs of these ticks in this order, at most so many open at a time; yields each start and each end.

    Whoever stops listening stops the backfill: what was started goes on, the rest is not started.

    Raises:
        RefusedError: the graph is paused, and `force` is not set.
        TypeError: a root requires a param, which scheduled runs do not have, or takes none of the given.
    """
    check_params(graph, info, params or {})
    if not force and (pause := pause_of(client, graph)):
        raise RefusedError(f"graph {graph!r} is {told(pause)}; `tm resume {graph}`, or --force")
    mine: dict[str, Tick] = {}
    for tick in ticks:
        if tick.action is Action.NOTHING:
            continue
        while len(mine) >= most:
            yield _next_end(client, mine)
        while not (run := _start(client, graph, info, tick, by=by, force=force, params=params)):
            if mine:
                yield _next_end(client, mine)
            else:
                _wait_for_room(client, graph)
        mine[run] = tick
        yield Step(tick=tick, state=RunState.QUEUED, run=run)
    while mine:
        yield _next_end(client, mine)


def _next_end(client: Client, mine: dict[str, Tick]) -> Step:
    run, state = next(iter(client.wait(list(mine))))
    return Step(tick=mine.pop(run), state=state, run=run)


def _wait_for_room(client: Client, graph: str) -> None:
    """Somebody else's runs fill the graph: wait for one of them."""
    try:
        for _ in client.wait(client.open_runs(graph), LOOK_EVERY):
            return
    except TimeoutError:
        return


def _start(
    client: Client,
    graph: str,
    info: Mapping[str, Any],
    tick: Tick,
    *,
    by: str,
    force: bool,
    params: Mapping[str, Any] | None,
) -> str:
    """Start the run of one tick, and return its id; empty when the graph has no room for it."""
    most = 0 if force else int(info.get("max_active_runs") or 0)
    if tick.action is Action.REPAIR:
        if most and client.open_count(graph) >= most:
            return ""
        try:
            planned = plan_retry(client, tick.last, params=params)
        except RefusedError:
            pass  # its messages are gone: run all of it again
        else:
            return start_retry(client, planned, by=by, trigger=Trigger.BACKFILL)
    if tick.action is not Action.START:
        afresh = plan_afresh(client, tick.last, params=params)
        answer = start_afresh(client, afresh, trigger=Trigger.BACKFILL, most=most, force=force)
        return _id_of(graph, afresh.run, answer)
    packed = codec.encode(dict(params), where="params") if params else b""
    new = NewRun(id=tick.run, params=packed, config=read_config(graph, info))
    with asking(client):
        answer = client.store.trigger(
            str(info["version"]), new, Trigger.BACKFILL, tick_ms=to_ms(tick.at), most=most, force=force
        )
    return _id_of(graph, tick.run, answer)


def _id_of(graph: str, run: str, answer: TriggerAnswer) -> str:
    if answer is TriggerAnswer.PAUSED:
        raise RefusedError(
            f"graph {graph!r} was paused meanwhile; `tm resume {graph}`, then go on with the same command"
        )
    return "" if answer is TriggerAnswer.FULL else run  # one that exists was started by somebody else just now
