"""Callbacks: functions that are told what became of a task or a run, and what they are told."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tm.errors import DefinitionError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from tm.graph import AnyTask, Graph

#: the queue in which callbacks wait for a worker; `lua/_callbacks.lua` knows these two as well
QUEUE = "tm-callbacks"
#: what the claim of a callback has in the place of a task's name, as it comes from the server
MARK = "!callback"
#: what it begins with for workers, which read `!on_failure(load)`; no name of a task does
SIGN = "!"


@dataclass(frozen=True, slots=True)
class CallbackError:
    """What went wrong in the attempt that a callback is told of."""

    type: str  #: name of the exception, or how the process ended: `Killed`, `TimeoutError`
    message: str
    traceback: str = ""  #: empty where there was none to be had


@dataclass(frozen=True, slots=True, kw_only=True)
class CallbackEvent:
    """What a callback is told: `def notify(event): ...`.

    A worker that vanishes may have called a function already, and another one calls it again with the same `id`.
    """

    id: str  #: of this event: the same whenever it is told again
    kind: str  #: "success", "failure", "retry" (of a task), "deadline" (of a run)
    scope: str  #: "task" or "graph": which of the two had the callback
    graph: str  #: name of the graph
    run: str  #: id of the run
    #: the task; of the failure of a whole run, the first task that failed for good; None where there is none
    task: str | None = None
    attempt: int | None = None  #: 1 for the first try; None for a whole run
    state: str  #: of the task or the run now: "success", "failed", "timed_out", "quarantined", "cancelled", "retrying"
    reason: str = ""  #: in words, where the error says nothing: who cancelled it, why it never began
    error: CallbackError | None = None  #: what went wrong; None for a success, a cancellation, a deadline
    value: Any = None  #: of a success: what the task returned, or the last task of the run; None when no longer kept
    seconds: float | None = None  #: how long the attempt or the run took; None for what never began
    tick: datetime | None = None  #: the instant the run is for, in UTC; None for a run that no tick started
    params: Mapping[str, Any] = field(default_factory=dict)  #: what the run was started with
    next_attempt_at: datetime | None = None  #: of a retry
    at: datetime  #: when it happened
    worker: str = ""  #: that made the attempt; empty in process and for whole runs
    delivery: int = 1  #: above 1 when the worker that was to tell it before has vanished


Callback = Callable[[CallbackEvent], object]
Callbacks = dict[str, tuple[Callback, ...]]


def collect(owner: str, **given: Callback | Sequence[Callback] | None) -> Callbacks:
    """The callbacks of a task or a graph by kind; kinds without any are left out.

    Args:
        owner: whose, for messages.
        given: a function or several, by kind.

    Raises:
        DefinitionError: something cannot be called, or not like this.
    """
    found: Callbacks = {}
    for kind, value in given.items():
        several: tuple[Any, ...] = () if value is None else tuple(value) if isinstance(value, Sequence) else (value,)
        for each in several:
            _check(f"{owner}: on_{kind}", each)
        if several:
            found[kind] = several
    return found


def _check(where: str, callback: Any) -> None:
    if not callable(callback):
        raise DefinitionError(f"{where} needs a function that takes one event, or a list of them, not {callback!r}")
    if inspect.iscoroutinefunction(callback) or inspect.isasyncgenfunction(callback):
        raise DefinitionError(f"{where}: {callback.__name__!r} is async; call asyncio.run(...) inside a plain function")
    try:
        inspect.signature(callback).bind(None)
    except TypeError as error:
        name = getattr(callback, "__name__", repr(callback))
        raise DefinitionError(f"{where}: {name!r} cannot be called with one event: {error}") from None
    except ValueError:
        pass  # built in, without a signature to look at


def queues_with(queues: Sequence[str], graphs: Iterable[Graph]) -> list[str]:
    """The queues of a worker, each once, behind that of callbacks if one of its graphs has any: news go before work."""
    if any(graph.plan.has_callbacks for graph in graphs):
        return [QUEUE, *(each for each in dict.fromkeys(queues) if each != QUEUE)]
    return list(dict.fromkeys(queues))


def call(callbacks: Sequence[Callback], event: CallbackEvent) -> BaseException | None:
    """Call all of them, whatever one of them does; what is raised is logged, and the first of it returned."""
    first: BaseException | None = None
    for each in callbacks:
        try:
            each(event)
        except KeyboardInterrupt:
            raise  # somebody at the terminal, who means the program
        except BaseException as error:  # noqa: BLE001 - SystemExit and its kind too: a callback breaks nothing
            _log(each, event, error)
            first = first or error
    return first


class Teller:
    """Tells the callbacks of a run in this process, at once and one after the other."""

    def __init__(
        self,
        graph: Graph,
        run: str,
        params: Mapping[str, Any],
        now: Callable[[], datetime],
        tick: datetime | None = None,
    ) -> None:
        self._graph, self._run, self._params, self._now, self._tick = graph, run, params, now, tick
        self._began = now()
        self._culprit: tuple[str, BaseException] | None = None

    def attempt_ended(
        self,
        task: AnyTask,
        attempt: int,
        state: str,
        *,
        began: datetime,
        value: Any = None,
        error: BaseException | None = None,
        next_at: datetime | None = None,
    ) -> None:
        """An attempt ended, and its task is in this state now."""
        kind = _KIND_OF.get(state)
        if kind == "failure" and error is not None and self._culprit is None:
            self._culprit = task.name, error
        if kind is None or kind not in task.callbacks:
            return
        about = {"task": task.name, "attempt": attempt, "value": value, "error": error, "next_attempt_at": next_at}
        self._tell(task.callbacks[kind], f"{self._run}_{task.name}_{attempt}_{kind}", kind, "task", state, began, about)

    def run_ended(self, state: str, value: Any) -> None:
        """The run ended."""
        kind = _KIND_OF[state]
        if kind not in self._graph.callbacks:
            return
        task, error = self._culprit or (None, None)
        about = {"task": task, "value": value, "error": error}
        self._tell(self._graph.callbacks[kind], f"{self._run}_{kind}", kind, "graph", state, self._began, about)

    def _tell(
        self,
        callbacks: Sequence[Callback],
        event: str,
        kind: str,
        scope: str,
        state: str,
        began: datetime,
        about: dict[str, Any],
    ) -> None:
        now = self._now()
        error = about.pop("error")
        call(
            callbacks,
            CallbackEvent(
                id=event,
                kind=kind,
                scope=scope,
                graph=self._graph.name,
                run=self._run,
                state=state,
                error=error and _described(error),
                seconds=(now - began).total_seconds(),
                tick=self._tick,
                params=dict(self._params),
                at=now,
                **about,
            ),
        )


_KIND_OF = {"success": "success", "failed": "failure", "retrying": "retry"}


def _described(error: BaseException) -> CallbackError:
    import traceback

    kind = type(error)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    return CallbackError(type=name, message=str(error), traceback="".join(traceback.format_exception(error)))


def _log(callback: Callback, event: CallbackEvent, error: BaseException) -> None:
    import logging  # not before it is needed: `import tm` is to be light

    name, of = getattr(callback, "__qualname__", repr(callback)), event.task or event.graph
    says = "callback %s failed, on_%s of %s, run %s"
    logging.getLogger("tm.callbacks").error(says, name, event.kind, of, event.run, exc_info=error)
