"""Gathers what a reason needs to know: the run, the plan, and what goes on at the server, as of one moment."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from tm import reasons, runinfo
from tm.clock import from_ms
from tm.errors import NotFoundError
from tm.events import AttemptEnded, entry_of
from tm.happenings import Happening, from_event, of_details, of_notices, of_run_row
from tm.ids import job_id
from tm.reasons import Busy, Clockwork, Known, Reason
from tm.reasons.reason import is_silent
from tm.runinfo import TaskInfo
from tm.states import TaskState
from tm.suggest import hint
from tm.waiting import reaching
from tm.words import Words

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import tzinfo

    from tm.events import Event
    from tm.history import History, RunRow
    from tm.lookup import Lookup
    from tm.records import Plan
    from tm.runinfo import RunInfo
    from tm.store.looking import Scene
    from tm.store.records import Pause
    from tm.store.store import Store

#: entries of events that are read in one call, with up to some 30 events each
MOST_ENTRIES = 1000
#: runs whose names are kept in mind
MOST_RUNS = 10_000
#: queued and running tasks of a run whose place or lease is asked for; with more, the first ones stand for them
MOST_TASKS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphFacts:
    """A graph with its plan and what is known of its ticks."""

    clock: Clockwork
    plan: Plan | None  #: of the version that was announced last


class Crew:
    """The workers of one moment and what they are at."""

    def __init__(self, known: Known) -> None:
        self.known = known

    def at(self, worker: str) -> list[Busy]:
        """What a worker is at, the longest first."""
        return sorted((each for each in self.known.busy if each.worker == worker), key=lambda each: each.since)

    def running_on(self, queue: str) -> int:
        """Attempts of a queue that run."""
        return sum(each.queue == queue for each in self.known.busy)

    def live_on(self, queue: str) -> int:
        """Workers of a queue that beat."""
        scene, words = self.known.scene, self.known.words
        there = [each for each in scene.workers if each.alive and queue in each.queues] if scene else []
        return sum(not is_silent(each, words) for each in there)


class Insight:
    """Answers why something is as it is.

    Args:
        lookup: finds runs.
        zone: in which times are told.
    """

    def __init__(self, lookup: Lookup, zone: tzinfo | None = None) -> None:
        self._lookup, self._zone = lookup, zone
        self._graphs: dict[str, str] = {}  # run -> graph

    @property
    def _store(self) -> Store | None:
        return self._lookup.store

    def find(self, name: str) -> tuple[str, str | None, RunInfo | None]:
        """What a name means: its id or name, the task of a RUN/TASK, and the run; None for a graph.

        The name of a graph is taken as that.

        Raises:
            NotFoundError: there is no such graph or run; says what may have been meant.
        """
        if "@" not in name and "/" not in name and name in self._lookup.names():
            return name, None, None
        whole, slash, task = name.partition("/")  # no run and no graph has a / in its name; a task may
        try:
            run = self._lookup.run(whole)
        except NotFoundError as error:
            if slash or "@" in name or "more than one" in str(error):
                raise
            first, _, rest = str(error).partition("; ")
            otherwise = rest.replace("`tm runs` lists", "`tm runs` and `tm graphs` list")
            known = hint(name, self._lookup.names(), otherwise)
            raise NotFoundError(f"{first.replace('no run', 'no run or graph')}; {known}") from error
        return run.id, task if slash else None, run

    def why(self, name: str) -> Reason:
        """Why a run, a task (RUN/TASK) or a graph is as it is; see `find`."""
        name, task, run = self.find(name)
        return self.of_graph(name) if run is None else self.of_run(run, task)

    def of_run(self, run: RunInfo, task: str | None = None, *, plan: Plan | None = None) -> Reason:
        """Why a run or one task of it is as it is."""
        plan = plan or self.plan(run.version)
        run = self._with_unfiled(run)
        known = self.known(run, task)
        if task is None:
            return reasons.of_run(run, plan, known)
        return reasons.of_task(run, self.task(run, plan, task), plan, known)

    def before_retry(self, run: RunInfo) -> str:
        """What to heed before a run is retried, where workers alive would run the code again that failed."""
        return reasons.before_retry(run, run.tasks, self.plan(run.version), self.known(run))

    def _with_unfiled(self, run: RunInfo) -> RunInfo:
        """A run with what became of the attempts before those that are queued, where history has not got it yet."""
        behind = {task.name for task in run.tasks if task.state is TaskState.QUEUED and runinfo.lacks_last(task)}
        if not behind or self._store is None:
            return run
        events = [event for _, event in self._unfiled() if isinstance(event, AttemptEnded)]
        return runinfo.with_ended(run, events, behind)

    def task(self, run: RunInfo, plan: Plan | None, name: str) -> TaskInfo:
        """A task of a run.

        Raises:
            NotFoundError: it has none of this name.
        """
        tasks = {each.name: each for each in self.complete(run, plan).tasks}
        if name not in tasks:
            otherwise = f"it has {', '.join([*tasks][:10])}" if tasks else "nothing is known of its tasks"
            raise NotFoundError(f"run {run.id} has no task {name!r}; {hint(name, tasks, otherwise)}")
        return tasks[name]

    def complete(self, run: RunInfo, plan: Plan | None) -> RunInfo:
        """A run with those of its tasks too that nothing has happened to, of which history knows nothing."""
        if plan is None:
            return run
        known = {task.name: task for task in run.tasks}
        waiting = TaskState.WAITING
        return replace(
            run, tasks=tuple(known.get(node.name) or TaskInfo(name=node.name, state=waiting) for node in plan.tasks)
        )

    def of_graph(self, graph: str) -> Reason:
        """Why a graph makes no run now."""
        return reasons.of_graph(self.graph(graph).clock, self.known())

    def messages(self, run: RunInfo, plan: Plan | None, *, whole: bool = False) -> dict[str, bytes | None]:
        """The messages of a run by task, as the server holds them; nothing for a run that it does not hold.

        Args:
            run: whose messages.
            plan: of the run.
            whole: not the reference to a message that is in the spill store, but itself.
        """
        if self._store is None or plan is None:
            return {}
        read = self._store.message if whole else self._store.output
        with reaching(self._lookup.where):
            if self._store.state(run.id) is None:
                return {}
            return {node.name: read(run.id, index) for index, node in enumerate(plan.tasks)}

    def past(
        self,
        *,
        run: str | None = None,
        graph: str | None = None,
        since: datetime | None = None,
        limit: int | None = None,
    ) -> list[Happening]:
        """What has happened, oldest first: of a run, a graph or all; as history and the server's events have it.

        Args:
            run: its id.
            graph: of its runs only.
            since: only what happened from then on.
            limit: the newest so many.
        """
        found: dict[Any, Happening] = {}
        history = self._lookup.history
        if history is not None:
            if run is not None:
                rows = [row for row in [_row(history, run)] if row is not None]
            else:
                rows = history.touched(graph, since=since, most=limit)
            graphs = {row.id: row.graph for row in rows}
            for row in rows:
                found |= {each.key: each for each in of_run_row(row)}
            for each in history.details([*graphs]):
                name = graphs[each.run]
                told = (*of_details(name, each.tasks, each.attempts, each.marks), *of_notices(name, each.notices))
                found |= {one.key: one for one in told if since is None or one.at >= since}
        for stream_id, event in self._unfiled():
            fresh = [self.named(each) for each in from_event(stream_id, event)]
            found |= {each.key: each for each in fresh if self.concerns(each, run, graph)}
        past = sorted(
            (each for each in found.values() if since is None or each.at >= since), key=lambda each: each.order
        )
        return past if limit is None else past[-limit:]

    def _unfiled(self) -> Iterator[tuple[str, Event]]:
        """The events that history has not been told of yet, oldest first."""
        last = "0-0"
        while self._store is not None:
            with reaching(self._lookup.where):
                events = self._store.events(last, MOST_ENTRIES)
            yield from events
            if len(events) < MOST_ENTRIES:  # an entry holds one event at least, so there were fewer entries as well
                return
            last = entry_of(events[-1][0])

    def concerns(self, happening: Happening, run: str | None, graph: str | None) -> bool:
        """Whether it is of this run, or of this graph; None stands for any."""
        if run is not None:
            return happening.run == run
        return graph is None or happening.graph == graph

    def named(self, happening: Happening) -> Happening:
        """With its graph, which events of tasks do not name; their run does."""
        if happening.graph:
            return happening
        if len(self._graphs) > MOST_RUNS:
            self._graphs.clear()
        if happening.run not in self._graphs:
            view = None
            if self._store is not None:
                with reaching(self._lookup.where):
                    view = self._store.run(happening.run)
            row = _row(self._lookup.history, happening.run) if view is None and self._lookup.history else None
            self._graphs[happening.run] = view.graph if view else row.graph if row else ""
        return replace(happening, graph=self._graphs[happening.run])

    def plan(self, version: str) -> Plan | None:
        """The plan of a version, as the server knows it or history; None where neither does."""
        if not version:
            return None
        found = None
        if self._store is not None:
            with reaching(self._lookup.where):
                found = self._store.plan(version)
        history = self._lookup.history
        return history.plan(version) if found is None and history is not None else found

    def known(self, run: RunInfo | None = None, task: str | None = None) -> Known:
        """What goes on at the server, and where the open tasks of a run stand, or one of them and some others."""
        if self._store is None:
            return Known(words=Words(now=datetime.now(UTC), zone=self._zone), held=False)
        with reaching(self._lookup.where):
            scene = self._store.scene()
            words = Words(now=from_ms(scene.now_ms), zone=self._zone)
            if run is None:
                return Known(words=words, scene=scene)
            held = self._store.state(run.id) is not None
            current = str(self._store.graphs().get(run.graph, {}).get("version", ""))
            if not (held and run.is_open):
                return Known(words=words, scene=scene, held=held, current=current)
            plan = self._store.plan(run.version)
            nodes = {node.name: (index, node) for index, node in enumerate(plan.tasks)} if plan else {}
            places, leases = {}, {}
            for each in _some(run, TaskState.QUEUED, task):
                if each.name in nodes:
                    index, node = nodes[each.name]
                    places[each.name] = self._store.place(node.queue, job_id(run.id, index, _number(each)))
            for each in _some(run, TaskState.RUNNING, task):
                if each.name in nodes:
                    until = self._store.lease_ms(job_id(run.id, nodes[each.name][0], _number(each)))
                    if until is not None:
                        leases[each.name] = from_ms(until)
            busy = self.busy(scene)
            return Known(words=words, scene=scene, places=places, leases=leases, busy=busy, current=current)

    def busy(self, scene: Scene) -> list[Busy]:
        """What the workers are at."""
        if self._store is None:
            return []
        with reaching(self._lookup.where):
            told = self._store.at_work(scene.leases)
        return [
            Busy(
                worker=each.worker,
                graph=each.graph,
                task=each.task,
                since=from_ms(each.since_ms),
                run=each.run,
                attempt=each.attempt,
                queue=each.queue,
            )
            for each in told
        ]

    def crew(self) -> Crew:
        """Who works on what."""
        known = self.known()
        return Crew(replace(known, busy=self.busy(known.scene) if known.scene else []))

    def graph(self, name: str, *, recent: int = 1) -> GraphFacts:
        """What is known of the ticks of a graph."""
        about: Mapping[str, Any] | None = None
        pause = held = None
        open_runs: list[str] = []
        if self._store is not None:
            with reaching(self._lookup.where):
                about = self._store.graphs().get(name)
                pause = pause_of(self._store.pauses(), name, self._store.server_ms())
                held = self._store.held().get(name)
                open_runs = self._store.open_runs(name)
        found = runinfo.graph(name, about or {}, 0, self._lookup.runs(name, limit=recent))
        clock = Clockwork(
            graph=name,
            about=about,
            pause=pause,
            next_tick=found.next_tick,
            held=None if held is None else from_ms(held),
            open_runs=open_runs,
            recent=found.recent,
            total=len(found.recent),
        )
        return GraphFacts(clock=clock, plan=self.plan(found.version))


def _row(history: History, run: str) -> RunRow | None:
    try:
        row = history.run(run)
    except NotFoundError:
        return None
    return row if row.id == run else None


def pause_of(pauses: Mapping[str, Pause], graph: str, now_ms: int) -> Pause | None:
    """The pause in force for a graph: its own, or that of all."""
    found = (pauses.get(graph), pauses.get(""))
    return next((each for each in found if each is not None and each.ended_ms(now_ms) is None), None)


def _some(run: RunInfo, state: TaskState, wanted: str | None) -> list[TaskInfo]:
    found = [task for task in run.tasks if task.state is state]
    return sorted(found, key=lambda task: task.name != wanted)[:MOST_TASKS]


def _number(task: TaskInfo) -> int:
    """The attempt that is queued or runs."""
    return task.attempt or (task.attempts[-1].number if task.attempts else 1)
