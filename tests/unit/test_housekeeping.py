"""The leader's thread of duties: done while it leads, one by one, whatever becomes of the others."""

from __future__ import annotations

import threading
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
import redis.exceptions

from tests.waiting import wait_for
from tm.config import Settings
from tm.errors import SpillError
from tm_scheduler.duties import duties
from tm_scheduler.housekeeping import Duty, Housekeeping

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.servers import Server


class Stand:
    def __init__(self) -> None:
        self.done: Counter[str] = Counter()
        self.opened = self.closed = 0
        self.trouble: dict[str, Exception] = {}
        self.duties = [self.duty("first", 0.01), self.duty("second", 0.01), self.duty("rare", 3600)]
        self.keeping = Housekeeping(self.open)

    def duty(self, name: str, every: float) -> Duty:
        def action() -> None:
            self.done[name] += 1
            if name in self.trouble:
                raise self.trouble[name]

        return Duty(name, every, action)

    @contextmanager
    def open(self) -> Iterator[list[Duty]]:
        self.opened += 1
        try:
            yield self.duties
        finally:
            self.closed += 1

    def more(self, name: str, times: int = 3) -> None:
        before = self.done[name]
        wait_for(lambda: self.done[name] >= before + times, f"{name} to be done")


@pytest.fixture
def stand() -> Iterator[Stand]:
    stand = Stand()
    stand.keeping.start()
    yield stand
    stand.keeping.stop()
    assert not any(thread.name == "housekeeping" for thread in threading.enumerate())


def test_who_does_not_lead_does_nothing(stand: Stand) -> None:
    assert not stand.opened
    stand.keeping.lead(True)
    stand.more("first")
    stand.keeping.lead(False)
    wait_for(lambda: stand.closed == 1, "it to let go of the connection")
    stand.keeping.lead(True)
    wait_for(lambda: stand.opened == 2, "it to begin again")


def test_each_duty_has_its_own_pace(stand: Stand) -> None:
    stand.keeping.lead(True)
    stand.more("first", 20)
    assert stand.done["rare"] == 1


@pytest.mark.parametrize(
    "error",
    [SpillError("no disk"), OSError("stale handle"), redis.exceptions.ResponseError("WRONGTYPE"), KeyError("bug")],
    ids=type,
)
def test_trouble_of_one_is_said_once_and_keeps_no_other_from_its_turn(
    stand: Stand, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    stand.trouble = {"first": error}
    stand.keeping.lead(True)
    stand.more("second", 5)
    stand.more("first", 5)
    said = [record for record in caplog.records if "duty" in record.getMessage()]
    assert len(said) == 1
    assert stand.opened == 1


def test_after_an_outage_it_begins_again(stand: Stand) -> None:
    stand.trouble = {"first": redis.exceptions.ConnectionError("away")}
    stand.keeping.lead(True)
    wait_for(lambda: stand.opened >= 3, "it to try again")
    stand.trouble = {}
    stand.more("second")


def test_the_duties_of_real_settings_are_done_on_a_real_server(server: Server, tmp_path: Path) -> None:
    shared = Settings(url=server.url, home=tmp_path)
    embedded = Settings(url=server.url, home=tmp_path, spill=tmp_path / "spill", no_worker_after=0)
    names = []
    for settings in (shared, embedded):
        with duties(settings) as found:
            names.append([duty.name for duty in found])
            for duty in found:
                duty.action()
    assert names == [
        ["tasks that no worker offers", "old functions and graphs"],
        ["large messages of forgotten runs", "old functions and graphs"],
    ]
