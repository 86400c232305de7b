"""When a graph runs: cron text, or an expression that was made before."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from tm import Executor, Graph, task
from tm.cron import Expression


@task()
def work():
    return None


def scheduled(**options) -> Graph:
    graph = Graph(name="scheduled", **options)
    graph.add_edges([work])
    return graph


def test_a_schedule_is_cron_text() -> None:
    graph = scheduled(schedule="*/15 9-17 * * mon-fri")
    assert str(graph.schedule) == "*/15 9-17 * * mon-fri"
    assert not graph.is_manual


def test_a_schedule_may_be_an_expression() -> None:
    expression = Expression("0 0 * * 0")
    assert scheduled(schedule=expression).schedule is expression


def test_without_a_schedule_a_graph_is_manual() -> None:
    assert scheduled().is_manual
    assert scheduled(schedule="manual").is_manual


def test_the_expression_of_the_first_version() -> None:
    expr = Expression("1-2,*/15 0 1 3 2")
    t = datetime(2024, 1, 31, 20)
    for expected in (datetime(2024, 3, 1, 0, 0), datetime(2024, 3, 1, 0, 1), datetime(2024, 3, 1, 0, 2)):
        t = expr.next(t)
        assert t == expected


def test_a_zone_is_where_the_schedule_is_read() -> None:
    graph = scheduled(schedule="30 8 * * *", timezone="Asia/Kolkata")
    assert graph.timezone == ZoneInfo("Asia/Kolkata")
    after = datetime(2026, 1, 1, tzinfo=UTC).astimezone(graph.timezone)
    assert graph.schedule is not None
    assert graph.schedule.next(after).astimezone(UTC) == datetime(2026, 1, 1, 3, 0, tzinfo=UTC)


def test_an_executor_takes_graphs_one_by_one_or_together() -> None:
    graph = scheduled(schedule="@hourly")
    executor = Executor()
    executor.add(graph)
    executor.add(graph)
    assert executor.graphs == (graph,) == Executor(graphs=[graph]).graphs
