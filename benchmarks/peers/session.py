"""One peer at work: its adapter process, its workers, and what a run of a workload costs them and the server."""

from __future__ import annotations

import json
import os
import selectors
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.peers import processes
from benchmarks.peers.environments import ROOT, python_of

if TYPE_CHECKING:
    from benchmarks.peers.registry import Peer
    from benchmarks.peers.server import Server

#: seconds for one order; an adapter gives up a single result earlier
LONGEST = 240.0
MIB = 1 << 20


class PeerError(Exception):
    """A peer failed at a workload; the text is for the table."""


class MissingError(Exception):
    """A peer has no such feature."""


class Session:
    """A peer's adapter, from first to last.

    Args:
        sizes: of the workloads, by method, for peers whose graphs have to be there when workers start.
        program: the adapter's file in the peer's folder.
    """

    def __init__(
        self, peer: Peer, server: Server, sizes: dict[str, int], program: str = "adapter.py", **environment: str
    ) -> None:
        self.peer, self.server = peer, server
        self.home = Path(tempfile.mkdtemp(prefix=f"bench-{peer.name}-"))
        self.log = self.home / "adapter.log"
        self._roots: list[int] = []
        environment = {
            "BENCH_URL": server.url,
            "BENCH_HOME": str(self.home),
            "BENCH_SIZES": json.dumps(sizes),
            "BENCH_VARIANT": peer.variant,
            "PYTHONPATH": str(ROOT),
            **environment,
        }
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [python_of(peer), peer.folder / program],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env={**os.environ, **environment},
                text=True,
                bufsize=1,
            )

    def _ask(self, **order: Any) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(order) + "\n")
        except OSError:
            raise PeerError(f"the adapter is gone; see {self.log}") from None
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            if not selector.select(LONGEST):
                raise PeerError(f"no answer within {LONGEST:g} s")
        line = self._process.stdout.readline()
        if not line:
            raise PeerError(f"the adapter ended; see {self.log}")
        answer: dict[str, Any] = json.loads(line)
        if "missing" in answer:
            raise MissingError(answer["missing"])
        if "error" in answer:
            raise PeerError(answer["error"])
        return answer

    def start(self, count: int) -> None:
        """Start workers: `count` worker processes."""
        self._roots = self._ask(do="start", processes=count)["pids"]

    def stop(self) -> None:
        """End the workers."""
        self._roots = []
        self._ask(do="stop")

    def run(self, method: str, size: int, repeat: int) -> dict[str, Any]:
        """One measurement: seconds for one repetition, samples if any, and what it cost in total."""
        everyone = processes.family(self._roots)
        client = [self._process.pid]
        processes.forget_peak(self.server.pid)
        before = self.server.counters()
        used = [processes.cpu_seconds(pids) for pids in (everyone, client)]
        answer = self._ask(do="run", workload=method, size=size, repeat=repeat)
        everyone = processes.family(self._roots)
        now = [processes.cpu_seconds(pids) for pids in (everyone, client)]
        after = self.server.counters()
        return {
            "seconds": answer["seconds"],
            "samples": answer["samples"],
            "cpu": {
                "workers": now[0] - used[0],
                "client": now[1] - used[1],
                "server": after["cpu"] - before["cpu"],
            },
            "server": {name: after[name] - before[name] for name in after},
            "workers_pss": processes.pss(everyone) / MIB,
            "server_rss": processes.peak_rss(self.server.pid) / MIB,
        }

    def close(self) -> None:
        """End everything and remove what it wrote."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.close()
            self._process.wait(20)
        except (OSError, subprocess.TimeoutExpired):
            self._process.kill()
            self._process.wait()
        shutil.rmtree(self.home, ignore_errors=True)
