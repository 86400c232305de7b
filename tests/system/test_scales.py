"""One file, three scales: in this process, on an embedded stack, on several workers of a server; the results are equal."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.servers import Server
from tests.system.terminal import Terminal, run
from tests.waiting import wait_for
from tm import loader

if TYPE_CHECKING:
    from collections.abc import Iterator

GRAPHS = Path(__file__).parents[1] / "seed"

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("nothing_stays_loaded")]

LONG = """
import time
from tm import Executor, Graph, task

graph = Graph(name="long", schedule="0 6 * * *")

@task()
def first():
    return 1

@task()
def second(first):
    open("begun.txt", "a").close()
    time.sleep(1.5)
    return first + 1

@task()
def third(second):
    return second + 1

graph.add_edges([first], [second])
graph.add_edges([second], [third])
Executor(graphs=[graph]).start()
"""


@pytest.fixture
def tcp_server() -> Iterator[Server]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = Server(persist=True, port=port).start()
    yield server
    server.close()


class Cluster:
    """A scheduler and workers for one file on one server, each in a terminal of its own."""

    def __init__(
        self, stack: ExitStack, directory: Path, file: str, server: Server, *, workers: int, **more: str
    ) -> None:
        self.directory, self.url = directory, server.url
        history = f"sqlite:///{directory.parent}/history.db"
        self.settings = {"TM_URL": server.url, "TM_LEASE": "3", "TM_HISTORY": history, **more}
        self.scheduler = self._open(stack, "scheduler", "tm-scheduler", file)
        self.workers = [self._open(stack, f"worker{number}", "tm-worker", file) for number in range(workers)]
        client = server.client()
        stack.callback(client.close)
        wait_for(lambda: client.scard("rq:workers") == workers, f"{workers} workers to be registered", 30)

    def _open(self, stack: ExitStack, name: str, *command: str) -> Terminal:
        home = self.directory.parent / name
        shutil.copytree(self.directory, home)
        return stack.enter_context(Terminal(home, *command, **self.settings))

    def run(self, target: str) -> dict[str, Any]:
        """`tm run` in yet another terminal."""
        return document(run(self.directory, "tm", "--json", "run", target, **self.settings))

    def end(self) -> list[int]:
        """Ctrl-C everywhere."""
        return [terminal.interrupt() for terminal in (self.scheduler, *self.workers)]


def document(done: Any) -> dict[str, Any]:
    assert done.returncode == 0, done.stderr
    item: dict[str, Any] = json.loads(done.stdout)["items"][0]
    return item


@pytest.mark.parametrize("target", ["message_passing.py", "nested.py:nested", "readme_dag.py", "readme_config.py"])
def test_the_results_are_equal(tmp_path: Path, tcp_server: Server, target: str) -> None:
    directory = Path(shutil.copytree(GRAPHS, tmp_path / "graphs"))
    file, _, name = target.partition(":")
    here = loader.load(directory / file).graph(name or None)()
    embedded = document(run(directory, "tm", "--json", "run", target))
    with ExitStack() as stack:
        cluster = Cluster(stack, directory, file, tcp_server, workers=3)
        distributed = cluster.run(target)
        assert cluster.end() == [0, 0, 0, 0]

    assert embedded["result"] == distributed["result"] == here
    assert embedded["version"] == distributed["version"]
    assert [(task["name"], task["state"], len(task["attempts"])) for task in embedded["tasks"]] == [
        (task["name"], task["state"], len(task["attempts"])) for task in distributed["tasks"]
    ]


def test_a_run_survives_the_sudden_death_of_its_worker(tmp_path: Path, tcp_server: Server) -> None:
    directory = tmp_path / "graphs"
    directory.mkdir()
    (directory / "long.py").write_text(LONG)
    with ExitStack() as stack:
        cluster = Cluster(stack, directory, "long.py", tcp_server, workers=2, TM_PROCESSES="1")
        watching = stack.enter_context(Terminal(directory, "tm", "--json", "run", "long.py", **cluster.settings))

        def holder() -> Terminal | None:
            return next((each for each in cluster.workers if (each.directory / "begun.txt").exists()), None)

        worker = wait_for(holder, "a worker to begin the second task")
        os.kill(worker.process.pid, signal.SIGKILL)
        assert watching.process.wait(40) == 0, watching.text
        (other,) = (each for each in cluster.workers if each is not worker)
        wait_for((other.directory / "begun.txt").exists, "the other worker to have begun it again")
        ended = json.loads(watching.text)["items"][0]
        assert (ended["state"], ended["result"]) == ("success", 3)

        def second() -> list[str]:
            shown = document(run(directory, "tm", "--json", "show", ended["id"], **cluster.settings))
            (task,) = (task for task in shown["tasks"] if task["name"] == "second")
            return [attempt["outcome"] for attempt in task["attempts"]]

        wait_for(lambda: second() == ["lost", "success"], "history to have both attempts", interval=0.3)
        wait_for(lambda: worker.left() == [], "the dead worker's processes to be gone too")
