"""Callbacks in an executor: a claim that is no task but an event to be told, to functions of the graph file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgpack

from tm import callbacks, codec
from tm.callbacks import CallbackError, CallbackEvent
from tm.clock import from_ms
from tm.errors import CodecError, SpillError, TaskmasterError
from tm.runinfo import read_error
from tm.spill import fetch
from tm_worker.faults import describe

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tm.graph import Graph
    from tm.spill import Spill


class UnknownCallbackError(TaskmasterError):
    """The version of the graph that planned the run had callbacks which the file, as this worker loaded it, has not."""


def tell(
    graphs: Mapping[str, Graph],
    graph: str,
    packed: bytes,
    inputs: Sequence[Any],
    delivery: int,
    spill: Spill | None = None,
) -> tuple[bool, bytes, bytes, bool]:
    """Call the functions that a claim is about; returns what a task would: success, value, error, no retry."""
    try:
        event = read(packed, inputs, delivery, spill)
        functions = _functions(graphs[graph], event)
        failed = callbacks.call(functions, event)
    except BaseException as error:  # noqa: BLE001 - as in a task: nothing a callback does ends the executor
        failed = error
    if failed is None:
        return True, b"", b"", False
    return False, b"", describe(failed, skip=callbacks.__file__), False


def _functions(graph: Graph, event: CallbackEvent) -> tuple[callbacks.Callback, ...]:
    found = graph.callbacks if event.scope == "graph" else {}
    if event.scope == "task" and event.task in graph.tasks:
        found = graph.tasks[event.task].callbacks
    if event.kind not in found:
        whose = f"task {event.task!r} of graph" if event.scope == "task" else "graph"
        raise UnknownCallbackError(
            f"{whose} {graph.name!r} has no on_{event.kind} in the file this worker loaded; was it removed?"
        )
    return found[event.kind]


def read(packed: bytes, inputs: Sequence[Any], delivery: int, spill: Spill | None = None) -> CallbackEvent:
    """The event as the server packed it, and the value that came with it."""
    told = {key.decode(): value for key, value in msgpack.unpackb(packed, raw=True).items()}
    text = {key: value.decode("utf-8", "replace") for key, value in told.items() if isinstance(value, bytes)}
    error = read_error(told["error"])
    ms, due, tick = int(told["ms"]), int(told["due"]), int(told["tick"])
    return CallbackEvent(
        id=text["id"],
        kind=text["kind"],
        scope=text["scope"],
        graph=text["graph"],
        run=text["run"],
        task=text["task"] or None,
        attempt=int(told["attempt"]) or None,
        state=text["state"],
        reason=text["reason"],
        error=None if error is None else CallbackError(error.type, error.message, error.traceback),
        value=_value(inputs, spill),
        seconds=None if ms < 0 else ms / 1000,
        tick=None if tick < 0 else from_ms(tick),
        params=codec.decode(told["params"]) if told["params"] else {},
        next_attempt_at=None if due < 0 else from_ms(due),
        at=from_ms(int(told["at"])),
        worker=text["worker"],
        delivery=delivery,
    )


def _value(inputs: Sequence[Any], spill: Spill | None) -> Any:
    try:
        return codec.decode(fetch(spill, inputs[0][1])) if inputs else None
    except (CodecError, SpillError):
        return None
