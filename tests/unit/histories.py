"""Histories and events for tests: short to write, real to file."""

from __future__ import annotations

import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tm.events import AttemptEnded, CallbackEnded, RunCreated, RunEnded, TaskClosed
from tm.states import Outcome, RunState, TaskState

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

T0 = 1_700_000_000_000  #: when everything begins, in ms


def created(run: str = "etl-1", graph: str = "etl", at: int = T0, **fields: Any) -> RunCreated:
    usual: dict[str, Any] = {
        "version": "v1",
        "trigger": "schedule",
        "tick": T0,
        "params": b"",
        "config": "",
        "state": RunState.QUEUED,
        "reason": "",
    }
    return RunCreated(run=run, graph=graph, at=at, **usual | fields)


def attempt(run: str = "etl-1", node: int = 0, number: int = 1, **fields: Any) -> AttemptEnded:
    usual: dict[str, Any] = {
        "graph": "etl",
        "task": ["extract", "load", "report"][node],
        "outcome": Outcome.SUCCESS,
        "state": TaskState.SUCCESS,
        "worker": "w1",
        "claimed": T0 + 100 * number,
        "at": T0 + 100 * number + 50,
        "ms": 40,
        "error": b"",
        "due": None,
    }
    return AttemptEnded(run=run, node=node, attempt=number, **usual | fields)


def closed(run: str = "etl-1", node: int = 2, **fields: Any) -> TaskClosed:
    usual: dict[str, Any] = {
        "task": ["extract", "load", "report"][node],
        "state": TaskState.BLOCKED,
        "reason": "parent load failed",
        "at": T0 + 900,
    }
    return TaskClosed(run=run, node=node, **usual | fields)


def told(run: str = "etl-1", **fields: Any) -> CallbackEnded:
    usual: dict[str, Any] = {
        "graph": "etl",
        "task": "load",
        "kind": "failure",
        "id": f"{run}_1_1_failure",
        "outcome": "failed",
        "worker": "w1",
        "deliveries": 1,
        "ms": 3,
        "error": b"",
        "at": T0 + 1100,
    }
    return CallbackEnded(run=run, **usual | fields)


def ended(run: str = "etl-1", state: RunState = RunState.SUCCESS, at: int = T0 + 1000, **fields: Any) -> RunEnded:
    usual: dict[str, Any] = {"graph": "etl", "reason": "", "started": T0 + 100}
    return RunEnded(run=run, state=state, at=at, **usual | fields)


def numbered(*events: Any, first: int = 1) -> list[tuple[str, Any]]:
    """Events with stream ids, one ms apart."""
    return [(f"{T0 + index}-0", event) for index, event in enumerate(events, first)]


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Another process holds the database in an exclusive transaction."""
    holder = (
        "import sqlite3, sys; c = sqlite3.connect(sys.argv[1], isolation_level=None);"
        "c.execute('BEGIN EXCLUSIVE'); print('locked', flush=True); sys.stdin.read()"
    )
    process = subprocess.Popen([sys.executable, "-c", holder, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == b"locked\n"
        yield
    finally:
        process.stdin.close()
        process.stdout.close()
        process.wait(10)
