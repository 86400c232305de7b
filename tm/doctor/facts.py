"""What can be found out about an installation without changing it; what cannot be found out is a fact as well."""

from __future__ import annotations

import shutil
import sqlite3
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tm.errors import TaskmasterError, UnavailableError
from tm.waiting import reaching

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tm.checks import Report
    from tm.config import Settings
    from tm.store.health import Health
    from tm.store.looking import Scene
    from tm.store.store import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Everything that was found out."""

    where: str  #: the server, redacted; empty when none is meant
    unreachable: str = ""  #: why the server does not answer; empty when it does
    health: Health | None = None
    scene: Scene | None = None
    graphs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  #: what the schedulers said of them
    queues: Mapping[str, Sequence[str]] = field(default_factory=dict)  #: queue -> graphs whose tasks wait there
    history: str = ""  #: where it is, redacted
    history_trouble: str = ""  #: empty when it is in order
    history_size: int | None = None  #: bytes, of a file
    has_history: bool = False
    disk_free: int = 0
    disk_total: int = 1
    disk: str = ""  #: the directory it was asked of
    zones: str = ""  #: the version of the time zones' database; empty when it cannot be told
    today: date = date.min
    files: Report | None = None  #: what `tm check` says of the graph files that are here
    lease: float = 30.0


def gather(settings: Settings, files: Sequence[str] = ()) -> Facts:
    """Find out; `files` are graph files to look into, by default those of the graphs the server knows."""
    from tm.redact import redact
    from tm.wiring import has_server

    found: dict[str, Any] = {"where": "", "lease": settings.lease}
    if has_server(settings):
        found |= _of_the_server(settings)
    found |= _of_the_history(settings)
    folder = next(each for each in (settings.home, *settings.home.parents) if each.exists())
    usage = shutil.disk_usage(folder)
    found |= {"disk": str(folder), "disk_free": usage.free, "disk_total": usage.total}
    found |= {"zones": _zones(), "today": datetime.now(UTC).date(), "history": redact(settings.history_url)}
    named = list(files) or sorted({path for info in found.get("graphs", {}).values() if (path := _here(info))})
    if named:
        found["files"] = _check(named)
    return Facts(**found)


def _of_the_server(settings: Settings) -> dict[str, Any]:
    from tm.redact import redact
    from tm.store.functions import default_library
    from tm.store.health import health
    from tm.wiring import connect, open_store

    where = redact(settings.server_url())
    store = open_store(settings, connect(settings, reply_timeout=5.0))
    try:
        with reaching(where):
            told = health(store.client, default_library())
            scene, graphs = store.scene(), store.graphs()
            queues = _queues(store, graphs)
    except UnavailableError as error:
        return {"where": where, "unreachable": str(error)}
    return {"where": where, "health": told, "scene": scene, "graphs": graphs, "queues": queues}


def _queues(store: Store, graphs: Mapping[str, Mapping[str, Any]]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, info in graphs.items():
        plan = store.plan(str(info.get("version", "")))
        for queue in sorted({task.queue for task in plan.tasks} if plan else ()):
            found.setdefault(queue, []).append(name)
    return found


def _of_the_history(settings: Settings) -> dict[str, Any]:
    from tm.wiring import open_history_of

    try:
        history = open_history_of(settings)
    except TaskmasterError as error:
        return {"has_history": True, "history_trouble": str(error)}
    if history is None:
        return {}
    history.close()
    if not settings.history_url.startswith("sqlite:///"):
        return {"has_history": True}
    path = Path(settings.history_url.removeprefix("sqlite:///"))
    try:
        with sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=5) as connection:
            told = [str(row[0]) for row in connection.execute("PRAGMA quick_check(3)")]
        connection.close()
        size = path.stat().st_size
    except (sqlite3.Error, OSError) as error:
        return {"has_history": True, "history_trouble": str(error)}
    trouble = "" if told == ["ok"] else "it is damaged: " + ", ".join(told)
    return {"has_history": True, "history_size": size, "history_trouble": trouble}


def _zones() -> str:
    """Which release of the zones' database Python reads: the system's, else that of the package `tzdata`."""
    import zoneinfo

    for folder in zoneinfo.TZPATH:
        path = Path(folder) / "tzdata.zi"
        try:
            with path.open(encoding="ascii", errors="replace") as file:
                first = file.readline()
        except OSError:
            continue
        return first.removeprefix("# version ").strip() if first.startswith("# version ") else ""
    if any((Path(folder) / "UTC").exists() for folder in zoneinfo.TZPATH):
        return ""  # a system that does not say which
    try:
        import tzdata  # type: ignore[import-untyped]
    except ModuleNotFoundError:
        return ""
    return str(tzdata.IANA_VERSION)


def _here(info: Mapping[str, Any]) -> str:
    path = Path(str(info.get("file", "")))
    return str(path) if path.suffix == ".py" and path.is_file() else ""


def _check(files: Sequence[str]) -> Report | None:
    from tm.checks import check

    try:
        return check(files, patience=30.0)
    except TaskmasterError:
        return None
