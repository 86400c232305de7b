"""What waits for the webhook: nothing is lost, order is kept, and two who read the events do not double them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.store.stage import SINGLE, Stage, plan
from tm.events import Noted
from tm.states import Outcome
from tm.store.outbox import Alert, Outbox, Tries

if TYPE_CHECKING:
    import redis


def alert(number: int) -> Alert:
    return Alert(id=f"default-{number}-0", type="run.failed", run=f"r{number}", body=f'{{"n":{number}}}')


@pytest.fixture
def outbox(stage: Stage) -> Outbox:
    return Outbox(stage.client, stage.keys)


def test_it_begins_with_what_happens_from_now_on(stage: Stage, outbox: Outbox, client: redis.Redis) -> None:
    stage.start(plan(SINGLE))
    last = stage.store.events()[-1][0]
    assert outbox.position() == last
    stage.work(outcome=Outcome.FAILED)
    assert outbox.position() == Outbox(client, stage.keys).position() == last


def test_without_any_event_it_begins_at_the_beginning(outbox: Outbox) -> None:
    assert outbox.position() == "0-0"


def test_what_is_collected_comes_out_in_order(outbox: Outbox) -> None:
    outbox.position()
    assert outbox.collect("0-0", "5-0", [alert(1), alert(2)], 10) == 0
    assert outbox.collect("5-0", "6-0", [alert(3)], 10) == 0
    assert outbox.position() == "6-0"
    seen = []
    while head := outbox.head():
        seen.append(head[0])
        outbox.remove(head[0])
    assert seen == [alert(1), alert(2), alert(3)]


def test_of_two_who_read_the_same_events_one_counts(outbox: Outbox) -> None:
    outbox.position()
    assert outbox.collect("0-0", "5-0", [alert(1)], 10) == 0
    assert outbox.collect("0-0", "5-0", [alert(1)], 10) is None
    assert outbox.waiting() == 1


def test_what_there_is_no_room_for_is_counted(outbox: Outbox) -> None:
    outbox.position()
    assert outbox.collect("0-0", "5-0", [alert(n) for n in range(5)], 3) == 2
    assert outbox.collect("5-0", "6-0", [alert(9)], 3) == 1
    assert outbox.waiting() == 3


def test_a_postponed_one_stays_first_and_its_tries_are_its_own(outbox: Outbox) -> None:
    outbox.position()
    outbox.collect("0-0", "5-0", [alert(1), alert(2)], 10)
    outbox.postpone(alert(1), Tries(count=2, first_ms=7, next_ms=99))
    assert outbox.head() == (alert(1), Tries(count=2, first_ms=7, next_ms=99))
    outbox.remove(alert(1))
    outbox.remove(alert(1))
    assert outbox.head() == (alert(2), Tries())


def test_history_is_told_what_was_given_up(stage: Stage) -> None:
    stage.store.note("r1", "webhook", "run.failed", "given up", "status 404")
    assert stage.told(Noted) == [
        Noted(run="r1", kind="webhook", what="run.failed", outcome="given up", message="status 404", at=stage.now)
    ]
