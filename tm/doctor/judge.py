"""What the facts mean: for each thing that can be wrong one sentence, and what to do about it. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from tm.store.looking import MAX_BACKLOG
from tm.words import count, size

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import date

    from tm.doctor.facts import Facts
    from tm.store.health import Health
    from tm.store.looking import Scene

#: seconds clocks may differ before anybody notices, and before ticks are visibly late
SKEW, TOO_MUCH_SKEW = 1.0, 30.0
#: bytes of events that history may be behind: a second or so of work as fast as it gets
BEHIND = 4 << 20
#: months after which countries may have changed their clocks without us
OLD_ZONES = 18
#: seconds a lapsed lease may lie before somebody should have picked it up
ORPHANED = 30.0
#: bytes
LITTLE, TOO_LITTLE = 1 << 30, 100 << 20


class Verdict(StrEnum):
    """How it stands."""

    OK = "ok"
    WARN = "warn"  #: it works, and will not in some case that comes
    FAIL = "fail"  #: something does not work


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing that was looked at."""

    name: str
    verdict: Verdict
    said: str
    hint: str = ""  #: what to do next; empty when it is in order


def judge(facts: Facts) -> list[Check]:
    """All that can be said of the facts, in the order in which one would look."""
    found = list(_server(facts))
    if facts.health is not None and facts.scene is not None:
        found += _persistence(facts.health)
        found += [_memory(facts.health), _clock(facts.health), _functions(facts.health)]
        found += _life(facts, facts.scene)
    found += [_history(facts), _disk(facts), _zones(facts.zones, facts.today)]
    if facts.files is not None:
        found.append(_files(facts))
    return found


def _ok(name: str, said: str) -> Check:
    return Check(name=name, verdict=Verdict.OK, said=said)


def _warn(name: str, said: str, hint: str) -> Check:
    return Check(name=name, verdict=Verdict.WARN, said=said, hint=hint)


def _fail(name: str, said: str, hint: str) -> Check:
    return Check(name=name, verdict=Verdict.FAIL, said=said, hint=hint)


# The server -----------------------------------------------------------------------------------------------------


def _server(facts: Facts) -> Iterator[Check]:
    health = facts.health
    if not facts.where:
        yield _fail("server", "none is set, and none runs here", "set TM_URL, or start one: tm up FILE")
        return
    if health is None:
        said, _, hint = facts.unreachable.partition("; ")
        yield _fail("server", said, f"{hint} Look at TM_URL, the network and the server's own log".strip())
        return
    what = f"{health.name} {health.version} at {facts.where}"
    if health.loading:
        yield _fail("server", f"{what} is still loading its data", "wait for it")
    elif health.role != "master":
        yield _fail("server", f"{what} is a replica, which takes no writes", "name the primary in TM_URL")
    elif _number(health.version) < 7:
        yield _fail("server", f"{what} has no functions", "use Redis 7 or later, or Valkey")
    else:
        yield _ok("server", f"{what}, answers in {health.trip * 1000:.1f} ms")


def _number(version: str) -> int:
    match = re.match(r"\d+", version)
    return int(match[0]) if match else 99


def _persistence(health: Health) -> Iterator[Check]:
    if not health.append_ok:
        yield _fail(
            "persistence", "the server could not write its last commands to disk", "look at its disk and its log"
        )
    elif health.append_only:
        yield _ok("persistence", "every write is appended to a file")
    elif health.snapshots:
        yield _warn(
            "persistence", "snapshots only: what came after the last one is lost with the server", "set appendonly yes"
        )
    else:
        yield _fail("persistence", "nothing is kept: open runs are lost with the server", "set appendonly yes")
    if not health.snapshot_ok:
        yield _warn("snapshot", "the server's last snapshot failed", "look at its disk, its memory and its log")


def _memory(health: Health) -> Check:
    used = f"{size(health.memory)} in use"
    if health.memory_limit:
        used += f" of {size(health.memory_limit)}"
    if health.policy not in {"noeviction", "unknown"}:
        said = f"{used}; when it is full the server forgets what it likes ({health.policy})"
        hint = "set maxmemory-policy noeviction, or runs vanish"
        return _fail("memory", said, hint) if health.memory_limit else _warn("memory", said, hint)
    if health.memory_limit and health.memory > 0.85 * health.memory_limit:
        hint = "raise maxmemory, or lower TM_FAILED_TTL and TM_RESULT_TTL"
        return _warn("memory", f"{used}: nothing new is taken when it is full", hint)
    return _ok("memory", used)


def _clock(health: Health) -> Check:
    off = abs(health.ahead)
    if off <= max(SKEW, health.trip):
        return _ok("clock", f"this machine's and the server's are {off * 1000:.0f} ms apart")
    said = f"the server's is {off:.1f} s {'ahead of' if health.ahead > 0 else 'behind'} this machine's"
    hint = "run an NTP client on both; ticks come by the scheduler's clock, leases by the server's"
    return _fail("clock", said, hint) if off > TOO_MUCH_SKEW else _warn("clock", said, hint)


def _functions(health: Health) -> Check:
    if health.has_functions:
        return _ok("functions", "those of this version are on the server")
    hint = "they are loaded when they are first called; are scheduler and workers of the version of this command?"
    return _warn("functions", "those of this version are not on the server", hint)


# Who is alive ---------------------------------------------------------------------------------------------------


def _life(facts: Facts, scene: Scene) -> Iterator[Check]:
    leader, now = scene.leader, scene.now_ms
    if leader is not None and leader.who and leader.until_ms > now:
        yield _ok("scheduler", f"{leader.who} leads")
    else:
        since = "" if leader is None else f" since {_span((now - leader.until_ms) / 1000)}"
        yield _fail(
            "scheduler",
            f"none leads{since}: no ticks, no retries, no history",
            "start one: tm-scheduler FILE, or tm up",
        )
    alive = [each for each in scene.workers if each.alive]
    if alive:
        yield _ok("workers", f"{_count(len(alive), 'worker')} alive, {_count(scene.running, 'attempt')} running")
    else:
        yield _fail("workers", "none is alive", "start one: tm-worker FILE, or tm up")
    if scene.suspended:
        yield _warn("suspended", "workers take no work: `rq suspend` is in force", "rq resume")
    for view in scene.queues:
        if view.pause is not None:
            waits = f"; {_count(view.depth, 'attempt')} wait{'s' if view.depth == 1 else ''}" if view.depth else ""
            yield _warn(f"queue {view.name}", f"paused by {view.pause.by}{waits}", f"tm queues resume {view.name}")
    served = {queue for each in alive for queue in each.queues}
    unserved = {queue: graphs for queue, graphs in facts.queues.items() if queue not in served}
    for queue, graphs in unserved.items():
        depth = next((each.depth for each in scene.queues if each.name == queue), 0)
        waits = f", {_count(depth, 'attempt')} wait{'s' if depth == 1 else ''}" if depth else ""
        yield _fail(
            f"queue {queue}",
            f"no living worker takes from it (used by {_some(graphs)}){waits}",
            f"start one: tm-worker FILE --queue {queue}",
        )
    if facts.queues and not unserved:
        yield _ok("queues", f"each of {_some(sorted(facts.queues))} has a living worker")
    yield from _versions(facts, scene)
    yield _leases(scene)
    behind = f"history is {count(scene.backlog, 'entry', 'entries')} behind ({size(scene.backlog_bytes)})"
    if scene.backlog_bytes > MAX_BACKLOG:
        what = "ticks are held; look at the history's disk and database, and at the leader's log"
        yield _fail("archive", behind, what)
    elif scene.backlog_bytes > BEHIND:
        yield _warn("archive", behind, "it catches up by itself, if the leader can write to the history")
    else:
        yield _ok("archive", behind)


def _versions(facts: Facts, scene: Scene) -> Iterator[Check]:
    skewed: dict[str, list[str]] = {}
    for worker in scene.workers:
        for graph, version in worker.versions.items() if worker.alive else ():
            if graph in facts.graphs and version != facts.graphs[graph].get("version"):
                skewed.setdefault(graph, []).append(worker.name)
    for graph, workers in sorted(skewed.items()):
        yield _warn(
            f"version {graph}",
            f"{_some(workers)} {'has' if len(workers) == 1 else 'have'} another version of it than the scheduler",
            "deploy the same files to both and restart the older",
        )
    if facts.graphs and not skewed:
        yield _ok("versions", f"scheduler and workers agree on {_count(len(facts.graphs), 'graph')}")


def _leases(scene: Scene) -> Check:
    lapsed = [each for each in scene.leases if each.until_ms < scene.now_ms - ORPHANED * 1000]
    if lapsed:
        return _fail(
            "leases",
            f"{_count(len(lapsed), 'attempt')} whose worker is gone wait for a leader to take them back "
            f"(run {lapsed[0].run}{' and others' if len(lapsed) > 1 else ''})",
            "start a scheduler: it queues them again at once",
        )
    return _ok("leases", f"{scene.running} held, none lapsed")


# Where it stands ------------------------------------------------------------------------------------------------


def _history(facts: Facts) -> Check:
    if facts.history_trouble:
        return _fail("history", facts.history_trouble, "restore a backup: tm restore FILE; without one, move it away")
    if not facts.has_history:
        return _ok("history", f"none yet at {facts.history}; it begins with the first run")
    intact = "" if facts.history_size is None else f", {size(facts.history_size)}, intact"
    return _ok("history", f"{facts.history}{intact}")


def _disk(facts: Facts) -> Check:
    free = f"{size(facts.disk_free)} free of {size(facts.disk_total)} at {facts.disk}"
    if facts.disk_free < TOO_LITTLE:
        return _fail("disk", free, "make room: tm prune --older-than 30d")
    if facts.disk_free < LITTLE and facts.disk_free < 0.1 * facts.disk_total:
        return _warn("disk", free, "make room: tm prune --older-than 30d")
    return _ok("disk", free)


def _zones(version: str, today: date) -> Check:
    match = re.match(r"(\d{4})([a-z])", version)
    if match is None:
        return _ok("time zones", "the system does not say of when its database is")
    # five releases or so a year: a, b, c... come every two or three months
    month = min(12, 1 + 2 * (ord(match[2]) - ord("a")))
    age = (today.year - int(match[1])) * 12 + today.month - month
    if age > OLD_ZONES:
        hint = "update the package tzdata of the system; countries change their clocks at short notice"
        return _warn("time zones", f"their database is {version}, about {age} months old", hint)
    return _ok("time zones", f"their database is {version}")


def _files(facts: Facts) -> Check:
    report = facts.files
    assert report is not None  # noqa: S101 - the caller has looked
    what = f"{_count(report.files, 'file')} with {_count(report.graphs, 'graph')}"
    errors = [each for each in report.findings if each.severity == "error"]
    if errors:
        return _fail("graph files", f"{what}: {errors[0]}", f"tm check {errors[0].file}")
    if report.findings:
        hint = f"tm check {report.findings[0].file}"
        return _warn("graph files", f"{what}: {_count(len(report.findings), 'warning')}", hint)
    return _ok("graph files", f"{what}: nothing found")


def _count(number: int, word: str) -> str:
    return f"{number:,} {word}{'s' if number != 1 else ''}"


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _span(seconds: float) -> str:
    whole = max(0, round(seconds))
    if whole < 120:
        return f"{whole} s"
    return f"{whole // 60} min" if whole < 7200 else f"{whole // 3600} h"
