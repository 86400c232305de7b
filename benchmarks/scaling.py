"""How cost grows: with the size of a run, and with the number of worker processes.

    python -m benchmarks.scaling            about four minutes; --quick for less
    python -m benchmarks.scaling --pages    only writes the chart and docs/scaling.md anew, from the JSON

Writes benchmarks/results/scaling.json, scaling.svg beside it, and docs/scaling.md, each figure of which comes from the
JSON. Real workers, one Valkey without persistence; every value that is counted is checked.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from datetime import UTC, datetime
from string import Template
from typing import Any

from benchmarks.peers import chart, machine, registry
from benchmarks.peers.environments import ROOT
from benchmarks.peers.server import Server
from benchmarks.peers.session import PeerError, Session
from benchmarks.peers.statistics import shown

RESULTS = ROOT / "benchmarks" / "results" / "scaling.json"
TEMPLATE = ROOT / "benchmarks" / "peers" / "scaling.md.in"
PAGE = ROOT / "docs" / "scaling.md"
SIZES, QUICK_SIZES = (100, 1_000, 10_000, 100_000), (100, 1_000)
PROCESSES, QUICK_PROCESSES = (1, 2, 4, 8, 16), (1, 4)
RUNS, QUICK_RUNS = 10_000, 1_000
#: idle workers, and seconds, to see what heartbeats cost the server
IDLERS, IDLE_SECONDS = 8, 30.0
#: attempts are queued, running, done
TRANSITIONS = 3
DAY = 86_400


def main() -> None:
    """See the module's text."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scaling", description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small sizes")
    parser.add_argument("--pages", action="store_true", help="measure nothing; write chart and page from the JSON")
    options = parser.parse_args()
    if not options.pages:
        report = measure(quick=options.quick)
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps(report, indent=1) + "\n")
    report = json.loads(RESULTS.read_text())
    RESULTS.with_suffix(".svg").write_text(picture(report))
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(page(report, TEMPLATE.read_text()))
    print(PAGE.read_text())


def measure(*, quick: bool) -> dict[str, Any]:
    """All of it."""
    about = machine.describe()
    sizes = [_run_of(size) for size in (QUICK_SIZES if quick else SIZES)]
    workers = [
        _on_processes(count, QUICK_RUNS if quick else RUNS) for count in (QUICK_PROCESSES if quick else PROCESSES)
    ]
    return {
        "measured": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": about,
        "indicative": bool(quick or machine.busy(about)),
        "sizes": [each for each in sizes if each],
        "processes": [each for each in workers if each],
        "idle": _idle_workers(5.0 if quick else IDLE_SECONDS),
    }


def _run_of(size: int) -> dict[str, Any] | None:
    """One run of `size` tasks on two executors: a root and its children."""
    server = Server()
    try:
        session = Session(registry.load(registry.OURS)[0], server, {}, "scale_adapter.py", BENCH_SCALE=str(size))
        try:
            session.start(2)
            before, _ = server.memory()
            found = session.run("big", size, 1)
            after, peak = server.memory()
            events = int(server.client.memory_usage("tm:default:events", samples=0) or 0)
            row = {
                "tasks": size,
                "seconds": found["seconds"],
                "tasks_per_second": size / found["seconds"],
                "server_cpu_us_per_task": 1e6 * found["cpu"]["server"] / size,
                "workers_cpu_us_per_task": 1e6 * found["cpu"]["workers"] / size,
                "bytes_per_task": (after - before) / size,
                "event_bytes_per_task": events / size,
                "peak_mib": (peak - before) / (1 << 20),
                "workers_pss_mib": found["workers_pss"],
            }
        finally:
            session.close()
    except PeerError as error:
        print(f"{size:,} tasks: {error}", file=sys.stderr)
        return None
    finally:
        server.close()
    print(f"{size:,} tasks: {row['seconds']:.2f} s, {row['bytes_per_task']:.0f} bytes a task", file=sys.stderr)
    return row


def _on_processes(count: int, runs: int) -> dict[str, Any] | None:
    """Many runs of one task on so many executors of one supervisor."""
    server = Server()
    try:
        session = Session(registry.load(registry.OURS)[0], server, {}, "scale_adapter.py")
        try:
            session.start(count)
            session.run("flat", runs // 10, 1)
            before, _ = server.memory()
            found = session.run("flat", runs, 1)
            after, _ = server.memory()
        finally:
            session.close()
    except PeerError as error:
        print(f"{count} processes: {error}", file=sys.stderr)
        return None
    finally:
        server.close()
    row = {
        "processes": count,
        "tasks_per_second": runs / found["seconds"],
        "server_share": found["cpu"]["server"] / found["seconds"],
        "workers_share": found["cpu"]["workers"] / found["seconds"],
        "client_share": found["cpu"]["client"] / found["seconds"],
        "tasks_per_server_second": runs / found["cpu"]["server"],
        "workers_pss_mib": found["workers_pss"],
        "bytes_per_run": (after - before) / runs,
    }
    print(
        f"{count} processes: {row['tasks_per_second']:.0f} tasks/s, server {row['server_share']:.0%}", file=sys.stderr
    )
    return row


def _idle_workers(seconds: float) -> dict[str, Any]:
    """What the heartbeats of idle workers cost the server."""
    server = Server()
    graphs = ROOT / "benchmarks" / "peers" / "ours" / "scale_graphs.py"
    environment = {**os.environ, "TM_URL": server.url, "TM_HOME": str(server.home), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "tm_worker", graphs, "--processes=1", "--log-level=warning"]
    workers = [subprocess.Popen(command, env=environment) for _ in range(IDLERS)]
    try:
        until = time.monotonic() + 30
        while server.client.scard("rq:workers") < IDLERS and time.monotonic() < until:
            time.sleep(0.05)
        time.sleep(2)
        before = server.counters()
        time.sleep(seconds)
        after = server.counters()
        connections = int(server.client.info("clients")["connected_clients"]) - 1
    finally:
        for worker in workers:
            worker.terminate()
        for worker in workers:
            worker.wait(15)
        server.close()
    spent = {name: (after[name] - before[name]) / seconds / IDLERS for name in after}
    return {
        "workers": IDLERS,
        "server_us_per_second": 1e6 * spent["cpu"],
        "commands_per_second": spent["commands"],
        "connections": connections / IDLERS,
    }


def picture(report: dict[str, Any]) -> str:
    """Three charts next to each other."""
    sizes, workers = report["sizes"], report["processes"]
    size_time = chart.Series("time", [(row["tasks"], row["seconds"]) for row in sizes])
    memory = chart.Series("memory", [(row["tasks"], max(row["peak_mib"], 0.01)) for row in sizes])
    rate = chart.Series("tasks/s", [(row["processes"], row["tasks_per_second"]) for row in workers])
    share = chart.Series("server", [(row["processes"], 100 * row["server_share"]) for row in workers], "b")
    return chart.beside(
        [
            chart.lines("One run of n tasks: time", "tasks in the run", "seconds", [size_time]),
            chart.lines("One run of n tasks: memory", "tasks in the run", "MiB of the server", [memory]),
            chart.lines("Executors on this machine: rate", "executor processes", "tasks/s", [rate], from_zero=True),
            chart.lines(
                "Executors on this machine: server", "executor processes", "% of a core", [share], from_zero=True
            ),
        ]
    )


def page(report: dict[str, Any], template: str) -> str:
    """docs/scaling.md with this report's figures."""
    sizes, workers, about = report["sizes"], report["processes"], report["machine"]
    largest, best = sizes[-1], max(workers, key=lambda row: row["tasks_per_second"])
    per_core = max(row["tasks_per_server_second"] for row in workers)
    beats = report["idle"]["server_us_per_second"]
    small, million = sizes[0], 1e6
    note = "\n> These figures were taken while the machine was busy with other work; they are only indicative.\n"
    return Template(template).substitute(
        processor=about["processor"],
        cores=about["cores"],
        python=about["python"],
        note=note if report["indicative"] else "",
        sizes=_rows(
            sizes,
            lambda row: (
                f"{row['tasks']:,}",
                row["seconds"],
                row["tasks_per_second"],
                row["peak_mib"],
                row["bytes_per_task"],
                row["server_cpu_us_per_task"],
            ),
        ),
        processes=_rows(
            workers,
            lambda row: (
                str(row["processes"]),
                row["tasks_per_second"],
                100 * row["server_share"],
                100 * row["workers_share"],
                100 * row["client_share"],
                row["workers_pss_mib"],
            ),
        ),
        largest=f"{largest['tasks']:,}",
        growth=shown((largest["seconds"] / largest["tasks"]) / (small["seconds"] / small["tasks"])),
        smallest=f"{small['tasks']:,}",
        per_core=shown(per_core),
        transitions=shown(per_core * TRANSITIONS),
        best=shown(best["tasks_per_second"]),
        best_processes=best["processes"],
        bytes=shown(largest["bytes_per_task"]),
        event_bytes=shown(largest["event_bytes_per_task"]),
        kept_bytes=shown(largest["bytes_per_task"] - largest["event_bytes_per_task"]),
        million_rate=shown(million / DAY),
        million_share=shown(100 * million / DAY / per_core),
        run_bytes=shown(best["bytes_per_run"]),
        million_memory=shown(million / DAY * 600 * best["bytes_per_run"] / (1 << 20)),
        connections=shown(report["idle"]["connections"]),
        most_workers=f"{int(10_000 / report['idle']['connections']):,}",
        beat_us=shown(beats),
        beat_commands=shown(report["idle"]["commands_per_second"]),
        thousand_share=shown(100 * 1000 * beats / 1e6),
        split_rate=shown(0.6 * per_core),
        split_day=shown(0.6 * per_core * DAY / 1e6),
    )


def _rows(rows: list[dict[str, Any]], cells: Any) -> str:
    return "\n".join(
        "| " + " | ".join(cell if isinstance(cell, str) else shown(cell) for cell in cells(row)) + " |" for row in rows
    )


if __name__ == "__main__":
    main()
