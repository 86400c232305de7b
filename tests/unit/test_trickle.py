"""When a worker rests for a moment so that work comes in by handfuls, and when it does not."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from tm_worker.trickle import DENSE, HANDFUL, REST, Trickle

if TYPE_CHECKING:
    from tm.store.records import Claim


def claims(*runs: str) -> list[Claim]:
    made: list[Any] = [SimpleNamespace(run=run) for run in runs]
    return made


def dense(trickle: Trickle, count: int = 20) -> float:
    """Claims come one by one, twice as fast as they have to for a rest; returns when the last one came."""
    now = 100.0
    for number in range(count):
        now += DENSE / 2
        trickle.granted(claims(f"run-{number}"), ["another"], now, more=False)
    return now


def test_what_comes_densely_is_waited_for() -> None:
    trickle = Trickle()
    now = dense(trickle)
    assert trickle.rest_until == now + REST


def test_the_first_few_are_not() -> None:
    trickle = Trickle()
    dense(trickle, 3)
    assert trickle.rest_until == 0.0


def test_what_comes_seldom_is_asked_for_at_once() -> None:
    trickle = Trickle()
    for number in range(100):
        trickle.granted(claims(f"run-{number}"), [], number * DENSE * 2, more=False)
    assert trickle.rest_until == 0.0


def test_what_follows_from_a_report_is_asked_for_at_once() -> None:
    trickle = Trickle()
    now = dense(trickle)
    trickle.granted(claims("chain"), ["chain"], now + DENSE / 2, more=False)
    assert trickle.rest_until == now + REST, "that of the one before"


def test_a_deep_queue_and_a_handful_need_no_rest() -> None:
    trickle = Trickle()
    now = dense(trickle)
    trickle.granted(claims("run-x"), [], now + DENSE / 2, more=True)
    trickle.granted(claims(*map(str, range(HANDFUL))), [], now + DENSE, more=False)
    assert trickle.rest_until == now + REST


def test_after_a_quiet_spell_the_next_is_asked_for_at_once() -> None:
    trickle = Trickle()
    now = dense(trickle)
    trickle.granted(claims("run-x"), [], now + 3600, more=False)
    assert trickle.rest_until == now + REST


def test_an_empty_answer_says_nothing() -> None:
    trickle = Trickle()
    now = dense(trickle)
    trickle.granted([], [], now + 3600, more=False)
    trickle.granted(claims("run-x"), [], now + 3600 + DENSE / 2, more=False)
    assert trickle.rest_until == now + REST, "the hour counts for the claim that came after it"
