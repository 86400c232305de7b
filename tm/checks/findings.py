"""One thing that is wrong at one place, and the codes by which such things are known."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


class Severity(StrEnum):
    """How bad it is."""

    ERROR = "error"  #: it cannot run, or is certain to fail
    WARNING = "warning"  #: it runs, and most likely not as it was meant


#: all codes, with what they mean; names never change, and a code that is gone is not used again
CODES: dict[str, tuple[Severity, str]] = {
    "load": (Severity.ERROR, "the file cannot be loaded as a graph file"),
    "syntax": (Severity.ERROR, "it is not Python"),
    "import": (Severity.ERROR, "the file fails while it is imported"),
    "import-hangs": (Severity.ERROR, "the file does not come to an end when it is imported"),
    "import-crash": (Severity.ERROR, "the process that imported the file died"),
    "no-graph": (Severity.ERROR, "the file defines no graph"),
    "duplicate-graph": (Severity.ERROR, "two graphs have one name"),
    "duplicate-task": (Severity.ERROR, "two tasks of a graph have one name"),
    "definition": (Severity.ERROR, "a graph or a task is drawn wrongly"),
    "cycle": (Severity.ERROR, "the edges lead back to where they began"),
    "empty-graph": (Severity.ERROR, "a graph has no tasks"),
    "parameters": (Severity.ERROR, "a task cannot take what its parents send, or needs what nobody sends"),
    "async-task": (Severity.ERROR, "a task is an async function"),
    "generator-task": (Severity.ERROR, "a task is a generator, which is no message"),
    "manual-in-executor": (Severity.ERROR, "a manual graph was given to an Executor"),
    "schedule": (Severity.ERROR, "the schedule or the zone cannot be read"),
    "never-fires": (Severity.ERROR, "the schedule has no tick left"),
    "config": (Severity.ERROR, "the config file is missing or broken"),
    "type-mismatch": (Severity.ERROR, "what a parent returns is not what the child's annotation wants"),
    "unsendable-return": (Severity.ERROR, "what a task returns cannot become a message"),
    "unknown-key": (Severity.ERROR, "a child reads a key that its parent never sends"),
    "unknown-parent": (Severity.ERROR, "a task reads from its **kwargs what is no parent"),
    "bad-use": (Severity.ERROR, "a child uses its parent's value as what it is not"),
    "retry-on": (Severity.ERROR, "retry_on is no exception class"),
    "submit-on-import": (Severity.ERROR, "the file starts a run whenever somebody loads it"),
    "executor-twice": (Severity.WARNING, "a second Executor begins only when the first has ended"),
    "after-start": (Severity.WARNING, "a graph is changed below the line that runs it"),
    "unused-task": (Severity.WARNING, "a task is in no graph"),
    "disconnected": (Severity.WARNING, "parts of a graph never join"),
    "retry-settings": (Severity.WARNING, "retry settings that have no effect"),
    "retry-fail": (Severity.WARNING, "retry_on names what is never retried"),
    "timeout": (Severity.WARNING, "time-outs that contradict each other"),
    "misfire-window": (Severity.WARNING, "missed ticks are made up for within no time at all"),
    "manual-settings": (Severity.WARNING, "settings of ticks on a graph that has none"),
    "default-type": (Severity.WARNING, "a default that its annotation does not allow"),
    "default-message": (Severity.WARNING, "a default that no param can replace, for nothing like it can be sent"),
    "mutable-default": (Severity.WARNING, "a default that all runs in one process share"),
    "late-binding": (Severity.WARNING, "a task made in a loop reads the loop's variable when it runs"),
    "lambda-task": (Severity.WARNING, "a task is a lambda"),
    "queue": (Severity.WARNING, "no worker of the compose file takes from the queue"),
    "cron": (Severity.WARNING, "a schedule that surprises; the code is `cron-` and the name of the trap"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One problem at one place."""

    file: str  #: as the user would name it
    line: int = 0  #: from 1; 0 when it concerns the file as a whole
    column: int = 0  #: from 1; 0 when unknown
    code: str
    message: str
    hint: str = ""  #: what to do next

    @property
    def severity(self) -> Severity:
        """By its code."""
        return CODES["cron" if self.code.startswith("cron-") else self.code][0]

    @property
    def place(self) -> str:
        """As editors understand it."""
        return ":".join([self.file, *(str(each) for each in (self.line, self.column) if each)])

    @property
    def text(self) -> str:
        """Message and hint."""
        return f"{self.message}; {self.hint}" if self.hint else self.message

    def __str__(self) -> str:
        return f"{self.place}: {self.severity}: {self.text}  [{self.code}]"

    def github(self) -> str:
        """As a workflow command, which puts it beside the line on a page of changes."""
        where = {"file": self.file, "line": self.line, "col": self.column, "title": f"tm check: {self.code}"}
        properties = ",".join(f"{name}={_property(str(value))}" for name, value in where.items() if value)
        return f"::{self.severity} {properties}::{_data(self.text)}"

    def document(self) -> dict[str, Any]:
        """For `--json`."""
        known: dict[str, Any] = {"line": self.line or None, "column": self.column or None, "hint": self.hint or None}
        return {"severity": self.severity.value, **asdict(self), **known}


def made_of(stored: Mapping[str, Any]) -> Finding:
    """A finding that came through a pipe."""
    return Finding(**stored)


def sentence(code: str, text: str, file: str, line: int = 0, column: int = 0) -> Finding:
    """A finding from the words of an error of ours, which are `problem; what to do`."""
    # as users name files, from the working directory on
    message, _, hint = text.replace(f"{Path.cwd()}/", "").partition("; ")
    return Finding(file=file, line=line, column=column, code=code, message=message, hint=hint)


_IGNORE = re.compile(r"#\s*tm:\s*ignore(?:\[([\w\s,-]*)\])?")


def heeded(findings: Iterable[Finding], lines: Mapping[str, list[str]]) -> list[Finding]:
    """Those that no comment `# tm: ignore` or `# tm: ignore[code, code]` on their line waves through."""
    kept = []
    for finding in findings:
        text = lines.get(finding.file, [])
        match = _IGNORE.search(text[finding.line - 1]) if 0 < finding.line <= len(text) else None
        codes = {each.strip() for each in match[1].split(",")} if match and match[1] is not None else None
        if match is None or (codes is not None and finding.code not in codes):
            kept.append(finding)
    return kept


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
