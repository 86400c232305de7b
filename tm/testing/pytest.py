"""Fixtures for pytest; name this module in the conftest.py at the top: `pytest_plugins = ["tm.testing.pytest"]`.

It has to be named, and does not load itself with every pytest of an environment that Taskmaster is installed in.

    tm_clock   a `FakeClock`
    tm_run     `run_graph` on that clock
    tm_stack   an `EmbeddedStack`, shared by the tests of the session; override `tm_graphs` to say what it has loaded
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import pytest

from tm.testing.clock import FakeClock
from tm.testing.inprocess import run_graph
from tm.testing.stack import EmbeddedStack

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from tm.graph import Graph
    from tm.testing.result import RunResult


@pytest.fixture
def tm_clock() -> FakeClock:
    """A clock that jumps, from 2026-01-01 on."""
    return FakeClock()


@pytest.fixture
def tm_run(tm_clock: FakeClock) -> Callable[..., RunResult]:
    """`run_graph`, on the clock of `tm_clock` unless another is given."""

    @functools.wraps(run_graph)
    def run(graph: Graph, *args: Any, **kwargs: Any) -> RunResult:
        __tracebackhide__ = True
        return run_graph(graph, *args, **{"clock": tm_clock, **kwargs})

    return run


@pytest.fixture(scope="session")
def tm_graphs() -> Sequence[Graph | str | Path]:
    """What the stack of `tm_stack` loads: graph files, names of modules, graphs. Override it in conftest.py."""
    raise pytest.UsageError(
        "tm_stack has to know which graphs to load; write a fixture in conftest.py:\n"
        '    @pytest.fixture(scope="session")\n'
        "    def tm_graphs():\n"
        '        return ["my_graph.py"]'
    )


@pytest.fixture(scope="session")
def tm_session_stack(tm_graphs: Sequence[Graph | str | Path]) -> Iterator[EmbeddedStack]:
    """The stack itself, started when the first test asks for it; tests use `tm_stack`."""
    with EmbeddedStack(*tm_graphs) as stack:
        yield stack


@pytest.fixture
def tm_stack(tm_session_stack: EmbeddedStack) -> Iterator[EmbeddedStack]:
    """A real server, scheduler and worker, also for `graph.submit()`; without open runs before and after the test.

    What the services said, and the tasks printed, shows up in the report of a test that failed.
    """
    before = len(tm_session_stack.output)
    with tm_session_stack.in_environment():
        yield tm_session_stack
        tm_session_stack.cancel_all()
    print(tm_session_stack.output[before:], end="")
