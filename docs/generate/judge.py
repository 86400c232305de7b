"""Whether a document is what the page on JSON says: no field that it does not name, none missing, each of its type."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from docs.generate.documents import DOCUMENTS
from docs.generate.shapes import SHAPES, Shape

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

_INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3,6}Z")


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


_KINDS: dict[str, Callable[[Any], bool]] = {
    "text": lambda value: isinstance(value, str),
    "number": _number,
    "seconds": _number,
    "instant": lambda value: isinstance(value, str) and _INSTANT.fullmatch(value) is not None,
    "boolean": lambda value: isinstance(value, bool),
    "null": lambda value: value is None,
    "object": lambda value: isinstance(value, dict),
    "anything": lambda _: True,
}


def problems(document: Mapping[str, Any]) -> list[str]:
    """What is otherwise in a document, or in a line, than the page says; empty when nothing is."""
    schema = document.get("schema")
    about = DOCUMENTS.get(str(schema))
    if about is None:
        return [f"schema {schema!r} is not on the page"]
    rest = {name: value for name, value in document.items() if name != "schema"}
    if "items" not in document:
        return list(_of(rest, about.item, str(schema)))
    found = list(_of({name: value for name, value in rest.items() if name != "items"}, _beside(about.beside), "beside"))
    for number, item in enumerate(document["items"]):
        found += _of(item, about.item, f"{schema} items[{number}]")
    return found


def _beside(fields: Mapping[str, tuple[str, str]]) -> Shape:
    return Shape("", "", dict(fields))


def _of(value: Any, kind: str | Shape, path: str) -> Iterator[str]:
    """What is wrong with a value of this type."""
    if isinstance(kind, Shape):
        yield from _fields(value, kind, path)
    elif kind.startswith("list of ") and not kind.endswith(" or null"):
        if not isinstance(value, list):
            yield f"{path} is no list: {value!r}"
        else:
            for number, each in enumerate(value):
                yield from _of(each, kind.removeprefix("list of "), f"{path}[{number}]")
    elif " or " in kind:
        first, _, other = kind.rpartition(" or ")
        yield from () if value is None and other == "null" else _of(value, first, path)
    elif kind in SHAPES:
        yield from _fields(value, SHAPES[kind], path)
    elif not _KINDS[kind](value):
        yield f"{path} is not {kind}: {value!r}"


def _fields(value: Any, shape: Shape, path: str) -> Iterator[str]:
    if not isinstance(value, dict):
        yield f"{path} is no object: {value!r}"
        return
    if not shape.more:
        yield from (f"{path}.{name} is not on the page" for name in sorted({*value} - {*shape.fields}))
    yield from (f"{path} has no {name}" for name in sorted({*shape.fields} - {*value} - shape.optional))
    for name, (kind, _) in shape.fields.items():
        if name in value:
            yield from _of(value[name], kind, f"{path}.{name}")
