"""What those who watch a service may ask it, on one port: /metrics for Prometheus, /healthz and /readyz.

Each request is answered in a thread, from numbers that the service counts anyway: its loop is not asked, only woken up
when it has not turned for a while. A service forks nothing after it has started this.
"""

from __future__ import annotations

import bisect
import contextlib
import json
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from tm.errors import SettingsError
from tm.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from prometheus_client import Metric
    from prometheus_client.registry import Collector  # a protocol: whatever has `collect`

log = get_logger("monitor")

#: seconds; a loop that turned so lately is not woken up to prove that it turns
FRESH = 5.0
#: seconds a loop that was woken up gets to turn before somebody is told how long ago it did
WAKE_PATIENCE = 1.0
#: seconds; a call to a server that is frozen takes half of it at most, and a loop that is away for longer hangs
BOUND = 60.0
#: requests that are answered at the same time; beyond, connections are closed
MOST_REQUESTS = 8
#: seconds a client may take to send its request or to read the answer
CLIENT_PATIENCE = 5.0
#: seconds; limits of the buckets of all histograms: from a task that only passes something on to one of a day
BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 7200, 86_400)
#: label sets of one metric; what comes after them is counted together, under OTHER
MOST_SERIES = 1000
OTHER = "_other"


class Pulse:
    """Whether the loop of a service turns.

    Args:
        wake: ends the sleep of the loop; called from any thread.
    """

    def __init__(self, wake: Callable[[], None], *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._wake, self._monotonic = wake, monotonic
        self._turned_at = monotonic()

    def beat(self) -> None:
        """The loop has come round."""
        self._turned_at = self._monotonic()

    def problem(self) -> str:
        """Why the loop does not count as turning; empty if it does. Waits a moment for one that sleeps."""
        seen = self._turned_at
        if self._monotonic() - seen >= FRESH:
            self._wake()
            until = time.monotonic() + WAKE_PATIENCE
            while self._turned_at == seen and time.monotonic() < until:
                time.sleep(0.01)
        age = self._monotonic() - self._turned_at
        return f"the loop has not turned for {age:.0f} s; {BOUND:g} are the limit" if age > BOUND else ""


class Counts:
    """Numbers by labels, counted by one thread and read by others; no lock, for each change is one assignment."""

    def __init__(self) -> None:
        self._numbers: dict[tuple[str, ...], int] = {}

    def add(self, *labels: str, by: int = 1) -> None:
        """Count one more."""
        known = self._numbers
        if labels not in known and len(known) >= MOST_SERIES:
            labels = (OTHER,) * len(labels)
        known[labels] = known.get(labels, 0) + by

    def items(self) -> list[tuple[tuple[str, ...], int]]:
        """The numbers as they are."""
        return sorted(self._numbers.copy().items())


class Seconds:
    """How long things took, by labels: the numbers of a histogram, counted by one thread and read by others."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, ...], list[float]] = {}

    def add(self, seconds: float, *labels: str) -> None:
        """Something took so long."""
        found = self._found.get(labels)
        if found is None:
            if len(self._found) >= MOST_SERIES:
                labels = (OTHER,) * len(labels)
            found = self._found.setdefault(labels, [0.0] * (len(BUCKETS) + 2))
        found[bisect.bisect_left(BUCKETS, seconds)] += 1
        found[-1] += seconds

    def items(self) -> Iterator[tuple[tuple[str, ...], list[tuple[str, float]], float]]:
        """Labels, cumulative buckets as (limit, count), sum."""
        for labels, found in sorted(self._found.copy().items()):
            *numbers, total = found.copy()
            running, buckets = 0.0, list[tuple[str, float]]()
            for limit, number in zip((*map(str, map(float, BUCKETS)), "+Inf"), numbers, strict=True):
                running += number
                buckets.append((limit, running))
            yield labels, buckets, total


def counter(name: str, about: str, labels: Sequence[str], counts: Counts) -> Metric:
    """A family of counters for Prometheus; `name` without `_total`."""
    from prometheus_client.core import CounterMetricFamily

    family = CounterMetricFamily(name, about, labels=labels)
    for values, number in counts.items():
        family.add_metric(values, number)
    return family


def histogram(name: str, about: str, labels: Sequence[str], seconds: Seconds) -> Metric:
    """A family of histograms for Prometheus."""
    from prometheus_client.core import HistogramMetricFamily

    family = HistogramMetricFamily(name, about, labels=labels)
    for values, buckets, total in seconds.items():
        family.add_metric(values, buckets, total)
    return family


def single(name: str, about: str, value: float, *, total: bool = False) -> Metric:
    """A gauge, or a counter (`total`, `name` without `_total`), without labels."""
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    return CounterMetricFamily(name, about, value) if total else GaugeMetricFamily(name, about, value)


def by_label(name: str, about: str, label: str, values: Iterable[tuple[str, float]], *, total: bool = False) -> Metric:
    """A family of gauges, or of counters (`total`), by one label."""
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    family = (CounterMetricFamily if total else GaugeMetricFamily)(name, about, labels=[label])
    for each, value in values:
        family.add_metric([each], value)
    return family


class Monitor:
    """Answers on one port, from `start` to `stop`.

    Args:
        host: the address to listen on.
        port: the port; 0 for any that is free.
        collector: gives the metrics; called in a thread, for one request at a time.
        alive: why the service is not, or an empty text.
        ready: why it is not, line by line.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        collector: Collector,
        alive: Callable[[], str],
        ready: Callable[[], list[str]],
    ) -> None:
        from prometheus_client import CollectorRegistry, ProcessCollector

        self.alive, self.ready = alive, ready
        self.scraping = threading.Lock()
        self.registry = CollectorRegistry(auto_describe=False)
        self.registry.register(collector)
        ProcessCollector(registry=self.registry)
        try:
            self._server = _Server(host, port, self)
        except OSError as error:
            raise SettingsError(
                f"cannot listen on TM_METRICS_HOST={host}, TM_METRICS_PORT={port}: {error.strerror or error}; "
                "choose another port, or 0 for any that is free"
            ) from error
        self.host, self.port = host, int(self._server.server_address[1])
        self._thread = threading.Thread(target=self._server.serve_forever, name="monitor", daemon=True)

    def start(self) -> None:
        """Answer from now on."""
        self._thread.start()
        log.info("answering those who watch", host=self.host, port=self.port)

    def stop(self) -> None:
        """Answer no more; what is being answered is left to its fate."""
        if self._thread.is_alive():
            ending = threading.Thread(target=self._server.shutdown, daemon=True)
            ending.start()
            # it looks whether it is to end whenever somebody knocks, and else twice a second
            with contextlib.suppress(OSError):
                socket.create_connection((self.host, self.port), CLIENT_PATIENCE).close()
            ending.join(CLIENT_PATIENCE)
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    """A thread for each request, but not for any number of them."""

    daemon_threads = True

    def __init__(self, host: str, port: int, monitor: Monitor) -> None:
        self.monitor = monitor
        self._room = threading.BoundedSemaphore(MOST_REQUESTS)
        if ":" in host:
            self.address_family = socket.AF_INET6
        super().__init__((host, port), _Handler)

    def server_bind(self) -> None:
        """As usual, but for looking up the name of this machine, which may take seconds."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._room.acquire(blocking=False):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except BaseException:
            self._room.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._room.release()

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002 - the signature of the library
        """A client that went away is nothing to log; anything else is a fault of ours."""
        import sys

        if not isinstance(sys.exception(), OSError):
            log.exception("a request could not be answered")  # noqa: LOG004 - the library handles one


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = CLIENT_PATIENCE
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "taskmaster", ""

    def do_GET(self) -> None:
        self.close_connection = True  # a client that stays would keep a thread
        path = self.path.partition("?")[0]
        monitor = self.server.monitor
        if path == "/metrics":
            self._metrics(monitor)
        elif path == "/healthz":
            problem = monitor.alive()
            self._say([problem] if problem else [])
        elif path == "/readyz":
            self._say(monitor.ready())
        else:
            self._answer(404, "text/plain; charset=utf-8", b"/metrics /healthz /readyz\n")

    do_HEAD = do_GET  # noqa: N815 - the library looks for it

    def _metrics(self, monitor: Monitor) -> None:
        from prometheus_client.exposition import choose_encoder

        encode, content_type = choose_encoder(self.headers.get("Accept", ""))
        try:
            with monitor.scraping:
                body = encode(monitor.registry)
        except Exception:
            log.exception("the metrics cannot be gathered")
            self._answer(500, "text/plain; charset=utf-8", b"the metrics cannot be gathered, see the log\n")
            return
        self._answer(200, content_type, body)

    def _say(self, reasons: list[str]) -> None:
        body = json.dumps({"status": "failing" if reasons else "ok", "reasons": reasons}).encode() + b"\n"
        self._answer(503 if reasons else 200, "application/json", body)

    def _answer(self, status: int, content_type: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            with contextlib.suppress(OSError):
                self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Who asks is not worth a line each time."""
