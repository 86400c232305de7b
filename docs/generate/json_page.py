"""The page on what --json prints, from the schemas and from documents that a real installation has printed."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from docs.generate.documents import DOCUMENTS, Document
from docs.generate.pages import anchor, block, code, link, page, prose, table
from docs.generate.shapes import SHAPES, Shape

if TYPE_CHECKING:
    from collections.abc import Iterable

SAMPLES = Path(__file__).with_name("samples.json")

INTRO = """
Every command that prints a table prints a document with `--json`: `{"schema": "tm.runs/1", "items": [...]}`. With
`--jsonl` each item is a line of its own that has its schema in it. Names and meanings only grow; the number behind the
slash changes when they do not. What is not known is null, and a field is there all the same, except where it says
*not always*.

The samples are what commands printed on a real installation, cut to one item; tests hold the documents of a running
one against this page.
"""

TYPES = {
    "text": "A string. States and other words of ours are in lower case.",
    "number": "A number.",
    "seconds": "A number: a span of time in seconds.",
    "instant": "A string: RFC 3339 in UTC, such as `2026-11-24T04:05:00.123Z`.",
    "boolean": "`true` or `false`.",
    "object": "An object whose names are data: of params, tasks, graphs.",
    "anything": "Whatever a task returned, as JSON has it.",
    "list of ...": "An array.",
    "... or null": "Null where it is not known, or where there is none.",
}


def render() -> str:
    """The page."""
    samples = json.loads(SAMPLES.read_text(encoding="utf-8"))
    overview = table(
        ["schema", "printed by"], [[link(name, code(name)), _commands(each)] for name, each in DOCUMENTS.items()]
    )
    shapes = ", ".join(link(name) for name in SHAPES)
    return page(
        "JSON",
        INTRO,
        overview,
        f"Shapes: {shapes}. See also: {link('Types')}, {link('Errors')}.",
        "## Types",
        table(["type", "meaning"], [[code(kind), said] for kind, said in TYPES.items()]),
        "## Errors",
        "An error is a document on standard error, whatever the command; `code` is for programs, and the exit code "
        "says the same. The hint is what to do next, or null.",
        block(
            '{"error": {"code": "not_found", "message": "no run of graph etl", "hint": "`tm runs` lists them"}}', "json"
        ),
        "## Schemas",
        *(part for name, each in DOCUMENTS.items() for part in _section(name, each, samples.get(name))),
        "## Shapes",
        "Objects that are part of several documents.",
        *(part for each in SHAPES.values() for part in _shape(each)),
    )


def _section(name: str, document: Document, sample: Any) -> Iterable[str]:
    yield f"### {name}"
    how = "Printed" if not document.lines or "--jsonl" in document.printed_by else "Sent"
    kind = "Lines" if document.lines else "A document"
    item = f"each item is a {link(document.item)}" if isinstance(document.item, str) else "each item has"
    if document.lines:
        item = item.replace("each item", "each")
    yield f"{kind}, {how.lower()} by {_commands(document)}; {item}" + ("." if isinstance(document.item, str) else ":")
    if isinstance(document.item, Shape):
        yield _fields(document.item)
    if document.beside:
        yield "Beside `schema` and `items` the document has:"
        yield _fields(Shape("", "", document.beside))
    if sample is not None:
        yield block(json.dumps(sample, indent=2, ensure_ascii=False), "json")


def _shape(shape: Shape) -> Iterable[str]:
    yield f"### {shape.name}"
    more = f" It may have more fields: {shape.more}." if shape.more else ""
    yield shape.meaning + more
    yield _fields(shape)


def _fields(shape: Shape) -> str:
    rows = [
        [code(name) + (" (not always)" if name in shape.optional else ""), _type(kind), prose(said)]
        for name, (kind, said) in shape.fields.items()
    ]
    return table(["field", "type", "meaning"], rows)


def _type(kind: str) -> str:
    return re.sub(r"[A-Z]\w+", lambda found: f"[{found[0]}](#{anchor(found[0])})", kind)


def _commands(document: Document) -> str:
    return ", ".join(code(each) if each.startswith("tm ") else each for each in document.printed_by.split(", "))
