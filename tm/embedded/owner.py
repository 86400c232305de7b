"""Who has a home directory to itself: said in the file `lock`, which its owner holds for as long as it lives."""

from __future__ import annotations

import fcntl
import json
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tm.embedded.places import socket_path, url_of
from tm.embedded.program import ask
from tm.errors import UnavailableError
from tm.redact import redact


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """The living process that has a home directory to itself."""

    pid: int  #: 0 if it could not be read
    command: str
    since: str  #: ISO 8601, UTC
    socket: Path
    instance: str  #: random, another for each start
    server: int  #: pid of the server; 0 before it has one
    answering: bool  #: the server answers on the socket now

    @property
    def url(self) -> str:
        """The server, as clients take it."""
        return url_of(self.socket)


def alive(home: Path) -> Owner | None:
    """Who owns the server of this directory; None if nobody living does, whatever files may lie there."""
    try:
        lock = os.open(home / "lock", os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        if try_lock(lock, fcntl.LOCK_SH):
            return None
        until = time.monotonic() + 0.5
        while not (said := read_owner(lock)) and time.monotonic() < until:
            time.sleep(0.005)  # it has just taken the lock and is about to write
    finally:
        os.close(lock)
    socket = Path(said.get("socket") or socket_path(home))
    return Owner(
        pid=int(said.get("pid", 0)),
        command=str(said.get("command", "unknown")),
        since=str(said.get("since", "")),
        socket=socket,
        instance=str(said.get("instance", "")),
        server=int(said.get("server", 0)),
        answering=ask(socket, b"PING\r\n").startswith(b"+PONG"),
    )


def open_lock(path: Path) -> int:
    """A lock file, made if it is not there; not locked yet."""
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise UnavailableError(f"cannot open {path}: {error.strerror}") from error


def try_lock(lock: int, kind: int) -> bool:
    """Lock it (`fcntl.LOCK_EX`, `LOCK_SH`); False when somebody else's lock is in the way."""
    try:
        fcntl.flock(lock, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def read_owner(lock: int) -> dict[str, Any]:
    """What the owner has said of itself; empty if that cannot be read."""
    try:
        said = json.loads(os.pread(lock, 1 << 16, 0))
    except ValueError:  # empty, or just being written
        return {}
    return said if isinstance(said, dict) else {}


def write_owner(lock: int, said: dict[str, Any]) -> None:
    """Say who owns the directory."""
    data = json.dumps(said).encode()
    os.ftruncate(lock, os.pwrite(lock, data, 0))


def command_line() -> str:
    """The command line of this process, short enough for a message."""
    import shlex

    line = shlex.join([Path(sys.executable).name, *sys.orig_argv[1:]])
    return redact(" ".join(line.split()))[:200]
