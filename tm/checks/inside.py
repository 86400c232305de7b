"""What is done about one file, in a process of its own: import it, and look at the graphs it made."""

from __future__ import annotations

import ast
import inspect
import traceback
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

from tm import loader, stack, wiring
from tm.checks import hints, settings, shapes
from tm.checks.findings import Finding, heeded, sentence
from tm.checks.places import argument, at_graph, at_task, name_of, shown, source
from tm.checks.source import in_the_text
from tm.errors import (
    CycleError,
    DefinitionError,
    DuplicateTaskError,
    EmptyGraphError,
    LoadError,
    RefusedError,
    ScheduleError,
    SignatureError,
    TaskmasterError,
)
from tm.graph import Task

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tm.graph import Graph

_CODES: dict[type[BaseException], str] = {
    CycleError: "cycle",
    DuplicateTaskError: "duplicate-task",
    EmptyGraphError: "empty-graph",
    SignatureError: "parameters",
    ScheduleError: "schedule",
    DefinitionError: "definition",
}


class SubmittedError(RefusedError):
    """The file has tried to start a run while it was imported."""


def look_into(path: Path, top: Path | None) -> dict[str, Any]:
    """Everything that has to be told of one file, as plain values that go through a pipe."""
    _refuse_to_submit()
    text = in_the_text(source(path))
    try:
        looked = loader.look(path, top)
    except LoadError as error:
        found = _of_the_import(path, error)
        # what is seen in the text as well as refused in the import is told once
        again = {each.code for each in text} & {"async-task", "submit-on-import"}
        is_known = found.code in again or ("async-task" in again and " is async" in found.message)
        return _answer([*text, *([] if is_known else [found])])
    graphs = [graph for _, graph in looked.graphs]
    findings = [*text, *_names(looked.graphs)]
    used: list[Task[..., Any]] = []
    for graph in graphs:
        used += graph.tasks.values()
        findings += _of_graph(graph)
    made = [each for each in vars(looked.module).values() if _is_defined_in(each, path)]
    for task in {id(task): task for task in (*used, *made)}.values():
        roots = [graph for graph in graphs if task in graph.tasks.values() and _is_root(graph, task)]
        scheduled = any(not graph.is_manual and task in graph.tasks.values() for graph in graphs)
        findings += settings.of_task(task, root=bool(roots))
        findings += hints.of_task(task, travels=scheduled)
    return _answer(
        findings,
        loaded=True,
        graphs=[_place_of(graph) for graph in graphs],
        queues=[(task.queue, _plain(at_task(task, "queue", ""))) for task in {id(t): t for t in used}.values()],
        tasks=[_plain(_unused(task)) for task in made if not _is_named(task, path)],
        used=[task.place for task in used],
    )


def _answer(findings: list[Finding], **more: Any) -> dict[str, Any]:
    lines = {each.file: source(Path(each.file).absolute()).lines for each in findings}
    kept = heeded(findings, lines)
    return {
        "loaded": False,
        "graphs": [],
        "tasks": [],
        "used": [],
        "queues": [],
        **more,
        "findings": [_plain(each) for each in kept],
    }


def _plain(finding: Finding) -> dict[str, Any]:
    return {name: getattr(finding, name) for name in Finding.__slots__}


def _refuse_to_submit() -> None:
    """Nothing is run, whatever the file does on import and whatever server TM_URL names."""

    def refuse(*_: object, **__: object) -> Any:
        raise SubmittedError("nothing is started while a file is checked")

    wiring.default_client = refuse
    stack.Stack.run = refuse  # type: ignore[method-assign]


# The import ---------------------------------------------------------------------------------------------------


def _of_the_import(path: Path, error: LoadError) -> Finding:
    cause = error.__cause__
    if cause is None or (isinstance(cause, OSError) and not cause.__traceback__):
        return sentence("load", _after_colon(str(error)), shown(path))
    if isinstance(cause, SyntaxError) and cause.filename is not None:
        file = shown(Path(cause.filename))
        return sentence("syntax", str(cause.msg), file, cause.lineno or 0, cause.offset or 0)
    file, line, column = _place(cause, path)
    if isinstance(cause, SubmittedError):
        return Finding(
            file=file,
            line=line,
            column=column,
            code="submit-on-import",
            message="every worker, scheduler and command that loads this file starts such a run",
            hint='put it under `if __name__ == "__main__":`',
        )
    if isinstance(cause, TaskmasterError):
        code = next((code for kind, code in _CODES.items() if isinstance(cause, kind)), "definition")
        found = sentence(code, _one_line(cause), file, line, column)
        return _at_the_setting(found, cause) if isinstance(cause, ScheduleError) else found
    if isinstance(cause, TypeError) and "is manual: it runs when it is called" in str(cause):
        return sentence("manual-in-executor", str(cause).replace(": it runs", "; it runs", 1), file, line, column)
    return Finding(file=file, line=line, column=column, code="import", message=_told(cause), hint=_hint_of(cause))


def _at_the_setting(found: Finding, error: ScheduleError) -> Finding:
    """The place of a schedule or a zone in the call that was refused, in cron text that of the bad piece."""
    where, setting = source(Path(found.file).absolute()), "timezone" if "time zone" in str(error) else "schedule"
    for call in where.graph_calls:
        node = argument(call, setting, 1 if setting == "schedule" else 99)
        if call.lineno <= found.line <= (call.end_lineno or call.lineno) and isinstance(node, ast.Constant):
            into = getattr(error.__cause__, "column", None)
            return replace(found, line=node.lineno, column=node.col_offset + 1 + (into or 0))
    return found


def _told(cause: BaseException) -> str:
    if isinstance(cause, SystemExit):
        return f"it calls sys.exit({cause.code!r}) while it is imported"
    text = " ".join(str(cause).split())
    return f"{type(cause).__name__}: {text}" if text else type(cause).__name__


def _hint_of(cause: BaseException) -> str:
    if isinstance(cause, SystemExit):
        return 'put that under `if __name__ == "__main__":`'
    if isinstance(cause, ModuleNotFoundError):
        return "install it where `tm` runs, workers and schedulers need it as well"
    if isinstance(cause, ImportError) and "relative import" in str(cause):
        return "check the directory of the package, not the file alone"
    return ""


def _one_line(cause: TaskmasterError) -> str:
    """A cron error draws a caret under the bad piece, over several lines; its hint comes last."""
    lines = [line.strip() for line in str(cause).splitlines()]
    hint = next((line.removeprefix("hint: ") for line in lines if line.startswith("hint: ")), "")
    return f"{lines[0]}; {hint}" if hint else lines[0] if len(lines) > 1 else str(cause)


def _place(cause: BaseException, path: Path) -> tuple[str, int, int]:
    """Where it went wrong: in this file if it passed there, else in the innermost that is the user's."""
    frames = [each for each in traceback.extract_tb(cause.__traceback__) if not _is_ours(each.filename)]
    here = [each for each in frames if Path(each.filename) == path]
    near = [each for each in frames if "site-packages" not in each.filename and Path(each.filename).exists()]
    for frame in (here or near or frames)[-1:]:
        return shown(Path(frame.filename)), frame.lineno or 0, (frame.colno or 0) + 1
    return shown(path), 0, 0


def _is_ours(filename: str) -> bool:
    return filename.startswith((str(Path(loader.__file__).parent), "<frozen importlib"))


def _after_colon(text: str) -> str:
    return text.partition("\n")[0].partition(": ")[2] or text


# Its graphs ---------------------------------------------------------------------------------------------------


def _of_graph(graph: Graph) -> Iterator[Finding]:
    try:
        _ = graph.plan
    except DefinitionError as error:
        yield _refused(graph, error)
        return
    yield from settings.of_graph(graph)
    yield from shapes.of_edges(graph)
    yield from hints.of_edges(graph)


def _refused(graph: Graph, error: DefinitionError) -> Finding:
    code = next(code for kind, code in _CODES.items() if isinstance(error, kind))
    told = sentence(code, str(error), "")
    message, hint = told.message, told.hint
    task = graph.tasks.get(getattr(error, "task", ""))
    return at_graph(graph, code, message, hint) if task is None else at_task(task, code, message, hint)


def _names(graphs: tuple[tuple[str, Graph], ...]) -> Iterator[Finding]:
    first: dict[str, tuple[str, Graph]] = {}
    for variable, graph in graphs:
        known, other = first.setdefault(graph.name, (variable, graph))
        if other is not graph:
            message = f"two graphs are named {graph.name!r}: {known} and {variable}"
            yield at_graph(graph, "duplicate-graph", message, "rename one of them", variable=variable)


def _place_of(graph: Graph) -> dict[str, Any]:
    return {"name": graph.name, **_plain(at_graph(graph, "duplicate-graph", ""))}


def _is_defined_in(value: object, path: Path) -> TypeGuard[Task[..., Any]]:
    """Whether it is a task that this file defines."""
    if not isinstance(value, Task):
        return False
    code = getattr(inspect.unwrap(value.function), "__code__", None)
    return code is not None and Path(code.co_filename) == path


def _is_root(graph: Graph, task: Task[..., Any]) -> bool:
    try:
        return any(graph.plan.tasks[index].name == task.name for index in graph.plan.roots)
    except DefinitionError:
        return False


def _is_named(task: Task[..., Any], path: Path) -> bool:
    """Whether the file mentions the task anywhere but where it defines it: then it may be called as a function."""
    tree = source(path).tree
    names = [node for node in ast.walk(tree) if isinstance(node, ast.expr)] if tree else []
    return any(
        name_of(node) == task.function.__name__ for node in names if isinstance(getattr(node, "ctx", None), ast.Load)
    )


def _unused(task: Task[..., Any]) -> Finding:
    return at_task(task, "unused-task", task.place, "draw an edge to it, or take the @task away")
