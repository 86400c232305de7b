"""Taskmaster: Python functions, edges between them, a cron schedule; on a laptop or on many workers.

The names here are the public API. Those that need a server or a database are loaded when first used, so that
`import tm` stays light.
"""

from __future__ import annotations

from tm.errors import Fail, Skip, TaskmasterError

TYPE_CHECKING = False
if TYPE_CHECKING:  # importing typing would be nearly all that `import tm` takes
    from typing import Any

    from tm.callbacks import CallbackEvent
    from tm.client import results, wait_all
    from tm.context import Context, get_context
    from tm.executor import Executor
    from tm.graph import Graph
    from tm.tasks import Task, task

__version__ = "0.1.0"
__all__ = [
    "CallbackEvent",
    "Context",
    "Executor",
    "Fail",
    "Graph",
    "Skip",
    "Task",
    "TaskmasterError",
    "__version__",
    "get_context",
    "results",
    "task",
    "wait_all",
]

_HOME = {
    "CallbackEvent": "tm.callbacks",
    "Context": "tm.context",
    "Executor": "tm.executor",
    "Graph": "tm.graph",
    "Task": "tm.tasks",
    "get_context": "tm.context",
    "results": "tm.client",
    "task": "tm.tasks",
    "wait_all": "tm.client",
}


def __getattr__(name: str) -> Any:
    """Load a public name when it is first used (PEP 562)."""
    if name not in _HOME:
        raise AttributeError(f"module 'tm' has no attribute {name!r}")
    import importlib

    value = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = value
    return value
