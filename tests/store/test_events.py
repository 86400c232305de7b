"""Events: they come in order, and from them alone everything that happened can be told again."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import msgpack
import pytest

from tests.store.stage import CHAIN, DIAMOND, LEASE, SINGLE, fan, plan
from tm.events import AttemptEnded, RunCreated, RunEnded, TaskClosed, UnknownEvent
from tm.states import Outcome, RunState
from tm.store.records import DueTick, NewRun
from tm.store.store import Store

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.servers import Server
    from tests.store.stage import Stage
    from tm.events import Event


def retold(events: Sequence[Event]) -> dict[str, dict[str, Any]]:
    """Runs and their tasks as somebody knows them who has only heard the events."""
    runs: dict[str, dict[str, Any]] = {}
    for event in events:
        if isinstance(event, RunCreated):
            assert event.run not in runs, "a run begins once"
            runs[event.run] = {"state": event.state, "graph": event.graph, "reason": event.reason, "tasks": {}}
        elif isinstance(event, AttemptEnded) and event.outcome is not Outcome.REJECTED:
            run = runs[event.run]
            assert "ended" not in run, "nothing happens to a run that has ended"
            before = run["tasks"].get(event.task, (None, 0))
            assert event.attempt == before[1] + 1, "attempts rise by one"
            run["tasks"][event.task] = (event.state, event.attempt)
        elif isinstance(event, TaskClosed):
            run = runs[event.run]
            assert "ended" not in run
            run["tasks"][event.task] = (event.state, run["tasks"].get(event.task, (None, 0))[1])
        elif isinstance(event, RunEnded):
            assert "ended" not in runs[event.run], "a run ends once"
            runs[event.run].update(state=event.state, reason=event.reason, ended=event.at)
    return runs


@pytest.mark.parametrize("shape", [SINGLE, CHAIN, DIAMOND, fan(7), fan(300)], ids=["1", "chain", "diamond", "7", "300"])
@pytest.mark.parametrize(
    "outcomes",
    [
        [Outcome.SUCCESS],
        [Outcome.FAILED, Outcome.SUCCESS],
        [Outcome.SUCCESS, Outcome.SUCCESS, Outcome.FAILED, Outcome.FAILED, Outcome.FAILED],
        [Outcome.KILLED, Outcome.SUCCESS],
        [Outcome.LOST, Outcome.TIMED_OUT, Outcome.SUCCESS],
        [Outcome.KILLED],
    ],
    ids="-".join,
)
def test_history_can_be_told_again_from_the_events_alone(
    stage: Stage, shape: dict[str, list[str]], outcomes: list[Outcome]
) -> None:
    stage.store.start(plan(shape, retries=1), [NewRun(id="x"), NewRun(id="y"), NewRun(id="z")])
    stage.offer("g")
    turn = itertools.cycle(outcomes)
    for number in itertools.count():
        stage.later(1)
        stage.store.promote()
        if number == 4:
            stage.store.cancel("z", reason="enough")
        claims = stage.take(3)
        for claim in claims:
            stage.finish(claim, next(turn))
        if not claims and not any(map(stage.client.exists, (stage.keys.retry, stage.keys.backlog))):
            break
    told = retold(stage.events())
    for run in ("x", "y", "z"):
        view = stage.store.run(run)
        assert view is not None
        assert (told[run]["state"], told[run].get("ended"), told[run]["reason"]) == (
            view.state,
            view.ended_ms,
            view.reason,
        )
        assert {name: state for name, (state, _) in told[run]["tasks"].items()} == {
            task.task: task.state for task in view.tasks
        }
        assert all(
            attempts == task.attempt
            for task in view.tasks
            if task.state not in {"cancelled", "blocked"}
            for attempts in [told[run]["tasks"][task.task][1]]
        )


def test_an_attempt_is_told_with_all_its_facts(stage: Stage) -> None:
    stage.start(plan(SINGLE, retries=1, retry_delay=2))
    claimed = stage.take_one().claimed_ms
    stage.later(250)
    claim = stage.store.take(stage.ask(1, token="ask1", again=True)).claims[0]
    stage.finish(claim, Outcome.FAILED, error=b"\x81\xa1x\x01", ms=240)
    [told] = stage.told(AttemptEnded)
    assert (told.run, told.graph, told.node, told.task, told.attempt) == ("r", "g", 0, "only", 1)
    assert (told.outcome, told.state, told.worker) == ("failed", "retrying", "w")
    assert (told.claimed, told.at, told.ms, told.due) == (claimed, stage.now, 240, stage.now + 2000)
    assert told.error == b"\x81\xa1x\x01"


@pytest.mark.parametrize("odd", ["läuft *", "a b", "日報", "x" * 100, "[?]"])
def test_odd_names_arrive_as_they_were(stage: Stage, odd: str) -> None:
    stage.start(plan({odd: []}, graph=odd), "r")
    claim = stage.take_one()
    stage.finish(claim, Outcome.FAILED)
    created, attempt, ended = stage.events()
    assert isinstance(created, RunCreated)
    assert isinstance(attempt, AttemptEnded)
    assert isinstance(ended, RunEnded)
    assert (created.graph, attempt.graph, attempt.task, ended.graph) == (odd,) * 4


def test_a_run_that_began_says_when(stage: Stage) -> None:
    stage.start(plan(SINGLE))
    stage.later(5)
    claim = stage.take_one()
    stage.later(5)
    stage.finish(claim)
    [ended] = stage.told(RunEnded)
    assert (ended.started, ended.at, ended.state) == (stage.now - 5, stage.now, RunState.SUCCESS)


def test_reading_goes_on_where_it_stopped(stage: Stage) -> None:
    stage.store.start(plan(SINGLE), [NewRun(id=f"x{number}") for number in range(10)])
    read: list[str] = []
    after = "0"
    while page := stage.store.events(after, count=3):
        after = page[-1][0]
        read += [event.run for _, event in page if isinstance(event, RunCreated)]
    assert read == [f"x{number}" for number in range(10)]


def test_what_is_acknowledged_is_forgotten_and_nothing_else(stage: Stage) -> None:
    stage.store.start(plan(SINGLE), [NewRun(id=f"x{number}") for number in range(5)])
    ids = [entry for entry, _ in stage.store.events()]
    stage.store.ack(ids[2])
    stage.store.ack(ids[1])
    assert [entry for entry, _ in stage.store.events()] == ids[3:]
    stage.store.ack("0")
    assert [entry for entry, _ in stage.store.events()] == ids[3:]


def test_a_strange_entry_does_not_hold_up_the_others(stage: Stage) -> None:
    stage.client.xadd(stage.keys.events, {"other": "field"})
    stage.client.xadd(stage.keys.events, {"d": b"\xc1"})
    stage.client.xadd(stage.keys.events, {"d": msgpack.packb({"e": "of the future"})})
    stage.start(plan(SINGLE))
    assert [type(event) for event in stage.events()] == [UnknownEvent] * 3 + [RunCreated]


def test_ticks_and_reaped_attempts_are_told_too(stage: Stage) -> None:
    leader = stage.store.lead("me", 10**9)
    assert leader is not None
    stage.store.tick(
        plan(SINGLE),
        leader,
        [DueTick(run="a", at_ms=1), DueTick(run="b", at_ms=2, born=RunState.SKIPPED, reason="why")],
    )
    stage.offer("g")
    stage.take_one()
    stage.later(LEASE)
    stage.store.reap()
    told = retold(stage.events())
    assert told["a"]["tasks"] == {"only": ("queued", 1)}
    assert (told["b"]["state"], told["b"]["reason"]) == ("skipped", "why")


@pytest.mark.parametrize("protocol", [2, 3])
def test_events_are_read_whatever_protocol_the_connection_speaks(stage: Stage, server: Server, protocol: int) -> None:
    stage.start(plan(SINGLE))
    with server.client(protocol=protocol) as client:
        store = Store(client)
        ((position, event),) = store.events()
        assert isinstance(event, RunCreated)
        assert store.events(position) == store.events(position, block_ms=1) == []
