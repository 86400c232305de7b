"""The whole history: read, written and kept."""

from __future__ import annotations

from tm.history.definitions import Definitions
from tm.history.logs import LogBook
from tm.history.reader import Reader
from tm.history.writer import Writer


class History(Reader, Writer, LogBook, Definitions):
    """One history. Making one touches nothing: services hold it while the database is away; see `prepare`.

    Safe to use from several threads; not across a fork. Every method raises UnavailableError, with a sentence that says
    why, when the database is locked, full, read-only, damaged or not reachable; the same call may succeed later.
    """


def open_history(url: str, *, create: bool = True) -> History:
    """The history at this URL, ready for use.

    Raises:
        SettingsError: the URL is none of SQLite or PostgreSQL.
        NotFoundError: there is none yet, and `create` is False.
        RefusedError: a newer version of Taskmaster has changed its tables.
        UnavailableError: it cannot be reached or made now.
    """
    history = History(url)
    history.prepare(create=create)
    return history
