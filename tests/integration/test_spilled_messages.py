"""Messages above the limit, between real workers: through files, and told plainly where these are missing."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest

from tests.waiting import wait_for
from tm import codec
from tm.errors import SpillError
from tm.spill import Spill, read_reference
from tm.states import RunState
from tm.store.store import Store

if TYPE_CHECKING:
    from pathlib import Path

    from tests.workers import Site

MIB = 1 << 20
LARGE = """
    @task()
    def rows(mib=3): return {"rows": b"r" * (mib << 20), "mib": mib}
    @task()
    def count(rows):
        (notes / "counted").open("a").write("x")
        return len(rows["rows"])
    @task(queue="other")
    def keep(rows): return rows
    @task()
    def small(rows): return rows["mib"]
    graph = Graph("large"); graph.add_edges([rows], [count, keep])
    other = Graph("other"); other.add_edges([rows], [small])
    @task()
    def fine(): return "fine"
    third = Graph("fine"); third.add_edges([fine])
    @task()
    def waits():
        (notes / "begun").open("a").write("x")
        while not (notes / "go").exists(): time.sleep(0.01)
        return b"r" * (3 << 20)
    fourth = Graph("waits"); fourth.add_edges([waits])
"""


@pytest.fixture
def spill(tmp_path: Path) -> Spill:
    return Spill(tmp_path / "shared" / "default")


def shared(spill: Spill) -> dict[str, str]:
    return {"TM_SPILL": str(spill.folder.parent)}


def output(site: Site, run: str, task: str) -> bytes:
    node = [each.task for each in site.view(run).tasks].index(task)
    value = site.store.output(run, node)
    assert value is not None
    return value


def test_a_large_message_goes_through_a_file_between_two_workers(site: Site, spill: Spill) -> None:
    site.write(LARGE)
    site.worker("--queue", "default", **shared(spill))
    run = site.start("large", mib=5)
    wait_for(lambda: site.task(run, "count").state == "success", "the first worker to have read it")
    site.worker("--queue", "other", **shared(spill))
    assert site.ended(run).state is RunState.SUCCESS
    reference = read_reference(output(site, run, "rows"))
    assert reference is not None
    assert reference.size > 5 * MIB
    assert len(output(site, run, "rows")) < 200, "the server holds the reference alone"
    assert codec.decode(output(site, run, "count")) == 5 * MIB
    reader = Store(site.store.client, spill=spill)
    assert codec.decode(reader.result(run) or b"")["mib"] == 5
    with pytest.raises(SpillError, match="set TM_SPILL"):
        Store(site.store.client).result(run)


def test_a_small_message_makes_no_file(site: Site, spill: Spill) -> None:
    site.write(LARGE)
    site.worker(**shared(spill))
    assert site.result("other", mib=0) == 0
    assert not spill.folder.exists()


def test_without_a_store_a_large_message_fails_its_attempt_and_names_the_setting(site: Site) -> None:
    site.write(LARGE)
    site.worker()
    view = site.ended(site.start("other"))
    assert view.state is RunState.FAILED
    message = site.error(view.id, "rows")["message"]
    assert "at most 1,048,576 are sent" in message
    assert "TM_MAX_MESSAGE" in message
    assert "TM_SPILL" in message
    assert site.result("fine") == "fine"


def test_what_is_too_large_for_a_file_too_fails_at_once(site: Site, spill: Spill) -> None:
    site.write(LARGE)
    site.worker(**shared(spill))
    view = site.ended(site.start("other", mib=65))
    assert "at most 67,108,864 are sent;" in site.error(view.id, "rows")["message"]
    assert not spill.folder.exists()


@pytest.mark.parametrize("damage", ["missing", "truncated"])
def test_a_file_that_is_gone_or_cut_short_fails_its_readers_alone(site: Site, spill: Spill, damage: str) -> None:
    site.write(LARGE)
    first = site.worker("--queue", "default", **shared(spill))
    run = site.start("large")
    wait_for(lambda: site.task(run, "count").state == "success", "the first worker to have read it")
    [path] = (spill.folder / run).iterdir()
    if damage == "missing":
        path.unlink()
    else:
        os.truncate(path, MIB)
    site.worker("--queue", "other", **shared(spill))
    assert site.ended(run).state is RunState.FAILED
    error = site.error(run, "keep")
    assert error["type"] == "tm.errors.SpillError"
    assert str(path) in error["message"]
    assert ("No such file" if damage == "missing" else "1,048,576 bytes") in error["message"]
    assert site.task(run, "count").state == "success"
    assert site.result("fine") == "fine"
    assert first.process.poll() is None


def test_a_worker_that_dies_between_the_file_and_the_report_leaves_nothing_wrong(site: Site, spill: Spill) -> None:
    """The report is cut off by stopping the supervisor; the file is there, and the next attempt writes it again."""
    site.write(LARGE)
    victim = site.worker("--processes", "1", TM_LEASE="1", **shared(spill))
    run = site.start("waits")
    wait_for(lambda: site.noted("begun"), "the task to begin")
    victim.signal(signal.SIGSTOP)
    (site.folder / "notes" / "go").touch()
    wait_for(lambda: spill.runs().keys() == {run}, "the executor to write the file by itself")
    wait_for(lambda: not any(each.name.startswith(".") for each in (spill.folder / run).iterdir()), "all of it")
    assert site.task(run, "waits").state == "running", "nobody has reported"
    victim.signal(signal.SIGKILL)
    site.worker(**shared(spill))
    wait_for(lambda: site.store.reap() or site.task(run, "waits").attempt == 2, "the attempt to be lost", 20)
    assert site.ended(run, 30).state is RunState.SUCCESS
    assert site.noted("begun") == "xx"
    [_] = (spill.folder / run).iterdir()


def test_a_directory_that_takes_no_file_fails_the_attempt_with_the_reason(site: Site, tmp_path: Path) -> None:
    site.write(LARGE)
    (tmp_path / "no-directory").touch()
    site.worker(TM_SPILL=str(tmp_path / "no-directory"))
    view = site.ended(site.start("other"))
    assert "cannot be kept in" in site.error(view.id, "rows")["message"]
    assert site.result("fine") == "fine"
