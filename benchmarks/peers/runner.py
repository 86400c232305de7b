"""The measurement: rounds in which all peers take turns on one server."""

from __future__ import annotations

import statistics
import sys
import time
from collections import defaultdict
from typing import TYPE_CHECKING, Any

from benchmarks.peers import work
from benchmarks.peers.registry import OURS, Peer
from benchmarks.peers.server import Server
from benchmarks.peers.session import MissingError, PeerError, Session
from benchmarks.peers.statistics import quantile, spread
from benchmarks.peers.workloads import DURABLE, Workload

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

#: of a median round with a file, so that the promise "at least 70 %" is seen
DURABLE_ROUNDS = 2


class Measurement:
    """All rounds with one kind of persistence.

    Args:
        until: monotonic time after which no further round is begun.
    """

    def __init__(
        self,
        peers: Sequence[Peer],
        workloads: Sequence[Workload],
        *,
        persistence: str,
        rounds: int,
        quick: bool,
        until: float,
    ) -> None:
        durable = persistence != "none"
        self.peers = [peer for peer in peers if peer.server or not durable]
        self.workloads = [each for each in workloads if not durable or each.name in DURABLE]
        self.persistence, self.quick, self.until = persistence, quick, until
        self.rounds = min(rounds, DURABLE_ROUNDS) if durable else rounds
        self.raw: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)  #: by peer and method
        self.notes: dict[tuple[str, str], str] = {}  #: why there is no figure
        self.server_version = ""
        self._sessions: dict[str, Session] = {}

    def run(self) -> dict[str, dict[str, dict[str, Any]]]:
        """Measure. Returns results by workload and peer."""
        server = Server(self.persistence)
        self.server_version = server.version
        try:
            for number in range(self.rounds):
                if number and time.monotonic() > self.until:
                    print(f"no time for round {number + 1} and later", file=sys.stderr)
                    break
                # another one begins each time, so that a slow moment of the machine does not always hit the same
                turn = number % len(self.peers)
                for peer in [*self.peers[turn:], *self.peers[:turn]]:
                    if number < peer.rounds:
                        self._round(server, peer, number)
        finally:
            for session in self._sessions.values():
                session.close()
            server.close()
        return self.results()

    def _size(self, peer: Peer, workload: Workload) -> int:
        if self.quick:
            return workload.quick
        return min(workload.size, peer.sizes.get(workload.method, workload.size))

    def _round(self, server: Server, peer: Peer, number: int) -> None:
        began = time.monotonic()
        server.empty()
        if peer.name not in self._sessions:
            sizes = {each.method: self._size(peer, each) for each in self.workloads}
            self._sessions[peer.name] = Session(peer, server, sizes)
        session = self._sessions[peer.name]
        for count in (2, 1, 0):
            methods = {
                each.method: each
                for each in self.workloads
                if each.processes == count and number < each.rounds and self._takes_part(peer, each)
            }
            if not methods:
                continue
            try:
                if count:
                    session.start(count)
                for each in methods.values():
                    self._measure(session, each)
                if count:
                    session.stop()
            except (PeerError, MissingError) as error:
                for method in methods:
                    self.notes.setdefault((peer.name, method), str(error))
                print(f"  {peer.name}: {error}", file=sys.stderr)
        seconds = time.monotonic() - began
        print(f"{self.persistence}, round {number + 1}: {peer.name} ({seconds:.1f} s)", file=sys.stderr)

    def _takes_part(self, peer: Peer, workload: Workload) -> bool:
        method = workload.method
        if workload.ours_only and peer.name != OURS:
            return False
        if peer.only and method not in peer.only:
            return False
        if method == "single" and peer.one_by_one and any(each.method == "flat" for each in self.workloads):
            return False
        if method in peer.missing:
            self.notes[peer.name, method] = peer.missing[method]
        return (peer.name, method) not in self.notes

    def _measure(self, session: Session, workload: Workload) -> None:
        peer, method = session.peer, workload.method
        size = self._size(peer, workload)
        repeat = 1 if self.quick or peer.once else workload.repeat
        try:
            found = session.run(method, size, repeat)
        except (MissingError, PeerError) as error:
            # that queues do not run in the calling process need not be said of each of them
            missing = "no such feature" if workload.processes else ""
            self.notes[peer.name, method] = missing if isinstance(error, MissingError) else str(error)
            if isinstance(error, PeerError):
                print(f"  {peer.name}, {workload.name}: {error}", file=sys.stderr)
            return
        self.raw[peer.name, method].append({**found, "size": size, "repeat": repeat})

    # Results --------------------------------------------------------------------------------------------------------

    def results(self) -> dict[str, dict[str, dict[str, Any]]]:
        """By workload and peer."""
        fib = _seconds_of_fib()
        found: dict[str, dict[str, dict[str, Any]]] = {}
        for workload in self.workloads:
            found[workload.name] = {}
            for peer in self.peers:
                method = workload.method
                if method == "single" and peer.one_by_one and self.raw.get((peer.name, "flat")):
                    method = "flat"
                if raw := self.raw.get((peer.name, method)):
                    found[workload.name][peer.name] = _summary(workload, raw, fib)
                elif note := self.notes.get((peer.name, workload.method)):
                    found[workload.name][peer.name] = {"note": note}
        return found


def _summary(workload: Workload, raw: Sequence[dict[str, Any]], fib: float) -> dict[str, Any]:
    size = raw[0]["size"]
    figures = [_figure(workload, each, fib) for each in raw]
    told = spread(figures)
    median = told.median
    if workload.quantile is not None:  # of all samples, which says more about the rare ones
        median = quantile([sample for each in raw for sample in each["samples"]], workload.quantile) * workload.scale
    tasks = sum(workload.tasks(each["size"]) * each["repeat"] for each in raw)
    return {
        "median": median,
        "low": told.low,
        "high": told.high,
        "rounds": told.count,
        "unit": workload.unit,
        "size": size,
        "scaled": size < workload.size,
        "cpu_us_per_task": {
            who: 1e6 * sum(each["cpu"][who] for each in raw) / tasks for who in ("workers", "server", "client")
        },
        "reads_per_task": sum(each["server"]["reads"] for each in raw) / tasks,
        "commands_per_task": sum(each["server"]["commands"] for each in raw) / tasks,
        "bytes_per_task": sum(each["server"]["in"] + each["server"]["out"] for each in raw) / tasks,
        "workers_pss_mib": max(each["workers_pss"] for each in raw),
        "server_rss_mib": max(each["server_rss"] for each in raw),
    }


def _figure(workload: Workload, raw: dict[str, Any], fib: float) -> float:
    if workload.quantile is not None:
        return quantile(raw["samples"], workload.quantile) * workload.scale
    seconds = raw["seconds"]
    if workload.method == "light":
        seconds -= fib * raw["size"]
    return workload.figure(seconds, raw["size"])


def _seconds_of_fib() -> float:
    def once() -> float:
        began = time.perf_counter()
        work.fib(10)
        return time.perf_counter() - began

    return statistics.median(once() for _ in range(201))


def fastest(results: dict[str, dict[str, Any]], better: str, names: Iterable[str]) -> str | None:
    """The name of the best of these in one workload."""
    found = {name: results[name]["median"] for name in names if "median" in results.get(name, {})}
    if not found:
        return None
    return (max if better == "high" else min)(found, key=lambda name: found[name])
