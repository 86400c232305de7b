"""The thread that files history: only while leading, for ever, and to the end when asked."""

from __future__ import annotations

import threading
from contextlib import contextmanager

import pytest

from tests.waiting import wait_for
from tm.errors import UnavailableError
from tm_scheduler import outage
from tm_scheduler.archiving import Archiving


class Events:
    """Events that wait to be filed, and a history that can be out of order."""

    def __init__(self):
        self.waiting, self.filed, self.opened, self.passes = 0, 0, 0, 0
        self.trouble = None
        self.lock = threading.Lock()

    @contextmanager
    def open(self):
        self.opened += 1
        yield self.file_some

    def file_some(self, wait):
        self.passes += 1
        if self.trouble is not None:
            raise self.trouble
        with self.lock:
            some = min(self.waiting, 1000)
            self.waiting -= some
            self.filed += some
        if wait and not some:
            threading.Event().wait(0.01)
        return some


@pytest.fixture
def events(monkeypatch):
    monkeypatch.setattr(outage, "SHORTEST", 0.01)
    return Events()


@pytest.fixture
def archiving(events):
    found = Archiving(events.open)
    found.start()
    yield found
    found.stop()


def test_nothing_is_filed_by_a_standby(archiving, events):
    events.waiting = 10
    assert archiving.finish(1.0), "it is not ours to file"
    assert events.opened == 0


def test_a_leader_files(archiving, events):
    archiving.lead(True)
    events.waiting = 2500
    wait_for(lambda: events.filed == 2500, "all to be filed")
    assert events.opened == 1


def test_finish_files_everything_that_was_there_when_it_was_called(archiving, events):
    archiving.lead(True)
    for _ in range(20):
        with events.lock:
            events.waiting += 3000
        assert archiving.finish(5.0)
        assert events.waiting == 0
        archiving.lead(True)


def test_after_finish_nothing_is_filed(archiving, events):
    archiving.lead(True)
    assert archiving.finish(5.0)
    before = events.passes
    events.waiting = 1
    assert archiving.finish(0.1)
    assert events.passes <= before + 1, "one may have been on its way"


@pytest.mark.parametrize("trouble", [UnavailableError("locked"), OSError("gone"), ValueError("who knows")])
def test_trouble_is_waited_out_and_everything_opened_afresh(archiving, events, trouble, caplog):
    events.trouble = trouble
    archiving.lead(True)
    wait_for(lambda: events.opened >= 3, "some tries")
    assert not archiving.finish(0.05)
    events.waiting = 5
    archiving.lead(True)
    events.trouble = None
    wait_for(lambda: events.filed == 5, "history to be written again")
    told = [each.message for each in caplog.records if "history is behind" in each.message]
    assert told
    assert len(told) == 1 or isinstance(trouble, ValueError), "once per trouble"


def test_leadership_that_comes_back_opens_afresh(archiving, events):
    archiving.lead(True)
    wait_for(lambda: events.passes > 0, "a pass")
    archiving.lead(False)
    wait_for(lambda: not archiving._active, "it to rest")
    events.waiting = 3
    threading.Event().wait(0.05)  # it would have filed by now
    assert events.waiting == 3
    archiving.lead(True)
    wait_for(lambda: events.filed == 3, "all to be filed")
    assert events.opened == 2


def test_stop_ends_the_thread_in_any_state(events):
    for leading in (True, False):
        archiving = Archiving(events.open)
        archiving.start()
        archiving.lead(leading)
        archiving.stop()
        assert not archiving._thread.is_alive()
