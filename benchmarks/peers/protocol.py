"""What every peer's adapter is: a small program in the peer's own environment that is told what to run.

The harness sends JSON lines on standard input and reads JSON lines from what was standard output when the adapter
began; whatever the peer prints goes to standard error, which the harness keeps in a log. Standard library only.

An adapter has one method for each workload it can do (`flat`, `single`, `chain`, ...). A method prepares, then works
inside `with self.clock:`, from the first submission to the last result read back, and checks every result afterwards.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

#: seconds until a peer that does not get ready, or a result that does not come, is given up
PATIENCE = 90.0


class Clock:
    """Measures the body of a `with` statement; several bodies add up."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __enter__(self) -> None:
        self._began = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self.seconds += time.perf_counter() - self._began


class Adapter:
    """One peer.

    Args:
        url: of the server all peers use in turn.
        home: an empty directory for whatever the peer writes.
    """

    name = ""

    def __init__(self, url: str, home: Path) -> None:
        self.url, self.home = url, home
        self.clock = Clock()
        self.samples: list[float] = []  #: for workloads that measure each task
        self.workers: list[subprocess.Popen[bytes]] = []
        self.here = Path(sys.argv[0]).resolve().parent

    # To be written by each peer -----------------------------------------------------------------------------------

    def start(self, processes: int) -> None:
        """Start the peer's workers with so many worker processes (see `spawn`)."""

    def pids(self, count: int) -> list[int]:
        """Run `count` tasks that return their process id; used to see that all workers are there."""
        raise NotImplementedError

    def close(self) -> None:
        """Give connections back before the workers are stopped."""

    # For them ----------------------------------------------------------------------------------------------------

    def spawn(self, *command: str | Path, **environment: str) -> None:
        """Start a worker, or another process that counts as one."""
        log = (self.home / f"worker-{len(self.workers)}.log").open("ab")
        process = subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=self.here,
            env={**os.environ, "BENCH_URL": self.url, "BENCH_HOME": str(self.home), **environment},
            preexec_fn=_die_with_parent,  # noqa: PLW1509 - a harness that is killed must not leave workers
        )
        self.workers.append(process)

    def tool(self, name: str) -> Path:
        """A console script of this environment."""
        return Path(sys.executable).parent / name

    def ready(self, processes: int) -> None:
        """Wait until `processes` different processes have run something."""
        seen: set[int] = set()
        until = time.monotonic() + PATIENCE
        while len(seen) < processes:
            if time.monotonic() > until:
                raise TimeoutError(f"{self.name}: only {len(seen)} of {processes} worker processes ran anything")
            if gone := [worker.poll() for worker in self.workers if worker.poll() is not None]:
                raise RuntimeError(f"{self.name}: a worker ended by itself with exit code {gone[0]}")
            seen.update(self.pids(4 * processes))

    def stop(self) -> None:
        """End all workers, the hard way if need be: nothing they hold is needed any more."""
        self.close()
        for worker in self.workers:
            worker.send_signal(signal.SIGTERM)
        for worker in self.workers:
            try:
                worker.wait(5)
            except subprocess.TimeoutExpired:
                worker.kill()
                worker.wait()
        self.workers.clear()


def missing(reason: str) -> Callable[[Adapter, int], None]:
    """A workload that the peer cannot do."""

    def refuse(_self: Adapter, _size: int) -> None:
        raise NoSuchFeatureError(reason)

    return refuse


class NoSuchFeatureError(Exception):
    """The peer has nothing of the kind."""


def serve(kind: type[Adapter]) -> None:
    """Obey the harness until it closes standard input."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    adapter = kind(os.environ["BENCH_URL"], Path(os.environ["BENCH_HOME"]))
    _die_with_parent()
    try:
        for line in sys.stdin:
            answer = _obey(adapter, json.loads(line))
            answers.write(json.dumps(answer) + "\n")
    finally:
        adapter.stop()


def _obey(adapter: Adapter, order: dict[str, Any]) -> dict[str, Any]:
    try:
        if order["do"] == "start":
            adapter.start(order["processes"])
            adapter.ready(order["processes"])
            return {"pids": [worker.pid for worker in adapter.workers]}
        if order["do"] == "stop":
            adapter.stop()
            return {}
        return _run(adapter, order["workload"], order["size"], order["repeat"])
    except NoSuchFeatureError as error:
        return {"missing": str(error) or "no such feature"}
    except Exception as error:  # noqa: BLE001 - told to the harness, which goes on with the next
        traceback.print_exc()
        return {"error": f"{type(error).__name__}: {error}"[:400]}


def _run(adapter: Adapter, workload: str, size: int, repeat: int) -> dict[str, Any]:
    run = getattr(adapter, workload, None)
    if run is None:
        raise NoSuchFeatureError("no such feature")
    adapter.clock.seconds, adapter.samples = 0.0, []
    for _ in range(repeat):
        run(size)
    return {"seconds": adapter.clock.seconds / repeat, "samples": adapter.samples}


def wait_until(condition: Callable[[], object], what: str, interval: float = 0.001) -> None:
    """For peers that can only be asked again and again."""
    until = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > until:
            raise TimeoutError(f"waited {PATIENCE:g} s for {what}")
        time.sleep(interval)


def latencies(submit: Callable[[], Any], read: Callable[[Any], float], count: int, pause: float = 0.01) -> list[float]:
    """From the call that submits to the moment the task notes at its beginning, in seconds, on workers that idle."""
    found = []
    for _ in range(count):
        time.sleep(pause)
        began = time.time()
        found.append(read(submit()) - began)
    return found


def _die_with_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def chunks(items: Sequence[Any], size: int) -> list[Sequence[Any]]:
    """Slices of at most `size`."""
    return [items[first : first + size] for first in range(0, len(items), size)]
