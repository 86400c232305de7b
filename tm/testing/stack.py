"""A real server, scheduler and worker for tests: started in a directory of their own, and gone with it."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tm.config import environment_with, within
from tm.errors import RefusedError, TaskmasterError
from tm.testing.result import RemoteError, RunResult, TaskResult

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime
    from typing import Self

    from tm.client import Client
    from tm.config import Settings
    from tm.graph import Graph
    from tm.runinfo import TaskInfo

#: seconds for the services to be there, and to end in good order
START_PATIENCE, STOP_PATIENCE = 60.0, 20.0


class EmbeddedStack:
    """Graphs on a real server, scheduler and worker, as children of a process beside this one.

        with EmbeddedStack("my_graph.py") as stack:
            run = stack.run(graph, rows=3).assert_success()

    Args:
        targets: graph files, directories, names of modules, or graphs, whose files are then loaded there.
        processes: tasks that run at the same time.
        schedules: put the graphs on the clock too; by default only what is started by hand runs.
        environment: more variables for the services and their tasks, such as `TM_LEASE`.
    """

    def __init__(
        self, *targets: Graph | str | Path, processes: int = 2, schedules: bool = False, **environment: str
    ) -> None:
        if not targets:
            raise TypeError("EmbeddedStack needs a graph file, a module's name or a graph")
        self._targets = list(dict.fromkeys(map(_target, targets)))
        self._processes, self._schedules, self._environment = processes, schedules, environment
        self._process: subprocess.Popen[bytes] | None = None
        self._home: Path | None = None
        self._client: Client | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def home(self) -> Path:
        """The directory of server and history; it goes with the stack."""
        if self._home is None:
            raise RefusedError("this stack does not run; use it in a with statement")
        return self._home

    @property
    def settings(self) -> Settings:
        """As for any other process that uses this stack."""
        from tm.config import Settings

        return Settings(home=self.home)

    @property
    def environment(self) -> dict[str, str]:
        """What another process has to be told to use this stack: `graph.submit()`, `tm`."""
        return {"TM_URL": self.settings.server_url(), "TM_HOME": str(self.home), "TM_NAMESPACE": "default"}

    @property
    def client(self) -> Client:
        """To start, watch and cancel runs."""
        if self._client is None:
            from tm.wiring import open_client

            self._client = open_client(self.settings)
        return self._client

    @property
    def output(self) -> str:
        """What the services said and the tasks printed so far."""
        return (self.home / "output").read_text(errors="replace")

    def start(self) -> None:
        """Start the services and wait until they are ready.

        Raises:
            TaskmasterError: they are not, with what they said: a graph file that cannot be loaded, for example.
        """
        if self._process is not None:
            raise RefusedError("this stack runs already")
        self._home = Path(tempfile.mkdtemp(prefix="tm-stack-"))  # short: a socket's path has little room
        command = [sys.executable, "-m", "tm.testing.services", str(os.getpid()), str(int(self._schedules))]
        variables = {
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
            "TM_HOME": str(self._home),
            "TM_PROCESSES": str(self._processes),
            "TM_LEASE": "15",  # what is cancelled at the end of a test ends within a sixth of it
            **self._environment,
        }
        try:
            with (self._home / "output").open("wb") as output:
                self._process = subprocess.Popen(
                    [*command, *self._targets],
                    env=environment_with(variables),
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            self._await_services()
        except BaseException:
            self.stop()
            raise

    def _await_services(self) -> None:
        import redis.exceptions

        from tm.embedded import alive

        until = time.monotonic() + START_PATIENCE
        while True:
            assert self._process is not None  # noqa: S101 - the caller has just started it
            if (code := self._process.poll()) is not None:
                raise TaskmasterError(f"the embedded stack ended with exit code {code}:\n{self.output}")
            if alive(self.home) is not None:
                with contextlib.suppress(redis.exceptions.RedisError):
                    scene = self.client.store.scene()
                    if scene.workers and scene.leader is not None and scene.leader.who:
                        return
            if time.monotonic() > until:
                raise TaskmasterError(f"the embedded stack is not ready after {START_PATIENCE:g} s:\n{self.output}")
            time.sleep(0.02)

    def stop(self) -> None:
        """End the services, whatever they are at, and remove their directory."""
        process, self._process = self._process, None
        home, self._home = self._home, None
        client, self._client = self._client, None
        if client is not None:
            client.store.client.close()
        try:
            if process is not None:
                _end(process)
        finally:
            if home is not None:
                _remove(home)

    # Runs -----------------------------------------------------------------------------------------------------------

    def run(
        self,
        graph: Graph,
        params: dict[str, Any] | None = None,
        /,
        *,
        tick: datetime | None = None,
        timeout: float = 60.0,
        **more: Any,
    ) -> RunResult:
        """Start a run on the worker, wait for its end, and return what came of it, whether it succeeded or not.

        Args:
            graph: one of those that were loaded.
            params: for its roots, or by name.
            tick: the instant the run is for, aware.
            timeout: seconds to wait.
            more: params by name.

        Raises:
            TimeoutError: it is still open; it is cancelled, and the error says what the services said.
        """
        before = len(self.output)
        handle = self.client.submit(graph, {**(params or {}), **more}, tick=tick)
        try:
            handle.wait(timeout)
        except TimeoutError as error:
            handle.cancel()
            error.add_note(f"--- the services said:\n{self.output[before:]}")
            raise
        return self.result(handle.id, output_from=before)

    def result(self, run: str, *, output_from: int = 0) -> RunResult:
        """What came of a run that somebody has started here and that has ended."""
        from tm import codec

        info = self.client.run(run)
        if info.is_open:
            raise RefusedError(f"run {run} is {info.state}; wait for its end first")
        store = self.client.store
        values = {
            task.name: codec.decode(value)
            for node, task in enumerate(info.tasks)
            if (value := store.message(run, node)) is not None
        }
        tasks = {task.name: _task_result(task, values.get(task.name)) for task in info.tasks}
        return RunResult(
            id=info.id,
            graph=info.graph,
            state=info.state,
            tasks=tasks,
            value=next(reversed(tasks.values())).value if tasks else None,
            tick=info.tick,
            params=codec.decode(info.params) if info.params else {},
            output=self.output[output_from:],
        )

    def cancel_all(self) -> list[str]:
        """End all open runs; returns their ids. For the time between two tests that share a stack."""
        found = self.client.open_runs()
        for run in found:
            self.client.cancel(run, reason="the test is over", grace=0.5)
        return found

    @contextlib.contextmanager
    def in_environment(self) -> Iterator[None]:
        """Have `graph.submit()` and other programs that are started meanwhile use this stack."""
        with within(self.environment):
            yield


def _target(target: Graph | str | Path) -> str:
    return str(getattr(target, "file", target))


def _task_result(task: TaskInfo, value: Any) -> TaskResult:
    errors = [each.error for each in task.attempts if each.error is not None]
    last = RemoteError(errors[-1].type, errors[-1].message, errors[-1].traceback) if errors else None
    return TaskResult(
        name=task.name,
        state=task.state,
        attempts=max((each.number for each in task.attempts), default=task.attempt),
        value=value,
        error=last,
        reason=task.reason,
    )


def _end(process: subprocess.Popen[bytes]) -> None:
    """Twice Ctrl-C, which stops at once; what does not end then is killed with all that belongs to it."""
    for signum, patience in ((signal.SIGTERM, 0.1), (signal.SIGTERM, STOP_PATIENCE), (signal.SIGKILL, STOP_PATIENCE)):
        if process.poll() is not None:
            return
        process.send_signal(signum)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(patience)


def _remove(home: Path) -> None:
    from tm.embedded import socket_path

    socket_path(home).unlink(missing_ok=True)  # it may lie elsewhere, see there
    shutil.rmtree(home, ignore_errors=True)
