"""What it costs to do nothing: wake-ups and system calls of an idle stack, memory of an executor, start-up of a worker.

    python -m benchmarks.idle            about two minutes; --seconds 15 for less

benchmarks/skeleton.py measures the rest of the small costs (import, first output, memory and CPU of an idle stack); its
helpers are used here. Prints a table and writes benchmarks/results/idle.json.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import re
import shutil
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks import skeleton
from benchmarks.peers import machine, processes
from benchmarks.peers.environments import ROOT
from benchmarks.peers.server import Server

RESULTS = ROOT / "benchmarks" / "results" / "idle.json"
FEW, MANY = 1, 9
STARTS = 5
SETTLES = 6.0  #: seconds until start-up is over
MIB = 1 << 20


def main() -> None:
    """See the module's text."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.idle", description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60, help="to watch an idle stack (60)")
    options = parser.parse_args()
    about = machine.describe()
    stack = idle_stack(options.seconds)
    report = {
        "measured": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": about,
        "indicative": machine.busy(about),
        "seconds": options.seconds,
        "stack": stack,
        "executor_mib": executor_memory(),
        "worker_start_ms": worker_start(),
    }
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(report, indent=1) + "\n")
    show(report)


def idle_stack(seconds: float) -> list[dict[str, Any]]:
    """Each process of `python hello.py` with nothing due: wake-ups a second, system calls a second, memory."""
    with skeleton.directory() as path:
        (path / "hello.py").write_text(skeleton.IDLE)
        quiet = subprocess.DEVNULL
        started = skeleton.process(
            sys.executable, "hello.py", cwd=path, env=skeleton.environment(), stdout=quiet, stderr=quiet
        )
        with started as stack:
            skeleton.until(lambda: len(processes.family([stack.pid])) >= 6, 20)
            time.sleep(SETTLES)
            pids = processes.family([stack.pid])
            before = {pid: _switches(pid) for pid in pids}
            time.sleep(seconds)
            rows = [
                {
                    "process": _title(pid, pids),
                    "wakeups_per_second": (_switches(pid) - before[pid]) / seconds,
                    "pss_mib": processes.pss([pid]) / MIB,
                }
                for pid in pids
            ]
            for row, calls in zip(rows, _system_calls(pids, min(seconds, 20.0)), strict=True):
                row["system_calls_per_second"], row["most"] = calls
    return rows


def _switches(pid: int) -> int:
    """How often the threads of a process have gone to sleep so far."""
    total = 0
    for status in Path(f"/proc/{pid}/task").glob("*/status"):
        with contextlib.suppress(OSError):
            total += int(re.search(r"^voluntary_ctxt_switches:\s+(\d+)", status.read_text(), re.MULTILINE)[1])
    return total


def _title(pid: int, pids: list[int]) -> str:
    """What a process is; the forked ones have their parent's command line."""
    with contextlib.suppress(OSError):
        command = Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
        if "valkey" in command or "redis" in command:
            return "server"
    threads = len(list(Path(f"/proc/{pid}/task").iterdir()))
    below = len(processes.family([pid])) - 1
    if pid == pids[0]:
        return "main"
    if threads > 1:
        return "worker" if below else "scheduler"
    return "nursery" if below else "executor"


def _system_calls(pids: list[int], seconds: float) -> list[tuple[float | None, str]]:
    """For each process: system calls a second, and the most frequent ones; (None, "") where there is no strace."""
    if shutil.which("strace") is None:
        return [(None, "")] * len(pids)
    found: list[tuple[float | None, str]] = []
    watchers = [
        subprocess.Popen(
            ["strace", "-f", "-c", "-S", "calls", "-U", "calls,name", "-p", str(pid)],
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
        )
        for pid in pids
    ]
    time.sleep(seconds)
    for watcher in watchers:
        watcher.send_signal(signal.SIGINT)
        _, text = watcher.communicate(timeout=20)
        rows = [(int(number), name) for number, name in re.findall(r"^\s*(\d+)\s+(\w+)\s*$", text, re.MULTILINE)]
        calls = [row for row in rows if row[1] != "total"]
        most = ", ".join(f"{name} {number}" for number, name in calls[:3])
        found.append((sum(number for number, _ in calls) / seconds, most))
    return found


def executor_memory() -> float:
    """MiB that one more executor adds (PSS), from workers with few and with many."""

    def worker(count: int) -> float:
        server = Server()
        try:
            with skeleton.directory() as path, _worker(server, path, count) as started:
                wanted = count + 2  # supervisor and nursery
                skeleton.until(lambda: len(processes.family([started.pid])) == wanted, 30)
                time.sleep(1)
                return processes.pss(processes.family([started.pid])) / MIB
        finally:
            server.close()

    return (worker(MANY) - worker(FEW)) / (MANY - FEW)


def worker_start() -> list[float]:
    """Milliseconds from starting the process `tm-worker` until the server knows it."""
    found = []
    for _ in range(STARTS):
        server = Server()
        try:
            with skeleton.directory() as path:
                began = time.perf_counter()
                with _worker(server, path, 2):
                    while not server.client.scard("rq:workers"):
                        time.sleep(0.002)
                    found.append(1000 * (time.perf_counter() - began))
        finally:
            server.close()
    return found


def _worker(server: Server, path: Path, count: int) -> Any:
    (path / "hello.py").write_text(skeleton.IDLE)
    return skeleton.process(
        *(sys.executable, "-m", "tm_worker", "hello.py", f"--processes={count}", "--log-level=error"),
        cwd=path,
        env=skeleton.environment(TM_URL=server.url, TM_HOME=str(path)),
    )


def show(report: dict[str, Any]) -> None:
    """As a table."""
    if report["indicative"]:
        print("The machine was busy: these numbers are only indicative.")
    print(f"{'process':24} wake-ups/s  system calls/s  PSS MiB  most frequent")
    for row in report["stack"]:
        calls = row["system_calls_per_second"]
        told = "-" if calls is None else f"{calls:.1f}"
        print(
            f"{row['process']:24} {row['wakeups_per_second']:10.2f}  {told:>14}  {row['pss_mib']:7.1f}  {row['most']}"
        )
    starts = sorted(report["worker_start_ms"])
    print(f"one more executor: {report['executor_mib']:.1f} MiB (PSS)")
    print(f"tm-worker known to the server after {starts[len(starts) // 2]:.0f} ms (median of {len(starts)})")


if __name__ == "__main__":
    main()
