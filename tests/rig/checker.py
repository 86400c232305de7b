"""The judge: one pure function from the evidence of a test to the invariants that it breaks.

Nothing here knows how the evidence came about or which faults were injected. I1 to I12 are those of
docs/reliability.md. Each rule is small enough to be read beside its sentence; `tests/rig/test_checker.py` seeds a
violation of every kind and expects it to be caught.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tm.events import AttemptEnded, RunCreated, RunEnded, TaskClosed
from tm.states import FINAL_RUN_STATES, FINAL_TASK_STATES, MAX_LOSSES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.rig.evidence import Evidence, HistoryAttempt

#: losses that a worker reports when it gives work back; they are on nobody's budget
GIVEN_BACK = frozenset({"Drained", "Abandoned"})
#: keys that stay when all runs are gone; a key that begins with one of these is one of them
PERMANENT = ("meta", "graphs", "names", "queues", "plan:", "cursor", "leader", "events", "worker:", "offers:")
#: bytes that memory may differ by after the same work: buffers of clients, fragmentation, tables that grew
MEMORY_SLACK = 4 << 20


@dataclass(frozen=True, slots=True, order=True)
class Violation:
    """One broken promise."""

    invariant: str  #: I1 .. I12
    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.invariant} {self.where}: {self.what}"


def check(evidence: Evidence) -> list[Violation]:
    """Every violation there is, in the order of the invariants."""
    return [Violation(name, where, what) for name, rule in RULES.items() for where, what in sorted(set(rule(evidence)))]


def _i1_each_tick_once(e: Evidence) -> Iterator[tuple[str, str]]:
    """Each due tick has exactly one run, or one recorded skip with a reason."""
    found: dict[tuple[str, int], set[str]] = defaultdict(set)
    for run in (*e.runs, *e.server.runs.values()):
        if run.tick is None:
            continue
        found[run.graph, run.tick].add(run.id)
        if run.state == "skipped" and not run.reason:
            yield run.id, "skipped without a reason"
    for graph, ticks in e.ticks.items():
        for tick in ticks:
            if not found[graph, tick]:
                yield f"{graph}@{tick}", "was due and has neither a run nor a record"
        for (name, tick), runs in found.items():
            if name == graph and runs and tick not in ticks:
                yield f"{graph}@{tick}", "has a run and was never due"
    for (graph, tick), runs in found.items():
        if len(runs) > 1:
            yield f"{graph}@{tick}", f"has several runs: {sorted(runs)}"


def _i2_nothing_lost(e: Evidence) -> Iterator[tuple[str, str]]:
    """Every task run that has not ended is in exactly one of waiting, queued, leased, retry-wait."""
    known = {run.id for run in e.runs} | set(e.server.runs)
    for run in e.submitted:
        if run not in known:
            yield run, "was acknowledged and is known to nobody"
    places = {"queued": Counter(e.server.queued), "running": Counter(e.server.leases)}
    retry = Counter(e.server.retry)
    listed = {run for runs in e.server.open.values() for run in runs}
    expected: dict[str, Counter[str]] = {"queued": Counter(), "running": Counter(), "retrying": Counter()}
    for run in e.server.runs.values():
        is_open = run.state not in FINAL_RUN_STATES
        if is_open != (run.id in listed):
            yield run.id, f"is {run.state} and {'in' if run.id in listed else 'not in'} the list of open runs"
        plan = e.plans.get(run.graph)
        if not is_open or plan is None:
            continue
        for node, task in enumerate(plan.tasks):
            here = f"{run.id}/{task.name}"
            stored = run.tasks.get(task.name)
            if stored is None:
                parents = [run.tasks.get(plan.tasks[parent].name) for parent in task.parents]
                if all(parent is not None and parent.state == "success" for parent in parents):
                    yield here, "waits although its parents have succeeded"
            elif stored.state in expected:
                attempt = stored.attempt + (stored.state == "retrying")
                expected[stored.state][f"{run.id}_{node}_{attempt}"] += 1
        states = [run.tasks[task.name].state if task.name in run.tasks else "waiting" for task in plan.tasks]
        if all(state in FINAL_TASK_STATES for state in states):
            yield run.id, "is open although all its tasks have ended"
    for name, place in (("queued", places["queued"]), ("running", places["running"]), ("retrying", retry)):
        for job in expected[name] - place:
            yield job, f"is {name} and in no set of those"
        for job in place - expected[name]:
            yield job, f"is among the {name} and should not be"


def _i3_parents_first(e: Evidence) -> Iterator[tuple[str, str]]:
    """No child starts before all its parents have succeeded."""
    ended = {(line.run, line.task): line.mono for line in reversed(e.journal) if line.what == "end"}
    accepted = _successes(e)
    for line in e.journal:
        plan = e.plans.get(line.graph)
        if line.what != "start" or plan is None:
            continue
        task = next((each for each in plan.tasks if each.name == line.task), None)
        for parent in () if task is None else (plan.tasks[index].name for index in task.parents):
            if (line.run, parent) not in ended or ended[line.run, parent] > line.mono:
                yield f"{line.run}/{line.task}", f"started before its parent {parent} had ended well"
            elif e.filed and not e.rolled_back and (line.run, parent) not in accepted:
                yield f"{line.run}/{line.task}", f"started though no success of its parent {parent} was accepted"


def _i4_one_claim_one_outcome(e: Evidence) -> Iterator[tuple[str, str]]:
    """Per (run, task, attempt) at most one accepted claim and one accepted outcome."""
    starts = Counter((line.run, line.task, line.attempt) for line in e.journal if line.what == "start")
    outcomes = Counter((each.run, each.task, each.number) for each in _accepted(e))
    successes = Counter((each.run, each.task) for each in _accepted(e) if each.outcome == "success")
    if e.rolled_back:
        return
    for (run, task, attempt), count in starts.items():
        if count > 1:
            yield f"{run}/{task}/{attempt}", f"was begun {count} times"
    for (run, task, attempt), count in outcomes.items():
        if count > 1:
            yield f"{run}/{task}/{attempt}", f"has {count} accepted outcomes"
    for (run, task), count in successes.items():
        if count > 1:
            yield f"{run}/{task}", f"succeeded {count} times"
    said = {(line.run, line.task, line.attempt) for line in e.journal if line.what == "end"}
    journaled = {line.graph for line in e.journal}
    graphs = {run.id: run.graph for run in e.runs}
    for each in _accepted(e):
        here = (each.run, each.task, each.number)
        if each.outcome == "success" and graphs.get(each.run) in journaled and here not in said:
            yield f"{each.run}/{each.task}/{each.number}", "succeeded for history, but its body never ended well"


def _i5_attempts_and_budgets(e: Evidence) -> Iterator[tuple[str, str]]:
    """Attempts rise by 1; failures stay within the retries, losses within their own budget."""
    retries = {(graph, task.name): task.retry.retries for graph, plan in e.plans.items() for task in plan.tasks}
    graphs = {run.id: run.graph for run in e.runs}
    by_task: dict[tuple[str, str], list[HistoryAttempt]] = defaultdict(list)
    for each in _accepted(e):
        by_task[each.run, each.task].append(each)
    for (run, task), attempts in by_task.items():
        here = f"{run}/{task}"
        numbers = sorted({each.number for each in attempts})
        if e.filed and not e.rolled_back and numbers != list(range(1, len(numbers) + 1)):
            yield here, f"its attempts are numbered {numbers}"
        failures = sum(each.outcome in ("failed", "timed_out") for each in attempts)
        allowed = retries.get((graphs.get(run, ""), task))
        if allowed is not None and failures > allowed + 1 and not e.rolled_back:
            yield here, f"failed {failures} times with {allowed} retries"
        losses = sum(each.outcome in ("lost", "killed") and each.error_type not in GIVEN_BACK for each in attempts)
        if losses > MAX_LOSSES and not e.rolled_back:
            yield here, f"was lost {losses} times; after {MAX_LOSSES} it is to be quarantined"


def _i6_final_is_final(e: Evidence) -> Iterator[tuple[str, str]]:
    """Terminal states never change: nothing that counts is heard of a task or a run after its end."""
    if e.rolled_back:
        return
    ended: set[str] = set()
    closed: set[tuple[str, int]] = set()
    for stream_id, event in e.events:
        if isinstance(event, AttemptEnded) and event.outcome == "rejected":
            continue
        run = getattr(event, "run", None)
        if run is None:
            continue
        if run in ended:
            yield run, f"{type(event).__name__} after its end, in event {stream_id}"
        if isinstance(event, RunEnded) or (isinstance(event, RunCreated) and event.state in FINAL_RUN_STATES):
            ended.add(run)
        elif isinstance(event, AttemptEnded | TaskClosed):
            if (run, event.node) in closed:
                yield f"{run}/{event.task}", f"changed after its final state, in event {stream_id}"
            if event.state in FINAL_TASK_STATES:
                closed.add((run, event.node))
    by_server = {run.id: run.state for run in e.server.runs.values() if run.state in FINAL_RUN_STATES}
    for row in e.runs:
        if e.filed and by_server.get(row.id, row.state) != row.state:
            yield row.id, f"is {by_server[row.id]} for the server and {row.state} for history"


def _i7_run_follows_tasks(e: Evidence) -> Iterator[tuple[str, str]]:
    """The state of a run is a function of the states of its tasks."""
    states: dict[str, dict[str, str]] = defaultdict(dict)
    for row in e.task_runs:
        states[row.run][row.task] = row.state
    for run in e.runs:
        plan, tasks = e.plans.get(run.graph), states[run.id]
        if plan is None or not e.filed or run.reason.startswith("lost"):
            continue
        if run.state == "success":
            wrong = [task.name for task in plan.tasks if tasks.get(task.name) != "success"]
            if wrong:
                yield run.id, f"is a success, and these of its tasks are not: {wrong[:5]}"
        elif run.state == "failed" and tasks:
            if not any(state in ("failed", "timed_out", "quarantined") for state in tasks.values()):
                yield run.id, "has failed though none of its tasks has"
            still = [name for name, state in tasks.items() if state not in FINAL_TASK_STATES]
            if still:
                yield run.id, f"has failed, and these of its tasks have not ended: {still[:5]}"


def _i8_the_accepted_value(e: Evidence) -> Iterator[tuple[str, str]]:
    """The value a child reads is the one that was accepted from that parent."""
    accepted = _successes(e)
    said: dict[tuple[str, str], dict[int, str]] = defaultdict(dict)
    for line in e.journal:
        if line.what == "end":
            said[line.run, line.task][line.attempt] = line.nonce
    for line in e.journal:
        if line.what != "start":
            continue
        for parent, nonce in line.inputs.items():
            here, returned = f"{line.run}/{line.task}/{line.attempt}", said[line.run, parent]
            number = accepted.get((line.run, parent))
            if nonce not in returned.values():
                yield here, f"read a value that its parent {parent} never returned"
            elif number is not None and not e.rolled_back and returned.get(number) != nonce:
                yield here, f"read another value of its parent {parent} than the accepted one (attempt {number})"


def _i9_all_ends(e: Evidence) -> Iterator[tuple[str, str]]:
    """After the faults have stopped, all runs end within the bound."""
    if not e.settled:
        return
    for runs in e.server.open.values():
        for run in runs:
            yield run, "is still open"
    ended = {run.id for run in e.runs if run.state in FINAL_RUN_STATES}
    ended |= {run.id for run in e.server.runs.values() if run.state in FINAL_RUN_STATES}
    for run in e.submitted:
        if run not in ended:
            yield run, "has not ended"


def _i10_no_secrets(e: Evidence) -> Iterator[tuple[str, str]]:
    """No secret in logs, events, output, command lines."""
    for name, text in e.texts.items():
        for secret in e.secrets:
            if secret in text:
                yield name, "holds a secret"


def _i11_back_to_baseline(e: Evidence) -> Iterator[tuple[str, str]]:
    """After runs have ended and are archived, keys and memory are what they were."""
    if e.baseline_keys is None:
        return
    for key in e.server.keys - e.baseline_keys:
        if not _permanent(key):
            yield key, "is left over"
    if e.baseline_memory and e.server.memory > e.baseline_memory + MEMORY_SLACK:
        yield "memory", f"{e.server.memory:,} bytes, {e.baseline_memory:,} before"


def _i12_history_is_the_stream(e: Evidence) -> Iterator[tuple[str, str]]:
    """History has every event once: no gap, no double."""
    if not e.filed:
        return
    rows, runs = Counter((each.run, each.event) for each in e.attempts), {run.id: run for run in e.runs}
    for (run, event), count in rows.items():
        if count > 1:
            yield f"{run}, event {event}", f"is filed {count} times"
    seen = set()
    for stream_id, each in e.events:
        if isinstance(each, AttemptEnded):
            seen.add((each.run, stream_id))
            if (each.run, stream_id) not in rows and (each.outcome != "rejected" or each.run in runs):
                yield f"{each.run}, event {stream_id}", "is missing: an attempt that ended"
        elif isinstance(each, RunCreated) and each.run not in runs:
            yield f"{each.run}, event {stream_id}", "is missing: a run that was created"
        elif isinstance(each, RunEnded) and each.run in runs and runs[each.run].state != each.state:
            yield f"{each.run}, event {stream_id}", f"ended {each.state}; history says {runs[each.run].state}"
    if e.events_complete and not e.rolled_back:
        for run, event in rows:
            if (run, event) not in seen:
                yield f"{run}, event {event}", "is filed and was never in the stream"


RULES: dict[str, Callable[[Evidence], Iterator[tuple[str, str]]]] = {
    "I1": _i1_each_tick_once,
    "I2": _i2_nothing_lost,
    "I3": _i3_parents_first,
    "I4": _i4_one_claim_one_outcome,
    "I5": _i5_attempts_and_budgets,
    "I6": _i6_final_is_final,
    "I7": _i7_run_follows_tasks,
    "I8": _i8_the_accepted_value,
    "I9": _i9_all_ends,
    "I10": _i10_no_secrets,
    "I11": _i11_back_to_baseline,
    "I12": _i12_history_is_the_stream,
}


def repeats(evidence: Evidence) -> int:
    """How many bodies ran again although one of the same task had ended well: allowed, and worth a number."""
    ends = Counter((line.run, line.task) for line in evidence.journal if line.what == "end")
    return sum(count - 1 for count in ends.values())


def _accepted(e: Evidence) -> list[HistoryAttempt]:
    return [each for each in e.attempts if each.outcome != "rejected"]


def _successes(e: Evidence) -> dict[tuple[str, str], int]:
    return {(each.run, each.task): each.number for each in _accepted(e) if each.outcome == "success"}


def _permanent(key: str) -> bool:
    if key in ("rq:queues", "rq:workers") or key.startswith(("rq:worker:", "rq:workers:")):
        return True
    _, _, rest = key.partition(":")
    _, _, own = rest.partition(":")
    return key.startswith("tm:") and own.startswith(PERMANENT)
