"""What is asked of the server about itself: version, persistence, memory, clock, our functions. Changes nothing."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import redis.exceptions

if TYPE_CHECKING:
    from tm.store.functions import Library


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """The server as it is now."""

    name: str  #: valkey | redis
    version: str
    role: str  #: master | slave
    loading: bool
    append_only: bool
    append_ok: bool  #: its last write to disk succeeded
    snapshot_ok: bool
    snapshots: bool  #: it writes snapshots by itself
    memory: int  #: bytes in use
    memory_limit: int  #: bytes; 0 for none
    policy: str  #: what it forgets when it is full: noeviction | ...
    has_functions: bool  #: those of this version are loaded
    ahead: float  #: seconds its clock is ahead of this machine's
    trip: float  #: seconds a question and its answer take


def health(client: redis.Redis, library: Library) -> Health:
    """Ask the server about itself."""
    client.ping()  # the connection is made before time is taken
    began, wall = time.perf_counter(), time.time()
    seconds, micros = client.time()
    trip = time.perf_counter() - began
    info: dict[str, Any] = client.info()
    try:
        snapshots = bool(client.config_get("save").get("save"))
    except redis.exceptions.ResponseError:  # a hosted server keeps that to itself
        snapshots = True
    loaded = client.execute_command("FUNCTION", "LIST", "LIBRARYNAME", library.name)
    return Health(
        name="valkey" if info.get("server_name") == "valkey" or "valkey_version" in info else "redis",
        version=str(info.get("valkey_version") or info.get("redis_version") or "unknown"),
        role=str(info.get("role", "master")),
        loading=bool(info.get("loading")),
        append_only=bool(info.get("aof_enabled")),
        append_ok=info.get("aof_last_write_status", "ok") == "ok",
        snapshot_ok=info.get("rdb_last_bgsave_status", "ok") == "ok",
        snapshots=snapshots,
        memory=int(info.get("used_memory", 0)),
        memory_limit=int(info.get("maxmemory", 0)),
        policy=str(info.get("maxmemory_policy", "unknown")),
        has_functions=bool(loaded),
        ahead=int(seconds) + int(micros) / 1e6 - (wall + trip / 2),
        trip=trip,
    )
