"""Reasons in all states at once: versions of the code, deadlines, config files, and what is held by several things."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from tests.store.stage import plan
from tests.unit.scenes import (
    CHAIN,
    DONE,
    FAILED,
    QUEUED,
    RETRYING,
    RULES,
    RUNNING,
    UNREADABLE,
    WAITING,
    WORDS,
    ago,
    ask,
    clockwork,
    run,
    scene,
    worker,
)
from tm.clock import to_ms
from tm.reasons import Busy, Known, Reason, of_graph, of_run, of_task
from tm.runinfo import TaskInfo
from tm.states import FINAL_TASK_STATES, RunState, TaskState
from tm.store.looking import Place, QueueView, WorkerView
from tm.store.records import QueuePause

if TYPE_CHECKING:
    from datetime import datetime

# Versions, deadlines, config files --------------------------------------------------------------------------------------


def told(name: str, version: str, **more: Any) -> WorkerView:
    return worker(name, graphs=("etl", "other"), versions=json.dumps({"etl": version}), **more)


SAME, OLD, OLDER, NEW = told("w1", "v1"), told("w2", "v0"), told("w3", "v-1"), told("w4", "v2")
GONE = replace(told("w5", "v0"), alive=False)
SILENT, ELSEWHERE = told("w6", "v0", seen=40), told("w7", "v0", queues="gpu")
STRANGE = worker("w8")
BOTH = "restart whichever of workers and schedulers still has the old file"


@pytest.mark.parametrize(
    ("workers", "current", "clause", "hint"),
    [
        ((SAME,), "v1", "", ""),
        ((SAME, GONE, SILENT, ELSEWHERE, STRANGE), "v1", "", ""),
        ((STRANGE,), "v1", "", ""),
        ((OLD,), "v1", "; it will be run by another version of its code (`v0`, where the run has `v1`)", BOTH),
        ((OLD,), "", "; it will be run by another version of its code (`v0`, where the run has `v1`)", BOTH),
        ((NEW,), "v2", "; it will be run by the current version of its code (`v2`, where the run has `v1`)", ""),
        (
            (OLD, OLDER),
            "v1",
            "; it will be run by other versions of its code (`v-1` and `v0`, where the run has `v1`)",
            BOTH,
        ),
        ((SAME, OLD), "v1", "; `w2` would run it by another version of its code (`v0`, where the run has `v1`)", BOTH),
        (
            (SAME, OLD, NEW),
            "v2",
            "; `w2` and `w4` would run it by other versions of its code (`v0` and `v2`, where the run has `v1`)",
            BOTH,
        ),
    ],
)
@pytest.mark.parametrize("task", [QUEUED, RETRYING], ids=["queued", "retrying"])
def test_what_waits_says_which_version_of_its_code_will_run(
    task: TaskInfo, workers: tuple[WorkerView, ...], current: str, clause: str, hint: str
) -> None:
    facts: dict[str, Any] = {
        "scene": scene(*workers),
        "current": current,
        "places": {"load": Place(ahead=0, bell=True)},
    }
    plain = ask(run(DONE, task), "load", rules=RULES, **facts | {"scene": scene(*[STRANGE] * len(workers))})
    found = ask(run(DONE, task), "load", rules=RULES, **facts)
    assert found.code == plain.code
    assert found.predicate.endswith(clause) if clause else "version" not in found.predicate
    assert found.hint == hint
    assert found.facts.get("other_versions", []) == sorted(
        {each.versions["etl"] for each in workers if clause and each.versions} - {"v1"}
    )
    above = ask(run(DONE, replace(DONE, name="clean"), task, WAITING), "report", rules=RULES, **facts)
    assert ("version" in above.predicate, above.hint) == (bool(clause), hint), "who waits for it says the same"


def test_a_task_nobody_takes_says_nothing_of_versions() -> None:
    for facts in (scene(GONE, SILENT), scene(ELSEWHERE), scene()):
        assert "version `" not in ask(run(DONE, QUEUED), "load", scene=facts, current="v1").predicate


STILL = "if its file was changed, first restart "


@pytest.mark.parametrize(
    ("workers", "current", "heed"),
    [
        ((), "v1", ""),
        ((GONE, SILENT, ELSEWHERE, STRANGE), "v1", ""),
        ((SAME,), "v1", f"{STILL}worker `w1`, which still has version `v1`"),
        ((SAME,), "v2", f"{STILL}worker `w1`, which still has version `v1`"),
        ((SAME, NEW), "v2", f"{STILL}worker `w1`, which still has version `v1`"),
        (
            (SAME, replace(SAME, name="w9")),
            "v1",
            f"{STILL}workers `w1` and `w9`, which still have version `v1`",
        ),
        ((OLD,), "v1", f"{BOTH}: workers have version `v0` where the scheduler has `v1`"),
        ((NEW,), "v2", ""),
        ((NEW,), "", ""),
    ],
)
def test_what_failed_says_whether_a_retry_would_run_the_same_code(
    workers: tuple[WorkerView, ...], current: str, heed: str
) -> None:
    blocked = TaskInfo(name="report", state=TaskState.BLOCKED, reason="parent load failed")
    subject = run(DONE, FAILED, blocked, state=RunState.FAILED, ended_at=ago(10))
    for task in (None, "load", "report"):
        found = ask(subject, task, scene=scene(*workers), current=current)
        assert found.hint == (f"`tm retry etl-1`; {heed}" if heed else "`tm retry etl-1`")
    cancelled = replace(subject, state=RunState.CANCELLED, tasks=(DONE, replace(FAILED, state=TaskState.CANCELLED)))
    assert ask(cancelled, scene=scene(*workers), current=current).hint == "`tm retry etl-1`", "its code did not fail"


@pytest.mark.parametrize(
    ("trigger", "tick", "deadline", "said"),
    [
        ("manual", None, 20, "; its deadline of 20 s passed at 12:03:52 (11 s ago)"),
        ("manual", None, 40, "; its deadline of 40 s is at 12:04:12, in 9 s"),
        ("manual", None, 3600, ""),
        ("manual", None, None, ""),
        ("schedule", ago(3600), 1800, "; its deadline of 30 min passed at 11:34:03 (30 min ago)"),
        ("catchup", ago(3600), 3630, "; its deadline of 3630 s is at 12:04:33, in 30 s"),
        ("backfill", ago(3600), 1800, ""),
        ("retry", ago(3600), 1800, ""),
    ],
)
def test_an_open_run_says_that_its_deadline_is_near_or_has_passed(
    trigger: str, tick: datetime | None, deadline: float | None, said: str
) -> None:
    shape = replace(plan(CHAIN, graph="etl", version="v1"), deadline=deadline)
    subject = replace(run(DONE, RUNNING), trigger=trigger, tick=tick)
    found = of_run(subject, shape, Known(words=WORDS, scene=scene(SAME)))
    assert found.predicate.endswith(said) if said else "deadline" not in found.predicate
    assert (found.facts["deadline_at"] is None) == (deadline is None)


def test_what_failed_by_its_config_file_is_not_retried_before_that_is_mended() -> None:
    found = ask(UNREADABLE, scene=scene(SAME), current="v1")
    assert found.hint == "mend the config file first, then `tm retry etl-1`"
    found = of_graph(clockwork(recent=[UNREADABLE]), Known(words=WORDS, scene=scene()))
    assert found.hint == "mend the config file first; the next tick reads it again, and so does `tm retry etl-1`"
    began = replace(UNREADABLE, started_at=ago(5))
    assert ask(began, scene=scene()).hint == "`tm retry etl-1`"


_SCENES = {
    "no server": None,
    "nobody": scene(),
    "no leader": scene(leader=None),
    "suspended": scene(SAME, OLD, suspended=True),
    "paused": scene(
        SAME,
        OLD,
        queues=(
            QueueView(
                name="default",
                depth=1,
                bells=1,
                oldest_ms=None,
                attended_ms=None,
                pause=QueuePause(queue="default", by="ann@box", reason="", since_ms=to_ms(ago(60))),
            ),
        ),
    ),
    "draining": scene(told("w1", "v1", drain="ann@box"), told("w2", "v0", drain="ann@box")),
    "silent": scene(SILENT),
    "strangers": scene(worker(graphs=("other",))),
    "older": scene(OLD, OLDER),
    "mixed": scene(SAME, OLD, STRANGE, GONE),
    "suspended and older": scene(OLD, suspended=True),
}


@pytest.mark.parametrize("place", _SCENES)
@pytest.mark.parametrize("state", list(TaskState))
def test_a_task_held_by_several_things_at_once_has_one_sound_sentence(place: str, state: TaskState) -> None:
    shapes = (replace(plan(CHAIN, graph="etl", version="v1", **RULES), deadline=20.0), None)
    tasks = (replace(FAILED, state=state), replace(QUEUED, state=state), replace(RETRYING, state=state))
    busy = [Busy(worker=each, graph="etl", task="load", since=ago(5)) for each in ("w1", "w2", "w3")]
    runs = list(RunState) if state in FINAL_TASK_STATES else [RunState.QUEUED, RunState.RUNNING]
    for shape in shapes:
        for task in tasks:
            for lost in (True, False):
                known = Known(
                    words=WORDS,
                    scene=_SCENES[place],
                    current="v1",
                    busy=() if lost else busy,
                    places={"load": Place(ahead=2, bell=not lost)},
                )
                for run_state in runs:
                    subject = run(DONE, replace(DONE, name="clean"), task, WAITING, state=run_state)
                    for found in (of_task(subject, each, shape, known) for each in subject.tasks):
                        _is_sound(found)
                    _is_sound(of_run(subject, shape, known))


def _is_sound(found: Reason) -> None:
    """One sentence, without holes, doubled marks or the same said twice."""
    text = found.sentence
    assert found.code
    assert text.endswith(".")
    assert not any(odd in text for odd in ("None", "  ", ";;", "; .", "..", " ;", ": .", "``")), text
    parts = text.rstrip(".").split("; ")
    assert len(parts) == len(set(parts)), text
    hints = found.hint.split("; ")
    assert len(hints) == len(set(hints)), found.hint
    assert not (found.code in {"no_worker", "worker_silent", "draining", "not_loaded"} and "will be run" in text), text
