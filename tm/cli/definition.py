"""`tm show GRAPH`: what a graph is, as the schedulers have announced it: tasks, schedule, next ticks, last runs."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import islice
from typing import TYPE_CHECKING, Any

from tm.cli.picture import print_picture
from tm.errors import NotFoundError
from tm.words import duration, shorten, span

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tm.cli.face import Face
    from tm.cli.render import Render
    from tm.insight import GraphFacts, Insight
    from tm.records import TaskPlan
    from tm.runinfo import RunInfo

#: ticks and runs that are shown
NEXT, LAST = 5, 5


def show_graph(face: Face, insight: Insight, name: str, picture: str | None) -> None:
    """Show a graph."""
    facts, render = insight.graph(name, recent=LAST), face.render()
    if face.as_json:
        render.document("tm.graph/1", [_document(insight, facts)])
        return
    if picture is not None:
        if facts.plan is None:
            raise NotFoundError(f"the server does not know how the tasks of graph {name!r} hang together")
        print_picture(facts.plan, {}, render, picture)
        return
    _print(insight, facts, render)


def _print(insight: Insight, facts: GraphFacts, render: Render) -> None:
    about, clock, now = facts.clock.about or {}, facts.clock, datetime.now(UTC)
    reason = insight.of_graph(clock.graph)
    rows = [("graph", clock.graph)]
    if about:
        rows += [("version", str(about.get("version", ""))), ("file", str(about.get("file", "")))]
        rows.append(("schedule", _in_words(clock.graph, about)))
        rows += _rules(about)
    ticks = _ticks(clock.graph, about, now)
    if ticks:
        zone = f" {about.get('timezone')}"
        rows.append(("next", ", ".join(render.clock(tick, now=now, zone=tick.tzinfo) for tick in ticks) + zone))
    rows.append(("state", reason.predicate))
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        if value:
            render.beside([(f"{name:<{width}}  ", "")], value)
    if facts.plan is not None:
        if len(facts.plan.tasks) > 1:
            render.line("")
            print_picture(facts.plan, {}, render)
        render.line("")
        names = [node.name for node in facts.plan.tasks]
        columns = ("TASK", "QUEUE", "TIMEOUT", "RETRIES", "PARENTS")
        table = [_task_row(node, names) for node in facts.plan.tasks]
        room = max(24, render.room(table, columns))
        render.table(columns, [[*row[:-1], shorten(row[-1], room)] for row in table])
    if clock.recent:
        render.line("")
        last = [_run_row(run, render, now) for run in clock.recent]
        render.table(("LAST RUNS", "STATE", "STARTED", ">TIME", "TRIGGER"), last, states=("STATE",))


def _in_words(graph: str, about: Mapping[str, Any]) -> str:
    from tm.cron import CronError, Expression

    schedule = str(about.get("schedule") or "manual")
    if schedule == "manual":
        return "manual"
    try:
        words = Expression(schedule, key=graph).explain().partition("\n")[0]
    except CronError:
        return schedule
    return f"{schedule} ({about.get('timezone')}): {words[:1].lower() + words[1:]}"


def _rules(about: Mapping[str, Any]) -> list[tuple[str, str]]:
    rules = []
    if about.get("schedule") != "manual":
        window = about.get("misfire_window")
        within = f" within {span(float(window))}" if window else ""
        rules += [("missed", f"{about.get('misfire')}{within}"), ("overlap", str(about.get("overlap", "")))]
    if about.get("max_active_runs"):
        rules.append(("runs", f"at most {about['max_active_runs']} open (max_active_runs)"))
    return [*rules, ("config", str(about.get("config") or ""))]


def _ticks(graph: str, about: Mapping[str, Any], now: datetime) -> list[datetime]:
    from tm.requests import ticks_after

    return list(islice(ticks_after(graph, about, now), NEXT))


def _task_row(node: TaskPlan, names: list[str]) -> list[str]:
    retry = node.retry
    tries = ""
    if retry.retries:
        grows = f" x {1 + retry.backoff:g}^n" if retry.backoff else ""
        most = f", at most {span(retry.max_retry_delay)}" if retry.max_retry_delay is not None and grows else ""
        jitter = f", jitter {retry.jitter:.0%}" if retry.jitter else ""
        tries = f"{retry.retries} after {span(retry.retry_delay)}{grows}{most}{jitter}"
    limit = span(node.timeout) if node.timeout is not None else ""
    return [node.name, node.queue, limit, tries, ", ".join(names[each] for each in node.parents)]


def _run_row(run: RunInfo, render: Render, now: datetime) -> list[str]:
    seconds = (now - run.started_at).total_seconds() if run.is_open and run.started_at else run.seconds
    started = render.clock(run.started_at or run.created_at, now=now)
    return [run.id, run.state.value, started, duration(seconds), run.trigger]


def _document(insight: Insight, facts: GraphFacts) -> dict[str, Any]:
    from tm.cli.documents import instant, pause_document, reason_document, run_document

    clock, about = facts.clock, facts.clock.about or {}
    names = [node.name for node in facts.plan.tasks] if facts.plan else []
    return {
        "name": clock.graph,
        "version": about.get("version"),
        "file": about.get("file"),
        "schedule": about.get("schedule"),
        "timezone": about.get("timezone"),
        "misfire": about.get("misfire"),
        "misfire_window": about.get("misfire_window"),
        "overlap": about.get("overlap"),
        "max_active_runs": about.get("max_active_runs") or None,
        "config": about.get("config") or None,
        "next_ticks": [instant(tick) for tick in _ticks(clock.graph, about, datetime.now(UTC))],
        "paused": None if clock.pause is None else pause_document(clock.pause),
        "why": reason_document(insight.of_graph(clock.graph)),
        "tasks": [
            {
                "name": node.name,
                "queue": node.queue,
                "timeout": node.timeout,
                "retries": node.retry.retries,
                "retry_delay": node.retry.retry_delay,
                "backoff": node.retry.backoff,
                "max_retry_delay": node.retry.max_retry_delay,
                "jitter": node.retry.jitter,
                "parents": [names[each] for each in node.parents],
            }
            for node in (facts.plan.tasks if facts.plan else ())
        ],
        "last_runs": [run_document(run, whole=False) for run in clock.recent],
    }
