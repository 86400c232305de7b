"""The conversation with the server: results in, next work out, in one call.

One question is open at a time. If its answer does not arrive nobody knows whether it was heard, so the very same
question is repeated until it is answered; the server tells a repetition by its token. Meanwhile running tasks go on,
and results that wait are written to the spool.
"""

from __future__ import annotations

import dataclasses
import heapq
import re
import time
from typing import TYPE_CHECKING, Any

from tm import codec, ids
from tm.logs import get_logger
from tm.states import Outcome
from tm.store.outages import is_refusal
from tm.store.records import UNBEGUN, Ask, Claim, Grant, Verdict, VerdictKind
from tm_worker.executors import Action, Ended
from tm_worker.outage import AWAY, Outage
from tm_worker.refusal import Refused
from tm_worker.spool import Spool

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from tm.store.records import Report
    from tm.store.store import Store
    from tm_worker.metrics import Tally
    from tm_worker.supervisor import Supervisor
    from tm_worker.worker import TmWorker

log = get_logger("worker")

#: reports in one call: the server is not to be busy for more than a few ms
BATCH = 64
#: bytes of their values; a single one may have more
BATCH_BYTES = 8 << 20
#: reports that are worth a call by themselves
ENOUGH = 32
#: seconds between two looks while RQ is suspended
SUSPENDED_PAUSE = 1.0
#: seconds to rest after there was only work of graphs we have not loaded
FIRST_REST, LONGEST_REST = 0.1, 1.0
#: so many attempts of other graphs the server passes over in one call; there may be work for us behind them
PASSES = 16
#: seconds a state shown by RQ may be behind; changes that go with the next call cost nothing
STATE_DELAY = 0.1


class Exchange:
    """Talks to the server on behalf of a supervisor.

    Args:
        queues: to take work from, in strict order.
        versions: of the graphs as we have loaded them, by name.
        home: where the spool is.
        where: the server, for the log.
        register: makes this worker known; called again after each outage, for the server may have lost it.
    """

    def __init__(
        self,
        store: Store,
        worker: TmWorker,
        supervisor: Supervisor,
        *,
        queues: Sequence[str],
        versions: Mapping[str, str],
        lease: float,
        home: Path,
        where: str,
        register: Callable[[], None],
    ) -> None:
        self.outage = Outage(where)
        self.registered = False
        self.suspended = False
        self.hungry = True  #: there may be work that we have not been told of
        self.strange = False  #: the last answer held only work of graphs we have not loaded
        self.done = 0  #: attempts delivered
        self.tally: Tally | None = None  #: where somebody watches
        self._store, self._worker, self._supervisor = store, worker, supervisor
        self._queues, self._lease_ms = tuple(queues), int(lease * 1000)
        self._versions, self._warned = versions, set[tuple[str, str]]()
        self._home, self._register = home, register
        self._spool: Spool | None = None
        self._open: tuple[Ask, list[Ended]] | None = None
        self._refused = Refused(self._bury)
        self._bell = ""
        self._rest_until, self._rest = 0.0, FIRST_REST
        self._retries: list[float] = []
        self._server_ahead = 0.0  # ms of the server's clock at 0 of ours
        self._said = "idle"  # the state RQ shows
        self._say_at: float | None = None

    # What the loop wants to know ------------------------------------------------------------------------------------

    @property
    def quiet(self) -> bool:
        """Whether nothing is left to be said."""
        return self._open is None and not self._refused and not self._supervisor.ended

    @property
    def undelivered(self) -> int:
        """Reports that wait for an answer; may be asked from another thread."""
        asked = self._open
        return len(self._supervisor.ended) + (len(asked[1]) if asked else 0)

    @property
    def spooled(self) -> int:
        """Those of them that are on disk; may be asked from another thread."""
        return 0 if self._spool is None else self._spool.size

    def may_sleep(self, now: float) -> bool:
        """Whether all queues were empty when we last looked, and the bell may wake us."""
        resting = self.suspended or self.strange or now < self._rest_until
        return self.registered and not self.hungry and not resting and self._supervisor.room > 0

    def next_time(self, now: float) -> float | None:
        """When `turn` has something to do by itself."""
        if self.outage.retry_at is not None:
            return self.outage.retry_at
        times = [self._retries[0]] if self._retries else []
        if now < self._rest_until and self._supervisor.room > 0:
            times.append(self._rest_until)
        if self._say_at is not None:
            times.append(self._say_at)
        return min(times) if times else None

    def rest(self, now: float) -> float:
        """Seconds in which results may come together, for all executors have work anyway."""
        return 0.0 if self._has_something_to_say(now) else self._supervisor.leisure(now)

    def pairs(self) -> list[tuple[str, str]]:
        """Job and token of all that is ours, for heartbeats; may be called from another thread."""
        waiting = self._undelivered()
        running = self._supervisor.held.copy().values()
        return [(held.claim.job, held.claim.token) for held in running] + [
            (ended.report.job, ended.report.token) for ended in waiting
        ]

    # Events ---------------------------------------------------------------------------------------------------------

    def rung(self, job: str, now: float) -> None:
        """The doorbell rang for this job."""
        self.outage.answered(now)
        if self._supervisor.room == 0 or self._bell:
            self.hand_back(job, now)
        else:
            self._bell, self.hungry = job, True

    def hand_back(self, job: str, now: float) -> None:
        """Let another worker have a doorbell that rang for nothing here."""
        self._try(lambda: self._store.hand_back(job), now)

    def told_suspended(self, suspended: bool, now: float) -> None:
        """A heartbeat has seen whether RQ is suspended."""
        if suspended and not self.suspended:
            self._suspend(now)
            self._notice(now)

    def turn(self, now: float) -> list[Action]:
        """Say what is to be said now. Returns what the supervisor makes of the answers."""
        if not self.outage.may_try(now):
            self.spool()
            return []
        if not self.registered and not self._try(self._introduce, now):
            return []
        if self.outage.retry_at is not None and not self._try(self._come_back, now):
            return []
        if self._retries and now >= self._retries[0]:
            self._try(lambda: self._promote(now), now)
        actions: list[Action] = []
        while self._has_something_to_say(now) and self.outage.may_try(now):
            answered = self._ask(now)
            if answered is None:
                return actions
            actions += answered
            now = time.monotonic()
        if self._say_at is not None and now >= self._say_at:
            self._try(self._say_state, now)
        return actions

    # One question ---------------------------------------------------------------------------------------------------

    def _has_something_to_say(self, now: float) -> bool:
        if self._open is not None or self._refused:
            return True
        if ended := len(self._supervisor.ended):
            return ended >= ENOUGH or self._supervisor.leisure(now) == 0.0
        return self._supervisor.room > 0 and now >= self._rest_until and (self.hungry or self.suspended or self.strange)

    def _ask(self, now: float) -> list[Action] | None:
        if self._open is None:
            self._open = self._question(now)
        ask, batch = self._open
        try:
            if batch:
                verdicts, grant = self._store.finish(ask, [ended.report for ended in batch])
            else:
                verdicts, grant = [], self._store.take(ask)
        except (*AWAY, TypeError, ValueError, AttributeError) as error:
            if batch and is_refusal(error) and self._server_takes_others(ask):
                return self._sort_out(ask, batch, error)
            if not isinstance(error, AWAY):
                raise
            self._open = (dataclasses.replace(ask, again=True), batch)
            self.outage.failed(error, now)
            self.spool()
            return None
        self._open = None
        self.outage.over()
        now = time.monotonic()
        self._settle(batch, verdicts, now)
        return self._accept(ask, grant, now)

    def _question(self, now: float) -> tuple[Ask, list[Ended]]:
        supervisor = self._supervisor
        batch = self._refused.next() if self._refused else self._batch()
        count = supervisor.appetite if now >= self._rest_until else 0
        state = "busy" if supervisor.held or self._bell else ""
        ask = Ask(
            worker=self._worker.name,
            lease_ms=self._lease_ms,
            token=ids.new_token(),
            queues=self._queues if count else (),
            count=count,
            bell=self._bell,
            state=state if state != self._said else "",
        )
        self._bell = ""
        return ask, batch

    def _batch(self) -> list[Ended]:
        ended = self._supervisor.ended
        count = size = 0
        for each in ended[:BATCH]:
            size += len(each.report.value)
            if count and size > BATCH_BYTES:
                break
            count += 1
        batch, ended[:] = ended[:count], ended[count:]
        return batch

    def _server_takes_others(self, ask: Ask) -> bool:
        try:
            self._store.take(dataclasses.replace(ask, token=ids.new_token(), queues=(), count=0, bell="", state=""))
        except AWAY:
            return False
        return True

    def _sort_out(self, ask: Ask, batch: list[Ended], error: Exception) -> list[Action]:
        self._open = None
        self._bell = self._bell or ask.bell  # nobody has heard of it
        self.done += len(self._refused.sort_out(batch, error))
        return []

    def _bury(self, report: Report, reason: str) -> None:
        if self._spool is not None:
            self._spool.bury(report, reason)

    def _settle(self, batch: list[Ended], verdicts: list[Verdict], now: float) -> None:
        if not batch:
            return
        server_ms = now * 1000 + self._server_ahead
        for due in self._supervisor.delivered(batch, verdicts, now, server_ms):
            heapq.heappush(self._retries, due)
        for ended, verdict in zip(batch, verdicts, strict=True):
            _log_end(ended, verdict, server_ms)
        self._refused.delivered(batch)
        if self._spool is not None:
            self._spool.forget(ended.report for ended in batch)
        self.done += sum(ended.report.ms != UNBEGUN for ended in batch)
        if self.tally is not None:
            self.tally.settled(batch, verdicts)

    def _accept(self, ask: Ask, grant: Grant, now: float) -> list[Action]:
        if ask.state and not ask.again and not grant.suspended:
            self._said = ask.state
            self._worker.noted(ask.state)
        if grant.suspended:
            self._suspend(now)
        elif ask.count:
            if self.suspended:
                log.info("resumed")
            self.suspended = False
            self.strange = bool(grant.passed) and not grant.claims
            self.hungry = len(grant.claims) >= ask.count
            if self.strange:
                self._rest_until = now + self._rest
                self._rest = FIRST_REST if grant.passed >= PASSES else min(self._rest * 2, LONGEST_REST)
            else:
                self._rest = FIRST_REST
        if grant.claims:
            self._server_ahead = grant.claims[-1].claimed_ms - now * 1000
            for claim in grant.claims:
                if claim.version != self._versions.get(claim.graph):
                    self._warn_of_version(claim)
        full = 0 < ask.count <= len(grant.claims)
        actions = self._supervisor.granted(grant.claims, now, full=full)
        self._notice(now)
        return actions

    def _warn_of_version(self, claim: Claim) -> None:
        if (claim.graph, claim.version) not in self._warned:
            self._warned.add((claim.graph, claim.version))
            log.warning(
                "a run was planned by another version of its file; the tasks as loaded here are used",
                graph=claim.graph,
                run=claim.run,
                planned=claim.version,
                loaded=self._versions.get(claim.graph, "none"),
            )

    def _suspend(self, now: float) -> None:
        if not self.suspended:
            log.info("suspended, run `rq resume` to go on")
        self.suspended = True
        self._rest_until = now + SUSPENDED_PAUSE

    # Beside it ------------------------------------------------------------------------------------------------------

    def _try(self, call: Callable[[], Any], now: float) -> bool:
        try:
            call()
        except AWAY as error:
            self.outage.failed(error, now)
            return False
        return True

    def _introduce(self) -> None:
        self._register()
        self._server_ahead = self._store.server_ms() - time.monotonic() * 1000
        self._spool = Spool(self._home, self._store.instance())
        left = self._spool.left_behind()
        if left:
            log.info("delivering results an earlier worker left behind", results=len(left))
        self._supervisor.ended[:0] = [Ended(report, None, None) for report in left]
        self.registered = True
        self.outage.over()

    def _come_back(self) -> None:
        self._register()  # the server may have lost it
        self.outage.over()
        self.hungry = True

    def spool(self) -> None:
        """Write down what is not delivered."""
        if self._spool is not None:
            self._spool.keep(ended.report for ended in self._undelivered())

    def _undelivered(self) -> list[Ended]:
        return (self._open[1] if self._open else []) + self._refused.reports() + self._supervisor.ended.copy()

    def _promote(self, now: float) -> None:
        moved, wait_ms = self._store.promote()
        while self._retries and self._retries[0] <= now:
            heapq.heappop(self._retries)
        if moved:
            self.hungry = True
        elif wait_ms is not None and wait_ms < 100:  # our idea of the server's clock was a little ahead
            heapq.heappush(self._retries, time.monotonic() + (wait_ms + 1) / 1000)

    def _state(self) -> str:
        return "busy" if self._supervisor.held else "suspended" if self.suspended else "idle"

    def _notice(self, now: float) -> None:
        """Have RQ show another state soon, unless the next call carries it before or it changes back."""
        if self._state() == self._said:
            self._say_at = None
        elif self._say_at is None:
            self._say_at = now + STATE_DELAY

    def _say_state(self) -> None:
        self._say_at = None
        state = self._state()
        if state != self._said:
            self._worker.set_state(state)
            self._said = state


_WORDS = {
    Outcome.FAILED: "attempt failed",
    Outcome.TIMED_OUT: "attempt timed out",
    Outcome.KILLED: "attempt killed",
    Outcome.LOST: "attempt given back",
}


def _log_end(ended: Ended, verdict: Verdict, server_ms: float) -> None:
    report, claim = ended.report, ended.claim
    about = {"job": report.job} if claim is None else {"run": claim.run, "task": claim.task, "attempt": claim.attempt}
    if verdict.kind is VerdictKind.REJECTED:
        log.warning("result came too late, the attempt was no longer ours", **about)
    elif report.outcome is Outcome.SUCCESS:
        log.debug("attempt succeeded", **about, ms=report.ms)
    elif report.outcome is Outcome.SKIPPED:
        log.info("attempt skipped", **about, **_in_short(report.error))
    elif report.ms == UNBEGUN:
        log.debug("attempt given back before it began", **about)
    else:
        more = {} if verdict.due_ms is None else {"retry_in": f"{max(0.0, verdict.due_ms - server_ms) / 1000:.3g}s"}
        log.warning(_WORDS[report.outcome], **about, **_in_short(report.error), ms=report.ms, **more)


def _in_short(error: bytes) -> dict[str, str]:
    """Type, message and place of an error, for the log; the whole of it is in the history."""
    try:
        fields = codec.decode(error)
        places = re.findall(r'^  File "(.+)", line (\d+)', fields["traceback"], re.MULTILINE)
        place = {"at": f"{places[-1][0]}:{places[-1][1]}"} if places else {}
        return {"error": f"{fields['type']}: {fields['message'][:500]}", **place}
    except Exception:  # noqa: BLE001 - a log line is not worth dying for
        return {}
