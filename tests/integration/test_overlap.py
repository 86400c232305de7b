"""While the server is busy with reports, a worker hears its executors, hands out what it was given, and keeps the order."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.integration.exchanging import announce, exchange_of
from tests.store.stage import SINGLE, plan
from tm import codec
from tm.states import Outcome
from tm.store.records import Ask, NewRun, Report
from tm.store.store import Store
from tm_worker import exchange
from tm_worker.exchange import MANY
from tm_worker.executors import Action, Ended, Run
from tm_worker.service import connect
from tm_worker.supervisor import Supervisor

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.servers import Server
    from tm.store.records import Claim


class Desk:
    """An exchange, and what it did, in order."""

    def __init__(self, store: Store, home: Path) -> None:
        self.store = store
        self.log: list[str] = []
        self.coming: list[list[Ended]] = []  # what executors say, by the time they are heard
        self.supervisor = Supervisor(2, grace=1.0)
        begin = store.begin

        def watched(ask: Ask, reports: Any) -> Any:
            self.log.append(f"send {len(reports)}")
            return begin(ask, reports)

        store.begin = watched  # type: ignore[method-assign]
        self.exchange = exchange_of(store, self.supervisor, home)
        self.exchange.attach(lambda: self.log.append("prepare"), self.hear, self.carry_out)

    def claims(self, count: int) -> list[Claim]:
        """So many attempts of the same worker's, and two more for it to ask for."""
        announce(self.store)
        assert all(self.store.start(plan(SINGLE), [NewRun(id=f"r{n}") for n in range(count + 2)]))
        ask = Ask(worker="w", lease_ms=30_000, token="ask", queues=("default",), count=count)
        return self.store.take(ask).claims

    def two_lots(self) -> list[Claim]:
        """Two executors are idle; many attempts have ended, and as many more are reported when they are heard."""
        claims = self.claims(2 * MANY)
        for number in (1, 2):
            self.supervisor.born(number, 0.0)
        self.supervisor.ended += ended(claims[:MANY])
        self.coming = [ended(claims[MANY:])]
        return claims

    def hear(self) -> None:
        self.log.append("hear")
        if self.coming:
            self.supervisor.ended += self.coming.pop(0)

    def carry_out(self, actions: list[Action]) -> None:
        self.log += ["run" for action in actions if isinstance(action, Run)]


@pytest.fixture
def desk(server: Server, tmp_path: Path) -> Iterator[Desk]:
    client = connect(server.url)
    yield Desk(Store(client), tmp_path)
    client.close()


def ended(claims: list[Claim]) -> list[Ended]:
    good = codec.encode("good")
    return [Ended(Report(each.job, each.token, Outcome.SUCCESS, good, ms=1), None, None) for each in claims]


def test_what_is_heard_meanwhile_is_prepared_and_sent_before_claims_are_handed_out(desk: Desk) -> None:
    claims = desk.two_lots()
    desk.exchange.turn(time.monotonic())
    assert desk.log == [f"send {MANY}", "hear", "prepare", f"send {MANY}", "run", "run", "hear"]
    assert desk.exchange.done == 2 * MANY
    assert desk.exchange.quiet
    assert all(desk.store.result(each.run) == codec.encode("good") for each in claims)


def test_a_short_call_is_waited_for_and_what_it_gives_is_handed_out_at_once(desk: Desk) -> None:
    claims = desk.claims(MANY - 1)
    for number in (1, 2):
        desk.supervisor.born(number, 0.0)
    desk.supervisor.ended += ended(claims)
    desk.exchange.turn(time.monotonic())
    assert desk.log == [f"send {MANY - 1}", "run", "run"]


def test_what_an_answer_led_to_is_done_when_the_next_call_fails(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.two_lots()
    wire: Any = desk.store.client
    begin, calls = wire.begin, []

    def once(*args: Any) -> None:
        calls.append(args)
        if len(calls) == 2:
            raise ConnectionResetError("cut off")
        begin(*args)

    with monkeypatch.context() as patch:
        patch.setattr(wire, "begin", once)
        desk.exchange.turn(time.monotonic())
    assert desk.log == [f"send {MANY}", "hear", "prepare", f"send {MANY}", f"send {MANY}", "run", "run", "hear"]
    assert desk.exchange.quiet
    assert desk.exchange.done == 2 * MANY


def test_a_turn_ends_though_there_is_more_to_say_and_the_next_one_goes_on(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exchange, "LONGEST_TURN", 0.0)
    desk.two_lots()
    desk.exchange.turn(time.monotonic())
    assert desk.log == [f"send {MANY}", "run", "run"], "nothing is sent behind, and what was given is handed out"
    desk.hear()
    now = time.monotonic()
    assert desk.exchange.next_time(now) == now, "nobody waits before the next turn"
    desk.exchange.turn(now)
    assert desk.exchange.quiet
    assert desk.exchange.done == 2 * MANY


def test_an_error_of_our_own_while_an_answer_is_owed_does_not_shift_the_answers(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    claims = desk.two_lots()

    def stumble() -> None:
        raise ValueError("a stream was closed")

    with monkeypatch.context() as patch:
        patch.setattr(desk.exchange, "_hear", stumble)
        desk.exchange.turn(time.monotonic())
    wire: Any = desk.store.client
    assert wire.owed == 0
    desk.hear()
    desk.exchange.turn(time.monotonic())
    assert desk.exchange.quiet
    assert desk.exchange.done == 2 * MANY
    assert all(desk.store.result(each.run) == codec.encode("good") for each in claims)


@pytest.mark.parametrize("heard", [0, 1, 2])
def test_when_both_answers_are_lost_both_are_asked_again_and_nothing_is_done_twice(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, heard: int
) -> None:
    desk.two_lots()
    wire: Any = desk.store.client
    begin, begun = wire.begin, []

    def some(*args: Any) -> None:
        begun.append(args)
        if len(begun) <= heard:
            begin(*args)
        else:
            wire.owed += 1  # sent, and lost on the way

    def cut(*_: Any, **__: Any) -> Any:
        raise ConnectionResetError("cut off")

    with monkeypatch.context() as patch:
        patch.setattr(wire, "begin", some)
        patch.setattr(wire, "answer", cut)
        desk.exchange.turn(time.monotonic())
    assert len(begun) == 2
    assert desk.exchange.undelivered == 2 * MANY
    assert len(desk.exchange.pairs()) == 2 * MANY, "their leases are kept"
    assert desk.log[-1] != "run", "nobody knows of the two attempts that were given"
    time.sleep(0.05)  # what was sent is heard
    desk.log.clear()
    desk.exchange.turn(time.monotonic() + 60)
    assert desk.exchange.quiet
    assert desk.exchange.done == 2 * MANY
    assert desk.log.count("run") == 2, "both attempts are ours, whichever of the calls gave them"
    events = [event for _, event in desk.store.events() if type(event).__name__ == "AttemptEnded"]
    assert len(events) == 2 * MANY
    assert {event.outcome for event in events} == {Outcome.SUCCESS}
