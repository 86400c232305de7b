"""Reading the SQLite file of a history without SQLAlchemy, whose import takes longer than most commands.

Only what is asked is different, not how: the queries are those of `queries`. Whatever is not as expected, and whatever
else is wanted, is left to the whole history, which also says plainly what is wrong.
"""

from __future__ import annotations

import sqlite3
from collections import namedtuple
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tm.history.queries import Queries
from tm.history.version import SCHEMA_VERSION

if TYPE_CHECKING:
    from tm.history import History


class LightHistory(Queries):
    """A history that is only looked at; made by `open_light`."""

    _by_bytes = True

    def __init__(self, url: str, connection: sqlite3.Connection) -> None:
        self._url = url
        self._connection: sqlite3.Connection | None = connection
        self._opened: History | None = None

    def __getattr__(self, name: str) -> Any:
        """What is no query is done by the whole history."""
        return getattr(self._whole(), name)

    def close(self) -> None:
        """Let go of the file."""
        if self._connection is not None:
            self._connection.close()
        if self._opened is not None:
            self._opened.close()

    def _whole(self) -> History:
        if self._opened is None:
            from tm.history import open_history

            self._opened = open_history(self._url, create=False)
        return self._opened

    def _all(self, query: str, **values: Any) -> list[Any]:
        if self._connection is not None:
            try:
                return self._connection.execute(query, values).fetchall()
            except sqlite3.Error:
                self._connection.close()
                self._connection = None
        return self._whole()._all(query, **values)  # noqa: SLF001 - the same query, by the other half of one class


def open_light(url: str) -> LightHistory | None:
    """The history at this URL, to be looked at; None where that takes SQLAlchemy.

    That is: no SQLite file, none yet, tables of another version, or a file that cannot be read just so.
    """
    if not url.startswith("sqlite:///"):
        return None
    path = Path(url.removeprefix("sqlite:///")).absolute()
    if not path.is_file():
        return None
    connection = None
    try:
        connection = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=5, check_same_thread=False)
        (version,) = connection.execute("SELECT value FROM meta WHERE key = 'schema'").fetchone()
        if version == str(SCHEMA_VERSION):
            connection.row_factory = _row
            return LightHistory(url, connection)
    except (sqlite3.Error, TypeError):
        pass  # the whole history says what is wrong
    if connection is not None:
        connection.close()
    return None


_shapes: dict[tuple[str, ...], Any] = {}


def _row(cursor: sqlite3.Cursor, values: tuple[Any, ...]) -> Any:
    columns = tuple(column[0] for column in cursor.description)
    shape = _shapes.get(columns)
    if shape is None:
        shape = _shapes[columns] = namedtuple("Row", columns)  # noqa: PYI024 - its fields are those of a query
    return shape(*values)
