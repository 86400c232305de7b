"""Repairing runs that have ended, with what the server still holds of them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import redis.exceptions

from tm import codec
from tm.clock import to_ms
from tm.errors import NotFoundError, RefusedError, UnavailableError
from tm.repair import Choice, Mending, mend
from tm.requests import asking, check_params, known, read_config
from tm.states import RunState, TaskState, Trigger
from tm.store.records import NewRun, RetryRun, TriggerAnswer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tm.client import Client
    from tm.records import Plan
    from tm.runinfo import RunInfo
    from tm.store.records import RunView

#: a run that was repaired so often has other problems
MOST_RETRIES = 1000
_NUMBER = re.compile(r"-\d+$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """A retry that may be started."""

    source: str  #: the run it repairs
    run: str  #: its id
    version: str
    newer: bool  #: by a newer version of the graph than the run it repairs
    mending: Mending
    params: bytes
    config: str


def newest(client: Client, run: RunInfo) -> tuple[RunInfo, str]:
    """The last of a run and its retries, and the id that the next retry gets.

    The retries of `etl-1` are `etl-1-2`, `etl-1-3`..., whichever of them was retried.
    """
    base = _NUMBER.sub("", run.id) if run.retry_of else run.id
    last = run
    for number in range(2, MOST_RETRIES):
        try:
            found = client.lookup.forgotten(f"{base}-{number}")
        except NotFoundError:
            return last, f"{base}-{number}"
        if found.retry_of:
            last = found
    raise RefusedError(f"run {base} was retried {MOST_RETRIES - 2} times already")


def plan_retry(
    client: Client,
    name: str,
    choice: Choice | None = None,
    *,
    params: Mapping[str, Any] | None = None,
    code: str | None = None,
) -> Retry:
    """Look what a retry of a run would do; nothing is changed.

    Args:
        client: of the server.
        name: id, unique prefix, `GRAPH@last`, `GRAPH@failed` or `GRAPH@TICK`. If it was retried before,
            its last retry is meant.
        choice: by default what failed, and what was blocked by it.
        params: go over those of the run.
        code: "current" version of the graph, or the "original" one; by default the current one where it is known.

    Raises:
        NotFoundError: there is no such run or task.
        RefusedError: the run is open, or succeeded, or its messages are no longer on the server.
        TypeError: a root does not take the params.
    """
    choice = choice or Choice()
    last, run = newest(client, client.run(name))
    if last.is_open:
        raise RefusedError(f"run {last.id} is still {last.state}; `tm wait {last.id}` or `tm cancel {last.id}` first")
    if last.state is RunState.SUCCESS and choice.is_usual:
        raise RefusedError(
            f"run {last.id} succeeded, nothing of it failed; `--from TASK` runs a task again with all that is below it"
        )
    view, old = _held(client, last)
    version, newer = _version(client, view.graph, view.version, code)
    with asking(client):
        plan = old if version == view.version else client.store.plan(version)
    if plan is None:
        raise RefusedError(f"the server does not know version {version} of graph {last.graph!r} (any more)")
    mending = mend([(task.task, task.state) for task in view.tasks], plan, choice)
    packed = view.params
    if params:
        packed = _with_params(client, view, plan, mending, params)
    config = view.config or _config_now(client, view.graph, began=view.started_ms is not None)
    return Retry(
        source=last.id,
        run=run,
        version=version,
        newer=newer,
        mending=mending,
        params=packed,
        config=config,
    )


def start_retry(client: Client, retry: Retry, *, by: str, reason: str = "", trigger: Trigger = Trigger.RETRY) -> str:
    """Start a retry that was planned; returns its id.

    Raises:
        RefusedError: somebody else has started it meanwhile, or a message it needs has gone.
    """
    new = RetryRun(
        source=retry.source,
        id=retry.run,
        tasks=retry.mending.tasks,
        params=retry.params,
        config=retry.config,
        by=by,
        reason=reason,
    )
    try:
        with asking(client):
            created = client.store.retry(retry.version, new, trigger)
    except UnavailableError as error:
        cause = error.__cause__
        if isinstance(cause, redis.exceptions.ResponseError) and "GONE" in str(cause):
            raise _gone(client.run(retry.source)) from error
        raise
    if not created:
        raise RefusedError(f"somebody has just started run {retry.run}; `tm show {retry.run}`")
    return retry.run


@dataclass(frozen=True, slots=True, kw_only=True)
class Afresh:
    """A run that repeats another from the beginning, and keeps nothing of it."""

    source: str
    run: str
    graph: str
    version: str
    newer: bool
    tick_ms: int | None
    params: bytes
    config: str


def plan_afresh(
    client: Client, name: str, *, params: Mapping[str, Any] | None = None, code: str | None = None
) -> Afresh:
    """Look what it takes to run all of a run again, with its tick, params and config; history is enough for that.

    Raises:
        NotFoundError: there is no such run.
        RefusedError: it is open, or the server does not know its graph.
        TypeError: a root does not take the params.
    """
    last, run = newest(client, client.run(name))
    if last.is_open:
        raise RefusedError(f"run {last.id} is still {last.state}; `tm wait {last.id}` or `tm cancel {last.id}` first")
    version, newer = _version(client, last.graph, last.version, code)
    packed = last.params
    if params:
        merged = {**(codec.decode(packed) if packed else {}), **params}
        check_params(last.graph, _known_or_nothing(client, last.graph), merged)
        packed = codec.encode(merged, where="params")
    return Afresh(
        source=last.id,
        run=run,
        graph=last.graph,
        version=version,
        newer=newer,
        tick_ms=None if last.tick is None else to_ms(last.tick),
        params=packed,
        config=last.config or _config_now(client, last.graph, began=last.started_at is not None),
    )


def start_afresh(
    client: Client, afresh: Afresh, *, trigger: Trigger = Trigger.RETRY, most: int = 0, force: bool = True
) -> TriggerAnswer:
    """Start it. With `force` unset, pauses and the limit of open runs are heeded."""
    new = NewRun(id=afresh.run, params=afresh.params, config=afresh.config)
    with asking(client):
        return client.store.trigger(
            afresh.version, new, trigger, tick_ms=afresh.tick_ms, retry_of=afresh.source, most=most, force=force
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Marked:
    """What became of a mark."""

    run: str  #: in which the task is over now
    task: str
    was: TaskState
    state: TaskState
    retry: bool  #: the run had ended, so it was retried with the task taken so


def mark(client: Client, name: str, task: str, state: TaskState, *, by: str, reason: str) -> Marked:
    """Say how a task has ended. An open run goes on from there; one that has ended is retried, with the task taken so.

    Raises:
        NotFoundError: there is no such run or task.
        RefusedError: the task is over already, or the run ended and cannot be retried.
    """
    last, _ = newest(client, client.run(name))
    names = [each.name for each in last.tasks]
    if last.is_open:
        if task not in names:
            raise NotFoundError(f"run {last.id} has no task {task!r}; it has {', '.join(names)}")
        with asking(client):
            done, was = client.store.mark(last.id, names.index(task), state, by=by, reason=reason)
        if done:
            return Marked(run=last.id, task=task, was=TaskState(was), state=state, retry=False)
        ended = client.store.state(last.id)
        if ended in {None, RunState.QUEUED, RunState.RUNNING}:
            raise RefusedError(f"task {task!r} of run {last.id} is {was} already, and final states do not change")
    if state is TaskState.FAILED:
        raise RefusedError(f"run {last.id} has ended; a task of it can be taken as success or skipped, not as failed")
    retry = plan_retry(client, last.id, Choice(taken={task: state}))
    was = next((each.state for each in last.tasks if each.name == task), TaskState.WAITING)
    if was in {TaskState.SUCCESS, state}:
        raise RefusedError(f"task {task!r} of run {last.id} is {was} already")
    run = start_retry(client, retry, by=by, reason=reason)
    return Marked(run=run, task=task, was=TaskState(was), state=state, retry=True)


def _held(client: Client, run: RunInfo) -> tuple[RunView, Plan]:
    with asking(client):
        view = client.store.run(run.id)
        plan = client.store.plan(view.version) if view else None
    if view is None or plan is None:
        raise _gone(run)
    return view, plan


def _gone(run: RunInfo) -> RefusedError:
    return RefusedError(
        f"the messages of run {run.id} are no longer on the server, which keeps them for TM_FAILED_TTL seconds after a "
        f"run has ended (TM_RESULT_TTL after a success); run all of it again: `tm retry {run.id} --all`, or start "
        f"another run: `tm trigger {run.graph}`"
    )


def _version(client: Client, graph: str, version: str, code: str | None) -> tuple[str, bool]:
    """By which version to run, and whether it is a newer one."""
    if code == "original":
        return version, False
    current = str(_known_or_nothing(client, graph).get("version", ""))
    if not current or current == version:
        if code == "current" and not current:
            raise RefusedError(f"no scheduler has announced graph {graph!r}; `--code original` needs none")
        return version, False
    with asking(client):
        there = client.store.plan(current) is not None
    if not there and code == "current":
        raise RefusedError(f"the server does not hold version {current} of graph {graph!r}; start a scheduler")
    return (current, True) if there else (version, False)


def _with_params(client: Client, view: RunView, plan: Plan, mending: Mending, params: Mapping[str, Any]) -> bytes:
    roots = [plan.tasks[index].name for index in plan.roots]
    if not set(roots) & set(mending.runs):
        raise RefusedError(f"params reach the roots only, and {', '.join(roots)} would be kept; add --from {roots[0]}")
    merged = {**(codec.decode(view.params) if view.params else {}), **params}
    check_params(view.graph, _known_or_nothing(client, view.graph), merged)
    return codec.encode(merged, where="params")


def _config_now(client: Client, graph: str, *, began: bool) -> str:
    """A run whose config could not be read never began, and its retry reads it now."""
    return "" if began else read_config(graph, _known_or_nothing(client, graph))


def _known_or_nothing(client: Client, graph: str) -> Mapping[str, Any]:
    try:
        return known(client, graph)
    except NotFoundError:
        return {}
