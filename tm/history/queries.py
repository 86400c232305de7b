"""What is asked of history, in the SQL that SQLite and PostgreSQL have in common.

Text, and not SQLAlchemy's expressions: importing those takes longer than any of these queries, and commands that read
the SQLite file of this machine can do without (`light`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tm.clock import from_ms, to_ms
from tm.errors import NotFoundError
from tm.history import plans
from tm.history.records import (
    AttemptRow,
    Details,
    GraphRow,
    MarkRow,
    NoticeRow,
    RunDetail,
    RunRow,
    TaskRunRow,
    VersionRow,
)
from tm.ids import is_retry_id
from tm.loglines import Chunk
from tm.states import Outcome, RunState, TaskState

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from tm.records import Plan


#: in `meta`: the runs that ended before this instant (ms) have no lines any more
LOGS_PRUNED = "logs_pruned"


class Queries:
    """Looks things up. Runs that are still open are shown as far as history knows them."""

    #: text is compared byte by byte, so that a beginning is a range of the index
    _by_bytes = False

    def _all(self, query: str, **values: Any) -> list[Any]:
        """The rows of a query, whose columns are their attributes."""
        raise NotImplementedError

    def runs(
        self,
        graph: str | None = None,
        state: RunState | None = None,
        limit: int = 50,
        since: datetime | None = None,
        until: datetime | None = None,
        trigger: str | None = None,
    ) -> list[RunRow]:
        """The newest runs first; `since` (inclusive) and `until` (exclusive) bound when they were created."""
        # bound is only what is asked for: a condition that may be switched off would keep the index from being used
        wanted: dict[str, Any] = {}
        if graph is not None:
            wanted["graph = :graph"] = graph
        if state is not None:
            wanted["state = :state"] = state.value
        if since is not None:
            wanted["created >= :since"] = to_ms(since)
        if until is not None:
            wanted["created < :until"] = to_ms(until)
        if trigger is not None:
            wanted['"trigger" = :trigger'] = trigger
        where = f"WHERE {' AND '.join(wanted)} " if wanted else ""
        values = {condition.rpartition(":")[2]: value for condition, value in wanted.items()}
        query = f"SELECT {_LISTED} FROM runs {where}ORDER BY created DESC, id DESC LIMIT :most"  # noqa: S608 - our words
        return [RunRow(**_run(row)) for row in self._all(query, most=limit, **values)]

    def run(self, run: str) -> RunDetail:
        """One run, by its id or by a beginning of it that no other run shares.

        Raises:
            NotFoundError: there is none, or more than one.
        """
        found = self._all("SELECT * FROM runs WHERE id = :run", run=run)
        if not found and run:
            # not LIKE: SQLite's ignores case, and both give % and _ a meaning
            begins, values = "substr(id, 1, :length) = :run", {"run": run, "length": len(run)}
            if self._by_bytes:
                begins += " AND id >= :run AND id < :beyond"
                values["beyond"] = f"{run}\U0010ffff"
            order = "ORDER BY length(id), created DESC LIMIT 20"
            found = self._all(f"SELECT * FROM runs WHERE {begins} {order}", **values)  # noqa: S608 - our words
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
        return [_task_run(row) for row in self._all("SELECT * FROM task_runs WHERE run = :run ORDER BY node", run=run)]

    def attempts(self, run: str, task: str | None = None) -> list[AttemptRow]:
        """The attempts of a run (exact id), or of one task of it, in the order in which they ended."""
        query, values = "SELECT * FROM attempts WHERE run = :run", {"run": run}
        if task is not None:
            query, values = f"{query} AND task = :task", {"run": run, "task": task}
        return [_attempt(row) for row in self._all(f"{query} ORDER BY ended, node, number", **values)]

    def marks(self, run: str) -> list[MarkRow]:
        """What people said of the tasks of a run (exact id), oldest first."""
        query = "SELECT * FROM marks WHERE run = :run ORDER BY at, event"
        return [_mark(row) for row in self._all(query, run=run)]

    def notices(self, run: str) -> list[NoticeRow]:
        """Who was told of a run (exact id) and how that went, oldest first."""
        query = "SELECT * FROM notices WHERE run = :run ORDER BY at, event"
        return [_notice(row) for row in self._all(query, run=run)]

    def touched(
        self, graph: str | None = None, *, since: datetime | None = None, most: int | None = None
    ) -> list[RunRow]:
        """The runs that something happened to, as far as history was told of it.

        Args:
            graph: of this graph only.
            since: all to which something happened from then on.
            most: those that the newest so many changes of all are among.
        """
        values: dict[str, Any] = {} if graph is None else {"graph": graph}
        of_it = " AND graph = :graph" if values else ""
        # both also after the run had ended
        told = "SELECT run FROM notices JOIN runs ON runs.id = notices.run WHERE"
        late = "SELECT run FROM attempts JOIN runs ON runs.id = attempts.run WHERE outcome = 'rejected' AND"
        if since is not None:
            values["since"] = to_ms(since)
            wanted = ["ended >= :since", f"id IN ({told} at >= :since{of_it})"]
            wanted.append(f"id IN ({late} attempts.ended >= :since{of_it})")
        elif most is not None:
            # whatever ended later than a run has had a newer change than all of that run
            values["most"] = most
            last = f"SELECT id FROM runs WHERE ended IS NOT NULL{of_it} ORDER BY ended DESC LIMIT :most"  # noqa: S608
            newest = f"{told} at IS NOT NULL{of_it} ORDER BY at DESC LIMIT :most"
            latest = f"{late} attempts.ended IS NOT NULL{of_it} ORDER BY attempts.ended DESC LIMIT :most"
            wanted = [f"id IN (SELECT id FROM ({last}) AS a)"]  # noqa: S608 - our words
            wanted += [f"id IN (SELECT run FROM ({each}) AS b)" for each in (newest, latest)]  # noqa: S608
        else:
            wanted = ["ended IS NOT NULL"]
        found: dict[str, RunRow] = {}
        for each in (*wanted, "ended IS NULL"):
            query = f"SELECT {_LISTED} FROM runs WHERE {each}{of_it}"  # noqa: S608 - our words
            found |= {row.id: RunRow(**_run(row)) for row in self._all(query, **values)}
        return list(found.values())

    def details(self, ids: Sequence[str]) -> Iterator[Details]:
        """What is known of these runs (exact ids) besides the runs themselves; some hundreds in one query each."""
        for first in range(0, len(ids), 500):
            values = {f"id{number}": run for number, run in enumerate(ids[first : first + 500])}
            among = f"run IN ({', '.join(f':{name}' for name in values)})"
            found = {run: Details(run=run, tasks=[], attempts=[], marks=[], notices=[]) for run in values.values()}
            for row in self._all(f"SELECT * FROM task_runs WHERE {among} ORDER BY node", **values):  # noqa: S608
                found[row.run].tasks.append(_task_run(row))
            for row in self._all(f"SELECT * FROM attempts WHERE {among} ORDER BY ended, node, number", **values):  # noqa: S608
                found[row.run].attempts.append(_attempt(row))
            for row in self._all(f"SELECT * FROM marks WHERE {among} ORDER BY at, event", **values):  # noqa: S608
                found[row.run].marks.append(_mark(row))
            for row in self._all(f"SELECT * FROM notices WHERE {among} ORDER BY at, event", **values):  # noqa: S608
                found[row.run].notices.append(_notice(row))
            yield from found.values()

    def logs(self, run: str, task: str | None = None) -> list[Chunk]:
        """The lines of a run (exact id), or of one task of it, in chunks by the time of their first lines."""
        query, values = "SELECT * FROM log_chunks WHERE run = :run", {"run": run}
        if task is not None:
            query, values = f"{query} AND task = :task", {"run": run, "task": task}
        return [
            Chunk(
                run=row.run,
                graph=row.graph,
                task=row.task,
                attempt=row.attempt,
                token=row.token,
                number=row.number,
                last=bool(row.last),
                first_us=row.first_us,
                packed=bytes(row.packed),
            )
            for row in self._all(f"{query} ORDER BY first_us, token, number", **values)
        ]

    def logs_pruned_upto(self) -> int | None:
        """Runs that ended before this instant (ms) have no lines any more; None when none were ever forgotten."""
        rows = self._all("SELECT value FROM meta WHERE key = :key", key=LOGS_PRUNED)
        return int(rows[0].value) if rows else None

    def known(self, ids: Sequence[str]) -> dict[str, RunState]:
        """Those of these runs (exact ids) that history knows, with their states."""
        found: dict[str, RunState] = {}
        for first in range(0, len(ids), 500):
            values = {f"id{number}": run for number, run in enumerate(ids[first : first + 500])}
            names = ", ".join(f":{name}" for name in values)
            query = f"SELECT id, state FROM runs WHERE id IN ({names})"  # noqa: S608 - names of ours
            found |= {row.id: RunState(row.state) for row in self._all(query, **values)}
        return found

    def graphs(self, recent: int = 10) -> list[GraphRow]:
        """All graphs that ever ran, by name: how many runs ended how, and the `recent` newest of them."""
        query = "SELECT graph, state, count(*) AS number FROM runs GROUP BY graph, state"
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
        return [row.graph for row in self._all("SELECT DISTINCT graph FROM graph_versions ORDER BY graph")]

    def plan(self, version: str) -> Plan | None:
        """What a version of a graph looked like; None where history does not know."""
        query = "SELECT graph, definition FROM graph_versions WHERE version = :version AND definition IS NOT NULL"
        rows = self._all(query, version=version)
        return plans.unpack(rows[0].graph, version, rows[0].definition) if rows else None

    def versions(self, graph: str) -> list[VersionRow]:
        """The versions of a graph that ran, oldest first."""
        query = "SELECT * FROM graph_versions WHERE graph = :graph ORDER BY first_seen, version"
        return [
            VersionRow(graph=row.graph, version=row.version, first_seen=from_ms(row.first_seen))
            for row in self._all(query, graph=graph)
        ]


#: without params and config, which may be large
_LISTED = 'id, graph, version, "trigger", tick, state, reason, created, started, ended, retry_of'


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


def _task_run(row: Any) -> TaskRunRow:
    return TaskRunRow(
        run=row.run,
        node=row.node,
        task=row.task,
        state=TaskState(row.state),
        reason=row.reason,
        attempts=row.attempts,
        started=_at(row.started),
        ended=_at(row.ended),
    )


def _attempt(row: Any) -> AttemptRow:
    return AttemptRow(
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


def _mark(row: Any) -> MarkRow:
    return MarkRow(
        run=row.run,
        task=row.task,
        was=TaskState(row.was),
        state=TaskState(row.state),
        by=row.who,
        reason=row.reason,
        at=from_ms(row.at),
    )


def _notice(row: Any) -> NoticeRow:
    return NoticeRow(
        run=row.run,
        kind=row.kind,
        task=row.task,
        what=row.what,
        outcome=row.outcome,
        message=row.message,
        traceback=row.traceback,
        at=from_ms(row.at),
    )
