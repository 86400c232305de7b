"""Why a graph makes no run now, and when it will."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from tm.clock import from_ms
from tm.reasons.reason import Known, Reason, is_of_config
from tm.states import RunState
from tm.store.looking import MAX_BACKLOG
from tm.words import Words, quoted, size

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from tm.runinfo import RunInfo
    from tm.store.records import Pause


@dataclass(frozen=True, slots=True, kw_only=True)
class Clockwork:
    """What is known of the ticks of one graph."""

    graph: str
    about: Mapping[str, Any] | None  #: what a scheduler has announced; None: none has
    pause: Pause | None = None  #: the one in force
    next_tick: datetime | None = None  #: in its zone; None: there is none, or no schedule
    held: datetime | None = None  #: the tick that waits for an open run
    open_runs: Sequence[str] = ()  #: oldest first
    recent: Sequence[RunInfo] = ()  #: newest first
    total: int = 0  #: runs in history


def of_graph(clock: Clockwork, known: Known) -> Reason:
    """Why a graph makes no run now; and of its open runs, how many there are."""
    found = _of_clock(clock, known)
    facts: dict[str, Any] = {"graph": clock.graph, "open_runs": list(clock.open_runs), "next_tick": clock.next_tick}
    return replace(found, subject=f"graph `{clock.graph}`", facts=facts | dict(found.facts))


def _of_clock(clock: Clockwork, known: Known) -> Reason:
    words, scene, about = known.words, known.scene, clock.about
    if scene is None:
        return _because("no_server", f"makes no ticks: no server is running here now{_last(clock, words)}")
    if about is None:
        text = f"is known from history only, no scheduler has announced it{_last(clock, words)}"
        return _because("not_announced", text, "start `tm-scheduler` with its file")
    if clock.pause is not None:
        return _paused(clock, clock.pause, words)
    if about.get("schedule") == "manual":
        text = f"has no schedule: it runs when somebody starts it{_going_on(clock)}"
        going = clock.open_runs[0] if clock.open_runs else ""
        return _because("manual", text, f"`tm why {going}`" if going else f"`tm trigger {clock.graph}`")
    leader = scene.leader
    if leader is None or not leader.who or from_ms(leader.until_ms) <= words.now:
        since = f" {words.since(from_ms(leader.until_ms))}" if leader is not None and leader.until_ms else ""
        text = f"makes no ticks: no scheduler leads{since}" if since else "makes no ticks: no scheduler has ever led"
        at = from_ms(leader.until_ms) if leader is not None and leader.until_ms else None
        return _because("no_leader", text, "start `tm-scheduler` with its file", no_leader_since=at)
    if about.get("leader", leader.token) != leader.token:
        text = f"is not on the clock: the leading scheduler, `{leader.who}`, has not loaded it"
        return _because("not_on_leader", text, "give its file to every `tm-scheduler`", leader=leader.who)
    if scene.backlog_bytes > MAX_BACKLOG:
        text = f"makes no ticks: history is {size(scene.backlog_bytes)} behind, and ticks are held until it catches up"
        return _because("history_behind", text, backlog=scene.backlog, backlog_bytes=scene.backlog_bytes)
    if clock.held is not None:
        return _held(clock, clock.held, words)
    if clock.next_tick is None:
        return _because(
            "never_again", f"is never due again: its schedule is {about.get('schedule')!r}{_last(clock, words)}"
        )
    where = f" {clock.next_tick.tzinfo}" if str(clock.next_tick.tzinfo) != str(words.zone) else ""
    local = Words(now=words.now, zone=clock.next_tick.tzinfo)
    text = f"runs next {local.at(clock.next_tick).partition(', ')[0]}{where}, {words.away(clock.next_tick)}"
    going = _going_on(clock)
    return _because("next_tick", f"{text}{going or _last(clock, words)}", "" if going else _mend_config(clock))


def _because(code: str, predicate: str, hint: str = "", **facts: Any) -> Reason:
    return Reason(code=code, subject="", predicate=predicate, hint=hint, facts=facts)


def _paused(clock: Clockwork, pause: Pause, words: Words) -> Reason:
    until = f" until {words.clock(from_ms(pause.until_ms))}" if pause.until_ms is not None else ""
    why = f" ({pause.reason})" if pause.reason else ""
    whole = "" if pause.graph else ", with all graphs,"
    text = f"is paused{whole} by {pause.by} {words.since(from_ms(pause.since_ms))}{until}{why}"
    hint = f"`tm resume {clock.graph}`" if pause.graph else "`tm resume --all`"
    return _because(
        "paused",
        f"{text}{_going_on(clock)}",
        hint,
        by=pause.by,
        reason=pause.reason or None,
        since=from_ms(pause.since_ms),
        until=None if pause.until_ms is None else from_ms(pause.until_ms),
    )


def _held(clock: Clockwork, tick: datetime, words: Words) -> Reason:
    most = max(1, int((clock.about or {}).get("max_active_runs") or 1))
    runs = list(clock.open_runs)
    behind = f"{quoted(runs)} {'is' if len(runs) == 1 else 'are'} open" if runs else "the open run has just ended"
    limit = f", and max_active_runs is {most}" if most > 1 else ""
    text = f'holds its tick of {words.clock(tick)} back, overlap="queue": {behind}{limit}'
    return _because("held", text, f"`tm why {runs[0]}`" if runs else "", tick=tick)


def _going_on(clock: Clockwork) -> str:
    runs = list(clock.open_runs)
    return f"; {quoted(runs)} {'is' if len(runs) == 1 else 'are'} open" if runs else ""


def _last(clock: Clockwork, words: Words) -> str:
    """How its newest run ended, where that is worth knowing."""
    if not clock.recent:
        return "" if clock.total else "; it has never run"
    run = clock.recent[0]
    if run.state is RunState.SKIPPED:
        return f"; its last tick, {words.clock(run.tick or run.created_at)}, was skipped: {run.reason}"
    if run.state is RunState.FAILED and run.started_at is None and run.reason:
        return f"; its last tick, {words.clock(run.tick or run.created_at)}, failed before it began: {run.reason}"
    when = words.at(run.ended_at or run.created_at)
    return f"; its last run, {run.id}, {_ENDED.get(run.state, f'is {run.state}')} {when}"


def _mend_config(clock: Clockwork) -> str:
    """What to do where the newest tick failed since its config could not be read: the next one reads it again."""
    run = clock.recent[0] if clock.recent else None
    if run is None or not is_of_config(run):
        return ""
    return f"mend the config file first; the next tick reads it again, and so does `tm retry {run.id}`"


_ENDED = {
    RunState.SUCCESS: "succeeded",
    RunState.FAILED: "failed",
    RunState.CANCELLED: "was cancelled",
    RunState.TIMED_OUT: "timed out",
}
