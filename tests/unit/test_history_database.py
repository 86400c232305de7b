"""A history that cannot be used now says why, loses nothing, and works again when the trouble is over."""

from __future__ import annotations

import fcntl
import os
import sqlite3
import stat
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import event
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.schema import CreateTable

from tests.unit.histories import created, ended, locked, numbered, told
from tm.errors import NotFoundError, RefusedError, SettingsError, UnavailableError
from tm.history import History, open_history
from tm.history.light import open_light
from tm.history.schema import metadata
from tm.records import Plan, TaskPlan
from tm.retry import RetryPolicy

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "home" / "history.db"


@pytest.fixture
def history(path: Path) -> Iterator[History]:
    history = History(f"sqlite:///{path}", patience=0.1)
    history.prepare()
    yield history
    history.close()


def sql(path: Path, *statements: str) -> list[Any]:
    connection = sqlite3.connect(path)
    try:
        rows = [connection.execute(statement).fetchall() for statement in statements]
        connection.commit()
        return rows[-1]
    finally:
        connection.close()


def test_its_files_are_for_their_owner_alone(history: History, path: Path) -> None:
    history.record(numbered(created()))
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()} == {
        "history.db": 0o600,
        "history.db-wal": 0o600,
        "history.db-shm": 0o600,
    }


def test_a_directory_that_was_there_keeps_its_mode(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    open_history(f"sqlite:///{tmp_path}/history.db").close()
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o755


def test_what_is_committed_survives_a_power_cut(history: History) -> None:
    with history._reading() as connection:
        pragmas = [
            connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        ]
    assert pragmas == ["wal", 2, 1, 100]


def test_making_one_touches_nothing(path: Path) -> None:
    History(f"sqlite:///{path}")
    assert not path.parent.exists()


def test_a_reader_need_not_create_one(path: Path) -> None:
    with pytest.raises(NotFoundError, match="no history yet at"):
        open_history(f"sqlite:///{path}", create=False)
    assert not path.parent.exists()
    path.parent.mkdir()
    path.touch()
    with pytest.raises(NotFoundError, match="no history yet at"):
        open_history(f"sqlite:///{path}", create=False)


def test_a_relative_path_means_the_directory_of_the_beginning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    history = History("sqlite:///history.db")
    monkeypatch.chdir("/")
    history.prepare()
    history.close()
    assert (tmp_path / "history.db").exists()


# Trouble ----------------------------------------------------------------------------------------------------------------


def test_locked_by_another_process(history: History, path: Path) -> None:
    with locked(path):
        with pytest.raises(UnavailableError, match=r"history sqlite:///.*history\.db is locked by another process$"):
            history.record(numbered(created()))
        assert history.runs() == []  # reading goes on
    history.record(numbered(created()))
    assert len(history.runs()) == 1


def test_locked_before_it_was_ever_opened(path: Path) -> None:
    path.parent.mkdir()
    sql(path, "CREATE TABLE x (y)")
    history = History(f"sqlite:///{path}", patience=0.1)
    with locked(path), pytest.raises(UnavailableError, match="is locked by another process"):
        history.position()
    assert history.position() == "0-0"
    history.close()


def break_connections(history: History, pragma: str) -> None:
    """From now on and until it is opened afresh, this history's connections get a handicap."""
    history.close()
    history.prepare()
    assert history._engine is not None
    history._engine.dispose()
    event.listen(history._engine, "connect", lambda connection, _: connection.execute(f"PRAGMA {pragma}"))


@pytest.mark.parametrize(
    ("pragma", "sentence"),
    [("max_page_count = 1", "cannot grow: its disk is full"), ("query_only = ON", "is read-only for this user")],
)
def test_full_or_read_only(history: History, pragma: str, sentence: str) -> None:
    history.record(numbered(created("first")))
    break_connections(history, pragma)
    large = numbered(created("large", config="x" * 500_000), first=5)
    with pytest.raises(UnavailableError, match=sentence):
        history.record(large)
    history.record(large)  # opened afresh, without the handicap
    assert len(history.runs()) == 2


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_directory_that_is_closed_to_us(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(UnavailableError, match="cannot be opened: Permission denied"):
        open_history(f"sqlite:///{tmp_path}/home/history.db")


def test_a_place_where_no_file_can_be(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UnavailableError, match="cannot be opened: Not a directory"):
        open_history(f"sqlite:///{tmp_path}/file/history.db")
    with pytest.raises(UnavailableError, match="cannot be opened"):
        open_history(f"sqlite:///{tmp_path}")


def test_a_file_that_is_no_database(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"Dear diary, " * 500)
    history = History(f"sqlite:///{path}")
    with pytest.raises(UnavailableError, match="is no SQLite file; move it away"):
        history.record(numbered(created()))
    path.unlink()
    history.record(numbered(created()))
    assert len(history.runs()) == 1
    history.close()


def test_a_damaged_file(history: History, path: Path) -> None:
    history.record(numbered(*(created(f"etl-{n}", config="x" * 3000) for n in range(50))))
    history.close()
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(os.urandom(path.stat().st_size - 4096))
    with pytest.raises(UnavailableError, match="is damaged; move the file away"):
        history.runs()


def test_a_file_deleted_while_in_use_is_begun_anew(history: History, path: Path) -> None:
    history.record(numbered(created("before")))
    path.unlink()
    history.record(numbered(created("after"), first=5))
    assert [run.id for run in history.runs()] == ["after"]
    assert sql(path, "SELECT id FROM runs") == [("after",)]
    assert sql(path, "PRAGMA integrity_check") == [("ok",)]


#: what later versions added to the tables of version 3
LATER = ("DROP TABLE notices", "DROP TABLE IF EXISTS log_chunks")


def test_a_newer_schema_is_refused(history: History, path: Path) -> None:
    history.close()
    sql(path, "UPDATE meta SET value = '99' WHERE key = 'schema'")
    with pytest.raises(RefusedError, match="has tables of version 99, this Taskmaster knows 7; upgrade Taskmaster"):
        history.runs()


#: of version 6
UNDEFINED = "ALTER TABLE graph_versions DROP COLUMN definition"


def test_tables_of_version_1_are_brought_up_to_date(history: History, path: Path) -> None:
    history.record([("1-0", created())], source="a")
    history.close()
    drops = (
        *("ALTER TABLE runs DROP COLUMN source", "ALTER TABLE runs DROP COLUMN retry_of"),
        *("DROP TABLE marks", "DROP TABLE notices", "DROP TABLE log_chunks", UNDEFINED),
    )
    sql(path, *drops, "UPDATE meta SET value = '1' WHERE key = 'schema'")
    assert [row.id for row in history.runs()] == ["etl-1"]
    history.record([("2-0", created("etl-2"))], source="a")
    assert sql(path, "SELECT id, source FROM runs ORDER BY id") == [("etl-1", None), ("etl-2", "a")]


def test_tables_of_version_2_are_brought_up_to_date(history: History, path: Path) -> None:
    history.record([("1-0", created())], source="a")
    history.close()
    drops = ("ALTER TABLE runs DROP COLUMN retry_of", "DROP TABLE marks", "DROP TABLE notices", "DROP TABLE log_chunks")
    sql(path, *drops, UNDEFINED, "UPDATE meta SET value = '2' WHERE key = 'schema'")
    assert [row.retry_of for row in history.runs()] == [""]
    assert history.marks("etl-1") == []


def test_tables_of_version_3_are_brought_up_to_date(history: History, path: Path) -> None:
    history.record([("1-0", created())], source="a")
    history.close()
    drops = ("DROP TABLE notices", "DROP TABLE log_chunks", UNDEFINED)
    sql(path, *drops, "UPDATE meta SET value = '3' WHERE key = 'schema'")
    history.record([("2-0", told())], source="a")
    assert [row.outcome for row in history.notices("etl-1")] == ["failed"]


def test_tables_of_version_4_are_brought_up_to_date(history: History, path: Path) -> None:
    history.record([("1-0", created())], source="a")
    history.close()
    sql(path, "DROP TABLE log_chunks", UNDEFINED, "UPDATE meta SET value = '4' WHERE key = 'schema'")
    assert history.logs("etl-1") == []


def test_tables_of_version_5_are_brought_up_to_date(history: History, path: Path) -> None:
    history.record([("1-0", created())], source="a")
    history.close()
    drops = (UNDEFINED, "DROP INDEX runs_ended", "DROP INDEX notices_at")
    sql(path, *drops, "UPDATE meta SET value = '5' WHERE key = 'schema'")
    [version] = history.undefined()
    made = sql(path, "SELECT name FROM sqlite_master WHERE name IN ('runs_ended', 'notices_at') ORDER BY name")
    assert made == [("notices_at",), ("runs_ended",)]
    assert version == history.run("etl-1").version
    assert history.plan(version) is None, "nobody has told yet"
    plan = Plan(graph="etl", version=version, tasks=(TaskPlan(name="load"),))
    history.define(plan)
    assert (history.plan(version), history.undefined()) == (plan, [])


def test_tables_of_version_6_are_brought_up_to_date(history: History, path: Path) -> None:
    history.record([("1-0", created())], source="a")
    history.close()
    sql(path, "DROP INDEX attempts_rejected", "UPDATE meta SET value = '6' WHERE key = 'schema'")
    assert history.run("etl-1").id == "etl-1"
    assert sql(path, "SELECT name FROM sqlite_master WHERE name = 'attempts_rejected'") == [("attempts_rejected",)]
    asked = "EXPLAIN QUERY PLAN SELECT run FROM attempts WHERE outcome = 'rejected' AND ended >= 1"
    assert "attempts_rejected" in sql(path, asked)[0][3]


def test_a_plan_is_kept_whole_and_read_by_light_and_whole_alike(history: History, path: Path) -> None:
    history.record([("1-0", created())], source="a")
    version = history.run("etl-1").version
    retry = RetryPolicy(retries=3, retry_delay=2.5, backoff=1, max_retry_delay=60, jitter=0.1)
    plan = Plan(
        graph="etl",
        version=version,
        tasks=(
            TaskPlan(name="größe", children=(1, 2), timeout=7.5, calls=("failure",)),
            TaskPlan(name="b", parents=(0,), children=(2,), queue="gpu", retry=retry),
            TaskPlan(name="c", parents=(0, 1)),
        ),
        timeout=60.0,
        deadline=30.0,
        calls=("deadline",),
    )
    history.define(plan)
    history.define(plan)
    light = open_light(f"sqlite:///{path}")
    assert light is not None
    assert history.plan(version) == light.plan(version) == plan
    light.close()


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"tasks": [{}]}', '{"tasks": [{"name": "a", "parents": [7]}]}'])
def test_a_plan_that_cannot_be_read_is_as_if_there_were_none(history: History, path: Path, text: str) -> None:
    history.record([("1-0", created())], source="a")
    history.close()
    sql(path, f"UPDATE graph_versions SET definition = '{text}'")
    assert history.plan(history.run("etl-1").version) is None


def test_tables_of_somebody_else_are_left_alone(path: Path) -> None:
    path.parent.mkdir()
    sql(path, "CREATE TABLE runs (shoes)")
    with pytest.raises(RefusedError, match=r"already has tables of other making \(runs\)"):
        open_history(f"sqlite:///{path}")
    assert sql(path, "SELECT name FROM sqlite_master") == [("runs",)]


def test_a_meta_table_of_somebody_else_too(path: Path) -> None:
    path.parent.mkdir()
    sql(path, "CREATE TABLE meta (shoes)")
    with pytest.raises(RefusedError, match="has tables of version 0"):
        open_history(f"sqlite:///{path}")


# URLs -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("history.db", "is no database URL; write sqlite:///FILE"),
        ("", "is no database URL"),
        ("sqlite://", "needs a file"),
        ("sqlite:///:memory:", "needs a file"),
        ("mysql://u:secret@h/d", "not mysql://"),
        ("redis://h", "not redis://"),
        ("postgresql://u:secret@h:port/d", "is no database URL"),
    ],
)
def test_a_url_that_makes_no_sense_is_refused_without_its_password(url: str, problem: str) -> None:
    with pytest.raises(SettingsError) as caught:
        History(url)
    assert problem in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_driver_that_is_missing_is_named() -> None:
    history = History("postgresql+asyncpg_missing://u:secret@h/d".replace("asyncpg_missing", "pg8000"))
    assert "secret" not in repr(history)
    try:
        import pg8000  # type: ignore[import-not-found] # noqa: F401
    except ModuleNotFoundError:
        with pytest.raises(SettingsError, match="needs the Python package 'pg8000'"):
            history.prepare()


# Together ---------------------------------------------------------------------------------------------------------------


def test_several_processes_may_open_a_new_one_at_once(path: Path) -> None:
    program = "import sys; from tm.history import open_history; print(open_history(sys.argv[1]).position())"
    command = [sys.executable, "-c", program, f"sqlite:///{path}"]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(4)]
    assert [process.communicate(timeout=60)[0] for process in processes] == [b"0-0\n"] * 4


def test_two_archivers_take_turns(path: Path) -> None:
    events = [pair for n in range(100) for pair in numbered(created(f"r{n}"), ended(f"r{n}"), first=1 + 2 * n)]
    troubles: list[BaseException] = []

    def archive() -> None:
        history = History(f"sqlite:///{path}")
        try:
            for first in range(0, len(events), 10):
                while True:
                    try:
                        history.record(events[first : first + 10])
                        break
                    except UnavailableError as error:  # as the archiver does: somebody else's turn took too long
                        if "locked" not in str(error):
                            raise
        except BaseException as error:  # noqa: BLE001
            troubles.append(error)
        finally:
            history.close()

    threads = [threading.Thread(target=archive) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert troubles == []
    history = open_history(f"sqlite:///{path}")
    (graph,) = history.graphs(recent=0)
    assert graph.total == 100
    history.close()


@pytest.mark.parametrize("dialect", [sqlite.dialect(), postgresql.dialect()], ids=lambda dialect: dialect.name)
def test_every_table_can_be_said_in_both_dialects(dialect: Any) -> None:
    for table in metadata.sorted_tables:
        assert "CREATE TABLE" in str(CreateTable(table).compile(dialect=dialect))


def test_side_files_of_a_file_that_another_process_makes_at_this_moment_stay(tmp_path: Path) -> None:
    other = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(other, fcntl.LOCK_EX)
    history = History(f"sqlite:///{tmp_path / 'history.db'}")
    opening = threading.Thread(target=history.prepare)
    opening.start()
    opening.join(0.3)
    assert opening.is_alive(), "it waits for its turn"
    writer = sqlite3.connect(tmp_path / "history.db", isolation_level=None)
    writer.execute("PRAGMA journal_mode = WAL")
    writer.execute("PRAGMA user_version = 7")  # which is in the side file only
    write_ahead = (tmp_path / "history.db-wal").stat().st_ino
    os.close(other)
    opening.join(10)
    history.close()
    assert (tmp_path / "history.db-wal").stat().st_ino == write_ahead
    assert writer.execute("PRAGMA user_version").fetchone() == (7,)
    writer.close()
