"""The bodies of all workloads, the same for every peer, and what must come out of them.

Standard library only: every peer's own environment imports it. Values are dicts, lists, numbers and text, which each
peer's serializer can carry.
"""

from __future__ import annotations

from typing import Any

KIB = 1024
TEXT = "x" * (256 * KIB - 8)


def small(number: int) -> dict[str, int]:
    """The one task of a flat run."""
    return {"n": number, "square": number * number}


def hop(before: dict[str, Any] | None) -> dict[str, Any]:
    """One task of a chain: passes the dict on, counted up."""
    return {"hop": (before["hop"] if before else 0) + 1, "from": "chain"}


def leaf(root: dict[str, int], number: int) -> dict[str, int]:
    """One of the many of a fan."""
    return {"n": number, "value": root["base"] + number}


def root(base: int = 7) -> dict[str, int]:
    """The first task of a fan."""
    return {"base": base}


def collect(leaves: list[dict[str, int]]) -> dict[str, int]:
    """The last task of a fan: has received all leaves."""
    return {"count": len(leaves), "numbers": sum(x["n"] for x in leaves), "values": sum(x["value"] for x in leaves)}


def collected(count: int, base: int = 7) -> dict[str, int]:
    """What `collect` must say."""
    numbers = count * (count - 1) // 2
    return {"count": count, "numbers": numbers, "values": numbers + base * count}


def top(number: int) -> dict[str, int]:
    """Diamond: the first."""
    return {"n": number}


def left(above: dict[str, int]) -> dict[str, int]:
    """Diamond: one of the two in the middle."""
    return {"left": above["n"] + 1}


def right(above: dict[str, int]) -> dict[str, int]:
    """Diamond: the other one."""
    return {"right": above["n"] * 2}


def bottom(one: dict[str, int], other: dict[str, int]) -> dict[str, int]:
    """Diamond: the last; which of its two inputs is which shows in their keys."""
    both = one | other
    return {"left": both["left"], "right": both["right"]}


def diamond(number: int) -> dict[str, int]:
    """What `bottom` must say."""
    return {"left": number + 1, "right": number * 2}


def load(before: str | None) -> str:
    """One task of the payload chain: 256 KiB of text, the first eight digits counted up."""
    return f"{(int(before[:8]) if before else 0) + 1:08d}{TEXT}"


def fib(n: int) -> int:
    """Work for the processor."""
    return n if n < 2 else fib(n - 1) + fib(n - 2)


def step(before: dict[str, int] | None, n: int) -> dict[str, int]:
    """One task of a sequence that computes fib(n) each time."""
    return {"step": (before["step"] if before else 0) + 1, "fib": fib(n)}


def check(got: object, expected: object, what: str) -> None:
    """Refuse a wrong result: a number is worth nothing if the work was not done."""
    if got != expected:
        raise WrongResultError(f"{what}: expected {str(expected)[:200]}, got {str(got)[:200]}")


class WrongResultError(AssertionError):
    """A peer returned something else than it should have."""
