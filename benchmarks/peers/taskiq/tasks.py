"""The taskiq broker and its tasks."""

from __future__ import annotations

import asyncio
import os
import time

from taskiq.serializers import ORJSONSerializer
from taskiq_pipelines import PipelineMiddleware
from taskiq_redis import ListQueueBroker, RedisAsyncResultBackend

from benchmarks.peers import work

URL = os.environ["BENCH_URL"]
broker = (
    ListQueueBroker(URL)
    .with_result_backend(RedisAsyncResultBackend(URL, serializer=ORJSONSerializer()))
    .with_serializer(ORJSONSerializer())
    .with_middlewares(PipelineMiddleware())
)


@broker.task(task_name="small")
async def small(number):
    return work.small(number)


@broker.task(task_name="hop")
async def hop(before):
    return work.hop(before)


@broker.task(task_name="load")
async def load(before):
    return work.load(before)


@broker.task(task_name="step")
async def step(before, size):
    return work.step(before, size)


@broker.task(task_name="root")
async def root(size):
    above = work.root()
    return [[above, number] for number in range(size)]  # a map needs its items


@broker.task(task_name="leaf")
async def leaf(item):
    return work.leaf(*item)


@broker.task(task_name="collect")
async def collect(leaves):
    return work.collect(leaves)


@broker.task(task_name="pid")
async def pid():
    await asyncio.sleep(0.01)
    return os.getpid()


@broker.task(task_name="now")
async def now():
    return time.time()
