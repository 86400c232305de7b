"""`serve` as other services use it, several workers side by side, and namespaces."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

from tests.workers import site_at
from tm import codec, ids
from tm.config import Settings
from tm.graph import Graph, task
from tm.states import RunState
from tm.store.records import NewRun
from tm.store.store import Store
from tm_worker.service import serve

if TYPE_CHECKING:
    from pathlib import Path

    from tests.servers import Server
    from tests.workers import Site


@task()
def double(n: int) -> int:
    return n * 2


@task(queue="late")
def text(double: int) -> str:
    return str(double)


graph = Graph("service")
graph.add_edges([double], [text])


def test_serve_says_when_it_is_ready_and_ends_with_0(server: Server, tmp_path: Path) -> None:
    reader, writer = os.pipe()
    settings = Settings(url=server.url, home=tmp_path, namespace="blue", lease=10)
    pid = os.fork()
    if pid == 0:
        code = 99
        try:
            code = serve([graph], settings, processes=1, ready=lambda: os.write(writer, b"!"))
        finally:
            os._exit(code)
    assert os.read(reader, 1) == b"!"
    os.close(reader)
    os.close(writer)
    client = server.client()
    try:
        store = Store(client, "blue")
        assert client.smembers("rq:workers:blue.default") == client.smembers("rq:workers:blue.late") != set()
        with site_at(tmp_path, server.url, store) as site:
            run = ids.manual_run_id("service")
            store.start(graph.plan, [NewRun(id=run, params=codec.encode({"n": 21}))])
            assert site.ended(run).state is RunState.SUCCESS
            assert codec.decode(store.result(run) or b"") == "42"
    finally:
        os.kill(pid, signal.SIGTERM)
        _, status = os.waitpid(pid, 0)
        client.close()
    assert os.waitstatus_to_exitcode(status) == 0


def test_workers_share_the_work_and_each_attempt_runs_once(site: Site) -> None:
    site.write("""
        @task()
        def root(n=0):
            (notes / "begun").open("a").write("r")
            return n
        @task()
        def left(root): return root + 1
        @task(queue="other")
        def right(root): return root + 2
        @task()
        def last(left, right): return left * right
        graph = Graph("dia"); graph.add_edges([root], [left, right]); graph.add_edges([left, right], [last])
    """)
    for _ in range(3):
        site.worker("--processes", "2")
    runs = {n: site.start("dia", n=n) for n in range(60)}
    for n, run in runs.items():
        view = site.ended(run)
        assert view.state is RunState.SUCCESS
        assert codec.decode(site.store.result(run) or b"") == (n + 1) * (n + 2)
        assert {each.attempt for each in view.tasks} == {1}
    assert site.noted("begun") == "r" * 60
    workers = {each.worker for run in runs.values() for each in site.view(run).tasks}
    assert len(workers) > 1


def test_a_worker_that_ended_leaves_nothing_for_ever(site: Site) -> None:
    site.write("""
        @task()
        def one(): return 1
        graph = Graph("one"); graph.add_edges([one])
    """)
    worker = site.worker()
    for _ in range(5):
        site.result("one")
    worker.signal(signal.SIGTERM)
    assert worker.end() == 0
    client = site.store.client
    lasting = {key.decode() for key in client.keys("*") if client.ttl(key) == -1}
    ours = ("rq:worker", "rq:job", "rq:queue:", "tm:default:worker", "tm:default:offers", "tm:default:leases")
    assert not [key for key in lasting if key.startswith(ours)]
