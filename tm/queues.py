"""RQ, as far as Taskmaster stands on it: queues, the jobs in them, and how their data is written.

The truth is in the store. For RQ a queued attempt is a job whose list entry is a doorbell, so that RQ's own tools see
queues, depths and jobs. What RQ would do with a job, import a dotted name and call it, is refused here: only an
executor runs tasks, and only those it has loaded itself. Importing this module also forbids RQ to unpickle anything.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

import msgpack
from rq.job import Job
from rq.queue import Queue
from rq.serializers import DefaultSerializer

from tm.errors import RefusedError

if TYPE_CHECKING:
    import redis

#: bytes; job data holds a name and an id, anything larger was not written by us
MAX_JOB_DATA = 1 << 20


def rq_queue_name(namespace: str, queue: str) -> str:
    """What RQ calls a queue: its own name in the default namespace, `<namespace>.<queue>` in others."""
    return queue if namespace == "default" else f"{namespace}.{queue}"


class MessageSerializer:
    """RQ's serializer protocol in msgpack; pass it to `Job.fetch` to read a queued attempt.

    The server functions write job data as `[function name, nil, args, kwargs]`.
    """

    @staticmethod
    def dumps(obj: Any, /) -> bytes:
        """To bytes."""
        packed: bytes = msgpack.packb(obj)
        return packed

    @staticmethod
    def loads(data: bytes, /) -> Any:
        """From bytes; ValueError when they are too many or no msgpack."""
        if len(data) > MAX_JOB_DATA:
            raise ValueError(f"job data of {len(data):,} bytes; at most {MAX_JOB_DATA:,} are read")
        return msgpack.unpackb(data, strict_map_key=True)


def _refuse_pickle(data: bytes, /) -> NoReturn:
    raise RefusedError(
        "RQ wanted to unpickle data from the server; pass serializer=tm.queues.MessageSerializer "
        f"({len(data)} bytes refused)"
    )


# mypy sees two class attributes; RQ looks them up when it uses them, so this reaches every code path
DefaultSerializer.loads = _refuse_pickle


def _refuse_to_run(*_: object, **__: object) -> NoReturn:
    raise RefusedError("an attempt is run by an executor of tm-worker, not by RQ")


class TmJob(Job):
    """A queued attempt, to be looked at. It names no code: nothing in it can make a worker import or call anything."""

    def __init__(
        self,
        id: str | None = None,  # noqa: A002 - RQ's name for it
        connection: redis.Redis | None = None,
        serializer: Any = None,  # noqa: ARG002 - whatever the server or the caller says, data is msgpack
    ) -> None:
        super().__init__(id, connection, MessageSerializer)

    def restore(self, raw_data: Any) -> Any:
        """Take over what the server holds, but callbacks and web hooks, which would run code or call out."""
        super().restore(raw_data)
        self._success_callback_name = self._failure_callback_name = self._stopped_callback_name = None
        self.webhooks = []

    @property
    def func(self) -> Any:
        """A function that refuses; the name in the job's data is only a label."""
        return _refuse_to_run

    def perform(self) -> NoReturn:
        """Refused."""
        _refuse_to_run()


class TmQueue(Queue):
    """A queue, to be looked at: its depth and its jobs. Popping is the store's business."""

    job_class = TmJob

    def __init__(self, name: str = "default", connection: redis.Redis | None = None, **options: Any) -> None:
        options.update(serializer=MessageSerializer, job_class=TmJob)
        super().__init__(name, connection, **options)

    @classmethod
    def dequeue_any(cls, *_: Any, **__: Any) -> NoReturn:
        """Refused: RQ's way of popping from several queues loses jobs when the worker dies."""
        raise RefusedError("attempts are claimed through the store, not popped by RQ")
