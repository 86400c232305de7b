"""announce: which graphs a worker has loaded; what it is not said to have it is not given."""

from __future__ import annotations

import pytest
import redis

from tests.store.stage import NOON, SINGLE, Stage, plan


def test_what_is_said_replaces_what_was_said_and_is_forgotten_in_time(stage: Stage) -> None:
    stage.store.announce("w", ["a", "b"], {"host": "here", "pid": "7"}, 60_000)
    stage.store.announce("w", ["c"], {"host": "there"}, 90_000)
    offers, about = stage.keys.offers("w"), stage.keys.worker("w")
    assert stage.client.smembers(offers) == {b"c"}
    assert stage.client.hgetall(about) == {b"host": b"there", b"pid": b"7"}
    assert all(60_000 < stage.client.pttl(key) <= 90_000 for key in (offers, about))


def test_a_worker_without_graphs_is_known_and_offers_nothing(stage: Stage) -> None:
    stage.store.announce("w", ["a"], {}, 1000)
    stage.store.announce("w", [], {"host": "here"}, 1000)
    assert not stage.client.exists(stage.keys.offers("w"))
    assert stage.client.exists(stage.keys.worker("w"))


def test_a_full_server_lets_it_through(stage: Stage) -> None:
    stage.start(plan(SINGLE))
    stage.client.delete(stage.keys.offers("w"))
    stage.client.config_set("maxmemory", 1)
    try:
        with pytest.raises(redis.exceptions.OutOfMemoryError):
            stage.client.set("anything", 1)
        stage.store.announce("w", ["g"], {"host": "here"}, 60_000)
        assert len(stage.take()) == 1
    finally:
        stage.client.config_set("maxmemory", 0)


@pytest.mark.parametrize("args", [("w", 0, 0), ("w", "x", 0), ("w", 1000, -1), ("w", 1000, 0, "alone")])
def test_what_makes_no_sense_changes_nothing(stage: Stage, args: tuple[object, ...]) -> None:
    before = stage.snapshot()
    with pytest.raises(redis.exceptions.ResponseError):
        stage.call("announce", *args)
    assert stage.snapshot() == before


def test_a_worker_that_names_its_tasks_is_given_no_others(stage: Stage) -> None:
    stage.start(plan({"a": [], "b": []}))
    stage.store.announce("w", ["g", "g/", "g/b"], {}, 60_000)
    assert [claim.task for claim in stage.take(5)] == ["b"]
    stage.store.announce("w", ["g", "g/", "g/a", "g/b"], {}, 60_000)
    assert [claim.task for claim in stage.take(5)] == ["a"]


def test_when_a_worker_of_a_queue_was_last_heard_of_outlasts_it(stage: Stage) -> None:
    stage.store.announce("w", ["g"], {"queues": "cpu,gpu"}, 1000)
    stage.later(5000)
    stage.store.announce("x", ["g"], {"queues": "cpu"}, 1000)
    stage.store.retire("w")
    scene = stage.store.scene()
    assert {queue.name: queue.attended_ms for queue in scene.queues} == {"cpu": NOON + 5000, "gpu": NOON}
    assert [(worker.name, worker.seen_ms, worker.queues) for worker in scene.workers] == [("x", NOON + 5000, ("cpu",))]


def test_a_worker_that_died_is_listed_for_a_day(stage: Stage) -> None:
    stage.store.announce("dead", ["g"], {"queues": "cpu"}, 1000)
    stage.client.delete(stage.keys.worker("dead"), stage.keys.offers("dead"))
    assert [(worker.name, worker.alive) for worker in stage.store.scene().workers] == [("dead", False)]
    stage.later(86_400_000)
    stage.offer("g")
    assert [worker.name for worker in stage.store.scene().workers] == ["w"]
