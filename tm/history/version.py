"""The version of the tables; apart from them, for those who read without SQLAlchemy."""

from __future__ import annotations

#: raised with every change of a table; a file with a higher one is refused
SCHEMA_VERSION = 7
