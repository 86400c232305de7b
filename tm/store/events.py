"""Reads the entries of the event stream: cmsgpack maps one after the other, made by `emit` in the server functions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgpack

from tm.events import (
    AttemptEnded,
    CallbackEnded,
    DeadlineMissed,
    Event,
    KeptTask,
    Noted,
    RunCreated,
    RunEnded,
    TaskClosed,
    TaskMarked,
    TasksKept,
    UnknownEvent,
    event_id,
)
from tm.states import Outcome, RunState, TaskState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


def stream_entries(reply: Any) -> list[tuple[bytes, dict[bytes, bytes]]]:
    """The entries that XREAD on one stream has answered with: RESP2 has them in lists, RESP3 by stream."""
    if isinstance(reply, dict):
        return [entry for batches in reply.values() for batch in batches for entry in batch]
    return list(reply[0][1]) if reply else []


def read(entries: Iterable[tuple[bytes, dict[bytes, bytes]]]) -> list[tuple[str, Event]]:
    """The events of these entries in order, one at least for each entry; with their ids (`tm.events.event_id`)."""
    return [
        (event_id(entry.decode(), number), event)
        for entry, fields in entries
        for number, event in enumerate(events_in(fields.get(b"d", b"")), 1)
    ]


def parse(raw: bytes) -> Event:
    """The first event of an entry, for who knows that there is one."""
    return events_in(raw)[0]


def events_in(raw: bytes) -> list[Event]:
    """The events that field `d` of a stream entry holds, one at least.

    Never raises: what is corrupt, incomplete or of a newer version comes back as an `UnknownEvent`, for one bad event
    must not keep history from everything around it. Where bytes are no map, it is all that is said of the rest.
    """
    unpacker = msgpack.Unpacker(raw=True, strict_map_key=False, max_buffer_size=len(raw))
    found: list[Event] = []
    try:
        unpacker.feed(raw)
        while unpacker.tell() < len(raw) or not found:
            fields = unpacker.unpack()
            if not isinstance(fields, dict):
                raise TypeError(f"a map expected, not {fields!r:.80}")  # noqa: TRY301 - as unreadable as what raises
            found.append(_event(fields))
    except Exception as error:  # noqa: BLE001 - bytes from outside can be wrong in any way
        found.append(UnknownEvent(problem=f"an unreadable event: {error!r:.200}"))
    return found


def _event(fields: dict[bytes, Any]) -> Event:
    try:
        kind = _text(fields[b"e"])
        if kind not in _READERS:
            return UnknownEvent(problem=f"an event of the unknown kind {kind!r}")
        return _READERS[kind](fields)
    except KeyError as error:
        return UnknownEvent(problem=f"an event without {error.args[0]!r}")
    except Exception as error:  # noqa: BLE001 - as above
        return UnknownEvent(problem=f"an unreadable event: {error!r:.200}")


def _run(fields: dict[bytes, Any]) -> Event:
    return RunCreated(
        run=_text(fields[b"run"]),
        graph=_text(fields[b"graph"]),
        version=_text(fields[b"plan"]),
        trigger=_text(fields[b"trigger"]),
        tick=_moment(fields[b"tick"]),
        params=_bytes(fields[b"params"]),
        config=_text(fields[b"config"]),
        state=RunState(_text(fields[b"state"])),
        reason=_text(fields[b"reason"]),
        at=_int(fields[b"at"]),
        retry_of=_text(fields.get(b"retry_of", b"")),
    )


def _attempt(fields: dict[bytes, Any]) -> Event:
    state = _text(fields[b"state"])
    return AttemptEnded(
        run=_text(fields[b"run"]),
        graph=_text(fields[b"graph"]),
        node=_int(fields[b"node"]),
        task=_text(fields[b"task"]),
        attempt=_int(fields[b"attempt"]),
        outcome=Outcome(_text(fields[b"outcome"])),
        state=TaskState(state) if state else None,
        worker=_text(fields[b"worker"]),
        claimed=_moment(fields[b"claimed"]),
        at=_int(fields[b"at"]),
        ms=_int(fields[b"ms"]),
        error=_bytes(fields[b"error"]),
        due=_moment(fields[b"due"]),
    )


def _task(fields: dict[bytes, Any]) -> Event:
    return TaskClosed(
        run=_text(fields[b"run"]),
        node=_int(fields[b"node"]),
        task=_text(fields[b"task"]),
        state=TaskState(_text(fields[b"state"])),
        reason=_text(fields[b"reason"]),
        at=_int(fields[b"at"]),
        attempt=_int(fields.get(b"attempt", 0)),
        claimed=_moment(fields.get(b"claimed", b"")),
    )


def _kept(fields: dict[bytes, Any]) -> Event:
    return TasksKept(
        run=_text(fields[b"run"]),
        source=_text(fields[b"source"]),
        tasks=tuple(
            KeptTask(node=_int(node), task=_text(task), state=TaskState(_text(state)))
            for node, task, state in fields[b"tasks"]
        ),
        at=_int(fields[b"at"]),
    )


def _mark(fields: dict[bytes, Any]) -> Event:
    return TaskMarked(
        run=_text(fields[b"run"]),
        node=_int(fields[b"node"]),
        task=_text(fields[b"task"]),
        was=TaskState(_text(fields[b"was"])),
        state=TaskState(_text(fields[b"state"])),
        by=_text(fields[b"by"]),
        reason=_text(fields[b"reason"]),
        at=_int(fields[b"at"]),
    )


def _end(fields: dict[bytes, Any]) -> Event:
    return RunEnded(
        run=_text(fields[b"run"]),
        graph=_text(fields[b"graph"]),
        state=RunState(_text(fields[b"state"])),
        reason=_text(fields[b"reason"]),
        at=_int(fields[b"at"]),
        started=_moment(fields[b"started"]),
    )


def _callback(fields: dict[bytes, Any]) -> Event:
    return CallbackEnded(
        run=_text(fields[b"run"]),
        graph=_text(fields[b"graph"]),
        task=_text(fields[b"task"]),
        kind=_text(fields[b"kind"]),
        id=_text(fields[b"id"]),
        outcome=_text(fields[b"outcome"]),
        worker=_text(fields[b"worker"]),
        deliveries=_int(fields[b"deliveries"]),
        ms=_int(fields[b"ms"]),
        error=_bytes(fields[b"error"]),
        at=_int(fields[b"at"]),
    )


def _late(fields: dict[bytes, Any]) -> Event:
    return DeadlineMissed(
        run=_text(fields[b"run"]),
        graph=_text(fields[b"graph"]),
        state=RunState(_text(fields[b"state"])),
        due=_int(fields[b"due"]),
        at=_int(fields[b"at"]),
    )


def _note(fields: dict[bytes, Any]) -> Event:
    return Noted(
        run=_text(fields[b"run"]),
        kind=_text(fields[b"kind"]),
        what=_text(fields[b"what"]),
        outcome=_text(fields[b"outcome"]),
        message=_text(fields[b"message"]),
        at=_int(fields[b"at"]),
    )


_READERS: dict[str, Callable[[dict[bytes, Any]], Event]] = {
    "run": _run,
    "attempt": _attempt,
    "task": _task,
    "kept": _kept,
    "mark": _mark,
    "end": _end,
    "callback": _callback,
    "late": _late,
    "note": _note,
}


def _bytes(value: Any) -> bytes:
    if not isinstance(value, bytes):
        raise TypeError(f"bytes expected, not {value!r:.80}")
    return value


def _text(value: Any) -> str:
    # a name or a reason that is not UTF-8 is still worth filing
    return _bytes(value).decode("utf-8", "replace")


def _int(value: Any) -> int:
    """A number of Lua's: an integer, a double that is one, or its text when it came through ARGV."""
    if isinstance(value, bool) or not isinstance(value, int | float | bytes):
        raise TypeError(f"a number expected, not {value!r:.80}")
    number = int(value)
    if not -(1 << 63) <= number < 1 << 63:  # no database would take it, and history would be stuck with it for ever
        raise ValueError(f"a number that is too large: {value!r:.80}")
    return number


def _moment(value: Any) -> int | None:
    """Milliseconds since the epoch; Lua says "none" with -1, or with nothing where a hash said so."""
    if value == b"" or _int(value) < 0:
        return None
    return _int(value)
