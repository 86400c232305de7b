"""Cron expressions: read them, explain them, and find the runs before and after any instant.

The package stands alone: it needs the standard library only and imports nothing else of `tm`. See docs/cron.md.
"""

from tm.cron.errors import CronError, Exhausted
from tm.cron.expression import Expression

__all__ = ["CronError", "Exhausted", "Expression"]
