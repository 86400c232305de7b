"""What those who watch a service are told, over a real port, by a service that turns and by one that hangs."""

from __future__ import annotations

import json
import socket
import threading
import time
import urllib.error
import urllib.request
from contextlib import contextmanager

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.waiting import wait_for
from tm import monitor
from tm.errors import SettingsError
from tm.monitor import BOUND, BUCKETS, FRESH, MOST_SERIES, OTHER, Counts, Monitor, Pulse, Seconds, counter, histogram


class Figures:
    def __init__(self, *metrics):
        self.metrics = metrics

    def collect(self):
        return self.metrics


@contextmanager
def listening(*metrics, alive=lambda: "", ready=list, host="127.0.0.1"):
    monitor = Monitor(host, 0, collector=Figures(*metrics), alive=alive, ready=ready)
    monitor.start()
    try:
        yield monitor.port
    finally:
        monitor.stop()


def get(port, path, **headers):
    try:
        with urllib.request.urlopen(
            urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers=headers), timeout=10
        ) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_a_service_that_turns_is_alive_and_one_that_has_not_for_long_is_not():
    now = [100.0]
    woken = []
    pulse = Pulse(lambda: woken.append(now[0]), monotonic=lambda: now[0])
    assert (pulse.problem(), woken) == ("", [])
    now[0] += FRESH
    assert (pulse.problem(), woken) == ("", [105.0]), "it may sleep with reason, so it was woken up, and is believed"
    now[0] += BOUND
    assert pulse.problem() == "the loop has not turned for 65 s; 60 are the limit"
    pulse.beat()
    assert pulse.problem() == ""


def test_a_loop_that_sleeps_for_hours_is_woken_up_and_found_alive():
    now = [0.0]
    pulse = Pulse(lambda: threading.Timer(0.05, pulse.beat).start(), monotonic=lambda: now[0])
    now[0] += 7200
    assert pulse.problem() == ""


def test_health_is_a_status_and_a_reason():
    problem, reasons = [""], []
    with listening(alive=lambda: problem[0], ready=lambda: reasons) as port:
        assert get(port, "/healthz") == (200, '{"status": "ok", "reasons": []}\n')
        assert get(port, "/readyz")[0] == 200
        reasons.append("the server is away: redis://db")
        assert get(port, "/healthz")[0] == 200
        status, body = get(port, "/readyz?verbose")
        assert (status, json.loads(body)) == (503, {"status": "failing", "reasons": ["the server is away: redis://db"]})
        problem[0] = "the loop has not turned for 65 s; 60 are the limit"
        assert get(port, "/healthz")[0] == 503
        assert get(port, "/")[0] == 404


def test_it_ends_at_once_and_leaves_no_thread_and_its_port_free():
    before = threading.active_count()
    with listening() as port:
        assert get(port, "/healthz")[0] == 200
        began = time.monotonic()
    assert time.monotonic() - began < 0.4, "the library alone looks twice a second"
    wait_for(lambda: threading.active_count() <= before, "its threads to end")
    with socket.socket() as free:
        free.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        free.bind(("127.0.0.1", port))


def test_metrics_are_read_by_the_parser_of_prometheus():
    counts, seconds = Counts(), Seconds()
    counts.add("etl", 'a "task"\n', by=3)
    for took in (0.001, 0.005, 0.3, 1e9):
        seconds.add(took, "etl")
    with listening(
        counter("taskmaster_x", "Xs", ("graph", "task"), counts), histogram("taskmaster_s", "S", ("graph",), seconds)
    ) as port:
        status, body = get(port, "/metrics")
        assert get(port, "/metrics", Accept="application/openmetrics-text; version=1.0.0")[1].endswith("# EOF\n")
    assert status == 200
    found = {each.name: each for each in text_string_to_metric_families(body)}
    assert [(each.name, each.labels, each.value) for each in found["taskmaster_x"].samples] == [
        ("taskmaster_x_total", {"graph": "etl", "task": 'a "task"\n'}, 3.0)
    ]
    by_limit = {each.labels.get("le", each.name): each.value for each in found["taskmaster_s"].samples}
    assert by_limit["0.005"] == 2, "a limit belongs to its own bucket"
    assert by_limit["0.5"] == 3
    assert by_limit[str(float(BUCKETS[-1]))] == 3
    assert by_limit["+Inf"] == by_limit["taskmaster_s_count"] == 4
    assert by_limit["taskmaster_s_sum"] == pytest.approx(1e9 + 0.306)
    assert "process_open_fds" in found


def test_the_number_of_series_is_bounded():
    counts, seconds = Counts(), Seconds()
    for number in range(MOST_SERIES + 50):
        counts.add("graph", str(number))
        seconds.add(1.0, "graph", str(number))
    counts.add("graph", "7")
    for found in (dict(counts.items()), {labels: buckets[-1][1] for labels, buckets, _ in seconds.items()}):
        assert len(found) == MOST_SERIES + 1
        assert found[OTHER, OTHER] == 50
    assert dict(counts.items())["graph", "7"] == 2


def test_a_port_that_is_taken_is_refused_by_name():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(SettingsError, match=f"TM_METRICS_PORT={port}.*in use.*another port"):
            Monitor("127.0.0.1", port, collector=Figures(), alive=str, ready=list)


def test_clients_that_say_nothing_keep_neither_others_away_for_long_nor_any_number_of_threads(monkeypatch):
    monkeypatch.setattr(monitor._Handler, "timeout", 0.3)
    with listening() as port:
        before = threading.active_count()
        silent = [socket.create_connection(("127.0.0.1", port)) for _ in range(monitor.MOST_REQUESTS * 3)]
        assert threading.active_count() <= before + monitor.MOST_REQUESTS

        def answered():
            try:
                return get(port, "/healthz")[0] == 200
            except OSError:
                return False

        wait_for(answered, "an answer, once the silent ones have been given up")
        for each in silent:
            each.close()


def test_a_collector_that_fails_is_logged_and_the_next_request_is_answered(caplog):
    class Broken:
        def collect(self):
            raise ValueError("no figures")

    monitor = Monitor("127.0.0.1", 0, collector=Figures(), alive=str, ready=list)
    monitor.registry.register(Broken())
    monitor.start()
    try:
        assert get(monitor.port, "/metrics") == (500, "the metrics cannot be gathered, see the log\n")
        assert get(monitor.port, "/healthz")[0] == 200
    finally:
        monitor.stop()
    assert "the metrics cannot be gathered" in caplog.text
    assert "no figures" in caplog.text


def test_answers_come_over_ipv6_too():
    try:
        with listening(host="::1") as port, socket.create_connection(("::1", port)) as client:
            client.sendall(b"HEAD /healthz HTTP/1.0\r\n\r\n")
            assert client.recv(100).startswith(b"HTTP/1.1 200")
    except SettingsError as error:
        pytest.skip(f"no IPv6 here: {error}")
