"""Why a task of a run is as it is; what it waits for is followed up to where it began."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tm.clock import from_ms
from tm.reasons.queued import of_queued
from tm.reasons.reason import (
    LATER,
    LOSSES,
    PRESSING,
    Known,
    Reason,
    above,
    ended_with,
    error_facts,
    in_short,
    is_silent,
    node_of,
    parents_of,
    worker_of,
)
from tm.reasons.versions import loaded, other_code, still_failing
from tm.runinfo import FAILED, AttemptInfo, ErrorInfo, RunInfo, TaskInfo
from tm.states import FINAL_TASK_STATES, MAX_LOSSES, RunState, TaskState
from tm.words import duration, quoted, span

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tm.records import Plan, TaskPlan
    from tm.retry import RetryPolicy


def of_task(run: RunInfo, task: TaskInfo, plan: Plan | None, known: Known) -> Reason:
    """Why a task of a run is as it is."""
    facts = {"run": run.id, "task": task.name, "state": task.state.value}
    if task.state in FINAL_TASK_STATES:
        found = ended_task(run, task, plan, known)
    elif not run.is_open:  # it is of a tick that was only recorded, or of a run that ended with its server
        how = f"{run.state}: {run.reason}" if run.reason else f"{run.state}"
        was = "" if run.state in {RunState.FAILED, RunState.TIMED_OUT} else "was "
        text = f"did not run: its run, {run.id}, {was}{how}"
        found = Reason(code="not_run", subject=f"`{task.name}`", predicate=text)
    elif not known.held:
        lost = left_open(f"run {run.id}", run, known)
        found = replace(lost, subject=f"`{task.name}`", predicate=f"is of {lost.subject}, which {lost.predicate}")
    else:
        found = of_open(run, task, plan, known)
    return replace(found, facts=facts | dict(found.facts))


def of_open(run: RunInfo, task: TaskInfo, plan: Plan | None, known: Known) -> Reason:
    """Of a task that has not ended."""
    if task.state is TaskState.QUEUED:
        return _with_code(of_queued(run, task, node_of(plan, task.name), known), run, task, plan, known)
    if task.state is TaskState.RETRYING:
        return _with_code(_retrying(task, node_of(plan, task.name), known), run, task, plan, known)
    if task.state is TaskState.RUNNING:
        return _running(task, node_of(plan, task.name), known)
    return _waiting(run, task, plan, known)


#: of what is queued: somebody alive will take it, as far as it is known
_TAKEN = frozenset({"busy", "about_to_run", "doorbell_lost", "queue_paused", "suspended", "retrying"})


def _with_code(found: Reason, run: RunInfo, task: TaskInfo, plan: Plan | None, known: Known) -> Reason:
    """With a clause on those who would run it by another version of its code."""
    workers = loaded(known, run.graph, task.name, plan)
    clause, todo = other_code(workers, run.version, known.current)
    if not clause or found.code not in _TAKEN:
        return found
    others = sorted(set(workers.values()) - {run.version})
    return replace(
        found,
        predicate=f"{found.predicate}; {clause}",
        hint="; ".join(each for each in (found.hint, todo) if each),
        facts={**found.facts, "other_versions": others},
    )


def _waiting(run: RunInfo, task: TaskInfo, plan: Plan | None, known: Known) -> Reason:
    subject = f"`{task.name}`"
    if plan is None:
        text = "waits for its parents, and the server no longer knows which they are"
        return Reason(code="waiting", subject=subject, predicate=text)
    states = {each.name: each for each in run.tasks}
    parents = [each for each in parents_of(plan, task.name) if states[each].state not in FINAL_TASK_STATES]
    if not parents:
        text = f"is about to be queued: all its parents are done; {LATER}"
        return Reason(code="deferred", subject=subject, predicate=text)
    settled = FINAL_TASK_STATES | {TaskState.WAITING}
    roots = [name for name in above(plan, task.name) if states[name].state not in settled]
    facts: dict[str, Any] = {"parents": [{"task": each, "state": states[each].state.value} for each in parents]}
    if not roots:
        return Reason(code="waiting", subject=subject, predicate=f"waits for {quoted(parents)}", facts=facts)
    found = [of_open(run, states[name], plan, known) for name in roots]
    first = min(found, key=lambda reason: PRESSING.get(reason.code, len(PRESSING)))
    facts |= {"root": first.subject.strip("`"), "root_code": first.code, **first.facts}
    if [f"`{each}`" for each in parents] == [first.subject]:
        text = f"waits for {first.subject}, which {first.predicate}"
    elif first.subject.strip("`") in parents:
        text = f"waits for {quoted(parents)}; {first.subject} {first.predicate}"
    else:
        them = "it" if len(parents) == 1 else "them"
        text = f"waits for {quoted(parents)}, and above {them} {first.subject} {first.predicate}"
    return Reason(code="waiting", subject=subject, predicate=text, hint=first.hint, facts=facts)


def _retrying(task: TaskInfo, node: TaskPlan | None, known: Known) -> Reason:
    words, last = known.words, task.attempts[-1] if task.attempts else None
    policy = node.retry if node else None
    fails = task.fails or sum(each.outcome not in {None, *LOSSES} for each in task.attempts)
    which = f"retry {fails} of {policy.retries}" if policy else f"retry {fails}"
    facts: dict[str, Any] = {"retry": fails, "retries": policy.retries if policy else None, "due_at": task.due_at}
    when = ""
    if task.due_at is not None:
        delay = (task.due_at - last.ended_at).total_seconds() if last is not None and last.ended_at else None
        formula = _formula(policy, fails - 1, delay) if policy else ""
        away = words.at(task.due_at) if task.due_at > words.now else f"now, due at {words.clock(task.due_at)}"
        when = f" {away}{f' = {formula}' if formula else ''}"
        facts |= {"delay": delay, "formula": formula}
    error = ""
    if last is not None and last.error is not None:
        error = f"; attempt {last.number} {ended_with(last)} {in_short(last.error)}"
        facts |= error_facts(last.error)
    text = f"is retrying: {which}{when}{error}"
    return Reason(code="retrying", subject=f"`{task.name}`", predicate=text, facts=facts)


def _formula(policy: RetryPolicy, retry: int, delay: float | None) -> str:
    """How the delay before a retry (counted from 0) came about: 8 s x 2^2 + 0.7 s jitter."""
    if policy.retry_delay == 0:
        return "at once"
    factor = 1 + policy.backoff
    parts = [span(policy.retry_delay)]
    if retry > 0 and policy.backoff:
        parts.append(f"{factor:g}" if retry == 1 else f"{factor:g}^{retry}")
    text, plain = " x ".join(parts), policy.delay_ms(retry) / 1000
    if policy.max_retry_delay is not None and plain >= policy.max_retry_delay and len(parts) > 1:
        text = f"max_retry_delay {span(policy.max_retry_delay)}"
    if policy.jitter:
        if delay is not None and 0 <= delay - plain <= policy.jitter * plain + 0.01:
            text += f" + {round(delay - plain, 1):g} s jitter"
        else:
            text += f" + up to {round(policy.jitter * plain, 1):g} s jitter"
    return text


def _running(task: TaskInfo, node: TaskPlan | None, known: Known) -> Reason:
    words, attempt = known.words, task.attempts[-1] if task.attempts else None
    subject = f"`{task.name}`"
    if attempt is None or attempt.started_at is None:
        return Reason(code="running", subject=subject, predicate="is running")
    worker = worker_of(known.scene, attempt.worker)
    number = f"attempt {attempt.number} " if attempt.number > 1 else ""
    facts: dict[str, Any] = {
        "worker": attempt.worker,
        "attempt": attempt.number,
        "started_at": attempt.started_at,
        "lease_until": known.leases.get(task.name),
        "heartbeat_at": from_ms(worker.seen_ms) if worker else None,
    }
    host = worker.about.get("host", "") if worker else ""
    where = f"on worker `{attempt.worker}`" + (f" ({host})" if host and host not in attempt.worker else "")
    text = f"{number and f'is at {number}'}{'' if number else 'runs '}{where} {words.since(attempt.started_at)}"
    lease = known.leases.get(task.name)
    if worker is None or not worker.alive or is_silent(worker, words):
        seen = f" since {words.clock(from_ms(worker.seen_ms))}" if worker else ""
        text += f", but that worker has not been heard of{seen}"
        if lease is not None:
            text += f"; its lease ends {words.at(lease)}, and then the task runs elsewhere"
        return Reason(code="running_unheard", subject=subject, predicate=text, facts=facts)
    text += f"; last heartbeat {words.away(from_ms(worker.seen_ms))}"
    if lease is not None:
        text += f", lease until {words.clock(lease)}"
    if node is not None and node.timeout is not None:
        limit = from_ms(round(attempt.started_at.timestamp() * 1000 + node.timeout * 1000))
        facts["timeout_at"] = limit
        text += f", times out {words.at(limit)}"
    return Reason(code="running", subject=subject, predicate=text, facts=facts)


def ended_task(run: RunInfo, task: TaskInfo, plan: Plan | None, known: Known) -> Reason:
    """Of a task that has."""
    words = known.words
    last = task.attempts[-1] if task.attempts else None
    when = f" {words.at(last.ended_at)}" if last is not None and last.ended_at else ""
    subject, retry = f"`{task.name}`", how_to_retry(run, [task], plan, known)
    facts: dict[str, Any] = {"reason": task.reason or None, "ended_at": last.ended_at if last else None}
    if last is not None and last.error is not None and task.state in FAILED:
        facts |= error_facts(last.error)
    if task.reason.startswith(("marked ", "kept from ", "left out of ")):
        said = task.reason if not task.reason.startswith("marked") else f"was {task.reason}"
        text = f"is {task.state}: {said}" if not said.startswith("was") else said
        return Reason(code=task.state.value, subject=subject, predicate=text, facts=facts)
    if task.state is TaskState.SUCCESS:
        took = f" after {duration(last.seconds)}" if last is not None and last.seconds is not None else ""
        number = f", in attempt {last.number}" if last is not None and last.number > 1 else ""
        return Reason(code="success", subject=subject, predicate=f"succeeded{when}{took}{number}", facts=facts)
    if task.state is TaskState.BLOCKED:
        return _blocked(run, task, plan, known, facts)
    if task.state is TaskState.CANCELLED:
        why = task.reason or run.reason or "its run was cancelled"
        text = f"was {why}" if why.startswith("cancelled") else f"was cancelled: {why}"
        return Reason(code="cancelled", subject=subject, predicate=text, hint=retry, facts=facts)
    if task.state is TaskState.SKIPPED:
        text = f"was skipped: {task.reason}" if task.reason else "was skipped"
        return Reason(code="skipped", subject=subject, predicate=text, facts=facts)
    if last is None:
        text = f"is {task.state}{f': {task.reason}' if task.reason else ''}"
        return Reason(code=task.state.value, subject=subject, predicate=text, hint=retry, facts=facts)
    text = failed_with(task, last, last.error, node_of(plan, task.name), when)
    if task.state is TaskState.QUARANTINED:
        text += f"; a task whose process dies {MAX_LOSSES} times is quarantined"
    return Reason(code=task.state.value, subject=subject, predicate=text, hint=retry, facts=facts)


def _blocked(run: RunInfo, task: TaskInfo, plan: Plan | None, known: Known, facts: dict[str, Any]) -> Reason:
    states = {each.name: each for each in run.tasks}
    over = (states[name] for name in above(plan, task.name) if name in states)
    cause = next((each for each in over if each.state in FAILED), None)
    if cause is None and (found := re.fullmatch(r"parent (.+) (failed|timed_out|quarantined)", task.reason)):
        cause = states.get(found[1])
    subject, hint = f"`{task.name}`", how_to_retry(run, [cause] if cause else [], plan, known)
    if cause is None:
        text = f"will not run: {task.reason or 'a parent failed'}"
        return Reason(code="blocked", subject=subject, predicate=text, hint=hint, facts=facts)
    why = ended_task(run, cause, plan, known)
    facts |= {"cause": cause.name, **{name: value for name, value in why.facts.items() if name.startswith("error")}}
    text = f"will not run: {why.subject} {why.predicate}"
    return Reason(code="blocked", subject=subject, predicate=text, hint=hint, facts=facts)


def how_to_retry(run: RunInfo, tasks: Iterable[TaskInfo], plan: Plan | None, known: Known) -> str:
    """What to do about a run with tasks that did not succeed: the command, and what to heed before it."""
    if run.is_open:
        return f"`tm retry {run.id}`, once the run has ended"
    retry = f"`tm retry {run.id}`"
    heed = before_retry(run, tasks, plan, known)
    return f"{retry}; {heed}" if heed else retry


def before_retry(run: RunInfo, tasks: Iterable[TaskInfo], plan: Plan | None, known: Known) -> str:
    """What to heed before a retry of tasks that failed by their code; empty for nothing."""
    workers: dict[str, str] = {}
    for each in tasks:
        if each.state in FAILED:
            workers |= loaded(known, run.graph, each.name, plan)
    return still_failing(workers, run.version, known.current)


def failed_with(
    task: TaskInfo, attempt: AttemptInfo, error: ErrorInfo | None, node: TaskPlan | None, when: str = ""
) -> str:
    """What follows a name: failed at 12:04:11 in attempt 3, its last, with ValueError: no space (load.py, line 7)."""
    most = node.retry.retries + 1 if node else 0
    tries = f" in attempt {attempt.number}" if attempt.number > 1 else ""
    if task.state is TaskState.TIMED_OUT:
        limit = f" of {span(node.timeout)}" if node and node.timeout else ""
        return f"took longer than its time-out{limit}{tries}{when and f' and was stopped{when}'}"
    if task.state is TaskState.QUARANTINED:
        why = f": {in_short(error)}" if error else ""
        died = "its worker or its process died too often"
        return f"was given up{when} after attempt {attempt.number}, {died}{why}"
    if most > 1 and attempt.number == most:
        tries += ", its last,"
    return f"failed{when}{tries}{f' with {in_short(error)}' if error else ''}"


def left_open(subject: str, run: RunInfo, known: Known) -> Reason:
    """Of a run that only the history remembers, as open."""
    facts = {"run": run.id, "state": run.state.value}
    if known.scene is None:
        text = f"was {run.state} when the history was last written, and no server is running here now"
        return Reason(
            code="no_server", subject=subject, predicate=text, hint="start it again, and open runs go on", facts=facts
        )
    text = f"was {run.state} when the history was last written, and the server does not hold it any more"
    hint = "the leading scheduler closes it as lost if the server was emptied"
    return Reason(code="forgotten", subject=subject, predicate=text, hint=hint, facts=facts)
