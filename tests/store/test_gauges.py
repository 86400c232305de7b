"""gauges: how much waits, and for how long; what those who watch a leader are shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.store.stage import DIAMOND, LEASE, NOON, SINGLE, plan
from tm.states import Outcome
from tm.store import gauges
from tm.store.gauges import Depth, Gauges

if TYPE_CHECKING:
    import pytest

    from tests.store.stage import Stage


def look(stage: Stage, seconds: float = 0.0) -> Gauges:
    """At so many seconds after noon."""
    return gauges.read(stage.store, LEASE / 1000, now_ms=NOON + seconds * 1000)


def test_an_empty_server_has_nothing_to_show(stage: Stage) -> None:
    nothing = Depth(0, 0.0)
    assert look(stage) == Gauges(
        queues={},
        open_runs={},
        leases=nothing,
        retries=nothing,
        events=nothing,
        events_bytes=0,
        backlog=0,
        pauses=0,
        paused_queues=frozenset(),
        workers=0,
        alerts=0,
        log_chunks=0,
    )


def test_a_queue_is_as_old_as_the_attempt_that_has_waited_longest(stage: Stage) -> None:
    one = plan(SINGLE)
    for number in range(3):
        stage.start(one, f"r{number}")
        stage.later(1000)
    assert look(stage, 10).queues == {"default": Depth(3, 10.0)}
    assert look(stage, 10).open_runs == {"g": 3}
    stage.client.lpop(stage.keys.bell("default"))
    stage.later(20_000)
    assert stage.store.ring() == 1
    assert look(stage, 30).queues == {"default": Depth(3, 30.0)}, "rung for again, and as old as before"
    stage.take_one()
    assert look(stage, 30).queues["default"].size == 2


def test_queues_that_are_empty_and_attempts_that_cannot_be_read_are_of_no_age(stage: Stage) -> None:
    stage.start(plan(SINGLE))
    stage.client.zadd(stage.keys.queued("default"), {"nobody_0_1": 1})
    stage.take_one()
    assert look(stage, 5).queues == {"default": Depth(1, 0.0)}


def test_with_many_queues_the_first_attempt_of_each_is_asked(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gauges, "FEW", 1)
    for name in ("a", "b"):
        stage.start(plan(SINGLE, graph=name, queue=name), f"r{name}")
        stage.later(1000)
    assert look(stage, 5).queues == {"a": Depth(1, 5.0), "b": Depth(1, 4.0)}
    monkeypatch.setattr(gauges, "MOST", 1)
    assert look(stage, 5).queues == {"a": Depth(1, 5.0)}
    assert look(stage, 5).open_runs == {"a": 1}


def test_leases_that_lapsed_and_retries_that_are_due_are_overdue_until_somebody_sees_to_them(stage: Stage) -> None:
    stage.start(plan(DIAMOND, retries=1, retry_delay=60))
    claim = stage.take_one()
    assert look(stage).leases == Depth(1, 0.0)
    assert look(stage, LEASE / 1000 + 7).leases == Depth(1, 7.0)
    stage.finish(claim, Outcome.FAILED)
    assert look(stage).leases == Depth(0, 0.0)
    assert look(stage, 59).retries == Depth(1, 0.0)
    assert look(stage, 63).retries == Depth(1, 3.0)


def test_workers_count_as_long_as_they_are_heard_of(stage: Stage) -> None:
    stage.offer("g")
    assert look(stage, LEASE / 1000).workers == 1
    assert look(stage, LEASE / 1000 + 1).workers == 0


def test_history_lags_by_the_events_it_has_not_got(stage: Stage) -> None:
    assert look(stage).events == Depth(0, 0.0)
    stage.start(plan(SINGLE))
    entries = stage.store.events()
    seconds, micros = stage.client.time()
    at = gauges.read(stage.store, 30, now_ms=seconds * 1000 + micros / 1000 + 5000).events
    assert at.size == len(entries) == 1
    assert 4.9 < at.age < 15, "stream ids are of the server's own clock"
    assert gauges.read(stage.store, 30).events.age < 10
    stage.store.ack(entries[-1][0])
    assert look(stage).events == Depth(0, 0.0)


def test_what_is_still_to_be_sent_or_filed_is_counted(stage: Stage) -> None:
    stage.client.rpush(stage.keys.outbox, b"alert", b"alert")
    stage.client.xadd(stage.keys.logs, {"d": b"chunk"})
    assert (look(stage).alerts, look(stage).log_chunks) == (2, 1)


def test_pauses_are_counted(stage: Stage) -> None:
    stage.store.pause("g", by="somebody")
    stage.store.pause("", by="somebody")
    assert look(stage).pauses == 2


def test_queues_that_are_paused_are_named_even_when_no_graph_uses_them(stage: Stage) -> None:
    stage.start(plan(SINGLE))
    stage.store.pause_queue("default", by="me")
    stage.store.pause_queue("later", by="me", until_ms=stage.now + 5000)
    assert look(stage).paused_queues == {"default", "later"}
    assert look(stage, 6).paused_queues == {"default"}
