"""Everything in one terminal: an embedded server, a scheduler and a worker, as children of one light process.

This process holds the user's graphs and nothing else: no connection, no thread, none of the heavy imports. So it can
fork the services at any time, and again when one of them dies, without executing the user's file a second time.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import socket
import sys
import time
from dataclasses import replace
from datetime import UTC, datetime
from enum import Enum, auto
from io import TextIOWrapper
from typing import TYPE_CHECKING, Protocol

from tm import children, logs
from tm.greeting import farewell, greeting, ready
from tm.store.keys import Keys

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence
    from pathlib import Path

    from tm.config import Settings
    from tm.embedded import EmbeddedServer
    from tm.graph import Graph

log = logs.get_logger("stack")

#: seconds between the restarts of a service that keeps dying; it counts as well after as long as the last of them
BACKOFF = (0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
#: seconds; `timeout` and its like signal a process and its group: nobody presses Ctrl-C twice so fast
SAME_PRESS = 0.02
STOP = frozenset({signal.SIGINT, signal.SIGTERM, signal.SIGHUP})
#: what our scheduler sends us once others can find the graphs: it leads and has announced them, or stands by
READY = signal.SIGUSR1


class Output(Protocol):
    """Somewhere else than the terminal for what services and tasks print."""

    def take_over(self) -> None:
        """Called in each service: make standard output and standard error lead there."""
        ...

    def pass_on(self) -> None:
        """Called in the parent, again and again, once nobody else reads what is left."""
        ...


class Phase(Enum):
    """What the stack is doing."""

    UP = auto()
    DRAINING = auto()  #: the scheduler makes no new ticks and waits until no run is open
    STOPPING = auto()  #: the scheduler is gone, the worker ends
    GONE = auto()


class Service:
    """A child process that has to be there, and is started again when it dies."""

    def __init__(self, name: str, body: Callable[[], int]) -> None:
        self.name, self._body = name, body
        self.pid: int | None = None
        self.restart_at: float | None = None
        self._failures = 0
        self._started_at = 0.0

    def start(self) -> None:
        """Fork it."""
        self.restart_at, self._started_at = None, time.monotonic()
        self.pid = children.fork(self._body, f"tm-{self.name}")

    def send(self, number: int) -> None:
        """Send a signal, if it runs."""
        self.restart_at = None
        if self.pid is not None:
            children.kill(self.pid, number)

    def ended(self) -> int | None:
        """Its exit code, once, when it has ended."""
        code = None if self.pid is None else children.exit_code(self.pid)
        if code is not None:
            self.pid = None
        return code

    def restart_later(self) -> float:
        """Plan its restart; returns the seconds until then."""
        if time.monotonic() - self._started_at > BACKOFF[-1]:
            self._failures = 0
        delay = BACKOFF[min(self._failures, len(BACKOFF) - 1)]
        self._failures += 1
        self.restart_at = time.monotonic() + delay
        return delay


class Stack:
    """An embedded server (unless a URL is set), a scheduler and a worker; `run` returns when all of them are gone.

    Args:
        graphs: all that the worker can run.
        settings: where, and with how many processes.
        scheduled: names of the graphs whose schedules count; the others wait to be submitted.
        quiet: say only what goes wrong.
        output: where services and tasks print to, where that is not this process's own standard output.
    """

    def __init__(
        self,
        graphs: Sequence[Graph],
        settings: Settings,
        *,
        scheduled: Collection[str] = (),
        quiet: bool = False,
        output: Output | None = None,
    ) -> None:
        self.graphs, self.settings = tuple(graphs), settings
        self.quiet, self.output = quiet, output
        self.scheduled = tuple(graph for graph in graphs if graph.name in scheduled)
        self._phase = Phase.UP
        self._server: EmbeddedServer | None = None
        self._scheduler = Service("scheduler", self._schedule)
        self._worker = Service("worker", self._work)
        self._front: int | None = None
        self._interrupted = False
        self._is_up = False
        self._pid = os.getpid()
        self._exit_code = 0
        self._patience_ends: float | None = None
        self._server_check_at: float | None = None
        self._hurry_at: float | None = None

    def run(self, front: Callable[[], int] | None = None) -> int:
        """Run until Ctrl-C, SIGTERM or the end of `front`, then drain.

        Args:
            front: runs in a child process beside the services, such as a command that watches one run.

        Returns:
            The exit code: 0 after a drain, that of `front` if there is one, 130 when it had to stop at once.

        Raises:
            RefusedError: another stack owns the directory; the message names it.
        """
        if self.settings.log_format == "json":
            logs.configure("info", "json")
        bystanders = children.children()
        children.adopt_orphans()
        with children.Signals() as signals:
            try:
                self._start(front)
                while self._phase is not Phase.GONE:
                    for number in self._heard(signals):
                        self._hear(number)
                    self._look()
            finally:
                server = self._server.pid if self._server else None
                children.end_descendants(bystanders | ({server} if server else set()))
                if self._server:
                    self._server.stop()
        return self._exit_code

    def _start(self, front: Callable[[], int] | None) -> None:
        if self.settings.url is None:
            from tm.embedded import EmbeddedServer

            self._server = EmbeddedServer(self.settings.home, appendfsync=self.settings.appendfsync)
            self._server.start()
            self._vacate_leadership()
        self._worker.start()
        self._scheduler.start()
        if front is not None:
            self._front = children.fork(lambda: self._watch_run(front), "tm-run")
        elif not self.quiet:
            self._say(*greeting(self.graphs, self.scheduled, self.settings, datetime.now(UTC)))

    # what the children do

    def _work(self) -> int:
        # whoever takes our output over shows it where we would have
        how = self.settings.task_output
        shown = how if how != "auto" else "prefixed" if sys.stdout.isatty() else "plain"
        self._prepare_service()
        # the services are looked up here, so that nothing of tm depends on them
        serve = importlib.import_module("tm_worker.service").serve
        code: int = serve(self.graphs, replace(self._beside_scheduler(self._quiet()), task_output=shown))
        return code

    def _schedule(self) -> int:
        manual = [graph for graph in self.graphs if graph.is_manual]
        self._prepare_service()
        serve = importlib.import_module("tm_scheduler.service").serve
        code: int = serve([*self.scheduled, *manual], self._quiet(), ready=self._tell_parent)
        return code

    def _tell_parent(self) -> None:
        if os.getppid() == self._pid:
            children.kill(self._pid, READY)

    def _beside_scheduler(self, settings: Settings) -> Settings:
        """The worker's settings: it is watched on the port after the scheduler's."""
        port = settings.metrics_port
        return replace(settings, metrics_port=port + 1) if port else settings

    def _watch_run(self, front: Callable[[], int]) -> int:
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # the parent passes Ctrl-C on as SIGTERM
        return front()

    def _quiet(self) -> Settings:
        """The services' settings: beside the tasks' own output they say only what needs attention."""
        if self.settings.log_level != "info":
            return self.settings
        return replace(self.settings, log_level="error" if self.quiet else "warning")

    def _prepare_service(self) -> None:
        self.settings.hand_down()  # what tasks submit comes back to this stack, wherever they change directory to
        quiet = self._quiet()
        logs.configure(quiet.log_level, quiet.log_format)
        if self.output is not None:
            self.output.take_over()
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, TextIOWrapper):
                # whole lines, also with PYTHONUNBUFFERED: else two tasks that print at once tear each other's apart
                stream.reconfigure(line_buffering=True, write_through=False)

    # what the parent does

    def _heard(self, signals: children.Signals) -> list[int]:
        """Signals, waited for; an interruption that comes twice at the same moment is one."""
        numbers = list(signals.wait(self._next_deadline()))
        if not self._interrupted and STOP.intersection(numbers):
            time.sleep(SAME_PRESS)
            numbers += signals.wait(0)
            # a child that ended in between is found without being told
            return [next(number for number in numbers if number in STOP)]
        return numbers

    def _hear(self, number: int) -> None:
        """One signal: a child has changed, or somebody wants an end of it."""
        if number == signal.SIGCHLD:
            return
        if number == READY:
            if not self._is_up and self._phase is Phase.UP and self._front is None and not self.quiet:
                self._say(ready(shared=self.settings.url is not None))
            self._is_up = True
            return
        if self._interrupted:
            self._phase, self._exit_code = Phase.GONE, 130
            return
        self._interrupted = True
        if self._front is not None:
            children.kill(self._front, signal.SIGTERM)
        else:
            self._drain()

    def _drain(self) -> None:
        self._phase = Phase.DRAINING
        self._say(farewell(self._open_runs(), shared=self.settings.url is not None))
        if self.settings.url is not None:
            # on a shared server others may start runs for ever; what is left then is theirs to finish
            self._patience_ends = time.monotonic() + self.settings.drain
        self._scheduler.send(signal.SIGUSR1)

    def _look(self) -> None:
        """See who has ended, restart what has to be there, go on to the next phase."""
        children.reap_orphans(self._known())
        self._look_after_server()
        if self._front is not None and (code := children.exit_code(self._front)) is not None:
            self._front, self._exit_code = None, code
            # not "when no run is open": another graph's run, left over in this directory, is not ours to wait for
            self._phase = Phase.DRAINING
            self._scheduler.send(signal.SIGTERM)
        if self.output is not None and self._phase is not Phase.UP:
            self.output.pass_on()
        for service in (self._scheduler, self._worker):
            if (code := service.ended()) is not None and not self._may_end(service):
                delay = service.restart_later()
                self._say(f"{service.name} ended ({children.describe_exit(code)}); starting it again in {delay:g} s")
            if service.restart_at is not None and time.monotonic() >= service.restart_at:
                self._vacate_leadership()
                service.start()
        self._advance()

    def _may_end(self, service: Service) -> bool:
        """Whether the end of a service is what the phase is about, however it came about.

        A service that dies on the very signal that asks it to end had not yet got as far as to listen: it held nothing.
        """
        return self._phase is Phase.STOPPING or (self._phase is Phase.DRAINING and service is self._scheduler)

    def _advance(self) -> None:
        if self._phase is Phase.DRAINING:
            if self._patience_ends is not None and time.monotonic() >= self._patience_ends:
                self._patience_ends = None
                self._scheduler.send(signal.SIGTERM)
            if self._scheduler.pid is None:
                self._phase = Phase.STOPPING
                self._worker.send(signal.SIGTERM)
                if self._interrupted and self._exit_code == 130:
                    # the run was cancelled by Ctrl-C: its tasks need not be waited for
                    self._hurry_at = time.monotonic() + 0.2
        if self._phase is Phase.STOPPING:
            if self._hurry_at is not None and time.monotonic() >= self._hurry_at:
                self._hurry_at = None
                self._worker.send(signal.SIGTERM)
            if self._worker.pid is None:
                self._phase = Phase.GONE

    def _next_deadline(self) -> float | None:
        """Seconds until something has to be done without a signal."""
        times = (
            self._scheduler.restart_at,
            self._worker.restart_at,
            self._patience_ends,
            self._server_check_at,
            self._hurry_at,
            time.monotonic() + 0.05 if self.output is not None and self._phase is not Phase.UP else None,
        )
        due = [each for each in times if each is not None]
        return max(0.0, min(due) - time.monotonic()) if due else None

    def _look_after_server(self) -> None:
        if self._server is None:
            return
        restarts, problem = self._server.restarts, self._server.problem
        up = self._server.ensure_running()
        self._server_check_at = None if up else time.monotonic() + 0.1
        if self._server.problem and self._server.problem != problem:
            self._say(f"the server is down: {self._server.problem}; starting it again")
        elif self._server.restarts > restarts:
            self._say("the server is up again")

    def _known(self) -> set[int]:
        """Children that somebody waits for by pid."""
        server = self._server.pid if self._server else None
        pids = (server, self._scheduler.pid, self._worker.pid, self._front)
        return {pid for pid in pids if pid is not None}

    def _vacate_leadership(self) -> None:
        """Let our scheduler lead at once, not when the lease of a dead one has lapsed; for a server of our own only.

        It does what `resign` does, in the name of a scheduler of this directory that cannot do it any more. The fencing
        token stays, so nobody can act on the old leadership.
        """
        if self._server is not None and self._scheduler.pid is None:
            _ask(self._server.socket, "HSET", f"{Keys(self.settings.namespace).prefix}leader", "id", "", "until", "0")

    def _say(self, *lines: str) -> None:
        """Tell whoever started us; with JSON logs, as one of their lines."""
        if self.settings.log_format == "json":
            for line in filter(None, map(str.strip, lines)):
                log.info(line)
            return
        with contextlib.suppress(OSError):  # the terminal may be gone, the work goes on
            print(*lines, sep="\n", file=sys.stderr, flush=True)

    def _open_runs(self) -> int | None:
        """How many runs of our graphs are open, asked in plain words: this process has no Redis client."""
        if self._server is None:
            return None
        keys = Keys(self.settings.namespace)
        counts = [_ask(self._server.socket, "ZCARD", keys.open(graph.name)) for graph in self.graphs]
        return None if None in counts else sum(count or 0 for count in counts)


def _ask(path: Path, *words: str) -> int | None:
    """A server's answer to a command, where that is a number."""
    request = b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(w.encode()), w.encode()) for w in words)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(0.5)
        try:
            connection.connect(str(path))
            connection.sendall(request)
            return int(connection.recv(64).removeprefix(b":"))
        except (OSError, ValueError):
            return None
