"""What runs in an executor: one attempt after the other, each a claim frame in and a report frame out.

The stream to the supervisor is the only way out of here: an executor has no connection to any server. User code may
print, close its streams, fork, raise whatever it likes or call `sys.exit`; the stream is out of its reach.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import random
import resource
import socket
import sys
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NoReturn

from tm import callbacks, codec
from tm.clock import from_ms
from tm.context import Context, deadline, running
from tm.errors import CodecError, Fail, Skip, TaskmasterError
from tm.inprocess import arguments_for_root
from tm.spill import fetch
from tm_worker.callbacks import tell
from tm_worker.faults import describe
from tm_worker.memory import Gauge
from tm_worker.nursery import has_children

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tm.graph import AnyTask, Graph
    from tm.spill import Spill
    from tm_worker.capture import Capture
    from tm_worker.channel import ExecutorEnd


class UnknownTaskError(TaskmasterError):
    """The run refers to a task that the graph, as this worker has loaded it, does not have."""

    def __init__(self, graph: str, task: str) -> None:
        super().__init__(f"graph {graph!r} has no task {task!r} in the file this worker loaded; was it renamed?")
        self.graph, self.task = graph, task


class Executor:
    """Runs attempts of the given graphs until the supervisor closes the stream."""

    def __init__(
        self,
        channel: ExecutorEnd,
        graphs: Mapping[str, Graph],
        max_message: int,
        *,
        max_memory: int | None = None,
        spill: Spill | None = None,
        capture: Capture | None = None,
    ) -> None:
        self.graphs = graphs
        self.max_message, self.spill = max_message, spill
        self.pid = os.getpid()
        self.channel = channel
        channel.move(_out_of_reach)
        self.capture = capture
        self.streams = (sys.stdout, sys.stderr)
        self.targets = _targets()
        self.gauge = Gauge(max_memory)
        _reseed()

    def serve(self) -> None:
        """Run what comes; returns when the supervisor is gone, or when user code has spoiled this process."""
        os.register_at_fork(after_in_child=self.channel.abandon)
        while (claim := self.channel.receive()) is not None:
            job, token = claim[0], claim[1]
            if self.capture is not None:
                self.capture.begin(token, *claim[2:6])
            began = time.perf_counter_ns()
            fields = self._run(claim)
            if os.getpid() != self.pid:  # the task forked, and this is the child coming back from it
                _leave()
            microseconds = (time.perf_counter_ns() - began) // 1000
            # processes it has left running end with this one
            spoiled = self._flush()
            if self.capture is not None:
                self.capture.end()  # before the report: nobody must see a result whose lines are still to come
            leaving = spoiled or has_children() or self.gauge.too_large(microseconds // 1000)
            try:
                self.channel.send([job, token, *fields, microseconds, leaving])
            except ConnectionError:
                return  # the supervisor is dead, and others will run this attempt
            if leaving:
                return

    def _run(self, claim: list[Any]) -> tuple[bool, bytes, bytes, bool]:
        """Run one attempt. Returns success, value, error (of a success: why it was skipped), and whether to retry."""
        _, token, run, graph, name, attempt, tick_ms, params, config, inputs, timeout, ends_ms = claim
        if name.startswith(callbacks.SIGN):
            return tell(self.graphs, graph, params, inputs, attempt, self.spill)
        task: AnyTask | None = None
        try:
            task = self._task(graph, name)
            given: dict[str, Any] = codec.decode(params) if params else {}
            began = datetime.now(UTC)
            arguments = self._arguments(task, given, config, inputs)

            def context() -> Context:  # few tasks ask for it
                return Context(
                    run=run,
                    graph=graph,
                    task=name,
                    attempt=attempt,
                    token=token,
                    tick=None if tick_ms is None else from_ms(tick_ms),
                    params=dict(given),
                    deadline=deadline(began, timeout, ends_ms),
                )

            with running(context, alone=True):
                result = task.function(**arguments)
            return True, self._message(run, result), b"", False
        except Skip as reason:
            return True, b"", describe(reason, skip=__file__), False
        except BaseException as error:  # noqa: BLE001 - SystemExit and its kind fail the task, not the executor
            again = task is not None and isinstance(error, task.retry_on)
            again = again and not isinstance(error, Fail | CodecError | UnknownTaskError)
            return False, b"", describe(error, skip=__file__), again

    def _task(self, graph: str, name: str) -> AnyTask:
        try:
            return self.graphs[graph].tasks[name]
        except KeyError:
            raise UnknownTaskError(graph, name) from None

    def _arguments(self, task: AnyTask, given: dict[str, Any], config: str, inputs: list[Any]) -> dict[str, Any]:
        if inputs:
            return {name: codec.decode(fetch(self.spill, value)) for name, value in inputs}
        if config:
            given = {"config": json.loads(config), **given}
        return arguments_for_root(task, given.items())

    def _message(self, run: str, result: Any) -> bytes:
        """What the report carries: the message, or where it has been written down."""
        message = codec.encode(result, limit=self.max_message if self.spill is None else codec.HARD_LIMIT)
        if self.spill is None or len(message) <= self.max_message:
            return message
        return self.spill.keep(run, message)

    def _flush(self) -> bool:
        """Write out what the task printed. Returns whether it has spoiled the streams for those who come next."""
        spoiled = False
        for stream in self.streams:
            if stream is None:
                continue
            try:
                stream.flush()
            except (OSError, ValueError):
                spoiled = True
        # or the next file that somebody opens gets their numbers, and what others print
        return spoiled or _targets() != self.targets


def _targets() -> list[tuple[int, int] | None]:
    """What standard output and standard error lead to."""
    found: list[tuple[int, int] | None] = []
    for descriptor in (1, 2):
        try:
            status = os.fstat(descriptor)
            found.append((status.st_dev, status.st_ino))
        except OSError:
            found.append(None)
    return found


def _out_of_reach(sock: socket.socket) -> socket.socket:
    """The same stream on a high, private descriptor: user code that closes or dups low ones cannot hit it."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    lowest = 512 if limit == resource.RLIM_INFINITY or limit > 1024 else max(3, limit - 16)
    descriptor = fcntl.fcntl(sock.fileno(), fcntl.F_DUPFD_CLOEXEC, lowest)
    sock.close()
    return socket.socket(fileno=descriptor)


def _reseed() -> None:
    random.seed()
    if (numpy := sys.modules.get("numpy")) is not None:
        numpy.random.seed()


def _leave() -> NoReturn:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()
    os._exit(0)
