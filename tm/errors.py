"""Every error Taskmaster raises on purpose; each names what, where and what to do next."""

from __future__ import annotations


class TaskmasterError(Exception):
    """Base of all errors of this package."""

    #: exit code of a command that ends with this error (`tm help exit-codes`)
    exit_code = 1


class DefinitionError(TaskmasterError, ValueError):
    """A graph or task is drawn wrongly; found before anything runs."""

    exit_code = 2


class CycleError(DefinitionError):
    """The edges of a graph lead back to where they began."""

    def __init__(self, graph: str, cycle: list[str]) -> None:
        super().__init__(f"graph {graph!r} has a cycle: {' -> '.join(cycle)}; remove one of these edges")
        self.graph, self.cycle = graph, cycle


class DuplicateTaskError(DefinitionError):
    """Two different functions of one graph share a task name."""

    def __init__(self, graph: str, task: str, first: str, second: str) -> None:
        super().__init__(
            f"graph {graph!r} has two tasks named {task!r}: {first} and {second}; "
            "give one of them another name with @task(name=...)"
        )
        self.graph, self.task = graph, task


class SignatureError(DefinitionError):
    """A task cannot receive what its parents send, or needs what nobody sends."""

    def __init__(self, graph: str, task: str, problem: str) -> None:
        super().__init__(f"graph {graph!r}, task {task!r}: {problem}")
        self.graph, self.task = graph, task


class EmptyGraphError(DefinitionError):
    """A graph without a task cannot run."""

    def __init__(self, graph: str) -> None:
        super().__init__(f"graph {graph!r} has no tasks; add some with graph.add_edges([parent], [child])")
        self.graph = graph


class ScheduleError(DefinitionError):
    """The schedule or time zone of a graph cannot be read."""

    def __init__(self, graph: str, problem: str) -> None:
        super().__init__(f"graph {graph!r}: {problem}")
        self.graph = graph


class ConfigError(TaskmasterError):
    """The config file of a graph is missing or broken at the moment a run needs it."""

    exit_code = 2

    def __init__(self, path: str, problem: str, *, line: int | None = None, column: int | None = None) -> None:
        place = path if line is None else f"{path}, line {line}, column {column}"
        super().__init__(f"config file {place}: {problem}")
        self.path, self.problem, self.line, self.column = path, problem, line, column


class LoadError(TaskmasterError):
    """A graph file cannot be loaded; the message carries the user's traceback where there is one."""

    exit_code = 2


class SettingsError(TaskmasterError):
    """A setting from the environment or the command line makes no sense."""

    exit_code = 2


class NotFoundError(TaskmasterError):
    """The run, graph or task that was asked for does not exist."""

    exit_code = 3


class RefusedError(TaskmasterError):
    """The request makes sense but not in the present state; nothing was changed."""

    exit_code = 4


class UnavailableError(TaskmasterError):
    """The server or the history cannot be reached now."""

    exit_code = 5


class CodecError(TaskmasterError):
    """A value cannot become a message; `path` says where in the value, as in result["frame"][2]."""

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(f"{path}: {problem}")
        self.path, self.problem = path, problem


class SpillError(TaskmasterError):
    """A large message cannot be written to the spill store, or not be read from it."""


class RunFailedError(TaskmasterError):
    """A run that somebody waited for did not end in success."""

    def __init__(self, run: str, state: str, detail: str = "") -> None:
        super().__init__(f"run {run} ended {state}" + (f": {detail}" if detail else ""))
        self.run, self.state, self.detail = run, state, detail


class Fail(TaskmasterError):  # noqa: N818 - users raise it as a verb: `raise tm.Fail("no such customer")`
    """Raised by a task to fail for good: its retries are not used. `raise tm.Fail("no such customer")`."""


class Skip(TaskmasterError):  # noqa: N818 - as Fail: `raise tm.Skip("no new rows")`
    """Raised by a task that has nothing to do: it ends well, without a value, and what is below it is skipped too."""
