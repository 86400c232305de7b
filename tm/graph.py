"""Tasks, the edges between them, and the graph they make."""

from __future__ import annotations

import functools
import hashlib
import inspect
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar, overload

from tm import configfile, parameters, topology
from tm.errors import (
    CycleError,
    DefinitionError,
    DuplicateTaskError,
    EmptyGraphError,
    ScheduleError,
    SignatureError,
)
from tm.ids import GRAPH_NAME, QUEUE_NAME
from tm.records import Plan, TaskPlan
from tm.retry import RetryPolicy

if TYPE_CHECKING:
    from datetime import tzinfo
    from zoneinfo import ZoneInfo

    from tm.client import RunHandle
    from tm.cron import Expression

P = ParamSpec("P")
R = TypeVar("R")

MISFIRE = ("latest", "all", "skip")
OVERLAP = ("allow", "skip", "queue", "cancel_other")


class Task(Generic[P, R]):
    """A function that graphs can run; calling it calls the function."""

    def __init__(
        self,
        function: Callable[P, R],
        *,
        name: str | None = None,
        queue: str = "default",
        timeout: float | None = None,
        retry: RetryPolicy | None = None,
        retry_on: type[BaseException] | tuple[type[BaseException], ...] = Exception,
    ) -> None:
        if not callable(function):
            raise DefinitionError(f"@task needs a function, not {function!r}; write @task() above a def")
        if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
            raise DefinitionError(
                f"task {function.__name__!r} is async; call asyncio.run(...) inside a plain function instead"
            )
        self.function = function
        self.name = name if name is not None else function.__name__
        if not isinstance(self.name, str) or not self.name.isidentifier():
            raise DefinitionError(
                f"task name {self.name!r} is no identifier; children receive the result under this name"
            )
        if not isinstance(queue, str) or not QUEUE_NAME.fullmatch(queue):
            raise DefinitionError(f"task {self.name!r}: queue {queue!r} may hold letters, digits, '_', '.', '-'")
        if timeout is not None and not timeout > 0:
            raise DefinitionError(f"task {self.name!r}: timeout must be above 0 seconds, not {timeout!r}")
        self.queue = queue
        self.timeout = timeout
        self.retry = retry or RetryPolicy()
        self.retry_on = retry_on
        functools.update_wrapper(self, function)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function itself, here and now."""
        return self.function(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<task {self.name}>"

    @functools.cached_property
    def place(self) -> str:
        """Where the function is written, as file:line."""
        code = getattr(inspect.unwrap(self.function), "__code__", None)
        return f"{code.co_filename}:{code.co_firstlineno}" if code else repr(self.function)

    @functools.cached_property
    def parameters(self) -> dict[str, inspect.Parameter]:
        """The parameters that can be given by name."""
        return {
            name: parameter
            for name, parameter in inspect.signature(self.function).parameters.items()
            if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
        }

    @functools.cached_property
    def takes_anything(self) -> bool:
        """Whether the function has a `**kwargs`."""
        parameters = inspect.signature(self.function).parameters.values()
        return any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)

    @functools.cached_property
    def required(self) -> frozenset[str]:
        """Parameters without a default, positional-only ones included."""
        return frozenset(
            name
            for name, parameter in inspect.signature(self.function).parameters.items()
            if parameter.default is parameter.empty
            and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        )

    def accepts(self, name: str) -> bool:
        """Whether `name` can be passed by keyword."""
        return self.takes_anything or name in self.parameters

    @functools.cached_property
    def code_digest(self) -> bytes:
        """Digest of the function's source, so that a worker can tell old code from new."""
        function = inspect.unwrap(self.function)
        try:
            text = inspect.getsource(function).encode()
        except (OSError, TypeError):
            code = getattr(function, "__code__", None)
            text = code.co_code if code else repr(function).encode()
        return hashlib.blake2s(text, digest_size=8).digest()


@overload
def task(function: Callable[P, R], /) -> Task[P, R]: ...
@overload
def task(
    *,
    retries: int = 0,
    retry_delay: float = 0,
    backoff: float = 0,
    max_retry_delay: float | None = None,
    jitter: float = 0,
    retry_on: type[BaseException] | tuple[type[BaseException], ...] = Exception,
    timeout: float | None = None,
    queue: str = "default",
    name: str | None = None,
) -> Callable[[Callable[P, R]], Task[P, R]]: ...
def task(
    function: Callable[P, R] | None = None,
    /,
    *,
    retries: int = 0,
    retry_delay: float = 0,
    backoff: float = 0,
    max_retry_delay: float | None = None,
    jitter: float = 0,
    retry_on: type[BaseException] | tuple[type[BaseException], ...] = Exception,
    timeout: float | None = None,
    queue: str = "default",
    name: str | None = None,
) -> Task[P, R] | Callable[[Callable[P, R]], Task[P, R]]:
    """Make a function a task.

    Args:
        function: the function, when written as plain `@task`.
        retries: attempts after the first, each only if the one before failed.
        retry_delay: seconds before the first retry.
        backoff: growth of the delay; retry n (0-based) waits `retry_delay * (1 + backoff) ** n` seconds.
        max_retry_delay: seconds; no delay grows past this.
        jitter: up to this fraction of the delay is added at random.
        retry_on: exceptions worth another attempt; others fail the task at once, as `tm.Fail` always does.
        timeout: seconds one attempt may take; workers end it from outside. In-process calls do not enforce it.
        queue: the queue in which attempts wait for a worker.
        name: another name than the function's; children receive the result under it.
    """

    def wrap(inner: Callable[P, R]) -> Task[P, R]:
        policy = RetryPolicy(
            retries=retries,
            retry_delay=retry_delay,
            backoff=backoff,
            max_retry_delay=max_retry_delay,
            jitter=jitter,
        )
        return Task(inner, name=name, queue=queue, timeout=timeout, retry=policy, retry_on=retry_on)

    return wrap if function is None else wrap(function)


AnyTask = Task[..., Any]


class Graph:
    """Tasks and edges under one name, with a schedule.

    Args:
        name: unique among the graphs that run together.
        schedule: cron text, a `tm.cron.Expression`, or "manual" for a graph that only runs when called.
        config: path of a JSON file, read afresh at every run and passed to the roots as `config`; a relative path
            starts at the file that defines the graph.
        timezone: IANA name of the zone the schedule is read in; by default the scheduler's own (`TM_TZ`).
        misfire: what happens to ticks nobody was there for: run the "latest", "all" of them, or "skip".
        misfire_window: seconds; older missed ticks are always skipped.
        overlap: what a tick does while a run is still open: "allow", "skip", "queue" one, or "cancel_other".
        max_active_runs: so many open runs are too many for another tick, which then does what `overlap` says (with
            "allow" as with "queue"); by default 1, and with "allow" any number may be open. `tm trigger` and
            `tm backfill` heed it, `submit` and `tm run` do not.
        timeout: seconds a whole run may take.
    """

    def __init__(
        self,
        name: str,
        schedule: str | Expression = "manual",
        config: str | Path | None = None,
        *,
        timezone: str | None = None,
        misfire: str = "latest",
        misfire_window: float = 3600,
        overlap: str = "allow",
        max_active_runs: int | None = None,
        timeout: float | None = None,
    ) -> None:
        if not isinstance(name, str) or not GRAPH_NAME.fullmatch(name):
            raise DefinitionError(
                f"graph name {name!r} must have 1 to 100 characters, none of them '/', ':', '@' or unprintable"
            )
        if misfire not in MISFIRE:
            raise DefinitionError(f"graph {name!r}: misfire={misfire!r} is none of {', '.join(MISFIRE)}")
        if overlap not in OVERLAP:
            raise DefinitionError(f"graph {name!r}: overlap={overlap!r} is none of {', '.join(OVERLAP)}")
        if timeout is not None and not timeout > 0:
            raise DefinitionError(f"graph {name!r}: timeout must be above 0 seconds, not {timeout!r}")
        if not misfire_window >= 0:
            raise DefinitionError(f"graph {name!r}: misfire_window must be at least 0 seconds, not {misfire_window!r}")
        if max_active_runs is not None and (not isinstance(max_active_runs, int) or max_active_runs < 1):
            raise DefinitionError(f"graph {name!r}: max_active_runs must be 1 or more, not {max_active_runs!r}")
        self.name = name
        self.schedule = _schedule(name, schedule)
        self.timezone = _zone(name, timezone)
        self.misfire, self.misfire_window = misfire, misfire_window
        self.overlap, self.timeout = overlap, timeout
        self.max_active_runs = max_active_runs
        self.file = _caller_file()
        self.config = None if config is None else (self.file.parent / config)
        self.tasks: dict[str, AnyTask] = {}
        self._parents: dict[str, list[str]] = {}
        self._plan: Plan | None = None

    def __repr__(self) -> str:
        return f"<graph {self.name!r}: {len(self.tasks)} tasks, schedule {self.schedule or 'manual'}>"

    @property
    def is_manual(self) -> bool:
        """Whether the graph only runs when somebody calls or submits it."""
        return self.schedule is None

    def add_edges(
        self,
        parents: AnyTask | Sequence[AnyTask],
        children: AnyTask | Sequence[AnyTask] | None = None,
    ) -> None:
        """Draw an edge from each parent to each child; without children the tasks are just added.

        Raises:
            DefinitionError: a cycle (named in order), two tasks of one name, a child without a parameter for a
                parent, or something that is no task. The graph is then as it was before.
        """
        starts, ends = self._tasks_of(parents), self._tasks_of(children)
        tasks = dict(self.tasks)
        for each in (*starts, *ends):
            known = tasks.setdefault(each.name, each)
            if known is not each:
                raise DuplicateTaskError(self.name, each.name, known.place, each.place)
        drawn = {name: list(self._parents.get(name, ())) for name in tasks}
        for child in ends:
            for parent in starts:
                if parent.name not in drawn[child.name]:
                    drawn[child.name].append(parent.name)
                if not child.accepts(parent.name):
                    raise SignatureError(
                        self.name,
                        child.name,
                        f"has no parameter for its parent {parent.name!r}; add it to `def {child.name}(...)` "
                        f"at {child.place}, or **kwargs",
                    )
        if cycle := topology.cycle_of(drawn):
            raise CycleError(self.name, cycle)
        self.tasks, self._parents, self._plan = tasks, drawn, None

    def _tasks_of(self, given: AnyTask | Sequence[AnyTask] | None) -> list[AnyTask]:
        several: list[Any] = [] if given is None else list(given) if isinstance(given, Sequence) else [given]
        for each in several:
            if not isinstance(each, Task):
                hint = "; decorate it with @task()" if callable(each) else ""
                raise DefinitionError(f"graph {self.name!r}: {each!r} is no task{hint}")
        return several

    @property
    def plan(self) -> Plan:
        """The graph as the engine sees it: checked as a whole, tasks in topological order.

        Raises:
            DefinitionError: no tasks, or a required parameter that nobody provides.
        """
        if self._plan is None:
            self._plan = self._make_plan()
        return self._plan

    def _make_plan(self) -> Plan:
        if not self.tasks:
            raise EmptyGraphError(self.name)
        names = topology.in_order(self._parents)
        index = {name: position for position, name in enumerate(names)}
        children: dict[str, list[int]] = {name: [] for name in names}
        for name in names:
            for parent in self._parents[name]:
                children[parent].append(index[name])
        self._check_parameters()
        tasks = tuple(
            TaskPlan(
                name=name,
                parents=tuple(index[parent] for parent in self._parents[name]),
                children=tuple(sorted(children[name])),
                queue=self.tasks[name].queue,
                timeout=self.tasks[name].timeout,
                retry=self.tasks[name].retry,
            )
            for name in names
        )
        digest = hashlib.blake2s(repr((self.name, tasks, self.timeout)).encode(), digest_size=8)
        for name in names:
            digest.update(self.tasks[name].code_digest)
        return Plan(graph=self.name, version=digest.hexdigest(), tasks=tasks, timeout=self.timeout)

    def _check_parameters(self) -> None:
        roots = [self.tasks[name] for name, parents in self._parents.items() if not parents]
        for name, parents in self._parents.items():
            unfilled = self.tasks[name].required.difference(parents)
            if not parents:
                # params of a manual graph are known only when it is called; `bind` looks then
                unfilled = frozenset() if self.is_manual else unfilled - {"config"} if self.config else unfilled
            if unfilled:
                needs = ", ".join(sorted(unfilled))
                raise SignatureError(
                    self.name,
                    name,
                    f"requires {needs}, which no parent provides; draw the edge, or give it a default "
                    f"at {self.tasks[name].place}",
                )
        if self.config is not None and not any(root.accepts("config") for root in roots):
            raise SignatureError(
                self.name,
                roots[0].name,
                f"the graph has a config ({self.config}) but no root takes a `config` parameter",
            )

    def read_config(self) -> str | None:
        """The text of the config file as it is now; None for a graph without one.

        Raises:
            ConfigError: missing or broken, with path, line and reason.
        """
        if self.config is None:
            return None
        text = configfile.read(self.config)
        configfile.parse(text, self.config)
        return text

    def about(self, zone: tzinfo) -> dict[str, Any]:
        """What the server is told of the graph, for commands and for those who start runs without its code.

        Args:
            zone: in which the schedule is read when the graph names none.
        """
        return {
            "schedule": "manual" if self.schedule is None else str(self.schedule),
            "timezone": str(self.timezone or zone),
            "file": str(self.file),
            "tasks": [task.name for task in self.plan.tasks],
            "config": "" if self.config is None else str(self.config),
            "misfire": self.misfire,
            "misfire_window": self.misfire_window,
            "overlap": self.overlap,
            "max_active_runs": self.max_active_runs or 0,
            "roots": self.describe_roots(),
        }

    def describe_roots(self) -> list[dict[str, Any]]:
        """What the roots take, as `tm.parameters.check` reads it."""
        names = [self.plan.tasks[index].name for index in self.plan.roots]
        return [parameters.describe(name, self.tasks[name].function) for name in names]

    def bind(self, params: dict[str, Any], *, positional: int = 0) -> None:
        """Check params against the roots before a run is started.

        Args:
            params: what is passed by name.
            positional: how many values are passed by position (in-process calls only).

        Raises:
            TypeError: a root lacks a required parameter, or no root knows a given one.
        """
        plan = self.plan
        roots = [self.tasks[plan.tasks[index].name] for index in plan.roots]
        for name in params:
            if not any(root.accepts(name) for root in roots):
                known = sorted({each for root in roots for each in root.parameters})
                raise TypeError(
                    f"graph {self.name!r} has no parameter {name!r}; its roots take {', '.join(known) or 'none'}"
                )
        provided = set(params) | ({"config"} if self.config is not None else set())
        for root in roots:
            by_position = [*inspect.signature(root.function).parameters][:positional]
            if missing := root.required.difference(provided, by_position):
                raise TypeError(
                    f"graph {self.name!r}: root {root.name!r} requires {', '.join(sorted(missing))}; "
                    f"pass it: graph({min(missing)}=...) or -p {min(missing)}=..."
                )

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the graph now, in this process, without a server; returns the value of the last task.

        Roots receive `args` and `kwargs` (each the names it takes), and `config` when the graph has one. Tasks may
        pass any object. Retries and their delays are honoured; time-outs are not, for that takes a second process.

        Raises:
            Exception: what the first task that failed for good raised, with a note on graph, task and attempt.
        """
        from tm.inprocess import run

        return run(self, args, kwargs)

    def submit(self, **params: Any) -> RunHandle:
        """Start a run on the workers and return at once with a handle (`.wait()`, `.result()`, `.state`).

        Raises:
            UnavailableError: no server: neither `TM_URL` nor a running stack in the home directory.
            CodecError: a param cannot become a message.
        """
        return self.submit_many([params])[0]

    def submit_many(self, params: Sequence[dict[str, Any]]) -> list[RunHandle]:
        """Start one run for each set of params, in one pipeline; handles come in the same order."""
        from tm.wiring import default_client

        return default_client().submit_many(self, params)


def _schedule(graph: str, schedule: str | Expression) -> Expression | None:
    if schedule == "manual":
        return None
    from tm.cron import CronError, Expression

    if isinstance(schedule, Expression):
        return schedule
    if not isinstance(schedule, str):
        raise ScheduleError(graph, f"schedule must be cron text or 'manual', not {schedule!r}")
    try:
        return Expression(schedule, key=graph)
    except CronError as error:
        raise ScheduleError(graph, f"bad schedule: {error}") from error


def _zone(graph: str, timezone: str | None) -> ZoneInfo | None:
    if timezone is None:
        return None
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

    try:
        return ZoneInfo(timezone)
    except (ZoneInfoNotFoundError, ValueError, OSError, TypeError) as error:
        raise ScheduleError(
            graph, f"unknown time zone {timezone!r}; use an IANA name such as 'Europe/Berlin'"
        ) from error


def _caller_file() -> Path:
    """The file whose code creates the graph, for config paths; the working directory in an interactive session."""
    frame = sys._getframe(2)  # noqa: SLF001 - the one cheap way to see the caller
    file = Path(frame.f_code.co_filename)
    return file.resolve() if file.exists() else Path.cwd() / "<interactive>"
