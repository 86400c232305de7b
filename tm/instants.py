"""Instants as people write them."""

from __future__ import annotations

import re
from datetime import UTC, datetime, time, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import tzinfo

WHEN = "2026-11-24, '2026-11-24 04:05', 2026-11-24T04:05:00Z, 04:05 or now"


def instant_of(text: str, zone: tzinfo, *, now: datetime | None = None, last: bool = False) -> datetime | None:
    """An instant, aware; what names no zone is on the wall clock of `zone`. None when it is none.

    Args:
        text: see WHEN.
        zone: for what names none.
        now: the present.
        last: a date alone means its last moment, and a time alone its next occurrence.
    """
    now = (now or datetime.now(UTC)).astimezone(zone)
    if text == "now":
        return now
    try:
        if re.fullmatch(r"\d\d:\d\d(:\d\d)?", text):
            found = datetime.combine(now.date(), time.fromisoformat(text), zone)
            return found + timedelta(days=1) if last and found < now else found
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    if re.fullmatch(r"\d{4}-?\d\d-?\d\d", text) and last:
        found = datetime.combine(found.date(), time.max)
    return found if found.tzinfo else found.replace(tzinfo=zone)
