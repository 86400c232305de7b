"""finish with the outcome skipped: the task ends well, without a message, and takes what is below it along."""

from __future__ import annotations

from tests.store.stage import CHAIN, DIAMOND, SINGLE, Stage, fan, pack, plan
from tm.events import AttemptEnded, TaskClosed
from tm.states import Outcome, TaskState
from tm.store.records import VerdictKind

WHY = pack({"type": "tm.errors.Skip", "message": "no new rows", "traceback": ""})


def skip(stage: Stage, name: str = "") -> VerdictKind:
    claims = stage.take(1 if not name else 5)
    claim = next(each for each in claims if each.task == name) if name else claims[0]
    return stage.finish(claim, Outcome.SKIPPED, error=WHY)[0].kind


def test_what_is_below_is_skipped_and_the_run_succeeds(stage: Stage) -> None:
    stage.start(plan(CHAIN, retries=3))
    assert skip(stage) is VerdictKind.ACCEPTED
    assert stage.states() == {"a": "skipped", "b": "skipped", "c": "skipped"}
    assert stage.state() == "success"
    assert stage.store.open_runs() == []
    assert stage.store.result("r") == b"\xc0", "the result of a run whose last task was skipped is None"


def test_a_branch_beside_it_goes_on(stage: Stage) -> None:
    stage.start(plan(DIAMOND))
    stage.work(1)
    skip(stage, "left")
    assert stage.states() == {"top": "success", "left": "skipped", "right": "running", "join": "skipped"}
    assert stage.state() == "running"


def test_a_failure_beside_it_fails_the_run(stage: Stage) -> None:
    stage.start(plan({"a": [], "b": [], "c": ["a", "b"]}))
    first, second = stage.take(2)
    stage.finish(first, Outcome.SKIPPED, error=WHY)
    stage.finish(second, Outcome.FAILED)
    assert stage.states() == {"a": "skipped", "b": "failed", "c": "skipped"}
    assert stage.state() == "failed"


def test_it_is_told_with_its_reason_and_whose_fault_it_is_below(stage: Stage) -> None:
    stage.start(plan(CHAIN))
    skip(stage)
    [attempt] = stage.told(AttemptEnded)
    assert (attempt.outcome, attempt.state, attempt.error) == (Outcome.SKIPPED, TaskState.SKIPPED, WHY)
    below = [(each.task, each.state, each.reason) for each in stage.told(TaskClosed)]
    assert below == [(name, TaskState.SKIPPED, "parent a skipped") for name in ("b", "c")]
    view = stage.store.run("r")
    assert view is not None
    assert view.tasks[0].error == WHY


def test_a_repeated_report_changes_nothing(stage: Stage) -> None:
    stage.start(plan(SINGLE))
    claim = stage.take_one()
    stage.finish(claim, Outcome.SKIPPED, error=WHY)
    before = stage.snapshot()
    assert stage.finish(claim, Outcome.SKIPPED, error=WHY)[0].kind is VerdictKind.DUPLICATE
    assert stage.snapshot() == before


def test_a_wide_graph_is_skipped_bit_by_bit(stage: Stage) -> None:
    stage.start(plan(fan(900)))
    skip(stage)
    assert stage.state() == "running"
    while stage.store.promote()[1] is not None:
        pass
    assert set(stage.states().values()) == {"skipped"}
    assert stage.state() == "success"
    assert stage.store.result("r") == b"\xc0"
