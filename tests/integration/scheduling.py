"""Scheduler processes for tests, and what can be seen of their work on the server."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import redis.exceptions

from tests.waiting import wait_for
from tm.events import RunCreated
from tm.store.store import Store

if TYPE_CHECKING:
    from pathlib import Path

    from tests.servers import Server

#: a scheduler as `tm-scheduler FILE`, with a leadership short enough for tests
SCRIPT = """
import sys
from tm import logs
from tm.config import Settings
from tm_scheduler.cli import load
from tm_scheduler.service import serve
logs.configure("debug")
sys.exit(serve(load((sys.argv[1],)), Settings.from_environment(), ttl_ms=int(sys.argv[2])))
"""

GRAPHS = """
from tm import Graph, task

@task()
def work(): ...

every_second = Graph("every-second", "* * * * * *")
every_second.add_edges(work)
"""


class Schedulers:
    """Starts scheduler processes on one server and one file, and ends them all."""

    def __init__(self, server: Server, home: Path, graphs: str = GRAPHS) -> None:
        self.server, self.home = server, home
        self.file = home / "graphs_under_test.py"
        self.file.write_text(graphs)
        self.store = Store(server.client())
        self.processes: list[subprocess.Popen[bytes]] = []

    @property
    def history_url(self) -> str:
        return f"sqlite:///{self.home}/history.db"

    def start(self, *, ttl_ms: int = 10_000) -> subprocess.Popen[bytes]:
        """Start one more; returns at once."""
        return self._start([sys.executable, "-c", SCRIPT, str(self.file), str(ttl_ms)])

    def command(self, *options: str) -> subprocess.Popen[bytes]:
        """Start the real command."""
        return self._start([sys.executable, "-m", "tm_scheduler", str(self.file), *options])

    def _start(self, command: list[str]) -> subprocess.Popen[bytes]:
        environment = os.environ | {
            "TM_URL": self.server.url,
            "TM_HOME": str(self.home),
            "TM_HISTORY": self.history_url,
            "TM_TZ": "UTC",
            "TM_LEASE": "2",
        }
        log = self.log_of(len(self.processes)).open("wb")
        with log:
            process = subprocess.Popen(command, env=environment, stderr=log)
        self.processes.append(process)
        return process

    def log_of(self, number: int) -> Path:
        return self.home / f"scheduler-{number}.log"

    def says(self, process: subprocess.Popen[bytes], text: str) -> bool:
        """Whether a process has logged this."""
        return text in self.log_of(self.processes.index(process)).read_text()

    def leader_pid(self) -> int | None:
        """Pid of the leader, as the server knows it; None while there is none or no server."""
        try:
            who = self.store.client.hget(f"{self.store.prefix}leader", "id")
        except redis.exceptions.RedisError:
            return None
        return int(who.decode().split(":")[1]) if who else None

    def leader(self) -> subprocess.Popen[bytes]:
        """The leading process, once there is one."""

        def found() -> subprocess.Popen[bytes] | None:
            pid = self.leader_pid()
            return next((each for each in self.processes if each.pid == pid and each.poll() is None), None)

        return wait_for(found, "a scheduler to lead")

    def seconds_ticked(self, graph: str = "every-second") -> list[int]:
        """Seconds since the epoch of all ticks so far, in the order in which they were made."""
        return [tick // 1000 for tick in self.ticks(graph)]

    def ticks(self, graph: str) -> list[int]:
        return [
            event.tick
            for _, event in self.all_events()
            if isinstance(event, RunCreated) and event.graph == graph and event.tick is not None
        ]

    def all_events(self) -> list[tuple[str, object]]:
        """Events that history has not taken yet; `keep_events` makes that all of them."""
        return list(self.store.events("0", count=100_000))

    def keep_events(self) -> None:
        """Put history out of order, so that every event stays on the server, where tests count them."""
        (self.home / "history.db").mkdir()

    def close(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.kill()
                process.wait(10)
        self.store.client.close()


def assert_no_gap_and_no_double(seconds: list[int]) -> None:
    """Every second from the first to the last exactly once, in order."""
    assert seconds == list(range(seconds[0], seconds[-1] + 1))
