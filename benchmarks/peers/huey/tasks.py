"""The Huey instance and its tasks. A dict that a task returns arrives at the next one as keyword arguments."""

from __future__ import annotations

import logging
import os
import time

from huey import RedisHuey
from redis import ConnectionPool

from benchmarks.peers import work

logging.getLogger("huey").setLevel(logging.ERROR)
#: without redis-py's time-out of five seconds, which would end the wait for a long task
pool = ConnectionPool.from_url(os.environ["BENCH_URL"], socket_timeout=None)
huey = RedisHuey("bench", connection_pool=pool, notify_result=os.environ.get("BENCH_VARIANT") != "poll")

small = huey.task(name="small")(work.small)
root = huey.task(name="root")(work.root)
leaf = huey.task(name="leaf")(work.leaf)
collect = huey.task(name="collect")(work.collect)
top = huey.task(name="top")(work.top)
left = huey.task(name="left")(work.left)
right = huey.task(name="right")(work.right)
load = huey.task(name="load")(work.load)


@huey.task()
def hop(**before):
    return work.hop(before or None)


@huey.task()
def step(size, **before):
    return work.step(before or None, size)


@huey.task()
def bottom(both):
    return work.bottom(*both)


@huey.task()
def pid():
    time.sleep(0.01)  # or one worker would do them all
    return os.getpid()


@huey.task()
def now():
    return time.time()
