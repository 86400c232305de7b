"""Starting runs of graphs whose code is elsewhere: from what the schedulers have told the server of them."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import redis.exceptions

from tm import codec, configfile, parameters
from tm.clock import from_ms, to_ms
from tm.errors import NotFoundError, RefusedError
from tm.ids import manual_run_id, tick_run_id
from tm.states import Trigger
from tm.store.records import NewRun, TriggerAnswer
from tm.suggest import hint
from tm.waiting import reaching
from tm.words import clock

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from datetime import datetime, tzinfo

    from tm.client import Client
    from tm.store.records import Pause, QueuePause


@contextmanager
def asking(client: Client) -> Iterator[None]:
    """Reach the server; what it refuses for a reason of ours keeps its words."""
    with reaching(client.where):
        try:
            yield
        except redis.exceptions.ResponseError as error:
            text = str(error)
            if "NOPLAN" in text:
                raise RefusedError(
                    "the server no longer knows this version of the graph; a scheduler that has it must lead once"
                ) from error
            if "OPEN" in text:
                raise RefusedError("the run is still open; wait for it, or cancel it first") from error
            raise


def known(client: Client, graph: str) -> dict[str, Any]:
    """What the schedulers said of a graph.

    Raises:
        NotFoundError: none of them knows it; names those they know.
    """
    with reaching(client.where):
        found = client.store.graph(graph)
        others = client.store.graphs() if found is None else {}
    if found is None:
        there = ", ".join(sorted(others)[:10]) or "none"
        raise NotFoundError(
            f"no scheduler has announced a graph {graph!r}; {hint(graph, others, f'known are {there}')}"
        )
    return found


def check_params(graph: str, info: Mapping[str, Any], params: Mapping[str, Any]) -> None:
    """Compare params with the roots of a graph, where the server knows these.

    Raises:
        TypeError: a root lacks a required parameter, or no root knows a given one.
    """
    if "roots" in info:
        parameters.check(graph, info["roots"], params, has_config=bool(info.get("config")))


def read_config(graph: str, info: Mapping[str, Any], file: str | None = None) -> str:
    """The text of a graph's config file as it is now; empty for a graph without one.

    Raises:
        RefusedError: this machine does not have the file.
        ConfigError: it is broken.
    """
    if not info.get("config"):
        return ""
    path = Path(file or info["config"])
    if not path.exists():
        raise RefusedError(
            f"graph {graph!r} reads its config from {path}, which this machine does not have; "
            "give a copy of it: --config FILE"
        )
    text = configfile.read(path)
    configfile.parse(text, path)
    return text


def zone_of(info: Mapping[str, Any]) -> tzinfo:
    """The zone a graph's schedule is read in."""
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

    try:
        return ZoneInfo(str(info.get("timezone") or "UTC"))
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise RefusedError(f"this machine does not know the time zone {info.get('timezone')!r}") from error


def ticks_after(graph: str, info: Mapping[str, Any], after: datetime) -> Iterator[datetime]:
    """The ticks of a graph after an instant, in its zone; none for a manual one."""
    from tm.cron import CronError, Expression

    schedule = str(info.get("schedule") or "manual")
    if schedule == "manual":
        return
    try:
        expression = Expression(schedule, key=graph)
    except CronError:
        return  # written by another version of Taskmaster
    yield from expression.iter(after.astimezone(zone_of(info)))


def pause_of(client: Client, graph: str) -> Pause | None:
    """The pause that is in force for a graph."""
    with reaching(client.where):
        pauses, now = client.store.pauses(), client.store.server_ms()
    found = (pauses.get(graph), pauses.get(""))
    return next((each for each in found if each is not None and each.ended_ms(now) is None), None)


def note_of_pause(client: Client, graph: str, zone: tzinfo | None = None) -> str:
    """What to tell somebody who starts a run of a paused graph, which a pause does not keep them from; else empty."""
    pause = pause_of(client, graph)
    return f"graph {graph!r} is {told(pause, zone)}; this run goes ahead all the same" if pause else ""


def note_of_queues(client: Client, queues: Iterable[str], zone: tzinfo | None = None) -> str:
    """What to tell somebody who starts a run with tasks in these queues when some are paused; else empty."""
    with reaching(client.where):
        pauses = client.store.queue_pauses(client.store.server_ms())
    paused = [f"queue {queue!r} is {told(pauses[queue], zone)}" for queue in sorted({*queues} & {*pauses})]
    return f"{'; '.join(paused)}; what comes into it waits" if paused else ""


def queues_of(client: Client, graph: str) -> set[str]:
    """The queues of a graph's tasks, in the version that was announced last; empty where the server has it no more."""
    version = str(known(client, graph)["version"])
    with reaching(client.where):
        plan = client.store.plan(version)
    return set() if plan is None else {task.queue for task in plan.tasks}


def told(pause: Pause | QueuePause, zone: tzinfo | None = None) -> str:
    """Who paused it and why, in half a sentence; on the clock of a person's zone, or for programs and logs in UTC."""
    at = from_ms(pause.since_ms)
    since = clock(at, zone=zone) if zone else at.isoformat(timespec="seconds").replace("+00:00", "Z")
    return f"paused by {pause.by} since {since}" + (f" ({pause.reason})" if pause.reason else "")


def trigger(
    client: Client,
    graph: str,
    params: Mapping[str, Any],
    *,
    tick: datetime | None = None,
    run: str | None = None,
    config: str | None = None,
    force: bool = False,
    start: Start | None = None,
) -> str:
    """Start one run of a graph by what the server knows of it; returns its id.

    Args:
        client: of the server.
        graph: its name.
        params: by name.
        tick: the instant the run stands for; it then has the id of that tick's run.
        run: an id of one's own, for callers that may repeat themselves.
        config: a copy of the graph's config file.
        force: also when the graph has as many open runs as it may have, and, if it is not by hand, when it is paused.
        start: why, and of what it is a repeat; by default it is one by hand.

    Raises:
        NotFoundError: no scheduler knows the graph.
        TypeError: bad params.
        RefusedError: too many open runs, or the id is taken; paused, if it is not by hand.
    """
    info = known(client, graph)
    check_params(graph, info, params)
    if tick is not None and run is None:
        _refuse_known(client, tick_run_id(graph, tick))
    start = start or Start()
    new = NewRun(
        id=run or (manual_run_id(graph) if tick is None else tick_run_id(graph, tick)),
        params=codec.encode(dict(params), where="params") if params else b"",
        config=read_config(graph, info, config),
    )
    with asking(client):
        answer = client.store.trigger(
            info["version"],
            new,
            start.trigger,
            tick_ms=None if tick is None else to_ms(tick),
            retry_of=start.retry_of,
            most=int(info.get("max_active_runs") or 0),
            force=force,
        )
    _explain(client, graph, new.id, answer, info)
    return new.id


def _refuse_known(client: Client, run: str) -> None:
    """A tick's run may be long forgotten by the server, and is still that tick's run."""
    try:
        found = client.lookup.forgotten(run)
    except NotFoundError:
        return
    raise RefusedError(
        f"the run of this tick is {run} ({found.state}); `tm retry {run}` repairs it, with --all it runs as a whole"
    )


class Start:
    """Why a run is started."""

    def __init__(self, trigger: Trigger = Trigger.MANUAL, retry_of: str = "") -> None:
        self.trigger, self.retry_of = trigger, retry_of


class FullError(RefusedError):
    """As many runs of a graph are open as may be."""


def _explain(client: Client, graph: str, run: str, answer: TriggerAnswer, info: Mapping[str, Any]) -> None:
    if answer is TriggerAnswer.EXISTS:
        state = client.store.state(run)
        raise RefusedError(f"there is a run {run} already ({state}); `tm show {run}`, or `tm retry {run}`")
    if answer is TriggerAnswer.PAUSED:
        pause = pause_of(client, graph)
        raise RefusedError(
            f"graph {graph!r} is {told(pause) if pause else 'paused'}; `tm resume`, or start this run with --force"
        )
    if answer is TriggerAnswer.FULL:
        most = info.get("max_active_runs")
        raise FullError(
            f"graph {graph!r} has {most} open run{'s' if most != 1 else ''}, as many as it may have "
            "(max_active_runs); wait, or start this one with --force"
        )
