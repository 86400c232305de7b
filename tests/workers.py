"""Real worker processes for tests, on graph files written for the occasion."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tests.waiting import wait_for
from tm import codec, ids
from tm.loader import load
from tm.states import FINAL_RUN_STATES, RunState
from tm.store.records import NewRun

if TYPE_CHECKING:
    import signal
    from collections.abc import Iterator
    from pathlib import Path
    from typing import Any

    from tm.graph import Graph
    from tm.store.records import RunView, TaskRunView
    from tm.store.store import Store


class WorkerProcess:
    """One `tm-worker`."""

    def __init__(self, file: Path, url: str, home: Path, *options: str, **environment: str) -> None:
        self.log = home / f"worker-{ids.new_token()}.log"
        self.out = self.log.with_suffix(".out")
        settings = {"TM_URL": url, "TM_HOME": str(home), "TM_LOG_LEVEL": "debug", **environment}
        with self.log.open("wb") as log, self.out.open("wb") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tm_worker", str(file), *options],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=log,
                env=os.environ | settings,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self.process.pid

    def said(self, text: str) -> bool:
        """Whether its log holds this."""
        return text in self.log.read_text()

    def printed(self) -> list[str]:
        """What its tasks printed, by line."""
        return self.out.read_text().splitlines()

    def signal(self, signum: signal.Signals) -> None:
        self.process.send_signal(signum)

    def end(self, timeout: float = 15.0) -> int:
        """Its exit code, once it ends by itself."""
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the worker does not end; its log:\n{self.log.read_text()}") from None

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(10)


class Site:
    """A graph file, a home directory, a store, and the workers of one test."""

    def __init__(self, folder: Path, url: str, store: Store) -> None:
        self.folder, self.url, self.store = folder, url, store
        self.file = folder / "graphs.py"
        self.home = folder / "home"
        self.home.mkdir()
        self.graphs: dict[str, Graph] = {}
        self.workers: list[WorkerProcess] = []

    def write(self, source: str) -> None:
        """Write the graph file, with `notes` as a place for tasks to leave something."""
        notes = self.folder / "notes"
        notes.mkdir(exist_ok=True)
        head = f"import os, pathlib, signal, sys, time\nimport tm\nfrom tm import Graph, task\nnotes = pathlib.Path({str(notes)!r})\n"
        self.file.write_text(head + textwrap.dedent(source))
        self.graphs = load(self.file).graphs

    def noted(self, name: str) -> str:
        """What a task left under this name; empty when it has not."""
        path = self.folder / "notes" / name
        return path.read_text() if path.exists() else ""

    def worker(self, *options: str, wait: bool = True, **environment: str) -> WorkerProcess:
        """Start a worker, and wait until it is known to the server."""
        before = len(self.store.client.smembers("rq:workers")) if wait else 0
        worker = WorkerProcess(self.file, self.url, self.home, *options, **environment)
        self.workers.append(worker)
        if wait:

            def known() -> bool:
                assert worker.process.poll() is None, worker.log.read_text()
                return len(self.store.client.smembers("rq:workers")) > before

            wait_for(known, "the worker to be known")
        return worker

    def start(self, graph: str, **params: Any) -> str:
        """Start a run; its id."""
        plan = self.graphs[graph].plan
        run = ids.manual_run_id(graph)
        assert self.store.start(plan, [NewRun(id=run, params=codec.encode(params) if params else b"")]) == [True]
        return run

    def view(self, run: str) -> RunView:
        view = self.store.run(run)
        assert view is not None
        return view

    def task(self, run: str, name: str) -> TaskRunView:
        return next(each for each in self.view(run).tasks if each.task == name)

    def ended(self, run: str, timeout: float = 15.0) -> RunView:
        """The run, once it has ended."""

        def closed() -> RunView | None:
            view = self.view(run)
            return view if view.state in FINAL_RUN_STATES else None

        try:
            return wait_for(closed, f"run {run} to end", timeout)
        except AssertionError as error:
            logs = "\n".join(worker.log.read_text() for worker in self.workers)
            raise AssertionError(f"{error}\n{self.view(run)}\n{logs}") from None

    def result(self, graph: str, **params: Any) -> Any:
        """The value of a run that is started now and has to succeed."""
        run = self.start(graph, **params)
        view = self.ended(run)
        assert view.state is RunState.SUCCESS, [codec.decode(each.error) for each in view.tasks if each.error]
        value = self.store.result(run)
        assert value is not None
        return codec.decode(value)

    def error(self, run: str, name: str) -> dict[str, Any]:
        """How the last attempt of a task failed."""
        fields = codec.decode(self.task(run, name).error)
        assert isinstance(fields, dict)
        return fields

    def close(self) -> None:
        for worker in self.workers:
            worker.close()


@contextmanager
def site_at(folder: Path, url: str, store: Store) -> Iterator[Site]:
    site = Site(folder, url, store)
    try:
        yield site
    finally:
        site.close()
