"""What happened to runs, tasks and attempts, in SQL: written by the archiver alone, read by everybody.

The only place that knows SQLAlchemy. SQLite by default, PostgreSQL by URL. Nothing in the engine waits for it. What is
here loads no SQLAlchemy before it is used: commands that only read a file do without it (`light`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tm.history.records import AttemptRow, GraphRow, MarkRow, NoticeRow, RunDetail, RunRow, TaskRunRow, VersionRow

if TYPE_CHECKING:
    from tm.history.whole import History, open_history

__all__ = [
    "AttemptRow",
    "GraphRow",
    "History",
    "MarkRow",
    "NoticeRow",
    "RunDetail",
    "RunRow",
    "TaskRunRow",
    "VersionRow",
    "open_history",
]


def __getattr__(name: str) -> Any:
    """Load what needs SQLAlchemy when it is first used (PEP 562)."""
    if name not in {"History", "open_history"}:
        raise AttributeError(f"module 'tm.history' has no attribute {name!r}")
    from tm.history import whole

    return getattr(whole, name)
