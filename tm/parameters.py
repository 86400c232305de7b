"""What the roots of a graph take, as data: so that a run can be checked where the graph's code is not."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence


def describe(name: str, function: Callable[..., Any]) -> dict[str, Any]:
    """The parameters of a root, in words: name, whether it must be given, annotation and default as text."""
    parameters = inspect.signature(function).parameters.values()
    return {
        "task": name,
        "anything": any(each.kind is each.VAR_KEYWORD for each in parameters),
        "params": [
            {
                "name": each.name,
                "required": each.default is each.empty,
                "annotation": "" if each.annotation is each.empty else _annotation(each.annotation),
                "default": "" if each.default is each.empty else repr(each.default)[:100],
            }
            for each in parameters
            if each.kind in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY)
        ],
    }


def check(graph: str, roots: Sequence[Mapping[str, Any]], given: Collection[str], *, has_config: bool = False) -> None:
    """Refuse params that no root takes, and the lack of one that a root requires.

    Raises:
        TypeError: names the parameter, and what there is.
    """
    for name in given:
        if not any(root["anything"] or name in _names(root) for root in roots):
            known = sorted({each for root in roots for each in _names(root)})
            raise TypeError(f"graph {graph!r} has no parameter {name!r}; its roots take {', '.join(known) or 'none'}")
    provided = {*given, *(["config"] if has_config else [])}
    for root in roots:
        missing = [each["name"] for each in root["params"] if each["required"] and each["name"] not in provided]
        if missing:
            raise TypeError(
                f"graph {graph!r}: root {root['task']!r} requires {', '.join(sorted(missing))}; "
                f"pass it: -p {min(missing)}=..."
            )


def _names(root: Mapping[str, Any]) -> list[str]:
    return [each["name"] for each in root["params"]]


def _annotation(annotation: Any) -> str:
    return annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
