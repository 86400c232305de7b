"""The journal: what task bodies say of themselves, in a file that no server and no crash can take back.

One JSON line for each start and each end of a body, appended in one write and synced at once. Lines of processes that
are killed in between are whole, because each is one `write` on a descriptor opened with O_APPEND.
"""

from __future__ import annotations

import json
import os
import secrets
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tm import get_context

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

#: names the journal file for the bodies
VARIABLE = "TM_RIG_JOURNAL"


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line of the journal."""

    run: str
    task: str
    attempt: int
    token: str
    pid: int
    what: str  #: start | end | raise
    mono: float  #: CLOCK_MONOTONIC, the same for all processes of one machine
    wall: float
    nonce: str  #: one for each execution of a body; it is what the body returns
    graph: str = ""
    tick: float | None = None
    inputs: Mapping[str, str] = field(default_factory=dict)  #: parent's name -> the nonce received from it


def write(what: str, nonce: str, inputs: Mapping[str, str] | None = None) -> None:
    """Append a line for the task that is running here."""
    context = get_context()
    fields = {
        "run": context.run,
        "task": context.task,
        "attempt": context.attempt,
        "token": context.token,
        "pid": os.getpid(),
        "what": what,
        "mono": time.monotonic(),
        "wall": time.time(),
        "nonce": nonce,
        "graph": context.graph,
        "tick": None if context.tick is None else context.tick.timestamp(),
        "inputs": dict(inputs or {}),
    }
    descriptor = os.open(os.environ[VARIABLE], os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.write(descriptor, json.dumps(fields).encode() + b"\n")
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def body(given: Mapping[str, Any] | None = None, *, seconds: float = 0.0, fail: str = "") -> dict[str, Any]:
    """What every task of the rig does: say that it starts, take its time, say that it ends, return its nonce.

    Args:
        given: the messages of its parents, by name, each the return value of a `body`.
        seconds: how long to take; by default what a parent was given as `pace`.
        fail: raise ValueError with this text instead of ending well.
    """
    messages = {name: value for name, value in (given or {}).items() if isinstance(value, dict)}
    pace = max((float(value.get("pace", 0.0)) for value in messages.values()), default=0.0)
    nonce = secrets.token_hex(6)
    write("start", nonce, {name: value["nonce"] for name, value in messages.items()})
    time.sleep(seconds or pace)
    if fail:
        write("raise", nonce)
        raise ValueError(fail)
    write("end", nonce)
    return {"nonce": nonce, "pace": pace}


class Reader:
    """The lines of a journal that grows, each parsed once: tests look many times a second, and a sweep writes thousands.

    Only what ends with a newline counts as a line.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.lines = path, list[Line]()
        self._offset = 0

    def fresh(self) -> list[Line]:
        """All lines so far; not to be changed."""
        with suppress(FileNotFoundError), self.path.open("rb") as file:
            file.seek(self._offset)
            whole = file.read().rpartition(b"\n")[0]
            if whole:
                self.lines += [Line(**json.loads(line)) for line in whole.splitlines()]
                self._offset += len(whole) + 1
        return self.lines


def read(path: Path) -> list[Line]:
    """All lines, in the order in which they were written."""
    if not path.exists():
        return []
    return [Line(**json.loads(line)) for line in path.read_text().splitlines()]
