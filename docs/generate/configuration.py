"""The page on settings, from the table that reads them."""

from __future__ import annotations

import re
from dataclasses import dataclass

from docs.generate.pages import code, link, page, prose, table
from tm.config import TABLE

INTRO = """
Settings are environment variables; nothing is read from a file. An option of a command goes over the variable, and an
empty variable counts as not set. A value that makes no sense ends a command with 2 and names the variable, the value
and what is allowed. What counts in this shell, and where it comes from, says `tm config show`.

Read by: *all* is every process: applications that submit runs, commands, schedulers, workers. *Stack* is what
`python my_graph.py`, `tm up` and `tm run` start in one terminal; its scheduler and its worker heed what is theirs.
"""

ALL, SCHEDULER, WORKER, STACK = "all", "scheduler", "worker", "stack"


@dataclass(frozen=True, slots=True)
class About:
    """What the table of settings does not say of one."""

    unit: str  #: of a number; empty for what is none
    readers: tuple[str, ...]


SECONDS = "seconds"
BOTH = (SCHEDULER, WORKER)
SECTIONS: dict[str, dict[str, About]] = {
    "Where things are": {
        "TM_URL": About("", (ALL,)),
        "TM_HOME": About("", (ALL,)),
        "TM_NAMESPACE": About("", (ALL,)),
        "TM_HISTORY": About("", (SCHEDULER, "commands")),
        "TM_TZ": About("", (SCHEDULER, "commands")),
        "TM_APPENDFSYNC": About("", (STACK,)),
    },
    "Work": {
        "TM_PROCESSES": About("", (WORKER,)),
        "TM_LEASE": About(SECONDS, BOTH),
        "TM_DRAIN_TIMEOUT": About(SECONDS, BOTH),
        "TM_GRACE": About(SECONDS, (WORKER,)),
        "TM_NO_WORKER_AFTER": About(SECONDS, (SCHEDULER,)),
        "TM_MAX_MEMORY": About("MiB, or with a unit", (WORKER,)),
        "TM_MEMORY_LIMIT": About("MiB, or with a unit", (WORKER,)),
    },
    "Messages and results": {
        "TM_MAX_MESSAGE": About("bytes, or with a unit", (ALL,)),
        "TM_SPILL": About("", (ALL,)),
        "TM_RESULT_TTL": About(SECONDS, (ALL,)),
        "TM_FAILED_TTL": About(SECONDS, (ALL,)),
    },
    "Callbacks and alerts": {
        "TM_CALLBACK_TIMEOUT": About(SECONDS, (WORKER,)),
        "TM_WEBHOOK_URL": About("", (SCHEDULER,)),
        "TM_WEBHOOK_SECRET": About("", (SCHEDULER,)),
        "TM_WEBHOOK_EVENTS": About("", (SCHEDULER,)),
    },
    "Logs and task output": {
        "TM_LOG_LEVEL": About("", BOTH),
        "TM_LOG_FORMAT": About("", BOTH),
        "TM_TASK_OUTPUT": About("", (WORKER,)),
        "TM_LOG_LIMIT": About("bytes, or with a unit", (WORKER,)),
        "TM_LOG_TTL": About(SECONDS, (SCHEDULER,)),
    },
    "Metrics and health": {
        "TM_METRICS_PORT": About("", BOTH),
        "TM_METRICS_HOST": About("", BOTH),
    },
}


def render() -> str:
    """The page.

    Raises:
        KeyError: a setting is in no section, or a section has one that does not exist.
    """
    known = {each.variable: each for each in TABLE}
    listed = [name for section in SECTIONS.values() for name in section]
    if odd := {*known} ^ {*listed}:
        raise KeyError(f"docs/generate/configuration.py and tm/config/table.py differ in {', '.join(sorted(odd))}")
    rows = [[link(title), ", ".join(link(name, code(name)) for name in section)] for title, section in SECTIONS.items()]
    parts = [table(["section", "settings"], rows)]
    for title, section in SECTIONS.items():
        parts.append(f"## {title}")
        for name, about in section.items():
            setting = known[name]
            facts = [
                ["allowed", _words(setting.allowed)],
                *([["unit", about.unit]] if about.unit else []),
                ["default", _words(setting.default)],
                ["read by", ", ".join(about.readers)],
            ]
            parts += [f"### {name}", prose(setting.meaning, settings=""), table(["", ""], facts)]
    return page("Configuration", INTRO, *parts)


def _words(text: str) -> str:
    """Names of alerts and addresses stand as code, sentences as they are."""
    return re.sub(r"(?<![\w`])([a-z_]+\.[a-z_]+(?=,|$)|[a-z]+://[^\s,]+)", r"`\1`", prose(text, settings=""))
