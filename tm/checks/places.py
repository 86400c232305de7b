"""The text of files, and where in it things are: of a graph the call that makes it, of a task its def."""

from __future__ import annotations

import ast
import functools
import inspect
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tm.checks.findings import Finding

if TYPE_CHECKING:
    from tm.graph import Graph, Task

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True, kw_only=True)
class Source:
    """One file, parsed; without a tree where it is no Python."""

    file: str  #: as the user would name it
    lines: list[str] = field(repr=False)
    tree: ast.Module | None = field(repr=False)

    @functools.cached_property
    def functions(self) -> dict[int, Function]:
        """By the line on which Python says they begin, which is that of their first decorator."""
        found: dict[int, Function] = {}
        for node in ast.walk(self.tree) if self.tree else ():
            if isinstance(node, Function):
                found[min([node.lineno, *(each.lineno for each in node.decorator_list)])] = node
        return found

    @functools.cached_property
    def graph_calls(self) -> list[ast.Call]:
        """`Graph(...)` and `tm.Graph(...)`."""
        calls = [node for node in ast.walk(self.tree) if isinstance(node, ast.Call)] if self.tree else []
        return [call for call in calls if name_of(call.func) == "Graph"]

    def graph_call(self, name: str) -> ast.Call | None:
        """The one call that makes a graph of this name; None where its name is not written there."""
        found = [call for call in self.graph_calls if _constant(argument(call, "name", 0)) == name]
        return found[0] if len(found) == 1 else None

    def call_for(self, variable: str) -> ast.Call | None:
        """The call whose result a variable gets, at the top level."""
        for statement in self.tree.body if self.tree else ():
            match statement:
                case ast.Assign(targets=targets, value=ast.Call() as call) if variable in map(name_of, targets):
                    return call
        return None


@functools.cache
def source(path: Path) -> Source:
    """The source of a file; empty where there is none."""
    try:
        data = path.read_bytes() if path.is_file() else b""  # a pipe would be waited for
    except (OSError, ValueError):
        return Source(file=str(path), lines=[], tree=None)
    try:
        tree: ast.Module | None = ast.parse(data, str(path))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        tree = None
    return Source(file=shown(path), lines=data.decode("utf-8", "replace").splitlines(), tree=tree)


def shown(path: Path) -> str:
    """A path as the user would name it: from the working directory on, where it lies below."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def function_of(task: Task[..., Any]) -> tuple[Source, Function | None, bool]:
    """The file of a task, its def, and whether that is all there is to it: no decorator of others around it."""
    inner = inspect.unwrap(task.function)
    code = getattr(inner, "__code__", None)
    if code is None:
        return source(Path("<unknown>")), None, False
    where = source(Path(code.co_filename))
    return where, where.functions.get(code.co_firstlineno), inner is task.function


def at_task(task: Task[..., Any], code: str, message: str, hint: str = "", *, parameter: str = "") -> Finding:
    """A finding at a task: at one of its parameters, else at its def."""
    where, function, _ = function_of(task)
    if function is None:
        line = getattr(getattr(inspect.unwrap(task.function), "__code__", None), "co_firstlineno", 0)
        return Finding(file=where.file, line=line, code=code, message=message, hint=hint)
    node: ast.arg | Function = next((each for each in _arguments(function) if each.arg == parameter), function)
    return at_node(where, node, code, message, hint)


def at_graph(
    graph: Graph, code: str, message: str, hint: str = "", *, setting: str = "", variable: str = ""
) -> Finding:
    """A finding at a graph: at one of its settings, else at the call that makes it (and gives it to a variable)."""
    where = source(graph.file)
    call = where.graph_call(graph.name) or where.call_for(variable)
    if call is None:
        return Finding(file=where.file, code=code, message=message, hint=hint)
    keywords = [each for each in call.keywords if each.arg == setting]
    second = call.args[1] if setting == "schedule" and len(call.args) > 1 else None
    node = keywords[0].value if keywords else second or call
    return at_node(where, node, code, message, hint)


def at_node(where: Source, node: ast.expr | ast.stmt | ast.arg, code: str, message: str, hint: str = "") -> Finding:
    """A finding at a piece of text."""
    return Finding(file=where.file, line=node.lineno, column=node.col_offset + 1, code=code, message=message, hint=hint)


def name_of(node: ast.expr) -> str:
    """`Graph` for `Graph` and for `tm.Graph`."""
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


def argument(call: ast.Call, name: str, position: int) -> ast.expr | None:
    """An argument of a call, by keyword or position."""
    for keyword in call.keywords:
        if keyword.arg == name:
            return keyword.value
    return call.args[position] if len(call.args) > position else None


def task_decorator(function: Function) -> ast.expr | None:
    """`@task`, `@task(...)`, `@tm.task(...)` of a function."""
    for each in function.decorator_list:
        if name_of(each.func if isinstance(each, ast.Call) else each) == "task":
            return each
    return None


def _arguments(function: Function) -> list[ast.arg]:
    given = function.args
    found = [*given.posonlyargs, *given.args, *given.kwonlyargs]
    return found + [each for each in (given.vararg, given.kwarg) if each is not None]


def _constant(node: ast.expr | None) -> object:
    return node.value if isinstance(node, ast.Constant) else None
