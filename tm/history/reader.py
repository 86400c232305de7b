"""The reading side: lists and details for commands, pages and metrics."""

from __future__ import annotations

from typing import Any

from sqlalchemy import text

from tm.history.database import Database
from tm.history.queries import Queries


class Reader(Queries, Database):
    """Answers queries from whatever database the history is in."""

    @property
    def _by_bytes(self) -> bool:  # type: ignore[override]  # of PostgreSQL it depends on the database
        return self._path is not None

    def _all(self, query: str, **values: Any) -> list[Any]:
        with self._reading() as connection:
            return list(connection.execute(text(query), values))
