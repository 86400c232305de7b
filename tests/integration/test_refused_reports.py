"""A report the server refuses, among others that are good: these arrive at once, and the bad one is told or set aside."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import msgpack
import pytest
import redis.exceptions

from tests.integration.exchanging import announce, exchange_of
from tests.store.stage import SINGLE, plan
from tm import codec
from tm.states import Outcome, TaskState
from tm.store.outages import is_refusal
from tm.store.records import NewRun, Report
from tm.store.store import Store
from tm_worker.executors import Ended
from tm_worker.questions import BATCH_BYTES
from tm_worker.service import connect
from tm_worker.supervisor import Supervisor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from tests.servers import Server
    from tm.store.records import Ask, Claim, Grant, Verdict

RUNS = 9
GOOD = codec.encode("good")


class Stand:
    """An exchange whose supervisor holds attempts that no executor runs."""

    def __init__(self, store: Store, home: Path) -> None:
        self.store, self.home, self.now = store, home, time.monotonic()
        self.calls: list[list[str]] = []  # jobs of the reports, by call
        self.supervisor = Supervisor(2, grace=1.0)
        begin = store.begin

        def watched(ask: Ask, reports: Sequence[Report]) -> Callable[[], tuple[list[Verdict], Grant]]:
            if reports:
                self.calls.append([report.job for report in reports])
            return begin(ask, reports)

        store.begin = watched  # type: ignore[method-assign]
        self.exchange = exchange_of(store, self.supervisor, home)
        self.exchange.hungry = False

    def claims(self) -> list[Claim]:
        """So many attempts, claimed by a worker of the same name."""
        from tests.store.stage import Stage

        announce(self.store)
        assert all(self.store.start(plan(SINGLE), [NewRun(id=f"r{n}") for n in range(RUNS)]))
        return Stage(self.store.client).store.take(ask(self.store)).claims

    def report(self, reports: list[Report]) -> None:
        self.supervisor.ended += [Ended(report, None, None) for report in reports]

    def turn(self) -> None:
        self.now += 60
        self.exchange.turn(self.now)

    def state(self, n: int) -> tuple[str, str]:
        view = self.store.run(f"r{n}")
        assert view is not None
        error = codec.decode(view.tasks[0].error) if view.tasks[0].error else {"message": ""}
        return view.tasks[0].state.value, error["message"]

    def set_aside(self) -> dict[str, str]:
        return {path.name: path.read_text() for path in self.home.rglob("*.reason")}


def ask(store: Store) -> Ask:
    from tm.store.records import Ask

    return Ask(worker="w", lease_ms=30_000, token="ask", queues=("default",), count=RUNS)


@pytest.fixture
def stand(server: Server, client: Any, tmp_path: Path) -> Iterator[Stand]:
    wire = connect(server.url)
    yield Stand(Store(wire), tmp_path)
    wire.close()


def reports(claims: list[Claim]) -> list[Report]:
    return [Report(claim.job, claim.token, Outcome.SUCCESS, GOOD, ms=1) for claim in claims]


BAD = {
    "a chance that is no number": {"chance": float("nan")},
    "an outcome nobody knows": {"outcome": "exploded"},
    "a value that is no bytes": {"value": ["not", "bytes"]},
}


@pytest.mark.parametrize("position", [0, 4, RUNS - 1])
@pytest.mark.parametrize("kind", BAD)
def test_the_neighbours_of_a_refused_report_are_delivered_and_its_own_attempt_fails(
    stand: Stand, kind: str, position: int
) -> None:
    all_of_them = reports(stand.claims())
    all_of_them[position] = replace(all_of_them[position], **BAD[kind])  # type: ignore[arg-type]
    stand.report(all_of_them)
    stand.turn()
    assert stand.exchange.quiet
    assert stand.exchange.outage.retry_at is None, "the server was never away"
    states = [stand.state(n) for n in range(RUNS)]
    bad = int(all_of_them[position].job.split("_")[0][1:])
    assert [state for n, (state, _) in enumerate(states) if n != bad] == ["success"] * (RUNS - 1)
    state, message = states[bad]
    assert state == "failed"
    assert "the server refused the report of this attempt" in message
    assert not stand.set_aside()
    assert stand.exchange.done == RUNS
    assert len(stand.calls) <= 2 * 4 + 2, "halved, not one by one"


@pytest.mark.parametrize("job", ["r\ud800_0_1", 7])
def test_a_report_refused_whatever_it_says_is_set_aside_with_the_reason(stand: Stand, job: Any) -> None:
    good = reports(stand.claims())
    dead = Report(job, "dead", Outcome.SUCCESS, GOOD, retry=True, ms=1)
    if isinstance(job, int):  # redis would take a number; nobody takes a list
        dead = replace(dead, job=["r0", 1])  # type: ignore[arg-type]
    stand.report([*good[:4], dead, *good[4:]])
    stand.turn()
    assert stand.exchange.quiet
    assert {stand.state(n)[0] for n in range(RUNS)} == {"success"}
    assert list(stand.set_aside()) == ["dead.reason"]
    assert "success" in stand.set_aside()["dead.reason"]
    calls = len(stand.calls)
    stand.turn()
    assert len(stand.calls) == calls, "it is not sent again"
    assert stand.exchange._spool.left_behind() == []


def test_a_server_that_refuses_everything_is_away_and_nothing_is_given_up(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand.report(reports(stand.claims()))

    def refuse(*_: object) -> None:
        raise redis.exceptions.ResponseError("ERR everything is refused today")

    with monkeypatch.context() as patch:
        patch.setattr(stand.store, "begin", refuse)
        patch.setattr(stand.store, "take", refuse)
        stand.turn()
    assert not stand.exchange.quiet
    assert stand.exchange.outage.retry_at is not None
    assert len(stand.exchange.pairs()) == RUNS, "their leases are kept"
    stand.turn()
    assert {stand.state(n)[0] for n in range(RUNS)} == {"success"}


def test_reports_of_a_refused_call_keep_their_leases_until_they_are_delivered(stand: Stand) -> None:
    claims = stand.claims()
    held = [Ended(report, None, None) for report in reports(claims)]
    stand.exchange._refused.sort_out(held, ValueError("no good"))
    assert sorted(stand.exchange.pairs()) == sorted((claim.job, claim.token) for claim in claims)
    assert not stand.exchange.quiet
    stand.turn()
    assert {stand.state(n)[0] for n in range(RUNS)} == {"success"}


def test_large_values_go_in_several_calls(stand: Stand) -> None:
    value = codec.encode(b"x" * (BATCH_BYTES // 4), limit=64 << 20)
    stand.report([replace(report, value=value) for report in reports(stand.claims())])
    stand.turn()
    assert {stand.state(n)[0] for n in range(RUNS)} == {TaskState.SUCCESS}
    assert [len(call) for call in stand.calls] == [3, 3, 3]


def test_what_the_spool_holds_is_checked_before_it_is_sent(stand: Stand) -> None:
    instance = stand.store.instance()
    folder = stand.home / "spool" / instance
    folder.mkdir(parents=True)
    (folder / "token").write_bytes(msgpack.packb([7, "token", "success", b"", b"", True, 1, 0.0]))
    (folder / "other").write_bytes(msgpack.packb(["r_0_1", "another", "success", b"", b"", True, 1, 0.0]))
    stand.turn()
    assert stand.calls == []
    assert sorted(path.name for path in folder.iterdir()) == ["other.bad", "token.bad"]


@pytest.mark.parametrize(
    ("error", "refused"),
    [
        (redis.exceptions.ResponseError("ERR chance is not a good number: nan"), True),
        (redis.exceptions.ResponseError("Protocol error: invalid bulk length"), True),
        (redis.exceptions.DataError("Invalid input of type: 'list'"), True),
        (UnicodeEncodeError("utf-8", "x", 0, 1, "surrogates not allowed"), True),
        (redis.exceptions.ResponseError("BUSY Redis is busy running a script"), False),
        (redis.exceptions.ResponseError("MISCONF no disk"), False),
        (redis.exceptions.ResponseError("ERR Function not found"), False),
        (redis.exceptions.OutOfMemoryError("command not allowed when used memory > 'maxmemory'."), False),
        (redis.exceptions.NoPermissionError("this user has no permissions"), False),
        (redis.exceptions.ReadOnlyError("You can't write against a read only replica."), False),
        (redis.exceptions.BusyLoadingError("loading"), False),
        (redis.exceptions.ConnectionError("gone"), False),
        (redis.exceptions.TimeoutError("late"), False),
        (OSError("no route"), False),
    ],
)
def test_a_refusal_is_told_from_an_outage(error: Exception, refused: bool) -> None:
    assert is_refusal(error) is refused
