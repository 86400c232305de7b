"""Tasks: functions that graphs can run."""

from __future__ import annotations

import functools
import hashlib
import inspect
import weakref
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar, overload

from tm import callbacks
from tm.errors import DefinitionError
from tm.ids import QUEUE_NAME
from tm.retry import RetryPolicy

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from tm.callbacks import Callback, Callbacks

P = ParamSpec("P")
R = TypeVar("R")


class Task(Generic[P, R]):
    """A function that graphs can run; calling it calls the function."""

    def __init__(
        self,
        function: Callable[P, R],
        *,
        name: str | None = None,
        queue: str = "default",
        timeout: float | None = None,
        retry: RetryPolicy | None = None,
        retry_on: type[BaseException] | tuple[type[BaseException], ...] = Exception,
        callbacks: Callbacks | None = None,
    ) -> None:
        if not callable(function):
            raise DefinitionError(f"@task needs a function, not {function!r}; write @task() above a def")
        if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
            raise DefinitionError(
                f"task {function.__name__!r} is async; call asyncio.run(...) inside a plain function instead"
            )
        self.function = function
        self.name = name if name is not None else function.__name__
        if not isinstance(self.name, str) or not self.name.isidentifier():
            raise DefinitionError(
                f"task name {self.name!r} is no identifier; children receive the result under this name"
            )
        if not isinstance(queue, str) or not QUEUE_NAME.fullmatch(queue):
            raise DefinitionError(f"task {self.name!r}: queue {queue!r} may hold letters, digits, '_', '.', '-'")
        if timeout is not None and not timeout > 0:
            raise DefinitionError(f"task {self.name!r}: timeout must be above 0 seconds, not {timeout!r}")
        self.queue = queue
        self.timeout = timeout
        self.retry = retry or RetryPolicy()
        self.retry_on = retry_on
        self.callbacks = callbacks or {}
        functools.update_wrapper(self, function)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function itself, here and now."""
        return self.function(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<task {self.name}>"

    @functools.cached_property
    def place(self) -> str:
        """Where the function is written, as file:line."""
        code = getattr(inspect.unwrap(self.function), "__code__", None)
        return f"{code.co_filename}:{code.co_firstlineno}" if code else repr(self.function)

    @functools.cached_property
    def _signature(self) -> Mapping[str, inspect.Parameter]:
        return inspect.signature(self.function).parameters

    @functools.cached_property
    def parameters(self) -> dict[str, inspect.Parameter]:
        """The parameters that can be given by name."""
        return {
            name: parameter
            for name, parameter in self._signature.items()
            if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
        }

    @functools.cached_property
    def takes_anything(self) -> bool:
        """Whether the function has a `**kwargs`."""
        return any(parameter.kind is parameter.VAR_KEYWORD for parameter in self._signature.values())

    @functools.cached_property
    def required(self) -> frozenset[str]:
        """Parameters without a default, positional-only ones included."""
        return frozenset(
            name
            for name, parameter in self._signature.items()
            if parameter.default is parameter.empty
            and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        )

    def accepts(self, name: str) -> bool:
        """Whether `name` can be passed by keyword."""
        return self.takes_anything or name in self.parameters

    @functools.cached_property
    def code_digest(self) -> bytes:
        """Digest of the function's source, so that a worker can tell old code from new."""
        return _digest_of_code(inspect.unwrap(self.function))


@overload
def task(function: Callable[P, R], /) -> Task[P, R]: ...
@overload
def task(
    *,
    retries: int = 0,
    retry_delay: float = 0,
    backoff: float = 0,
    max_retry_delay: float | None = None,
    jitter: float = 0,
    retry_on: type[BaseException] | tuple[type[BaseException], ...] = Exception,
    timeout: float | None = None,
    queue: str = "default",
    name: str | None = None,
    on_success: Callback | Sequence[Callback] | None = None,
    on_failure: Callback | Sequence[Callback] | None = None,
    on_retry: Callback | Sequence[Callback] | None = None,
) -> Callable[[Callable[P, R]], Task[P, R]]: ...
def task(
    function: Callable[P, R] | None = None,
    /,
    *,
    retries: int = 0,
    retry_delay: float = 0,
    backoff: float = 0,
    max_retry_delay: float | None = None,
    jitter: float = 0,
    retry_on: type[BaseException] | tuple[type[BaseException], ...] = Exception,
    timeout: float | None = None,
    queue: str = "default",
    name: str | None = None,
    on_success: Callback | Sequence[Callback] | None = None,
    on_failure: Callback | Sequence[Callback] | None = None,
    on_retry: Callback | Sequence[Callback] | None = None,
) -> Task[P, R] | Callable[[Callable[P, R]], Task[P, R]]:
    """Make a function a task.

    Args:
        function: the function, when written as plain `@task`.
        retries: attempts after the first, each only if the one before failed.
        retry_delay: seconds before the first retry.
        backoff: growth of the delay; retry n (0-based) waits `retry_delay * (1 + backoff) ** n` seconds.
        max_retry_delay: seconds; no delay grows past this.
        jitter: up to this fraction of the delay is added at random.
        retry_on: exceptions worth another attempt; others fail the task at once, as `tm.Fail` always does.
        timeout: seconds one attempt may take; workers end it from outside. In-process calls do not enforce it.
        queue: the queue in which attempts wait for a worker.
        name: another name than the function's; children receive the result under it.
        on_success: a function, or several, called with a `tm.CallbackEvent` after the task has succeeded. A worker
            calls it; nothing waits for it, and what it raises fails nothing.
        on_failure: the same after it has failed for good, timed out, was quarantined, or was cancelled while it ran.
        on_retry: the same after an attempt that another one follows.

    Raises:
        DefinitionError: an async function, a name that is no identifier, or a number that is not allowed.
    """

    def wrap(inner: Callable[P, R]) -> Task[P, R]:
        policy = RetryPolicy(
            retries=retries,
            retry_delay=retry_delay,
            backoff=backoff,
            max_retry_delay=max_retry_delay,
            jitter=jitter,
        )
        calls = callbacks.collect(
            f"task {name or getattr(inner, '__name__', inner)!r}",
            success=on_success,
            failure=on_failure,
            retry=on_retry,
        )
        return Task(inner, name=name, queue=queue, timeout=timeout, retry=policy, retry_on=retry_on, callbacks=calls)

    return wrap if function is None else wrap(function)


AnyTask = Task[..., Any]


def _digest_of_code(function: Callable[..., Any]) -> bytes:
    code = getattr(function, "__code__", None)
    if (known := _digests.get(id(code))) is not None:
        return known
    try:
        text = inspect.getsource(function).encode()
    except (OSError, TypeError):
        text = code.co_code if code else repr(function).encode()
    digest = hashlib.blake2s(text, digest_size=8).digest()
    if code is not None:
        _digests[id(code)] = digest
        weakref.finalize(code, _digests.pop, id(code), None).atexit = False
    return digest


#: of living code objects, by their identity: tasks that a loop makes share one, and finding its source takes 60 us.
#: Not by their equality, for which a comment that was edited makes no difference
_digests: dict[int, bytes] = {}
