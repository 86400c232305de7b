"""Medians, spreads, quantiles and ratios of what was measured. Pure."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True)
class Spread:
    """Several measurements of one thing."""

    median: float
    low: float
    high: float
    count: int


def spread(values: Sequence[float]) -> Spread:
    """Of at least one value."""
    return Spread(statistics.median(values), min(values), max(values), len(values))


def quantile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least this share of all values does not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def times_better(ours: float, theirs: float, better: str) -> float:
    """How many times as good ours is; below 1 when theirs is better.

    Args:
        better: "high" for rates, "low" for times.
    """
    best, other = (ours, theirs) if better == "high" else (theirs, ours)
    return best / other if other > 0 else math.inf


def shown(value: float) -> str:
    """A number with three digits that matter, thousands separated."""
    if value >= 100:
        return f"{value:,.0f}"
    if value == 0:
        return "0"
    return f"{value:.{max(0, 2 - math.floor(math.log10(abs(value))))}f}"
