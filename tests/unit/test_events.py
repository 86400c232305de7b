"""Reading the entries of the event stream; bad ones never stop it."""

from __future__ import annotations

from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tm.events import (
    AttemptEnded,
    Event,
    KeptTask,
    RunCreated,
    RunEnded,
    TaskClosed,
    TaskMarked,
    TasksKept,
    UnknownEvent,
    entry_of,
    order_of,
)
from tm.states import Outcome, RunState, TaskState
from tm.store.events import events_in, read

RUN = {"e": "run", "run": "etl-1", "graph": "etl", "plan": "v1", "trigger": "schedule", "tick": 1_700_000_000_000, "params": b"\x80", "config": '{"é": 1}', "state": "queued", "reason": "", "at": 1_700_000_000_123}  # fmt: skip
ATTEMPT = {"e": "attempt", "run": "etl-1", "graph": "etl", "node": 2, "task": "load", "attempt": 3, "outcome": "failed", "state": "retrying", "worker": "w1", "claimed": 10, "at": 30, "ms": 15, "error": b"\x81\xa4type\xa1E", "due": 99}  # fmt: skip
TASK = {"e": "task", "run": "etl-1", "node": 4, "task": "report", "state": "blocked", "reason": "parent load failed", "at": 31}  # fmt: skip
END = {"e": "end", "run": "etl-1", "graph": "etl", "state": "failed", "reason": "", "at": 32, "started": 9}


def lua(fields: dict[str, Any]) -> bytes:
    """As cmsgpack writes it: strings and bytes are the same thing."""
    return msgpack.packb(fields, use_bin_type=False)


def parse(raw: bytes) -> Event:
    """The only event of an entry."""
    [event] = events_in(raw)
    return event


def test_a_run_that_began() -> None:
    assert parse(lua(RUN)) == RunCreated(
        run="etl-1", graph="etl", version="v1", trigger="schedule", tick=1_700_000_000_000,
        params=b"\x80", config='{"é": 1}', state=RunState.QUEUED, reason="", at=1_700_000_000_123,
    )  # fmt: skip


def test_a_run_that_no_tick_started() -> None:
    event = parse(lua(RUN | {"tick": -1, "trigger": "manual"}))
    assert isinstance(event, RunCreated)
    assert event.tick is None


def test_an_attempt_that_failed_and_will_be_retried() -> None:
    assert parse(lua(ATTEMPT)) == AttemptEnded(
        run="etl-1", graph="etl", node=2, task="load", attempt=3, outcome=Outcome.FAILED, state=TaskState.RETRYING,
        worker="w1", claimed=10, at=30, ms=15, error=b"\x81\xa4type\xa1E", due=99,
    )  # fmt: skip


def test_a_late_report_for_a_run_the_server_has_forgotten() -> None:
    event = parse(
        lua(ATTEMPT | {"graph": "", "task": "", "outcome": "rejected", "state": "", "claimed": -1, "due": -1})
    )
    assert isinstance(event, AttemptEnded)
    assert (event.outcome, event.state, event.claimed, event.due) == (Outcome.REJECTED, None, None, None)


def test_a_task_that_will_not_run() -> None:
    assert parse(lua(TASK)) == TaskClosed(
        run="etl-1", node=4, task="report", state=TaskState.BLOCKED, reason="parent load failed", at=31
    )


def test_a_task_that_was_cancelled_as_it_ran() -> None:
    event = parse(lua(TASK | {"state": "cancelled", "attempt": 2, "claimed": 17}))
    assert isinstance(event, TaskClosed)
    assert (event.state, event.attempt, event.claimed) == (TaskState.CANCELLED, 2, 17)


def test_a_run_that_ended() -> None:
    assert parse(lua(END)) == RunEnded(run="etl-1", graph="etl", state=RunState.FAILED, reason="", at=32, started=9)


def test_numbers_may_be_doubles_or_text_as_lua_has_them() -> None:
    event = parse(lua(ATTEMPT | {"node": "2", "attempt": 3.0, "ms": "15"}))
    assert isinstance(event, AttemptEnded)
    assert (event.node, event.attempt, event.ms) == (2, 3, 15)


@pytest.mark.parametrize(
    ("raw", "problem"),
    [
        (lua({"e": "from-the-future"}), "unknown kind 'from-the-future'"),
        (lua({"run": "etl-1"}), "without b'e'"),
        (lua({k: v for k, v in END.items() if k != "state"}), "without b'state'"),
        (lua(END | {"state": "on fire"}), "on fire"),
        (lua(END | {"at": b"noon"}), "noon"),
        (lua(END | {"graph": 7}), "bytes expected"),
        (lua(END | {"at": True}), "a number expected"),
        (lua(END | {"at": float("nan")}), "unreadable"),
        (lua(END)[:-3], "unreadable"),
        (b"", "unreadable"),
        (b"\xc1", "unreadable"),
        (b"\x91" * 5000, "unreadable"),
        (msgpack.packb([1]), "unreadable"),
    ],
)
def test_a_bad_entry_becomes_an_unknown_event(raw: bytes, problem: str) -> None:
    event = parse(raw)
    assert isinstance(event, UnknownEvent)
    assert problem in event.problem


@given(st.binary(max_size=200))
def test_no_bytes_make_the_reader_raise(raw: bytes) -> None:
    assert events_in(raw), "something is said of each entry"


def test_an_entry_gives_all_its_events_in_their_order() -> None:
    events = events_in(lua(RUN) + lua(ATTEMPT) + lua(TASK) + lua(END))
    assert [type(event) for event in events] == [RunCreated, AttemptEnded, TaskClosed, RunEnded]


@pytest.mark.parametrize("tail", [b"\x00", b"\xc1", lua(END)[:-3], lua(END)[:1], b"\x00" * 50, b"\x91" * 5000])
def test_a_damaged_end_of_an_entry_costs_none_of_the_events_before_it(tail: bytes) -> None:
    first, second, rest = events_in(lua(RUN) + lua(TASK) + tail)
    assert (type(first), type(second)) == (RunCreated, TaskClosed)
    assert isinstance(rest, UnknownEvent)
    assert "unreadable" in rest.problem


def test_an_event_of_the_future_costs_none_of_those_around_it() -> None:
    events = events_in(lua(RUN) + lua({"e": "from-the-future", "with": [{"more": 1}]}) + lua(END))
    assert [type(event) for event in events] == [RunCreated, UnknownEvent, RunEnded]


@given(st.lists(st.sampled_from([RUN, ATTEMPT, TASK, END]), min_size=1, max_size=5), st.data())
def test_an_entry_cut_anywhere_keeps_what_is_whole(fields: list[dict[str, Any]], data: st.DataObject) -> None:
    packed = [lua(each) for each in fields]
    whole = b"".join(packed)
    cut = data.draw(st.integers(0, len(whole)))
    ends = [sum(map(len, packed[: number + 1])) for number in range(len(packed))]
    good = [parse(each) for each, end in zip(packed, ends, strict=True) if end <= cut]
    found = events_in(whole[:cut])
    assert found[: len(good)] == good
    assert all(isinstance(event, UnknownEvent) for event in found[len(good) :])
    assert len(found) == len(good) + (cut not in ends)


def test_each_event_has_an_id_that_tells_its_entry() -> None:
    found = read([(b"9-3", {b"d": lua(RUN) + lua(END)}), (b"10-0", {b"other": b"field"}), (b"10-1", {b"d": lua(TASK)})])
    assert [id_ for id_, _ in found] == ["9-3", "9-3-2", "10-0", "10-1"]
    assert [entry_of(id_) for id_, _ in found] == ["9-3", "9-3", "10-0", "10-1"]


def test_ids_are_in_the_order_of_their_numbers() -> None:
    ids = ["9-0", "9-0-2", "9-0-10", "9-1", "9-10", "10-0"]
    assert sorted(ids, key=order_of) == ids
    assert sorted(ids) != ids
    assert order_of("0") < order_of("0-1")


def test_a_number_no_database_takes_is_an_unknown_event() -> None:
    fields = {"e": "end", "run": b"r", "graph": b"g", "state": b"success", "reason": b"", "at": 1e300, "started": -1}
    assert isinstance(parse(msgpack.packb(fields)), UnknownEvent)


def test_what_a_retry_keeps() -> None:
    raw = lua({"e": "kept", "run": "etl-1-2", "source": "etl-1", "tasks": [[0, "load", "success"]], "at": 33})
    kept = KeptTask(node=0, task="load", state=TaskState.SUCCESS)
    assert parse(raw) == TasksKept(run="etl-1-2", source="etl-1", tasks=(kept,), at=33)


def test_what_a_person_said_of_a_task() -> None:
    raw = lua({"e": "mark", "run": "etl-1", "node": 1, "task": "load", "was": "failed", "state": "success", "by": "ann", "reason": "why", "at": 34})  # fmt: skip
    assert parse(raw) == TaskMarked(
        run="etl-1", node=1, task="load", was=TaskState.FAILED, state=TaskState.SUCCESS, by="ann", reason="why", at=34
    )


def test_a_run_that_repairs_another() -> None:
    event = parse(lua(RUN | {"retry_of": "etl-0"}))
    assert isinstance(event, RunCreated)
    assert event.retry_of == "etl-0"
