"""What it costs to keep what tasks print, and how soon it is seen.

    python benchmarks/logs.py            all of it, about a minute
    python benchmarks/logs.py --quick    less of everything, to see that it works

A quiet task is measured twice, in turns: with a worker as it is, and with one whose executors inherit its output, so
that nothing is captured. CPU is that of all processes of the worker. Prints a table and writes
benchmarks/results/logs.json.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from tm.client import Client
from tm.config import Settings
from tm.embedded import EmbeddedServer, socket_url
from tm.loader import load
from tm.wiring import open_store
from tm_worker.capture import Capture

if TYPE_CHECKING:
    from collections.abc import Iterator

RESULTS = Path(__file__).parent / "results" / "logs.json"
FILE = """
import os, sys, time
from tm import Graph, task

@task()
def quiet(): return 1

@task()
def thousand():
    began, used = time.perf_counter(), time.process_time()
    for number in range(1000):
        print("a line of an ordinary length, number", number)
    return (time.perf_counter() - began) * 1000, (time.process_time() - used) * 1000

@task()
def ticking(lines):
    for _ in range(lines):
        print("at", time.time())
        time.sleep(0.05)

for each in (quiet, thousand, ticking):
    globals()[each.name + "_graph"] = graph = Graph(each.name)
    graph.add_edges([each])
"""
#: a worker whose executors inherit its output
BARE = """
import sys
from tm_worker import lines, service
from tm_worker.cli import worker
from tm_worker.process import Executor
def execute(sock, readers, graphs, settings):
    Executor(sock, graphs, settings.max_message, max_memory=None).serve()
service._execute = execute
lines.Lines.open = lambda self, number: ()
worker()
"""


class Bench:
    """A server and a graph file."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file = folder / "printing.py"
        self.file.write_text(FILE)
        self.server = EmbeddedServer(folder / ".tm")
        self.server.start()
        self.url = socket_url(folder / ".tm")
        self.graphs = load(self.file).graphs
        self.client = Client(open_store(Settings(url=self.url, home=folder / ".tm")))

    @contextmanager
    def worker(self, *, bare: bool = False) -> Iterator[psutil.Process]:
        """One with a single executor."""
        environment = os.environ | {"TM_URL": self.url, "TM_HOME": str(self.folder / ".tm"), "TM_LOG_LEVEL": "error"}
        command = [sys.executable, "-c", BARE] if bare else [sys.executable, "-m", "tm_worker"]
        process = subprocess.Popen(
            [*command, str(self.file), "--processes", "1"], env=environment, stdout=subprocess.DEVNULL
        )
        try:
            self.client.submit(self.graphs["quiet"]).result(20)
            yield psutil.Process(process.pid)
        finally:
            process.terminate()
            process.wait(20)

    def close(self) -> None:
        """End the server."""
        self.server.stop()


def cpu(process: psutil.Process) -> float:
    """Seconds all processes of a worker have used."""
    return sum(sum(each.cpu_times()[:2]) for each in [process, *process.children(recursive=True)])


def quiet(bench: Bench, count: int, rounds: int) -> dict[str, Any]:
    """CPU of a worker for a task that prints nothing, captured and bare, in turns."""
    found: dict[bool, list[float]] = {False: [], True: []}
    for _ in range(rounds):
        for bare in (True, False):
            with bench.worker(bare=bare) as process:
                before = cpu(process)
                handles = bench.client.submit_many(bench.graphs["quiet"], [{}] * count)
                for _ in bench.client.wait([handle.id for handle in handles], 120):
                    pass
                found[bare].append((cpu(process) - before) / count * 1e6)
    return {
        "captured_us": statistics.median(found[False]),
        "bare_us": statistics.median(found[True]),
        "difference_us": statistics.median(a - b for a, b in zip(found[False], found[True], strict=True)),
    }


def bookkeeping() -> float:
    """Microseconds of CPU an executor spends on an attempt that prints nothing."""
    reader, writer = os.pipe()
    if (pid := os.fork()) == 0:
        out, err = os.pipe(), os.pipe()
        os.dup2(out[1], 1)
        os.dup2(err[1], 2)
        told, _ = os.pipe()
        os.set_blocking(told, False)
        capture = Capture((os.dup(out[0]), os.dup(err[0]), told))
        for reader, _ in (out, err):  # the mark at the beginning, as the supervisor does
            os.read(reader, 100)
        began, count = time.process_time(), 200_000
        for _ in range(count):
            capture.begin("token", "run", "graph", "task", 1)
            capture.end()
        os.write(writer, f"{(time.process_time() - began) / count * 1e6}".encode())
        os._exit(0)
    os.waitpid(pid, 0)
    return float(os.read(reader, 100))


def thousand(bench: Bench, count: int) -> dict[str, Any]:
    """A task that prints 1,000 lines: how long its body takes, and what it costs all processes of the worker."""
    with bench.worker() as process:
        before = cpu(process)
        handles = [bench.client.submit(bench.graphs["thousand"]) for _ in range(count)]
        bodies = [handle.result(60) for handle in handles]
        used = (cpu(process) - before) / count * 1000
    with bench.worker(bare=True) as process:
        bare = [bench.client.submit(bench.graphs["thousand"]).result(60) for _ in range(count)]
    return {
        "body_ms": statistics.median(wall for wall, _ in bodies),
        "body_cpu_ms": statistics.median(cpu for _, cpu in bodies),
        "bare_body_ms": statistics.median(wall for wall, _ in bare),
        "bare_body_cpu_ms": statistics.median(cpu for _, cpu in bare),
        "worker_cpu_ms": used,
    }


def lag(bench: Bench, lines: int) -> dict[str, Any]:
    """From a print to the line on the standard output of `tm logs -f`."""
    with bench.worker():
        run = bench.client.submit(bench.graphs["ticking"], {"lines": lines})
        environment = os.environ | {"TM_URL": bench.url, "TM_HOME": str(bench.folder / ".tm")}
        command = [sys.executable, "-m", "tm.cli", "logs", run.id, "--follow", "--raw"]
        found: list[float] = []
        began: float | None = None
        with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for line in process.stdout:
                now, printed = time.time(), float(line.split()[1])
                if began is None:
                    began = now  # what was printed before the command had started is no lag
                elif printed > began:
                    found.append((now - printed) * 1000)
    found.sort()
    return {"median_ms": statistics.median(found), "worst_ms": found[-1], "lines": len(found)}


def main() -> None:
    """Measure, print, write down."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="less of everything")
    quick = parser.parse_args().quick
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder))
        try:
            figures = {
                "bookkeeping_us": bookkeeping(),
                "quiet": quiet(bench, 500 if quick else 3000, 1 if quick else 5),
                "thousand": thousand(bench, 5 if quick else 40),
                "lag": lag(bench, 60 if quick else 150),
                "load": os.getloadavg()[0],
            }
        finally:
            bench.close()
    even, many, late = figures["quiet"], figures["thousand"], figures["lag"]
    print(f"a quiet task, in its executor   {figures['bookkeeping_us']:8.2f} us of CPU")
    print(f"a quiet task, whole worker      {even['captured_us']:8.1f} us of CPU, bare {even['bare_us']:.1f}")
    print(f"1,000 lines, in the body        {many['body_ms']:8.2f} ms, bare {many['bare_body_ms']:.2f}")
    print(f"1,000 lines, in the body        {many['body_cpu_ms']:8.2f} ms of CPU, bare {many['bare_body_cpu_ms']:.2f}")
    print(f"1,000 lines, whole worker       {many['worker_cpu_ms']:8.2f} ms of CPU")
    print(f"from print to `tm logs -f`      {late['median_ms']:8.1f} ms, at worst {late['worst_ms']:.1f}")
    if not quick:
        RESULTS.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
