"""Four numbers that everybody meets first: import, cold start, one hop, and what an idle stack costs.

    python benchmarks/skeleton.py            all of them, about a minute and a half
    python benchmarks/skeleton.py hop idle   some of them

Prints a table and writes benchmarks/results/skeleton.json. Close other programs first: the machine is part of it.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "skeleton.json"
COLD_STARTS, PERIOD = 5, 5  # how often, and seconds between ticks
IMPORTS = 15
CHAIN, RUNS, WARM_UP = 100, 30, 5
IDLE_SETTLES, IDLE_LASTS = 5.0, 30.0  # seconds

HELLO = f"""
from tm import Executor, Graph, task
graph = Graph(name="hello", schedule="*/{PERIOD} * * * * *")
@task()
def hello():
    print("hello from a task")
graph.add_edges([hello])
Executor(graphs=[graph]).start()
"""

IDLE = HELLO.replace(f"*/{PERIOD} * * * * *", "0 6 1 1 *")

CHAIN_FILE = f"""
from tm import Graph, task
graph = Graph(name="chain")
def link(number):
    @task(name=f"t{{number}}")
    def pass_on(**parent):
        return number
    return pass_on
tasks = [link(number) for number in range({CHAIN})]
for parent, child in zip(tasks, tasks[1:]):
    graph.add_edges(parent, child)
"""


def main(names: list[str]) -> None:
    """Measure what is named, or everything."""
    measures = {"import": import_time, "start": cold_start, "hop": one_hop, "idle": idle_stack}
    found: dict[str, dict[str, Any]] = {}
    for name in names or measures:
        print(f"measuring {name} ...", file=sys.stderr)
        found |= measures[name]()
    show(found)
    machine = {
        "cpus": os.cpu_count(),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "load": round(os.getloadavg()[0], 2),
    }
    known = json.loads(RESULTS.read_text())["numbers"] if RESULTS.exists() else {}
    document = {"at": datetime.now(UTC).isoformat(timespec="seconds"), "machine": machine, "numbers": known | found}
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(document, indent=2) + "\n")


def show(found: dict[str, dict[str, Any]]) -> None:
    """A table: what, how much, and how much it may be."""
    width = max(len(number["what"]) for number in found.values())
    for number in found.values():
        limit = number["limit"]
        verdict = (
            ""
            if limit is None
            else f"  limit {limit:g} {number['unit']}" + ("" if number["value"] <= limit else "  MISSED")
        )
        print(f"{number['what']:<{width}}  {number['value']:>8.3g} {number['unit']:<3}{verdict}")


def number(what: str, value: float, unit: str, limit: float | None = None, **more: Any) -> dict[str, Any]:
    """One line of the table."""
    return {"what": what, "value": round(value, 4), "unit": unit, "limit": limit, **more}


def environment(**more: str) -> dict[str, str]:
    """Without settings of ours."""
    return {name: value for name, value in os.environ.items() if not name.startswith("TM_")} | more


@contextmanager
def directory() -> Iterator[Path]:
    """A temporary one."""
    path = Path(tempfile.mkdtemp(prefix="tmbench-"))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


@contextmanager
def process(*command: str, cwd: Path, **more: Any) -> Iterator[subprocess.Popen[str]]:
    """A process group that is ended with Ctrl-C, at the latest with SIGKILL."""
    started = subprocess.Popen(command, cwd=cwd, start_new_session=True, text=True, **more)
    try:
        yield started
    finally:
        for how, patience in ((signal.SIGINT, 20), (signal.SIGKILL, 5)):
            try:
                os.killpg(started.pid, how)
                started.wait(patience)
                break
            except ProcessLookupError:
                break
            except subprocess.TimeoutExpired:
                continue


# Import


def import_time() -> dict[str, dict[str, Any]]:
    """`import tm` in a fresh interpreter, files in the page cache."""
    return {
        "import": number("import tm", seconds_of("import tm"), "ms", 80),
        "import_names": number(
            "from tm import Executor, Graph, task", seconds_of("from tm import Executor, Graph, task"), "ms"
        ),
    }


def seconds_of(statement: str) -> float:
    """Milliseconds of a statement, median of many interpreters."""
    code = f"import time; began = time.perf_counter(); {statement}; print((time.perf_counter() - began) * 1000)"
    times = [float(subprocess.check_output([sys.executable, "-c", code], cwd=ROOT)) for _ in range(IMPORTS)]
    return statistics.median(times)


# Cold start


def cold_start() -> dict[str, dict[str, Any]]:
    """`python hello.py`, with a tick that was missed a moment ago, until the first line of its task arrives."""
    with directory() as path:
        (path / "hello.py").write_text(HELLO)
        first_line(path)  # so that there is a cursor, and with it missed ticks
        times = []
        for _ in range(COLD_STARTS):
            # just after a tick that nobody makes: it is due at once, and the next one is far away
            until_after_tick = PERIOD - time.time() % PERIOD + 0.05
            time.sleep(until_after_tick)
            times.append(first_line(path))
    return {
        "cold_start": number(
            "python hello.py to its first output",
            statistics.median(times),
            "s",
            1.0,
            all=[round(each, 3) for each in times],
        )
    }


def first_line(path: Path) -> float:
    """Seconds from the start of the interpreter to the first line that a task prints."""
    began = time.perf_counter()
    quiet = subprocess.DEVNULL
    with process(
        sys.executable, "hello.py", cwd=path, env=environment(), stdout=subprocess.PIPE, stderr=quiet
    ) as started:
        assert started.stdout is not None
        line = started.stdout.readline()
        took = time.perf_counter() - began
        if "hello from a task" not in line:
            raise SystemExit(f"hello.py said {line!r}")
    return took


# One hop


def one_hop() -> dict[str, dict[str, Any]]:
    """From the start to the end of a run of a chain, by the server's clock, divided by its tasks; a warm worker."""
    sys.path.insert(0, str(ROOT))
    from tests.servers import Server
    from tm.loader import load
    from tm.store import Store

    server = Server(persist=True).start()
    try:
        with directory() as path:
            (path / "chain.py").write_text(CHAIN_FILE)
            graph = load(path / "chain.py").graph("chain")
            client = server.client()
            store = Store(client)
            settings = environment(TM_URL=server.url, TM_HOME=str(path), TM_LOG_LEVEL="warning")
            command = (str(Path(sys.executable).parent / "tm-worker"), "chain.py")
            with process(*command, cwd=path, env=settings):
                runs = [chain_ms(store, graph, f"chain-{count}") for count in range(WARM_UP + RUNS)][WARM_UP:]
            client.close()
    finally:
        server.close()
    hops = sorted(run / CHAIN for run in runs)
    return {
        "hop": number(f"one hop of a chain of {CHAIN}", statistics.median(hops), "ms", 1.0, worst=round(hops[-1], 3))
    }


def chain_ms(store: Any, graph: Any, run: str) -> float:
    """Milliseconds of one run."""
    from tm.store.records import NewRun

    store.start(graph.plan, [NewRun(id=run, params=b"", config="")])
    view = until(lambda: (found := store.run(run)) and found.ended_ms and found, 30)
    if str(view.state) != "success":
        raise SystemExit(f"run {run} ended {view.state}")
    return float(view.ended_ms - view.started_ms)


def until(condition: Callable[[], Any], patience: float) -> Any:
    """The first true value."""
    end = time.monotonic() + patience
    while not (value := condition()):
        if time.monotonic() > end:
            raise SystemExit("waited in vain")
        time.sleep(0.02)
    return value


# An idle stack


def idle_stack() -> dict[str, dict[str, Any]]:
    """Memory and processor time of all processes of `python hello.py` when nothing is due."""
    with directory() as path:
        (path / "hello.py").write_text(IDLE)
        quiet = subprocess.DEVNULL
        with process(sys.executable, "hello.py", cwd=path, env=environment(), stdout=quiet, stderr=quiet) as started:
            until(lambda: len(family(started.pid)) >= 4, 20)
            time.sleep(IDLE_SETTLES)
            before, began = cpu_seconds(started.pid), time.monotonic()
            time.sleep(IDLE_LASTS)
            cpu = (cpu_seconds(started.pid) - before) / (time.monotonic() - began) * 100
            members = [member.memory_full_info() for member in family(started.pid)]
    pss, rss = (sum(getattr(member, kind) for member in members) / 1e6 for kind in ("pss", "rss"))
    return {
        "idle_pss": number(
            f"idle stack, {len(members)} processes, memory (PSS)",
            pss,
            "MB",
            120,
            each=sorted(round(member.pss / 1e6, 1) for member in members),
        ),
        "idle_rss": number("  the same, shared pages counted each time (RSS)", rss, "MB"),
        "idle_cpu": number("  processor time", cpu, "%", 0.5),
    }


def family(pid: int) -> list[psutil.Process]:
    """A process and all below it."""
    parent = psutil.Process(pid)
    return [parent, *parent.children(recursive=True)]


def cpu_seconds(pid: int) -> float:
    """Processor time of a family so far."""
    return sum(sum(member.cpu_times()[:2]) for member in family(pid))


if __name__ == "__main__":
    main(sys.argv[1:])
