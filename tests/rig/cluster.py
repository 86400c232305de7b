"""A whole installation of real processes on one machine: a server, schedulers, workers, history, bad networks.

Processes are those users start, `python -m tm_worker` and `python -m tm_scheduler`. Each carries a mark in its
environment that its descendants inherit, so that whoever outlives its parent is found in /proc, whatever became of
its process group.
"""

from __future__ import annotations

import os
import random
import secrets
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import msgpack
import psutil
import redis

from tests.rig import journal
from tests.rig.checker import check
from tests.rig.evidence import (
    Evidence,
    HistoryAttempt,
    HistoryRun,
    HistoryTask,
    ServerDump,
    ServerRun,
    ServerTask,
)
from tests.rig.proxy import Proxy
from tests.servers import Server
from tests.waiting import wait_for
from tm import codec, ids
from tm.loader import load
from tm.states import FINAL_RUN_STATES
from tm.store import events as event_codec
from tm.store.records import NewRun
from tm.store.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from tests.rig.checker import Violation
    from tm.events import Event
    from tm.graph import Graph

ROOT = Path(__file__).parents[2]
GRAPHS, TICKING = ROOT / "tests/rig/graphs.py", ROOT / "tests/rig/ticking.py"
MARK = "TM_RIG_MARK"
#: seconds a leader may be silent in the short profile; the command has no option for it, on purpose
_SCHEDULER = """
import sys
from tm import logs
from tm.config import Settings
from tm_scheduler.cli import load
from tm_scheduler.service import serve
settings = Settings.from_environment()
logs.configure(settings.log_level)
sys.exit(serve(load(tuple(sys.argv[2:])), settings, ttl_ms=int(sys.argv[1])))
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """How patient everybody is, in seconds."""

    lease: float = 3.0
    leader: float = 3.0
    grace: float = 1.0
    drain: float = 5.0
    result_ttl: float = 600.0

    @property
    def bound(self) -> float:
        """I9: after the faults all runs end within this."""
        return 3 * self.lease + 30


SHORT = Profile()
REAL = Profile(lease=30.0, leader=10.0, grace=10.0, drain=30.0)


class Process:
    """One worker or scheduler."""

    def __init__(self, kind: str, command: list[str], log: Path, environment: Mapping[str, str]) -> None:
        self.kind, self.log = kind, log
        with log.open("ab") as file:
            self.popen = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                env=dict(environment),
                cwd=log.parent,
                start_new_session=True,
            )

    def __repr__(self) -> str:
        return f"<{self.kind} {self.pid}>"

    @property
    def pid(self) -> int:
        return self.popen.pid

    @property
    def alive(self) -> bool:
        return self.popen.poll() is None

    def said(self, text: str) -> bool:
        """Whether its log holds this."""
        return text in self.log.read_text(errors="replace")

    def stopped(self) -> bool:
        """Whether SIGSTOP holds it."""
        return psutil.Process(self.pid).status() == psutil.STATUS_STOPPED

    def signal(self, number: signal.Signals) -> None:
        """To this process alone."""
        self.popen.send_signal(number)

    def kill(self) -> None:
        """SIGKILL it alone, and see it gone."""
        self.popen.kill()
        self.popen.wait(10)

    def end(self, timeout: float = 20.0) -> int:
        """Its exit code, once it ends by itself."""
        try:
            return self.popen.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self} does not end; its log:\n{self.log.read_text()[-3000:]}") from None


class Tap:
    """Listens to the event stream, on a connection that no fault touches."""

    def __init__(self, server: Server, key: str) -> None:
        self.seen: list[tuple[str, Event]] = []
        self.entries = 0  #: those that the events seen came in
        self.times: list[float] = []  #: when each was seen, by the monotonic clock
        self._server, self._key = server, key
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="tap", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._over.set()
        self._thread.join(5)

    def wait_for(self, condition: Callable[[Event], bool], what: str, timeout: float = 15.0, since: int = 0) -> float:
        """When (monotonic) the first event from position `since` on was seen that fulfils the condition."""

        def found() -> float | None:
            for position, (_, event) in enumerate(self.seen[since:], since):
                if condition(event):
                    return self.times[position]
            return None

        try:
            return wait_for(found, what, timeout)
        except AssertionError as error:
            # history takes entries away, and on a busy machine that may be before they are seen here
            client: Any = self._server.client()
            added = client.xinfo_stream(self._key)["entries-added"] if client.exists(self._key) else 0
            last = "\n".join(str(event) for _, event in self.seen[-12:])
            raise AssertionError(f"{error}; saw {self.entries} of {added} entries, the last events:\n{last}") from None

    def _run(self) -> None:
        last = "0"
        while not self._over.is_set():
            client: Any = self._server.client(socket_timeout=2)
            try:
                while not self._over.is_set():
                    for _, entries in client.xread({self._key: last}, block=200) or ():
                        for stream_id, fields in entries:
                            last = stream_id.decode()
                            events = event_codec.read([(stream_id, fields)])
                            self.times += [time.monotonic()] * len(events)  # before what they are the times of
                            self.seen += events
                            self.entries += 1
            except (redis.exceptions.RedisError, OSError):
                self._over.wait(0.05)
            finally:
                client.close()


class Cluster:
    """Server, schedulers, workers and history of one test, or of one file of tests.

    Args:
        folder: for the journal, the history, logs and home directories.
        seed: of everything random in it; printed with every failure.
        persist: the server keeps an append-only file.
        options: of the server.
        files: graph files that workers and schedulers load.
    """

    def __init__(
        self,
        folder: Path,
        *,
        seed: int = 1,
        profile: Profile = SHORT,
        persist: bool = False,
        options: Mapping[str, object] | None = None,
        files: Iterable[Path] = (GRAPHS,),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.folder, self.seed, self.profile, self.files = folder, seed, profile, list(files)
        self.random = random.Random(seed)
        self.journal_file, self.history_file = folder / "journal", folder / "history.db"
        self._journal = journal.Reader(self.journal_file)
        self.environment = dict(environment or {})
        self.mark = secrets.token_hex(8)
        self.server = Server(persist=persist, options=options).start()
        self.client = self.server.client()
        self.store = Store(self.client, result_ttl=profile.result_ttl)
        self.graphs: dict[str, Graph] = {}
        for file in self.files:
            self.graphs |= load(file).graphs
        self.processes: list[Process] = []
        self.proxies: list[Proxy] = []
        self.submitted: dict[str, str] = {}
        self.tap = Tap(self.server, self.store.keys.events)
        self._leading: dict[int, float] = {}  # pid of a leader -> when it was first seen to lead

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # Processes ----------------------------------------------------------------------------------------------------

    def _environment(self, url: str, home: str, more: Mapping[str, str]) -> dict[str, str]:
        profile = self.profile
        settings = {
            MARK: self.mark,
            journal.VARIABLE: str(self.journal_file),
            "PYTHONPATH": str(ROOT),
            "TM_URL": url,
            "TM_HOME": str(self.folder / home),
            "TM_HISTORY": f"sqlite:///{self.history_file}",
            "TM_TZ": "UTC",
            "TM_LEASE": str(profile.lease),
            "TM_GRACE": str(profile.grace),
            "TM_DRAIN_TIMEOUT": str(profile.drain),
            "TM_RESULT_TTL": str(profile.result_ttl),
            "TM_FAILED_TTL": str(profile.result_ttl),  # the judge wants keys to be gone
            "TM_PROCESSES": "2",
            "TM_LOG_LEVEL": "debug",
        }
        return os.environ | settings | self.environment | dict(more)

    def worker(self, *options: str, url: str | None = None, wait: bool = True, **environment: str) -> Process:
        """Start a worker and wait until it is known to the server."""
        number = sum(each.kind == "worker" for each in self.processes)
        name = f"w{number}"
        process = Process(
            "worker",
            [sys.executable, "-m", "tm_worker", *map(str, self.files), "--name", name, *options],
            self.folder / f"worker-{number}.log",
            self._environment(url or self.server.url, environment.pop("home", "home"), environment),
        )
        self.processes.append(process)
        if wait:
            self.wait_known(process)
        return process

    def wait_known(self, process: Process, timeout: float = 30.0) -> None:
        """Until a worker that was started is listed."""

        def known() -> bool:
            assert process.alive, f"{process} ended: {process.log.read_text()[-2000:]}"
            return any(each.get(b"pid") == str(process.pid).encode() for each in self._announced())

        wait_for(known, f"{process} to be known", timeout)

    def _announced(self) -> list[dict[bytes, bytes]]:
        client: Any = self.client
        return [client.hgetall(key) for key in client.scan_iter(f"{self.store.prefix}worker:*")]

    def scheduler(self, url: str | None = None, **environment: str) -> Process:
        """Start a scheduler; it leads or stands by."""
        number = sum(each.kind == "scheduler" for each in self.processes)
        process = Process(
            "scheduler",
            [sys.executable, "-c", _SCHEDULER, str(int(self.profile.leader * 1000)), *map(str, self.files)],
            self.folder / f"scheduler-{number}.log",
            self._environment(url or self.server.url, "home", environment),
        )
        self.processes.append(process)
        return process

    def living(self, kind: str) -> list[Process]:
        return [each for each in self.processes if each.kind == kind and each.alive]

    def up(self, workers: int = 3, schedulers: int = 2) -> Self:
        """See that so many are there, started again where a test has ended them, awake where one has failed."""
        for each in self.processes:
            if each.alive and each.stopped():
                for pid in (*self.family(each), each.pid):  # or the next test fails for what another has left
                    os.kill(pid, signal.SIGCONT)
        for _ in range(schedulers - len(self.living("scheduler"))):
            self.scheduler()
        missing = [self.worker(wait=False) for _ in range(workers - len(self.living("worker")))]
        for each in missing:
            self.wait_known(each)
        if schedulers:
            self.leader()
        return self

    def leader(self) -> Process:
        """The leading scheduler, once there is one."""

        def found() -> Process | None:
            pid = self.leader_pid()
            return next((each for each in self.living("scheduler") if each.pid == pid), None)

        leader = wait_for(found, "a scheduler to lead", 30)
        self._leading.setdefault(leader.pid, time.monotonic())
        return leader

    def steady(self) -> None:
        """Wait until the leader declares workers dead: a new one gives them a lease and 5 s to be heard of first."""
        pid = self.leader().pid
        since = self._leading.setdefault(pid, time.monotonic())
        wait_for(
            lambda: time.monotonic() - since > self.profile.lease + 5.5, "the leader to be settled", self.profile.bound
        )
        assert self.leader_pid() == pid

    def leader_pid(self) -> int | None:
        """Of the leader, as the server knows it."""
        try:
            who, until = self.client.hmget(self.store.keys.leader, ["id", "until"])  # type: ignore[misc]
            if who and int(until) > self.store.server_ms():
                return int(who.decode().split(":")[1])
        except redis.exceptions.RedisError:
            pass
        return None

    def proxy(self) -> Proxy:
        """A bad network of its own."""
        proxy = Proxy(self.server.socket, seed=self.seed).start()
        self.proxies.append(proxy)
        return proxy

    def descendants(self) -> list[int]:
        """Every process that carries our mark."""
        found = []
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            try:
                ours = f"{MARK}={self.mark}".encode() in (entry / "environ").read_bytes()
            except OSError:
                continue
            if ours and not gone(int(entry.name)):
                found.append(int(entry.name))
        return found

    def family(self, process: Process) -> list[int]:
        """Pids of the nursery and the executors of a worker."""
        return [each.pid for each in psutil.Process(process.pid).children(recursive=True)]

    # Work ---------------------------------------------------------------------------------------------------------

    def submit(self, graph: str, **params: Any) -> str:
        """Start a run; once the server has acknowledged it, it must never be lost."""
        run = ids.manual_run_id(graph)
        message = codec.encode(params) if params else b""
        assert self.store.start(self.graphs[graph].plan, [NewRun(id=run, params=message)]) == [True]
        self.submitted[run] = graph
        return run

    def load(
        self, count: int, graphs: Iterable[str] = ("chain", "diamond", "flaky", "bad"), pace: float = 0.02
    ) -> None:
        """Start runs of graphs picked at random, each task taking about `pace` seconds."""
        names = list(graphs)
        for _ in range(count):
            self.submit(self.random.choice(names), pace=round(self.random.uniform(0, 2 * pace), 3))

    def state(self, run: str) -> str | None:
        state = self.store.state(run)
        return None if state is None else state.value

    def lines(self, run: str | None = None, what: str = "start") -> list[journal.Line]:
        """Of the journal."""
        return [each for each in self._journal.fresh() if each.what == what and run in (None, each.run)]

    def begins(self, run: str, task: str) -> int:
        """How many bodies of a task of a run have begun so far."""
        return sum(line.task == task for line in self.lines(run))

    def begun(self, run: str, task: str | None = None, count: int = 1, timeout: float = 20.0) -> list[journal.Line]:
        """The first lines of bodies of a run, once there are so many."""
        return wait_for(
            lambda: len(found := [line for line in self.lines(run) if task in (None, line.task)]) >= count and found,
            f"{count} begins of {task or 'a task'} in {run}",
            timeout,
        )

    def open_runs(self) -> set[str]:
        """Runs of ours that have not ended, as the server has it; those it does not hold are not."""
        pipeline = self.client.pipeline(transaction=False)
        for run in self.submitted:
            pipeline.hget(self.store.keys.run(run), "state")
        states = dict(zip(self.submitted, pipeline.execute(), strict=True))
        return {run for run, state in states.items() if state and state.decode() not in FINAL_RUN_STATES}

    def settle(self, timeout: float | None = None) -> float:
        """Wait until all runs have ended and are filed, within the bound of I9; returns the seconds it took."""
        began = time.monotonic()
        limit = self.profile.bound if timeout is None else timeout

        def quiet() -> bool:
            try:
                return not self.open_runs()
            except redis.exceptions.RedisError:
                return False

        try:
            wait_for(quiet, f"all runs to end (I9, {limit:g} s)", limit, 0.05)
            if self.living("scheduler"):
                wait_for(self.filed, "history to catch up", 20, 0.05)
        except AssertionError as error:
            raise AssertionError(f"{error}\nstill open: {self.stuck()}\n{self.tails()}") from None
        return time.monotonic() - began

    def stop_ticking(self) -> None:
        """End the schedulers as a person would: no new ticks, what is open ends, the rest is filed."""
        pid = self.leader().pid
        for each in self.living("scheduler"):
            each.signal(signal.SIGUSR1)
        for each in sorted(self.living("scheduler"), key=lambda each: each.pid != pid):
            if each.pid != pid:
                each.signal(signal.SIGTERM)
            each.end(self.profile.bound)

    def filed(self) -> bool:
        """Whether history has taken all events."""
        return self.client.xlen(self.store.keys.events) == 0

    def stuck(self) -> dict[str, Any]:
        """What open runs wait for."""
        found: dict[str, Any] = {}
        for run in sorted(self.open_runs())[:5]:
            view = self.store.run(run)
            if view is not None:
                found[run] = [(each.task, each.state.value, each.attempt, each.worker) for each in view.tasks]
        dump = self.dump()
        return found | {"queued": dump.queued[:9], "leases": dump.leases[:9], "retry": dump.retry[:9]}

    def tails(self, characters: int = 1500) -> str:
        """The ends of all logs."""
        return "\n".join(f"--- {each}\n{each.log.read_text()[-characters:]}" for each in self.processes[-8:])

    # Judgement ------------------------------------------------------------------------------------------------------

    def evidence(self, **more: Any) -> Evidence:
        """Everything there is to be judged now."""
        runs, tasks, attempts = read_history(self.history_file)
        added = 0
        if self.client.exists(self.store.keys.events):
            added = int(self.client.xinfo_stream(self.store.keys.events)["entries-added"])
        return Evidence(
            plans={name: graph.plan for name, graph in self.graphs.items()},
            journal=tuple(journal.read(self.journal_file)),
            runs=runs,
            task_runs=tasks,
            attempts=attempts,
            events=tuple(self.tap.seen),
            events_complete=self.tap.entries == added,
            server=self.dump(),
            submitted=dict(self.submitted),
            texts={each.log.name: each.log.read_text(errors="replace") for each in self.processes},
            filed=self.filed(),
            **more,
        )

    def judge(self, ignore: frozenset[str] = frozenset(), **more: Any) -> Evidence:
        """Fail on any violation; returns what was judged."""
        evidence = self.evidence(**more)
        broken = [each for each in check(evidence) if each.invariant not in ignore]
        if broken:
            raise AssertionError(self._told(broken))
        return evidence

    def _told(self, broken: list[Violation]) -> str:
        listed = "\n".join(map(str, broken[:20]))
        return f"seed {self.seed}: {len(broken)} violations\n{listed}\n{self.tails()}"

    def dump(self) -> ServerDump:
        """What the server holds."""
        client: Any = self.client
        keys = {key.decode() for key in client.scan_iter(count=1000)}
        prefix = self.store.prefix
        runs = {}
        for key in keys:
            if key.startswith(f"{prefix}run:") and (run := self._run(key, key.removeprefix(f"{prefix}run:"))):
                runs[run.id] = run

        def members(name: str) -> tuple[str, ...]:
            return tuple(each.decode() for each in client.zrange(f"{prefix}{name}", 0, -1))

        queues = [key.removeprefix(prefix) for key in keys if key.startswith(f"{prefix}queued:")]
        opened = [key.removeprefix(prefix) for key in keys if key.startswith(f"{prefix}open:")]
        return ServerDump(
            runs=runs,
            queued=tuple(job for queue in queues for job in members(queue)),
            leases=members("leases"),
            retry=members("retry"),
            open={name.removeprefix("open:"): members(name) for name in opened},
            keys=frozenset(keys),
            memory=int(client.info("memory")["used_memory"]),
        )

    def _run(self, key: str, run: str) -> ServerRun | None:
        client: Any = self.client
        stored = client.hgetall(key)
        if b"graph" not in stored:
            return None
        graph, tick = stored[b"graph"].decode(), int(stored.get(b"tick") or -1)
        plan = self.graphs[graph].plan if graph in self.graphs else None
        tasks = {}
        for node, task in enumerate(plan.tasks if plan else ()):
            packed = stored.get(str(node).encode())
            if packed is not None:
                state, attempt, *_ = msgpack.unpackb(packed)
                tasks[task.name] = ServerTask(state=state, attempt=attempt)
        return ServerRun(
            id=run,
            graph=graph,
            state=stored[b"state"].decode(),
            tick=tick if tick >= 0 else None,
            reason=stored.get(b"reason", b"").decode(),
            tasks=tasks,
        )

    def close(self) -> None:
        """End every process, and fail if somebody got away who should have ended with its parent."""
        for each in self.processes:
            if each.alive:
                each.signal(signal.SIGCONT)
                each.kill()
        try:
            wait_for(lambda: not self.descendants(), "the descendants of killed workers to be gone", 5)
        finally:
            for pid in self.descendants():
                os.kill(pid, signal.SIGKILL)
            self.tap.close()
            self.client.close()
            self.server.close()
            for proxy in self.proxies:
                proxy.close()


def gone(pid: int) -> bool:
    """Whether a process has ended; one that nobody has collected yet has."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def read_history(
    file: Path,
) -> tuple[tuple[HistoryRun, ...], tuple[HistoryTask, ...], tuple[HistoryAttempt, ...]]:
    """All rows; empty when there is no history."""
    if not file.is_file():
        return (), (), ()
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as connection:
        try:
            runs = connection.execute("SELECT id, graph, state, tick, reason, ended FROM runs").fetchall()
            tasks = connection.execute("SELECT run, task, state FROM task_runs").fetchall()
            attempts = connection.execute(
                "SELECT run, task, number, outcome, event, error_type, claimed, ended FROM attempts"
            ).fetchall()
        except sqlite3.OperationalError as error:
            if "no such table" in str(error):
                return (), (), ()
            raise
    names = ("id", "graph", "state", "tick", "reason", "ended")
    return (
        tuple(HistoryRun(**dict(zip(names, row, strict=True))) for row in runs),
        tuple(HistoryTask(run=run, task=task, state=state) for run, task, state in tasks),
        tuple(
            HistoryAttempt(
                run=run,
                task=task,
                number=number,
                outcome=outcome,
                event=event,
                error_type=kind,
                claimed=claimed,
                ended=ended,
            )
            for run, task, number, outcome, event, kind, claimed, ended in attempts
        ),
    )


__all__ = ["GRAPHS", "REAL", "SHORT", "TICKING", "Cluster", "Process", "Profile", "replace"]
