"""The graphs of the rig. All are manual: tests submit them, with `pace` as the seconds each body takes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from tests.rig.journal import VARIABLE, body
from tm import Graph, get_context, task

#: width of the fan
LEAVES = 50


def _root(pace: float) -> dict[str, Any]:
    return body(seconds=pace) | {"pace": pace}


# chain of five ------------------------------------------------------------------------------------------------------


@task()
def c1(pace: float = 0.0) -> Any:
    return _root(pace)


@task()
def c2(c1: Any) -> Any:
    return body({"c1": c1})


@task()
def c3(c2: Any) -> Any:
    return body({"c2": c2})


@task()
def c4(c3: Any) -> Any:
    return body({"c3": c3})


@task()
def c5(c4: Any) -> Any:
    return body({"c4": c4})


chain = Graph("chain")
for _parent, _child in ((c1, c2), (c2, c3), (c3, c4), (c4, c5)):
    chain.add_edges([_parent], [_child])


# diamond --------------------------------------------------------------------------------------------------------------


@task()
def top(pace: float = 0.0) -> Any:
    return _root(pace)


@task()
def left(top: Any) -> Any:
    return body({"top": top})


@task(queue="bulk")
def right(top: Any) -> Any:
    return body({"top": top})


@task()
def bottom(left: Any, right: Any) -> Any:
    return body({"left": left, "right": right})


diamond = Graph("diamond")
diamond.add_edges([top], [left, right])
diamond.add_edges([left, right], [bottom])


# fan-out and fan-in -------------------------------------------------------------------------------------------------


@task()
def spread(pace: float = 0.0) -> Any:
    return _root(pace)


def _leaf(number: int) -> Any:
    def leaf(spread: Any) -> Any:
        return body({"spread": spread})

    return task(name=f"leaf{number}")(leaf)


@task()
def gather(**leaves: Any) -> Any:
    return body(leaves)


leaves = [_leaf(number) for number in range(LEAVES)]
fan = Graph("fan")
fan.add_edges([spread], leaves)
fan.add_edges(leaves, [gather])


# one that fails twice, one that always does, one that takes long -----------------------------------------------------


@task(retries=3, retry_delay=0.2, backoff=0.5)
def moody(pace: float = 0.0) -> Any:
    failures = Path(os.environ[VARIABLE]).with_name(f"failures-{get_context().run}")
    before = failures.stat().st_size if failures.exists() else 0
    if before < 2:
        try:
            return body(seconds=pace, fail=f"failure {before + 1} of 2")
        finally:
            with failures.open("ab") as file:
                file.write(b".")
    return _root(pace)


@task()
def relieved(moody: Any) -> Any:
    return body({"moody": moody})


flaky = Graph("flaky")
flaky.add_edges([moody], [relieved])


@task(retries=1, retry_delay=0.1)
def hopeless(pace: float = 0.0) -> Any:
    return body(seconds=pace, fail="as always")


@task()
def never(hopeless: Any) -> Any:
    return body({"hopeless": hopeless})


bad = Graph("bad")
bad.add_edges([hopeless], [never])


@task()
def sleeps(seconds: float = 10.0) -> Any:
    return body(seconds=seconds) | {"pace": 0.0}


@task()
def wakes(sleeps: Any) -> Any:
    return body({"sleeps": sleeps})


long = Graph("long")
long.add_edges([sleeps], [wakes])
