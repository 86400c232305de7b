"""The page on the Python API, from signatures and docstrings of the public names."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import re
import textwrap
from typing import TYPE_CHECKING, Any

import tm
import tm.cron
import tm.errors
import tm.testing
import tm.testing.pytest as fixtures
from docs.generate.pages import block, code, link, page, prose, table
from tm.callbacks import CallbackError
from tm.client import RunHandle
from tm.states import RunState, TaskState

if TYPE_CHECKING:
    from collections.abc import Iterator

INTRO = """
The public names, with what they take, give and raise. Where nothing else is said, times are aware `datetime`s and spans
of time are seconds. What is not on this page is no promise and may change with any version.
"""

#: public by name, but of use inside only
INSIDE = {"Graph": {"about", "describe_roots", "plan", "bind"}, "EmbeddedStack": {"settings", "client"}}
#: headings that differ in capitals only would have one anchor
HEADINGS = {"Task": "class Task"}
ALSO = {"RunHandle": RunHandle, "CallbackError": CallbackError, "RunState": RunState, "TaskState": TaskState}


def render() -> str:
    """The page."""
    parts, rows = [], []
    groups: list[tuple[str, str, str, dict[str, Any]]] = [
        ("tm", "tm", "The package itself; `import tm` is light, and names are loaded when they are used.", _public(tm)),
        ("Given, not imported", "", "What calls return and callbacks are told.", ALSO),
        ("tm.cron", "tm.cron", "The cron engine, usable alone; the rules are in docs/cron.md.", _public(tm.cron)),
        (
            "tm.testing",
            "tm.testing",
            "For tests of your own graphs; docs/testing.md shows it at work.",
            _public(tm.testing),
        ),
    ]
    for title, module, said, names in groups:
        parts += [f"## {title}", prose(said)]
        for name, thing in names.items():
            rows.append(
                [link(HEADINGS.get(name, name), code(name)), code(module) if module else "", prose(_summary(thing))]
            )
            parts += _entry(name, thing)
    parts += [
        "## Fixtures",
        "Of pytest; name `tm.testing.pytest` in `pytest_plugins` to have them.",
        table(["fixture", "what it is"], _fixtures()),
        "## Errors",
        prose("All are TaskmasterError. Where a command ends with one, its exit code is the one given here."),
        table(["error", "exit code", "meaning"], _errors()),
    ]
    index = table(["name", "in", "what it is"], rows)
    return page("Python API", INTRO, index, f"Also: {link('Fixtures')}, {link('Errors')}.", *parts)


def _public(module: Any) -> dict[str, Any]:
    names = sorted((each for each in module.__all__ if not each.startswith("_")), key=str.lower)
    return {name: getattr(module, name) for name in names}


def _summary(thing: Any) -> str:
    return " ".join((inspect.getdoc(thing) or "").partition("\n\n")[0].split())


def _entry(name: str, thing: Any) -> Iterator[str]:
    yield f"### {HEADINGS.get(name, name)}"
    if not inspect.isclass(thing):
        yield block(_call(name, thing), "py")
        yield from _docstring(thing)
        return
    if issubclass(thing, RunState | TaskState):
        yield from _docstring(thing)
        yield f"Text, one of {', '.join(code(each.value) for each in thing)}."
        return
    made = "__init__" in vars(thing) and not dataclasses.is_dataclass(thing) and thing not in ALSO.values()
    if made:
        yield block(_call(name, vars(thing)["__init__"]), "py")
    yield from _docstring(thing)
    if made and vars(thing)["__init__"].__doc__:
        yield from _docstring(vars(thing)["__init__"], but_summary=True)
    if fields := _fields(thing):
        yield table(["field", "type", "meaning"], fields)
    for member, value in vars(thing).items():
        if member in INSIDE.get(name, ()) or (member.startswith("_") and member not in {"__call__", "__getitem__"}):
            continue
        yield from _member(name, member, value)


def _member(owner: str, name: str, value: Any) -> Iterator[str]:
    if isinstance(value, property):
        yield f"#### {owner}.{name}"
        kind = inspect.signature(value.fget).return_annotation if value.fget else ""  # type: ignore[arg-type]
        yield code(f"{name}: {kind}") + " (a property)"
        yield from _docstring(value)
    elif inspect.isfunction(value) and value.__doc__:
        shown = {"__call__": f"{owner.lower()}", "__getitem__": ""}.get(name, name)
        yield f"#### {owner}.{name.strip('_')}"
        yield block("run[task]" if name == "__getitem__" else _call(shown, value), "py")
        yield from _docstring(value)


def _call(name: str, function: Any) -> str:
    """A call with its parameters, a line for each when they are many."""
    given = inspect.signature(function)
    parameters = [each for each in given.parameters.values() if each.name != "self"]
    returns = given.return_annotation
    # text of annotations is in quotes; values such as the class Exception are shown by name
    end = "" if returns in (inspect.Signature.empty, "None", None) else f" -> {returns}"
    words = _words(parameters)
    line = f"{name}({', '.join(words)}){end}"
    if len(line) <= 100:
        return line
    lines = "".join(f"    {each},\n" for each in words)
    return f"{name}(\n{lines}){end}"


def _words(parameters: list[inspect.Parameter]) -> list[str]:
    words, starred = [], False
    for number, each in enumerate(parameters):
        if each.kind is each.VAR_POSITIONAL:
            starred = True
        if each.kind is each.KEYWORD_ONLY and not starred:
            words.append("*")
            starred = True
        prefix = {each.VAR_POSITIONAL: "*", each.VAR_KEYWORD: "**"}.get(each.kind, "")
        kind = "" if each.annotation is each.empty else f": {each.annotation}"
        default = "" if each.default is each.empty else f" = {_value(each.default)}"
        words.append(f"{prefix}{each.name}{kind}{default}")
        following = parameters[number + 1].kind if number + 1 < len(parameters) else None
        if each.kind is each.POSITIONAL_ONLY and following is not each.POSITIONAL_ONLY:
            words.append("/")
    return words


def _value(value: Any) -> str:
    return value.__name__ if inspect.isclass(value) else repr(value)


def _docstring(thing: Any, *, but_summary: bool = False) -> Iterator[str]:
    """Paragraphs, code and the sections of arguments and errors."""
    blocks = re.split(r"\n[ \t]*\n", inspect.getdoc(thing) or "")
    for text in blocks[1:] if but_summary else blocks:
        head, _, rest = text.partition("\n")
        if head in {"Args:", "Raises:"}:
            what = "argument" if head == "Args:" else "raises"
            yield table([what, "meaning"], _section(rest))
        elif text.startswith("    "):
            yield block(textwrap.dedent(text), "python")
        else:
            yield prose(" ".join(text.split()))


def _section(text: str) -> Iterator[list[str]]:
    for item in re.split(r"\n(?=\S)", textwrap.dedent(text)):
        name, _, said = item.partition(": ")
        yield [code(name), prose(" ".join(said.split()))]


def _fields(thing: type) -> list[list[str]]:
    """Annotated fields with the comments `#:` behind or above them."""
    lines = inspect.getsource(thing).splitlines()
    (tree,) = ast.parse(textwrap.dedent("\n".join(lines))).body
    assert isinstance(tree, ast.ClassDef)
    rows = []
    for node in tree.body:
        if not isinstance(node, ast.AnnAssign) or not isinstance(node.target, ast.Name):
            continue
        name = node.target.id
        if name.startswith("_"):
            continue
        said = lines[(node.end_lineno or node.lineno) - 1].partition("#:")[2]
        above: list[str] = []
        for line in reversed(lines[: node.lineno - 1]):
            if not line.strip().startswith("#:"):
                break
            above.insert(0, line.partition("#:")[2])
        said = " ".join([*above, said]).strip()
        default = f" By default {code(ast.unparse(node.value))}." if _simple(node.value) else ""
        rows.append(
            [code(name), code(ast.unparse(node.annotation)), prose(said[:1].upper() + said[1:]) + _stop(said) + default]
        )
    return rows


def _stop(said: str) -> str:
    return "." if said and not said.endswith(".") else ""


def _simple(value: ast.expr | None) -> bool:
    return isinstance(value, ast.Constant) and value.value not in (None, "")


def _fixtures() -> list[list[str]]:
    found = [name for name in vars(fixtures) if name.startswith("tm_")]
    return [[code(name), prose(_summary(getattr(fixtures, name)))] for name in found]


def _errors() -> list[list[str]]:
    found = [
        each
        for each in vars(tm.errors).values()
        if inspect.isclass(each) and issubclass(each, tm.TaskmasterError) and each not in (tm.Fail, tm.Skip)
    ]
    return [[code(f"tm.errors.{each.__name__}"), str(each.exit_code), prose(_summary(each))] for each in found]
