"""What a stack says is short, aligned and true."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from tm import Graph, task
from tm.config import Settings
from tm.greeting import farewell, greeting, next_tick, ready


@task()
def hello() -> None: ...


def drawn(name: str, schedule: str = "manual", timezone: str | None = None) -> Graph:
    graph = Graph(name, schedule=schedule, timezone=timezone)
    graph.add_edges([hello])
    return graph


NOW = datetime(2026, 11, 24, 3, 2, tzinfo=UTC)


def settings(url: str | None = None) -> Settings:
    return Settings(home=Path.cwd() / ".tm", url=url, processes=2, timezone="UTC")  # type: ignore[arg-type]


def test_the_greeting_has_a_line_for_each_graph() -> None:
    etl = drawn("etl", "*/5 * * * *", "Europe/Berlin")
    nightly = drawn("nightly report", "0 2 * * *")
    helper = drawn("helper")
    assert greeting([helper, etl, nightly], [etl, nightly], settings(), NOW) == [
        "taskmaster 0.1.0  3 graphs, 2 executors, .tm/ (embedded server)",
        "  etl             */5 * * * *  next 04:05:00 Europe/Berlin",
        "  nightly report  0 2 * * *    next Wed 25 Nov 02:00:00 UTC",
        "  helper          manual",
    ]


def test_a_graph_whose_schedule_does_not_count_here_says_so() -> None:
    other = drawn("other", "0 * * * *")
    assert greeting([other], [], settings(), NOW)[1] == "  other  0 * * * *  not scheduled here"


def test_a_shared_server_is_named_without_its_password() -> None:
    lines = greeting([drawn("etl", "0 * * * *")], [], settings("redis://:hush@db:6379/0"), NOW)
    assert lines[0] == "taskmaster 0.1.0  1 graph, 2 executors, redis://:***@db:6379/0"
    assert ready(shared=True) == "up; Ctrl-C waits for running tasks"


def test_a_schedule_that_is_over_has_no_next_tick() -> None:
    assert next_tick(drawn("past", "0 0 0 1 1 * 2020"), NOW) == "no more ticks"


@pytest.mark.parametrize(
    ("running", "said"),
    [
        (0, "stopping; no graph is running"),
        (1, "waiting for 1 running graph; Ctrl-C again stops at once"),
        (2, "waiting for 2 running graphs; Ctrl-C again stops at once"),
        (None, "waiting for running graphs; Ctrl-C again stops at once"),
    ],
)
def test_the_farewell_says_what_is_waited_for(running: int | None, said: str) -> None:
    assert farewell(running) == said
