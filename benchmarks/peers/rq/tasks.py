"""RQ's jobs. What a job depends on is fetched, as RQ's documentation shows."""

from __future__ import annotations

import os
import time

from rq import get_current_job

from benchmarks.peers import work


def _inputs():
    return [job.return_value() for job in get_current_job().fetch_dependencies()]


def _before():
    inputs = _inputs()
    return inputs[0] if inputs else None


def small(number):
    return work.small(number)


def hop():
    return work.hop(_before())


def load():
    return work.load(_before())


def step(size):
    return work.step(_before(), size)


def root():
    return work.root()


def leaf(number):
    return work.leaf(_before(), number)


def collect():
    return work.collect(_inputs())


def top(number):
    return work.top(number)


def left():
    return work.left(_before())


def right():
    return work.right(_before())


def bottom():
    return work.bottom(*_inputs())


def pid():
    time.sleep(0.01)  # or one worker would do them all
    return os.getpid()


def now():
    return time.time()
