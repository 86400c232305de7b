"""The reading side: lists and details for commands, pages and metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import func, select

from tm.clock import from_ms, to_ms
from tm.errors import NotFoundError
from tm.history.database import Database
from tm.history.records import AttemptRow, GraphRow, MarkRow, NoticeRow, RunDetail, RunRow, TaskRunRow, VersionRow
from tm.history.schema import attempts, graph_versions, marks, notices, runs, task_runs
from tm.ids import is_retry_id
from tm.states import Outcome, RunState, TaskState

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from sqlalchemy import Select


class Reader(Database):
    """Looks things up. Runs that are still open are shown as far as history knows them."""

    def runs(
        self,
        graph: str | None = None,
        state: RunState | None = None,
        limit: int = 50,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> list[RunRow]:
        """The newest runs first; `since` (inclusive) and `until` (exclusive) bound when they were created."""
        query = _LISTED.order_by(runs.c.created.desc(), runs.c.id.desc()).limit(limit)
        if graph is not None:
            query = query.where(runs.c.graph == graph)
        if state is not None:
            query = query.where(runs.c.state == state.value)
        if since is not None:
            query = query.where(runs.c.created >= to_ms(since))
        if until is not None:
            query = query.where(runs.c.created < to_ms(until))
        return [RunRow(**_run(row)) for row in self._all(query)]

    def last_run(self, graph: str) -> RunRow | None:
        """The newest run of a graph."""
        return next(iter(self.runs(graph, limit=1)), None)

    def run(self, run: str) -> RunDetail:
        """One run, by its id or by a beginning of it that no other run shares.

        Raises:
            NotFoundError: there is none, or more than one.
        """
        found = self._all(select(runs).where(runs.c.id == run))
        if not found and run:
            # not LIKE: SQLite's ignores case, and both give % and _ a meaning
            begins = func.substr(runs.c.id, 1, len(run)) == run
            found = self._all(
                select(runs).where(begins).order_by(func.length(runs.c.id), runs.c.created.desc()).limit(20)
            )
            if found and all(is_retry_id(row.id, found[0].id) for row in found[1:]):
                found = found[:1]  # a run and its retries: the run is meant
        if not found:
            raise NotFoundError(f"history has no run {run!r}")
        if len(found) > 1:
            some = ", ".join(row.id for row in found[:3]) + (", ..." if len(found) > 3 else "")
            raise NotFoundError(f"more than one run begins with {run!r} ({some}); give more of the id")
        (row,) = found
        return RunDetail(
            **_run(row), params=row.params or b"", params_json=row.params_json or "", config=row.config or ""
        )

    def task_runs(self, run: str) -> list[TaskRunRow]:
        """The tasks of a run (exact id) of which something is known, in the order of the graph."""
        query = select(task_runs).where(task_runs.c.run == run).order_by(task_runs.c.node)
        return [
            TaskRunRow(
                run=row.run,
                node=row.node,
                task=row.task,
                state=TaskState(row.state),
                reason=row.reason,
                attempts=row.attempts,
                started=_at(row.started),
                ended=_at(row.ended),
            )
            for row in self._all(query)
        ]

    def attempts(self, run: str, task: str | None = None) -> list[AttemptRow]:
        """The attempts of a run (exact id), or of one task of it, in the order in which they ended."""
        query = select(attempts).where(attempts.c.run == run)
        if task is not None:
            query = query.where(attempts.c.task == task)
        return [
            AttemptRow(
                run=row.run,
                node=row.node,
                task=row.task,
                number=row.number,
                outcome=Outcome(row.outcome),
                worker=row.worker,
                claimed=_at(row.claimed),
                ended=from_ms(row.ended),
                ms=row.ms,
                error_type=row.error_type,
                message=row.message,
                traceback=row.traceback,
                signal=row.signal,
                exit_code=row.exit_code,
                max_rss=row.max_rss,
                due=_at(row.due),
            )
            for row in self._all(query.order_by(attempts.c.ended, attempts.c.node, attempts.c.number))
        ]

    def marks(self, run: str) -> list[MarkRow]:
        """What people said of the tasks of a run (exact id), oldest first."""
        query = select(marks).where(marks.c.run == run).order_by(marks.c.at, marks.c.event)
        return [
            MarkRow(
                run=row.run,
                task=row.task,
                was=TaskState(row.was),
                state=TaskState(row.state),
                by=row.who,
                reason=row.reason,
                at=from_ms(row.at),
            )
            for row in self._all(query)
        ]

    def notices(self, run: str) -> list[NoticeRow]:
        """Who was told of a run (exact id) and how that went, oldest first."""
        query = select(notices).where(notices.c.run == run).order_by(notices.c.at, notices.c.event)
        return [
            NoticeRow(
                run=row.run,
                kind=row.kind,
                task=row.task,
                what=row.what,
                outcome=row.outcome,
                message=row.message,
                traceback=row.traceback,
                at=from_ms(row.at),
            )
            for row in self._all(query)
        ]

    def known(self, ids: Sequence[str]) -> dict[str, RunState]:
        """Those of these runs (exact ids) that history knows, with their states."""
        found: dict[str, RunState] = {}
        for first in range(0, len(ids), 500):
            query = select(runs.c.id, runs.c.state).where(runs.c.id.in_(ids[first : first + 500]))
            found |= {row.id: RunState(row.state) for row in self._all(query)}
        return found

    def graphs(self, recent: int = 10) -> list[GraphRow]:
        """All graphs that ever ran, by name: how many runs ended how, and the `recent` newest of them."""
        query = select(runs.c.graph, runs.c.state, func.count()).group_by(runs.c.graph, runs.c.state)
        counts: dict[str, dict[RunState, int]] = {}
        for graph, state, count in self._all(query):
            counts.setdefault(graph, {})[RunState(state)] = count
        return [
            GraphRow(
                graph=graph,
                total=sum(states.values()),
                counts=states,
                recent=tuple(self.runs(graph, limit=recent)) if recent else (),
            )
            for graph, states in sorted(counts.items())
        ]

    def graph_names(self) -> list[str]:
        """All graphs that ever ran, by name."""
        # from the table of versions: one row for each version, and not for each run
        return [
            row.graph for row in self._all(select(graph_versions.c.graph).distinct().order_by(graph_versions.c.graph))
        ]

    def versions(self, graph: str) -> list[VersionRow]:
        """The versions of a graph that ran, oldest first."""
        query = select(graph_versions).where(graph_versions.c.graph == graph)
        return [
            VersionRow(graph=row.graph, version=row.version, first_seen=from_ms(row.first_seen))
            for row in self._all(query.order_by(graph_versions.c.first_seen, graph_versions.c.version))
        ]

    def _all(self, query: Select[*tuple[Any, ...]]) -> list[Any]:
        with self._reading() as connection:
            return list(connection.execute(query))


#: without params and config, which may be large
_LISTED = select(
    runs.c.id,
    runs.c.graph,
    runs.c.version,
    runs.c.trigger,
    runs.c.tick,
    runs.c.state,
    runs.c.reason,
    runs.c.created,
    runs.c.started,
    runs.c.ended,
    runs.c.retry_of,
)


def _run(row: Any) -> dict[str, Any]:
    return {
        "id": row.id,
        "graph": row.graph,
        "version": row.version,
        "trigger": row.trigger,
        "tick": _at(row.tick),
        "state": RunState(row.state),
        "reason": row.reason,
        "created": from_ms(row.created),
        "started": _at(row.started),
        "ended": _at(row.ended),
        "retry_of": row.retry_of or "",
    }


def _at(ms: int | None) -> datetime | None:
    return None if ms is None else from_ms(ms)
