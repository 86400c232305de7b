"""Connections to the database of history: opening, making, and saying plainly why it does not answer."""

from __future__ import annotations

import fcntl
import os
import threading
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import create_engine, event, inspect, select, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from tm.errors import NotFoundError, RefusedError, SettingsError, UnavailableError
from tm.history.schema import MIGRATIONS, SCHEMA_VERSION, meta, metadata

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection, Engine
    from sqlalchemy.engine import URL


class Database:
    """The database of one history; opened when first used, and afresh after it failed."""

    def __init__(self, url: str, *, patience: float = 5.0) -> None:
        """Take note of the URL; `patience` is how many seconds to wait for a lock (SQLite).

        Raises:
            SettingsError: the URL is none of SQLite or PostgreSQL.
        """
        self._url, self._path = _read_url(url)
        self._patience = patience
        self._engine: Engine | None = None
        self._inode: int | None = None
        self._opening = threading.Lock()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r})"

    @property
    def name(self) -> str:
        """The URL without its password."""
        return self._url.render_as_string(hide_password=True)

    def prepare(self, *, create: bool = True) -> None:
        """Open the database and make its tables if they are missing. Repeatable.

        Raises:
            NotFoundError: there is none yet, and `create` is False.
            RefusedError: its tables are somebody else's, or of a newer version of Taskmaster.
            UnavailableError: it cannot be reached or made now.
        """
        with self._opening:
            if self._engine is not None:
                return
            with self._plainly():
                if self._path is not None:
                    _make_file(self._path, create=create)
                engine = self._connect()
                try:
                    self._check_schema(engine, create=create)
                except BaseException:
                    engine.dispose()
                    raise
                self._inode = None if self._path is None else _inode(self._path)
                self._engine = engine

    def close(self) -> None:
        """Let go of all connections. The next use opens it again."""
        engine, self._engine = self._engine, None
        if engine is not None:
            engine.dispose()

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        """One consistent view."""
        with self._transaction(write=False) as connection:
            yield connection

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        """One transaction, which waits for its turn at the beginning rather than failing in the middle."""
        with self._transaction(write=True) as connection:
            yield connection

    @contextmanager
    def _transaction(self, *, write: bool) -> Iterator[Connection]:
        if self._path is not None and _inode(self._path) != self._inode:
            self.close()  # deleted or replaced: SQLite would go on writing into the file that is gone
        engine = self._engine
        while engine is None:
            self.prepare()
            engine = self._engine
        with (
            self._plainly(),
            engine.connect().execution_options(tm_write=write) as connection,
            connection.begin(),
        ):
            yield connection

    @contextmanager
    def _plainly(self) -> Iterator[None]:
        """Turn what goes wrong below into UnavailableError, and forget the connections it went wrong on."""
        try:
            yield
        except DBAPIError as error:
            self.close()
            raise UnavailableError(f"history {self.name} {_reason(error)}") from error
        except (PoolTimeoutError, OSError) as error:
            self.close()
            problem = error.strerror if isinstance(error, OSError) else None
            raise UnavailableError(f"history {self.name} cannot be opened: {problem or error}") from error

    def _connect(self) -> Engine:
        if self._path is None:
            try:
                return create_engine(self._url, pool_pre_ping=True, hide_parameters=True)
            except ModuleNotFoundError as error:
                raise SettingsError(
                    f"history {self.name} needs the Python package {error.name!r}; install it"
                ) from error
        # hide_parameters: an error message must not spill params and configs into a log
        engine = create_engine(self._url, connect_args={"timeout": self._patience}, hide_parameters=True)
        event.listen(engine, "connect", _set_up_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        return engine

    def _check_schema(self, engine: Engine, *, create: bool) -> None:
        with engine.connect() as connection, connection.begin():
            version = _schema_version(connection)
        if version is None:
            if not create:
                raise NotFoundError(f"no history yet at {self.name}; it begins with the first run")
            with engine.connect().execution_options(tm_write=True) as connection, connection.begin():
                self._make_tables(connection)
                version = _schema_version(connection)
        if version in MIGRATIONS:
            with engine.connect().execution_options(tm_write=True) as connection, connection.begin():
                version = self._migrate(connection)
        if version != SCHEMA_VERSION:
            raise RefusedError(
                f"history {self.name} has tables of version {version}, this Taskmaster knows {SCHEMA_VERSION}; "
                "upgrade Taskmaster, or use another history (TM_HISTORY)"
            )

    def _migrate(self, connection: Connection) -> int | None:
        """Bring older tables up to date, in one transaction; somebody else may have been faster."""
        if connection.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(7264281)"))
        while (version := _schema_version(connection)) in MIGRATIONS:
            assert version is not None  # noqa: S101 - for the type checker: it is a key
            for statement in MIGRATIONS[version]:
                connection.execute(text(statement))
            connection.execute(meta.update().where(meta.c.key == "schema").values(value=str(version + 1)))
        return version

    def _make_tables(self, connection: Connection) -> None:
        if connection.dialect.name == "postgresql":  # several services may come up on an empty database
            connection.execute(text("SELECT pg_advisory_xact_lock(7264281)"))
        present = set(inspect(connection).get_table_names())
        if meta.name in present:
            return  # somebody else was faster
        taken = sorted(present & set(metadata.tables))
        if taken:
            raise RefusedError(
                f"history {self.name} already has tables of other making ({', '.join(taken)}); "
                "give Taskmaster a database of its own (TM_HISTORY)"
            )
        metadata.create_all(connection, checkfirst=False)
        connection.execute(meta.insert().values(key="schema", value=str(SCHEMA_VERSION)))


def _read_url(text: str) -> tuple[URL, Path | None]:
    """The URL and, for SQLite, the file it names."""
    try:
        url = make_url(text)
    except (ArgumentError, ValueError) as error:
        raise SettingsError(
            "the history setting (TM_HISTORY) is no database URL; write sqlite:///FILE or postgresql://..."
        ) from error
    kind = url.get_backend_name()
    if kind == "postgresql":
        return url, None
    if kind != "sqlite":
        raise SettingsError(f"history (TM_HISTORY) can be sqlite:///FILE or postgresql://..., not {kind}://")
    if not url.database or url.database == ":memory:" or url.database.startswith("file:"):
        raise SettingsError("history (TM_HISTORY) needs a file that outlives the process: sqlite:///FILE")
    path = Path(url.database).absolute()  # the process may change its directory later
    return url.set(database=str(path)), path


def _make_file(path: Path, *, create: bool) -> None:
    """For its owner alone: errors and params may hold secrets. SQLite gives its side files the same mode."""
    if path.exists():
        return
    if not create:
        raise NotFoundError(f"no history yet at {path}; it begins with the first run")
    if not path.parent.exists():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)  # another process may make it at this moment
    folder = os.open(path.parent, os.O_RDONLY | os.O_CLOEXEC)
    try:
        with suppress(OSError):  # a file system that knows no locks
            fcntl.flock(folder, fcntl.LOCK_EX)
        if path.exists():  # now: and its side files are in use
            return
        for side in ("-wal", "-shm", "-journal"):  # of a file that was deleted; they would be mixed into the new one
            path.with_name(path.name + side).unlink(missing_ok=True)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    finally:
        os.close(folder)


def _inode(path: Path) -> int | None:
    try:
        return path.stat().st_ino
    except OSError:
        return None


def _set_up_sqlite(connection: Any, _: Any) -> None:
    connection.isolation_level = None  # _begin_sqlite begins transactions, not the driver
    cursor = connection.cursor()
    # FULL: what is committed here is deleted from the server at once, so it has to survive a power cut
    for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    # a transaction that begins by reading and goes on to write fails at once if another was faster
    write = connection.get_execution_options().get("tm_write", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")


def _schema_version(connection: Connection) -> int | None:
    if not inspect(connection).has_table(meta.name):
        return None
    try:
        value = connection.execute(select(meta.c.value).where(meta.c.key == "schema")).scalar()
        return int(value) if value is not None else 0
    except (SQLAlchemyError, ValueError):
        return 0


_SQLITE_REASONS = {
    "SQLITE_BUSY": "is locked by another process",
    "SQLITE_LOCKED": "is locked by another process",
    "SQLITE_FULL": "cannot grow: its disk is full",
    "SQLITE_READONLY_DBMOVED": "was moved or deleted while in use",
    "SQLITE_READONLY": "is read-only for this user",
    "SQLITE_PERM": "is closed to this user",
    "SQLITE_AUTH": "is closed to this user",
    "SQLITE_CANTOPEN": "cannot be opened",
    "SQLITE_IOERR": "cannot be read or written: its disk reports an error",
    "SQLITE_CORRUPT": "is damaged; move the file away and a new history begins",
    "SQLITE_NOTADB": "is no SQLite file; move it away and a new history begins",
}


def _reason(error: DBAPIError) -> str:
    code = getattr(error.orig, "sqlite_errorname", "")
    for known, sentence in _SQLITE_REASONS.items():
        if code.startswith(known):
            return sentence
    lines = str(error.orig).strip().splitlines()
    return f"does not answer: {lines[0] if lines else type(error.orig).__name__}"
