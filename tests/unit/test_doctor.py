"""What facts mean to the doctor: each thing that can be wrong has one sentence and something to do."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from typing import TYPE_CHECKING, Any

import pytest

from tm.checks import Finding, Report
from tm.doctor import Facts, Verdict, judge
from tm.store.health import Health, health
from tm.store.looking import LeaderView, LeaseView, QueueView, Scene, WorkerView
from tm.store.records import QueuePause

if TYPE_CHECKING:
    import redis

    from tm.store.store import Store

NOW = 1_000_000_000_000
HEALTH = Health(
    name="valkey",
    version="9.1.2",
    role="master",
    loading=False,
    append_only=True,
    append_ok=True,
    snapshot_ok=True,
    snapshots=False,
    memory=2 << 20,
    memory_limit=0,
    policy="noeviction",
    has_functions=True,
    ahead=0.001,
    trip=0.0002,
)
WORKER = WorkerView(
    name="host.7.abcd", seen_ms=NOW, alive=True, about={"queues": "default,gpu", "versions": '{"etl": "v1"}'}
)
SCENE = Scene(
    now_ms=NOW,
    leader=LeaderView(who="host:8", token=1, since_ms=NOW - 9000, until_ms=NOW + 5000),
    workers=(WORKER,),
    queues=(QueueView(name="default", depth=0, bells=0, oldest_ms=None, attended_ms=NOW),),
    leases=(LeaseView(run="etl-1", node=0, attempt=1, until_ms=NOW + 9000),),
    running=1,
    suspended=False,
    suspended_for_ms=None,
    backlog=3,
    backlog_bytes=900,
)
FACTS = Facts(
    where="redis://db:6379/0",
    health=HEALTH,
    scene=SCENE,
    graphs={"etl": {"version": "v1"}},
    queues={"default": ["etl"], "gpu": ["etl"]},
    history="sqlite:////data/history.db",
    has_history=True,
    history_size=70 << 20,
    disk_free=80 << 30,
    disk_total=250 << 30,
    disk="/data",
    zones="2026b",
    today=date(2026, 11, 24),
    files=Report(files=1, graphs=1, findings=()),
)


def test_where_all_is_well_all_is_ok() -> None:
    checks = judge(FACTS)
    assert {each.verdict for each in checks} == {Verdict.OK}
    assert [each.name for each in checks] == [
        "server",
        "persistence",
        "memory",
        "clock",
        "functions",
        "scheduler",
        "workers",
        "queues",
        "versions",
        "leases",
        "archive",
        "history",
        "disk",
        "time zones",
        "graph files",
    ]
    assert checks[0].said == "valkey 9.1.2 at redis://db:6379/0, answers in 0.2 ms"
    assert checks[11].said == "sqlite:////data/history.db, 70.0 MiB, intact"


def of_server(**changes: Any) -> Facts:
    return replace(FACTS, health=replace(HEALTH, **changes))


def of_scene(**changes: Any) -> Facts:
    return replace(FACTS, scene=replace(SCENE, **changes))


WRONG: list[tuple[Facts, str, str, str]] = [
    (Facts(where=""), "server", "fail", "none is set, and none runs here -> set TM_URL, or start one: tm up FILE"),
    (
        replace(FACTS, health=None, scene=None, unreachable="cannot reach the server at x: refused; is it running?"),
        "server",
        "fail",
        "cannot reach the server at x: refused -> is it running? Look at TM_URL",
    ),
    (of_server(loading=True), "server", "fail", "is still loading its data"),
    (of_server(role="slave"), "server", "fail", "is a replica, which takes no writes"),
    (of_server(version="6.2.1", name="redis"), "server", "fail", "redis 6.2.1 at redis://db:6379/0 has no functions"),
    (of_server(append_only=False, snapshots=True), "persistence", "warn", "snapshots only"),
    (of_server(append_only=False), "persistence", "fail", "nothing is kept: open runs are lost with the server"),
    (of_server(append_ok=False), "persistence", "fail", "could not write its last commands"),
    (of_server(snapshot_ok=False), "snapshot", "warn", "the server's last snapshot failed"),
    (of_server(policy="allkeys-lru"), "memory", "warn", "the server forgets what it likes (allkeys-lru)"),
    (
        of_server(policy="allkeys-lru", memory_limit=1 << 30),
        "memory",
        "fail",
        "2.0 MiB in use of 1.0 GiB; when it is full",
    ),
    (of_server(memory=90, memory_limit=100), "memory", "warn", "90 bytes in use of 100 bytes: nothing new is taken"),
    (of_server(ahead=2.5), "clock", "warn", "the server's is 2.5 s ahead of this machine's"),
    (of_server(ahead=-61.0), "clock", "fail", "the server's is 61.0 s behind this machine's"),
    (of_server(has_functions=False), "functions", "warn", "those of this version are not on the server"),
    (of_scene(leader=None), "scheduler", "fail", "none leads: no ticks"),
    (
        of_scene(leader=LeaderView(who="host:8", token=1, since_ms=None, until_ms=NOW - 90_000)),
        "scheduler",
        "fail",
        "none leads since 90 s",
    ),
    (of_scene(workers=()), "workers", "fail", "none is alive -> start one: tm-worker FILE"),
    (of_scene(workers=(replace(WORKER, alive=False),)), "workers", "fail", "none is alive"),
    (
        of_scene(
            workers=(replace(WORKER, about={"queues": "default"}),),
            queues=(QueueView(name="gpu", depth=4, bells=4, oldest_ms=NOW, attended_ms=None),),
        ),
        "queue gpu",
        "fail",
        "no living worker takes from it (used by etl), 4 attempts wait -> start one: tm-worker FILE --queue gpu",
    ),
    (
        of_scene(
            queues=(
                QueueView(
                    name="gpu",
                    depth=1,
                    bells=1,
                    oldest_ms=NOW,
                    attended_ms=NOW,
                    pause=QueuePause(queue="gpu", by="ann@host", reason="", since_ms=NOW),
                ),
            )
        ),
        "queue gpu",
        "warn",
        "paused by ann@host; 1 attempt waits -> tm queues resume gpu",
    ),
    (of_scene(suspended=True), "suspended", "warn", "`rq suspend` is in force -> rq resume"),
    (
        of_scene(workers=(replace(WORKER, about={"queues": "default,gpu", "versions": '{"etl": "v0"}'}),)),
        "version etl",
        "warn",
        "host.7.abcd has another version of it than the scheduler",
    ),
    (
        of_scene(leases=(LeaseView(run="etl-1", node=0, attempt=1, until_ms=NOW - 60_000),)),
        "leases",
        "fail",
        "1 attempt whose worker is gone wait for a leader to take them back (run etl-1)",
    ),
    (of_scene(backlog=6_000, backlog_bytes=5 << 20), "archive", "warn", "history is 6,000 entries behind (5.0 MiB)"),
    (of_scene(backlog=9, backlog_bytes=65 << 20), "archive", "fail", "history is 9 entries behind (65.0 MiB)"),
    (replace(FACTS, history_trouble="it is damaged: page 3"), "history", "fail", "it is damaged: page 3 -> restore"),
    (replace(FACTS, disk_free=50 << 20), "disk", "fail", "50.0 MiB free of 250 GiB at /data -> make room: tm prune"),
    (replace(FACTS, disk_free=500 << 20), "disk", "warn", "500 MiB free of 250 GiB"),
    (replace(FACTS, zones="2025a"), "time zones", "warn", "their database is 2025a, about 22 months old"),
    (
        replace(
            FACTS,
            files=Report(files=1, graphs=1, findings=(Finding(file="etl.py", line=3, code="cycle", message="round"),)),
        ),
        "graph files",
        "fail",
        "1 file with 1 graph: etl.py:3: error: round  [cycle] -> tm check etl.py",
    ),
    (
        replace(
            FACTS,
            files=Report(files=1, graphs=1, findings=(Finding(file="etl.py", code="unused-task", message="x"),)),
        ),
        "graph files",
        "warn",
        "1 warning -> tm check etl.py",
    ),
]


@pytest.mark.parametrize(("facts", "name", "verdict", "said"), WRONG, ids=[f"{row[1]}-{row[3][:30]}" for row in WRONG])
def test_what_is_wrong_is_told_with_what_to_do(facts: Facts, name: str, verdict: str, said: str) -> None:
    found = {each.name: each for each in judge(facts)}[name]
    assert found.verdict.value == verdict
    assert found.hint
    assert said in f"{found.said} -> {found.hint}"


def test_what_cannot_be_told_is_not_wrong() -> None:
    facts = replace(FACTS, zones="", has_history=False, history_size=None)
    assert {each.verdict for each in judge(facts)} == {Verdict.OK}


def test_a_real_server_tells_of_itself(client: redis.Redis, store: Store) -> None:
    from tm.store.functions import Library, default_library

    store.server_ms()
    told = health(client, default_library())
    assert told.version.split(".")[0].isdecimal()
    assert (told.role, told.loading, told.policy) == ("master", False, "noeviction")
    assert abs(told.ahead) < 5
    assert told.trip < 5
    assert told.memory > 0
    assert not health(client, Library(clock="-- of another version\n" + "return 0")).has_functions
