"""The Dramatiq broker and its actors."""

from __future__ import annotations

import os
import time

import dramatiq
import redis
from dramatiq.brokers.redis import RedisBroker
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend

from benchmarks.peers import work

URL = os.environ["BENCH_URL"]
broker = RedisBroker(url=URL)
# without redis-py's time-out of five seconds, which would end the wait for a long task
broker.add_middleware(Results(backend=RedisBackend(client=redis.Redis.from_url(URL, socket_timeout=None))))
dramatiq.set_broker(broker)


def actor(function, name):
    return dramatiq.actor(actor_name=name, store_results=True, max_retries=0)(function)


small = actor(work.small, "small")
hop = actor(work.hop, "hop")
load = actor(work.load, "load")


def _step(size, before):
    return work.step(before, size)


def _pid():
    time.sleep(0.01)  # or one worker would do them all
    return os.getpid()


step = actor(_step, "step")
pid = actor(_pid, "pid")
now = actor(lambda: time.time(), "now")  # noqa: PLW0108 - an actor needs a Python function
