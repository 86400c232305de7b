"""The server functions: one library made of the `.lua` files, named after its content.

Each file holds one operation and begins with its contract. The library's name carries a digest, so old and new code
run side by side on one server, and a worker can tell at once that its functions are not there.
"""

from __future__ import annotations

import functools
import hashlib
from importlib import resources
from typing import TYPE_CHECKING, Any

import redis.exceptions

if TYPE_CHECKING:
    from collections.abc import Callable

    from redis import Redis
    from redis.client import Pipeline

#: reports and heartbeats must get through when the server is full, or nothing would ever end
_ALLOWED_WHEN_FULL = frozenset(
    {
        "announce",
        "take",
        "finish",
        "beat",
        "lead",
        "resign",
        "reap",
        "promote",
        "ring",
        "expire",
        "alarm",
        "note",
        "cancel",
        "hand_back",
        "give_up",
        "lost",
        "mark",
        "pause",
        "resume",
        "pause_queue",
        "resume_queue",
        "purge_queue",
        "drain_workers",
        "settle",
        "logs_filed",
    },
)
#: what the functions share, in the order in which one builds on the other
_SHARED = ("_base", "_plans", "_runs", "_callbacks", "_pauses", "_work", "_handing", "_repair")
#: those that only read
_READING = frozenset({"look"})
_NAMES = (*sorted(_ALLOWED_WHEN_FULL), *sorted(_READING), "define", "start", "tick", "retry", "trigger", "log")


class Library:
    """The functions of one version of this code.

    Args:
        clock: Lua source of `server_now`; tests bring their own to let time pass.
    """

    def __init__(self, clock: str | None = None) -> None:
        parts = [clock if clock is not None else _source("_clock"), *map(_source, _SHARED)]
        digest = hashlib.blake2s("".join([*parts, *map(_source, _NAMES)]).encode(), digest_size=5).hexdigest()
        self.name = f"tm_{digest}"
        for name in _NAMES:
            flags = "'allow-oom'" if name in _ALLOWED_WHEN_FULL else "'no-writes'" if name in _READING else ""
            parts.append(
                f"redis.register_function{{ function_name = '{self.name}_{name}', flags = {{ {flags} }},\n"
                f"callback = operation((function()\n{_source(name)}\nend)()) }}"
            )
        self.source = f"#!lua name={self.name}\n" + "\n".join(parts)
        self._functions = {name: f"{self.name}_{name}" for name in _NAMES}

    def load(self, client: Redis) -> None:
        """Make the functions known to the server; harmless when they are there already."""
        try:
            client.function_load(self.source)
        except redis.exceptions.ResponseError as error:
            if "already exists" not in str(error):
                raise

    def call(self, client: Redis, name: str, prefix: str, *args: Any) -> Any:
        """Call one function; one round trip, unless the server has lost its functions, which are then loaded again."""
        try:
            return client.execute_command(*self.command(name, prefix, *args))
        except redis.exceptions.ResponseError as error:
            if "unction not found" not in str(error):
                raise
            self.load(client)
            return client.execute_command(*self.command(name, prefix, *args))

    def begin(self, client: Any, name: str, prefix: str, *args: Any) -> Callable[[], Any]:
        """Begin a call on a client that has `begin` and `answer`; returns what reads the answer, as `call` does."""
        command = self.command(name, prefix, *args)
        client.begin(*command)

        def answer() -> Any:
            try:
                return client.answer()
            except redis.exceptions.ResponseError as error:
                if "unction not found" not in str(error):
                    raise
                self.load(client)
                return client.execute_command(*command)

        return answer

    def command(self, name: str, prefix: str, *args: Any) -> tuple[Any, ...]:
        """The command that calls a function, for who has a connection of their own."""
        return ("FCALL", self._functions[name], 1, prefix, *args)

    def reading(self, name: str, prefix: str, *args: Any) -> tuple[Any, ...]:
        """The same for a function that only reads."""
        return ("FCALL_RO", self._functions[name], 1, prefix, *args)

    def queue(self, pipeline: Pipeline, name: str, prefix: str, *args: Any) -> None:
        """Add a call to a pipeline."""
        pipeline.execute_command(*self.command(name, prefix, *args))


@functools.cache
def default_library() -> Library:
    """The functions as shipped."""
    return Library()


@functools.cache
def _source(name: str) -> str:
    return resources.files(__package__).joinpath("lua", f"{name}.lua").read_text("utf-8")
