"""Why a queued attempt is not taken: who takes from its queue, what they have loaded, whether they are free."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tm.clock import from_ms
from tm.reasons.reason import Known, Reason, ended_with, is_silent, queue_of
from tm.states import Outcome
from tm.words import Words, count, quoted, rough

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tm.records import TaskPlan
    from tm.runinfo import RunInfo, TaskInfo
    from tm.store.looking import Scene, WorkerView
    from tm.store.records import QueuePause

#: seconds within which the leading scheduler rings a lost doorbell again
RING_WITHIN = 20
#: seconds a doorbell may be on its way to a worker, in neither list
ON_ITS_WAY = 1.0


def of_queued(run: RunInfo, task: TaskInfo, node: TaskPlan | None, known: Known) -> Reason:
    """Of an attempt that waits for a worker."""
    queue, words, scene = node.queue if node else "default", known.words, known.scene
    subject, since = f"`{task.name}`", f" {words.since(task.queued_at)}" if task.queued_at else ""
    place = known.places.get(task.name)
    ahead = place.ahead if place and place.ahead is not None else None
    facts: dict[str, Any] = {"queue": queue, "queued_at": task.queued_at, "ahead": ahead}
    again = _why_again(task)
    begin = f"is queued{again}"

    def because(code: str, text: str, hint: str = "", **more: Any) -> Reason:
        return Reason(code=code, subject=subject, predicate=f"{begin}: {text}", hint=hint, facts=facts | more)

    if scene is None:
        return Reason(code="queued", subject=subject, predicate=f"{begin}{since}", facts=facts)
    if scene.suspended:
        left = scene.suspended_for_ms
        for_so_long = f" for another {rough(left / 1000)}" if left is not None else ""
        return because("suspended", f"all workers are suspended{for_so_long} (`rq suspend`)", "`rq resume` ends that")
    view = queue_of(scene, queue)
    if view is not None and view.pause is not None:
        return because(**_paused(view.pause, words))
    there = [each for each in scene.workers if each.alive and queue in each.queues]
    living = [each for each in there if not is_silent(each, words)]
    if not living:
        return _nobody(queue, there, known, because)
    leaving = [each for each in living if each.draining]
    if len(leaving) == len(living):
        whom = (
            f"the only live worker of queue `{queue}`, `{leaving[0].name}`, is"
            if len(leaving) == 1
            else (f"all {len(leaving)} live workers of queue `{queue}` are")
        )
        text = f"{whom} told to drain by {leaving[0].draining}"
        hint = f"start another: `tm-worker FILE --queue {queue}`"
        return because("draining", text, hint, workers=[each.name for each in leaving])
    living = [each for each in living if not each.draining]
    able = [each for each in living if each.has(run.graph, task.name)]
    if not able:
        return _strangers(queue, living, run, task, because)
    slots = sum(int(each.about.get("processes", "0") or 0) for each in able)
    at_work = [each for each in known.busy if each.worker in {worker.name for worker in able}]
    are = "is" if ahead == 1 else "are"
    before = f"; {count(ahead, 'attempt')} {are} ahead of it in queue `{queue}`" if ahead else ""
    if slots and len(at_work) >= slots:
        whom = f"worker `{able[0].name}`" if len(able) == 1 else count(len(able), "worker")
        doing = sorted({f"{each.graph}.{each.task}" for each in at_work})
        all_of = f"all {slots} executors" if slots > 1 else "the one executor"
        text = f"{all_of} of {whom} {'are' if slots > 1 else 'is'} busy with {quoted(doing)}{before}"
        hint = "more workers, or more --processes, would run it sooner"
        return because("busy", text, hint, executors=slots, busy_with=doing, workers=[each.name for each in able])
    waited = (words.now - task.queued_at).total_seconds() if task.queued_at else 0.0
    if place is not None and not place.bell and waited > ON_ITS_WAY:
        text = f"its doorbell was lost; {_who_rings(scene, words)}"
        return because("doorbell_lost", text)
    whom = f"worker `{able[0].name}`" if len(able) == 1 else f"one of {count(len(able), 'worker')}"
    free = f"{whom} is about to take it" if not ahead else f"it is about to be taken by {whom}"
    return because("about_to_run", f"{free}{before}", workers=[each.name for each in able])


def _paused(pause: QueuePause, words: Words) -> dict[str, Any]:
    until = f" until {words.clock(from_ms(pause.until_ms))}" if pause.until_ms is not None else ""
    why = f" ({pause.reason})" if pause.reason else ""
    return {
        "code": "queue_paused",
        "text": f"queue `{pause.queue}` is paused by {pause.by} {words.since(from_ms(pause.since_ms))}{until}{why}",
        "hint": f"`tm queues resume {pause.queue}`",
        "by": pause.by,
        "reason": pause.reason or None,
        "since": from_ms(pause.since_ms),
        "until": None if pause.until_ms is None else from_ms(pause.until_ms),
    }


def _nobody(queue: str, silent: Sequence[WorkerView], known: Known, because: Callable[..., Reason]) -> Reason:
    words, start = known.words, f"start one: `tm-worker FILE --queue {queue}`"
    if silent:
        last = max(silent, key=lambda each: each.seen_ms)
        since = words.since(from_ms(last.seen_ms))
        if len(silent) == 1:
            text = f"the only worker of queue `{queue}`, `{last.name}`, has not been heard of {since}"
        else:
            text = f"none of the {len(silent)} workers of queue `{queue}` has been heard of {since}"
        return because("worker_silent", text, f"see whether its host lives, or {start}")
    view = queue_of(known.scene, queue)
    at = from_ms(view.attended_ms) if view and view.attended_ms is not None else None
    text = f"no live worker on queue `{queue}` {words.since(at)}" if at else f"queue `{queue}` has never had a worker"
    return because("no_worker", text, start, no_worker_since=at)


def _strangers(
    queue: str, living: Sequence[WorkerView], run: RunInfo, task: TaskInfo, because: Callable[..., Reason]
) -> Reason:
    names = [each.name for each in living]
    have_graph = [each for each in living if run.graph in each.graphs]
    if have_graph:
        theirs = sorted({each.versions.get(run.graph, "") for each in have_graph} - {"", run.version})
        version = f" (version there {theirs[0]}, of the run {run.version})" if theirs else ""
        what = f"loaded task `{task.name}` of graph `{run.graph}`{version}"
        hint = "restart the workers with the file as it is now"
    else:
        what, hint = f"loaded graph `{run.graph}`", "start a worker with its file: `tm-worker FILE`"
    if len(names) == 1:
        text = f"the only live worker of queue `{queue}`, `{names[0]}`, has not {what}"
    else:
        text = f"none of the {len(names)} live workers of queue `{queue}` has {what}"
    return because("not_loaded", text, hint, workers=names)


def _why_again(task: TaskInfo) -> str:
    """For an attempt after the first: what became of the one before."""
    last = next((each for each in reversed(task.attempts) if each.outcome is not None), None)
    if last is None or last.outcome is Outcome.SUCCESS:
        return ""
    return f" again, after attempt {last.number} {ended_with(last)}"


def _who_rings(scene: Scene, words: Words) -> str:
    leader = scene.leader
    if leader is not None and leader.who and from_ms(leader.until_ms) > words.now:
        return f"the leading scheduler rings it again within {RING_WITHIN} s"
    return "no scheduler leads that would ring it again"
