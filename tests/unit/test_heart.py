"""What heartbeats count for those who watch a worker."""

from __future__ import annotations

import redis.exceptions

from tests.waiting import wait_for
from tm.store.records import Beat
from tm_worker.heart import Heart


class Store:
    client = None

    def __init__(self) -> None:
        self.answers: dict[str, Beat] = {}
        self.away = False

    def beat(self, _lease_ms, held):
        if self.away:
            raise redis.exceptions.ConnectionError
        return [self.answers.get(token, Beat.OK) for _, token in held]

    def announce(self, *_):
        if self.away:
            raise redis.exceptions.ConnectionError


class Worker:
    name = "w"

    def beat(self, _client):
        return False


def heart_of(store: Store, held: list[tuple[str, str]]) -> Heart:
    return Heart(store, Worker(), [], {}, lease=30, every=0.02, held=lambda: held, wake=lambda: None)


def test_an_attempt_that_is_lost_counts_once_however_often_it_is_told() -> None:
    store, held = Store(), [("job1", "a"), ("job2", "b")]
    heart = heart_of(store, held)
    store.answers["a"] = Beat.LOST
    heart.beat()
    heart.beat()
    assert heart.lost == 1
    store.answers["b"] = Beat.LOST
    heart.beat()
    assert heart.lost == 2
    held[:] = [("job3", "c")]
    heart.beat()
    assert heart.lost == 2
    store.answers["c"] = Beat.CANCEL
    heart.beat()
    assert heart.lost == 2, "cancelled is not lost"


def test_beats_that_are_not_answered_count_and_show() -> None:
    store = Store()
    heart = heart_of(store, [])
    store.away = True
    heart.start()
    wait_for(lambda: heart.missed >= 2, "two beats to be missed")
    assert heart.outage.retry_at is not None
    store.away = False
    wait_for(lambda: heart.outage.retry_at is None, "a beat to be answered")
    assert heart.outage.recovered == 1
    heart.stop()
