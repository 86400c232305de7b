"""Whether what a parent says it returns can be what its child says it takes.

Only contradictions count: two annotations clash when no value that can travel as a message satisfies both. In doubt
they do not. Messages arrive as exactly the types they were sent as, which is what makes `int` and `str` disjoint here,
and what lets a class of one's own be refused as a return value.
"""

from __future__ import annotations

import inspect
import re
import types
import typing
from collections import abc
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, get_args, get_origin, is_typeddict
from uuid import UUID

from tm.checks import shapes
from tm.checks.places import at_task, function_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tm.checks.findings import Finding
    from tm.graph import Graph, Task

#: what a message can be (see tm.codec)
EXACT = frozenset(
    {type(None), bool, int, float, str, bytes, list, tuple, dict, set, frozenset}
    | {datetime, date, time, timedelta, Decimal, UUID, bytearray, memoryview}
)
#: the first may stand where the second is written, though it is no subclass (PEP 484)
_PROMOTED = frozenset({(int, float), (bool, float), (int, complex), (float, complex), (bool, complex)})
_UNKNOWN = object()


def of_edges(graph: Graph) -> Iterator[Finding]:
    """Where a child of a graph is annotated as something that its parent never returns."""
    plan = graph.plan
    for child in plan.tasks:
        task = graph.tasks[child.name]
        if inspect.unwrap(task.function) is not task.function:
            continue  # a decorator of others may give it something else
        for parent in (graph.tasks[plan.tasks[index].name] for index in child.parents):
            parameter = parent.name if parent.name in task.parameters else _catch_all(task)
            wanted, given = hint_of(task.function, parameter), sent(parent)
            if clash(given, wanted):
                taken = f"**{parameter}" if parameter != parent.name else parameter
                yield at_task(
                    task,
                    "type-mismatch",
                    f"graph {graph.name!r}: task {task.name!r} takes {taken}: {named(wanted)}, and its parent "
                    f"{parent.name!r} returns {named(given)}",
                    _lacking(given, wanted) or "change one of the two",
                    parameter=parameter,
                )


def of_task(task: Task[..., Any], *, travels: bool) -> Iterator[Finding]:
    """Defaults that their annotation does not allow, and, where messages travel, results that cannot.

    Args:
        task: to look at.
        travels: the task runs on workers; in this process any object may be passed.
    """
    if inspect.unwrap(task.function) is not task.function:
        return
    for name, parameter in task.parameters.items():
        if parameter.default is parameter.empty or parameter.default is None:
            continue
        wanted = hint_of(task.function, name)
        if clash(type(parameter.default), wanted):
            yield at_task(
                task,
                "default-type",
                f"task {task.name!r}: {name} is annotated {named(wanted)}, and its default is "
                f"{_short(parameter.default)}",
                "change one of the two",
                parameter=name,
            )
    if not travels:
        return
    _, function, _ = function_of(task)
    if function is not None and shapes.is_generator(function):
        yield at_task(
            task,
            "generator-task",
            f"task {task.name!r} is a generator, which cannot become a message",
            "return a list, or put the loop into the next task",
        )
    elif culprit := _unsendable(hint_of(task.function, "return")):
        yield at_task(
            task,
            "unsendable-return",
            f"task {task.name!r} returns {culprit}, which cannot become a message",
            "return a dict, a list or another plain value, or the name of a file",
        )


def sent(task: Task[..., Any]) -> Any:
    """What a task returns: as it is annotated, else as its text shows."""
    if inspect.unwrap(task.function) is not task.function:
        return _UNKNOWN
    if "return" in getattr(task.function, "__annotations__", {}):
        return hint_of(task.function, "return")
    shape, _ = shapes.sent(task)
    if shape is None:
        return _UNKNOWN
    first, *rest = sorted(shape.kinds, key=str)
    return first if not rest else Union[tuple(shape.kinds)]  # noqa: UP007 - made at run time


def hint_of(function: Callable[..., Any], name: str) -> Any:
    """One annotation of a function, resolved; something unknown where that fails."""
    annotations = getattr(function, "__annotations__", {})
    if name not in annotations:
        return _UNKNOWN
    # one at a time: a name that is imported for type checkers alone must not hide the others
    alone = types.SimpleNamespace(__annotations__={name: annotations[name]})
    try:
        return typing.get_type_hints(alone, globalns=getattr(function, "__globals__", {}))[name]
    except Exception:  # noqa: BLE001 - evaluating somebody's text may raise anything
        return _UNKNOWN


def clash(given: Any, wanted: Any) -> bool:
    """Whether no value is both."""
    given, wanted = _plain(given), _plain(wanted)
    if _is_union(given):
        return all(clash(each, wanted) for each in get_args(given))
    if _is_union(wanted):
        return all(clash(given, each) for each in get_args(wanted))
    if get_origin(given) is Literal:
        if get_origin(wanted) is Literal:
            return not {(type(each), each) for each in get_args(given)} & {
                (type(each), each) for each in get_args(wanted)
            }
        return all(clash(type(each), wanted) for each in get_args(given))
    if get_origin(wanted) is Literal:
        return all(clash(given, type(each)) for each in get_args(wanted))
    if is_typeddict(given) and is_typeddict(wanted):
        return _dicts_clash(given, wanted)
    a, b = _class_of(given), _class_of(wanted)
    if a is None or b is None:
        return False
    return _disjoint(a, b) or _arguments_clash(given, wanted, a, b)


def named(annotation: Any) -> str:
    """An annotation as people write it."""
    if annotation is type(None):
        return "None"
    text = inspect.formatannotation(annotation).replace("NoneType", "None")
    return text.replace("typing.", "") if "Literal[" in text else re.sub(r"\b(?:\w+\.)+(?=\w)", "", text)


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:59]}…"


def _catch_all(task: Task[..., Any]) -> str:
    for name, parameter in inspect.signature(task.function).parameters.items():
        if parameter.kind is parameter.VAR_KEYWORD:
            return name
    return ""


def _plain(annotation: Any) -> Any:
    while True:
        if get_origin(annotation) is Annotated:
            annotation = get_args(annotation)[0]
        elif isinstance(annotation, typing.NewType):
            annotation = annotation.__supertype__
        elif type(annotation).__name__ == "TypeAliasType":  # `type X = ...` of Python 3.12
            annotation = annotation.__value__
        else:
            return type(None) if annotation is None else annotation


def _is_union(annotation: Any) -> bool:
    return get_origin(annotation) in {Union, types.UnionType}


def _class_of(annotation: Any) -> type | None:
    if is_typeddict(annotation):
        return dict
    found = get_origin(annotation) or annotation
    if not isinstance(found, type) or found is object or getattr(found, "_is_protocol", False):
        return None
    return found


def _is_abstract(kind: type) -> bool:
    return kind.__module__ in {"collections.abc", "typing"} or inspect.isabstract(kind)


def _disjoint(given: type, wanted: type) -> bool:
    try:
        given = bytes if given in {bytearray, memoryview} else given  # which is how they arrive
        if {(given, wanted), (wanted, given)} & _PROMOTED or issubclass(given, wanted) or issubclass(wanted, given):
            return False
    except TypeError:
        return False
    if given in EXACT or wanted in EXACT:
        other = wanted if given in EXACT else given
        # an abstract class of one's own may know of the type by registration, later
        return other in EXACT or other.__module__ == "collections.abc" or not _is_abstract(other)
    return False


def _arguments_clash(given: Any, wanted: Any, a: type, b: type) -> bool:
    one, two = get_args(given), get_args(wanted)
    if not one or not two:
        return False
    if issubclass(a, tuple) and issubclass(b, tuple):
        if Ellipsis in one or Ellipsis in two:
            return False
        return len(one) != len(two) or any(map(clash, one, two))
    if len(one) == len(two) and all(issubclass(each, abc.Iterable) for each in (a, b)) and not {a, b} & {tuple}:
        return any(map(clash, one, two))
    return False


def _lacking(given: Any, wanted: Any) -> str:
    if not (is_typeddict(given) and is_typeddict(wanted)):
        return ""
    missing = sorted(wanted.__required_keys__ - set(given.__annotations__))
    return f"{named(given)} has no {', '.join(missing)}" if missing else ""


def _dicts_clash(given: Any, wanted: Any) -> bool:
    there, needed = typing.get_type_hints(given), typing.get_type_hints(wanted)
    if missing := wanted.__required_keys__ - set(there):
        return bool(missing)
    return any(clash(there[key], needed[key]) for key in given.__required_keys__ & set(needed))


def _unsendable(annotation: Any) -> str:
    """What about a return annotation cannot become a message; empty for nothing, and in doubt."""
    annotation = _plain(annotation)
    if _is_union(annotation):
        parts = [_unsendable(each) for each in get_args(annotation)]
        return parts[0] if all(parts) else ""
    kind = _class_of(annotation)
    if kind is None or kind in EXACT or kind is complex or get_origin(annotation) is Literal:
        return "a complex number" if kind is complex else ""
    if issubclass(kind, abc.Iterator | abc.AsyncIterator | abc.Coroutine):
        return f"{named(annotation)}"
    if _is_abstract(kind) or any(issubclass(each, kind) for each in EXACT):
        return ""
    return named(annotation)
