"""Gathers what a reason needs to know: the run, the plan, and what goes on at the server, as of one moment."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from tm import reasons, runinfo
from tm.clock import from_ms
from tm.errors import NotFoundError
from tm.ids import job_id
from tm.reasons import Busy, Clockwork, Known, Reason
from tm.states import TaskState
from tm.suggest import hint
from tm.waiting import reaching
from tm.words import Words

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import tzinfo

    from tm.lookup import Lookup
    from tm.records import Plan
    from tm.runinfo import RunInfo, TaskInfo
    from tm.store.looking import Scene
    from tm.store.records import Pause
    from tm.store.store import Store

#: queued and running tasks of a run whose place or lease is asked for; with more, the first ones stand for them
MOST_TASKS = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphFacts:
    """A graph with its plan and what is known of its ticks."""

    clock: Clockwork
    plan: Plan | None  #: of the version that was announced last


class Insight:
    """Answers why something is as it is.

    Args:
        lookup: finds runs.
        zone: in which times are told.
    """

    def __init__(self, lookup: Lookup, zone: tzinfo | None = None) -> None:
        self._lookup, self._zone = lookup, zone

    @property
    def _store(self) -> Store | None:
        return self._lookup.store

    def why(self, name: str) -> Reason:
        """Why a run, a task (RUN/TASK) or a graph is as it is. The name of a graph is taken as that.

        Raises:
            NotFoundError: there is no such thing; says what may have been meant.
        """
        whole, slash, task = name.rpartition("/")
        if not slash and "@" not in name and name in self._lookup.names():
            return self.of_graph(name)
        try:
            run = self._lookup.run(whole if slash else name)
        except NotFoundError as error:
            graphs = self._lookup.names()
            if not slash and "@" not in name and "more than one" not in str(error):
                first = str(error).partition("; ")[0].replace("there is no run", "there is no run or graph")
                otherwise = str(error).partition("; ")[2].replace("`tm runs` lists", "`tm runs` and `tm graphs` list")
                known = hint(name, graphs, otherwise)
                raise NotFoundError(f"{first}; {known}") from error
            raise
        return self.of_run(run, task if slash else None)

    def of_run(self, run: RunInfo, task: str | None = None) -> Reason:
        """Why a run or one task of it is as it is."""
        plan, known = self.plan(run.version), self.known(run)
        if task is None:
            return reasons.of_run(run, plan, known)
        found = next((each for each in run.tasks if each.name == task), None)
        if found is None and plan is not None and any(node.name == task for node in plan.tasks):
            found = runinfo.TaskInfo(name=task, state=TaskState.WAITING)
        if found is None:
            names = [each.name for each in run.tasks]
            otherwise = f"it has {', '.join(names[:10])}" if names else "nothing is known of its tasks"
            raise NotFoundError(f"run {run.id} has no task {task!r}; {hint(task, names, otherwise)}")
        return reasons.of_task(run, found, plan, known)

    def of_graph(self, graph: str) -> Reason:
        """Why a graph makes no run now."""
        return reasons.of_graph(self.graph(graph).clock, self.known())

    def plan(self, version: str) -> Plan | None:
        """The plan of a version, as long as the server knows it."""
        if self._store is None or not version:
            return None
        with reaching(self._lookup.where):
            return self._store.plan(version)

    def known(self, run: RunInfo | None = None) -> Known:
        """What goes on at the server, and where the open tasks of a run stand."""
        if self._store is None:
            return Known(words=Words(now=datetime.now(UTC), zone=self._zone), held=False)
        with reaching(self._lookup.where):
            scene = self._store.scene()
            words = Words(now=from_ms(scene.now_ms), zone=self._zone)
            if run is None:
                return Known(words=words, scene=scene)
            held = self._store.state(run.id) is not None
            if not (held and run.is_open):
                return Known(words=words, scene=scene, held=held)
            plan = self._store.plan(run.version)
            nodes = {node.name: (index, node) for index, node in enumerate(plan.tasks)} if plan else {}
            places, leases = {}, {}
            for task in _first(run, TaskState.QUEUED):
                if task.name in nodes:
                    index, node = nodes[task.name]
                    places[task.name] = self._store.place(node.queue, job_id(run.id, index, _number(task)))
            for task in _first(run, TaskState.RUNNING):
                if task.name in nodes:
                    until = self._store.lease_ms(job_id(run.id, nodes[task.name][0], _number(task)))
                    if until is not None:
                        leases[task.name] = from_ms(until)
            return Known(words=words, scene=scene, places=places, leases=leases, busy=self.busy(scene))

    def busy(self, scene: Scene) -> list[Busy]:
        """What the workers are at."""
        if self._store is None:
            return []
        with reaching(self._lookup.where):
            told = self._store.tasks_of(scene.leases)
        return [
            Busy(worker=worker, graph=graph, task=task, since=from_ms(ms)) for worker, graph, task, ms in told if worker
        ]

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


def pause_of(pauses: Mapping[str, Pause], graph: str, now_ms: int) -> Pause | None:
    """The pause in force for a graph: its own, or that of all."""
    found = (pauses.get(graph), pauses.get(""))
    return next((each for each in found if each is not None and each.ended_ms(now_ms) is None), None)


def _first(run: RunInfo, state: TaskState) -> list[TaskInfo]:
    return [task for task in run.tasks if task.state is state][:MOST_TASKS]


def _number(task: TaskInfo) -> int:
    """The attempt that is queued or runs."""
    return task.attempt or (task.attempts[-1].number if task.attempts else 1)
