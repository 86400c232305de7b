"""What executors and the supervisor see of memory: measured on this process and its children."""

from __future__ import annotations

import mmap
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.waiting import wait_for
from tm import children
from tm_worker.memory import LOOK_EVERY, WATCH_EVERY, Gauge, Watch, of_family, resident

pytestmark = pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc")
MIB = 1 << 20


def hold(mebibytes: int) -> mmap.mmap:
    """Memory that is really there, and goes when it is closed."""
    block = mmap.mmap(-1, mebibytes * MIB)
    for page in range(0, len(block), mmap.PAGESIZE):
        block[page] = 1
    return block


def test_what_a_process_holds_is_seen_and_so_is_its_end() -> None:
    before = resident()
    with hold(64):
        assert 60 * MIB < resident() - before < 80 * MIB
    assert resident() - before < 20 * MIB


def test_without_a_limit_nobody_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "pread", None)
    assert not Gauge(None).too_large(1000)


def test_an_executor_sees_that_it_has_grown() -> None:
    gauge = Gauge(resident() + 32 * MIB)
    assert not gauge.too_large(5)
    with hold(64):
        assert gauge.too_large(5)


def test_after_the_shortest_attempts_it_looks_now_and_then_only(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("tm_worker.memory.time.monotonic", lambda: now)
    gauge = Gauge(1)
    assert gauge.too_large(0), "the first look"
    assert not gauge.too_large(0)
    assert gauge.too_large(1), "one that took longer may have taken memory"
    now += LOOK_EVERY
    assert gauge.too_large(0)


def test_a_family_counts_what_its_children_hold_and_shared_pages_once() -> None:
    block, alone = hold(64), of_family(os.getpid())
    ready, tell = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(tell, b"x")
        signal.pause()
        os._exit(0)
    try:
        os.read(ready, 1)
        assert of_family(os.getpid()) - alone < alone * 0.7, "what it shares with the child counts in part"
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        block.close()
    code = "import time; block = bytearray(b'x') * (80 << 20); print(flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, start_new_session=True) as child:
        assert child.stdout is not None
        child.stdout.readline()
        assert child.pid in children.descendants(os.getpid())
        assert of_family(os.getpid()) - resident() > 80 * MIB
        child.kill()
    wait_for(lambda: child.pid not in children.descendants(os.getpid()), "it to be gone")
    assert of_family(child.pid) == 0, "a process that is gone holds nothing"


def test_the_watch_looks_once_a_second_at_what_runs() -> None:
    sizes = {11: 5 * MIB, 12: 50 * MIB, 13: 60 * MIB}
    watch = Watch(10 * MIB, measure=sizes.__getitem__)
    for number, pid in enumerate(sizes, 1):
        watch.born(number, pid)
    watch.died(3)
    assert watch.next_time(list) is None
    assert watch.beyond(lambda: [1, 2, 3], 100.0) == {2: 50 * MIB}
    assert watch.next_time(lambda: [1]) == 100.0 + WATCH_EVERY
    assert watch.beyond(lambda: [2], 100.0 + WATCH_EVERY / 2) == {}
    assert watch.beyond(lambda: [1], 100.0 + WATCH_EVERY) == {}


def test_a_watch_without_a_limit_never_wakes_anybody() -> None:
    watch = Watch(None, measure=lambda pid: pytest.fail("it looked"))
    watch.born(1, os.getpid())
    assert watch.next_time(lambda: [1]) is None
    assert watch.beyond(lambda: [1], 100.0) == {}
