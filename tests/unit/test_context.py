"""`tm.get_context()`: which attempt of which run a task body is."""

from __future__ import annotations

import dataclasses
import re
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import tm
from tm import Graph, task
from tm.clock import to_ms
from tm.context import Context, deadline, running
from tm.errors import RefusedError


def test_a_task_in_process_knows_its_run() -> None:
    seen: list[Context] = []

    @task(retries=1)
    def first(n: int = 0) -> int:
        seen.append(tm.get_context())
        if len(seen) == 1:
            raise ValueError
        return n

    @task()
    def second(first: int) -> int:
        seen.append(tm.get_context())
        return first

    graph = Graph("known")
    graph.add_edges([first], [second])
    assert graph(n=3) == 3
    assert [(each.graph, each.task, each.attempt) for each in seen] == [
        ("known", "first", 1),
        ("known", "first", 2),
        ("known", "second", 1),
    ]
    assert len({each.run for each in seen}) == 1
    assert len({each.token for each in seen}) == 3
    assert seen[0].params == {"n": 3}
    assert seen[0].tick is None
    run = seen[0].run
    assert [each.idempotency_key for each in seen] == [f"{run}/first", f"{run}/first", f"{run}/second"]


def test_who_asks_twice_gets_the_same_and_it_ends_with_the_body() -> None:
    seen: list[Context] = []

    @task()
    def asks() -> None:
        seen.extend([tm.get_context(), tm.get_context()])

    graph = Graph("twice")
    graph.add_edges(asks)
    graph()
    assert seen[0] is seen[1]
    with pytest.raises(RefusedError):
        tm.get_context()


def test_a_graph_called_by_a_task_has_its_own_context() -> None:
    runs: list[str] = []

    @task()
    def inner() -> None:
        runs.append(tm.get_context().run)

    nested = Graph("nested")
    nested.add_edges([inner])

    @task()
    def outer() -> None:
        runs.append(tm.get_context().run)
        nested()
        runs.append(tm.get_context().run)

    graph = Graph("outer")
    graph.add_edges([outer])
    graph()
    before, within, after = runs
    assert before == after != within


def test_an_attempt_ends_at_the_earlier_of_its_time_out_and_the_end_of_its_run() -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    run_ends = to_ms(now + timedelta(seconds=30))
    assert deadline(now, None, None) is None
    assert deadline(now, 20, None) == now + timedelta(seconds=20)
    assert deadline(now, None, run_ends) == deadline(now, 40, run_ends) == now + timedelta(seconds=30)
    assert deadline(now, 20, run_ends) == now + timedelta(seconds=20)
    assert deadline(now, 1e18, None) is None


def test_outside_of_a_task_there_is_none() -> None:
    with pytest.raises(RefusedError, match="body of a task"):
        tm.get_context()


def test_threads_of_a_task_see_it_where_the_task_has_the_process_to_itself() -> None:
    context = Context(run="r", graph="g", task="t", attempt=1, token="x")
    seen: list[Context] = []
    with running(context, alone=True):
        thread = threading.Thread(target=lambda: seen.append(tm.get_context()))
        thread.start()
        thread.join()
    assert seen == [context]
    with pytest.raises(RefusedError):
        tm.get_context()


def test_the_page_on_tasks_does_what_it_says() -> None:
    page = (Path(__file__).parents[2] / "docs" / "how-to" / "task.md").read_text()
    [code] = re.findall(r"^```python\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    names: dict[str, Any] = {}
    exec(compile(code, __file__, "exec"), names)
    graph: Graph = names["daily"]
    assert graph(day="monday") == 3
    assert graph() == 3
    assert graph(day="sunday") is None
    with pytest.raises(tm.Fail, match="'someday' is no day"):
        graph(day="someday")
    documented = set(re.findall(r"`(\w+)`", page[page.index("| | |") : page.index("A task ends")]))
    fields = {each.name for each in dataclasses.fields(Context)} | {"idempotency_key", "logger"}
    assert fields - documented == set(), "what the page does not name"
