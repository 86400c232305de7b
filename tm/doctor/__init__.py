"""`tm doctor`: whether everything that Taskmaster stands on is in order. `facts` looks, `judge` says what it means."""

from __future__ import annotations

from tm.doctor.facts import Facts, gather
from tm.doctor.judge import Check, Verdict, judge

__all__ = ["Check", "Facts", "Verdict", "gather", "judge"]
