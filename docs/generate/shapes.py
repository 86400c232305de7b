"""What the documents of --json are made of: shapes with their fields, each with its type and meaning.

A type is `text`, `number`, `seconds`, `instant`, `boolean`, `null`, `anything`, `object` (names are data, not fields),
the name of a shape, or `list of` one of these; `text or null` may be either. Tests hold real documents against this.
"""

from __future__ import annotations

from dataclasses import dataclass

from tm.backfill import Action
from tm.doctor import Verdict
from tm.forecast import Fate
from tm.loglines import LEVELS, Stream
from tm.states import Outcome, RunState, TaskState, Trigger


@dataclass(frozen=True, slots=True)
class Shape:
    """An object that has a name on the page."""

    name: str
    meaning: str
    fields: dict[str, tuple[str, str]]  #: name -> type and meaning
    optional: frozenset[str] = frozenset()  #: fields that are not always there; the meaning says when they are
    more: str = ""  #: what other fields it may have; empty: none


def _words(kinds: object) -> str:
    return ", ".join(f"`{each}`" for each in kinds)  # type: ignore[attr-defined]


OF_A_RUN = {
    "id": ("text", "The run's id: of graph and tick, or graph and ten letters; a retry ends in `-2`, `-3`..."),
    "graph": ("text", "Name of the graph."),
    "version": ("text", "The version of the graph that runs: a digest of its tasks and edges."),
    "state": ("text", f"{_words(RunState)}."),
    "trigger": ("text", f"Why it was started: {_words(Trigger)}."),
    "tick": ("instant or null", "The tick it stands for; null for a run that no clock made due."),
    "created_at": ("instant or null", "When it was asked for."),
    "started_at": ("instant or null", "When its first attempt began."),
    "ended_at": ("instant or null", "When it ended; null while it is open."),
    "seconds": ("seconds or null", "From start to end; null while it is open."),
    "reason": ("text or null", "Why it ended so, or was skipped."),
    "retry_of": ("text or null", "The run that this one repairs."),
}

SHAPES = {
    each.name: each
    for each in (
        Shape("RunInList", "A run, as lists have it.", OF_A_RUN),
        Shape(
            "Run",
            "A run with all that belongs to it.",
            OF_A_RUN
            | {
                "params": ("object", "Its params by name, as JSON has them."),
                "config": ("text or null", "The text of the config file as it was when the run began."),
                "tasks": ("list of Task", "Its tasks, in the order of the graph."),
                "notices": ("list of Notice", "Who was told of it, and alarms."),
                "result": ("anything", "`tm run` only: the value of the last task; null unless the run succeeded."),
                "edges": (
                    "list of list of text",
                    "`tm show` only: parent and child of each edge, while the plan is known.",
                ),
                "messages": (
                    "object",
                    "`tm show --messages` only: what each task returned; null for one that has none.",
                ),
                "events": ("list of Event", "`tm show --events` only: what happened, in order."),
            },
            optional=frozenset({"result", "edges", "messages", "events"}),
        ),
        Shape(
            "Task",
            "A task of a run.",
            {
                "name": ("text", "Name of the task."),
                "state": ("text", f"{_words(TaskState)}."),
                "reason": ("text or null", "Why it is so: which parent failed, who marked it."),
                "due_at": ("instant or null", "When its retry is due."),
                "attempts": ("list of Attempt", "Its attempts, first to last."),
            },
        ),
        Shape(
            "Attempt",
            "One try at a task.",
            {
                "number": ("number", "1 for the first."),
                "outcome": (
                    "text or null",
                    f"{_words(Outcome)}; null while it runs, or if cancelled as it ran.",
                ),
                "worker": ("text", "Name of the worker; empty where none was involved."),
                "started_at": ("instant or null", "When a worker claimed it."),
                "ended_at": ("instant or null", "When its outcome was accepted."),
                "seconds": ("seconds or null", "From start to end; null while it runs, or if it is not known."),
                "error": ("Error or null", "What went wrong."),
            },
        ),
        Shape(
            "Error",
            "What went wrong in an attempt.",
            {
                "type": ("text", "Name of the exception's class."),
                "message": ("text", "What it says."),
                "traceback": ("text", "The traceback; empty where there is none."),
            },
            more="what the worker could tell of a process that died: signal, exit code, peak memory",
        ),
        Shape(
            "Notice",
            "A callback and what came of it, or an alarm.",
            {
                "kind": ("text", "`callback`, `deadline` or `webhook`."),
                "task": ("text or null", "Whose callback it is; null for those of the whole run."),
                "what": ("text", "Such as `on_failure`."),
                "outcome": ("text", "How it went."),
                "at": ("instant", "When."),
                "message": ("text or null", "What went wrong."),
                "traceback": ("text or null", "The traceback of a callback that raised."),
            },
        ),
        Shape(
            "Pause",
            "Why a graph makes no ticks.",
            {
                "graph": ("text or null", "The graph; null where all are paused."),
                "by": ("text", "Who paused it, as user@host."),
                "reason": ("text or null", "Why, in their words."),
                "since": ("instant", "Since when."),
                "until": ("instant or null", "When it ends by itself."),
            },
        ),
        Shape(
            "QueuePause",
            "Why nothing of a queue is handed out.",
            {
                "by": ("text", "Who paused it, as user@host."),
                "reason": ("text or null", "Why, in their words."),
                "since": ("instant", "Since when."),
                "until": ("instant or null", "When it ends by itself."),
            },
        ),
        Shape(
            "Reason",
            "Why something is as it is.",
            {
                "code": ("text", "For programs: `blocked`, `retrying`, `no_worker`, `paused`..."),
                "sentence": ("text", "For people; its words may change."),
                "hint": ("text or null", "What to do next."),
                "facts": ("object", "What the sentence is made of; differs by `code`."),
            },
        ),
        Shape(
            "Event",
            "One change.",
            {
                "id": ("text", "To go on after it: `tm events --from ID`."),
                "at": ("instant", "When."),
                "what": (
                    "text",
                    (
                        "`run_created`, `run_ended`, `tick_skipped`, `attempt_ended`, `task_closed`, `task_marked`, "
                        "`tasks_kept`, `callback_ended`, `deadline_missed`, `webhook_ended`."
                    ),
                ),
                "run": ("text", "Id of the run."),
                "graph": ("text or null", "Its graph, where it is known."),
                "task": ("text or null", "The task, if it is of one."),
                "attempt": ("number or null", "The attempt, if it is of one."),
                "outcome": ("text or null", "How the attempt ended."),
                "state": ("text or null", "State of the run or the task from then on."),
                "worker": ("text or null", "Who made the attempt."),
                "seconds": ("seconds or null", "How long the attempt took."),
                "detail": ("text or null", "Reason, error, or who."),
            },
        ),
        Shape(
            "LogLine",
            "A line that an attempt printed or logged.",
            {
                "run": ("text", "Id of the run."),
                "task": ("text", "The task."),
                "attempt": ("number", "Number of the attempt."),
                "at": ("instant", "When, to the microsecond."),
                "stream": ("text", f"{_words(Stream)}; `tm` is what its worker has to say."),
                "level": ("text", f"{_words(LEVELS)}."),
                "logger": ("text or null", "Name of the logger, for lines of `logging`."),
                "text": ("text", "The line, without its end."),
            },
        ),
        Shape(
            "TaskOfGraph",
            "A task as the graph defines it.",
            {
                "name": ("text", "Name of the task."),
                "queue": ("text", "Where its attempts wait for a worker."),
                "timeout": ("seconds or null", "That one attempt may take."),
                "retries": ("number", "Attempts after the first."),
                "retry_delay": ("seconds", "Before the first retry."),
                "backoff": ("number", "Growth of the delay: retry n waits `retry_delay * (1 + backoff) ** n`."),
                "max_retry_delay": ("seconds or null", "No delay grows past this."),
                "jitter": ("number", "Up to this fraction of the delay is added at random."),
                "parents": ("list of text", "Names of the tasks it waits for."),
            },
        ),
        Shape(
            "TaskOfPlan",
            "A task as it would run now.",
            {
                "task": ("text", "Name of the task."),
                "queue": ("text", "Where it would wait for a worker."),
                "workers": ("number or null", "Live workers of that queue; null without a server."),
                "parents": ("list of text", "Names of the tasks it waits for."),
                "timeout": ("seconds or null", "That one attempt may take."),
                "retries": ("number", "Attempts after the first."),
                "retry_delays": ("list of seconds", "Before each retry, without jitter."),
            },
        ),
        Shape(
            "Param",
            "A parameter of a root.",
            {
                "task": ("text", "The root that takes it."),
                "name": ("text", "Name of the parameter."),
                "required": ("boolean", "Whether it has no default."),
                "annotation": ("text", "Its annotation; empty without one."),
                "default": ("text", "Its default as Python shows it; empty without one."),
            },
        ),
        Shape(
            "TickNow",
            "What would become of a tick that is due now.",
            {
                "fate": ("text", f"{_words(Fate)}."),
                "because": ("text or null", "Why."),
            },
        ),
        Shape(
            "Config",
            "The config file as it is now.",
            {
                "path": ("text or null", "Where it is; null for a graph without one."),
                "text": ("text or null", "What it says."),
                "error": ("text or null", "Why it cannot be read."),
            },
        ),
        Shape(
            "AtWork",
            "An attempt that a worker is at.",
            {
                "run": ("text", "Id of the run."),
                "graph": ("text", "Its graph."),
                "task": ("text", "The task."),
                "attempt": ("number", "Number of the attempt."),
                "since": ("instant", "When it was claimed."),
            },
        ),
        Shape(
            "LastRun",
            "The last run that a tick had.",
            {
                "run": ("text", "Its id."),
                "state": ("text or null", "Its state."),
            },
        ),
    )
}

ACTIONS, VERDICTS = _words(Action), _words(Verdict)
