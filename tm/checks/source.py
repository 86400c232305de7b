"""What can be seen in the text of a graph file alone, also when it cannot be imported."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from tm.checks.places import Function, Source, at_node, name_of, task_decorator

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tm.checks.findings import Finding


def in_the_text(where: Source) -> list[Finding]:
    """All findings in the text."""
    if where.tree is None:
        return []
    return [
        *_async_tasks(where, where.tree),
        *_lambdas(where, where.tree),
        *_late_binding(where, where.tree),
        *_starts(where, where.tree),
        *_submissions(where, where.tree),
    ]


def _async_tasks(where: Source, tree: ast.Module) -> Iterator[Finding]:
    for node in ast.walk(tree):
        if isinstance(node, ast.AsyncFunctionDef) and task_decorator(node) is not None:
            yield at_node(
                where,
                node,
                "async-task",
                f"task {node.name!r} is async, and workers call plain functions",
                "call asyncio.run(...) inside a plain function instead",
            )


def _lambdas(where: Source, tree: ast.Module) -> Iterator[Finding]:
    """`task(name=...)(lambda: ...)` and `task(lambda: ...)`; the latter has no name either, and is refused."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or not node.args or not isinstance(node.args[0], ast.Lambda):
            continue
        maker = node.func.func if isinstance(node.func, ast.Call) else node.func
        if name_of(maker) == "task" and isinstance(node.func, ast.Call):
            yield at_node(
                where,
                node.args[0],
                "lambda-task",
                "a task is a lambda: neither tracebacks nor versions tell it from others on its line",
                "write a def",
            )


def _late_binding(where: Source, tree: ast.Module) -> Iterator[Finding]:
    """Tasks made in a loop that read its variable: when they run it has its last value."""
    for loop in ast.walk(tree):
        if not isinstance(loop, ast.For | ast.AsyncFor):
            continue
        targets = {node.id for node in ast.walk(loop.target) if isinstance(node, ast.Name)}
        for function in (node for statement in loop.body for node in ast.walk(statement)):
            if not isinstance(function, Function) or task_decorator(function) is None:
                continue
            # only what is defined in the loop itself: a function around it binds the value of each round
            if any(_holds(node, function) for node in ast.walk(loop) if isinstance(node, Function | ast.Lambda)):
                continue
            own = {each.arg for each in ast.walk(function.args) if isinstance(each, ast.arg)}
            own |= {n.id for n in ast.walk(function) if isinstance(n, ast.Name) and not isinstance(n.ctx, ast.Load)}
            for node in (node for statement in function.body for node in ast.walk(statement)):
                if isinstance(node, ast.Name) and node.id in targets - own:
                    yield at_node(
                        where,
                        node,
                        "late-binding",
                        f"task {function.name!r} reads {node.id!r} when it runs, and the loop has ended by then: every "
                        "task of the loop sees the last value",
                        "make the tasks in a function that takes it as an argument",
                    )
                    break


def _holds(outer: ast.AST, inner: ast.AST) -> bool:
    return outer is not inner and any(node is inner for node in ast.walk(outer))


def _starts(where: Source, tree: ast.Module) -> Iterator[Finding]:
    """Executors that are started twice, and graphs that are changed below the start."""
    executors: set[str] = set()
    graphs: set[str] = set()
    started = 0
    for statement in _top_level(tree):
        value = getattr(statement, "value", None)
        if isinstance(statement, ast.Assign) and isinstance(value, ast.Call):
            names = {each.id for each in statement.targets if isinstance(each, ast.Name)}
            executors |= names if name_of(value.func) == "Executor" else set()
            graphs |= names if name_of(value.func) == "Graph" else set()
        if not isinstance(value, ast.Call) or not isinstance(value.func, ast.Attribute):
            continue
        on, method = value.func.value, value.func.attr
        is_executor = name_of(on) in executors or (isinstance(on, ast.Call) and name_of(on.func) == "Executor")
        if method == "start" and is_executor:
            started = started or statement.lineno
            if started != statement.lineno:
                yield at_node(
                    where,
                    value,
                    "executor-twice",
                    f"this starts only when the Executor of line {started} has ended",
                    "give one Executor all graphs, and start it once",
                )
        elif started and ((method == "add" and is_executor) or (method == "add_edges" and name_of(on) in graphs)):
            yield at_node(
                where,
                value,
                "after-start",
                f"this comes after the start in line {started}: `python {where.file}` runs the graph without it, "
                "tm-worker and tm-scheduler with it",
                "move it above the start",
            )


def _submissions(where: Source, tree: ast.Module) -> Iterator[Finding]:
    """Runs that are started by whoever loads the file; what is below `if __name__ == "__main__"` is not loaded."""
    graphs = {
        target.id
        for statement in tree.body
        if isinstance(statement, ast.Assign) and isinstance(statement.value, ast.Call)
        for target in statement.targets
        if isinstance(target, ast.Name) and name_of(statement.value.func) == "Graph"
    }
    for statement in tree.body:
        if isinstance(statement, Function | ast.ClassDef | ast.If | ast.Try):
            continue
        for node in ast.walk(statement):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr in {"submit", "submit_many"}
                and name_of(node.func.value) in graphs
            ):
                yield at_node(
                    where,
                    node,
                    "submit-on-import",
                    "every worker, scheduler and command that loads this file starts such a run",
                    'put it under `if __name__ == "__main__":`',
                )


def _top_level(tree: ast.Module) -> Iterator[ast.stmt]:
    """The statements that `python FILE` runs in order, those under `if __name__ == "__main__":` included."""
    for statement in tree.body:
        if isinstance(statement, ast.If) and "__name__" in {
            name_of(n) for n in ast.walk(statement.test) if isinstance(n, ast.expr)
        }:
            yield from statement.body
        else:
            yield statement
