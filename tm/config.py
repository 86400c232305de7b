"""Settings: what the environment and the command line may change. Nothing else in Taskmaster reads it."""

from __future__ import annotations

import base64
import dataclasses
import math
import os
import re
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from tm.embedded import socket_url
from tm.errors import SettingsError
from tm.redact import redact

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from zoneinfo import ZoneInfo

#: bytes; the codec refuses anything larger, so a larger limit could not be kept
HARD_MAX_MESSAGE = 64 << 20


def _default_home() -> Path:
    return Path.cwd() / ".tm"


def _machine_zone() -> ZoneInfo:
    """The zone this machine is set to; UTC where it cannot be told."""
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

    try:
        import tzlocal

        return tzlocal.get_localzone()
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return ZoneInfo("UTC")


def _default_processes() -> int:
    # the CPUs this process may use, which in a container are fewer than the machine has; but on a single one too, a
    # graph that waits for something must not hold up another
    return max(2, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)


#: what a webhook can be told
ALERTS = (
    *("run.success", "run.failed", "run.timed_out", "run.cancelled", "run.skipped"),
    *("task.success", "task.skipped", "task.retrying", "task.queued"),
    *("task.failed", "task.timed_out", "task.quarantined"),
    *("deadline.missed", "callback.failed"),
)
DEFAULT_ALERTS = ("run.failed", "run.timed_out", "deadline.missed", "task.quarantined")


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Settings:
    """Everything a process of Taskmaster can be told from outside; bad values are refused at the door.

    Raises:
        SettingsError: names the variable (or the field), the value and what is allowed.
    """

    url: str | None = None  #: the server all processes share; None = an embedded one in `home`
    home: Path = field(default_factory=_default_home)  #: absolute; the embedded server and the history live here
    namespace: str = "default"  #: keeps several installations on one server apart
    history_url: str = ""  #: never empty once built: by default SQLite in `home`
    timezone: ZoneInfo = field(default_factory=_machine_zone)  #: of graphs that name none
    lease: float = 30.0  #: seconds after which a worker that does not beat has lost its tasks
    drain: float = 30.0  #: seconds a worker that was told to stop lets its tasks run on
    grace: float = 10.0  #: seconds between SIGTERM and SIGKILL for a task that is over its time
    processes: int = field(default_factory=_default_processes)  #: executor processes of one worker
    result_ttl: float = 600.0  #: seconds a closed run stays in the server, its result with it
    failed_ttl: float = 604_800.0  #: seconds a run that did not succeed stays there, to be retried
    callback_timeout: float = 30.0  #: seconds a callback may take
    webhook_url: str | None = None  #: where alerts are sent
    webhook_secret: str | None = None  #: what they are signed with
    webhook_events: tuple[str, ...] = DEFAULT_ALERTS  #: which ones
    max_message: int = 1 << 20  #: bytes one value may have as a message inside the server
    spill: Path | None = None  #: where larger messages are kept; None = `spill` in `home`, but nowhere with a `url`
    no_worker_after: float = 600.0  #: seconds after which a task that no living worker offers fails; 0 = never
    max_memory: int | None = None  #: MiB; an executor process that is larger after an attempt is replaced
    memory_limit: int | None = None  #: MiB; an attempt whose processes are larger is ended while it runs
    log_level: str = "info"  #: debug | info | warning | error
    log_format: str = "text"  #: text | json
    log_limit: int = 1 << 20  #: bytes kept of what an attempt prints, its head and its tail; 0 = nothing is kept
    log_ttl: float | None = (
        None  #: seconds what was printed outlives its run; None = as long as the run is known
    )
    task_output: str = "auto"  #: how a worker shows what tasks print: auto | prefixed | plain | off
    appendfsync: str = "everysec"  #: of the embedded server: everysec | always
    metrics_port: int | None = None  #: where a service answers who watches it; 0 = any free port, None = nowhere
    metrics_host: str = "127.0.0.1"  #: the address it does so on

    def __post_init__(self) -> None:
        if not self.history_url:
            object.__setattr__(self, "history_url", f"sqlite:///{_absolute(self.home)}/history.db")
        for each in _TABLE:
            object.__setattr__(self, each.field, _checked(each, getattr(self, each.field), each.field))

    @classmethod
    def from_environment(cls, **overrides: Any) -> Settings:
        """The settings of this process: overrides first (None means not given), then `TM_*`, then defaults.

        An empty variable counts as not set: `TM_URL=${TM_URL:-}` in a compose file means what it says.
        """
        if unknown := overrides.keys() - {each.field for each in _TABLE}:
            raise TypeError(f"no such setting: {', '.join(sorted(unknown))}")
        return cls(**_gather(overrides, os.environ))

    @property
    def heartbeat(self) -> float:
        """Seconds between two beats of a worker: five may go missing before a lease lapses."""
        return self.lease / 6

    @property
    def spill_folder(self) -> Path | None:
        """The directory for large messages of this namespace; None when there is none."""
        folder = self.spill or (self.home / "spill" if self.url is None else None)
        return None if folder is None else folder / self.namespace

    def server_url(self) -> str:
        """Where the server is: the URL that was set, else the socket of the embedded server in `home`."""
        return self.url or socket_url(self.home)

    def export(self) -> None:
        """Put these settings into the environment: what tasks start or submit then comes to the same server.

        It does so wherever they change directory to, and reads back as equal settings.
        """
        for each in _TABLE:
            value = getattr(self, each.field)
            if value is None or (each.field == "timezone" and value.key in (None, "local")):
                # a zone without a name is that of the machine's own file, which others read as well
                os.environ.pop(each.variable, None)
            else:
                os.environ[each.variable] = ",".join(value) if isinstance(value, tuple) else str(value)

    def hand_down(self) -> None:
        """Put what says where things are into the environment, for whatever this process starts from now on."""
        where = {
            "url": self.url,
            "home": self.home,
            "namespace": self.namespace,
            "history_url": self.history_url,
            "spill": self.spill,
        }
        for each in _TABLE:
            if where.get(each.field) is not None:
                os.environ[each.variable] = str(where[each.field])

    def __repr__(self) -> str:
        fields = (each.name for each in dataclasses.fields(self))
        return f"Settings({', '.join(f'{name}={_veiled(name, getattr(self, name))}' for name in fields)})"


def environment_with(variables: Mapping[str, str]) -> dict[str, str]:
    """The environment for another process: this one's without the settings in it, and with these variables."""
    ours = {each.variable for each in _TABLE}
    return {name: value for name, value in os.environ.items() if name not in ours} | dict(variables)


@contextmanager
def within(variables: Mapping[str, str]) -> Iterator[None]:
    """Have this process, and what it starts meanwhile, be told by these variables and no other settings."""
    ours = {*variables, *(each.variable for each in _TABLE)}
    before = {name: os.environ[name] for name in ours if name in os.environ}
    try:
        for name in ours:
            os.environ.pop(name, None)
        os.environ.update(variables)
        yield
    finally:
        for name in ours:
            os.environ.pop(name, None)
        os.environ.update(before)


def surroundings() -> tuple[object, ...]:
    """All that the settings of a process are made of; while it is equal, so are they, and it is had in 2 us."""
    try:
        folder = os.getcwd()  # noqa: PTH109 - twenty times as fast
    except FileNotFoundError:
        folder = ""
    # the dict of bytes inside: to read the variables one by one takes as long as to make the settings
    return os.getpid(), folder, dict(os.environ._data)  # type: ignore[attr-defined]  # noqa: SLF001


def dumb_terminal() -> bool:
    """Whether the terminal is one that only takes plain text (`TERM=dumb`)."""
    return os.environ.get("TERM") == "dumb"


def no_color() -> bool:
    """Whether somebody asked all programs not to use colour (`NO_COLOR`, https://no-color.org)."""
    return bool(os.environ.get("NO_COLOR"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Described:
    """One row of the table of settings in the documentation."""

    variable: str
    field: str
    allowed: str
    default: str
    meaning: str


def wants_color() -> bool:
    """Whether the person at the terminal has nothing against colours (https://no-color.org)."""
    return not os.environ.get("NO_COLOR")


def has_cursor() -> bool:
    """Whether a terminal can be written to elsewhere than at its end."""
    return os.environ.get("TERM", "") not in {"", "dumb"}


def sources(**overrides: Any) -> dict[str, str]:
    """Where the value of each setting comes from, by field: "command line", "environment" or "default"."""
    found = {}
    for each in _TABLE:
        given = overrides.get(each.field) is not None
        told = bool(os.environ.get(each.variable, "").strip())
        found[each.field] = "command line" if given else "environment" if told else "default"
    return found


def describe() -> list[Described]:
    """The table of settings, for the documentation and `tm help settings`."""
    return [
        Described(
            variable=each.variable,
            field=each.field,
            allowed=each.allowed,
            default=each.default,
            meaning=each.meaning,
        )
        for each in _TABLE
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Setting:
    field: str
    variable: str
    parse: Callable[[Any], Any]  #: text or the real thing -> the real thing; ValueError for anything else
    allowed: str
    default: str
    meaning: str


def _gather(overrides: Mapping[str, Any], environ: Mapping[str, str]) -> dict[str, Any]:
    values = {}
    for each in _TABLE:
        given = overrides.get(each.field)
        if given is not None:
            values[each.field] = _checked(each, given, each.field)
        elif text := environ.get(each.variable, "").strip():
            values[each.field] = _checked(each, text, each.variable)
    return values


def _checked(setting: _Setting, value: Any, label: str) -> Any:
    try:
        return setting.parse(value)
    except (ValueError, TypeError) as error:
        reason = f" ({error})" if isinstance(error, _Reason) else ""
        # not chained: the cause would show what the message hides
        raise SettingsError(
            f"{label}={_refused(setting.field, value)} will not do{reason}: use {setting.allowed}"
        ) from None


def _refused(field: str, value: Any) -> str:
    if field in {"webhook_url", "webhook_secret"}:
        return "***"
    return _shown(value, refused_url="url" in field)


def veiled(field: str, value: Any) -> str:
    """A setting as it may be shown: without what is secret about it."""
    if field == "webhook_secret" and value is not None:
        return "***"
    if field == "webhook_url" and value is not None:  # such addresses are secrets themselves
        parts = urlsplit(str(value))
        return f"{parts.scheme}://{parts.hostname or ''}/***"
    return ",".join(value) if isinstance(value, tuple) else redact(str(value))


def _veiled(field: str, value: Any) -> str:
    return _shown(veiled(field, value) if field.startswith("webhook_") and value is not None else value)


def _shown(value: Any, *, refused_url: bool = False) -> str:
    if not isinstance(value, str):
        return str(value)
    if not refused_url:
        return repr(redact(value))
    # it may be no URL at all, or one with a blank in its password, which the redactor takes for two words
    return repr(redact(re.sub(r"^([A-Za-z+]*://)?.*@", r"\1***@", "".join(value.split()))))


class _Reason(ValueError):  # noqa: N818 - carries a half sentence for the message, never leaves this module
    """What exactly is wrong with a value."""


def _url(value: str | None) -> str | None:
    if value is None:
        return None
    if re.search(r"\s", value):
        raise _Reason("it has a blank in it; write %20")
    parts = urlsplit(value)
    if parts.scheme not in {"redis", "rediss", "unix"}:
        raise _Reason("no scheme" if not parts.scheme else "unknown scheme")
    if parts.scheme == "unix":
        if not parts.path.startswith("/"):
            raise _Reason("no path")
        return value
    _refuse_late_at(value)
    try:
        port = parts.port
    except ValueError as error:
        raise _Reason("bad port") from error
    if not parts.hostname or port == 0:
        raise _Reason("no host" if not parts.hostname else "bad port")
    if not re.fullmatch(r"/?|/\d+", parts.path):
        raise _Reason("the path is no database number")
    return value


def _refuse_late_at(value: str) -> None:
    """An `@` after the host comes from a password that is not encoded; half of it would pass for host and path."""
    _, *rest = re.split(r"[/?#]", value.partition("://")[2], maxsplit=1)
    if any("@" in each for each in rest):
        raise _Reason("in a password '/' is written %2F, '?' %3F, '#' %23, '@' %40")


def _history(value: str) -> str:
    if re.search(r"\s", value) and not value.startswith("sqlite:"):
        raise _Reason("it has a blank in it; write %20")
    scheme, separator, rest = value.partition("://")
    if scheme == "postgres":
        raise _Reason("the scheme is written postgresql")
    if not separator or scheme.partition("+")[0] not in {"sqlite", "postgresql"}:
        raise _Reason("unknown scheme" if separator else "no scheme")
    if scheme == "sqlite" and not rest.startswith("/"):
        raise _Reason("a path begins after three slashes, an absolute one after four")
    if scheme != "sqlite":
        _refuse_late_at(value)
    return value


def _absolute(value: str | Path) -> Path:
    if not str(value) or "\0" in str(value):
        raise ValueError(value)
    return Path(value).expanduser().absolute()


def _optional_folder(value: str | Path | None) -> Path | None:
    return None if value is None else _absolute(value)


def _webhook(value: str | None) -> str | None:
    if value is None:
        return None
    parts = urlsplit(value)
    if parts.scheme not in {"http", "https"} or not parts.hostname or re.search(r"\s", value):
        raise _Reason("no address of a web server")
    if "@" in parts.netloc:
        raise _Reason("a name and a password in it would not be sent; put a token into the path")
    _ = parts.port  # ValueError for a bad one
    return value


def _secret(value: str | None) -> str | None:
    if value is not None:
        if value.startswith("whsec_"):
            try:
                base64.b64decode(value.removeprefix("whsec_"), validate=True)
            except ValueError:
                raise _Reason("what follows whsec_ is no base64") from None
        if len(value) < 16:
            raise _Reason("it is too short to keep anybody out")
    return value


def _alerts(value: str | tuple[str, ...]) -> tuple[str, ...]:
    given = value.split(",") if isinstance(value, str) else value
    names = tuple(dict.fromkeys(each.strip() for each in given if each.strip()))
    if not names or (unknown := sorted({*names} - {*ALERTS})):
        raise _Reason(f"no alert is called {', '.join(unknown)}" if names else "nothing is named")
    return names


def _zone(value: str | ZoneInfo) -> ZoneInfo:
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

    if isinstance(value, ZoneInfo):
        return value
    try:
        return ZoneInfo(value)
    except (ZoneInfoNotFoundError, OSError) as error:
        raise _Reason("unknown zone") from error


def _pattern(pattern: str) -> Callable[[str], str]:
    def parse(value: str) -> str:
        if not re.fullmatch(pattern, value):
            raise ValueError(value)
        return value

    return parse


def _seconds(*, zero: bool) -> Callable[[str | float], float]:
    def parse(value: str | float) -> float:
        seconds = float(value)
        if isinstance(value, bool) or not math.isfinite(seconds) or seconds < 0 or (seconds == 0 and not zero):
            raise ValueError(value)
        return seconds

    return parse


def _seconds_or_none(value: str | float | None) -> float | None:
    return None if value is None else _seconds(zero=False)(value)


def _whole(least: int, most: int) -> Callable[[str | int], int]:
    def parse(value: str | int) -> int:
        number = int(value)
        if isinstance(value, bool | float) or not least <= number <= most:
            raise ValueError(value)
        return number

    return parse


def _port(value: str | int | None) -> int | None:
    return None if value is None else _whole(0, 65_535)(value)


def _bytes(value: str | int) -> int:
    if isinstance(value, str) and (match := re.fullmatch(r"(\d+) ?(KiB|MiB)", value, re.IGNORECASE)):
        value = int(match[1]) << (10 if match[2].lower() == "kib" else 20)
    return _whole(1024, HARD_MAX_MESSAGE)(value)


def _bytes_or_none(value: str | int) -> int:
    return 0 if value in {"0", 0} and not isinstance(value, bool) else _bytes(value)


def _mebibytes(value: str | int | None) -> int | None:
    if value is None:
        return None
    if isinstance(value, str) and (match := re.fullmatch(r"(\d+) ?(MiB|GiB)", value, re.IGNORECASE)):
        value = int(match[1]) << (10 if match[2].lower() == "gib" else 0)
    return _whole(16, 1 << 30)(value)


def _choice(*allowed: str) -> Callable[[str], str]:
    def parse(value: str) -> str:
        if value.lower() not in allowed:
            raise ValueError(value)
        return value.lower()

    return parse


_TABLE = (
    _Setting(
        field="url",
        variable="TM_URL",
        parse=_url,
        allowed="redis://HOST:PORT/DB, rediss://HOST:PORT/DB or unix:///PATH",
        default="none: an embedded server",
        meaning="The Redis or Valkey server that schedulers, workers and commands share.",
    ),
    _Setting(
        field="home",
        variable="TM_HOME",
        parse=_absolute,
        allowed="a directory",
        default=".tm in the working directory",
        meaning="Where the embedded server and the history keep their files.",
    ),
    _Setting(
        field="namespace",
        variable="TM_NAMESPACE",
        # no dot: a queue is called `<namespace>.<queue>` in RQ, and queues may have dots
        parse=_pattern(r"[A-Za-z0-9_-]{1,50}"),
        allowed="1 to 50 letters, digits, '_' or '-'",
        default="default",
        meaning="Keeps several installations on one server apart.",
    ),
    _Setting(
        field="history_url",
        variable="TM_HISTORY",
        parse=_history,
        allowed="sqlite:///PATH or postgresql://USER@HOST/DB",
        default="sqlite:///HOME/history.db",
        meaning="The database that remembers runs.",
    ),
    _Setting(
        field="timezone",
        variable="TM_TZ",
        parse=_zone,
        allowed="an IANA name such as Europe/Berlin or UTC",
        default="the machine's zone",
        meaning="The zone in which schedules of graphs that name none are read.",
    ),
    _Setting(
        field="lease",
        variable="TM_LEASE",
        parse=_seconds(zero=False),
        allowed="seconds above 0, such as 30",
        default="30",
        meaning="A worker that is not heard of for so long has lost its tasks; they run again elsewhere.",
    ),
    _Setting(
        field="drain",
        variable="TM_DRAIN",
        parse=_seconds(zero=True),
        allowed="seconds, 0 or more, such as 30",
        default="30",
        meaning="How long a worker that was told to stop lets its tasks run on.",
    ),
    _Setting(
        field="grace",
        variable="TM_GRACE",
        parse=_seconds(zero=True),
        allowed="seconds, 0 or more, such as 10",
        default="10",
        meaning="How long a task that is over its time may tidy up before it is killed.",
    ),
    _Setting(
        field="processes",
        variable="TM_PROCESSES",
        parse=_whole(1, 1024),
        allowed="a whole number from 1 to 1024",
        default="the CPUs the process may use, at least 2",
        meaning="Tasks one worker runs at the same time.",
    ),
    _Setting(
        field="result_ttl",
        variable="TM_RESULT_TTL",
        parse=_seconds(zero=False),
        allowed="seconds above 0, such as 600",
        default="600",
        meaning="How long a run that succeeded and its result stay in the server; the history keeps it longer.",
    ),
    _Setting(
        field="failed_ttl",
        variable="TM_FAILED_TTL",
        parse=_seconds(zero=False),
        allowed="seconds above 0, such as 604800",
        default="604800, which is 7 days",
        meaning="How long a run that did not succeed stays in the server with its messages, so that it can be retried.",
    ),
    _Setting(
        field="callback_timeout",
        variable="TM_CALLBACK_TIMEOUT",
        parse=_seconds(zero=False),
        allowed="seconds above 0, such as 30",
        default="30",
        meaning="How long the callbacks of one event may take; then their process is ended, as that of a task is.",
    ),
    _Setting(
        field="webhook_url",
        variable="TM_WEBHOOK_URL",
        parse=_webhook,
        allowed="https://HOST/PATH or http://HOST/PATH",
        default="none: no alerts are sent",
        meaning="Where the leading scheduler sends alerts, see docs/how-to/alerts.md.",
    ),
    _Setting(
        field="webhook_secret",
        variable="TM_WEBHOOK_SECRET",
        parse=_secret,
        allowed="whsec_ and base64, or any 16 characters and more",
        default="none: alerts are not signed",
        meaning="What alerts are signed with, as Standard Webhooks has it.",
    ),
    _Setting(
        field="webhook_events",
        variable="TM_WEBHOOK_EVENTS",
        parse=_alerts,
        allowed=", ".join(ALERTS),
        default=", ".join(DEFAULT_ALERTS),
        meaning="Which alerts are sent.",
    ),
    _Setting(
        field="max_message",
        variable="TM_MAX_MESSAGE",
        parse=_bytes,
        allowed="bytes from 1024 to 64 MiB, such as 1048576 or 1MiB",
        default="1MiB",
        meaning="The largest value that one task may send to another through the server.",
    ),
    _Setting(
        field="spill",
        variable="TM_SPILL",
        parse=_optional_folder,
        allowed="a directory that all workers share",
        default="spill in TM_HOME with an embedded server, else none",
        meaning="Where messages above TM_MAX_MESSAGE are kept, up to 64 MiB each.",
    ),
    _Setting(
        field="no_worker_after",
        variable="TM_NO_WORKER_AFTER",
        parse=_seconds(zero=True),
        allowed="seconds such as 600, or 0 for never",
        default="600",
        meaning="How long a queued task that no worker offers waits while others are there; then it fails and says so.",
    ),
    _Setting(
        field="max_memory",
        variable="TM_MAX_MEMORY",
        parse=_mebibytes,
        allowed="MiB, 16 or more, such as 512, or 2GiB",
        default="none",
        meaning="A task process that is larger than this when an attempt has ended is replaced by a fresh one.",
    ),
    _Setting(
        field="memory_limit",
        variable="TM_MEMORY_LIMIT",
        parse=_mebibytes,
        allowed="MiB, 16 or more, such as 2048, or 2GiB",
        default="none",
        meaning="An attempt that takes more than this, with all it has started, is killed while it runs.",
    ),
    _Setting(
        field="log_level",
        variable="TM_LOG_LEVEL",
        parse=_choice("debug", "info", "warning", "error"),
        allowed="debug, info, warning or error",
        default="info",
        meaning="How much the services tell.",
    ),
    _Setting(
        field="log_format",
        variable="TM_LOG_FORMAT",
        parse=_choice("text", "json"),
        allowed="text or json",
        default="text",
        meaning="Log lines for people or for machines.",
    ),
    _Setting(
        field="log_limit",
        variable="TM_LOG_LIMIT",
        parse=_bytes_or_none,
        allowed="bytes from 1024 to 64 MiB, such as 1048576 or 1MiB, or 0",
        default="1MiB",
        meaning="How much is kept of what an attempt prints and logs, its head and its tail; 0 keeps nothing.",
    ),
    _Setting(
        field="log_ttl",
        variable="TM_LOG_TTL",
        parse=_seconds_or_none,
        allowed="seconds above 0, such as 2592000",
        default="none: as long as its run",
        meaning="How long what an attempt printed is kept in the history after the end of its run.",
    ),
    _Setting(
        field="task_output",
        variable="TM_TASK_OUTPUT",
        parse=_choice("auto", "prefixed", "plain", "off"),
        allowed="auto, prefixed, plain or off",
        default="auto: prefixed on a terminal, else plain",
        meaning="How a worker shows what tasks print: with graph and task before each line, or as it is.",
    ),
    _Setting(
        field="appendfsync",
        variable="TM_APPENDFSYNC",
        parse=_choice("everysec", "always"),
        allowed="everysec or always",
        default="everysec",
        meaning="When the embedded server writes to disk: a lost second is work done again, never lost.",
    ),
    _Setting(
        field="metrics_port",
        variable="TM_METRICS_PORT",
        parse=_port,
        allowed="a port from 0 (any that is free) to 65535",
        default="none: nobody is answered",
        meaning="Where a service shows /metrics, /healthz and /readyz; in one terminal the worker takes the next port.",
    ),
    _Setting(
        field="metrics_host",
        variable="TM_METRICS_HOST",
        parse=_pattern(r"[A-Za-z0-9.:_-]{1,255}"),
        allowed="a host name or an address, such as 0.0.0.0",
        default="127.0.0.1",
        meaning="The address on which it does so; what is shown there anybody who reaches it can read.",
    ),
)

__all__ = ["Described", "Settings", "describe", "dumb_terminal", "no_color", "redact"]
