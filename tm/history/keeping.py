"""Keeping history in bounds and safe: old runs are dropped, a file is copied while it is in use, or put back."""

from __future__ import annotations

import os
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import func, select

from tm.clock import to_ms
from tm.errors import NotFoundError, RefusedError, UnavailableError
from tm.history.database import Database
from tm.history.schema import SCHEMA_VERSION, runs
from tm.states import FINAL_RUN_STATES

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from tm.states import RunState

#: runs deleted in one transaction: the archiver waits for it
LOT = 500


class Keeper(Database):
    """Drops and copies."""

    def prunable(
        self,
        *,
        before: datetime | None = None,
        keep: int = 1,
        states: Sequence[RunState] = (),
        graph: str | None = None,
    ) -> list[tuple[str, str]]:
        """Runs that have ended and may be dropped, oldest first, each with its graph.

        Args:
            before: only those created before.
            keep: so many of each graph, the newest, are left, whatever they are. At least one: what is known of a
                graph's last tick must not go.
            states: only those that ended so; by default however they ended.
            graph: only those of this graph.
        """
        number = func.row_number().over(partition_by=runs.c.graph, order_by=(runs.c.created.desc(), runs.c.id.desc()))
        ranked = select(runs.c.id, runs.c.graph, runs.c.state, runs.c.created, number.label("number"))
        if graph is not None:
            ranked = ranked.where(runs.c.graph == graph)
        each = ranked.subquery()
        query = select(each.c.id, each.c.graph).where(each.c.number > max(1, keep))
        query = query.where(each.c.state.in_([state.value for state in states or sorted(FINAL_RUN_STATES)]))
        if before is not None:
            query = query.where(each.c.created < to_ms(before))
        with self._reading() as connection:
            found = connection.execute(query.order_by(each.c.created, each.c.id))
            return [(row.id, row.graph) for row in found]

    def drop(self, ids: Sequence[str]) -> Iterator[int]:
        """Delete runs with all that belongs to them, some at a time; yields how many each time. Open ones stay."""
        final = [state.value for state in sorted(FINAL_RUN_STATES)]
        for first in range(0, len(ids), LOT):
            with self._writing() as connection:
                gone = runs.delete().where(runs.c.id.in_(ids[first : first + LOT]) & runs.c.state.in_(final))
                yield int(connection.execute(gone).rowcount)

    def compact(self) -> None:
        """Give the room of what was deleted back to the disk. Needs as much room again meanwhile, and stops writers."""
        path = self._file("compacted")
        with _sqlite(path, "cannot be compacted") as connection:
            connection.execute("VACUUM")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def back_up(self, target: Path) -> int:
        """Copy the file as it is at one moment, also while it is written to; returns the bytes of the copy.

        The copy is whole or not there at all, for its owner alone, and checked.

        Raises:
            RefusedError: the history is no file.
            UnavailableError: it cannot be read, or the copy cannot be written.
        """
        path = self._file("copied by this")
        with (
            _whole(target) as draft,
            _sqlite(path, f"cannot be copied to {target}") as source,
            closing(sqlite3.connect(draft)) as copy,
        ):
            source.backup(copy)
            copy.execute("PRAGMA journal_mode = DELETE")  # one file, with nothing beside it
            _refuse_damaged(copy, target)
        return target.stat().st_size

    def _file(self, what: str) -> Path:
        if self._path is None:
            raise RefusedError(
                f"history {self.name} is no file that could be {what}; use the database's own tools (pg_dump)"
            )
        return self._path


def put_back(backup: Path, path: Path, *, aside: str) -> Path | None:
    """Put a backup in the place of a history that nobody uses; returns where the former one is now.

    Args:
        backup: made by `back_up`.
        path: of the history.
        aside: added to the name of the former one.

    Raises:
        RefusedError: it is no backup of a history, it is damaged, or of a newer version of Taskmaster.
        UnavailableError: files cannot be read or written.
    """
    examine(backup)
    former = None
    with _whole(path, make_folder=True) as draft:
        try:
            draft.write_bytes(backup.read_bytes())
            if path.exists():
                with closing(sqlite3.connect(path, timeout=5)) as connection:
                    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # what is beside the file goes into it
        except sqlite3.Error:
            pass  # a damaged one is put aside as it is
        except OSError as error:
            raise UnavailableError(f"history {path} cannot be put back: {error.strerror}") from error
        if path.exists():
            former = path.with_name(f"{path.name}.{aside}")
            for side in ("", "-wal", "-shm"):
                if (each := path.with_name(path.name + side)).exists():
                    each.rename(former.with_name(former.name + side))
    return former


def examine(backup: Path) -> int:
    """Whether this is a backup that may be put back; returns how many runs are in it.

    Raises:
        NotFoundError: there is no such file.
        RefusedError: it is no backup of a history, it is damaged, or of a newer version of Taskmaster.
    """
    if not backup.is_file():
        raise NotFoundError(f"there is no file {backup}")
    try:
        with closing(sqlite3.connect(f"{backup.absolute().as_uri()}?mode=ro&immutable=1", uri=True)) as connection:
            _refuse_damaged(connection, backup)
            version = int(connection.execute("SELECT value FROM meta WHERE key = 'schema'").fetchone()[0])
            count = int(connection.execute("SELECT count(*) FROM runs").fetchone()[0])
    except (sqlite3.Error, TypeError, ValueError) as error:
        raise RefusedError(f"{backup} is no backup of a history ({error})") from error
    if version > SCHEMA_VERSION:
        raise RefusedError(
            f"{backup} is of a newer version of Taskmaster (tables {version}, this one knows {SCHEMA_VERSION}); "
            "upgrade first"
        )
    return count


def _refuse_damaged(connection: sqlite3.Connection, path: Path) -> None:
    told = [str(row[0]) for row in connection.execute("PRAGMA quick_check(1)")]
    if told != ["ok"]:
        raise RefusedError(f"{path} is damaged: {told[0]}")


class _sqlite:  # noqa: N801 - used as a function
    """A connection past SQLAlchemy, for what only SQLite has."""

    def __init__(self, path: Path, what: str) -> None:
        self._path, self._what = path, what

    def __enter__(self) -> sqlite3.Connection:
        try:
            self._connection = sqlite3.connect(self._path, timeout=10, isolation_level=None)
        except sqlite3.Error as error:
            raise UnavailableError(f"history {self._path} {self._what}: {error}") from error
        return self._connection

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        self._connection.close()
        if isinstance(error, sqlite3.Error):
            raise UnavailableError(f"history {self._path} {self._what}: {error}") from error


class _whole:  # noqa: N801 - used as a function
    """A draft beside a file, which takes its place when nothing went wrong, and is for its owner alone."""

    def __init__(self, target: Path, *, make_folder: bool = False) -> None:
        self._target, self._make_folder = target, make_folder

    def __enter__(self) -> Path:
        try:
            if self._make_folder:
                self._target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor, name = tempfile.mkstemp(dir=self._target.parent, prefix=f".{self._target.name}.")
        except OSError as error:
            raise UnavailableError(f"{self._target} cannot be written: {error.strerror}") from error
        os.close(descriptor)
        self._draft = Path(name)
        return self._draft

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        if error is None:
            with self._draft.open("rb") as file:
                os.fsync(file.fileno())
            self._draft.replace(self._target)
            return
        self._draft.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise UnavailableError(f"{self._target} cannot be written: {error.strerror}") from error
