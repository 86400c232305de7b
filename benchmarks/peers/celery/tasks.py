"""The Celery app and its tasks."""

from __future__ import annotations

import os
import time

from celery import Celery

from benchmarks.peers import work

URL = os.environ["BENCH_URL"]
app = Celery("tasks", broker=URL, backend=URL)
app.conf.update(
    task_serializer="json",
    result_serializer="json",
    accept_content=["json"],
    worker_prefetch_multiplier=64,
    worker_send_task_events=False,
    task_send_sent_event=False,
    broker_connection_retry_on_startup=True,
    worker_hijack_root_logger=False,
)

small = app.task(work.small, name="small")
hop = app.task(work.hop, name="hop")
root = app.task(work.root, name="root")
leaf = app.task(work.leaf, name="leaf")
collect = app.task(work.collect, name="collect")
top = app.task(work.top, name="top")
left = app.task(work.left, name="left")
right = app.task(work.right, name="right")
load = app.task(work.load, name="load")
step = app.task(work.step, name="step")


@app.task(name="bottom")
def bottom(both):
    return work.bottom(*both)


@app.task(name="pid")
def pid():
    time.sleep(0.01)  # or one worker would do them all
    return os.getpid()


@app.task(name="now")
def now():
    return time.time()
