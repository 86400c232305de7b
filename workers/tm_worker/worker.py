"""What RQ sees of us: a worker in its registry, with its queues and its state.

Only the registry is used. How RQ pops, runs, retries and cleans up is overridden or refused, for it loses jobs when a
process dies at the wrong moment; our loop and the store do these things. A test holds the signatures of what is
overridden here to those of the RQ version we are built for.
"""

from __future__ import annotations

import logging
import secrets
import socket
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from os import getpid
from typing import TYPE_CHECKING, Any, NoReturn

from redis.exceptions import OutOfMemoryError, RedisError
from rq import worker_registration
from rq.suspension import WORKERS_SUSPENDED
from rq.utils import utcformat
from rq.worker import Worker

from tm.errors import RefusedError
from tm.queues import MessageSerializer, TmJob, TmQueue, rq_queue_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from redis import Redis


def worker_name(name: str | None = None) -> str:
    """A name that no worker has had before, so that what an earlier one held is never taken for its own."""
    return f"{name or f'{socket.gethostname()}.{getpid()}'}.{secrets.token_hex(2)}"


def _refuse(*_: object, **__: object) -> NoReturn:
    raise RefusedError("this part of RQ is not used: attempts are run by the loop of tm-worker")


@contextmanager
def _shown_later() -> Iterator[None]:
    """A server at its maxmemory refuses to write what RQ shows; that is no reason not to work."""
    with suppress(OutOfMemoryError):
        yield


class TmWorker(Worker):
    """An entry in RQ's registry of workers, and the loop behind it."""

    queue_class: type[TmQueue] = TmQueue
    job_class = TmJob

    def __init__(self, queues: Sequence[str], name: str, connection: Redis, namespace: str, ttl: float) -> None:
        """See RQ; `ttl` is in seconds: after so long without a heartbeat the worker is no longer listed."""
        super().__init__(
            [rq_queue_name(namespace, queue) for queue in queues],
            name,
            connection=connection,
            worker_ttl=max(1, round(ttl)),
            serializer=MessageSerializer,
        )
        self.log = logging.getLogger("tm.worker")
        self.loop: Callable[[bool], int] | None = None

    def work(self, burst: bool = False, *_: Any, **__: Any) -> bool:
        """Run the loop until it is told to stop. Returns whether any attempt was run."""
        if self.loop is None:
            raise RefusedError("a TmWorker is made by tm_worker.service.serve")
        return self.loop(burst) > 0

    # The registry ---------------------------------------------------------------------------------------------------

    def register_birth(self) -> None:
        """Be listed, as idle. Safe to repeat."""
        self.birth_date = self.birth_date or datetime.now(UTC)
        self._find_ip_address()
        with self.connection.pipeline() as pipeline, _shown_later():
            pipeline.hset(self.key, mapping={**self._entry(), "state": "idle"})
            pipeline.expire(self.key, self.worker_ttl)
            worker_registration.register(self, pipeline)
            pipeline.execute()
        self._state = "idle"

    def set_state(self, state: str, pipeline: Any = None) -> None:
        """Have RQ show another state."""
        with _shown_later():
            super().set_state(state, pipeline)

    def beat(self, connection: Redis) -> bool:
        """Stay listed; called from the thread of heartbeats, with its connection. Returns whether RQ is suspended."""
        with connection.pipeline(transaction=False) as pipeline:
            # the whole entry: if the server has lost it, this is its rebirth
            pipeline.hset(self.key, mapping=self._entry())
            pipeline.hsetnx(self.key, "state", self._state)
            pipeline.expire(self.key, self.worker_ttl)
            worker_registration.register(self, pipeline)
            pipeline.exists(WORKERS_SUSPENDED)
            *written, suspended = pipeline.execute(raise_on_error=False)
        with _shown_later():
            for reply in (*written, suspended):
                if isinstance(reply, RedisError):
                    raise reply
        return bool(suspended)

    def noted(self, state: str) -> None:
        """The server has been told this state with another call."""
        self._state = state

    def _entry(self) -> dict[Any, Any]:
        self.last_heartbeat = datetime.now(UTC)
        entry: dict[Any, Any] = self.serialize()
        return entry | {"last_heartbeat": utcformat(self.last_heartbeat)}

    def _set_connection(self, connection: Redis) -> Redis:
        """Leave the connection's time-outs alone: RQ would raise them to seven minutes."""
        return connection

    def _set_ip_address(self, connection: Redis) -> None:  # noqa: ARG002 - RQ's signature
        """Not while being made: the server may be away."""
        self.ip_address = "unknown"

    def _find_ip_address(self) -> None:
        try:
            self.ip_address = str(self.connection.client_info()["addr"])
        except (RedisError, KeyError):
            self.ip_address = "unknown"  # a label, no more

    # Not used -------------------------------------------------------------------------------------------------------

    execute_job = perform_job = prepare_execution = prepare_job_execution = _refuse
    dequeue_job_and_maintain_ttl = handle_job_success = handle_job_failure = handle_job_retry = _refuse
    fork_work_horse = main_work_horse = monitor_work_horse = maintain_heartbeats = _refuse
    bootstrap = subscribe = handle_payload = request_stop = request_force_stop = _refuse
    run_maintenance_tasks = clean_registries = clean_group_registries = _start_scheduler = _refuse
