"""The archive side: events go in, each exactly once, however often they are handed over."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sqlalchemy import case, func, or_, select

from tm import codec
from tm.clock import from_ms
from tm.errors import CodecError
from tm.events import (
    AttemptEnded,
    CallbackEnded,
    DeadlineMissed,
    Event,
    Noted,
    RunCreated,
    RunEnded,
    TaskClosed,
    TaskMarked,
    TasksKept,
    UnknownEvent,
    entry_of,
    order_of,
)
from tm.history.database import Database
from tm.history.schema import attempts, graph_versions, marks, meta, notices, runs, task_runs
from tm.history.upsert import upsert
from tm.states import FINAL_RUN_STATES, FINAL_TASK_STATES, Outcome, RunState, TaskState

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import ColumnElement, Connection

log = logging.getLogger(__name__)

#: before the first entry of any stream
BEGINNING = "0-0"
#: the reason of runs whose server forgot them
LOST = "lost: the server was emptied, or another one is in its place; what had not ended there is gone"


class Writer(Database):
    """Files events. Several may try at once (an old leader and a new one); they take turns."""

    def position(self, source: str = "default") -> str:
        """The id of the last stream entry recorded from this source, `0-0` before the first."""
        with self._reading() as connection:
            key = select(meta.c.value).where(meta.c.key == _key(source))
            return connection.execute(key).scalar() or BEGINNING

    def record(self, events: Sequence[tuple[str, Event]], *, source: str = "default") -> None:
        """File events, given with their ids in stream order, and the new position, in one transaction.

        They are all those of their entries, for the position is an entry: what is in it or before it is left alone,
        which makes this safe to repeat. `source` tells streams apart whose ids have
        nothing to do with each other: the instance of the server.
        """
        if not events:
            return
        with self._writing() as connection:
            position = order_of(_lock_position(connection, source))
            fresh = [(id_, event) for id_, event in events if order_of(entry_of(id_)) > position]
            if not fresh:
                return
            batch = _Batch(source)
            for id_, event in fresh:
                batch.add(id_, event)
            batch.store(connection)
            update = meta.update().where(meta.c.key == _key(source)).values(value=entry_of(fresh[-1][0]))
            connection.execute(update)

    def adopt(self, place: str, source: str, at: int) -> int:
        """Take note of which data a server holds; returns how many open runs went with the data it held before.

        Such runs are closed as failed, with a reason that begins with "lost:". Safe to repeat.

        Args:
            place: the server and the namespace, without a password.
            source: the instance of the data found there now.
            at: ms, the end of the runs that are lost.
        """
        with self._reading() as connection:
            if _sources(connection, place)[:1] == [source]:
                return 0
        with self._writing() as connection:
            before = _sources(connection, place)
            if before[:1] == [source]:
                return 0
            now = " ".join([source, *(each for each in before if each != source)][:20])
            upsert(connection, meta, [{"key": f"place:{place}", "value": now}], {"value": _replace})
            gone = [each for each in before if each != source]
            final = [state.value for state in FINAL_RUN_STATES]
            lost = (runs.c.source.in_(gone)) & (runs.c.state.not_in(final))
            ended = [state.value for state in FINAL_TASK_STATES]
            of_lost = task_runs.c.run.in_(select(runs.c.id).where(lost)) & task_runs.c.state.not_in(ended)
            connection.execute(
                task_runs.update().where(of_lost).values(state=TaskState.CANCELLED.value, reason=LOST, ended=at)
            )
            closed = connection.execute(
                runs.update().where(lost).values(state=RunState.FAILED.value, reason=LOST, ended=at)
            )
            return int(closed.rowcount)

    def last_ticks(self, place: str) -> dict[str, int]:
        """The last tick of each graph that any data of this server has told of, in ms."""
        with self._reading() as connection:
            query = (
                select(runs.c.graph, func.max(runs.c.tick))
                .where(runs.c.source.in_(_sources(connection, place)) & runs.c.tick.is_not(None))
                .group_by(runs.c.graph)
            )
            return {graph: int(tick) for graph, tick in connection.execute(query)}


class _Batch:
    """The rows that some events amount to: one per run, task run and attempt, whatever happened to it meanwhile.

    Rows go over what is there: what a row leaves open (None, "") stays as it was, and a run that has ended stays ended.
    """

    def __init__(self, source: str) -> None:
        self.source = source
        self.runs: dict[str, dict[str, Any]] = {}
        self.task_runs: dict[tuple[str, int], dict[str, Any]] = {}
        self.attempts: list[dict[str, Any]] = []
        self.late: list[dict[str, Any]] = []
        self.marks: list[dict[str, Any]] = []
        self.notices: list[dict[str, Any]] = []
        self.versions: dict[tuple[str, str], dict[str, Any]] = {}

    def add(self, id_: str, event: Event) -> None:
        match event:
            case RunCreated():
                self._run_created(event)
            case AttemptEnded():
                self._attempt_ended(id_, event)
            case TaskClosed():
                self._run(event.run, "", event.at)
                row = self._task_run(event.run, event.node, event.task)
                row.update(state=event.state.value, reason=_text(event.reason), ended=event.at)
                if event.attempt:
                    self._began(row, event.attempt, event.claimed)
            case TasksKept():
                self._run(event.run, "", event.at)
                for kept in event.tasks:
                    row = self._task_run(event.run, kept.node, kept.task)
                    reason = f"kept from {event.source}" if event.source else "left out of the retry"
                    row.update(state=kept.state.value, reason=_text(reason), ended=event.at)
            case TaskMarked():
                self._task_marked(id_, event)
            case DeadlineMissed():
                due = from_ms(event.due).isoformat(timespec="seconds").replace("+00:00", "Z")
                row = {"task": "", "what": "deadline", "outcome": "missed"}
                row |= {"message": f"it should have ended by {due}", "traceback": None, "at": event.at}
                self.notices.append({"run": event.run, "event": id_, "kind": "deadline"} | row)
            case Noted():
                row = {"task": "", "what": _text(event.what), "outcome": _text(event.outcome)}
                row |= {"message": _text(event.message), "traceback": None, "at": event.at}
                self.notices.append({"run": event.run, "event": id_, "kind": _text(event.kind)} | row)
            case CallbackEnded():
                self._callback_ended(id_, event)
            case RunEnded():
                row = self._run(event.run, event.graph, event.at)
                if row["state"] not in FINAL_RUN_STATES:
                    row.update(state=event.state.value, ended=event.at, reason=_text(event.reason))
                row["started"] = row["started"] or event.started
            case UnknownEvent():
                log.warning("history skips an event", extra={"event_id": id_, "problem": event.problem})

    def _run(self, run: str, graph: str, at: int) -> dict[str, Any]:
        """The row of a run; of one whose beginning was trimmed away, with as little as is known."""
        row = self.runs.setdefault(
            run,
            {"id": run, "graph": "", "version": "", "trigger": None, "tick": None, "state": RunState.RUNNING.value}
            | {"reason": "", "params": None, "params_json": None, "config": None}
            | {"created": at, "started": None, "ended": None, "source": self.source}
            | {"retry_of": None},
        )
        row["graph"] = row["graph"] or _text(graph)
        return row

    def _run_created(self, event: RunCreated) -> None:
        row = self._run(event.run, event.graph, event.at)
        row.update(
            version=_text(event.version),
            trigger=_text(event.trigger),
            tick=event.tick,
            state=event.state.value,
            reason=_text(event.reason),
            params=event.params or None,
            params_json=_readable(event.params) if event.params else None,
            config=_text(event.config) or None,
            created=event.at,
            retry_of=_text(event.retry_of) or None,
            ended=event.at if event.state in FINAL_RUN_STATES else None,
        )
        version = {"graph": row["graph"], "version": row["version"], "first_seen": event.at}
        self.versions.setdefault((row["graph"], row["version"]), version)

    def _attempt_ended(self, id_: str, event: AttemptEnded) -> None:
        attempt = {
            "run": event.run,
            "event": id_,
            "node": event.node,
            "task": _text(event.task),
            "number": event.attempt,
            "outcome": event.outcome.value,
            "worker": _text(event.worker),
            "claimed": event.claimed,
            "ended": event.at,
            "ms": event.ms,
            "due": event.due,
        } | _read_error(event.error)
        if event.outcome is Outcome.REJECTED:
            self.late.append(attempt)
            return
        self.attempts.append(attempt)
        run = self._run(event.run, event.graph, event.at if event.claimed is None else event.claimed)
        if run["state"] not in FINAL_RUN_STATES:
            run["state"] = RunState.RUNNING.value
        run["started"] = run["started"] or event.claimed
        row = self._task_run(event.run, event.node, event.task)
        self._began(row, event.attempt, event.claimed)
        if event.state is not None:
            ended = event.at if event.state in FINAL_TASK_STATES else None
            why = (attempt["message"] or "") if event.outcome is Outcome.SKIPPED else ""
            row.update(state=event.state.value, reason=why, ended=ended)

    def _began(self, row: dict[str, Any], attempt: int, claimed: int | None) -> None:
        row["attempts"] = max(row["attempts"], attempt)
        row["started"] = row["started"] or claimed

    def _task_marked(self, id_: str, event: TaskMarked) -> None:
        self._run(event.run, "", event.at)
        said = {
            "was": event.was.value,
            "state": event.state.value,
            "who": _text(event.by),
            "reason": _text(event.reason),
        }
        self.marks.append(
            {"run": event.run, "event": id_, "node": event.node, "task": _text(event.task), "at": event.at} | said
        )
        row = self._task_run(event.run, event.node, event.task)
        row.update(
            state=event.state.value,
            reason=f"marked {event.state.value} by {said['who']}: {said['reason']}",
            ended=event.at,
        )

    def _callback_ended(self, id_: str, event: CallbackEnded) -> None:
        error = _read_error(event.error)
        message = ": ".join(each for each in (error["error_type"], error["message"]) if each) or None
        self.notices.append(
            {
                "run": event.run,
                "event": id_,
                "kind": "callback",
                "task": _text(event.task),
                "what": f"on_{event.kind}",
            }
            | {"outcome": _text(event.outcome), "message": message, "traceback": error["traceback"], "at": event.at}
        )

    def _task_run(self, run: str, node: int, task: str) -> dict[str, Any]:
        empty = {"run": run, "node": node, "task": _text(task), "state": "running", "reason": ""}
        return self.task_runs.setdefault((run, node), empty | {"attempts": 0, "started": None, "ended": None})

    def store(self, connection: Connection) -> None:
        upsert(connection, runs, self.runs.values(), _RUN_CHANGES)
        upsert(connection, task_runs, self.task_runs.values(), _TASK_RUN_CHANGES)
        # a late report says nothing new of its run; where that is unknown, it would only make a ghost of it
        known = {row["run"] for row in (*self.late, *self.notices)}
        if known:
            known = set(connection.execute(select(runs.c.id).where(runs.c.id.in_(known))).scalars())
        late = [row for row in self.late if row["run"] in known]
        upsert(connection, attempts, [*self.attempts, *late], {})
        upsert(connection, marks, self.marks, {})
        upsert(connection, notices, [row for row in self.notices if row["run"] in known], {})
        upsert(connection, graph_versions, self.versions.values(), {})


def _keep(old: ColumnElement[Any], new: ColumnElement[Any]) -> ColumnElement[Any]:
    return func.coalesce(old, new)


def _fill(old: ColumnElement[Any], new: ColumnElement[Any]) -> ColumnElement[Any]:
    return case((old == "", new), else_=old)


def _replace(_: ColumnElement[Any], new: ColumnElement[Any]) -> ColumnElement[Any]:
    return new


def _say(old: ColumnElement[Any], new: ColumnElement[Any]) -> ColumnElement[Any]:
    return case((new == "", old), else_=new)


def _earlier(old: ColumnElement[Any], new: ColumnElement[Any]) -> ColumnElement[Any]:
    return case((new < old, new), else_=old)


def _later(old: ColumnElement[Any], new: ColumnElement[Any]) -> ColumnElement[Any]:
    return case((new > old, new), else_=old)


def _advance(old: ColumnElement[Any], new: ColumnElement[Any]) -> ColumnElement[Any]:
    """The state of a run never goes back."""
    # no IN: SQLAlchemy cannot expand one in a statement for many rows
    ended = (old == state.value for state in sorted(FINAL_RUN_STATES))
    return case((or_(*ended, new == RunState.QUEUED.value), old), else_=new)


_RUN_CHANGES = {
    "graph": _fill,
    "version": _fill,
    "trigger": _keep,
    "tick": _keep,
    "state": _advance,
    "reason": _say,
    "params": _keep,
    "params_json": _keep,
    "config": _keep,
    "created": _earlier,
    "started": _keep,
    "ended": _keep,
    "source": _keep,
    "retry_of": _keep,
}
_TASK_RUN_CHANGES = {
    "task": _fill,
    "state": _replace,
    "reason": _replace,
    "attempts": _later,
    "started": _keep,
    "ended": _replace,
}


def _sources(connection: Connection, place: str) -> list[str]:
    value = connection.execute(select(meta.c.value).where(meta.c.key == f"place:{place}")).scalar()
    return str(value).split() if value else []


def _key(source: str) -> str:
    return f"position:{source}"


def _lock_position(connection: Connection, source: str) -> str:
    """The position, which nobody else can move until this transaction ends."""
    upsert(connection, meta, [{"key": _key(source), "value": BEGINNING}], {})
    query = select(meta.c.value).where(meta.c.key == _key(source)).with_for_update()  # SQLite has one writer anyway
    return str(connection.execute(query).scalar_one())


def _text(value: str) -> str:
    # PostgreSQL stores no NUL; one in a message must not stop history for ever
    return value.replace("\x00", "␀")


def _readable(params: bytes) -> str | None:
    try:
        return _text(codec.as_json(codec.decode(params)))
    except CodecError:
        return None


def _read_error(error: bytes) -> dict[str, Any]:
    """The columns of an error; a record that cannot be read leaves a note instead."""
    fields: Any = {}
    if error:
        try:
            fields = codec.decode(error)
        except CodecError as problem:
            fields = {"message": f"(the record of the error cannot be read: {problem})"}
    if not isinstance(fields, Mapping):
        fields = {"message": "(the record of the error cannot be read)"}
    return {
        "error_type": _optional_text(fields.get("type")),
        "message": _optional_text(fields.get("message")),
        "traceback": _optional_text(fields.get("traceback")),
        "signal": _optional_text(fields.get("signal")),
        "exit_code": _optional_int(fields.get("exit_code"), 32),
        "max_rss": _optional_int(fields.get("max_rss"), 64),
    }


def _optional_text(value: Any) -> str | None:
    return _text(str(value)) if isinstance(value, str | int) else None


def _optional_int(value: Any, bits: int) -> int | None:
    return value if type(value) is int and value.bit_length() < bits else None
