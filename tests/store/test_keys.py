"""Keys: what is left when runs have ended is what was declared here, and Python and Lua mean the same by a name."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

import pytest

from tests.store.stage import CHAIN, DIAMOND, LEASE, NOON, SINGLE, Stage, dump, fan, plan
from tests.waiting import wait_for
from tm.states import Outcome
from tm.store import Keys
from tm.store.functions import default_library
from tm.store.records import DueTick, NewRun

if TYPE_CHECKING:
    import redis

    from tests.servers import Server

#: keys that stay for ever, with what bounds their size
PERMANENT = {
    "tm:*:meta": "one hash",
    "tm:*:graphs": "one field a graph",
    "tm:*:names": "one member a graph",
    "tm:*:queues": "one member a queue",
    "tm:*:cursor": "one field a graph",
    "tm:*:leader": "one hash",
    "tm:*:workers": "one member a worker that was heard of in the last day",
    "tm:*:attended": "one field a queue that ever had a worker",
    "tm:*:paused": "one field a paused graph",
    "tm:*:events": "until history has them",
    "tm:*:logs": "until history has them, 64 MiB at most",
    "rq:queues": "one member a queue",
}
#: keys that expire, and within how many ms
PASSING = {
    "tm:*:run:*": 600_000,
    "tm:*:out:*": 600_000,
    "tm:*:plan:*": 86_400_000 + 600_000,
    "tm:*:worker:*": 10**9,
    "tm:*:offers:*": 10**9,
}


def leaks(client: redis.Redis) -> list[str]:
    """Keys that are neither permanent by declaration nor expire in time."""
    found = []
    for raw in client.keys("*"):
        key = raw.decode()
        limit = next((limit for pattern, limit in PASSING.items() if fnmatchcase(key, pattern)), None)
        if limit is not None:
            if not 0 <= client.pttl(key) <= limit:
                found.append(f"{key} expires in {client.pttl(key)} ms")
        elif key != "test:clock" and not any(fnmatchcase(key, pattern) for pattern in PERMANENT):
            found.append(key)
    return found


def drain(stage: Stage) -> None:
    """Let everything come to an end, as workers, the leader and history do."""
    while True:
        stage.later(40 * 86_400_000)
        moved = stage.store.promote()
        stage.store.reap()
        done = stage.work()
        stage.store.ring()
        if not done and moved == (0, None):
            break
    entries = stage.store.events(count=1_000_000)
    if entries:
        stage.store.ack(entries[-1][0])


def forget(client: redis.Redis) -> None:
    """What the passing of time does to keys with a TTL."""
    for key in client.keys("*"):
        if client.pttl(key) >= 0:
            client.delete(key)


def every_shape(stage: Stage, prefix: str = "") -> None:
    """Runs of all shapes and fates."""
    shapes = [SINGLE, CHAIN, DIAMOND, fan(20), fan(450)]
    for number, shape in enumerate(shapes):
        graph = f"graph {number} *"
        one = plan(shape, graph=graph, retries=1, retry_delay=1, timeout=50)
        stage.offer(*(f"graph {each} *" for each in range(len(shapes))))
        names = [
            f"{prefix}{number}{fate}" for fate in ("ok", "fail", "retry", "die", "cancel", "expire", "late", "half")
        ]
        stage.store.start(one, [NewRun(id=name, params=b"p", config="c") for name in names])
        for claim in stage.take(len(names)):
            fate = claim.run.removeprefix(f"{prefix}{number}")
            if fate == "ok":
                stage.finish(claim)
            elif fate == "fail":
                stage.finish(claim, Outcome.FAILED, retry=False, error=b"\x80")
            elif fate == "retry":
                stage.finish(claim, Outcome.FAILED, error=b"\x80")
            elif fate == "die":
                stage.finish(claim, Outcome.KILLED)
            elif fate == "late":
                stage.later(LEASE)
                stage.store.reap()
                stage.finish(claim)
            elif fate == "half":
                stage.finish(claim)
                stage.store.cancel(claim.run)
        stage.store.cancel(names[4])
        stage.work(5, Outcome.FAILED)
        stage.later(51_000)
        stage.store.expire()
        drain(stage)


def test_after_runs_of_every_shape_only_declared_keys_are_left(stage: Stage) -> None:
    every_shape(stage)
    assert stage.store.open_runs() == []
    assert leaks(stage.client) == []
    forget(stage.client)
    names = {key.decode() for key in stage.client.keys("*")} - {"test:clock"}
    assert names == {"rq:queues", *(f"tm:default:{each}" for each in ("names", "queues", "events", "workers"))}


def test_ticks_of_every_fate_leave_only_declared_keys(stage: Stage) -> None:
    leader = stage.store.lead("me", 10**15)
    assert leader is not None
    stage.store.instance()
    for number, overlap in enumerate(("allow", "skip", "queue", "cancel_other")):
        shape = plan(CHAIN, graph=overlap)
        stage.store.define(shape, {"schedule": "* * * * *"})
        stage.offer("allow", "skip", "queue", "cancel_other")
        ticks = [DueTick(run=f"{overlap}{tick}", at_ms=NOON + tick, overlap=overlap) for tick in range(1, 4)]
        stage.store.tick(shape, leader, ticks)
        drain(stage)
        stage.store.tick(shape, leader, [DueTick(run=f"{overlap}2", at_ms=NOON + 2, overlap=overlap)])
        drain(stage)
        assert number >= 0
    stage.store.resign(leader)
    assert stage.store.held() == {}
    assert leaks(stage.client) == []


def test_memory_and_number_of_keys_return_to_where_they_were(own_server: Server) -> None:
    # of its own: on a server of many tests the garbage of their functions is collected at any time
    stage = Stage(own_server.client())
    every_shape(stage, "first")
    forget(stage.client)
    stage.client.memory_purge()
    keys, memory = stage.client.dbsize(), stage.client.info("memory")["used_memory_dataset"]
    for again in range(3):
        every_shape(stage, f"again{again}")
        forget(stage.client)
    assert stage.client.dbsize() == keys

    def returned() -> bool:
        # the server frees what was deleted in a thread of its own, and what functions leave behind as they are called
        for _ in range(50):
            stage.store.promote()
        stage.client.memory_purge()
        return bool(stage.client.info("memory")["used_memory_dataset"] < memory + 200_000)

    wait_for(returned, "the memory of forgotten runs to be free again")
    stage.client.close()


def test_runs_really_expire(client: redis.Redis) -> None:
    from tm.store import Store

    stage = Stage(client)
    stage.store = Store(client, library=stage.library, result_ttl=0.05)
    for outcome in (Outcome.SUCCESS, Outcome.FAILED):
        stage.start(plan(CHAIN), outcome.value)
        stage.work(outcome=outcome)
    stage.start(plan(CHAIN), "cancelled")
    stage.work(1)
    stage.store.cancel("cancelled")
    wait_for(lambda: not client.keys("tm:default:run:*") + client.keys("tm:default:out:*"), "closed runs to expire")


@pytest.mark.parametrize("namespace", ["default", "other", "with.dots_and-dashes"])
def test_python_and_lua_mean_the_same_keys(client: redis.Redis, namespace: str) -> None:
    stage = Stage(client, namespace)
    keys = Keys(namespace)
    shape = plan({"a": [], "b": ["a"], "c": ["a"], "d": ["a"]}, graph="g *", timeout=100, retries=1, retry_delay=5)
    stage.store.define(shape, {"file": "x"})
    stage.store.instance()
    leader = stage.store.lead("me", 10**9)
    assert leader is not None
    ticks = [DueTick(run=f"t{number}", at_ms=number, overlap="queue") for number in (1, 2)]
    stage.store.tick(plan(SINGLE, graph="h", version="h1"), leader, ticks)
    stage.start(shape)
    [first] = [claim for claim in stage.take(2) if claim.run == "r"]
    stage.finish(first)
    stage.finish(stage.take_one(), Outcome.FAILED)
    assert stage.take_one().task == "c"
    stage.client.rpush(keys.backlog, b"\xc1")
    assert set(dump(client)) == {
        keys.meta,
        keys.graphs,
        keys.names,
        keys.queues,
        keys.leader,
        keys.cursor,
        keys.held,
        keys.events,
        keys.leases,
        keys.retry,
        keys.deadlines,
        keys.backlog,
        keys.plan(shape.version),
        keys.plan("h1"),
        keys.run("r"),
        keys.run("t1"),
        keys.out("r"),
        keys.open("g *"),
        keys.open("h"),
        keys.queued("default"),
        keys.bell("default"),
        keys.rq_job("r_3_1"),
        keys.rq_job("t1_0_1"),
        keys.worker("w"),
        keys.offers("w"),
        keys.workers,
        "rq:queues",
    }


def test_no_function_names_a_key_that_is_not_declared() -> None:
    named = set(re.findall(r"\b(?:c|space)\.p \.\. '([a-z]+):?'", default_library().source))
    declared = {pattern.split(":")[2] for pattern in (*PERMANENT, *PASSING) if pattern.startswith("tm:")}
    emptied = {
        "leases",
        "retry",
        "deadlines",
        "queued",
        "open",
        "held",
        "backlog",
        "ended",
        "hand",
        "late",
    }  # nothing left when idle
    assert named <= declared | emptied
