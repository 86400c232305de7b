"""What RQ sees: its own classes read our queues and queued attempts, and namespaces keep apart."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
from rq.exceptions import NoSuchJobError
from rq.job import Job
from rq.queue import Queue

from tests.store.stage import CHAIN, SINGLE, Stage, plan
from tm.queues import MessageSerializer
from tm.store.records import NewRun

if TYPE_CHECKING:
    import redis

INSTANTS = [
    "2026-11-24T03:39:00.123Z",
    "2024-02-29T23:59:59.999Z",
    "2024-03-01T00:00:00.000Z",
    "2025-02-28T12:00:00.001Z",
    "2000-02-29T00:00:00.000Z",
    "2100-03-01T00:00:00.010Z",
    "2025-12-31T23:59:59.100Z",
    "1970-01-01T00:00:01.000Z",
]


def fetch(stage: Stage, job: str) -> Job:
    return Job.fetch(stage.keys.rq_id(job), connection=stage.client, serializer=MessageSerializer)


def test_rq_fetches_a_queued_attempt(stage: Stage) -> None:
    stage.start(plan({"täglich": []}, graph="etl *", queue="slow"))
    job = fetch(stage, "r_0_1")
    assert (job.id, job.origin, job.get_status(), job.description) == ("r_0_1", "slow", "queued", "etl *.täglich")
    assert (job.func_name, job.args, job.kwargs) == ("tm_worker.process.perform", ["r", 0, 1], {})


@pytest.mark.parametrize("instant", INSTANTS)
def test_rq_reads_when_it_was_queued(stage: Stage, instant: str) -> None:
    moment = datetime.fromisoformat(instant)
    stage.at(round(moment.timestamp() * 1000))
    stage.start(plan(SINGLE))
    job = fetch(stage, "r_0_1")
    assert job.enqueued_at == job.created_at == moment
    assert job.enqueued_at is not None
    assert job.enqueued_at.tzinfo is UTC


def test_rq_lists_queues_with_depth_and_jobs(stage: Stage) -> None:
    stage.store.start(plan(SINGLE), [NewRun(id="a"), NewRun(id="b")])
    stage.store.start(plan(SINGLE, queue="slow"), [NewRun(id="c")])
    queues = {
        queue.name: (queue.count, queue.job_ids, [job.id for job in queue.get_jobs()])
        for queue in Queue.all(connection=stage.client, serializer=MessageSerializer)
    }
    assert queues == {
        "default": (2, ["a_0_1", "b_0_1"], ["a_0_1", "b_0_1"]),
        "slow": (1, ["c_0_1"], ["c_0_1"]),
    }


def test_a_claimed_attempt_is_no_job_any_more(stage: Stage) -> None:
    stage.start(plan(CHAIN))
    claim = stage.take_one()
    with pytest.raises(NoSuchJobError):
        fetch(stage, claim.job)
    stage.finish(claim)
    assert fetch(stage, "r_1_1").args == ["r", 1, 1]


def test_a_cancelled_attempt_is_no_job_any_more(stage: Stage) -> None:
    stage.start(plan(CHAIN))
    stage.store.cancel("r")
    with pytest.raises(NoSuchJobError):
        fetch(stage, "r_0_1")


@pytest.mark.parametrize("namespace", ["team-a", "team.a", "team_a", "A1"])
def test_the_same_run_in_two_namespaces_is_two(client: redis.Redis, namespace: str) -> None:
    ours, theirs = Stage(client), Stage(client, namespace)
    shape = plan(CHAIN)
    ours.start(shape, "etl-20261124T000000Z")
    theirs.start(shape, "etl-20261124T000000Z")
    assert fetch(ours, "etl-20261124T000000Z_0_1").origin == "default"
    assert fetch(theirs, "etl-20261124T000000Z_0_1").origin == f"{namespace}.default"
    assert {queue.name for queue in Queue.all(connection=client)} == {"default", f"{namespace}.default"}
    assert ours.work() == ["a", "b", "c"]
    assert theirs.state("etl-20261124T000000Z") == "queued"
    assert fetch(theirs, "etl-20261124T000000Z_0_1").args == ["etl-20261124T000000Z", 0, 1], "it was theirs to delete"
    assert theirs.store.open_runs() == ["etl-20261124T000000Z"]
    assert ours.store.open_runs() == []
    assert theirs.work() == ["a", "b", "c"]
    assert len(ours.events()) == len(theirs.events()) == 5


def test_one_namespace_rings_reaps_and_expires_nothing_of_another(client: redis.Redis) -> None:
    ours, theirs = Stage(client), Stage(client, "other")
    theirs.start(plan(CHAIN, timeout=1, retries=1), "x")
    theirs.start(plan(SINGLE), "y")
    theirs.take_one()
    client.delete(theirs.keys.bell("default"))
    ours.later(10**9)
    before = dump_of(theirs)
    assert (ours.store.reap(), ours.store.promote(), ours.store.ring(), ours.store.expire()) == (0, (0, None), 0, 0)
    assert ours.store.lead("me", 1000) is not None
    assert not ours.store.cancel("x")
    assert dump_of(theirs) == before


def dump_of(stage: Stage) -> dict[str, object]:
    return {key: value for key, value in stage.snapshot().items() if key.startswith(stage.keys.prefix)}
