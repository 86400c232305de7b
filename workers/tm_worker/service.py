"""A worker from its first fork to its last word."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import socket
from datetime import UTC, datetime
from typing import TYPE_CHECKING, cast

from tm import callbacks
from tm.errors import SettingsError
from tm.ids import QUEUE_NAME
from tm_worker.faults import keep_sources
from tm_worker.nursery import Nursery
from tm_worker.presence import Presence

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from tm.config import Settings
    from tm.graph import Graph
    from tm_worker.channel import ExecutorEnd
    from tm_worker.wire import Wire


def serve(
    graphs: Sequence[Graph],
    settings: Settings,
    *,
    queues: Sequence[str] = (),
    processes: int | None = None,
    burst: bool = False,
    name: str | None = None,
    max_tasks: int | None = None,
    ready: Callable[[], None] | None = None,
) -> int:
    """Run attempts of these graphs until SIGTERM or SIGINT; returns the exit code.

    Call it in a process that has no connection and no thread, for it begins by forking. A server that is away is
    waited for. The first signal drains: running tasks may end, for `settings.drain` seconds. The second one gives
    them back at once.

    Args:
        graphs: whose tasks may run here; others are left for other workers.
        settings: where the server is, and how patient to be.
        queues: to take work from, in strict order; by default all that the graphs use, "default" first.
        processes: tasks to run at the same time; by default `settings.processes`.
        burst: return when all queues are empty and nothing is running.
        name: what to call the worker instead of `<host>.<pid>`; four random letters are added.
        max_tasks: attempts after which an executor process is replaced.
        ready: called once, when the worker is known to the server and waits for work.
    """
    loaded = {graph.name: graph for graph in graphs}
    for graph in graphs:
        _ = graph.plan  # built once, here, so that executors share it
    keep_sources(each.function for graph in graphs for each in graph.tasks.values())
    # a server of this machine alone: who holds no lock here is dead for certain
    presence = Presence(settings.home) if settings.url is None else None
    nursery = Nursery.start(lambda ends, *readers: _execute(ends, readers, loaded, settings), _warm_up)
    try:
        return _supervise(
            nursery,
            loaded,
            settings,
            queues=callbacks.queues_with(list(queues) or queues_of(graphs), graphs),
            processes=processes or settings.processes,
            burst=burst,
            name=name,
            max_tasks=max_tasks,
            ready=ready,
            presence=presence,
        )
    except SettingsError as error:  # what only shows when it is put to use
        from tm.logs import get_logger

        get_logger("worker").error("cannot start", reason=error)
        return error.exit_code
    finally:
        nursery.close()
        if presence is not None:
            presence.leave()


def queues_of(graphs: Iterable[Graph]) -> list[str]:
    """All queues the graphs use, "default" first, the others in alphabetical order."""
    used = {task.queue for graph in graphs for task in graph.plan.tasks}
    return sorted(used, key=lambda queue: (queue != "default", queue))


def check_queues(queues: Iterable[str]) -> None:
    """Refuse what can be no queue.

    Raises:
        SettingsError: names it and what is allowed.
    """
    for queue in queues:
        if not QUEUE_NAME.fullmatch(queue):
            raise SettingsError(f"--queue {queue!r} will not do: use 1 to 100 letters, digits, '_', '.' or '-'")


def _execute(channel: ExecutorEnd, readers: tuple[int, int, int], graphs: dict[str, Graph], settings: Settings) -> None:
    from tm.spill import Spill
    from tm_worker.capture import Capture
    from tm_worker.process import Executor

    Executor(
        channel,
        graphs,
        settings.max_message,
        max_memory=_bytes(settings.max_memory),
        spill=None if settings.spill_folder is None else Spill(settings.spill_folder),
        capture=Capture(readers),
    ).serve()


def _bytes(mebibytes: int | None) -> int | None:
    return None if mebibytes is None else mebibytes << 20


def _warm_up() -> None:
    """What every executor needs, imported once in the nursery."""
    import tm_worker.capture
    import tm_worker.process  # noqa: F401


def _supervise(
    nursery: Nursery,
    graphs: dict[str, Graph],
    settings: Settings,
    *,
    queues: list[str],
    processes: int,
    burst: bool,
    name: str | None,
    max_tasks: int | None,
    ready: Callable[[], None] | None,
    presence: Presence | None,
) -> int:
    from tm import logs
    from tm.store.functions import default_library
    from tm.store.store import Store
    from tm_worker.bell import Bell
    from tm_worker.channel import can_take_back
    from tm_worker.exchange import Exchange
    from tm_worker.heart import Heart
    from tm_worker.lines import lines_of
    from tm_worker.loop import Loop, Waker
    from tm_worker.memory import Watch
    from tm_worker.outage import AWAY
    from tm_worker.pace import DEEPEST
    from tm_worker.supervisor import Supervisor
    from tm_worker.worker import TmWorker, worker_name

    logs.configure(settings.log_level, settings.log_format)
    log = logs.get_logger("worker")
    client, heart_client = connect(settings.server_url()), connect(settings.server_url())
    store = Store(
        client, settings.namespace, result_ttl=settings.result_ttl, callback_timeout=settings.callback_timeout
    )
    heart_store = Store(heart_client, settings.namespace, result_ttl=settings.result_ttl)
    worker = TmWorker(queues, worker_name(name), client, settings.namespace, ttl=settings.lease * 2)
    deepest = DEEPEST if can_take_back() else 1
    supervisor = Supervisor(processes, grace=settings.grace, max_tasks=max_tasks, deepest=deepest)
    waker = Waker()
    info = {
        "host": socket.gethostname(),
        "pid": str(os.getpid()),
        "queues": ",".join(queues),
        "processes": str(processes),
        "started": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "lease": str(settings.lease),
        "library": default_library().name,
        "versions": json.dumps({name: graph.plan.version for name, graph in graphs.items()}, ensure_ascii=False),
    }

    def register() -> None:
        if presence is not None:
            presence.call(worker.name)
            presence.give_back_of_the_dead(store)
        worker.register_birth()
        heart.announce(store)

    exchange = Exchange(
        store,
        worker,
        supervisor,
        queues=queues,
        versions={name: graph.plan.version for name, graph in graphs.items()},
        lease=settings.lease,
        home=settings.home,
        where=settings.server_url(),
        register=register,
    )
    heart = Heart(
        heart_store,
        worker,
        _offers(graphs),
        info,
        lease=settings.lease,
        every=settings.heartbeat,
        held=exchange.pairs,
        wake=waker.wake,
    )
    bell = Bell(client, store.keys, queues)

    def known() -> None:
        log.info("worker ready", worker=worker.name, queues=",".join(queues), processes=processes, graphs=len(graphs))
        if ready is not None:
            ready()

    watch = Watch(_bytes(settings.memory_limit))
    _allow_descriptors(processes * 6 + 100)  # for each executor: stream, claims, three pipes, and on their way
    lines = lines_of(settings, store, exchange)
    loop = Loop(supervisor, exchange, nursery, bell, heart, waker, watch, lines, drain=settings.drain, ready=known)
    worker.loop = loop.run
    with contextlib.ExitStack() as watching, waker.catching(signal.SIGTERM, signal.SIGINT):
        if settings.metrics_port is not None:
            from tm_worker.metrics import watched

            watching.enter_context(watched(settings, loop, supervisor, exchange, heart, nursery, waker))
        worker.work(burst=burst)
        # if the server is away, it will forget us when our entries expire
        with contextlib.suppress(*AWAY):
            store.retire(worker.name)
            worker.register_death()  # type: ignore[no-untyped-call]
    log.info("worker ended", worker=worker.name, attempts=exchange.done)
    client.close()
    heart_client.close()
    return 1 if loop.broken else 0


def _allow_descriptors(count: int) -> None:
    """Raise the soft limit if need be, as far as the hard one goes; what was forked before keeps its own."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < count:
        most = count if hard == resource.RLIM_INFINITY else min(count, hard)
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def _offers(graphs: dict[str, Graph]) -> list[str]:
    """What this worker can run: graphs and, because another file may have other tasks in them, every task."""
    return [
        offer
        for name, graph in sorted(graphs.items())
        for offer in (name, f"{name}/", *(f"{name}/{task}" for task in graph.tasks))
    ]


def connect(url: str) -> Wire:
    """A client that never repeats a call by itself: only we know which token to repeat it with."""
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    from tm_worker.wire import Wire

    client = Wire.from_url(
        url,
        socket_timeout=5,
        socket_connect_timeout=3,
        retry=Retry(NoBackoff(), 0),
        health_check_interval=0,
        socket_read_size=1 << 18,
        **({} if url.startswith("unix:") else {"socket_keepalive": True}),
    )
    return cast("Wire", client)
