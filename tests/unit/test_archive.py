"""The archiver moves every event from the server into history once, whatever breaks in between."""

from __future__ import annotations

import itertools
import time
from typing import TYPE_CHECKING, Any

import msgpack
import pytest
import redis.exceptions

from tests.unit.histories import T0, created, locked, numbered
from tests.waiting import wait_for
from tm import codec
from tm.errors import SettingsError, UnavailableError
from tm.events import entry_of
from tm.history import History
from tm.ids import new_token
from tm.records import Plan, TaskPlan
from tm.retry import RetryPolicy
from tm.states import Outcome, RunState, TaskState
from tm.store.records import Ask, NewRun, Report
from tm.store.store import Store
from tm_scheduler.archive import Archiver, ArchiverConfig

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.servers import Server

SOON = ArchiverConfig(batch=10, block_ms=10)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "history.db"


@pytest.fixture
def history(path: Path) -> Iterator[History]:
    history = History(f"sqlite:///{path}", patience=0.1)
    yield history
    history.close()


def happen(store: Store, *runs: str) -> None:
    """Runs are created, each by a call of its own."""
    for run in runs:
        at_once(store, run)


def at_once(store: Store, *runs: str, tail: bytes = b"") -> None:
    """One call creates runs, as the server functions tell it (cmsgpack knows no difference between text and bytes)."""
    told = [
        {
            "e": "run", "run": run, "graph": "etl", "plan": "v1", "trigger": "manual", "tick": -1,
            "params": b"", "config": "", "state": "queued", "reason": "", "at": T0,
        }
        for run in runs
    ]  # fmt: skip
    packed = b"".join(msgpack.packb(fields, use_bin_type=False) for fields in told)
    store.client.xadd(store.keys.events, {"d": packed + tail})


def filed(history: History) -> set[str]:
    return {run.id for run in history.runs(limit=1000)}


def left(store: Store) -> int:
    length: Any = store.client.xlen(store.keys.events)
    return int(length)


def test_what_is_filed_is_forgotten_by_the_server(store: Store, history: History) -> None:
    happen(store, "a", "b")
    assert Archiver(store, history, SOON).one_pass() == 2
    assert filed(history) == {"a", "b"}
    assert left(store) == 0


def test_a_pass_files_one_batch_and_the_next_goes_on(store: Store, history: History) -> None:
    happen(store, *(f"r{n}" for n in range(25)))
    archiver = Archiver(store, history, SOON)
    assert [archiver.one_pass() for _ in range(4)] == [10, 10, 5, 0]
    assert len(filed(history)) == 25


def test_a_pass_with_nothing_to_do_waits_on_the_server(store: Store, history: History) -> None:
    archiver = Archiver(store, history, ArchiverConfig(block_ms=150))
    archiver.one_pass()
    began = time.monotonic()
    assert archiver.one_pass() == 0
    assert time.monotonic() - began >= 0.14


def test_a_locked_history_keeps_everything_on_the_server(store: Store, history: History, path: Path) -> None:
    happen(store, "before")
    archiver = Archiver(store, history, SOON)
    archiver.one_pass()
    happen(store, "during")
    with locked(path):
        for _ in range(2):
            with pytest.raises(UnavailableError, match="is locked by another process"):
                archiver.one_pass()
        assert left(store) == 1
    assert archiver.one_pass() == 1
    assert filed(history) == {"before", "during"}
    assert left(store) == 0


def test_a_history_that_is_locked_from_the_start_is_caught_up_with(store: Store, history: History, path: Path) -> None:
    history.prepare()
    history.close()
    happen(store, "a")
    archiver = Archiver(store, history, SOON)
    with locked(path), pytest.raises(UnavailableError):
        archiver.one_pass()
    assert archiver.one_pass() == 1


def test_a_server_that_went_away_and_came_back(own_server: Server, history: History) -> None:
    store = Store(own_server.client())
    archiver = Archiver(store, history, SOON)
    happen(store, "before")
    archiver.one_pass()
    happen(store, "unfiled")
    own_server.stop()
    with pytest.raises(redis.exceptions.ConnectionError):
        archiver.one_pass()
    own_server.start()
    assert archiver.one_pass() == 1
    assert filed(history) == {"before", "unfiled"}
    store.client.close()


@pytest.mark.parametrize("damage", ["gone", "rubbish", "other type"])
def test_a_damaged_plan_keeps_no_events_from_history(store: Store, history: History, damage: str) -> None:
    plans = [Plan(graph=f"g{name}", version=name, tasks=(TaskPlan(name="a"),)) for name in ("v1", "v2")]
    for plan in plans:
        store.start(plan, [NewRun(id=f"{plan.graph}-x")])
    key = store.keys.plan("v1")
    if damage == "gone":
        store.client.hdel(key, "0")
    elif damage == "rubbish":
        store.client.hset(key, "0", b"\xc1")
    else:
        store.client.delete(key)
        store.client.set(key, "somebody's")
    archiver = Archiver(store, history, SOON)
    assert archiver.one_pass() == 2
    assert (left(store), history.undefined()) == (0, ["v1"])
    store.start(plans[1], [NewRun(id="more")])
    assert archiver.one_pass() == 1
    assert left(store) == 0


def test_a_run_as_the_server_really_tells_it(store: Store, history: History) -> None:
    tasks = (TaskPlan(name="load", children=(1,), retry=RetryPolicy(retries=1)), TaskPlan(name="report", parents=(0,)))
    plan = Plan(graph="etl", version="v7", tasks=tasks)
    store.define(plan)
    store.announce("w1", ["etl"], {"host": "here"}, 60_000)
    assert store.start(plan, [NewRun(id="etl-x", params=codec.encode({"day": 3}), config='{"a": 1}')]) == [True]
    error = codec.encode({"type": "ValueError", "message": "no rows", "traceback": "..."})
    for retry in (True, False):
        (claim,) = store.take(ask()).claims
        report = Report(claim.job, claim.token, Outcome.FAILED, error=error, retry=retry, ms=5)
        store.finish(ask(count=0), [report])
        store.finish(ask(count=0), [Report(claim.job, "stale", Outcome.SUCCESS)])
        wait_for(lambda: store.promote()[0] or not store.open_runs(), "the retry to be queued")
    archiver = Archiver(store, history, SOON)
    while archiver.one_pass():
        pass
    run = history.run("etl-x")
    assert (run.state, run.version, run.trigger, run.tick) == (RunState.FAILED, "v7", "manual", None)
    assert (run.params_json, run.config) == ('{"day": 3}', '{"a": 1}')
    assert run.created <= run.started <= run.ended  # type: ignore[operator]
    assert [(row.task, row.state, row.attempts) for row in history.task_runs("etl-x")] == [
        ("load", TaskState.FAILED, 2),
        ("report", TaskState.BLOCKED, 0),
    ]
    attempts = history.attempts("etl-x", "load")
    assert sorted((row.number, row.outcome.value) for row in attempts) == [
        (1, "failed"),
        (1, "rejected"),
        (2, "failed"),
        (2, "rejected"),
    ]
    assert {row.message for row in attempts if row.outcome is Outcome.FAILED} == {"no rows"}


def ask(count: int = 1) -> Ask:
    return Ask(worker="w1", lease_ms=30_000, token=new_token(), queues=("default",), count=count)


class Dies(Exception):  # noqa: N818
    """The process ends here."""


class DyingStore(Store):
    """Its first acknowledgement after something was filed never reaches the server."""

    def events(self, after: str = "0", count: int = 500, block_ms: int | None = None) -> Any:
        entries = super().events(after, count, block_ms)
        self.armed = bool(entries)
        return entries

    def ack(self, upto: str) -> None:
        if getattr(self, "armed", False):
            raise Dies
        super().ack(upto)


def test_a_death_between_filing_and_forgetting_files_nothing_twice(store: Store, history: History) -> None:
    happen(store, "a", "b")
    with pytest.raises(Dies):
        Archiver(DyingStore(store.client), history, SOON).one_pass()
    assert (filed(history), left(store)) == ({"a", "b"}, 2)
    happen(store, "c")
    assert Archiver(store, history, SOON).one_pass() == 1
    assert (filed(history), left(store)) == ({"a", "b", "c"}, 0)


def test_a_death_between_filing_and_forgetting_files_no_event_of_an_entry_twice(store: Store, history: History) -> None:
    """Attempts and notices are rows of their own by the ids of their events; the position is an entry."""
    plan = Plan(graph="etl", version="v1", tasks=(TaskPlan(name="a"), TaskPlan(name="b")))
    store.announce("w1", ["etl"], {"host": "here"}, 60_000)
    store.start(plan, [NewRun(id="etl-x"), NewRun(id="etl-y")])
    claims = store.take(ask(4)).claims
    store.finish(ask(0), [Report(claim.job, claim.token, Outcome.SUCCESS) for claim in claims])
    assert left(store) == 2
    with pytest.raises(Dies):
        Archiver(DyingStore(store.client), history, SOON).one_pass()
    assert left(store) == 2
    happen(store, "later")
    assert Archiver(store, history, SOON).one_pass() == 1
    assert left(store) == 0
    assert filed(history) == {"etl-x", "etl-y", "later"}
    for run in ("etl-x", "etl-y"):
        assert history.run(run).state is RunState.SUCCESS
        assert sorted(row.task for row in history.attempts(run)) == ["a", "b"]


def test_one_that_dies_within_a_long_pass_leaves_what_is_not_filed(store: Store, history: History) -> None:
    for number in range(4):
        at_once(store, *(f"r{number}-{each}" for each in range(8)))
    with pytest.raises(Dies):
        Archiver(DyingStore(store.client), history, SOON).one_pass()
    assert len(filed(history)) == 16, "a transaction ends with the entry that makes it ten events"
    assert Archiver(store, history, SOON).one_pass() == 16
    assert (len(filed(history)), left(store)) == (32, 0)


class Noting:
    """A history that tells how much it was given at once."""

    def __init__(self, history: History) -> None:
        self._history = history
        self.given: list[list[str]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._history, name)

    def record(self, events: Any, **more: Any) -> None:
        self.given.append([id_ for id_, _ in events])
        self._history.record(events, **more)


def test_transactions_have_a_bound_and_hold_whole_entries(store: Store, history: History) -> None:
    for number in range(10):
        at_once(store, *(f"r{number}-{each}" for each in range(7)))
    noting: Any = Noting(history)
    archiver = Archiver(store, noting, SOON)
    assert [archiver.one_pass(), archiver.one_pass()] == [70, 0]
    assert [len(ids) for ids in noting.given] == [14] * 5
    places = [{entry_of(id_) for id_ in ids} for ids in noting.given]
    assert all(before.isdisjoint(after) for before, after in itertools.pairwise(places))
    assert len(filed(history)) == 70


def test_a_damaged_end_of_an_entry_costs_history_nothing_else(store: Store, history: History) -> None:
    at_once(store, "a", "b", tail=b"\x8f\xa1")
    happen(store, "c")
    assert Archiver(store, history, SOON).one_pass() == 4
    assert (filed(history), left(store)) == ({"a", "b", "c"}, 0)


def test_an_old_leader_that_lingers_does_no_harm(store: Store, history: History, path: Path) -> None:
    old, new = Archiver(store, history, SOON), Archiver(store, History(f"sqlite:///{path}"), SOON)
    old.one_pass()
    happen(store, "a")
    new.one_pass()
    happen(store, "b")
    assert (old.one_pass(), new.one_pass()) == (1, 0)
    assert filed(history) == {"a", "b"}


def test_another_server_with_the_same_history_loses_nothing(store: Store, history: History) -> None:
    history.record(numbered(created("of the laptop")))  # its stream ids are later than anything below
    history.record([(f"{10**15}-0", created("of the future"))], source="laptop")
    happen(store, "of the cluster")
    assert Archiver(store, history, SOON).one_pass() == 1
    assert filed(history) == {"of the laptop", "of the future", "of the cluster"}


def test_a_server_that_was_emptied_is_a_new_source(store: Store, history: History) -> None:
    happen(store, "a")
    Archiver(store, history, SOON).one_pass()
    store.client.flushall()
    store.client.xadd(store.keys.events, {"d": b"\xc1"}, id="5-0")  # as if its clock had been set back
    assert Archiver(store, history, SOON).one_pass() == 1


def test_a_bad_entry_is_passed_over(store: Store, history: History) -> None:
    happen(store, "a")
    store.client.xadd(store.keys.events, {"d": b"not msgpack"})
    happen(store, "b")
    assert Archiver(store, history, SOON).one_pass() == 3
    assert filed(history) == {"a", "b"}


class Refusing:
    """A history that never takes anything."""

    def position(self, *_: Any) -> str:
        raise UnavailableError("history is full")

    def record(self, *_: Any, **__: Any) -> None:
        raise AssertionError("recorded without knowing the position")


def test_without_a_position_nothing_is_read_or_forgotten(store: Store) -> None:
    happen(store, "a")
    with pytest.raises(UnavailableError):
        Archiver(store, Refusing(), SOON).one_pass()
    assert left(store) == 1


@pytest.mark.parametrize(("setting", "value"), [("batch", 0), ("block_ms", 0), ("block_ms", -1)])
def test_settings_that_would_spin_or_hang_are_refused(setting: str, value: int) -> None:
    with pytest.raises(SettingsError, match=setting):
        ArchiverConfig(**{setting: value})


def test_what_graphs_look_like_is_filed_with_their_first_run(store: Store, history: History) -> None:
    plan = Plan(graph="etl", version="v1", tasks=(TaskPlan(name="a", children=(1,)), TaskPlan(name="b", parents=(0,))))
    archiver = Archiver(store, history, SOON)
    happen(store, "a")
    archiver.one_pass()
    assert history.plan("v1") is None, "the server does not know it either"
    store.define(plan)
    happen(store, "b")
    Archiver(store, history, SOON).one_pass()
    assert history.plan("v1") == plan, "the next leader finds what an earlier one could not file"
