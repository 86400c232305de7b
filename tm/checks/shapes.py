"""What functions return and what they do with what they are given, as far as their text leaves no doubt.

A function's value has a shape when every `return` of it is written out: a dict with its keys, a tuple with its length,
a number, or nothing at all. A use counts when it is certain to happen: at the top of the body, before anything that
might return or raise, outside of every condition.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, is_typeddict

from tm.checks.places import Function, at_node, function_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tm.checks.findings import Finding
    from tm.graph import Graph, Task

_NO_VALUE = type(None)
_SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)


@dataclass(frozen=True, slots=True)
class Shape:
    """All that a function can return."""

    kinds: frozenset[type]  #: types of the values
    keys: frozenset[str] = frozenset()  #: of the dicts among them
    length: int | None = None  #: of the tuples, where all have the same


@dataclass(frozen=True, slots=True)
class Use:
    """Something done with a parameter that cannot but happen."""

    node: ast.expr | ast.stmt
    key: Any = None  #: `parent[key]`
    attribute: str = ""  #: `parent.attribute`
    unpacked: int | None = None  #: `a, b = parent`


def of_edges(graph: Graph) -> Iterator[Finding]:
    """Where a child of a graph reads from its parent what is never there."""
    plan = graph.plan
    for index, child in enumerate(plan.tasks):
        task = graph.tasks[child.name]
        where, function, plain = function_of(task)
        if function is None or not plain:
            continue
        catch_all = function.args.kwarg.arg if function.args.kwarg else ""
        named = {each.arg for each in (*function.args.args, *function.args.kwonlyargs)}
        parents = {plan.tasks[parent].name: parent for parent in plan.tasks[index].parents}
        for parent in parents:
            shape, _ = sent(graph.tasks[parent])
            if shape is None:
                continue
            for use in uses(function, parent) if parent in named else uses(function, catch_all, inside=parent):
                if said := _wrong(parent, shape, use):
                    code, message, hint = said
                    yield at_node(where, use.node, code, f"graph {graph.name!r}: {message}", hint)
        for use in uses(function, catch_all) if catch_all and parents else ():
            if isinstance(use.key, str) and (use.key not in parents or use.key in named):
                is_named = f"{use.key!r} has a parameter of its own, so it is not in **{catch_all}"
                message = is_named if use.key in named else f"task {child.name!r} has no parent {use.key!r}"
                there = ", ".join(each for each in parents if each not in named) or "nothing"
                yield at_node(
                    where,
                    use.node,
                    "unknown-parent",
                    f"graph {graph.name!r}: {message}",
                    f"**{catch_all} holds {there}",
                )


def _wrong(parent: str, shape: Shape, use: Use) -> tuple[str, str, str] | None:
    """Code, message and hint of a use that fails with every value of the shape."""
    if use.key is not None:
        takes = shape.kinds & {dict, str, bytes, list, tuple}
        if shape.kinds <= {dict, _NO_VALUE} and dict in shape.kinds:
            if isinstance(use.key, str) and use.key not in shape.keys:
                keys = ", ".join(sorted(shape.keys)) or "none"
                return "unknown-key", f"{parent!r} returns no key {use.key!r}", f"its keys are {keys}"
        elif not takes or (isinstance(use.key, str) and dict not in takes):
            return (
                "bad-use",
                f"{parent!r} returns {_told(shape)}, which has no [{use.key!r}]",
                "change the one or the other",
            )
    if use.attribute and not any(hasattr(kind, use.attribute) for kind in shape.kinds):
        hint = f"write {parent}[{use.attribute!r}]" if use.attribute in shape.keys else "change the one or the other"
        return "bad-use", f"{parent!r} returns {_told(shape)}, which has no .{use.attribute}", hint
    if use.unpacked is not None:
        if shape.kinds == {tuple} and shape.length is not None and shape.length != use.unpacked:
            message = f"{parent!r} returns {shape.length} values, and {use.unpacked} are unpacked"
            return "bad-use", message, "change the one or the other"
        if not shape.kinds & {dict, str, bytes, list, tuple, set}:
            return (
                "bad-use",
                f"{parent!r} returns {_told(shape)}, which cannot be unpacked",
                "change the one or the other",
            )
    return None


def _told(shape: Shape) -> str:
    if shape.kinds == {_NO_VALUE}:
        return "nothing (None)"
    names = sorted(kind.__name__ for kind in shape.kinds - {_NO_VALUE})
    said = [f"{'an' if name[0] in 'aeiou' else 'a'} {name}" for name in names]
    return " or ".join([*said, *(["None"] if _NO_VALUE in shape.kinds else [])])


# What is returned ---------------------------------------------------------------------------------------------


def sent(task: Task[..., Any]) -> tuple[Shape | None, Function | None]:
    """The shape of what a task sends to its children; None where it cannot be told."""
    _, function, plain = function_of(task)
    if function is None or not plain or isinstance(function, ast.AsyncFunctionDef):
        return None, function
    return returned(function) or _annotated(task), function


def _annotated(task: Task[..., Any]) -> Shape | None:
    """A TypedDict says all its keys, whatever the body does to make one."""
    from tm.checks.hints import hint_of

    annotation = hint_of(task.function, "return")
    if not is_typeddict(annotation):
        return None
    return Shape(frozenset({dict}), frozenset(annotation.__annotations__))


def returned(function: Function) -> Shape | None:
    """The shape of what a function returns."""
    own = list(_own(function))
    if any(isinstance(node, ast.Yield | ast.YieldFrom) for node in own):
        return None
    values = [node.value for node in own if isinstance(node, ast.Return)]
    if _may_fall_through(function.body):
        values.append(None)
    kinds: set[type] = set()
    keys: set[str] = set()
    lengths: set[int] = set()
    for value in values:
        kind = _kind(value)
        if kind is None:
            return None
        kinds.add(kind)
        if isinstance(value, ast.Dict):
            if not all(isinstance(key, ast.Constant) for key in value.keys):
                return None  # computed keys, or **more
            keys |= {key.value for key in value.keys if isinstance(key, ast.Constant) and isinstance(key.value, str)}
        if isinstance(value, ast.Tuple):
            if any(isinstance(each, ast.Starred) for each in value.elts):
                return None
            lengths.add(len(value.elts))
    if not kinds:
        return None
    return Shape(frozenset(kinds), frozenset(keys), lengths.pop() if len(lengths) == 1 else None)


def _kind(value: ast.expr | None) -> type | None:
    if value is None:
        return _NO_VALUE
    if isinstance(value, ast.Constant):
        return type(value.value) if value.value is not Ellipsis else None
    if isinstance(value, ast.JoinedStr):
        return str
    literals = {ast.Dict: dict, ast.List: list, ast.ListComp: list, ast.Tuple: tuple, ast.Set: set}
    return literals.get(type(value))


def is_generator(function: Function) -> bool:
    """Whether calling it only makes a generator."""
    return any(isinstance(node, ast.Yield | ast.YieldFrom) for node in _own(function))


def _own(function: Function) -> Iterator[ast.AST]:
    """All nodes of a function's own body, not of functions in it."""
    rest: list[ast.AST] = list(function.body)
    while rest:
        node = rest.pop()
        yield node
        if not isinstance(node, _SCOPES):
            rest += ast.iter_child_nodes(node)


def _may_fall_through(body: list[ast.stmt]) -> bool:
    """Whether the end of a block can be reached, as far as its last statement tells; in doubt yes."""
    last = body[-1]
    if isinstance(last, ast.Return | ast.Raise):
        return False
    if isinstance(last, ast.If):
        return not last.orelse or _may_fall_through(last.body) or _may_fall_through(last.orelse)
    if isinstance(last, ast.With):
        return _may_fall_through(last.body)
    if isinstance(last, ast.Try):
        blocks = [last.orelse or last.body, *(handler.body for handler in last.handlers)]
        return not (last.finalbody and not _may_fall_through(last.finalbody)) and any(map(_may_fall_through, blocks))
    if isinstance(last, ast.While):
        endless = isinstance(last.test, ast.Constant) and bool(last.test.value)
        return not endless or any(isinstance(node, ast.Break) for node in ast.walk(last))
    return True


# What is done with it -----------------------------------------------------------------------------------------


def uses(function: Function, name: str, *, inside: str = "") -> list[Use]:
    """What is certain to be done with a parameter, or with `name[inside]` of a catch-all parameter."""
    stored = (
        n for n in ast.walk(function) if isinstance(n, ast.Name) and n.id == name and not isinstance(n.ctx, ast.Load)
    )
    changed = any(_is_change(node, name) for node in ast.walk(function))
    if not name or any(True for _ in stored) or changed:
        return []
    found: list[Use] = []
    for statement in function.body:
        for part in _certain(statement):
            found += _found(part, name, inside)
        if isinstance(statement, ast.Assign) and _is(statement.value, name, inside):
            for target in statement.targets:
                if isinstance(target, ast.Tuple | ast.List) and not any(
                    isinstance(e, ast.Starred) for e in target.elts
                ):
                    found.append(Use(statement, unpacked=len(target.elts)))
        if not isinstance(statement, ast.Assign | ast.AnnAssign | ast.AugAssign | ast.Expr):
            break  # whatever this is, it may be the way out
        if _handed_on(statement, name):
            break  # and may be changed by whoever has it now
    return found


def _handed_on(statement: ast.stmt, name: str) -> bool:
    looked_into = {id(node.value) for node in ast.walk(statement) if isinstance(node, ast.Subscript | ast.Attribute)}
    return any(
        isinstance(node, ast.Name) and node.id == name and id(node) not in looked_into for node in ast.walk(statement)
    )


def _certain(statement: ast.stmt) -> Iterator[ast.expr]:
    """The expressions of a statement that are evaluated whatever comes."""
    match statement:
        case ast.Expr(value=value) | ast.Assign(value=value) | ast.AugAssign(value=value):
            yield value
        case ast.AnnAssign(value=value) | ast.Return(value=value):
            if value is not None:
                yield value
        case ast.For(iter=value):
            yield value
        case ast.If(test=value) | ast.While(test=value):
            yield value


def _found(node: ast.expr, name: str, inside: str) -> Iterator[Use]:
    match node:
        case ast.Subscript(value=value, slice=ast.Constant(value=key)) if _is(value, name, inside):
            yield Use(node, key=key)
        case ast.Attribute(value=value, attr=attribute) if _is(value, name, inside):
            yield Use(node, attribute=attribute)
    for part in _evaluated(node):
        yield from _found(part, name, inside)


def _evaluated(node: ast.expr) -> Iterator[ast.expr]:
    """The parts of an expression that are evaluated whatever comes."""
    match node:
        case ast.BoolOp(values=[first, *_]) | ast.IfExp(test=first):
            yield first
        case ast.Lambda():
            return
        case ast.ListComp(generators=[first, *_]) | ast.SetComp(generators=[first, *_]):
            yield first.iter
        case ast.DictComp(generators=[first, *_]) | ast.GeneratorExp(generators=[first, *_]):
            yield first.iter
        case ast.Compare(left=left, comparators=[second, *_]):
            yield left
            yield second
        case _:
            for child in ast.iter_child_nodes(node):
                if isinstance(child, ast.expr):
                    yield child
                elif isinstance(child, ast.keyword):
                    yield child.value


def _is(node: ast.expr, name: str, inside: str) -> bool:
    if inside:
        match node:
            case ast.Subscript(value=ast.Name(id=found), slice=ast.Constant(value=key)):
                return found == name and key == inside
        return False
    return isinstance(node, ast.Name) and node.id == name


_CHANGING = frozenset(
    {
        "append",
        "extend",
        "insert",
        "remove",
        "pop",
        "clear",
        "sort",
        "reverse",
        "update",
        "setdefault",
        "popitem",
        "add",
    }
    | {"discard", "__setitem__"}
)


def changes(function: Function, name: str) -> str:
    """How a function changes a parameter in place; empty where its text does not show it."""
    for node in ast.walk(function):
        if _is_change(node, name):
            return (
                f"{node.func.attr}() changes"
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
                else "the task changes"
            )
    return ""


def _is_change(node: ast.AST, name: str) -> bool:
    match node:
        case ast.Call(func=ast.Attribute(value=ast.Name(id=found), attr=attribute)):
            return found == name and attribute in _CHANGING
        case ast.Subscript(value=ast.Name(id=found), ctx=ast.Store() | ast.Del()):
            return found == name
        case ast.AugAssign(target=ast.Name(id=found)):
            return found == name
    return False
