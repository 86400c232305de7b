"""Each reason why something is not running: facts in, one sentence and a code out."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta, timezone
from typing import Any

import pytest

from tests.store.stage import plan
from tests.unit.scenes import (
    ABOUT,
    CHAIN,
    DONE,
    FAILED,
    NEXT,
    NOW,
    PAUSE,
    QUEUED,
    RETRYING,
    RULES,
    RUNNING,
    SKIPPED,
    UNREADABLE,
    WAITING,
    WORDS,
    ago,
    ask,
    attempt,
    clockwork,
    error,
    run,
    scene,
    worker,
)
from tm.clock import to_ms
from tm.insight import pause_of
from tm.reasons import Busy, Clockwork, Known, of_graph, of_run, of_task
from tm.runinfo import RunInfo, TaskInfo
from tm.states import FINAL_TASK_STATES, Outcome, RunState, TaskState
from tm.store.looking import LeaderView, Place, QueueView
from tm.store.records import QueuePause

# Queued ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("known", "code", "said"),
    [
        (
            {
                "scene": scene(
                    queues=(QueueView(name="gpu", depth=1, bells=1, oldest_ms=None, attended_ms=to_ms(ago(240))),)
                )
            },
            "no_worker",
            "no live worker on queue `gpu` since 12:00:03 (4 min)",
        ),
        (
            {
                "scene": scene(
                    worker(queues="gpu"),
                    queues=(
                        QueueView(
                            name="gpu",
                            depth=1,
                            bells=1,
                            oldest_ms=None,
                            attended_ms=None,
                            pause=QueuePause(
                                queue="gpu",
                                by="ann@host",
                                reason="new driver",
                                since_ms=to_ms(ago(240)),
                                until_ms=to_ms(ago(-3600)),
                            ),
                        ),
                    ),
                )
            },
            "queue_paused",
            "queue `gpu` is paused by ann@host since 12:00:03 (4 min) until 13:04:03 (new driver)",
        ),
        (
            {"scene": scene(worker(queues="gpu", drain="ann@host"))},
            "draining",
            "the only live worker of queue `gpu`, `w1`, is told to drain by ann@host",
        ),
        (
            {"scene": scene(worker(queues="gpu", drain="ann@host"), worker("w2", queues="gpu", drain="bob@host"))},
            "draining",
            "all 2 live workers of queue `gpu` are told to drain by ann@host",
        ),
        ({"scene": scene(worker(queues="default,cpu"))}, "no_worker", "queue `gpu` has never had a worker"),
        (
            {"scene": scene(worker(queues="gpu", seen=40))},
            "worker_silent",
            "the only worker of queue `gpu`, `w1`, has not been heard of since 12:03:23 (40 s)",
        ),
        (
            {"scene": scene(worker(queues="gpu", seen=40), worker("w2", queues="gpu", seen=30))},
            "worker_silent",
            "none of the 2 workers of queue `gpu` has been heard of since 12:03:33 (30 s)",
        ),
        (
            {"scene": scene(worker(queues="gpu", graphs=("other",)))},
            "not_loaded",
            "the only live worker of queue `gpu`, `w1`, has not loaded graph `etl`",
        ),
        (
            {"scene": scene(worker(queues="gpu", graphs=()), worker("w2", queues="gpu", graphs=("x",)))},
            "not_loaded",
            "none of the 2 live workers of queue `gpu` has loaded graph `etl`",
        ),
        (
            {"scene": scene(worker(queues="gpu", graphs=("etl", "etl/", "etl/extract"), versions='{"etl": "v0"}'))},
            "not_loaded",
            "the only live worker of queue `gpu`, `w1`, has not loaded task `load` of graph `etl` (version there v0, of the run v1)",
        ),
        (
            {"scene": scene(worker(queues="gpu"), suspended=True)},
            "suspended",
            "all workers are suspended (`rq suspend`)",
        ),
        (
            {"scene": scene(suspended=True, suspended_for_ms=300_000)},
            "suspended",
            "all workers are suspended for another 5 min (`rq suspend`)",
        ),
        (
            {
                "scene": scene(worker(queues="gpu")),
                "busy": [Busy(worker="w1", graph="etl", task=name, since=ago(9)) for name in ("a", "b")],
                "places": {"load": Place(ahead=3, bell=True)},
            },
            "busy",
            "all 2 executors of worker `w1` are busy with `etl.a` and `etl.b`; 3 attempts are ahead of it in queue `gpu`",
        ),
        (
            {
                "scene": scene(worker(queues="gpu", processes="1")),
                "busy": [Busy(worker="w1", graph="etl", task="a", since=ago(9))],
                "places": {"load": Place(ahead=1, bell=True)},
            },
            "busy",
            "the one executor of worker `w1` is busy with `etl.a`; 1 attempt is ahead of it in queue `gpu`",
        ),
        (
            {"scene": scene(worker(queues="gpu")), "places": {"load": Place(ahead=0, bell=False)}},
            "doorbell_lost",
            "its doorbell was lost; the leading scheduler rings it again within 20 s",
        ),
        (
            {"scene": scene(worker(queues="gpu"), leader=None), "places": {"load": Place(ahead=0, bell=False)}},
            "doorbell_lost",
            "its doorbell was lost; no scheduler leads that would ring it again",
        ),
        (
            {"scene": scene(worker(queues="gpu")), "places": {"load": Place(ahead=0, bell=True)}},
            "about_to_run",
            "worker `w1` is about to take it",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) and " " not in value else "",
)
def test_a_queued_task_says_who_does_not_take_it(known: dict[str, Any], code: str, said: str) -> None:
    found = ask(run(DONE, QUEUED, WAITING), "load", rules={"queue": "gpu"}, **known)
    assert (found.code, found.sentence) == (code, f"`load` is queued: {said}.")
    assert (found.facts["queue"], found.facts["run"], found.facts["task"]) == ("gpu", "etl-1", "load")


def test_a_task_that_is_queued_again_says_after_what() -> None:
    lost = replace(QUEUED, attempt=2, attempts=(attempt(1, Outcome.LOST, ended_at=ago(70)),))
    found = ask(run(DONE, lost), "load", scene=scene())
    assert found.sentence.startswith(
        "`load` is queued again, after attempt 1 was lost with its worker: queue `default`"
    )


# Retrying -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rules", "task", "said"),
    [
        (RULES, RETRYING, "retry 2 of 5 at 12:04:11, in 8 s = 8 s x 2 + 0.7 s jitter"),
        (RULES | {"jitter": 0}, RETRYING, "retry 2 of 5 at 12:04:11, in 8 s = 8 s x 2"),
        (RULES, replace(RETRYING, fails=3), "retry 3 of 5 at 12:04:11, in 8 s = 8 s x 2^2 + up to 3.2 s jitter"),
        (
            RULES | {"backoff": 0},
            replace(RETRYING, fails=1),
            "retry 1 of 5 at 12:04:11, in 8 s = 8 s + up to 0.8 s jitter",
        ),
        (
            RULES | {"max_retry_delay": 10, "jitter": 0},
            RETRYING,
            "retry 2 of 5 at 12:04:11, in 8 s = max_retry_delay 10 s",
        ),
        ({"retries": 5}, replace(RETRYING, due_at=ago(1)), "retry 2 of 5 now, due at 12:04:02 = at once"),
    ],
)
def test_a_retry_shows_how_its_delay_came_about(rules: dict[str, Any], task: TaskInfo, said: str) -> None:
    found = ask(run(DONE, task), "load", rules=rules, scene=scene())
    assert (
        found.sentence == f"`load` is retrying: {said}; attempt 2 failed with RuntimeError: no space (etl.py, line 7)."
    )
    assert (found.code, found.facts["error_type"]) == ("retrying", "RuntimeError")


# Waiting --------------------------------------------------------------------------------------------------------------


def test_a_task_names_the_parent_it_waits_for_and_what_that_one_does() -> None:
    cleaned = replace(DONE, name="clean")
    found = ask(run(DONE, cleaned, RETRYING, WAITING), "report", rules=RULES, scene=scene())
    assert found.sentence.startswith(
        "`report` waits for `load`, which is retrying: retry 2 of 5 at 12:04:11, in 8 s = "
    )
    assert (found.code, found.facts["root"], found.facts["root_code"]) == ("waiting", "load", "retrying")


def test_with_several_open_parents_the_most_pressing_is_told() -> None:
    clean = replace(QUEUED, name="clean")
    found = ask(run(DONE, clean, RETRYING, WAITING), "report", rules=RULES, scene=scene())
    assert (
        found.sentence
        == "`report` waits for `clean` and `load`; `clean` is queued: queue `default` has never had a worker."
    )
    assert found.hint == "start one: `tm-worker FILE --queue default`"


def test_a_wait_is_followed_up_to_where_it_began() -> None:
    tasks = (DONE, replace(DONE, name="clean"), RUNNING, WAITING, replace(WAITING, name="mail"))
    found = ask(run(*tasks), "mail", scene=scene(worker()))
    assert found.sentence == (
        "`mail` waits for `report`, and above it `load` runs on worker `w1` (box) since 12:03:43 (20 s); last heartbeat 1 s ago."
    )


def test_a_task_whose_parents_are_done_is_about_to_be_queued() -> None:
    tasks = (DONE, replace(DONE, name="clean"), replace(DONE, name="load"), WAITING)
    assert ask(run(*tasks), "report", scene=scene()).code == "deferred"
    assert ask(run(*tasks), scene=scene()).code == "deferred"


# Running --------------------------------------------------------------------------------------------------------------


def test_what_runs_says_where_since_when_and_until_when_it_may() -> None:
    found = ask(
        run(DONE, RUNNING), "load", rules={"task_timeout": 60}, scene=scene(worker()), leases={"load": ago(-29)}
    )
    assert found.sentence == (
        "`load` runs on worker `w1` (box) since 12:03:43 (20 s); last heartbeat 1 s ago, lease until 12:04:32, "
        "times out at 12:04:43, in 40 s."
    )
    assert found.facts["timeout_at"] == ago(-40)


@pytest.mark.parametrize(
    ("workers", "seen"), [((worker(seen=25),), " since 12:03:38"), ((), "")], ids=["silent", "forgotten"]
)
def test_a_worker_that_is_not_heard_of_is_told_with_the_end_of_its_lease(workers: Any, seen: str) -> None:
    second = replace(RUNNING, attempts=(attempt(2),))
    found = ask(run(DONE, second), "load", scene=scene(*workers), leases={"load": ago(-5)})
    host = " (box)" if workers else ""
    assert found.code == "running_unheard"
    assert found.sentence == (
        f"`load` is at attempt 2 on worker `w1`{host} since 12:03:43 (20 s), but that worker has not been heard of{seen}; "
        "its lease ends at 12:04:08, in 5 s, and then the task runs elsewhere."
    )


# Ended ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("task", "said", "hint"),
    [
        (DONE, "`extract` succeeded at 12:03:58 (5 s ago) after 1.2 s.", ""),
        (FAILED, "`load` failed at 12:03:03 (60 s ago) in attempt 3, its last, with RuntimeError: no space (etl.py, line 7).", "tm retry"),
        (
            replace(FAILED, state=TaskState.TIMED_OUT),
            "`load` took longer than its time-out of 1 min in attempt 3 and was stopped at 12:03:03 (60 s ago).",
            "tm retry",
        ),
        (
            replace(FAILED, state=TaskState.QUARANTINED, attempts=(attempt(3, Outcome.KILLED, error=error("Killed", "SIGKILL")),)),
            (
                "`load` was given up after attempt 3, its worker or its process died too often: Killed: SIGKILL (etl.py, line 7); "
                "a task whose process dies 3 times is quarantined."
            ),
            "tm retry",
        ),
        (TaskInfo(name="load", state=TaskState.CANCELLED, reason="cancelled by ann@box: enough"), "`load` was cancelled by ann@box: enough.", "tm retry"),
        (TaskInfo(name="load", state=TaskState.CANCELLED, reason="the run took too long"), "`load` was cancelled: the run took too long.", "tm retry"),
        (TaskInfo(name="load", state=TaskState.SKIPPED, reason="nothing to do"), "`load` was skipped: nothing to do.", ""),
        (
            TaskInfo(name="load", state=TaskState.SUCCESS, reason="marked success by ann@box: by hand"),
            "`load` was marked success by ann@box: by hand.",
            "",
        ),
        (TaskInfo(name="load", state=TaskState.SUCCESS, reason="kept from etl-0"), "`load` is success: kept from etl-0.", ""),
    ],
)  # fmt: skip
def test_what_has_ended_says_how_and_what_to_do(task: TaskInfo, said: str, hint: str) -> None:
    rules = {"retries": 2, "task_timeout": 60}
    found = ask(run(task, state=RunState.FAILED), task.name, rules=rules, scene=scene())
    assert found.sentence == said
    assert found.hint == (hint and f"`{hint} etl-1`")
    still_open = ask(run(task), task.name, rules=rules, scene=scene())
    assert still_open.sentence == said
    assert still_open.hint == (hint and f"`{hint} etl-1`, once the run has ended"), (
        "the retry of an open run is refused"
    )
    assert found.code == task.state.value


@pytest.mark.parametrize("shape", [True, False], ids=["plan known", "plan forgotten"])
def test_a_blocked_task_names_the_one_that_failed_and_why(shape: bool) -> None:
    blocked = TaskInfo(name="mail", state=TaskState.BLOCKED, reason="" if shape else "parent load failed")
    subject = run(DONE, FAILED, TaskInfo(name="report", state=TaskState.BLOCKED), blocked, state=RunState.FAILED)
    found = of_task(subject, blocked, plan(CHAIN, graph="etl") if shape else None, Known(words=WORDS))
    assert found.sentence.startswith("`mail` will not run: `load` failed at 12:03:03 (60 s ago) in attempt 3")
    assert (found.code, found.facts["cause"], found.facts["error_message"]) == ("blocked", "load", "no space")
    assert found.hint == "`tm retry etl-1`"


# Runs -----------------------------------------------------------------------------------------------------------------


def test_a_run_speaks_of_its_most_pressing_task_and_names_what_else_goes_on() -> None:
    tasks = (DONE, replace(RUNNING, name="clean"), QUEUED, WAITING)
    found = ask(
        run(*tasks),
        rules={"queue": {name: "gpu" if name == "load" else "default" for name in CHAIN}},
        scene=scene(worker()),
    )
    assert found.sentence == (
        "run etl-1 is running, 1 of 4 tasks done: `load` is queued: queue `gpu` has never had a worker; `clean` runs meanwhile."
    )
    assert found.code == "no_worker"


def test_a_run_with_a_failed_branch_says_how_it_will_end() -> None:
    found = ask(run(DONE, replace(RUNNING, name="clean"), FAILED), scene=scene(worker()))
    assert found.sentence.endswith("; `load` failed, so the run will end as failed.")


@pytest.mark.parametrize(
    ("subject", "code", "said"),
    [
        (
            run(DONE, state=RunState.SUCCESS, ended_at=ago(10)),
            "success",
            "run etl-1 succeeded at 12:03:53 (10 s ago) after 20.0 s.",
        ),
        (
            run(DONE, FAILED, state=RunState.FAILED, ended_at=ago(10)),
            "failed",
            "run etl-1 failed at 12:03:53 (10 s ago): `load` failed in attempt 3 with RuntimeError: no space (etl.py, line 7).",
        ),
        (
            run(state=RunState.FAILED, ended_at=ago(10), reason="config file x.json, line 1: no"),
            "failed",
            "run etl-1 failed at 12:03:53 (10 s ago): config file x.json, line 1: no.",
        ),
        (
            run(state=RunState.CANCELLED, ended_at=ago(10), reason="cancelled by ann@box"),
            "cancelled",
            "run etl-1 was cancelled by ann@box (12:03:53, 10 s ago).",
        ),
        (
            run(state=RunState.TIMED_OUT, ended_at=ago(10)),
            "timed_out",
            "run etl-1 timed out at 12:03:53 (10 s ago): it took longer than its graph allows.",
        ),
        (
            replace(run(state=RunState.SKIPPED, reason="overlap: run etl-0 is still open"), tick=ago(3)),
            "skipped",
            "the tick of 12:04:00 (etl-1) was skipped: overlap: run etl-0 is still open.",
        ),
    ],
)
def test_a_run_that_has_ended_says_how(subject: RunInfo, code: str, said: str) -> None:
    found = ask(subject, scene=scene())
    assert (found.code, found.sentence) == (code, said)


def test_a_task_of_a_tick_that_was_skipped_did_not_run() -> None:
    subject = replace(run(WAITING, state=RunState.SKIPPED, reason="misfire: late"))
    assert (
        ask(subject, "report", scene=scene()).sentence
        == "`report` did not run: its run, etl-1, was skipped: misfire: late."
    )


def test_an_open_run_that_only_history_knows_says_where_the_server_is() -> None:
    assert ask(run(RUNNING), held=False).code == "no_server"
    found = ask(run(RUNNING), "load", held=False, scene=scene())
    assert found.code == "forgotten"
    assert found.sentence.startswith("`load` is of run etl-1, which was running when the history was last written")


@pytest.mark.parametrize("state", list(TaskState))
def test_every_state_of_a_task_has_its_reason_whatever_is_known_of_it(state: TaskState) -> None:
    task = TaskInfo(name="load", state=state)
    for shape in (plan(CHAIN, graph="etl"), None):
        for facts in (Known(words=WORDS), Known(words=WORDS, scene=scene())):
            subject = run(DONE, task, state=RunState.FAILED if state in FINAL_TASK_STATES else RunState.RUNNING)
            for found in (of_task(subject, task, shape, facts), of_run(subject, shape, facts)):
                assert found.code
                assert found.sentence.endswith(".")
                assert "None" not in found.sentence


# Graphs ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("clock", "known", "code", "said"),
    [
        (clockwork(), {}, "next_tick", "runs next at 12:05:00, in 57 s"),
        (clockwork(total=0), {}, "next_tick", "runs next at 12:05:00, in 57 s; it has never run"),
        (
            clockwork(next_tick=NEXT.astimezone(timezone(timedelta(hours=1), "Somewhere"))),
            {},
            "next_tick",
            "runs next at 13:05:00 Somewhere, in 57 s",
        ),
        (
            clockwork(next_tick=NEXT + timedelta(days=1)),
            {},
            "next_tick",
            "runs next on Wed 25 Nov 12:05:00, in 24 h 0 min",
        ),
        (
            clockwork(recent=[SKIPPED]),
            {},
            "next_tick",
            "runs next at 12:05:00, in 57 s; its last tick, 12:04:00, was skipped: overlap: run etl-0 is still open",
        ),
        (
            clockwork(recent=[UNREADABLE]),
            {},
            "next_tick",
            "runs next at 12:05:00, in 57 s; its last tick, 12:04:00, failed before it began: config file x.json: no",
        ),
        (
            clockwork(recent=[run(state=RunState.SUCCESS, ended_at=ago(10))]),
            {},
            "next_tick",
            "runs next at 12:05:00, in 57 s; its last run, etl-1, succeeded at 12:03:53 (10 s ago)",
        ),
        (clockwork(open_runs=["etl-1"]), {}, "next_tick", "runs next at 12:05:00, in 57 s; `etl-1` is open"),
        (clockwork(pause=PAUSE), {}, "paused", "is paused by ann@box since 12:02:03 (2 min) (the source moves)"),
        (
            clockwork(pause=replace(PAUSE, graph="", reason="", until_ms=to_ms(NEXT)), open_runs=["a", "b"]),
            {},
            "paused",
            "is paused, with all graphs, by ann@box since 12:02:03 (2 min) until 12:05:00; `a` and `b` are open",
        ),
        (
            clockwork(about=ABOUT | {"schedule": "manual"}, next_tick=None),
            {},
            "manual",
            "has no schedule: it runs when somebody starts it",
        ),
        (
            clockwork(next_tick=None, total=0),
            {},
            "never_again",
            "is never due again: its schedule is '*/5 * * * *'; it has never run",
        ),
        (
            clockwork(held=ago(3), open_runs=["etl-0"]),
            {},
            "held",
            'holds its tick of 12:04:00 back, overlap="queue": `etl-0` is open',
        ),
        (
            clockwork(held=ago(3), open_runs=["etl-0", "etl-1"], about=ABOUT | {"max_active_runs": 2}),
            {},
            "held",
            'holds its tick of 12:04:00 back, overlap="queue": `etl-0` and `etl-1` are open, and max_active_runs is 2',
        ),
        (clockwork(about=None), {}, "not_announced", "is known from history only, no scheduler has announced it"),
        (clockwork(), {"scene": None}, "no_server", "makes no ticks: no server is running here now"),
        (clockwork(), {"scene": scene(leader=None)}, "no_leader", "makes no ticks: no scheduler has ever led"),
        (
            clockwork(),
            {"scene": scene(leader=LeaderView(who="", token=3, since_ms=0, until_ms=to_ms(ago(60))))},
            "no_leader",
            "makes no ticks: no scheduler leads since 12:03:03 (60 s)",
        ),
        (
            clockwork(),
            {"scene": scene(leader=LeaderView(who="s1", token=3, since_ms=0, until_ms=to_ms(ago(60))))},
            "no_leader",
            "makes no ticks: no scheduler leads since 12:03:03 (60 s)",
        ),
        (
            clockwork(about=ABOUT | {"leader": 2}),
            {},
            "not_on_leader",
            "is not on the clock: the leading scheduler, `s1`, has not loaded it",
        ),
        (
            clockwork(),
            {"scene": scene(backlog=9, backlog_bytes=65 << 20)},
            "history_behind",
            "makes no ticks: history is 65.0 MiB behind, and ticks are held until it catches up",
        ),
    ],
)
def test_a_graph_says_why_it_makes_no_run_now(clock: Clockwork, known: dict[str, Any], code: str, said: str) -> None:
    found = of_graph(clock, Known(words=WORDS, **({"scene": scene()} | known)))
    assert (found.code, found.sentence) == (code, f"graph `etl` {said}.")
    assert found.facts["graph"] == "etl"


def test_the_pause_in_force_is_the_graphs_own_or_that_of_all() -> None:
    everything = replace(PAUSE, graph="")
    over = replace(PAUSE, resumed_ms=1)
    now = to_ms(NOW)
    assert pause_of({"etl": PAUSE, "": everything}, "etl", now) == PAUSE
    assert pause_of({"etl": over, "": everything}, "etl", now) == everything
    assert pause_of({"etl": over}, "etl", now) is None


def test_a_reason_is_a_document_whatever_its_facts() -> None:
    from tm.cli.documents import reason_document

    found = ask(run(DONE, RETRYING), "load", rules=RULES, scene=scene())
    document = json.loads(json.dumps(reason_document(found)))
    assert document["code"] == "retrying"
    assert document["facts"]["due_at"] == "2026-11-24T12:04:11.000Z"
    assert document["facts"]["delay"] == pytest.approx(16.7)
