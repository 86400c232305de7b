"""Why a run is as it is."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, timedelta
from typing import TYPE_CHECKING, Any

from tm.reasons.reason import LATER, PRESSING, Known, Reason, error_facts, is_of_config, node_of
from tm.reasons.tasks import failed_with, how_to_retry, left_open, of_open
from tm.runinfo import FAILED
from tm.states import FINAL_TASK_STATES, RunState, TaskState, Trigger
from tm.words import Words, count, duration, quoted, span

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from tm.records import Plan
    from tm.runinfo import RunInfo, TaskInfo


def of_run(run: RunInfo, plan: Plan | None, known: Known) -> Reason:
    """Why a run is as it is."""
    if not run.is_open:
        return _ended_run(run, plan, known)
    subject = f"run {run.id}"
    if not known.held:
        return left_open(subject, run, known)
    open_tasks = [task for task in run.tasks if task.state not in FINAL_TASK_STATES]
    found = [of_open(run, task, plan, known) for task in open_tasks if task.state is not TaskState.WAITING]
    if not found:
        return _between(subject, run, open_tasks)
    first = min(found, key=lambda reason: PRESSING.get(reason.code, len(PRESSING)))
    running = [task.name for task in run.tasks if task.state is TaskState.RUNNING]
    done = sum(task.state in FINAL_TASK_STATES for task in run.tasks)
    more = []
    others = [name for name in running if f"`{name}`" != first.subject]
    if others:
        more.append(f"{quoted(others)} {'runs' if len(others) == 1 else 'run'} meanwhile")
    if broken := [task.name for task in run.tasks if task.state in FAILED]:
        more.append(f"{quoted(broken)} failed, so the run will end as failed")
    limit, late = _deadline(run, plan, known.words)
    more += [late] if late else []
    tail = "".join(f"; {each}" for each in more)
    so_far = f"is {run.state}, {done} of {count(len(run.tasks), 'task')} done: "
    return replace(
        first,
        subject=subject,
        predicate=f"{so_far}{first.subject} {first.predicate}{tail}",
        facts={"run": run.id, "state": run.state.value, "deadline_at": limit, **first.facts},
    )


_BY_CLOCK = frozenset({Trigger.SCHEDULE.value, Trigger.CATCHUP.value})


def _deadline(run: RunInfo, plan: Plan | None, words: Words) -> tuple[datetime | None, str]:
    """When the run should have ended, and a clause where that has passed or is near: in the last quarter."""
    if plan is None or not plan.deadline:
        return None, ""
    # as the server counts: from the tick of a run that the clock began, else from when it was created
    begin = run.tick if run.trigger in _BY_CLOCK and run.tick is not None else run.created_at
    limit = begin + timedelta(seconds=plan.deadline)
    if words.now >= limit:
        return limit, f"its deadline of {span(plan.deadline)} passed {words.at(limit)}"
    if (limit - words.now).total_seconds() <= plan.deadline / 4:
        return limit, f"its deadline of {span(plan.deadline)} is {words.at(limit)}"
    return limit, ""


def _ended_run(run: RunInfo, plan: Plan | None, known: Known) -> Reason:
    words = known.words
    subject, when = f"run {run.id}", f" {words.at(run.ended_at)}" if run.ended_at else ""
    facts: dict[str, Any] = {"run": run.id, "state": run.state.value, "ended_at": run.ended_at, "reason": run.reason}
    retry, in_brackets = (
        how_to_retry(run, run.tasks, plan, known),
        f" ({words.clock(run.ended_at)}, {words.away(run.ended_at)})" if run.ended_at else "",
    )
    if run.state is RunState.SUCCESS:
        took = f" after {duration(run.seconds)}" if run.seconds is not None else ""
        return Reason(code="success", subject=subject, predicate=f"succeeded{when}{took}", facts=facts)
    if run.state is RunState.SKIPPED:
        tick = f" of {words.clock(run.tick)}" if run.tick else ""
        subject = f"the tick{tick} ({run.id})"
        tick_text = f"{run.tick.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}" if run.tick else ""
        return Reason(
            code="skipped",
            subject=subject,
            predicate=f"was skipped: {run.reason or 'nobody said why'}",
            hint=f"`tm backfill {run.graph} --from {tick_text} --to {tick_text}`" if run.tick else "",
            facts=facts,
        )
    if run.state is RunState.CANCELLED:
        why = run.reason or "nobody said why"
        text = why if why.startswith("cancelled") else f"was cancelled: {why}"
        text = f"was {text}" if text.startswith("cancelled") else text
        return Reason(code="cancelled", subject=subject, predicate=f"{text}{in_brackets}", hint=retry, facts=facts)
    if run.state is RunState.TIMED_OUT:
        text = f"timed out{when}: {run.reason or 'it took longer than its graph allows'}"
        return Reason(code="timed_out", subject=subject, predicate=text, hint=retry, facts=facts)
    if run.culprit is not None:
        task, attempt, error = run.culprit
        text = f"failed{when}: `{task.name}` {failed_with(task, attempt, error, node_of(plan, task.name))}"
        facts |= {"task": task.name, "attempt": attempt.number} | error_facts(error)
        return Reason(code="failed", subject=subject, predicate=text, hint=retry, facts=facts)
    marked = next((task for task in run.tasks if task.state in FAILED), None)
    if is_of_config(run):  # it is read again by the retry
        retry = f"mend the config file first, then `tm retry {run.id}`"
    why = run.reason or (f"`{marked.name}` {marked.reason or marked.state}" if marked else "nobody said why")
    return Reason(code="failed", subject=subject, predicate=f"failed{when}: {why}", hint=retry, facts=facts)


def _between(subject: str, run: RunInfo, open_tasks: Sequence[TaskInfo]) -> Reason:
    names = [task.name for task in open_tasks]
    are = "is" if len(names) == 1 else "are"
    text = f"is {run.state}: {quoted(names)} {are} about to be queued; {LATER}" if names else "is about to end"
    facts = {"run": run.id, "state": run.state.value, "tasks": names}
    return Reason(code="deferred", subject=subject, predicate=text, facts=facts)
