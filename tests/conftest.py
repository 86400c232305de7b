"""Fixtures for the whole suite: a real server, a client, a store on an empty database."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import redis

    from tests.servers import Server
    from tests.workers import Site
    from tm.store.store import Store


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--nightly", action="store_true", help="also run the tests marked nightly")


#: what takes longest, in this order: played side by side (`make tests`), it begins first, or all would wait for its end
LONGEST = (
    "tests/system/faults/",
    "tests/store/test_model.py",
    "tests/system/",
    "tests/integration/",
    "tests/packaging/",
)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("nightly") and not config.getoption("--nightly"):
            item.add_marker(pytest.mark.skip(reason="nightly only (--nightly)"))
    if config.pluginmanager.hasplugin("xdist"):
        _side_by_side(config, items)


def _side_by_side(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The tests of a file share servers and clusters, so one process plays them all, unless a test has a group of its own."""
    if not (config.getoption("numprocesses", None) or hasattr(config, "workerinput")):
        return
    for item in items:
        if not item.get_closest_marker("xdist_group"):
            item.add_marker(pytest.mark.xdist_group(item.nodeid.partition("::")[0]))
    items.sort(key=lambda item: next((rank for rank, path in enumerate(LONGEST) if item.nodeid.startswith(path)), 9))


@pytest.fixture(scope="session")
def session_server() -> Iterator[Server]:
    """The one server process of the session; tests use `server`."""
    from tests.servers import Server

    server = Server().start()
    yield server
    server.close()


@pytest.fixture
def server(session_server: Server) -> Server:
    """A running server with an empty database (loaded functions stay)."""
    client = session_server.client()
    client.flushall()
    client.close()
    return session_server


@pytest.fixture
def own_server() -> Iterator[Server]:
    """A persistent server of the test's own, to be killed and started again."""
    from tests.servers import Server

    server = Server(persist=True).start()
    yield server
    server.close()


@pytest.fixture
def client(server: Server) -> Iterator[redis.Redis]:
    """A client of `server`."""
    client = server.client()
    yield client
    client.close()


@pytest.fixture
def store(client: redis.Redis) -> Store:
    """A store on the empty database."""
    from tm.store.store import Store

    return Store(client)


@pytest.fixture
def site(tmp_path: Path, server: Server, store: Store) -> Iterator[Site]:
    """A place for a graph file and real workers on it."""
    from tests.workers import site_at

    with site_at(tmp_path, server.url, store) as site:
        yield site


@pytest.fixture
def nothing_stays_loaded() -> Iterator[None]:
    """For tests that load graph files in this process: their modules would be in the way of files of the same name."""
    from tm import loader

    before, path = set(sys.modules), sys.path[:]
    known = dict(loader._modules), loader._executors[:], set(loader._folders)
    yield
    for name in set(sys.modules) - before:
        module = sys.modules[name]
        if any(str(folder) in str(getattr(module, "__file__", "")) for folder in loader._folders - known[2]):
            del sys.modules[name]
    sys.path[:] = path
    loader._modules, loader._executors, loader._folders = known
