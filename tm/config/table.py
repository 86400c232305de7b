"""The table of settings: what each is called, what it may be, and what it means."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tm.config import kinds

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What can be set: a row of the table of settings, in the code as in the documentation."""

    field: str
    variable: str
    parse: Callable[[Any], Any]  #: text or the real thing -> the real thing; ValueError for anything else
    allowed: str
    default: str
    meaning: str


TABLE = (
    Setting(
        field="url",
        variable="TM_URL",
        parse=kinds.url,
        allowed="redis://HOST:PORT/DB, rediss://HOST:PORT/DB or unix:///PATH",
        default="none: an embedded server",
        meaning="The Redis or Valkey server that schedulers, workers and commands share.",
    ),
    Setting(
        field="home",
        variable="TM_HOME",
        parse=kinds.absolute,
        allowed="a directory",
        default=".tm in the working directory",
        meaning="Where the embedded server and the history keep their files.",
    ),
    Setting(
        field="namespace",
        variable="TM_NAMESPACE",
        # no dot: a queue is called `<namespace>.<queue>` in RQ, and queues may have dots
        parse=kinds.pattern(r"[A-Za-z0-9_-]{1,50}"),
        allowed="1 to 50 letters, digits, '_' or '-'",
        default="default",
        meaning="Keeps several installations on one server apart.",
    ),
    Setting(
        field="history_url",
        variable="TM_HISTORY",
        parse=kinds.history,
        allowed="sqlite:///PATH or postgresql://USER@HOST/DB",
        default="sqlite:///HOME/history.db",
        meaning="The database that remembers runs.",
    ),
    Setting(
        field="timezone",
        variable="TM_TZ",
        parse=kinds.zone,
        allowed="an IANA name such as Europe/Berlin or UTC",
        default="the machine's zone",
        meaning="The zone in which schedules of graphs that name none are read.",
    ),
    Setting(
        field="lease",
        variable="TM_LEASE",
        parse=kinds.seconds(zero=False),
        allowed="seconds above 0, such as 30",
        default="30",
        meaning="A worker that is not heard of for so long has lost its tasks; they run again elsewhere.",
    ),
    Setting(
        field="drain",
        variable="TM_DRAIN_TIMEOUT",
        parse=kinds.seconds(zero=True),
        allowed="seconds, 0 or more, such as 30",
        default="30",
        meaning="How long a worker that was told to stop lets its tasks run on.",
    ),
    Setting(
        field="grace",
        variable="TM_GRACE",
        parse=kinds.seconds(zero=True),
        allowed="seconds, 0 or more, such as 10",
        default="10",
        meaning="How long a task that is over its time may tidy up before it is killed.",
    ),
    Setting(
        field="processes",
        variable="TM_PROCESSES",
        parse=kinds.whole(1, 1024),
        allowed="a whole number from 1 to 1024",
        default="the CPUs the process may use, at least 2",
        meaning="Executors of one worker: tasks it runs at the same time.",
    ),
    Setting(
        field="result_ttl",
        variable="TM_RESULT_TTL",
        parse=kinds.seconds(zero=False),
        allowed="seconds above 0, such as 600",
        default="600",
        meaning="How long a run that succeeded and its result stay in the server; the history keeps it longer.",
    ),
    Setting(
        field="failed_ttl",
        variable="TM_FAILED_TTL",
        parse=kinds.seconds(zero=False),
        allowed="seconds above 0, such as 604800",
        default="604800, which is 7 days",
        meaning="How long a run that did not succeed stays in the server with its messages, so that it can be retried.",
    ),
    Setting(
        field="callback_timeout",
        variable="TM_CALLBACK_TIMEOUT",
        parse=kinds.seconds(zero=False),
        allowed="seconds above 0, such as 30",
        default="30",
        meaning="How long the callbacks of one event may take; then their process is ended, as that of a task is.",
    ),
    Setting(
        field="webhook_url",
        variable="TM_WEBHOOK_URL",
        parse=kinds.webhook,
        allowed="https://HOST/PATH or http://HOST/PATH",
        default="none: no alerts are sent",
        meaning="Where the leading scheduler sends alerts, see docs/how-to/alerts.md.",
    ),
    Setting(
        field="webhook_secret",
        variable="TM_WEBHOOK_SECRET",
        parse=kinds.secret,
        allowed="whsec_ and base64, or any 16 characters and more",
        default="none: alerts are not signed",
        meaning="What alerts are signed with, as Standard Webhooks has it.",
    ),
    Setting(
        field="webhook_events",
        variable="TM_WEBHOOK_EVENTS",
        parse=kinds.alerts,
        allowed=", ".join(kinds.ALERTS),
        default=", ".join(kinds.DEFAULT_ALERTS),
        meaning="Which alerts are sent.",
    ),
    Setting(
        field="max_message",
        variable="TM_MAX_MESSAGE",
        parse=kinds.size,
        allowed="bytes from 1024 to 64 MiB, such as 1048576 or 1MiB",
        default="1MiB",
        meaning="The largest value that one task may send to another through the server.",
    ),
    Setting(
        field="spill",
        variable="TM_SPILL",
        parse=kinds.optional_folder,
        allowed="a directory that all workers share",
        default="spill in TM_HOME with an embedded server, else none",
        meaning="Where messages above TM_MAX_MESSAGE are kept, up to 64 MiB each.",
    ),
    Setting(
        field="no_worker_after",
        variable="TM_NO_WORKER_AFTER",
        parse=kinds.seconds(zero=True),
        allowed="seconds such as 600, or 0 for never",
        default="600",
        meaning="How long a queued task that no worker offers waits while others are there; then it fails and says so.",
    ),
    Setting(
        field="max_memory",
        variable="TM_MAX_MEMORY",
        parse=kinds.mebibytes,
        allowed="MiB, 16 or more, such as 512, or 2GiB",
        default="none",
        meaning="A task process that is larger than this when an attempt has ended is replaced by a fresh one.",
    ),
    Setting(
        field="memory_limit",
        variable="TM_MEMORY_LIMIT",
        parse=kinds.mebibytes,
        allowed="MiB, 16 or more, such as 2048, or 2GiB",
        default="none",
        meaning="An attempt that takes more than this, with all it has started, is killed while it runs.",
    ),
    Setting(
        field="log_level",
        variable="TM_LOG_LEVEL",
        parse=kinds.choice("debug", "info", "warning", "error"),
        allowed="debug, info, warning or error",
        default="info",
        meaning="How much the services tell.",
    ),
    Setting(
        field="log_format",
        variable="TM_LOG_FORMAT",
        parse=kinds.choice("text", "json"),
        allowed="text or json",
        default="text",
        meaning="Log lines for people or for machines.",
    ),
    Setting(
        field="log_limit",
        variable="TM_LOG_LIMIT",
        parse=kinds.size_or_none,
        allowed="bytes from 1024 to 64 MiB, such as 1048576 or 1MiB, or 0",
        default="1MiB",
        meaning="How much is kept of what an attempt prints and logs, its head and its tail; 0 keeps nothing.",
    ),
    Setting(
        field="log_ttl",
        variable="TM_LOG_TTL",
        parse=kinds.seconds_or_none,
        allowed="seconds above 0, such as 2592000",
        default="none: as long as its run",
        meaning="How long what an attempt printed is kept in the history after the end of its run.",
    ),
    Setting(
        field="task_output",
        variable="TM_TASK_OUTPUT",
        parse=kinds.choice("auto", "prefixed", "plain", "off"),
        allowed="auto, prefixed, plain or off",
        default="auto: prefixed on a terminal, else plain",
        meaning="How a worker shows what tasks print: with graph and task before each line, or as it is.",
    ),
    Setting(
        field="appendfsync",
        variable="TM_APPENDFSYNC",
        parse=kinds.choice("everysec", "always"),
        allowed="everysec or always",
        default="everysec",
        meaning="When the embedded server writes to disk: a lost second is work done again, never lost.",
    ),
    Setting(
        field="metrics_port",
        variable="TM_METRICS_PORT",
        parse=kinds.port,
        allowed="a port from 0 (any that is free) to 65535",
        default="none: nobody is answered",
        meaning="Where a service shows /metrics, /healthz and /readyz; in one terminal the worker takes the next port.",
    ),
    Setting(
        field="metrics_host",
        variable="TM_METRICS_HOST",
        parse=kinds.pattern(r"[A-Za-z0-9.:_-]{1,255}"),
        allowed="a host name or an address, such as 0.0.0.0",
        default="127.0.0.1",
        meaning="The address on which it does so; what is shown there anybody who reaches it can read.",
    ),
)
