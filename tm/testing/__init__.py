"""For your own tests: run a graph in process on a clock that jumps, replace tasks by name, and look at what came of it.

    run = run_graph(graph, rows=3, results={"extract": attempts(TimeoutError(), [1, 2, 3])})
    run.assert_success()
    assert run["extract"].attempts == 2
    assert run.delays == {"extract": [60.0]}

`EmbeddedStack` runs graphs on a real server, scheduler and worker of the test's own; fixtures for pytest are in
`tm.testing.pytest`, which has to be named: `pytest_plugins = ["tm.testing.pytest"]`.
"""

from __future__ import annotations

from tm.testing.clock import FakeClock
from tm.testing.inprocess import attempts, run_graph
from tm.testing.result import RemoteError, RunResult, TaskResult
from tm.testing.schedule import load_graph, ticks
from tm.testing.stack import EmbeddedStack

__all__ = [
    "EmbeddedStack",
    "FakeClock",
    "RemoteError",
    "RunResult",
    "TaskResult",
    "attempts",
    "load_graph",
    "run_graph",
    "ticks",
]
