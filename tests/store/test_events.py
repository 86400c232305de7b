"""Events: they come in order, and from them alone everything that happened can be told again."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import msgpack
import pytest
import redis.exceptions

from tests.store.stage import CHAIN, DIAMOND, LEASE, SINGLE, fan, pack, plan
from tm.events import AttemptEnded, Noted, RunCreated, RunEnded, TaskClosed, UnknownEvent
from tm.states import Outcome, RunState
from tm.store.events import events_in
from tm.store.records import DueTick, NewRun, Report
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
    for number in range(0, 20, 2):
        stage.store.start(plan(SINGLE), [NewRun(id=f"x{number}"), NewRun(id=f"x{number + 1}")])
    read: list[str] = []
    after = "0"
    while page := stage.store.events(after, count=3):
        assert len(page) == 6 or len(read) == 18, "two events in each of the entries"
        after = page[-1][0]
        read += [event.run for _, event in page if isinstance(event, RunCreated)]
    assert read == [f"x{number}" for number in range(20)]


def entries(stage: Stage) -> list[list[Event]]:
    """The events of each entry."""
    return [events_in(fields[b"d"]) for _, fields in stage.client.xrange(stage.keys.events)]


def test_what_one_call_makes_happen_is_one_entry_in_the_order_in_which_it_became_true(stage: Stage) -> None:
    stage.store.start(plan(SINGLE), [NewRun(id="a"), NewRun(id="b")])
    stage.offer("g")
    reports = [Report(claim.job, claim.token, Outcome.SUCCESS) for claim in stage.take(2)]
    stage.store.finish(stage.ask(0), reports)
    stage.store.note("a", "webhook", "run.success", "given up", "no")
    assert [[type(event) for event in entry] for entry in entries(stage)] == [
        [RunCreated, RunCreated],
        [AttemptEnded, RunEnded, AttemptEnded, RunEnded],
        [Noted],
    ]
    assert [event.run for event in entries(stage)[1]] == ["a", "a", "b", "b"]  # type: ignore[union-attr]
    assert len({id_ for id_, _ in stage.store.events()}) == 7, "each event has an id of its own"


def test_a_call_that_makes_nothing_happen_writes_no_entry(stage: Stage) -> None:
    stage.start(plan(SINGLE))
    stage.store.start(plan(SINGLE), [NewRun(id="r")])
    stage.take_one()
    stage.store.promote()
    assert len(entries(stage)) == 1


@pytest.mark.parametrize(("runs", "sizes"), [(1, [1]), (31, [31]), (32, [32]), (33, [32, 1]), (50, [32, 18])], ids=str)
def test_many_events_of_a_call_are_several_entries_in_order(stage: Stage, runs: int, sizes: list[int]) -> None:
    stage.store.start(plan(SINGLE), [NewRun(id=f"x{number}") for number in range(runs)])
    assert [len(entry) for entry in entries(stage)] == sizes
    assert [event.run for event in stage.told(RunCreated)] == [f"x{number}" for number in range(runs)]


def test_large_events_share_no_entry_beyond_a_size(stage: Stage) -> None:
    kilobytes = [100, 100, 100, 300, 10, 20]
    params = [pack({"p": "x" * 1024 * size}) for size in kilobytes]
    stage.store.start(plan(SINGLE), [NewRun(id=f"x{n}", params=each) for n, each in enumerate(params)])
    assert [len(entry) for entry in entries(stage)] == [2, 1, 1, 2]
    assert [event.params for event in stage.told(RunCreated)] == params


def test_what_a_call_had_done_before_it_failed_is_told(stage: Stage) -> None:
    stage.start(plan(SINGLE))
    claim = stage.take_one()
    stage.client.set(stage.keys.leases, "a string")
    with pytest.raises(redis.exceptions.ResponseError, match="WRONGTYPE"):
        stage.finish(claim)
    assert stage.state() == "success"
    assert [type(event) for event in stage.events()] == [RunCreated, AttemptEnded, RunEnded]


def test_a_stream_that_takes_nothing_keeps_no_run_from_going_on_and_is_said(stage: Stage) -> None:
    stage.start(plan(CHAIN))
    claim = stage.take_one()
    stage.client.delete(stage.keys.events)
    stage.client.set(stage.keys.events, "a string")
    with pytest.raises(redis.exceptions.ResponseError, match="WRONGTYPE"):
        stage.finish(claim)
    assert stage.states()["a"] == "success"
    assert len(stage.queued()) == len(stage.bells()) == 1, "what is next is queued"


def test_an_event_stands_for_its_entry_where_a_position_is_asked_for(stage: Stage) -> None:
    stage.store.start(plan(SINGLE), [NewRun(id="a"), NewRun(id="b"), NewRun(id="c")])
    stage.store.start(plan(SINGLE), [NewRun(id="d")])
    ids = [id_ for id_, _ in stage.store.events()]
    for which in ids[:3]:
        assert [id_ for id_, _ in stage.store.events(which)] == ids[3:]
    stage.store.ack(ids[1])
    assert [id_ for id_, _ in stage.store.events()] == ids[3:]


def test_what_is_acknowledged_is_forgotten_and_nothing_else(stage: Stage) -> None:
    for number in range(5):
        stage.store.start(plan(SINGLE), [NewRun(id=f"x{number}")])
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
