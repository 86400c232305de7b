"""The settings of a process: what it was told by its caller, by the environment, and else by default."""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tm.config import kinds
from tm.config.showing import checked, in_repr
from tm.config.table import TABLE
from tm.embedded import socket_url

if TYPE_CHECKING:
    from collections.abc import Mapping
    from zoneinfo import ZoneInfo


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
    webhook_events: tuple[str, ...] = kinds.DEFAULT_ALERTS  #: which ones
    max_message: int = 1 << 20  #: bytes one value may have as a message inside the server
    spill: Path | None = None  #: where larger messages are kept; None = `spill` in `home`, but nowhere with a `url`
    no_worker_after: float = 600.0  #: seconds after which a task that no living worker offers fails; 0 = never
    max_memory: int | None = None  #: MiB; an executor process that is larger after an attempt is replaced
    memory_limit: int | None = None  #: MiB; an attempt whose processes are larger is ended while it runs
    log_level: str = "info"  #: debug | info | warning | error
    log_format: str = "text"  #: text | json
    log_limit: int = 1 << 20  #: bytes kept of what an attempt prints, its head and its tail; 0 = nothing is kept
    log_ttl: float | None = None  #: seconds what was printed outlives its run; None = as long as the run is known
    task_output: str = "auto"  #: how a worker shows what tasks print: auto | prefixed | plain | off
    appendfsync: str = "everysec"  #: of the embedded server: everysec | always
    metrics_port: int | None = None  #: where a service answers who watches it; 0 = any free port, None = nowhere
    metrics_host: str = "127.0.0.1"  #: the address it does so on

    def __post_init__(self) -> None:
        if not self.history_url:
            object.__setattr__(self, "history_url", f"sqlite:///{kinds.absolute(self.home)}/history.db")
        for each in TABLE:
            object.__setattr__(self, each.field, checked(each, getattr(self, each.field), each.field))

    @classmethod
    def from_environment(cls, **overrides: Any) -> Settings:
        """The settings of this process: overrides first (None means not given), then `TM_*`, then defaults.

        An empty variable counts as not set: `TM_URL=${TM_URL:-}` in a compose file means what it says.
        """
        if unknown := overrides.keys() - {each.field for each in TABLE}:
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

    def hand_down(self) -> None:
        """Put what says where things are into the environment, for whatever this process starts from now on."""
        where = {
            "url": self.url,
            "home": self.home,
            "namespace": self.namespace,
            "history_url": self.history_url,
            "spill": self.spill,
        }
        for each in TABLE:
            if where.get(each.field) is not None:
                os.environ[each.variable] = str(where[each.field])

    def __repr__(self) -> str:
        fields = (each.name for each in dataclasses.fields(self))
        return f"Settings({', '.join(f'{name}={in_repr(name, getattr(self, name))}' for name in fields)})"


def _gather(overrides: Mapping[str, Any], environ: Mapping[str, str]) -> dict[str, Any]:
    values = {}
    for each in TABLE:
        given = overrides.get(each.field)
        if given is not None:
            values[each.field] = checked(each, given, each.field)
        elif text := environ.get(each.variable, "").strip():
            values[each.field] = checked(each, text, each.variable)
    return values
