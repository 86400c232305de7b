"""What we take from RQ, what we refuse, and that RQ is still the one we were built for."""

from __future__ import annotations

import inspect
import pickle  # noqa: TID251 - to show that it is refused
from typing import Any

import msgpack
import pytest
import rq
from redis import Redis
from rq import worker_registration
from rq.job import Job
from rq.queue import Queue
from rq.serializers import DefaultSerializer, resolve_serializer
from rq.worker import Worker

from tm.errors import RefusedError
from tm.queues import MAX_JOB_DATA, MessageSerializer, TmJob, TmQueue, rq_queue_name
from tm_worker.worker import TmWorker

OVERRIDDEN = {
    Job: {
        "__init__": "(self, id: 'str | None' = None, connection: 'Redis | None' = None, serializer=None)",
        "restore": "(self, raw_data) -> 'Any'",
        "perform": "(self) -> 'Any'",
        "fetch": "(id: 'str', connection: 'Redis | None' = None, serializer=None) -> 'Job'",
    },
    Queue: {
        "__init__": (
            "(self, name: 'str' = 'default', connection: 'Redis | None' = None, default_timeout: 'int | None' = None, "
            "is_async: 'bool' = True, job_class: 'str | type[Job] | None' = None, "
            "serializer: 'Serializer | str | None' = None, "
            "death_penalty_class: 'type[BaseDeathPenalty] | None' = <class 'rq.timeouts.UnixSignalDeathPenalty'>, **kwargs)"
        ),
        "dequeue_any": (
            "(queues: 'Iterable[Queue]', timeout: 'int | None', connection: 'Redis', job_class: 'type[Job] | None' = None, "
            "serializer: 'Serializer | str | None' = None, death_penalty_class: 'type[BaseDeathPenalty] | None' = None) "
            "-> 'tuple[Job, Queue] | None'"
        ),
    },
    Worker: {
        "work": (
            "(self, burst: 'bool' = False, logging_level: 'str | None' = None, date_format: 'str' = '%H:%M:%S', "
            "log_format: 'str' = '%(asctime)s %(message)s', max_jobs: 'int | None' = None, "
            "max_idle_time: 'int | None' = None, with_scheduler: 'bool' = False, "
            "dequeue_strategy: 'DequeueStrategy' = <DequeueStrategy.DEFAULT: 'default'>) -> 'bool'"
        ),
        "register_birth": "(self)",
        "register_death": "(self)",
        "serialize": "(self) -> 'dict'",
        "set_state": "(self, state: 'str', pipeline: 'Pipeline | None' = None)",
        "_set_connection": "(self, connection: 'Redis') -> 'Redis'",
        "_set_ip_address": "(self, connection: 'Redis') -> 'None'",
    },
    worker_registration: {
        "register": "(worker: 'BaseWorker', pipeline: 'Pipeline | None' = None)",
        "unregister": "(worker: 'BaseWorker', pipeline: 'Pipeline | None' = None)",
    },
}

REFUSED = [
    "execute_job",
    "perform_job",
    "prepare_execution",
    "prepare_job_execution",
    "dequeue_job_and_maintain_ttl",
    "handle_job_success",
    "handle_job_failure",
    "handle_job_retry",
    "fork_work_horse",
    "main_work_horse",
    "monitor_work_horse",
    "maintain_heartbeats",
    "bootstrap",
    "subscribe",
    "handle_payload",
    "request_stop",
    "request_force_stop",
    "run_maintenance_tasks",
    "clean_registries",
    "clean_group_registries",
    "_start_scheduler",
]


@pytest.mark.parametrize(("owner", "name"), [(owner, name) for owner, names in OVERRIDDEN.items() for name in names])
def test_rq_is_the_one_we_were_built_for(owner: Any, name: str) -> None:
    assert str(inspect.signature(getattr(owner, name))) == OVERRIDDEN[owner][name]


def test_the_version_of_rq_is_pinned() -> None:
    assert rq.VERSION.startswith("3.0.")


@pytest.mark.parametrize("name", REFUSED)
def test_rqs_way_of_running_jobs_exists_and_is_refused(name: str) -> None:
    assert callable(getattr(Worker, name))
    with pytest.raises(RefusedError):
        getattr(TmWorker, name)()


def test_queues_of_other_namespaces_carry_it() -> None:
    assert rq_queue_name("default", "bulk") == "bulk"
    assert rq_queue_name("test", "bulk") == "test.bulk"


def test_nothing_is_unpickled() -> None:
    data = pickle.dumps({"harmless": True})
    for serializer in (DefaultSerializer, resolve_serializer(None), resolve_serializer("pickle")):
        with pytest.raises(RefusedError, match="MessageSerializer"):
            serializer.loads(data)


def test_job_data_is_msgpack_within_a_limit() -> None:
    data = ["label", None, ["run", 0, 1], {}]
    assert MessageSerializer.loads(MessageSerializer.dumps(data)) == data
    with pytest.raises(ValueError, match="at most"):
        MessageSerializer.loads(bytes(MAX_JOB_DATA + 1))


class Nowhere(Redis):
    """A client that is never used."""

    def execute_command(self, *args: Any, **_: Any) -> Any:
        raise AssertionError(args)


def hostile(name: str) -> TmJob:
    job = TmJob("x", connection=Nowhere(), serializer="pickle")
    job.restore(
        {
            b"data": msgpack.packb([name, None, ["true"], {}]),
            b"success_callback_name": name.encode(),
            b"failure_callback_name": name.encode(),
            b"stopped_callback_name": name.encode(),
            b"webhooks": b'[{"url": "http://127.0.0.1:9/", "statuses": ["finished"]}]',
            b"status": b"queued",
        }
    )
    return job


def test_a_job_names_no_code() -> None:
    job = hostile("os.system")
    assert job.func_name == "os.system"  # shown, not used
    with pytest.raises(RefusedError):
        job.func("true")
    with pytest.raises(RefusedError):
        job.perform()
    assert job.success_callback is job.failure_callback is job.stopped_callback is None
    assert job.webhooks == []


def test_a_queue_is_not_popped_by_rq() -> None:
    queue = TmQueue("q", connection=Nowhere(), serializer="pickle")
    assert queue.serializer is MessageSerializer
    assert queue.job_class is TmJob
    with pytest.raises(RefusedError):
        TmQueue.dequeue_any([queue], None, connection=Nowhere())
