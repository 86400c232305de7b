"""The edges between tasks, and the graph they make."""

from __future__ import annotations

import hashlib
import inspect
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tm import callbacks, configfile, parameters, topology
from tm.errors import (
    CycleError,
    DefinitionError,
    DuplicateTaskError,
    EmptyGraphError,
    ScheduleError,
    SignatureError,
)
from tm.ids import GRAPH_NAME
from tm.records import Plan, TaskPlan
from tm.tasks import AnyTask, Task, task

if TYPE_CHECKING:
    from datetime import timedelta, tzinfo
    from zoneinfo import ZoneInfo

    from tm.callbacks import Callback
    from tm.client import RunHandle
    from tm.cron import Expression

__all__ = ["AnyTask", "Graph", "Task", "task"]

MISFIRE = ("latest", "all", "skip")
OVERLAP = ("allow", "skip", "queue", "cancel_other")
#: sets of names that `Graph.bind` remembers; a root with **kwargs may be given any number of them
_BOUND_KEPT = 256


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
        deadline: seconds, or a timedelta: a run that is still open so long after its tick (or its start, when no clock
            made it due) is told of once, see docs/how-to/alerts.md; it goes on, unlike with `timeout`.
        on_success: a function, or several, called with a `tm.CallbackEvent` after a run has succeeded. A worker calls
            it; nothing waits for it, and what it raises fails nothing.
        on_failure: the same after a run that ended otherwise: failed, timed out, cancelled.
        on_deadline: the same when the deadline has passed; the run goes on.

    Raises:
        ScheduleError: the schedule is no cron text, or the zone is unknown.
        DefinitionError: a name, a number or a word that is not allowed here; names it and what is.
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
        deadline: float | timedelta | None = None,
        on_success: Callback | Sequence[Callback] | None = None,
        on_failure: Callback | Sequence[Callback] | None = None,
        on_deadline: Callback | Sequence[Callback] | None = None,
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
        self.callbacks = callbacks.collect(
            f"graph {name!r}", success=on_success, failure=on_failure, deadline=on_deadline
        )
        self.deadline = _deadline(name, deadline)
        if on_deadline and self.deadline is None:
            raise DefinitionError(f"graph {name!r} has on_deadline but no deadline; give it one: deadline=3600")
        self.file = _caller_file()
        self.config = None if config is None else (self.file.parent / config)
        self.tasks: dict[str, AnyTask] = {}
        self._parents: dict[str, dict[str, None]] = {}  # names in the order they were drawn; the values mean nothing
        self._children: dict[str, set[str]] = {}
        self._plan: Plan | None = None
        self._bound: set[tuple[frozenset[str], int, bool]] = set()  # what `bind` has found to be good

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
        added: dict[str, AnyTask] = {}
        for each in (*starts, *ends):
            known = self.tasks.get(each.name) or added.setdefault(each.name, each)
            if known is not each:
                raise DuplicateTaskError(self.name, each.name, known.place, each.place)
        drawn: dict[str, dict[str, None]] = {}
        for child in ends:
            known_parents = self._parents.get(child.name, {})
            drawn[child.name] = {each.name: None for each in starts if each.name not in known_parents}
            for parent in starts:
                if not child.accepts(parent.name):
                    raise SignatureError(
                        self.name,
                        child.name,
                        f"has no parameter for its parent {parent.name!r}; add it to `def {child.name}(...)` "
                        f"at {child.place}, or **kwargs",
                    )
        if topology.connected(drawn, {each.name for each in starts}, self._children, self._parents):
            names = {**self.tasks, **added}
            parents_then = {name: [*self._parents.get(name, ()), *drawn.get(name, ())] for name in names}
            raise CycleError(self.name, topology.cycle_of(parents_then))
        # nothing is refused from here on
        self.tasks |= added
        for name in added:
            self._parents[name], self._children[name] = {}, set()
        for child_name, new in drawn.items():
            self._parents[child_name] |= new
            for name in new:
                self._children[name].add(child_name)
        self._plan = None
        self._bound.clear()

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
                calls=tuple(self.tasks[name].callbacks),
            )
            for name in names
        )
        digest = hashlib.blake2s(repr((self.name, tasks, self.timeout)).encode(), digest_size=8)
        for name in names:
            digest.update(self.tasks[name].code_digest)
        calls = tuple(self.callbacks)
        if told := [(task.name, task.calls) for task in tasks if task.calls] or calls or self.deadline:
            digest.update(repr((told, calls, self.deadline)).encode())
        return Plan(
            graph=self.name,
            version=digest.hexdigest(),
            tasks=tasks,
            timeout=self.timeout,
            deadline=self.deadline,
            calls=calls,
        )

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
        asked = (frozenset(params), positional, self.config is not None)
        if asked in self._bound:
            return
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
        if len(self._bound) >= _BOUND_KEPT:
            self._bound.clear()
        self._bound.add(asked)

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
            TypeError: a root lacks a required parameter, or no root knows a given one.
            UnavailableError: no server: neither `TM_URL` nor a running stack in the home directory.
            CodecError: a param cannot become a message.
            ConfigError: the config file is missing or broken.
        """
        from tm.wiring import default_client

        return default_client().submit(self, params)

    def submit_many(self, params: Sequence[dict[str, Any]]) -> list[RunHandle]:
        """Start one run for each set of params, without waiting for each; handles come in the same order.

        Raises:
            TypeError: a root lacks a required parameter, or no root knows a given one; nothing was started.
            CodecError: a param cannot become a message; nothing was started.
            ConfigError: the config file is missing or broken; nothing was started.
            UnavailableError: no server, as with `submit`; if it went away meanwhile, some runs may have been started.
        """
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


def _deadline(graph: str, deadline: float | timedelta | None) -> float | None:
    from datetime import timedelta

    if deadline is None:
        return None
    seconds = deadline.total_seconds() if isinstance(deadline, timedelta) else deadline
    if not isinstance(seconds, int | float) or isinstance(seconds, bool) or not 0 < seconds < math.inf:
        raise DefinitionError(f"graph {graph!r}: deadline must be above 0 seconds, or a timedelta, not {deadline!r}")
    return float(seconds)


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
