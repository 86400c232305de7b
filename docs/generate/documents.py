"""The documents of --json by schema: which commands print them, and what is in them."""

from __future__ import annotations

from dataclasses import dataclass, field

from docs.generate.shapes import ACTIONS, OF_A_RUN, VERDICTS, Shape


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """The documents of one schema."""

    printed_by: str  #: commands, as a reader would write them
    item: str | Shape  #: what each of the items is: a shape by name, or one that nothing else has
    beside: dict[str, tuple[str, str]] = field(default_factory=dict)  #: fields beside `schema` and `items`
    lines: bool = False  #: there is no whole document: each line is an item with its schema


def _item(fields: dict[str, tuple[str, str]], **more: object) -> Shape:
    return Shape("", "", fields, **more)  # type: ignore[arg-type]


_WHICH_RUN = {"run": ("text", "Id of the new run."), "retry_of": ("text", "The run it repairs.")}
_CRON = {
    "expression": ("text", "The expression as it was given."),
    "timezone": ("text", "The zone it was read in."),
}
_AT = ("text", "An instant with the offset of the zone.")
_DRY = ("boolean", "Whether this was a dry run, which changes nothing.")

DOCUMENTS: dict[str, Document] = {
    "tm.run/1": Document(printed_by="tm show RUN, tm run, tm trigger, tm wait, tm retry --wait", item="Run"),
    "tm.runs/1": Document(printed_by="tm runs", item="RunInList"),
    "tm.graphs/1": Document(
        printed_by="tm graphs",
        item=_item(
            {
                "name": ("text", "Name of the graph."),
                "schedule": ("text or null", "Its schedule, or `manual`; null for one that only history knows."),
                "timezone": ("text or null", "The zone its schedule is read in."),
                "next_tick": ("instant or null", "Its next tick."),
                "paused": ("Pause or null", "Why it makes no ticks."),
                "file": ("text or null", "Its file, as a scheduler loaded it."),
                "version": ("text or null", "The version that was announced last."),
                "tasks": ("list of text", "Names of its tasks."),
                "total_runs": ("number", "Runs that are known."),
                "last_runs": ("list of RunInList", "Its newest runs, newest first; `--last` says how many."),
            }
        ),
    ),
    "tm.graph/1": Document(
        printed_by="tm show GRAPH",
        item=_item(
            {
                "name": ("text", "Name of the graph."),
                "version": ("text or null", "The version that was announced last."),
                "file": ("text or null", "Its file, as a scheduler loaded it."),
                "schedule": ("text or null", "Its schedule, or `manual`."),
                "timezone": ("text or null", "The zone its schedule is read in."),
                "misfire": ("text or null", "What becomes of missed ticks: `latest`, `all` or `skip`."),
                "misfire_window": ("seconds or null", "Older missed ticks are skipped."),
                "overlap": (
                    "text or null",
                    "What a tick does while a run is open: `allow`, `skip`, `queue`, `cancel_other`.",
                ),
                "max_active_runs": ("number or null", "So many open runs are too many for another tick."),
                "config": ("text or null", "Path of its config file."),
                "next_ticks": ("list of instant", "The ticks to come."),
                "paused": ("Pause or null", "Why it makes no ticks."),
                "why": ("Reason", "What it waits for, as `tm why` says it."),
                "tasks": ("list of TaskOfGraph", "Its tasks in topological order."),
                "last_runs": ("list of RunInList", "Its newest runs, newest first."),
            }
        ),
    ),
    "tm.schedules/1": Document(
        printed_by="tm schedules",
        item=_item(
            {
                "graph": ("text", "Name of the graph."),
                "tick": ("instant", "When it is due."),
                "paused": ("Pause or null", "Why that tick will not be made."),
            }
        ),
    ),
    "tm.logs/1": Document(printed_by="tm logs --json", item="LogLine"),
    "tm.log/1": Document(printed_by="tm logs --jsonl, also with -f", item="LogLine", lines=True),
    "tm.events/1": Document(printed_by="tm events --json", item="Event"),
    "tm.event/1": Document(printed_by="tm events --jsonl, also with -f", item="Event", lines=True),
    "tm.why/1": Document(printed_by="tm why", item="Reason"),
    "tm.plan/1": Document(
        printed_by="tm plan",
        item=_item(
            {
                "graph": ("text", "Name of the graph."),
                "version": ("text", "The version that would run."),
                "file": ("text or null", "Its file."),
                "schedule": ("text", "Its schedule, or `manual`."),
                "timezone": ("text or null", "The zone its schedule is read in."),
                "next_tick": ("instant or null", "Its next tick."),
                "tick_now": ("TickNow", "What would become of a tick that is due now."),
                "open_runs": ("list of text", "Ids of its open runs."),
                "paused_queues": ("list of text", "Queues of its tasks of which nothing is handed out."),
                "params": ("list of Param", "What its roots take."),
                "config": ("Config", "Its config file."),
                "waves": ("list of list of TaskOfPlan", "Tasks that can run side by side, wave after wave."),
            }
        ),
    ),
    "tm.check/1": Document(
        printed_by="tm check",
        item=_item(
            {
                "file": ("text", "The file."),
                "line": ("number or null", "From 1."),
                "column": ("number or null", "From 1."),
                "severity": ("text", "`error` or `warning`."),
                "code": ("text", "What was found; `tm check --codes` lists them."),
                "message": ("text", "The same for people."),
                "hint": ("text or null", "What to do."),
            }
        ),
    ),
    "tm.check.codes/1": Document(
        printed_by="tm check --codes",
        item=_item(
            {
                "code": ("text", "As in `tm.check/1`."),
                "severity": ("text", "`error` or `warning`."),
                "meaning": ("text", "When it is found."),
            }
        ),
    ),
    "tm.queues/1": Document(
        printed_by="tm queues",
        item=_item(
            {
                "name": ("text", "Name of the queue."),
                "waiting": ("number", "Attempts that wait."),
                "doorbells": ("number", "Entries in RQ's list; lost and doubled ones do no harm."),
                "oldest_since": ("instant or null", "Since when the oldest of them waits."),
                "running": ("number", "Attempts that run."),
                "live_workers": ("number", "Workers that take from it."),
                "heartbeat_at": ("instant or null", "When one of them was last heard of; null for never."),
                "suspended": ("boolean", "Whether all workers are suspended (`rq suspend`)."),
                "paused": ("QueuePause or null", "Why nothing of it is handed out."),
            }
        ),
    ),
    "tm.queues.pause/1": Document(
        printed_by="tm queues pause",
        item=_item(
            {
                "queue": ("text", "Name of the queue."),
                "by": ("text", "Who paused it, as user@host."),
                "reason": ("text or null", "Why, in their words."),
                "since": ("instant", "Since when."),
                "until": ("instant or null", "When it ends by itself."),
            }
        ),
    ),
    "tm.queues.resume/1": Document(
        printed_by="tm queues resume",
        item=_item({"queue": ("text", "Name of the queue."), "resumed": ("boolean", "Always true.")}),
    ),
    "tm.queues.purge/1": Document(
        printed_by="tm queues purge",
        item=_item(
            {
                "queue": ("text", "Name of the queue."),
                "attempts": ("number", "Attempts that waited in it."),
                "runs": ("list of text", "Ids of the runs they are of, which are cancelled."),
                "purged": ("boolean", "Whether that was done."),
                "dry_run": _DRY,
            }
        ),
    ),
    "tm.workers/1": Document(
        printed_by="tm workers",
        item=_item(
            {
                "name": ("text", "Name of the worker."),
                "state": ("text", "`idle`, `busy`, `draining`, `suspended`, `silent` or `lost`."),
                "draining_by": ("text or null", "Who had it drained, as user@host."),
                "host": ("text or null", "The host it is on."),
                "pid": ("number or null", "Its process id there."),
                "started_at": ("instant or null", "When it began."),
                "heartbeat_at": ("instant", "When it was last heard of."),
                "executors": ("number or null", "Tasks it runs at the same time."),
                "queues": ("list of text", "What it takes from, in that order."),
                "graphs": ("object", "Version of each graph it has loaded, by name."),
                "tasks": ("list of AtWork", "The attempts it is at."),
            }
        ),
    ),
    "tm.workers.drain/1": Document(
        printed_by="tm workers drain",
        item=_item(
            {
                "worker": ("text", "Name of the worker."),
                "dry_run": _DRY,
                "ended": ("boolean", "Whether it was seen to end in good order; false without `--wait`."),
            }
        ),
    ),
    "tm.workers.stop/1": Document(
        printed_by="tm workers stop",
        item=_item(
            {
                "worker": ("text", "Name of the worker."),
                "dry_run": _DRY,
                "ended": ("boolean", "Whether it was seen to end in good order; false without `--wait`."),
            }
        ),
    ),
    "tm.doctor/1": Document(
        printed_by="tm doctor",
        item=_item(
            {
                "name": ("text", "What was looked at."),
                "verdict": ("text", f"{VERDICTS}."),
                "said": ("text", "What was found, for people."),
                "hint": ("text or null", "What to do."),
            }
        ),
    ),
    "tm.retry/1": Document(
        printed_by="tm retry",
        item=_item(
            _WHICH_RUN
            | {
                "version": ("text", "The version of the graph that runs."),
                "newer": ("boolean", "Whether that is a newer version than the run had."),
                "dry_run": _DRY,
                "runs": ("list of text or null", "Tasks that run again; null with `--all`."),
                "kept": ("list of text", "Tasks whose messages are kept."),
                "left_out": ("list of text", "Tasks that neither run nor are kept, with `--only`."),
            }
        ),
    ),
    "tm.cancel/1": Document(
        printed_by="tm cancel",
        item=_item(
            {
                "run": ("text", "Id of the run."),
                "cancelled": ("boolean", "Whether it was; false for one that had ended before."),
                "dry_run": _DRY,
            }
        ),
    ),
    "tm.mark/1": Document(
        printed_by="tm mark",
        item=_item(
            {
                "run": ("text", "Id of the run."),
                "task": ("text", "The task."),
                "was": ("text", "Its state before."),
                "state": ("text", "`success`, `failed` or `skipped`."),
                "retry": ("boolean", "Whether the run had ended, and `run` is a new one that repairs it."),
            }
        ),
    ),
    "tm.pause/1": Document(printed_by="tm pause", item="Pause"),
    "tm.resume/1": Document(
        printed_by="tm resume",
        item=_item(
            {
                "graph": ("text or null", "The graph; null with `--all`."),
                "resumed": ("number", "Pauses that ended."),
                "catch_up": ("text or null", "What was said about missed ticks; null: as the graph says."),
            }
        ),
    ),
    "tm.backfill/1": Document(
        printed_by="tm backfill",
        item=_item(
            {
                "tick": ("instant", "The tick."),
                "action": ("text", f"What was to do: {ACTIONS}."),
                "run": ("text", "The run of that tick."),
                "started": ("boolean", "Whether it was started now."),
                "state": ("text or null", "How it ended; null for one that was not started."),
                "before": ("LastRun or null", "The run it had before."),
            }
        ),
    ),
    "tm.prune/1": Document(
        printed_by="tm prune",
        item=_item(
            {
                "graph": ("text", "Name of the graph."),
                "runs": ("number", "Runs of it that are old enough."),
                "dropped": ("boolean", "Whether they were dropped; false for a dry run."),
            }
        ),
    ),
    "tm.backup/1": Document(
        printed_by="tm backup",
        item=_item(
            {
                "file": ("text", "The copy."),
                "bytes": ("number", "Its size."),
                "history": ("text", "What it is a copy of."),
            }
        ),
    ),
    "tm.restore/1": Document(
        printed_by="tm restore",
        item=_item(
            {
                "file": ("text", "The backup."),
                "history": ("text", "Where it was put."),
                "runs": ("number", "Runs in it."),
                "former": ("text or null", "Where the former history is now."),
                "dry_run": _DRY,
            }
        ),
    ),
    "tm.config/1": Document(
        printed_by="tm config show",
        item=_item(
            {
                "variable": ("text", "Name of the setting."),
                "value": ("text or null", "Its value here, without what is secret; null where it is not set."),
                "source": ("text", "`command line`, `environment` or `default`."),
            }
        ),
    ),
    "tm.config.path/1": Document(
        printed_by="tm config path",
        item=_item(
            {
                "what": ("text", "`home`, `history`, `socket`, `log` or `server`."),
                "path": ("text", "Where it is: a path, or an address."),
            }
        ),
    ),
    "tm.config.reference/1": Document(
        printed_by="tm config reference",
        item=_item(
            {
                "variable": ("text", "Name of the setting."),
                "allowed": ("text", "What it may be."),
                "default": ("text", "What it is when it is not set."),
                "meaning": ("text", "What it does."),
            }
        ),
    ),
    "tm.help.exit-codes/1": Document(
        printed_by="tm help exit-codes",
        item=_item({"code": ("number", "The exit code."), "meaning": ("text", "What it means.")}),
    ),
    "tm.cron.next/1": Document(printed_by="tm cron next", item=_item({"at": _AT}), beside=_CRON),
    "tm.cron.prev/1": Document(printed_by="tm cron prev", item=_item({"at": _AT}), beside=_CRON),
    "tm.cron.match/1": Document(
        printed_by="tm cron match",
        item=_item({"at": _AT, "matches": ("boolean", "Whether there is a run then.")}),
        beside=_CRON,
    ),
    "tm.cron.explain/1": Document(
        printed_by="tm cron explain",
        item=_item(
            {
                "expression": ("text", "The expression as it was given."),
                "summary": ("text", "When it runs, in English."),
                "notes": ("list of text", "What could surprise."),
                "clock_changes": (
                    "list of text",
                    "Days of the coming year on which the zone's clock changes touch it.",
                ),
            }
        ),
        beside={"timezone": _CRON["timezone"]},
    ),
    "tm.cron.lint/1": Document(
        printed_by="tm cron lint",
        item=_item(
            {
                "file": ("text", "The file; empty for an expression of the command line."),
                "line": ("number", "From 1."),
                "column": ("number", "From 1."),
                "severity": ("text", "`error` or `warning`."),
                "code": ("text", "`error`, or the name of a trap."),
                "message": ("text", "What is wrong."),
                "hint": ("text", "What to do; empty for none."),
                "expression": ("text", "The expression."),
            }
        ),
    ),
    "tm.alert/1": Document(
        printed_by="the leading scheduler, as the body of a webhook",
        lines=True,
        item=_item(
            {
                "id": ("text", "The same whenever the alert is sent again."),
                "type": ("text", "Which alert, see `TM_WEBHOOK_EVENTS`."),
                "at": ("instant", "When it happened."),
                "namespace": ("text", "Of the installation."),
                "graph": ("text", "Name of the graph."),
                "run": ("text", "Id of the run."),
                "state": ("text or null", "State of the run, the task or the callback."),
                "reason": ("text or null", "Of the end of a run, where it has one."),
                "trigger": OF_A_RUN["trigger"],
                "tick": OF_A_RUN["tick"],
                "due": ("instant or null", "Of `deadline.missed`: when the deadline was."),
                "task": ("text or null", "The task, or the one a run failed with."),
                "attempt": ("number", "The attempt."),
                "error": ("object", "Its `type` and `message`."),
                "callback": ("text", "Of `callback.failed`: such as `on_failure`."),
            },
            optional=frozenset({"state", "reason", "trigger", "tick", "due", "task", "attempt", "error", "callback"}),
        ),
    ),
}
