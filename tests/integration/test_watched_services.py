"""Both services on a real server, watched while a graph runs and fails, and while the server is gone."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from tests.waiting import wait_for
from tm import codec
from tm.ids import manual_run_id
from tm.loader import load
from tm.states import RunState
from tm.store.records import NewRun
from tm.store.store import Store

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "monitor.md"

GRAPHS = """
import os, signal
from tm import Graph, task

@task()
def load(rows: int = 3):
    return rows

@task(queue="late", retries=1)
def broken(load):
    raise ValueError("no")

@task(queue="nobody")
def never(load): ...

@task()
def killed():
    os.kill(os.getpid(), signal.SIGKILL)

failing = Graph("failing")
failing.add_edges(load, broken)

ticking = Graph("ticking", "* * * * * *")
ticking.add_edges(load)

waiting = Graph("waiting")
waiting.add_edges(load, never)

dying = Graph("dying")
dying.add_edges(killed)
"""


class Watched:
    """A service on any free port."""

    def __init__(self, command, file, server, home, *options, **environment):
        self.log = home / f"{command}-{len(list(home.glob('*.log')))}.log"
        settings = {"TM_URL": server.url, "TM_HOME": str(home), "TM_LOG_FORMAT": "json", **environment}
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", command, str(file), "--metrics-port", "0", *options],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=os.environ | settings,
            )
        self.port = wait_for(self._port, f"{command} to say where it answers")

    def lines(self):
        return [json.loads(line) for line in self.log.read_text().splitlines()]

    def _port(self):
        assert self.process.poll() is None, self.log.read_text()
        text = self.log.read_text()
        found = re.search(r'"event": "answering those who watch", "host": "127.0.0.1", "port": (\d+)', text)
        return found and int(found[1])

    def get(self, path):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=30) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def is_healthy(self):
        return self.get("/healthz")[0] == 200

    def is_ready(self):
        return self.get("/readyz")[0] == 200

    def reasons(self):
        return json.loads(self.get("/readyz")[1])["reasons"]

    def names(self):
        """What it shows of its own, with or without samples."""
        return set(re.findall(r"^# TYPE (taskmaster_\w+)", self.get("/metrics")[1], re.MULTILINE))

    def metrics(self):
        """Sample values by name and sorted label values."""
        return {
            (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
            for family in text_string_to_metric_families(self.get("/metrics")[1])
            for sample in family.samples
        }

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(10)


@pytest.fixture
def place(own_server, tmp_path, nothing_stays_loaded):
    (tmp_path / "watched_graphs.py").write_text(GRAPHS)
    place = Place(own_server, tmp_path)
    yield place
    for each in place.services:
        each.close()


class Place:
    def __init__(self, server, home):
        self.server, self.home, self.file = server, home, home / "watched_graphs.py"
        self.store = Store(server.client())
        self.services = []

    def service(self, command, *options, **environment):
        service = Watched(command, self.file, self.server, self.home, *options, **environment)
        self.services.append(service)
        return service

    def start(self, graph, **params):
        run = manual_run_id(graph)
        packed = codec.encode(params) if params else b""
        self.store.start(load(self.file).graphs[graph].plan, [NewRun(id=run, params=packed)])
        return run

    def ended(self, run, state):
        wait_for(lambda: self.store.state(run) is state, f"run {run} to end {state}", 20)


def test_both_services_tell_what_goes_on(place):
    scheduler = place.service("tm_scheduler")
    worker = place.service("tm_worker", "--processes", "2", "--queue", "default", "--queue", "late")
    wait_for(scheduler.is_ready, "the scheduler to be ready")
    wait_for(worker.is_ready, "the worker to be ready")
    place.ended(place.start("failing"), RunState.FAILED)
    place.ended(place.start("dying"), RunState.FAILED)
    place.start("waiting")

    wait_for(lambda: scheduler.metrics().get(("taskmaster_runs_ended_total", "dying", "failed")), "events to be filed")
    wait_for(lambda: scheduler.metrics()["taskmaster_queue_waiting", "nobody"] == 1, "an attempt nobody takes")
    found = scheduler.metrics()
    assert found["taskmaster_scheduler_leading",] == 1
    assert found["taskmaster_scheduler_term",] == 1
    assert found["taskmaster_history_up",] == 1
    assert found["taskmaster_workers",] == 1
    assert found["taskmaster_attempts_total", "failing", "success"] == 1
    assert found["taskmaster_attempts_total", "failing", "failed"] == 2
    assert found["taskmaster_attempts_total", "dying", "killed"] == 3
    assert found["taskmaster_task_runs_total", "failing", "retrying"] == 1
    assert found["taskmaster_task_runs_total", "failing", "failed"] == 1
    assert found["taskmaster_task_runs_total", "dying", "quarantined"] == 1
    assert found["taskmaster_runs_started_total", "failing", "manual"] == 1
    assert found["taskmaster_runs_ended_total", "failing", "failed"] == 1
    assert found["taskmaster_run_seconds_count", "failing"] == 1
    assert found["taskmaster_runs_open", "waiting"] == 1
    assert found["taskmaster_queue_age_seconds", "nobody"] >= 0
    later = wait_for(
        lambda: (again := scheduler.metrics())["taskmaster_queue_age_seconds", "nobody"] > 1 and again,
        "the attempt nobody takes to grow old",
    )
    assert later["taskmaster_queue_waiting", "default"] < 3
    ticks = later["taskmaster_ticks_total", "ticking", "run"]
    assert ticks >= 1
    assert later["taskmaster_tick_lag_seconds_count", "ticking", "schedule"] <= ticks

    of_worker = worker.metrics()
    assert of_worker["taskmaster_worker_attempts_total", "failing", "failed", "broken"] == 2
    assert of_worker["taskmaster_worker_attempts_total", "dying", "killed", "killed"] == 3
    assert of_worker["taskmaster_worker_executor_deaths_total", "SIGKILL"] == 3
    assert of_worker["taskmaster_worker_task_seconds_count", "failing", "load"] == 1
    assert sum(of_worker["taskmaster_worker_executors", state] for state in ("busy", "idle", "ending", "missing")) >= 2
    assert of_worker["taskmaster_worker_server_up",] == 1

    # the documentation has exactly these
    told = set(re.findall(r"^\| `(taskmaster_\w+)`", PAGE.read_text(), re.MULTILINE))
    assert scheduler.names() | worker.names() == told

    for service in (scheduler, worker):
        service.process.send_signal(signal.SIGTERM)
    assert [service.process.wait(20) for service in (scheduler, worker)] == [0, 0]
    for line in [*scheduler.lines(), *worker.lines()]:
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line["at"])
        assert {"level", "part", "event"} <= line.keys()


def test_a_server_that_is_gone_makes_services_unready_but_not_unhealthy(place):
    services = [place.service("tm_scheduler"), place.service("tm_worker", TM_LEASE="3")]
    for service in services:
        wait_for(service.is_ready, "both to be ready")
    place.server.kill()
    for service in services:
        wait_for(lambda service=service: not service.is_ready(), "both to notice", 20)
        assert service.is_healthy()
        assert "the server is away" in service.reasons()[0]
        ups = [value for (name, *_), value in service.metrics().items() if name.endswith("server_up")]
        assert ups == [0]
        # an outage so short that its loop has made no call meanwhile is none that it comes back from
        wait_for(lambda service=service: "away" in service.log.read_text(), "its loop to notice as well", 20)
    place.server.start()
    for service in services:
        wait_for(service.is_ready, "both to be ready again", 30)
        back = [value for (name, *_), value in service.metrics().items() if name.endswith("reconnects_total")]
        assert back == [1]


def test_a_server_that_freezes_makes_them_unready_before_their_calls_give_up(place):
    services = [place.service("tm_scheduler"), place.service("tm_worker", TM_LEASE="3")]
    for service in services:
        wait_for(service.is_ready, "both to be ready")
    os.kill(place.server.pid, signal.SIGSTOP)
    try:
        for service in services:
            wait_for(lambda service=service: not service.is_ready(), "both to notice", 20)
            assert service.is_healthy()
            assert "the server is away" in service.reasons()[0]
    finally:
        os.kill(place.server.pid, signal.SIGCONT)
    for service in services:
        wait_for(service.is_ready, "both to be ready again", 30)


def test_results_that_wait_for_the_server_are_seen_to_wait(place):
    place.file.write_text(
        GRAPHS
        + f"""
import pathlib, time
@task()
def long():
    pathlib.Path({str(place.home / "began")!r}).touch()
    while not pathlib.Path({str(place.home / "go")!r}).exists():
        time.sleep(0.01)

lasting = Graph("lasting")
lasting.add_edges(long)
"""
    )
    # with everysec a server that is killed may have lost the claim, and then rightly refuses the result
    place.store.client.config_set("appendfsync", "always")
    worker = place.service("tm_worker", TM_LEASE="60")
    wait_for(worker.is_ready, "the worker to be ready")
    place.start("lasting")
    wait_for((place.home / "began").exists, "the task to begin")
    busy = worker.metrics()
    assert busy["taskmaster_worker_claims",] == busy["taskmaster_worker_executors", "busy"] == 1
    place.server.kill()
    (place.home / "go").touch()
    wait_for(lambda: worker.metrics()["taskmaster_worker_reports_spooled",] == 1, "the result to be on disk", 20)
    waiting = worker.metrics()
    assert waiting["taskmaster_worker_reports_waiting",] == 1
    assert waiting["taskmaster_worker_claims",] == 0
    assert ("taskmaster_worker_attempts_total", "lasting", "success", "long") not in waiting
    place.server.start()
    delivered = ("taskmaster_worker_attempts_total", "lasting", "success", "long")
    wait_for(lambda: worker.metrics().get(delivered) == 1, "the result to be delivered", 30)
    assert worker.metrics()["taskmaster_worker_reports_spooled",] == 0


def test_a_standby_shows_only_itself_so_that_sums_count_nothing_twice(place):
    leader = place.service("tm_scheduler")
    wait_for(leader.is_ready, "the first to lead")
    standby = place.service("tm_scheduler")
    wait_for(standby.is_ready, "the second to stand by")
    assert standby.names() == {
        "taskmaster_scheduler_info",
        "taskmaster_scheduler_leading",
        "taskmaster_scheduler_server_up",
        "taskmaster_scheduler_reconnects_total",
    }
    assert standby.metrics()["taskmaster_scheduler_leading",] == 0
    leader.process.send_signal(signal.SIGTERM)
    wait_for(lambda: standby.metrics()["taskmaster_scheduler_leading",] == 1, "the standby to lead")
    assert standby.metrics()["taskmaster_scheduler_term",] == 2


def test_nothing_listens_and_nothing_is_loaded_unless_a_port_is_named(place):
    code = (
        "import sys, threading\n"
        "from pathlib import Path\n"
        "from tm.config import Settings\n"
        "from tm.loader import load\n"
        "from tm_worker.service import serve\n"
        "code = serve(list(load(Path(sys.argv[1])).graphs.values()), Settings.from_environment(), burst=True)\n"
        "print(code, [name for name in sys.modules if 'prometheus' in name or name in ('http.server', 'tm.monitor')])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(place.file)],
        env=os.environ | {"TM_URL": place.server.url, "TM_HOME": str(place.home)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "0 []\n"


@pytest.mark.parametrize("command", ["tm_scheduler", "tm_worker"])
def test_a_port_that_is_taken_ends_the_service_with_2_and_a_reason(place, command):
    first = place.service("tm_scheduler")
    done = subprocess.run(
        [sys.executable, "-m", command, str(place.file), "--metrics-port", str(first.port)],
        env=os.environ | {"TM_URL": place.server.url, "TM_HOME": str(place.home)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 2
    assert f"TM_METRICS_PORT={first.port}" in done.stderr
    assert "Traceback" not in done.stderr


def test_executors_inherit_neither_the_port_nor_the_thread_of_those_who_watch(place):
    place.file.write_text(
        GRAPHS
        + """
@task()
def look():
    import threading
    inodes = {os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{fd}")}
    listening = [line.split()[9] for line in open("/proc/self/net/tcp") if line.split()[3] == "0A"]
    import sys
    return [[i for i in listening if f"socket:[{i}]" in inodes], threading.active_count(), "prometheus_client" in sys.modules]

looking = Graph("looking")
looking.add_edges(look)
"""
    )
    worker = place.service("tm_worker")
    wait_for(worker.is_ready, "the worker to be ready")
    run = place.start("looking")
    place.ended(run, RunState.SUCCESS)
    assert codec.decode(place.store.result(run)) == [[], 1, False]


def test_alerts_of_the_page_are_about_metrics_that_are_there():
    text = PAGE.read_text()
    told = set(re.findall(r"^\| `(taskmaster_\w+)`", text, re.MULTILINE))
    *_, block = re.findall(r"^```yaml\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    rules = yaml.safe_load(block)["groups"][0]["rules"]
    assert len(rules) == 5
    for rule in rules:
        used = set(re.findall(r"taskmaster_\w+", rule["expr"]))
        assert used, rule
        assert {name.removesuffix("_bucket") for name in used} <= told
        assert rule["expr"].count("(") == rule["expr"].count(")")


@pytest.mark.parametrize("module", ["tm_worker", "tm_scheduler"])
def test_a_service_that_cannot_start_says_so_in_the_form_of_its_log(tmp_path, module):
    (tmp_path / "broken.py").write_text("import nothing_of_this_name\n")
    command = [sys.executable, "-m", module, "broken.py", "--log-format"]
    plain, lines = (
        subprocess.run([*command, how], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)
        for how in ("text", "json")
    )
    assert (plain.returncode, lines.returncode) == (2, 2)
    assert plain.stderr.startswith(f"{module.replace('_', '-')}: cannot load broken.py: ModuleNotFoundError")
    [line] = map(json.loads, lines.stderr.splitlines())
    assert (line["level"], line["event"]) == ("error", "cannot start")
    assert line["reason"].startswith("cannot load broken.py: ModuleNotFoundError")
