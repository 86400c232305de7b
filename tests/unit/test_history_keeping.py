"""Old runs are dropped from history, whole; a file is copied while it is written to, and put back."""

from __future__ import annotations

import os
import sqlite3
import stat
import threading
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from tests.unit.histories import T0, attempt, closed, created, ended, numbered
from tm.errors import NotFoundError, RefusedError, UnavailableError
from tm.history import open_history
from tm.history.keeping import Keeper, examine, put_back
from tm.states import RunState

if TYPE_CHECKING:
    from pathlib import Path

DAY = 86_400_000


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A history of two graphs: of each ten runs, one a day; every third failed, the newest of `etl` is open."""
    events = []
    for graph in ("etl", "bill"):
        for number in range(10):
            run, at = f"{graph}-{number}", T0 + number * DAY
            events += [created(run, graph, at), attempt(run, claimed=at + 1, at=at + 2), closed(run)]
            if (graph, number) != ("etl", 9):
                events.append(ended(run, RunState.SUCCESS if number % 3 else RunState.FAILED, at + 5))
    history = open_history(f"sqlite:///{tmp_path}/history.db")
    history.record(numbered(*events))
    history.close()
    return tmp_path / "history.db"


@pytest.fixture
def keeper(path: Path) -> Keeper:
    keeper = Keeper(f"sqlite:///{path}")
    keeper.prepare(create=False)
    return keeper


def day(number: int) -> datetime:
    return datetime.fromtimestamp((T0 + number * DAY) / 1000, UTC)


def ids(found: list[tuple[str, str]]) -> list[str]:
    return [run for run, _ in found]


def test_what_is_old_may_go_oldest_first(keeper: Keeper) -> None:
    assert ids(keeper.prunable(before=day(2))) == ["bill-0", "etl-0", "bill-1", "etl-1"]
    assert ids(keeper.prunable(before=day(2), graph="etl")) == ["etl-0", "etl-1"]
    assert ids(keeper.prunable(before=day(4), states=[RunState.FAILED], graph="bill")) == ["bill-0", "bill-3"]


def test_the_newest_of_each_graph_stay(keeper: Keeper) -> None:
    assert len(keeper.prunable(before=day(1000))) == 18
    assert not {"bill-9", "etl-9"} & set(ids(keeper.prunable(before=day(1000))))
    assert ids(keeper.prunable(keep=8)) == ["bill-0", "etl-0", "bill-1", "etl-1"]
    assert ids(keeper.prunable(keep=8, before=day(1))) == ["bill-0", "etl-0"]


def test_dropped_runs_go_with_all_that_belongs_to_them_and_open_ones_stay(keeper: Keeper, path: Path) -> None:
    assert sum(keeper.drop(["etl-0", "etl-1", "etl-9", "nobody"])) == 2
    history = open_history(f"sqlite:///{path}")
    assert {row.id for row in history.runs("etl")} == {f"etl-{number}" for number in range(2, 10)}
    for table in ("task_runs", "attempts"):
        with sqlite3.connect(path) as connection:
            rows = connection.execute(f"SELECT DISTINCT run FROM {table} WHERE run LIKE 'etl%'").fetchall()
        connection.close()
        assert ("etl-0",) not in rows
        assert ("etl-2",) in rows
    history.close()


def test_many_are_dropped_some_at_a_time(keeper: Keeper, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tm.history.keeping.LOT", 5)
    found = ids(keeper.prunable(before=day(1000)))
    assert list(keeper.drop(found)) == [5, 5, 5, 3]


def test_compacting_gives_room_back(keeper: Keeper, path: Path) -> None:
    history = open_history(f"sqlite:///{path}")
    history.record(
        numbered(
            *(e for n in range(50) for e in (created(f"x-{n}", "x", config="c" * 50_000), ended(f"x-{n}"))), first=1000
        )
    )
    before = path.stat().st_size + path.with_name("history.db-wal").stat().st_size
    sum(keeper.drop(ids(keeper.prunable(graph="x"))))
    keeper.compact()
    assert path.stat().st_size < before / 3
    assert len(history.runs("x")) == 1
    history.close()


def test_a_backup_is_whole_while_somebody_writes(keeper: Keeper, path: Path, tmp_path: Path) -> None:
    stop, written = threading.Event(), []

    def write() -> None:
        history = open_history(f"sqlite:///{path}")
        for number in range(10_000):
            if stop.is_set():
                break
            run = f"w-{number}"
            history.record(numbered(created(run, "w"), attempt(run), ended(run), first=1000 + 3 * number))
            written.append(run)
        history.close()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        copies = [tmp_path / f"copy-{number}.db" for number in range(5)]
        for copy in copies:
            assert keeper.back_up(copy) == copy.stat().st_size
    finally:
        stop.set()
        writer.join()
    assert written
    for copy in copies:
        assert stat.S_IMODE(copy.stat().st_mode) == 0o600
        with sqlite3.connect(copy) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            # each of its transactions wholly or not at all
            runs = connection.execute("SELECT count(*) FROM runs WHERE graph = 'w'").fetchone()
            attempts = connection.execute("SELECT count(*) FROM attempts WHERE run LIKE 'w-%'").fetchone()
        connection.close()
        assert runs == attempts
    assert sorted(each.name for each in tmp_path.iterdir() if each.name.startswith(".")) == []


def test_a_backup_that_cannot_be_written_leaves_nothing(keeper: Keeper, tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match="cannot be written: No such file or directory"):
        keeper.back_up(tmp_path / "nowhere" / "copy.db")
    assert not (tmp_path / "nowhere").exists()


def test_another_database_has_its_own_tools(tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match=r"is no file that could be copied by this; use .* \(pg_dump\)"):
        Keeper("postgresql://somebody:secret@db/history").back_up(tmp_path / "copy.db")


def test_a_backup_is_put_back_and_the_former_one_is_kept(keeper: Keeper, path: Path, tmp_path: Path) -> None:
    keeper.back_up(tmp_path / "copy.db")
    sum(keeper.drop(ids(keeper.prunable(before=day(1000)))))
    keeper.close()
    assert examine(tmp_path / "copy.db") == 20
    former = put_back(tmp_path / "copy.db", path, aside="before")
    assert former == path.with_name("history.db.before")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    for file, count in ((path, 20), (former, 2)):
        history = open_history(f"sqlite:///{file}", create=False)
        assert len(history.runs(limit=100)) == count
        history.close()


def test_a_backup_is_put_where_nothing_was(keeper: Keeper, tmp_path: Path) -> None:
    keeper.back_up(tmp_path / "copy.db")
    new = tmp_path / "other" / "history.db"
    assert put_back(tmp_path / "copy.db", new, aside="before") is None
    assert examine(new) == 20


def test_what_is_no_backup_is_refused_and_nothing_is_changed(path: Path, tmp_path: Path) -> None:
    before = path.read_bytes()
    (tmp_path / "text.db").write_text("no database at all, but long enough to look like one" * 20)
    sqlite3.connect(tmp_path / "other.db").execute("CREATE TABLE t (x)").connection.close()
    newer = sqlite3.connect(tmp_path / "newer.db")
    newer.executescript(
        "CREATE TABLE meta (key, value); INSERT INTO meta VALUES ('schema', 99); CREATE TABLE runs (id)"
    )
    newer.close()
    for name, said in (
        ("text.db", "is no backup of a history"),
        ("other.db", "is no backup of a history"),
        ("newer.db", "is of a newer version of Taskmaster"),
    ):
        with pytest.raises(RefusedError, match=said):
            put_back(tmp_path / name, path, aside="before")
    with pytest.raises(NotFoundError, match="there is no file"):
        put_back(tmp_path / "none.db", path, aside="before")
    assert path.read_bytes() == before
    assert not path.with_name("history.db.before").exists()


def test_a_damaged_backup_is_refused(keeper: Keeper, tmp_path: Path) -> None:
    copy = tmp_path / "copy.db"
    keeper.back_up(copy)
    with copy.open("r+b") as file:
        file.seek(8192)
        file.write(os.urandom(16_384))
    with pytest.raises(RefusedError, match=r"is damaged|is no backup"):
        examine(copy)


def test_nothing_is_made_where_no_history_is(tmp_path: Path) -> None:
    keeper = Keeper(f"sqlite:///{tmp_path}/history.db")
    with pytest.raises(NotFoundError, match="no history yet"):
        keeper.prepare(create=False)
    assert list(tmp_path.iterdir()) == []
