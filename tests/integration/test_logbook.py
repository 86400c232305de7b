"""Reading and following lines: server and history as one, each line once, gaps told, whatever happens meanwhile."""

from __future__ import annotations

import itertools
import threading
import time
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from tests.store.stage import SINGLE, plan
from tests.waiting import wait_for
from tm.client import Client
from tm.errors import UnavailableError
from tm.history import open_history
from tm.logbook import Logbook, Wanted
from tm.loglines import Chunk, Line, Stream, pack_lines
from tm.lookup import Lookup
from tm.states import Outcome, RunState
from tm.store.logs import LogStream
from tm.store.records import Ask, NewRun, Report

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.servers import Server
    from tm.history import History
    from tm.logbook import Entry
    from tm.runinfo import RunInfo
    from tm.store.store import Store

TASK = next(iter(SINGLE))


def chunk(number: int, *texts: str, at: int = 0, last: bool = False, token: str = "k", **more: object) -> Chunk:
    about = {"run": "r", "graph": "g", "task": TASK, "attempt": 1} | more
    lines = [Line(at or 1000 * number + k, Stream.STDOUT, 20, "", text) for k, text in enumerate(texts)]
    return Chunk(**about, token=token, number=number, last=last, first_us=at or 1000 * number, packed=pack_lines(lines))


class Place:
    """One open run, its server and its history."""

    def __init__(self, store: Store, history: History) -> None:
        self.store, self.history = store, history
        self.stream = LogStream(store)
        self.plan = plan(SINGLE)
        store.start(self.plan, [NewRun(id="r")])
        self.lookup = Lookup(store, lambda: history)
        self.book = Logbook(self.lookup)
        store.announce("w", [self.plan.graph], {}, 600_000)
        self._asks = itertools.count()

    def run(self) -> RunInfo:
        return self.lookup.run("r")

    def file(self) -> None:
        """What the archiver does."""
        events = self.store.events()
        self.history.record(events, source="s")
        entries = self.stream.read("0-0")
        self.history.file_logs([each for _, each in entries if each is not None])
        if entries:
            self.stream.filed(entries[-1][0])

    def claim(self) -> None:
        ask = Ask(worker="w", lease_ms=60_000, token=f"ask{next(self._asks)}", queues=("default",), count=1)
        (claim,) = self.store.take(ask).claims
        self._job, self._token = claim.job, claim.token

    def end(self, outcome: Outcome = Outcome.SUCCESS) -> None:
        ask = Ask(worker="w", lease_ms=60_000, token="end", queues=(), count=0)
        self.store.finish(ask, [Report(self._job, self._token, outcome, retry=False)])


@pytest.fixture
def place(store: Store, tmp_path: Path) -> Iterator[Place]:
    history = open_history(f"sqlite:///{tmp_path}/history.db")
    yield Place(store, history)
    history.close()


class Follower:
    """Somebody who follows, in a thread."""

    def __init__(self, place: Place, wanted: Wanted | None = None) -> None:
        self.got: list[str] = []
        self.times: list[float] = []
        self.over = threading.Event()
        self._thread = threading.Thread(target=self._follow, args=(place, place.run(), wanted), daemon=True)
        self._thread.start()

    def _follow(self, place: Place, run: RunInfo, wanted: Wanted | None) -> None:
        for batch in place.book.follow(run, wanted):
            self.got += texts(batch)
            self.times += [time.monotonic()] * len(batch)
        self.over.set()

    def has(self, *expected: str) -> None:
        wait_for(lambda: self.got == list(expected), f"{expected} to be followed", 10)


def texts(entries: list[Entry]) -> list[str]:
    return [entry.line.text for entry in entries]


def test_what_is_on_the_server_what_is_filed_and_what_is_in_both_is_read_once_and_in_order(place: Place) -> None:
    place.stream.add([chunk(0, "a", "b"), chunk(1, "c")])
    place.file()
    place.stream.add([chunk(1, "c"), chunk(2, "d"), chunk(2, "d"), chunk(3, "e", last=True)])
    assert texts(place.book.read(place.run()).entries) == ["a", "b", "c", "d", "e"]


def test_tasks_come_mixed_by_time_and_each_in_its_own_order(place: Place) -> None:
    place.stream.add(
        [
            chunk(0, "one", at=10, token="x", task="x"),
            chunk(0, "two", at=20, token="y", task="y"),
            chunk(1, "three, by a clock that went back", at=5, token="y", task="y"),
            chunk(1, "four", at=30, token="x", task="x"),
            chunk(0, "again", at=40, token="z", task="x", attempt=2),
        ]
    )
    read = place.book.read
    everything = ["one", "two", "three, by a clock that went back", "four", "again"]
    assert texts(read(place.run()).entries) == everything
    assert texts(read(place.run(), Wanted(task="y")).entries) == everything[1:3]
    assert texts(read(place.run(), Wanted(task="x", attempt=2)).entries) == ["again"]
    assert texts(read(place.run(), Wanted(attempt=1)).entries) == everything[:4]


def test_a_gap_is_told_where_it_is(place: Place) -> None:
    place.stream.add([chunk(1, "b"), chunk(3, "d"), chunk(4, "e", last=True)])
    got = texts(place.book.read(place.run()).entries)
    assert [text if len(text) == 1 else "gap" for text in got] == ["gap", "b", "gap", "d", "e"]
    assert "lines are missing here" in got[0]


def test_a_follower_gets_every_line_once_whether_it_is_filed_before_or_after(place: Place) -> None:
    place.stream.add([chunk(0, "before")])
    place.file()
    place.stream.add([chunk(1, "fresh")])
    place.claim()
    follower = Follower(place)
    follower.has("before", "fresh")
    for number in range(2, 30):
        place.stream.add([chunk(number, str(number))])
        if number % 3 == 0:
            place.file()
    place.stream.add([chunk(30, "end", last=True)])
    follower.has("before", "fresh", *map(str, range(2, 30)), "end")
    assert not follower.over.is_set()
    place.end()
    assert follower.over.wait(10)


def test_lines_that_were_filed_before_a_slow_follower_came_to_them_are_fetched_from_there(place: Place) -> None:
    place.claim()
    batches = place.book.follow(place.run())
    assert next(batches) == []
    place.stream.add([chunk(0, "a")])
    place.stream.add([chunk(1, "b")])
    place.file()
    place.stream.add([chunk(2, "c", last=True)])
    assert texts(next(batches)) == ["a", "b", "c"]
    place.end()
    assert list(batches) == []


@pytest.mark.alone
def test_lines_show_within_a_fifth_of_a_second(place: Place) -> None:
    place.claim()
    follower = Follower(place)
    lags = []
    for number in range(20):
        time.sleep(0.03)
        began = time.monotonic()
        place.stream.add([chunk(number, str(number), last=number == 19)])
        wait_for(lambda count=number: len(follower.times) > count, "the line", 5)
        lags.append(follower.times[number] - began)
    print(f"median {sorted(lags)[10] * 1000:.1f} ms, worst {max(lags) * 1000:.1f} ms")
    assert sorted(lags)[10] < 0.2
    place.end()
    assert follower.over.wait(10)


def test_the_end_of_a_task_ends_it_too_and_other_tasks_are_not_waited_for(place: Place) -> None:
    place.claim()
    follower = Follower(place, Wanted(task=TASK))
    place.stream.add([chunk(0, "mine"), chunk(0, "other", task="other", token="o")])
    follower.has("mine")
    place.stream.add([chunk(1, "last words", last=True)])
    place.end()
    assert follower.over.wait(10)
    assert follower.got == ["mine", "last words"]


def test_a_server_that_restarts_is_waited_for(own_server: Server, tmp_path: Path) -> None:
    from tm.store.store import Store

    history = open_history(f"sqlite:///{tmp_path}/history.db")
    with own_server.client() as client:
        place = Place(Store(client), history)
        place.claim()
        follower = Follower(place)
        place.stream.add([chunk(0, "before")])
        follower.has("before")
        own_server.kill()
        own_server.start()
        place.stream.add([chunk(1, "after", last=True)])
        follower.has("before", "after")
        place.end()
        assert follower.over.wait(20)
    history.close()


def test_without_a_server_the_history_answers_and_without_a_history_the_server(
    place: Place, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.stream.add([chunk(0, "line", last=True)])
    alone = Logbook(Lookup(place.store))
    assert texts(alone.read(place.run()).entries) == ["line"]
    place.file()
    assert alone.read(place.run()).entries == []
    without = Logbook(Lookup(None, lambda: place.history))
    assert texts(without.read(place.run()).entries) == ["line"]
    assert [texts(batch) for batch in without.follow(place.run())] == [["line"]]

    def fail() -> History:
        raise UnavailableError("history is locked")

    place.stream.add([chunk(1, "more", last=True)])
    locked = Logbook(Lookup(place.store, fail))
    assert texts(locked.read(place.run()).entries)[1:] == ["more"]
    assert locked.trouble == "history is locked"
    with pytest.raises(UnavailableError, match="locked"):
        Logbook(Lookup(None, fail)).read(place.run())


@pytest.mark.parametrize(
    ("outcome", "note"),
    [
        (Outcome.SUCCESS, "it ended as success and printed nothing"),
        (Outcome.FAILED, "it ended as failed and printed nothing"),
        (None, "it runs and has printed nothing yet"),
    ],
)
def test_silence_is_explained(place: Place, outcome: Outcome | None, note: str) -> None:
    place.claim()
    if outcome is not None:
        place.end(outcome)
    place.file()
    found = place.book.read(place.run())
    assert found.entries == []
    assert [(each.text, each.is_silence) for each in found.notes] == [(note, outcome is Outcome.SUCCESS)]


def test_a_worker_that_vanished_is_named_as_the_reason_why_lines_are_missing(place: Place) -> None:
    place.claim()
    place.end(Outcome.LOST)
    place.claim()
    place.end()
    place.file()
    first, second = place.book.read(place.run()).notes
    assert (first.attempt, second.attempt) == (1, 2)
    assert first.text.startswith("nothing of what it printed has arrived; it was lost")
    place.stream.add([chunk(0, "something")])
    (first, _) = place.book.read(place.run()).notes
    assert first.text.startswith("its last lines may be missing; it was lost")


def test_a_task_that_a_retry_has_kept_names_the_run_where_its_lines_are(place: Place) -> None:
    place.claim()
    place.end()
    run = place.run()
    kept = replace(run, id="r-2", retry_of="r", created_at=run.created_at + timedelta(hours=1))
    (note,) = place.book.read(kept, Wanted()).notes
    assert note.text == "it was kept from run r, where its lines are"


def test_lines_that_were_forgotten_for_their_age_are_said_to_be(place: Place) -> None:
    place.claim()
    place.stream.add([chunk(0, "old", last=True)])
    place.end()
    place.file()
    run = place.run()
    assert run.state is RunState.SUCCESS
    assert run.ended_at is not None
    place.history.prune_logs(int(run.ended_at.timestamp() * 1000) + 1000)
    found = place.book.read(run)
    assert found.entries == []
    assert "older than TM_LOG_TTL allows" in found.notes[0].text


def test_an_application_reads_and_follows_through_its_client(place: Place) -> None:
    client = Client(place.store, place.lookup)
    place.claim()
    place.stream.add([chunk(0, "a", "b", last=True), chunk(0, "other", task="other", token="o", last=True)])
    assert [(each.task, each.line.text) for each in client.logs("r", task=TASK)] == [(TASK, "a"), (TASK, "b")]
    following = client.logs("r", follow=True)
    assert sorted(next(following).line.text for _ in range(3)) == ["a", "b", "other"]
    place.end()
    assert list(following) == []
