"""Values, messages and keys that should not be (F36, F37, F38)."""

from __future__ import annotations

import textwrap
import time
from typing import TYPE_CHECKING, Any

import msgpack
import pytest
import redis

from tests.rig.cluster import GRAPHS, Cluster
from tests.waiting import wait_for
from tm import codec

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.system.conftest import Fault

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

RESULTS = """
    import math
    from typing import Any
    from tm import Graph, task

    class Thing:
        pass

    def deep(levels: int) -> Any:
        value: Any = None
        for _ in range(levels):
            value = [value]
        return value

    MAKERS = {
        "object": lambda: {"frame": [1, 2, Thing()]},
        "function": lambda: deep,
        "generator": lambda: (n for n in range(3)),
        "too deep": lambda: deep(10_000),
        "surrogate": lambda: "\\ud800",
        "cycle": lambda: (lambda a: (a.append(a), a)[1])([]),
        "huge number": lambda: 2**70,
        "NaN": lambda: math.nan,
        "set": lambda: {1, 2},
        "int keys": lambda: {1: 2},
        "none": lambda: None,
        "many keys": lambda: {str(n): n for n in range(20_000)},
        "1 MiB and more": lambda: b"x" * ((1 << 20) + 1),
        "5 MiB": lambda: b"x" * (5 << 20),
        "64 MiB": lambda: b"x" * (64 << 20),
        "200 MiB": lambda: b"x" * (200 << 20),
    }

    @task(retries=2)
    def makes(kind: str) -> Any:
        return MAKERS[kind]()
    @task()
    def takes(makes: Any) -> str:
        return type(makes).__name__
    results = Graph("results")
    results.add_edges([makes], [takes])
"""
#: kind -> what the error has to name; those not here are fine values
REFUSED = {
    "object": 'result["frame"][2]',
    "function": "function",
    "generator": "generator",
    "too deep": "deep",
    "surrogate": "result",
    "cycle": "result",
    "1 MiB and more": "TM_MAX_MESSAGE",
    "5 MiB": "TM_MAX_MESSAGE",
    "64 MiB": "TM_MAX_MESSAGE",
    "200 MiB": "TM_MAX_MESSAGE",
}
FINE = {
    "huge number": "int",
    "NaN": "float",
    "set": "set",
    "int keys": "dict",
    "none": "NoneType",
    "many keys": "dict",
}


def test_f36_f37_results_that_are_no_messages_fail_at_once_and_say_where(
    own: Callable[..., Cluster], fault: Fault, tmp_path: Path
) -> None:
    file = tmp_path / "results.py"
    file.write_text(textwrap.dedent(RESULTS))
    cluster = own(files=(file, GRAPHS)).up(workers=2, schedulers=1)
    before = cluster.dump().memory
    runs = {kind: cluster.submit("results", kind=kind) for kind in (*REFUSED, *FINE)}
    cluster.settle()
    for kind, words in REFUSED.items():
        fault.mark(kind)
        view = cluster.store.run(runs[kind])
        assert view is not None
        makes, takes = view.tasks
        assert (makes.state, makes.attempt, takes.state) == ("failed", 1, "blocked"), kind
        error = codec.decode(makes.error)
        assert words in error["message"], (kind, error["message"][:300])
    for kind, name in FINE.items():
        value = cluster.store.result(runs[kind])
        assert value is not None, kind
        assert codec.decode(value) == name
    assert len(cluster.living("worker")) == 2
    assert cluster.dump().memory < before + (16 << 20), "the server holds what was refused"
    cluster.judge()


def test_f36_a_larger_message_is_let_through_where_the_setting_says_so(
    own: Callable[..., Cluster], fault: Fault, tmp_path: Path
) -> None:
    file = tmp_path / "results.py"
    file.write_text(textwrap.dedent(RESULTS))
    cluster = own(files=(file,), environment={"TM_MAX_MESSAGE": "8MiB"}).up(workers=1, schedulers=1)
    run = cluster.submit("results", kind="5 MiB")
    fault.mark("5 MiB with TM_MAX_MESSAGE=8MiB")
    cluster.settle()
    assert codec.decode(cluster.store.result(run) or b"") == "bytes"
    cluster.judge()


def test_f38_rubbish_in_the_queues_is_dropped_and_nothing_else_is_lost(
    own: Callable[..., Cluster], fault: Fault
) -> None:
    cluster = own().up(workers=2, schedulers=2)
    client: Any = cluster.client
    cluster.load(10, pace=0.05)
    known = cluster.submit("chain", pace=0.1)
    rubbish: list[bytes | str] = [
        b"\x80\x04\x95K\x01.",  # a pickle
        b"\xff" * 100,
        "",
        "no job at all",
        "chain-unknown_0_1",
        f"{known}_0_99",
        f"{known}_99_1",
        f"{known}_-1_1",
        f"{known}_0_1e9",
        "../../etc/passwd_0_1",
        "x\r\nFLUSHALL\r\n_0_1",
        "a" * 1_000_000 + "_0_1",
    ]
    for each in rubbish:
        client.rpush("rq:queue:default", each)
        client.lpush("rq:queue:default", each)
        fault.mark(repr(each)[:40])
    client.rpush("rq:queue:default", *[f"{known}_0_1"] * 10_000)
    fault.mark("ten thousand duplicates")
    # a job that RQ itself would have unpickled and run
    client.hset("rq:job:evil", mapping={"data": b"\x80\x04cos\nsystem\n(S'touch /tmp/never'\ntR.", "status": "queued"})
    client.rpush("rq:queue:default", "evil")
    cluster.load(10, pace=0.02)
    cluster.settle()
    wait_for(lambda: client.llen("rq:queue:default") == 0, "the rubbish to be gone", 30)
    assert len(cluster.living("worker")) == 2
    assert len(cluster.lines(known)) == 5
    cluster.judge()


def test_f38_forged_reports_and_beats_change_nothing(own: Callable[..., Cluster], fault: Fault) -> None:
    from tm.states import Outcome
    from tm.store.records import Ask, Report, VerdictKind

    cluster = own().up(workers=1, schedulers=1)
    run = cluster.submit("long", seconds=1.0)
    [line] = cluster.begun(run)[:1]
    ask = Ask(worker="mallory", lease_ms=1000, token="t", queues=(), count=0)
    for token in ("", "guess", line.token + "x", line.token[:-1], "\x00"):
        for job in (f"{run}_0_1", f"{run}_0_2", f"{run}_1_1", "odd id\n_0_1", f"{run}_0_" + "9" * 30):
            verdicts, _ = cluster.store.finish(ask, [Report(job, token, Outcome.SUCCESS, b"forged")])
            assert verdicts[0].kind is VerdictKind.REJECTED
            assert cluster.store.beat(1000, [(job, token)]) == [0]
            fault.mark(f"forged report on {job[:60]!r}")
    with pytest.raises(redis.exceptions.ResponseError):
        cluster.store._call("finish", "w", "x", "t", "0", "", "0", "", "0")
    wait_for(lambda: cluster.state(run) == "success", "the true result to count", 20)
    assert cluster.store.output(run, 0) != b"forged"
    cluster.settle()
    cluster.judge()


def test_f38_messages_that_were_tampered_with_fail_their_reader_alone(
    own: Callable[..., Cluster], fault: Fault
) -> None:
    cluster = own().up(workers=1, schedulers=1)
    evil = {
        "truncated": lambda good: good[: len(good) // 2],
        "a pickle": lambda _: b"\x80\x04cos\nsystem\n(S'true'\ntR.",
        "another version": lambda good: b"\xc7\x01\x7f\x00" + good,
        "a bomb": lambda _: msgpack.packb([[]] * 2) + b"\xdd\xff\xff\xff\xff",
        "empty": lambda _: b"",
    }
    for kind, spoil in evil.items():
        run = cluster.submit("chain", pace=0.3)
        wait_for(lambda each=run: cluster.store.output(each, 0), "the first message", 20)
        good = cluster.store.output(run, 0)
        assert good is not None
        # the second task has read its message by now, the third reads what we put in place of the second's
        message = wait_for(lambda each=run: cluster.store.output(each, 1), "the second message", 20)
        spoiled = spoil(message)
        cluster.client.hset(cluster.store.keys.out(run), "2", spoiled)
        cluster.client.hset(cluster.store.keys.out(run), "1", spoiled)
        fault.mark(kind)
    cluster.settle()
    assert len(cluster.living("worker")) == 1
    # which of them were read in time is a matter of luck; whoever read rubbish has failed and said so
    cluster.judge(ignore=frozenset({"I8"}))


def test_f38_keys_of_the_wrong_type_cost_what_they_held_and_no_more(own: Callable[..., Cluster], fault: Fault) -> None:
    cluster = own().up(workers=2, schedulers=2)
    client: Any = cluster.client
    victims = [cluster.submit("long", seconds=1.0) for _ in range(3)]
    for run in victims:
        cluster.begun(run)
    keys = cluster.store.keys
    client.delete(keys.run(victims[0]))
    client.set(keys.run(victims[0]), "a string")
    client.hset(keys.run(victims[1]), "0", b"\xc1\xc1")
    client.delete(keys.out(victims[2]))
    client.rpush(keys.out(victims[2]), "a list")
    fault.mark("a run is a string, a record is rubbish, messages are a list")
    client.delete("rq:queue:bulk")
    client.set("rq:queue:bulk", "no list")
    fault.mark("a queue is a string")
    others = [cluster.submit("chain", pace=0.05) for _ in range(10)]
    time.sleep(2.0)
    client.delete("rq:queue:bulk")
    for run in others:
        wait_for(lambda each=run: cluster.state(each) == "success", f"{run} to go through", 40)
    assert len(cluster.living("worker")) == 2
    assert len(cluster.living("scheduler")) == 2
    wait_for(lambda: cluster.store.state(victims[1]) == "failed", "the damaged run to end and say so", 40)
