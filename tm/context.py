"""What a task may know of the run it is part of: `tm.get_context()`, inside the body of a task."""

from __future__ import annotations

from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tm.errors import RefusedError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime
    from logging import Logger


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """The attempt that is being made."""

    run: str  #: id of the run
    graph: str  #: name of the graph
    task: str  #: name of the task
    attempt: int  #: 1 for the first try
    token: str  #: of this claim: no other attempt, nor this one somewhere else, ever has it
    tick: datetime | None = None  #: the instant the run is for, in UTC; None for a run that no tick started
    params: Mapping[str, Any] = field(default_factory=dict)  #: what the run was started with (roots only)
    #: when this attempt is ended from outside: at its own time-out or the run's, whichever comes first; in UTC. None
    #: without either, and in process, where nothing enforces them
    deadline: datetime | None = None

    @property
    def idempotency_key(self) -> str:
        """For effects outside: the same in every attempt at this task of this run.

        A body runs again when its worker died before it could report, and the repeat has a new attempt number. A key
        with the number in it would let the effect happen twice in just that case.
        """
        return f"{self.run}/{self.task}"

    @property
    def logger(self) -> Logger:
        """Python's logger `GRAPH.TASK`: what it says is kept with the attempt, as all that is logged or printed is.

        In process nothing is kept; it is heard as logging is set up there.
        """
        import logging

        return logging.getLogger(f"{self.graph}.{self.task}")


def get_context() -> Context:
    """The context of the task whose body calls this, also from threads it has started in a worker.

    Raises:
        RefusedError: no task is running here.
    """
    if (own := _of_this_call.get()) is not None:
        if not isinstance(own, Context):
            own = own()
            _of_this_call.set(own)  # the same one from now on; the end of the attempt removes both
        return own
    if (shared := _of_this_process) is None:
        raise RefusedError("get_context() is for the body of a task, and none is running here")
    return shared if isinstance(shared, Context) else shared()


def deadline(now: datetime, timeout: float | None, run_ends_ms: int | None) -> datetime | None:
    """When an attempt that begins now is ended, by its time-out (in seconds) and the end of its run's."""
    from datetime import timedelta

    from tm.clock import from_ms

    ends = [] if run_ends_ms is None else [from_ms(run_ends_ms)]
    if timeout is not None:
        with suppress(OverflowError):  # in another millennium
            ends.append(now + timedelta(seconds=timeout))
    return min(ends, default=None)


class running:  # noqa: N801 - it reads as a part of the `with` statement
    """`with running(context):` lets `get_context` give this, here and in what is called from here.

    Args:
        context: of the attempt that begins; or what makes it when somebody asks for it, as few tasks do.
        alone: nothing else runs in this process, so threads without a context of their own get it as well.
    """

    __slots__ = ("_alone", "_context", "_token")

    def __init__(self, context: Context | Callable[[], Context], *, alone: bool = False) -> None:
        self._context, self._alone = context, alone

    def __enter__(self) -> None:
        global _of_this_process  # noqa: PLW0603 - an executor makes one attempt at a time
        self._token = _of_this_call.set(self._context)
        if self._alone:
            _of_this_process = self._context

    def __exit__(self, *_: object) -> None:
        global _of_this_process  # noqa: PLW0603
        _of_this_call.reset(self._token)
        if self._alone:
            _of_this_process = None


_of_this_call: ContextVar[Context | Callable[[], Context] | None] = ContextVar("tm_context", default=None)
_of_this_process: Context | Callable[[], Context] | None = None
