"""What is written into Redis and read out of it, as records: plans, claims, task runs, pauses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgpack

from tm.records import TaskPlan
from tm.retry import RetryPolicy
from tm.states import TaskState
from tm.store.looking import read_record
from tm.store.records import (
    Ask,
    Claim,
    DrainOrder,
    Grant,
    Pause,
    Report,
    TaskRunView,
    Verdict,
    VerdictKind,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def text(value: Any) -> str:
    """A name or a text."""
    return value.decode() if isinstance(value, bytes) else str(value)


def pause(graph: str, packed: bytes) -> Pause:
    """One field of `paused`."""
    said = msgpack.unpackb(packed)
    until, resumed = said.get("until"), said.get("resumed")
    return Pause(
        graph=graph,
        by=said["by"],
        reason=said["reason"],
        since_ms=int(said["since"]),
        until_ms=None if until is None else int(until),
        resumed_ms=None if resumed is None else int(resumed),
        catch_up=said.get("catch_up", ""),
        packed=packed,
    )


def drain_order(reply: Sequence[bytes]) -> DrainOrder | None:
    """What `announce` answers."""
    by, limit_ms = reply
    return DrainOrder(text(by), float(limit_ms) / 1000 if limit_ms else None) if by else None


def ms(value: bytes) -> int | None:
    """An instant; None for an empty one."""
    return int(value) if value and int(value) >= 0 else None


def pack_node(node: TaskPlan) -> bytes:
    """A task of a plan, as `lua/_plans.lua` reads it."""
    retry = node.retry
    packed: bytes = msgpack.packb(
        (
            node.name,
            node.queue,
            node.parents,
            node.children,
            retry.retries,
            float(retry.retry_delay),
            float(retry.backoff),
            -1.0 if retry.max_retry_delay is None else float(retry.max_retry_delay),
            float(retry.jitter),
            -1.0 if node.timeout is None else float(node.timeout),
            *((node.calls,) if node.calls else ()),
        )
    )
    return packed


def unpack_node(packed: bytes) -> TaskPlan:
    """The same, read."""
    name, queue, parents, children, retries, delay, backoff, longest, jitter, timeout, *calls = msgpack.unpackb(packed)
    return TaskPlan(
        name=name,
        queue=queue,
        parents=tuple(parents),
        children=tuple(children),
        timeout=None if timeout < 0 else timeout,
        calls=tuple(calls[0]) if calls else (),
        retry=RetryPolicy(
            retries=retries,
            retry_delay=delay,
            backoff=backoff,
            max_retry_delay=None if longest < 0 else longest,
            jitter=jitter,
        ),
    )


def ask(asked: Ask) -> list[Any]:
    """The arguments of `take`, and the first ones of `finish`."""
    return [
        asked.worker,
        asked.lease_ms,
        asked.token,
        "2" if asked.mine else "1" if asked.again else "0",
        asked.state,
        asked.count,
        asked.bell,
        asked.ear,
        asked.heard,
        len(asked.queues),
        *asked.queues,
    ]


def finish(asked: Ask, reports: Sequence[Report]) -> list[Any]:
    """The arguments of `finish`."""
    args = ask(asked)
    for report in reports:
        args += (
            report.job,
            report.token,
            report.outcome,
            report.value,
            report.error,
            "1" if report.retry else "0",
            report.ms,
            repr(report.chance),
        )
    return args


def grant(reply: Sequence[Any]) -> Grant:
    """What `take` and `finish` hand out."""
    suspended, passed, claims, *paused = reply
    given = [_claim(*claim) for claim in claims]
    if not paused:
        return Grant(given, suspended == 1, passed)
    return Grant(given, suspended == 1, passed, frozenset(map(text, paused[0])))


def handed(packed: bytes) -> list[Claim]:
    """What was handed over to a worker, as it came on its channel."""
    return [_claim(*claim) for claim in msgpack.unpackb(packed, raw=True)]


def _claim(
    job: bytes,
    token: bytes,
    run: bytes,
    graph: bytes,
    version: bytes,
    task: bytes,
    attempt: int,
    claimed: int,
    timeout: bytes,
    tick: bytes,
    params: bytes,
    config: bytes,
    inputs: list[bytes],
    ends: bytes,
) -> Claim:
    seconds = float(timeout)
    return Claim(
        job.decode(),
        token.decode(),
        run.decode(),
        graph.decode(),
        version.decode(),
        task.decode(),
        attempt,
        claimed,
        seconds if seconds > 0 else None,
        ms(tick),
        params,
        config.decode(),
        [(inputs[k].decode(), inputs[k + 1]) for k in range(0, len(inputs), 2)],
        int(float(ends)) if ends else None,
    )


def verdict(answer: int) -> Verdict:
    """What became of one report."""
    if answer > 1:
        return Verdict(VerdictKind.ACCEPTED, answer)
    return Verdict(VerdictKind(answer))


def task_view(name: str, index: int, stored: Mapping[bytes, bytes]) -> TaskRunView:
    """A task run, as the hash of its run has it."""
    packed = stored.get(str(index).encode())
    if packed is None:
        return TaskRunView(task=name, state=TaskState.WAITING)
    record = read_record(packed)
    if record is None:  # the sweep ends its run and says so
        why = msgpack.packb({"type": "Damaged", "message": "its record on the server cannot be read"})
        return TaskRunView(task=name, state=TaskState.FAILED, error=why)
    state, at = record.state, record.at_ms
    final = state not in {"queued", "running", "retrying"}
    return TaskRunView(
        task=name,
        state=TaskState(state),
        attempt=record.attempt,
        claimed_ms=record.claimed_ms or None,
        ended_ms=at if final else None,
        due_ms=at if state == "retrying" else None,
        queued_ms=at if state == "queued" else None,
        fails=record.fails,
        losses=record.losses,
        worker=record.worker,
        error=stored.get(f"e{index}".encode(), b""),
    )
