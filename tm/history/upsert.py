"""Rows go in, whether they are there already or not: the one statement that all writing of history is made of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from sqlalchemy import Connection, Table


def upsert(
    connection: Connection,
    table: Table,
    rows: Iterable[Mapping[str, Any]],
    changes: Mapping[str, Any],
) -> None:
    """Insert rows; those that are there already change as said, or stay as they are if nothing is said.

    No two of the rows may have the same key: PostgreSQL refuses to change a row twice in one statement.

    Args:
        connection: in the middle of a transaction.
        table: whose primary key tells rows apart.
        rows: all with the same columns.
        changes: for each column that changes, what becomes of the old and the new value.
    """
    rows = list(rows)
    if not rows:
        return
    insert = _insert(connection, table)
    key = list(table.primary_key.columns)
    if changes:
        excluded = insert.excluded
        new = {name: change(table.c[name], excluded[name]) for name, change in changes.items()}
        insert = insert.on_conflict_do_update(index_elements=key, set_=new)
    else:
        insert = insert.on_conflict_do_nothing(index_elements=key)
    connection.execute(insert, rows)


def _insert(connection: Connection, table: Table) -> Any:
    """ON CONFLICT is the same in both, but SQLAlchemy keeps it with the dialects; importing one takes 40 ms."""
    if connection.dialect.name == "postgresql":
        from sqlalchemy.dialects import postgresql

        return postgresql.insert(table)
    from sqlalchemy.dialects import sqlite

    return sqlite.insert(table)
