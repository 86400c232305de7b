"""Plans of graphs as text that history keeps and other programs can read: JSON, without what is as usual.

A task is `{"name": "load", "parents": [0], "retry": {"retries": 2}}`; the whole has `tasks` and the rules of a run.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from tm.records import Plan, TaskPlan
from tm.retry import RetryPolicy

_USUAL = asdict(TaskPlan(name=""))
_USUAL_RETRY = asdict(RetryPolicy())


def pack(plan: Plan) -> str:
    """A plan as text; graph and version stand beside it."""
    found: dict[str, Any] = {"tasks": [_packed(task) for task in plan.tasks]}
    rest = {"timeout": plan.timeout, "deadline": plan.deadline, "calls": plan.calls}
    found |= {name: value for name, value in rest.items() if value}
    return json.dumps(found, ensure_ascii=False, separators=(",", ":"))


def _packed(task: TaskPlan) -> dict[str, Any]:
    known = asdict(task)
    del known["children"]  # they follow from the parents
    known["retry"] = {name: value for name, value in known["retry"].items() if value != _USUAL_RETRY[name]}
    return {name: value for name, value in known.items() if name == "name" or (value and value != _USUAL[name])}


def unpack(graph: str, version: str, text: str) -> Plan | None:
    """The plan; None for text that is none."""
    try:
        found = json.loads(text)
        told = [dict(each) for each in found["tasks"]]
        children: list[list[int]] = [[] for _ in told]
        for node, each in enumerate(told):
            for parent in each.get("parents", ()):
                children[parent].append(node)
        tasks = tuple(
            TaskPlan(
                name=str(each["name"]),
                parents=tuple(each.get("parents", ())),
                children=tuple(below),
                queue=each.get("queue", _USUAL["queue"]),
                timeout=each.get("timeout"),
                retry=RetryPolicy(**each.get("retry", {})),
                calls=tuple(each.get("calls", ())),
            )
            for each, below in zip(told, children, strict=True)
        )
        rules = {"timeout": found.get("timeout"), "deadline": found.get("deadline")}
        return Plan(graph=graph, version=version, tasks=tasks, calls=tuple(found.get("calls", ())), **rules)
    except (ValueError, KeyError, TypeError, IndexError, AttributeError):
        return None
