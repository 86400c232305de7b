"""What the settings of graphs and tasks amount to, and where they contradict each other."""

from __future__ import annotations

import inspect
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from tm.checks.places import at_graph, at_task, function_of, shown
from tm.errors import CodecError, ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tm.checks.findings import Finding
    from tm.graph import Graph, Task

#: settings of ticks, with their defaults
_OF_TICKS = {"misfire": "latest", "misfire_window": 3600, "overlap": "allow", "timezone": None}


def of_graph(graph: Graph, now: datetime | None = None) -> Iterator[Finding]:
    """Findings in the settings of a graph whose plan is good."""
    yield from _schedule(graph, now or datetime.now(UTC))
    yield from _config(graph)
    yield from _parts(graph)
    for task in graph.tasks.values():
        yield from _timeouts(graph, task)


def of_task(task: Task[..., Any], *, root: bool) -> Iterator[Finding]:
    """Findings in the settings and the defaults of a task, which a graph may share with another."""
    yield from _retries(task)
    yield from _defaults(task, root=root)


def _schedule(graph: Graph, now: datetime) -> Iterator[Finding]:
    if graph.schedule is None:
        given = [name for name, default in _OF_TICKS.items() if getattr(graph, name) != default]
        if given:
            yield at_graph(
                graph,
                "manual-settings",
                f"graph {graph.name!r} has no schedule, so no ticks that {' and '.join(given)} could be about",
                "give it a schedule, or leave them out",
                setting=given[0],
            )
        return
    from tm.cron.odd_days import odd_days
    from tm.cron.traps import follows_the_clock, notes

    expression, text = graph.schedule, str(graph.schedule)
    for note in notes(expression):
        if note.warn:
            message = f"schedule {text!r} of graph {graph.name!r}: {note.text}"
            yield _split(at_graph(graph, f"cron-{note.code}", message, setting="schedule"))
    if next(expression.iter(now), None) is None:
        yield at_graph(
            graph,
            "never-fires",
            f"schedule {text!r} of graph {graph.name!r} has no tick left: all of its years are over",
            'change the years, or write schedule="manual"',
            setting="schedule",
        )
    elif graph.timezone is not None and not follows_the_clock(expression):
        for change in odd_days(expression, now.astimezone(graph.timezone)):
            message = f"schedule {text!r} of graph {graph.name!r} in {graph.timezone}, {change}"
            yield at_graph(graph, "cron-clock-change", message, setting="schedule")
    if graph.misfire != "skip" and graph.misfire_window == 0:
        yield at_graph(
            graph,
            "misfire-window",
            f"graph {graph.name!r} makes up for missed ticks (misfire={graph.misfire!r}) of the last 0 seconds: none",
            'give it a misfire_window, or misfire="skip"',
            setting="misfire_window",
        )


def _split(finding: Finding) -> Finding:
    from dataclasses import replace

    message, _, hint = finding.message.partition("; ")
    return replace(finding, message=message, hint=hint)


def _config(graph: Graph) -> Iterator[Finding]:
    from tm.checks.findings import Finding

    try:
        graph.read_config()
    except ConfigError as error:
        path = graph.config
        assert path is not None  # noqa: S101 - without one nothing is read
        if error.line is None:
            yield at_graph(
                graph,
                "config",
                f"config file {shown(path)} of graph {graph.name!r}{_reason(error)}",
                "every run would end as failed with this reason",
                setting="config",
            )
        else:
            yield Finding(
                file=shown(path),
                line=error.line,
                column=error.column or 0,
                code="config",
                message=f"config of graph {graph.name!r}{_reason(error)}",
                hint="every run would end as failed with this reason",
            )


def _reason(error: ConfigError) -> str:
    return f" {error.problem}" if error.problem.startswith(("is ", "has ")) else f": {error.problem}"


def _parts(graph: Graph) -> Iterator[Finding]:
    """A graph without edges is a list of tasks, and meant so; one with edges is meant to hang together."""
    tasks = graph.plan.tasks
    part = list(range(len(tasks)))

    def head(index: int) -> int:
        while part[index] != index:
            index = part[index]
        return index

    for index, task in enumerate(tasks):
        for child in task.children:
            part[head(child)] = head(index)
    parts: dict[int, list[str]] = {}
    for index, task in enumerate(tasks):
        parts.setdefault(head(index), []).append(task.name)
    if len(parts) == 1 or len(parts) == len(tasks):
        return
    largest, *others = sorted(parts.values(), key=len, reverse=True)
    for other in others:
        name = other[0]
        yield at_task(
            graph.tasks[name],
            "disconnected",
            f"graph {graph.name!r}: {_names(other)} never join{'s' if len(other) == 1 else ''} {_names(largest)}",
            "draw the edge that is missing, or make two graphs of it",
        )


def _names(names: list[str]) -> str:
    shown_ = ", ".join(repr(name) for name in names[:3])
    return shown_ + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _timeouts(graph: Graph, task: Task[..., Any]) -> Iterator[Finding]:
    if graph.timeout is None:
        return
    if task.timeout is not None and task.timeout > graph.timeout:
        yield at_task(
            task,
            "timeout",
            f"task {task.name!r} may take {task.timeout:g} s, a whole run of graph {graph.name!r} only "
            f"{graph.timeout:g} s",
            "raise the one or lower the other",
        )
    waits = sum(task.retry.delay_ms(number) for number in range(min(task.retry.retries, 1000))) / 1000
    if waits >= graph.timeout:
        yield at_task(
            task,
            "timeout",
            f"the retries of task {task.name!r} wait {waits:g} s in all, a whole run of graph {graph.name!r} may take "
            f"{graph.timeout:g} s",
            "the last ones never come; raise the time-out of the graph, or lower retries or delays",
        )


def _retries(task: Task[..., Any]) -> Iterator[Finding]:
    from tm.errors import Fail

    policy = task.retry
    named = [
        f"{name}={getattr(policy, name):g}"
        for name in ("retry_delay", "backoff", "max_retry_delay", "jitter")
        if getattr(policy, name)
    ]
    if not policy.retries and named:
        yield at_task(
            task,
            "retry-settings",
            f"task {task.name!r} has {' and '.join(named)}, and no retries",
            "add retries=...",
        )
    elif policy.retries and not policy.retry_delay and named:
        yield at_task(
            task,
            "retry-settings",
            f"task {task.name!r} has {' and '.join(named)} of a retry_delay of 0 s",
            "add retry_delay=...",
        )
    elif policy.retries and policy.max_retry_delay is not None and policy.max_retry_delay < policy.retry_delay:
        yield at_task(
            task,
            "retry-settings",
            f"task {task.name!r}: max_retry_delay ({policy.max_retry_delay:g} s) is below retry_delay "
            f"({policy.retry_delay:g} s), so every retry waits {policy.max_retry_delay:g} s",
            "swap the two, or leave max_retry_delay out",
        )
    named_errors: tuple[object, ...] = task.retry_on if isinstance(task.retry_on, tuple) else (task.retry_on,)
    for each in named_errors:
        if not (isinstance(each, type) and issubclass(each, BaseException)):
            yield at_task(
                task,
                "retry-on",
                f"task {task.name!r}: retry_on has {each!r}, which is no exception class",
                "name classes, as in retry_on=(ConnectionError, TimeoutError)",
            )
        elif issubclass(each, Fail):
            yield at_task(
                task,
                "retry-fail",
                f"task {task.name!r}: retry_on has {each.__name__}, and tm.Fail is never retried",
                "raise something else where another attempt may help",
            )


def _defaults(task: Task[..., Any], *, root: bool) -> Iterator[Finding]:
    from tm import codec
    from tm.checks.shapes import changes

    for name, parameter in inspect.signature(inspect.unwrap(task.function)).parameters.items():
        default = parameter.default
        if default is parameter.empty or default is None:
            continue
        if isinstance(default, list | dict | set | bytearray):
            _, function, _ = function_of(task)
            how = changes(function, name) if function else ""
            yield at_task(
                task,
                "mutable-default",
                f"task {task.name!r}: the default of {name!r} is one {type(default).__name__} for all runs in a "
                f"process{f', and {how} it' if how else ''}",
                f"write {name}=None, and make it inside",
                parameter=name,
            )
        elif root:
            try:
                codec.encode(default, where=name)
            except CodecError as error:
                yield at_task(
                    task,
                    "default-message",
                    f"root {task.name!r}: the default of {name!r} is no message, so no param can take its place "
                    f"({error.problem.partition('; ')[0]})",
                    "take a name or a number, and make the object inside",
                    parameter=name,
                )
