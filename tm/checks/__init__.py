"""`tm check`: what is wrong with graph files, found before anything runs.

Files are imported, each in a process of its own (`inside`), and nothing of them is run: submitting is refused there.
What is found comes from three sides: the text (`source`), the graphs that the file makes (`settings`, `hints`,
`shapes`), and all files together (`report`).
"""

from __future__ import annotations

from tm.checks.findings import CODES, Finding, Severity
from tm.checks.report import Report, check

__all__ = ["CODES", "Finding", "Report", "Severity", "check"]
