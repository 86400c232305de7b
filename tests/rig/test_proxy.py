"""The bad network does what it says, and counts it."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest
import redis

from tests.rig.proxy import BLACK_HOLE, Proxy, Rules
from tests.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.servers import Server


@pytest.fixture
def proxy(server: Server) -> Iterator[Proxy]:
    proxy = Proxy(server.socket).start()
    yield proxy
    proxy.close()


@pytest.fixture
def impatient(proxy: Proxy) -> Iterator[redis.Redis]:
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    client = redis.Redis.from_url(proxy.url, socket_timeout=0.3, retry=Retry(NoBackoff(), 0))
    yield client
    client.close()


def test_by_default_everything_passes(proxy: Proxy, impatient: redis.Redis) -> None:
    assert impatient.ping()
    wait_for(lambda: proxy.counts["up"] == proxy.counts["down"] > 0, "every message to be answered")


def test_replies_come_late(proxy: Proxy, impatient: redis.Redis) -> None:
    impatient.ping()
    proxy.rules = Rules(delay=(0.05, 0.06))
    began = time.monotonic()
    impatient.ping()
    assert time.monotonic() - began >= 0.1


def test_a_black_hole_answers_nothing(proxy: Proxy, impatient: redis.Redis) -> None:
    impatient.ping()
    proxy.rules = BLACK_HOLE
    with pytest.raises(redis.exceptions.TimeoutError):
        impatient.ping()
    assert proxy.counts["dropped"] >= 1
    proxy.rules = Rules()
    assert impatient.ping()


def test_what_is_sent_arrives_though_no_reply_does(proxy: Proxy, impatient: redis.Redis, client: redis.Redis) -> None:
    impatient.ping()
    proxy.rules = Rules(drop=frozenset({"down"}))
    with pytest.raises(redis.exceptions.TimeoutError):
        impatient.set("there", 1)
    wait_for(lambda: client.get("there"), "the write to arrive")


def test_replies_are_cut_in_the_middle(proxy: Proxy, impatient: redis.Redis, client: redis.Redis) -> None:
    impatient.ping()
    proxy.rules = Rules(cut=1.0)
    with pytest.raises(redis.exceptions.ConnectionError):
        impatient.set("applied", 1)
    assert proxy.counts["cut"] == 1
    assert client.get("applied") == b"1"


def test_connections_are_refused_and_taken_again(proxy: Proxy, impatient: redis.Redis) -> None:
    proxy.rules = Rules(refuse=True)
    with pytest.raises(redis.exceptions.ConnectionError):
        impatient.ping()
    proxy.rules = Rules()
    assert impatient.ping()


TALKS = """
import redis, sys
client = redis.Redis.from_url(sys.argv[1])
for n in range(1000000): client.set("said", n)
"""


@pytest.mark.parametrize("when", ["before", "sent", "replied"])
def test_a_trap_ends_a_process_at_a_place_of_its_conversation(proxy: Proxy, client: redis.Redis, when: str) -> None:
    talker = subprocess.Popen([sys.executable, "-c", TALKS, proxy.url])
    wait_for(lambda: client.get("said"), "it to talk")
    trap = proxy.catch(talker.pid, 3, when)
    assert talker.wait(5) == -9
    assert trap.fired
