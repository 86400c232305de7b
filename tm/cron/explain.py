"""A schedule in plain English."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tm.cron.expression import Expression


def explain(expression: Expression) -> str:
    """The schedule in English."""
    return str(expression)
