"""docker-compose.yml and the Dockerfiles, without Docker: read, and each service's command run as a local process."""

from __future__ import annotations

import os
import re
import shlex
import signal
import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest
import redis
import yaml

from tests.servers import require_binary
from tests.waiting import wait_for

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
SERVICES: dict[str, dict] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
OURS = ("scheduler", "worker")
DOCKERFILES = {name: ROOT / SERVICES[name]["build"]["dockerfile"] for name in OURS}


# What the files say


def test_the_server_keeps_every_write_and_forgets_nothing() -> None:
    valkey = SERVICES["valkey"]
    assert valkey["image"] == "valkey/valkey:9"
    options = valkey["command"]
    assert options[options.index("--appendonly") + 1] == "yes"
    assert options[options.index("--maxmemory-policy") + 1] == "noeviction"
    assert valkey["volumes"] == ["valkey:/data"]
    assert "valkey-cli" in valkey["healthcheck"]["test"]


@pytest.mark.parametrize("name", OURS)
def test_services_wait_for_a_healthy_server(name: str) -> None:
    assert SERVICES[name]["depends_on"] == {"valkey": {"condition": "service_healthy"}}
    assert SERVICES[name]["environment"]["TM_URL"] == "redis://valkey:6379/0"


def test_workers_can_be_scaled() -> None:
    assert not {"container_name", "ports", "hostname"} & SERVICES["worker"].keys()


def test_a_worker_gets_the_time_it_takes_to_drain() -> None:
    grace = int(SERVICES["worker"]["stop_grace_period"].removesuffix("s"))
    assert grace > int(SERVICES["worker"]["environment"]["TM_DRAIN_TIMEOUT"]) + 10


@pytest.mark.parametrize("name", OURS)
def test_services_are_watched_from_outside_their_container(name: str) -> None:
    service = SERVICES[name]
    port = service["environment"]["TM_METRICS_PORT"]
    assert service["environment"]["TM_METRICS_HOST"] == "0.0.0.0"
    assert f"http://127.0.0.1:{port}/healthz" in service["healthcheck"]["test"][-1]
    assert f"port: {port}" in (ROOT / "docs" / "how-to" / "monitor.md").read_text()


@pytest.mark.parametrize("name", OURS)
def test_images_run_as_somebody_else_than_root_and_without_tools_for_developers(name: str) -> None:
    instructions = [line.split(maxsplit=1) for line in DOCKERFILES[name].read_text().splitlines() if line[:1].isupper()]
    words = [instruction for instruction, _ in instructions]
    final = instructions[max(i for i, word in enumerate(words) if word == "FROM") :]
    users = [rest for instruction, rest in final if instruction == "USER"]
    assert users == ["tm"]
    assert final[0] == ["FROM", "python:3.13-slim"]
    assert "--group" not in DOCKERFILES[name].read_text()


@pytest.mark.parametrize("name", OURS)
def test_what_a_dockerfile_copies_exists_and_is_not_ignored(name: str) -> None:
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    for sources in re.findall(r"^COPY (?!--)(.+) \S+$", DOCKERFILES[name].read_text(), re.MULTILINE):
        for source in sources.split():
            assert (ROOT / source).exists()
            assert source in kept


@pytest.mark.parametrize("name", OURS)
def test_compose_and_image_agree_on_the_command(name: str) -> None:
    said = re.search(r"^CMD (\[.*\])$", DOCKERFILES[name].read_text(), re.MULTILINE)
    assert said
    assert yaml.safe_load(said[1]) == SERVICES[name]["command"]


# What the services do


GRAPH = """
import os
from tm import Executor, Graph, task

graph = Graph(name="composed", schedule="*/1 * * * * *")

@task()
def who():
    return os.getpid()

@task()
def leaf(who):
    return {"who": who}

graph.add_edges([who], [leaf])
Executor(graphs=[graph]).start()
"""


class Service:
    """A service's command with its environment, its volumes in a directory, and its hosts on the loopback address."""

    def __init__(self, name: str, directory: Path, hosts: dict[str, str], volumes: dict[str, Path]) -> None:
        service = SERVICES[name]
        mounted = {target: str(local) for target, local in volumes.items()}
        command = [mounted.get(part, part) for part in service["command"]]
        self.log = directory / f"{name}.{len(list(directory.glob(f'{name}.*')))}.log"
        environment = {"PATH": f"{BIN}:{os.environ['PATH']}", "HOME": str(directory)}
        for variable, value in service.get("environment", {}).items():
            text = re.sub(r"\$\{\w+:-(.*?)\}", r"\1", value)
            for host, address in hosts.items():
                text = text.replace(host, address)
            environment[variable] = text
        # a container has its ports to itself
        self.port = environment["TM_METRICS_PORT"] = str(free_port())
        self.check = [part.replace(":9100/", f":{self.port}/") for part in service["healthcheck"]["test"][1:]]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                command, cwd=volumes["/data"], env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def is_healthy(self) -> bool:
        """As `docker compose ps` finds out."""
        return subprocess.run([BIN / self.check[0], *self.check[1:]], capture_output=True, check=False).returncode == 0

    def end(self) -> int:
        """As `docker compose stop` does."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(45)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_the_composed_services_run_a_graph_and_end_in_good_order(tmp_path: Path) -> None:
    graphs, data, server_data = tmp_path / "graphs", tmp_path / "data", tmp_path / "valkey"
    for folder in (graphs, data, server_data):
        folder.mkdir()
    (graphs / "composed.py").write_text(GRAPH)
    port = free_port()
    hosts = {"valkey:6379": f"127.0.0.1:{port}"}
    volumes = {"/app/graphs": graphs, "/data": data}

    with ExitStack() as stack:
        command = [require_binary(), *SERVICES["valkey"]["command"][1:], "--port", str(port), "--bind", "127.0.0.1"]
        with (tmp_path / "valkey.log").open("wb") as log:
            server = subprocess.Popen(command, cwd=server_data, stdout=log, stderr=log)
        stack.callback(server.wait)
        stack.callback(server.kill)
        client = stack.enter_context(redis.Redis(port=port))
        wait_for(lambda: answers(client), "the composed server to be healthy")

        services = []
        for name in ("scheduler", "worker", "worker"):
            service = Service(name, tmp_path, hosts, volumes)
            stack.callback(service.close)
            services.append(service)

        def tm(*arguments: str) -> str:
            environment = {"PATH": os.environ["PATH"], "TM_URL": f"redis://127.0.0.1:{port}/0", "HOME": str(tmp_path)}
            done = subprocess.run(
                [BIN / "tm", *arguments], cwd=data, env=environment, capture_output=True, text=True, check=False
            )
            return done.stdout if done.returncode == 0 else ""

        def logs() -> str:
            return "\n".join(f"--- {service.log.name}\n{service.log.read_text()[-3000:]}" for service in services)

        try:
            wait_for(lambda: "success" in tm("runs", "composed"), "a composed run to succeed", 60, 0.5)
            assert client.scard("rq:workers") == 2
            assert [service.is_healthy() for service in services] == [True, True, True]
            assert [service.end() for service in services] == [0, 0, 0]
        except (AssertionError, subprocess.TimeoutExpired) as error:
            error.add_note(logs())
            raise
        assert not services[0].is_healthy(), "the check can fail"
        assert client.scard("rq:workers") == 0
        assert client.config_get("appendonly") == {"appendonly": "yes"}


def answers(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.exceptions.ConnectionError:
        return False


def test_the_comments_of_the_compose_file_are_commands_that_exist() -> None:
    for line in re.findall(
        r"^# (docker compose .+?)(?:  .*)?$", (ROOT / "docker-compose.yml").read_text(), re.MULTILINE
    ):
        words = shlex.split(line)
        assert words[2] in {"up", "exec"}
        if words[2] == "up":
            assert words[4].partition("=")[0] in SERVICES
        else:
            assert words[3] in SERVICES
