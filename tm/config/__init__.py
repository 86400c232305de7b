"""Settings: what the environment and the command line may change. Nothing else in Taskmaster reads it."""

from __future__ import annotations

from tm.config.environment import environment_with, has_cursor, sources, surroundings, wants_color, within
from tm.config.kinds import ALERTS, DEFAULT_ALERTS, HARD_MAX_MESSAGE
from tm.config.settings import Settings
from tm.config.showing import veiled
from tm.config.table import TABLE, Setting

__all__ = [
    "ALERTS",
    "DEFAULT_ALERTS",
    "HARD_MAX_MESSAGE",
    "TABLE",
    "Setting",
    "Settings",
    "environment_with",
    "has_cursor",
    "sources",
    "surroundings",
    "veiled",
    "wants_color",
    "within",
]
