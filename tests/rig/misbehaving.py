"""Tasks that do what tasks should not."""

from __future__ import annotations

import ctypes
import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tests.rig.journal import VARIABLE, body, write
from tm import Graph, task


@task(timeout=1.0)
def deaf() -> None:
    """Blocks every signal and sits in C, without a bytecode in between."""
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    write("start", "deaf")
    hashlib.pbkdf2_hmac("sha256", b"x", b"y", 2_000_000_000)


@task(timeout=1.0)
def swallows() -> None:
    """Ignores SIGTERM and catches whatever is raised."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    write("start", "swallows")
    while True:
        try:
            time.sleep(0.1)
        except BaseException:  # noqa: BLE001
            continue


@task()
def eats() -> None:
    """Takes 200 MiB and is ended as the kernel ends what takes too much."""
    taken = bytearray(200 << 20)
    taken[:: 1 << 12] = b"x" * len(taken[:: 1 << 12])
    os.kill(os.getpid(), signal.SIGKILL)


@task()
def exits() -> None:
    """A poison task: its process ends each time."""
    write("start", "exits")
    os._exit(139)


@task()
def crashes() -> None:
    """Another: a null pointer."""
    write("start", "crashes")
    ctypes.string_at(0)


@task()
def litters() -> Any:
    """Leaves a process behind, in a session of its own."""
    script = "import time; time.sleep(600)"
    left = subprocess.Popen([sys.executable, "-c", script], start_new_session=True)
    Path(os.environ[VARIABLE]).with_name("litter").write_text(str(left.pid))
    return body()


@task()
def detaches() -> Any:
    """A grandchild whose parent is gone, in a session of its own; then waits to be killed."""
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            Path(os.environ[VARIABLE]).with_name("litter").write_text(str(os.getpid()))
            time.sleep(600)
        os._exit(0)
    write("start", "detaches")
    time.sleep(600)


for _task in (deaf, swallows, eats, exits, crashes, litters, detaches):
    globals()[f"graph_of_{_task.name}"] = Graph(_task.name)
    globals()[f"graph_of_{_task.name}"].add_edges([_task])
