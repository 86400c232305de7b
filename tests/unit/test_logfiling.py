"""Lines go from the server into history: after the events of their runs, each once, and old ones are forgotten."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.unit.histories import created, ended
from tm.loglines import Chunk, Line, Stream, pack_lines
from tm_scheduler.logfiling import PRUNE_EVERY, LogFiling

if TYPE_CHECKING:
    from pathlib import Path

    from tm.events import Event
    from tm.history import History


@pytest.fixture
def history(tmp_path: Path) -> History:
    from tm.history import open_history

    return open_history(f"sqlite:///{tmp_path}/history.db")


def chunk(number: int, run: str = "etl-1", token: str = "k", *, task: str = "load", last: bool = False) -> Chunk:
    return Chunk(
        run=run,
        graph="etl",
        task=task,
        attempt=1,
        token=token,
        number=number,
        last=last,
        first_us=number,
        packed=pack_lines([Line(number, Stream.STDOUT, 20, "", f"line {number}")]),
    )


class Server:
    """Holds events and chunks, as the real one does."""

    def __init__(self, history: History) -> None:
        self.history = history
        self.events: list[tuple[str, Event]] = []
        self.chunks: list[tuple[str, Chunk | None]] = []
        self.broken = False

    def read(self, after: str, count: int = 200) -> list[tuple[str, Chunk | None]]:
        assert after == "0-0"
        return self.chunks[:count]

    def filed(self, upto: str) -> None:
        if self.broken:
            raise OSError("gone in between")
        place = [each for each, _ in self.chunks].index(upto)
        del self.chunks[: place + 1]

    def file_events(self) -> int:
        some, self.events = self.events[:2], self.events[2:]
        self.history.record(some, source="s")
        return len(some)

    def filing(self, **more: object) -> LogFiling:
        return LogFiling(self, self.history, self.file_events, batch=2, **more)


def test_lines_are_filed_after_all_events_so_that_their_runs_are_known(history: History) -> None:
    server = Server(history)
    server.events = [(f"{n}-0", created(f"etl-{n}")) for n in range(1, 6)]
    server.chunks = [("1-1", chunk(0, "etl-5")), ("2-1", None), ("3-1", chunk(1, "etl-5", last=True))]
    assert server.filing().one_pass(lambda: pytest.fail("there are lines, so nothing is waited for")) == 8
    assert [each.number for each in history.logs("etl-5")] == [0, 1]
    assert history.logs("etl-5")[1] == chunk(1, "etl-5", last=True)
    assert server.chunks == []
    assert server.filing().one_pass(lambda: 17) == 17


def test_a_pass_that_broke_off_is_repeated_without_doubles(history: History) -> None:
    server = Server(history)
    server.events = [("1-0", created("etl-1"))]
    server.chunks = [("1-1", chunk(0)), ("2-1", chunk(1)), ("2-2", chunk(1))]
    server.broken = True
    with pytest.raises(OSError, match="in between"):
        server.filing().one_pass(lambda: 0)
    server.broken = False
    server.filing().one_pass(lambda: 0)
    assert [each.number for each in history.logs("etl-1")] == [0, 1]


def test_lines_of_a_run_that_history_does_not_know_are_left_out(history: History) -> None:
    history.record([("1-0", created("etl-1"))], source="s")
    assert history.file_logs([chunk(0), chunk(0, "pruned")]) == 1
    assert history.logs("pruned") == []
    assert history.file_logs([]) == 0


def test_logs_of_one_task_and_of_two_claims(history: History) -> None:
    history.record([("1-0", created("etl-1"))], source="s")
    history.file_logs([chunk(0), chunk(0, token="second"), chunk(5, task="other")])
    assert [(each.token, each.number) for each in history.logs("etl-1", "load")] == [("k", 0), ("second", 0)]
    assert len(history.logs("etl-1")) == 3


def test_old_lines_are_forgotten_and_their_runs_are_not(history: History) -> None:
    history.record(
        [("1-0", created("etl-1")), ("2-0", created("etl-2")), ("3-0", ended("etl-1"))],
        source="s",
    )
    history.file_logs([chunk(0), chunk(0, "etl-2")])
    server = Server(history)
    assert history.logs_pruned_upto() is None
    (run,) = [row for row in history.runs() if row.id == "etl-1"]
    assert run.ended is not None
    now = run.ended.timestamp() + 50
    filing = server.filing(keep=100.0, now=lambda: now)
    filing.one_pass(lambda: 0)
    assert history.logs("etl-1")
    now += 100
    filing.one_pass(lambda: 0)
    assert history.logs("etl-1"), "it looks once an hour"
    now += PRUNE_EVERY
    filing.one_pass(lambda: 0)
    assert history.logs("etl-1") == []
    assert history.logs("etl-2"), "its run is open"
    assert {row.id for row in history.runs()} == {"etl-1", "etl-2"}
    assert history.logs_pruned_upto() == int((now - 100) * 1000)
