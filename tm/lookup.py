"""Finds runs and graphs: the server for what is open or fresh, the history for everything else, seen as one.

The history lags behind the server by about a second, and the server forgets a run some minutes after its end. So the
server's word counts where it still has one, and the history adds the attempts before the last.
"""

from __future__ import annotations

import functools
from datetime import UTC
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from tm import runinfo
from tm.errors import NotFoundError
from tm.events import RunCreated, RunEnded
from tm.ids import is_retry_id, tick_run_id
from tm.instants import WHEN, instant_of
from tm.states import FINAL_RUN_STATES, RunState
from tm.suggest import closest, hint
from tm.waiting import reaching

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime, tzinfo

    from tm.history import History
    from tm.runinfo import GraphInfo, RunInfo
    from tm.store.store import Store

#: entries of the event stream that are looked at for what history has not been told of; it lags by few of them
MOST_UNFILED = 100


class Lookup:
    """Reads runs and graphs from where they are.

    Args:
        store: of the server; None when there is none, then the history alone answers.
        history: opens the history; None, or a call that returns None, when there is none.
        where: the server, redacted, for error messages.
        zone: in which `GRAPH@TICK` is read, where nobody has said what the graph's own zone is; by default UTC.
    """

    def __init__(
        self,
        store: Store | None,
        history: Callable[[], History | None] | None = None,
        *,
        where: str = "the configured address",
        zone: tzinfo | None = None,
    ) -> None:
        self._store, self._open, self._where, self._zone = store, history, where, zone or UTC

    @property
    def store(self) -> Store | None:
        """The server's; None when there is none."""
        return self._store

    @property
    def where(self) -> str:
        """The server, redacted, for error messages."""
        return self._where

    @property
    def history(self) -> History | None:
        """What is kept for good; None when there is none."""
        return self._history

    @functools.cached_property
    def _history(self) -> History | None:
        return self._open() if self._open else None

    def run(self, name: str) -> RunInfo:
        """A run by id, unique prefix of one, `GRAPH@last`, `GRAPH@failed` or `GRAPH@TICK`.

        TICK is an instant as in `tm.instants`, on the graph's own wall clock where it names no zone.

        Raises:
            NotFoundError: there is none, or several ids begin so.
        """
        found = self._exact(name)
        if found is None and (run := self._resolve(name)) is not None:
            found = self._exact(run)
        if found is None:
            raise NotFoundError(f"there is no run {name!r}; {self._instead(name)}")
        return found

    def current(self, run: str) -> RunInfo:
        """A run by its whole id, as the server holds it now; the cheap look of a live view.

        Raises:
            NotFoundError: the server does not hold it.
        """
        view = None
        if self._store is not None:
            with reaching(self._where):
                view = self._store.run(run)
        if view is None:
            raise NotFoundError(f"the server does not know run {run!r} (any more)")
        return runinfo.from_view(view)

    def runs(
        self,
        graph: str | None = None,
        *,
        state: RunState | None = None,
        limit: int = 20,
        since: datetime | None = None,
        until: datetime | None = None,
        trigger: str | None = None,
    ) -> list[RunInfo]:
        """The newest runs first, without tasks, params and config; `since` and `until` bound their creation."""
        # first: what is filed, or ends, between the looks is in one of them at least
        unfiled = self._unfiled(graph, state, limit)
        rows = self._history.runs(graph, state, limit, since, until, trigger) if self._history else []
        found = {row.id: runinfo.from_row(row) for row in rows}
        if self._store is not None:
            with reaching(self._where):
                fresh = {*unfiled, *self._store.newest_open(graph, limit), *(row.id for row in rows if row.open)}
                views = [self._store.run(run) for run in sorted(fresh)]
            found |= {view.id: runinfo.from_view(view) for view in views if view is not None}
        listed = [
            run
            for run in found.values()
            if (state is None or run.state is state)
            and (since is None or run.created_at >= since)
            and (until is None or run.created_at < until)
            and (trigger is None or run.trigger == trigger)
        ]
        return sorted(listed, key=lambda run: (run.created_at, run.id), reverse=True)[:limit]

    def _unfiled(self, graph: str | None, state: RunState | None, limit: int) -> list[str]:
        """The newest runs of which history may not have been told yet: those that may be in this state by now."""
        if self._store is None or limit <= 0:
            return []
        found: dict[str, RunState] = {}
        with reaching(self._where):
            for event in self._store.newest_events(MOST_UNFILED):
                if isinstance(event, RunCreated | RunEnded) and graph in {None, event.graph}:
                    found[event.run] = event.state
            ended = [run for run, seen in found.items() if seen in FINAL_RUN_STATES and state in {None, seen}]
            going_on = [run for run, seen in found.items() if seen not in FINAL_RUN_STATES]
            return self._store.newest(ended, limit) + self._store.newest(going_on, limit)

    def graphs(self, *, recent: int = 10) -> list[GraphInfo]:
        """Every graph that a scheduler has announced or that ever ran, by name."""
        announced: dict[str, dict[str, Any]] = {}
        if self._store is not None:
            with reaching(self._where):
                announced = self._store.graphs()
        totals = {row.graph: row.total for row in self._history.graphs(recent=0)} if self._history else {}
        return [
            runinfo.graph(name, announced.get(name, {}), totals.get(name, 0), self.runs(name, limit=recent))
            for name in sorted({*announced, *totals} - {""})
        ]

    def names(self) -> list[str]:
        """The names of all graphs that were announced or ever ran; cheaper than `graphs`."""
        found: set[str] = set()
        if self._store is not None:
            with reaching(self._where):
                found |= set(self._store.graphs())
        if self._history is not None:
            found |= set(self._history.graph_names())
        return sorted(found - {""})

    def queues(self) -> list[str]:
        """The names of the queues that plans name; none without a server."""
        if self._store is None:
            return []
        with reaching(self._where):
            return sorted(self._store.queue_depths())

    def workers(self, graph: str) -> int:
        """How many living workers have loaded a graph."""
        if self._store is None:
            return 0
        with reaching(self._where):
            return sum(graph in worker.graphs for worker in self._store.scene().workers if worker.alive)

    def states(self, runs: Sequence[str]) -> dict[str, RunState]:
        """The states of those of these runs (whole ids) that anybody knows."""
        found = self._history.known(runs) if self._history and runs else {}
        if self._store is not None and runs:
            with reaching(self._where):
                found |= self._store.states(runs)
        return found

    def forgotten(self, run: str) -> RunInfo:
        """A run that the server does not hold any more.

        Raises:
            NotFoundError: the history does not know it either.
        """
        if (found := self._exact(run)) is None:
            raise NotFoundError(
                f"there is no run {run!r}: the server forgets runs TM_RESULT_TTL seconds after their end, "
                "and the history that this process sees does not have it"
            )
        return found

    def why(self, run: str) -> str:
        """In half a sentence, why a run has not succeeded."""
        found = self.run(run)
        if (culprit := found.culprit) is not None:
            task, attempt, error = culprit
            return f"task {task.name!r}, attempt {attempt.number}: {error.type}: {error.message}"
        return found.reason

    def _exact(self, run: str) -> RunInfo | None:
        live, pinned = None, False
        if self._store is not None:
            with reaching(self._where):
                view = self._store.run(run)
            live, pinned = (runinfo.from_view(view), view.pinned or view.noticed) if view else (None, False)
        if live is not None and not pinned and not any(runinfo.has_past(task) for task in live.tasks):
            return live  # the history has nothing to add
        filed = self._filed(run)
        return runinfo.both(live, filed) if live and filed else live or filed

    def _filed(self, run: str) -> RunInfo | None:
        if self._history is None:
            return None
        try:
            row = self._history.run(run)
        except NotFoundError:
            return None
        if row.id != run:
            return None
        return runinfo.from_rows(
            row, self._history.task_runs(run), self._history.attempts(run), self._history.notices(run)
        )

    def _resolve(self, name: str) -> str | None:
        graph, at, which = name.rpartition("@")
        if at and which in {"last", "failed"}:
            newest = self.runs(graph, state=RunState.FAILED if which == "failed" else None, limit=1)
            return newest[0].id if newest else None
        if at:  # no id has an @ in it
            tick = instant_of(which, self._zone_of(graph))
            return None if tick is None else tick_run_id(graph, tick)
        begin_so = set()
        if self._store is not None and name:
            with reaching(self._where):
                begin_so = {run for run in self._store.open_runs() if run.startswith(name)}
        if self._history is not None and name:
            try:
                begin_so.add(self._history.run(name).id)
            except NotFoundError as error:
                if "more than one" in str(error):
                    raise  # with the candidates
        shortest = min(begin_so, key=len, default="")
        if all(each == shortest or is_retry_id(each, shortest) for each in begin_so):
            return shortest or None  # a run and its retries: the run is meant
        if len(begin_so) > 1:
            some = ", ".join(sorted(begin_so)[:3]) + (", ..." if len(begin_so) > 3 else "")
            raise NotFoundError(f"more than one run begins with {name!r} ({some}); give more of the id")
        return next(iter(begin_so), None)

    def _zone_of(self, graph: str) -> tzinfo:
        announced: dict[str, Any] = {}
        if self._store is not None:
            with reaching(self._where):
                announced = self._store.graphs().get(graph, {})
        try:
            return ZoneInfo(str(announced["timezone"]))
        except (KeyError, OSError, ValueError):  # nobody has told, or of a zone this machine does not know
            return self._zone

    def _instead(self, name: str) -> str:
        """What to do about a run that is not there: what may have been meant, or where to look."""
        graph, at, which = name.rpartition("@")
        if not at:
            return hint(name, (run.id for run in self.runs(limit=200)), "`tm runs` lists those there are")
        known = self.names()
        if graph not in known:
            meant = closest(graph, known)
            return f"did you mean {f'{meant}@{which}'!r}?" if meant else "`tm graphs` lists the graphs there are"
        if which in {"last", "failed"}:
            return f"graph {graph!r} has none that failed" if which == "failed" else f"graph {graph!r} never ran"
        if instant_of(which, UTC) is None:
            return f"after the @ comes last, failed or a tick: {WHEN}"
        return f"`tm runs {graph}` lists those of the graph"
