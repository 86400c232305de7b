"""When a task counts as one that nobody offers: no server, no clock."""

from __future__ import annotations

from typing import Any

import pytest

from tm import codec
from tm.store.housework import Waiting
from tm.store.looking import WorkerView
from tm_scheduler.stranded import PAGE, Stranded, pause

NOW = 1_790_000_000_000


class Store:
    def __init__(self, *jobs: Waiting) -> None:
        self.jobs: list[Waiting] = list(jobs)
        self.given_up: dict[str, str] = {}
        self.pages: list[int] = []

    def waiting(self, queue: str, first: int, count: int) -> tuple[list[Waiting], bool]:
        self.pages.append(first)
        page = self.jobs[first : first + count] if queue == "default" else []
        return [each for each in page if each.task != "callback"], len(page) == count

    def give_up(self, job: str, error: bytes) -> bool:
        self.given_up[job] = codec.decode(error)["message"]
        self.jobs = [each for each in self.jobs if each.job != job]
        return True


def worker(*offers: str, queues: str = "default", alive: bool = True) -> WorkerView:
    return WorkerView(name="w", seen_ms=NOW, alive=alive, about={"queues": queues}, offers=frozenset(offers))


def waiting(run: str = "r", task: str = "t", since: int = NOW) -> Waiting:
    return Waiting(f"{run}_0_1", run, "g", task, since)


class Stage:
    def __init__(self, *jobs: Waiting, after: float = 600.0) -> None:
        self.store = Store(*jobs)
        self.now = 0.0
        self.stranded = Stranded(self.store, after, monotonic=lambda: self.now)

    def passes(self, seconds: float, *workers: WorkerView, every: float = 30.0) -> dict[str, str]:
        """Let time pass, and what was given up in it."""
        until = self.now + seconds
        while self.now <= until:
            self.stranded.one_pass(NOW + int(self.now * 1000), workers, ["default"])
            self.now += every
        return self.store.given_up


def test_what_nobody_has_offered_for_ten_minutes_is_given_up_and_says_all_there_is_to_know() -> None:
    stage = Stage(waiting())
    assert stage.passes(570, worker("other")) == {}
    given_up = stage.passes(60, worker("other"))
    assert list(given_up) == ["r_0_1"]
    message = given_up["r_0_1"]
    for part in (
        "task 't'",
        "graph 'g'",
        "queue 'default'",
        "since 2026-09-2",
        "UTC",
        "TM_NO_WORKER_AFTER",
        "`tm retry r`",
    ):
        assert part in message


@pytest.mark.parametrize(
    "there",
    [worker("g"), worker("g", "g/", "g/t"), worker("g", queues="other,default")],
    ids=["the graph", "the task", "by another queue first"],
)
def test_what_a_worker_offers_waits_however_long_its_queue_is(there: WorkerView) -> None:
    assert Stage(waiting(since=NOW - 10**9)).passes(6000, there, worker("other")) == {}


@pytest.mark.parametrize(
    "there",
    [worker("g", queues="other"), worker("g", "g/", "g/another"), worker("g", alive=False)],
    ids=["on another queue", "another task of the graph", "dead"],
)
def test_a_worker_that_would_not_take_it_does_not_count(there: WorkerView) -> None:
    assert Stage(waiting()).passes(700, there, worker("other")) != {}


def test_where_no_worker_is_there_at_all_everything_waits() -> None:
    stage = Stage(waiting())
    assert stage.passes(6000, worker("g", alive=False)) == {}
    assert stage.passes(570, worker("other")) == {}, "the time begins when workers are there"
    assert stage.passes(60, worker("other")) != {}


def test_a_worker_that_was_away_for_a_while_costs_nobody_anything() -> None:
    stage = Stage(waiting(since=NOW - 10**9))
    for _ in range(20):
        stage.passes(500, worker("other"))
        assert stage.passes(30, worker("other"), worker("g")) == {}


def test_a_run_that_has_just_come_waits_its_ten_minutes_too() -> None:
    stage = Stage(waiting("old"))
    stage.passes(590, worker("other"))
    stage.store.jobs.append(waiting("young", since=NOW + 580_000))
    assert list(stage.passes(60, worker("other"))) == ["old_0_1"]
    assert list(stage.passes(600, worker("other"))) == ["old_0_1", "young_0_1"]


def test_a_long_queue_is_looked_at_page_by_page() -> None:
    jobs: list[Any] = [waiting(f"r{n}", "known" if n % 2 else "callback") for n in range(2 * PAGE)]
    stage = Stage(*jobs, waiting("lost", "unknown"))
    workers = worker("g", "g/", "g/known")
    assert list(stage.passes(1000, workers)) == ["lost_0_1"]
    assert set(stage.store.pages) == {0, PAGE, 2 * PAGE}


@pytest.mark.parametrize(("after", "seconds"), [(600, 30), (100, 5), (1, 0.1), (86400, 30)])
def test_it_looks_often_enough_and_no_more(after: float, seconds: float) -> None:
    assert pause(after) == seconds
