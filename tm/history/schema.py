"""The tables of history. Times are milliseconds since the epoch; names follow the words of ARCHITECTURE.md."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, ForeignKey, Index, Integer, LargeBinary, MetaData, Table, Text, text

from tm.history.version import SCHEMA_VERSION

__all__ = [
    "MIGRATIONS",
    "SCHEMA_VERSION",
    "attempts",
    "graph_versions",
    "log_chunks",
    "marks",
    "meta",
    "metadata",
    "notices",
    "runs",
    "task_runs",
]

metadata = MetaData()

_REJECTED = text("outcome = 'rejected'")

#: what brings the tables of a version to the next one
MIGRATIONS = {
    1: ("ALTER TABLE runs ADD COLUMN source TEXT",),
    2: (
        "ALTER TABLE runs ADD COLUMN retry_of TEXT",
        (
            "CREATE TABLE marks (run TEXT NOT NULL REFERENCES runs (id) ON DELETE CASCADE, event TEXT NOT NULL, "
            "node INTEGER NOT NULL, task TEXT NOT NULL, was TEXT NOT NULL, state TEXT NOT NULL, who TEXT NOT NULL, "
            "reason TEXT NOT NULL, at BIGINT NOT NULL, PRIMARY KEY (run, event))"
        ),
    ),
    3: (
        (
            "CREATE TABLE notices (run TEXT NOT NULL REFERENCES runs (id) ON DELETE CASCADE, event TEXT NOT NULL, "
            "kind TEXT NOT NULL, task TEXT NOT NULL, what TEXT NOT NULL, outcome TEXT NOT NULL, message TEXT, "
            "traceback TEXT, at BIGINT NOT NULL, PRIMARY KEY (run, event))"
        ),
    ),
    4: (
        (
            "CREATE TABLE log_chunks (run TEXT NOT NULL REFERENCES runs (id) ON DELETE CASCADE, token TEXT NOT NULL, "
            "number INTEGER NOT NULL, graph TEXT NOT NULL, task TEXT NOT NULL, attempt INTEGER NOT NULL, "
            "last INTEGER NOT NULL, first_us BIGINT NOT NULL, packed BYTEA NOT NULL, PRIMARY KEY (run, token, number))"
        ),
    ),
    5: (
        "ALTER TABLE graph_versions ADD COLUMN definition TEXT",
        "CREATE INDEX IF NOT EXISTS runs_ended ON runs (ended)",
        "CREATE INDEX IF NOT EXISTS notices_at ON notices (at)",
    ),
    6: ("CREATE INDEX IF NOT EXISTS attempts_rejected ON attempts (ended) WHERE outcome = 'rejected'",),
}

#: `schema` -> version, `position:<source>` -> id of the last stream entry that was recorded,
#: `place:<namespace>@<server>` -> the sources that were found there, the present one first, with blanks between
meta = Table(
    "meta",
    metadata,
    Column("key", Text, primary_key=True),
    Column("value", Text, nullable=False),
)

runs = Table(
    "runs",
    metadata,
    Column("id", Text, primary_key=True),
    Column("graph", Text, nullable=False),
    Column("version", Text, nullable=False),
    Column("trigger", Text),  # null where the beginning of the run was never seen
    Column("tick", BigInteger),
    Column("state", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("params", LargeBinary),  # the message
    Column("params_json", Text),  # the same, to be read
    Column("config", Text),
    Column("created", BigInteger, nullable=False),
    Column("started", BigInteger),
    Column("ended", BigInteger),
    Column("source", Text),  # the instance of the server that told of it; null where an older version has filed it
    Column("retry_of", Text),  # the run this one repairs
    # each listing is one walk along one of these, newest first
    Index("runs_created", "created", "id"),
    Index("runs_graph_created", "graph", "created", "id"),
    Index("runs_state_created", "state", "created", "id"),
    Index("runs_graph_state_created", "graph", "state", "created", "id"),
    Index("runs_ended", "ended"),  # what has happened since
)

task_runs = Table(
    "task_runs",
    metadata,
    Column("run", Text, ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True),
    Column("node", Integer, primary_key=True),
    Column("task", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("started", BigInteger),
    Column("ended", BigInteger),
)

attempts = Table(
    "attempts",
    metadata,
    Column("run", Text, ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True),
    # not node and number: a late report of a lost attempt is a row of its own
    Column("event", Text, primary_key=True),
    Column("node", Integer, nullable=False),
    Column("task", Text, nullable=False),
    Column("number", Integer, nullable=False),
    Column("outcome", Text, nullable=False),
    Column("worker", Text, nullable=False),
    Column("claimed", BigInteger),
    Column("ended", BigInteger, nullable=False),
    Column("ms", BigInteger, nullable=False),
    Column("error_type", Text),
    Column("message", Text),
    Column("traceback", Text),
    Column("signal", Text),
    Column("exit_code", Integer),
    Column("max_rss", BigInteger),
    Column("due", BigInteger),
    # few, and the only attempts that end after their run
    Index("attempts_rejected", "ended", sqlite_where=_REJECTED, postgresql_where=_REJECTED),
)

#: what people said of tasks (`tm mark`)
marks = Table(
    "marks",
    metadata,
    Column("run", Text, ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True),
    Column("event", Text, primary_key=True),
    Column("node", Integer, nullable=False),
    Column("task", Text, nullable=False),
    Column("was", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("who", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("at", BigInteger, nullable=False),
)

#: who was told of a run, and how that went; alarms
notices = Table(
    "notices",
    metadata,
    Column("run", Text, ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True),
    Column("event", Text, primary_key=True),
    Column("kind", Text, nullable=False),  # callback, deadline
    Column("task", Text, nullable=False),  # empty for the whole run
    Column("what", Text, nullable=False),  # such as on_failure
    Column("outcome", Text, nullable=False),
    Column("message", Text),
    Column("traceback", Text),
    Column("at", BigInteger, nullable=False),
    Index("notices_at", "at"),
)

#: lines that attempts printed, in chunks; a claim token and a number tell them apart
log_chunks = Table(
    "log_chunks",
    metadata,
    Column("run", Text, ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True),
    Column("token", Text, primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("graph", Text, nullable=False),
    Column("task", Text, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("last", Integer, nullable=False),
    Column("first_us", BigInteger, nullable=False),
    Column("packed", LargeBinary, nullable=False),
)

graph_versions = Table(
    "graph_versions",
    metadata,
    Column("graph", Text, primary_key=True),
    Column("version", Text, primary_key=True),
    Column("first_seen", BigInteger, nullable=False),
    Column("definition", Text),  # its tasks and edges (`plans`); null as long as nobody has told
)
