"""The conversation with the server: results in, next work out, in one call.

The server shall not wait for us: while it is busy with many reports, executors are heard, and what they have reported
is sent behind. So two questions may be open, which are answered in this order. If answers do not arrive, the very same
questions are repeated one by one until they are answered. Meanwhile running tasks go on, and results that wait are
written to the spool.
"""

from __future__ import annotations

import contextlib
import dataclasses
import heapq
import time
from typing import TYPE_CHECKING, Any

from tm import ids
from tm.logs import get_logger
from tm.store.outages import is_refusal
from tm.store.records import UNBEGUN, Ask, Claim, Grant, Verdict
from tm_worker.executors import Action, Ended
from tm_worker.hearing import Hearing
from tm_worker.outage import AWAY, Outage
from tm_worker.questions import Question, next_batch
from tm_worker.refusal import Refused
from tm_worker.spool import Spool
from tm_worker.telling import Versions, log_end
from tm_worker.trickle import Trickle

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from tm.store.records import Report
    from tm.store.store import Store
    from tm_worker.metrics import Tally
    from tm_worker.supervisor import Supervisor
    from tm_worker.worker import TmWorker

log = get_logger("worker")

#: reports that are worth a call by themselves
ENOUGH = 32
#: reports the server takes long enough for to hear executors meanwhile, and seconds for one, of which it needs more
MANY, WHILE = 8, 15e-6
#: seconds after which signals, heartbeats and time-outs get their turn, however much there is to be said
LONGEST_TURN = 0.2
#: seconds between two looks while RQ is suspended, and while a queue of ours is paused
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
        self.hearing = Hearing(store, worker.name, int(lease * 1000))
        self.registered = False
        self.suspended = False
        self.paused: frozenset[str] = frozenset()  #: queues of ours of which nothing is handed out
        self.hungry = True  #: there may be work that we have not been told of
        self.strange = False  #: the last answer held only work of graphs we have not loaded
        self.done = 0  #: attempts delivered
        self.tally: Tally | None = None  #: where somebody watches
        self._store, self._worker, self._supervisor = store, worker, supervisor
        self._queues, self._lease_ms = tuple(queues), int(lease * 1000)
        self._versions = Versions(versions)
        self._home, self._register = home, register
        self._spool: Spool | None = None
        self._open: list[Question] = []  # in the order in which they were asked
        self._actions: list[Action] = []  # what the last answer led to, not carried out yet
        self._answered: tuple[list[Ended], list[Verdict], float] | None = None  # the last answer, not told of yet
        self._prepare: Callable[[], None] = _nothing
        self._hear: Callable[[], None] = _nothing
        self._carry_out: Callable[[list[Action]], None] = _nothing
        self._refused = Refused(self._bury)
        self._bell = ""
        self._rest_until, self._rest = 0.0, FIRST_REST
        self._trickle = Trickle()
        self._hands = 0  # executors there were when the server was asked last
        self._over_at = 0.0  # when the turn has been long enough
        self._look_at: float | None = None  # whether queues are paused still
        self._retries: list[float] = []
        self._server_ahead = 0.0  # ms of the server's clock at 0 of ours
        self._said = "idle"  # the state RQ shows
        self._say_at: float | None = None

    def attach(
        self, prepare: Callable[[], None], hear: Callable[[], None], carry_out: Callable[[list[Action]], None]
    ) -> None:
        """Bring in the loop.

        Args:
            prepare: called before reports are sent that have come in since `turn` was called.
            hear: takes in what executors have reported; called while the server is busy with a call.
            carry_out: does what the supervisor decides.
        """
        self._prepare, self._hear, self._carry_out = prepare, hear, carry_out

    # What the loop wants to know ------------------------------------------------------------------------------------

    @property
    def quiet(self) -> bool:
        """Whether nothing is left to be said."""
        return not self._open and not self._refused and not self._supervisor.ended and not self.hearing.deafened

    @property
    def undelivered(self) -> int:
        """Reports that wait for an answer; may be asked from another thread."""
        return len(self._supervisor.ended) + sum(len(each.batch) for each in self._open.copy())

    @property
    def spooled(self) -> int:
        """Those of them that are on disk; may be asked from another thread."""
        return 0 if self._spool is None else self._spool.size

    def may_sleep(self, now: float) -> bool:
        """Whether all queues were empty when we last looked, and the bell may wake us."""
        resting = self.suspended or self.strange or now < self._rest_until or len(self.paused) == len(self._queues)
        return self.registered and not self.hungry and not resting and self._supervisor.room > 0

    def next_time(self, now: float) -> float | None:
        """When `turn` has something to do by itself."""
        if self.outage.retry_at is not None:
            return self.outage.retry_at
        if self.registered and self._has_something_to_say(now):
            return now  # the last turn was long enough
        times = [self._retries[0]] if self._retries else []
        if now < self._rest_until and self._supervisor.room > 0:
            times.append(self._rest_until)
        times += [at for at in (self._say_at, self._look_at) if at is not None]
        return min(times) if times else None

    def rest(self, now: float) -> float:
        """Seconds in which results may come together: all executors have work anyway, or new work only trickles in."""
        if self._has_something_to_say(now):
            return 0.0
        rest = self._trickle.rest_until - now
        if rest > 0 and (self._supervisor.ended or (self.hungry and self._supervisor.room > 0)):
            return rest
        return self._supervisor.leisure(now)

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

    def handed(self, messages: Sequence[bytes], now: float) -> None:
        """The server has handed these over by itself."""
        self.outage.answered(now)
        self.catch_up()  # claims are carried out in the order in which they came
        claims = self.hearing.claims(messages)
        self._trickle.granted(claims, (), now, more=False)
        self._carry_out(self._given(claims, now, full=False))

    def listens(self, ear: str, now: float) -> None:
        """The loop listens on a new connection; redis.exceptions.* when the server is away."""
        self._ask_for_missed(now)
        self.hearing.listen(ear)
        self.hungry = True  # the next ask tells the server

    def _ask_for_missed(self, now: float) -> None:
        missed = self.hearing.missed({job for job, _ in self.pairs()})
        self._carry_out(self._given(missed, now, full=False))

    def wants_no_more(self, now: float) -> None:
        """The worker is about to end."""
        self._try(self.hearing.no_more, now)

    def hand_back(self, job: str, now: float) -> None:
        """Let another worker have a doorbell that rang for nothing here."""
        self._try(lambda: self._store.hand_back(job), now)

    def told_suspended(self, suspended: bool, now: float) -> None:
        """A heartbeat has seen whether RQ is suspended."""
        if suspended and not self.suspended:
            self._suspend(now)
            self._notice(now)

    def turn(self, now: float) -> None:
        """Say what is to be said now, and have done what the supervisor makes of the answers."""
        if not self.outage.may_try(now):
            self.spool()
            return
        if not self.registered and not self._try(self._introduce, now):
            return
        if self.outage.retry_at is not None and not self._try(self._come_back, now):
            return
        if self._retries and now >= self._retries[0]:
            self._try(lambda: self._promote(now), now)
        if self._look_at is not None and now >= self._look_at:
            self._look_at, self.hungry = None, True
        if self.hearing.deafened and self._supervisor.draining:  # it will not listen any more
            self._try(lambda: self._ask_for_missed(now), now)
        if self._bell and self._supervisor.draining:  # it rang in the very moment in which we were told to end
            bell, self._bell = self._bell, ""
            self.hand_back(bell, now)
        asked, self._over_at = False, now + LONGEST_TURN
        while self._has_something_to_say(now) and self.outage.may_try(now):
            if asked and now >= self._over_at and not self._open:
                self.catch_up()
                break
            if asked and not self._open and self._supervisor.ended:
                self._prepare()
            if not self._ask(now):
                return
            asked, now = True, time.monotonic()
        if self._say_at is not None and now >= self._say_at:
            self._try(self._say_state, now)

    def catch_up(self) -> None:
        """Do what the last answer led to, unless that is done: first the executors get their work."""
        actions, self._actions = self._actions, []
        self._carry_out(actions)
        if self._answered is not None:
            (batch, verdicts, server_ms), self._answered = self._answered, None
            self._tell(batch, verdicts, server_ms)

    # Questions ------------------------------------------------------------------------------------------------------

    def _has_something_to_say(self, now: float) -> bool:
        if self._open or self._refused:
            return True
        return self._has_something_new(now)

    def _has_something_new(self, now: float) -> bool:
        if len(self._supervisor.ended) >= ENOUGH:
            return True
        if self.hearing.ear and self._supervisor.hands < self._hands:
            return True  # or the server would go on handing over what these could have done
        if now < self._trickle.rest_until:
            return False
        if self._supervisor.ended:
            return self._supervisor.leisure(now) == 0.0
        return self._supervisor.room > 0 and now >= self._rest_until and (self.hungry or self.suspended or self.strange)

    def _ask(self, now: float) -> bool:
        """Ask the next question, if none is open, and wait for the first answer. False when the server is away."""
        if not self._open:
            self._open.append(self._question(now))
        question = self._open[0]
        try:
            if question.read is None:
                question.send(self._store)
            self._while_it_works(question)
            verdicts, grant = question.read()  # type: ignore[misc]  # it was sent
        except (*AWAY, TypeError, ValueError, AttributeError) as error:
            if not isinstance(error, AWAY):  # our own: the answer is owed, and would be taken for that to the next
                self._forget_answers()
            self.catch_up()
            if question.batch and is_refusal(error) and self._server_takes_others(question.ask):
                del self._open[0]
                self._sort_out(question, error)
                return True
            if not isinstance(error, AWAY):
                raise
            self._forget_answers()
            self.outage.failed(error, now)
            self.spool()
            return False
        self.catch_up()
        del self._open[0]
        self.outage.over()
        now = time.monotonic()
        self._settle(question.batch, verdicts, now)
        self._actions = self._accept(question.ask, grant, now)
        reported = (ended.claim.run for ended in question.batch if ended.claim is not None)
        self._trickle.granted(grant.claims, reported, now, more=self.hungry)
        if not self._open and (len(self._supervisor.ended) < MANY or not self._has_something_to_say(now)):
            self.catch_up()  # else while the server is busy with those
        return True

    def _while_it_works(self, question: Question) -> None:
        """A question is on its way: do what the last answer led to, and keep the next one ready."""
        self.catch_up()
        if len(question.batch) < MANY or question.ask.again or time.monotonic() >= self._over_at:
            # behind a repetition nothing is asked: the server remembers what it gave for two questions, not for three
            return
        time.sleep(len(question.batch) * WHILE)  # or each report would wake us up
        self._hear()
        if len(self._open) > 1 or self._refused or len(self._supervisor.ended) < MANY:
            return
        now = time.monotonic()
        if not self._has_something_new(now):
            return
        self._prepare()
        behind = self._question(now)
        self._open.append(behind)
        with contextlib.suppress(*AWAY, TypeError, ValueError, AttributeError):  # it comes to light when it is its turn
            behind.send(self._store)

    def _forget_answers(self) -> None:
        """What is owed will not be heard: all that was asked has to be asked again."""
        wire: Any = self._store.client
        wire.forget()
        for each in self._open:
            each.repeat()

    def _question(self, now: float) -> Question:
        supervisor = self._supervisor
        batch = self._refused.next() if self._refused else next_batch(supervisor.ended)
        coming = sum(each.ask.count for each in self._open)
        count = max(0, supervisor.appetite - coming) if now >= self._rest_until else 0
        self._hands = supervisor.hands
        state = "busy" if supervisor.held or self._bell else ""
        ask = Ask(
            worker=self._worker.name,
            lease_ms=self._lease_ms,
            token=ids.new_token(),
            queues=self._queues if count else (),
            count=count,
            bell=self._bell,
            state=state if state != self._said else "",
            ear=self.hearing.ear,
            heard=self.hearing.heard,
        )
        self._bell = ""
        self.hearing.named_by(ask)
        return Question(ask, batch)

    def _server_takes_others(self, ask: Ask) -> bool:
        try:
            self._store.take(dataclasses.replace(ask, token=ids.new_token(), queues=(), count=0, bell="", state=""))
        except AWAY:
            return False
        return True

    def _sort_out(self, question: Question, error: Exception) -> None:
        self._bell = self._bell or question.ask.bell  # nobody has heard of it
        self.done += len(self._refused.sort_out(question.batch, error))

    def _bury(self, report: Report, reason: str) -> None:
        if self._spool is not None:
            self._spool.bury(report, reason)

    def _settle(self, batch: list[Ended], verdicts: list[Verdict], now: float) -> None:
        if not batch:
            return
        server_ms = now * 1000 + self._server_ahead
        for due in self._supervisor.delivered(batch, verdicts, now, server_ms):
            heapq.heappush(self._retries, due)
        self._refused.delivered(batch)
        self._answered = batch, verdicts, server_ms

    def _tell(self, batch: list[Ended], verdicts: list[Verdict], server_ms: float) -> None:
        if self._spool is not None:
            self._spool.forget(ended.report for ended in batch)
        for ended, verdict in zip(batch, verdicts, strict=True):
            log_end(ended, verdict, server_ms)
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
            self.paused = grant.paused
            self._look_at = now + SUSPENDED_PAUSE if grant.paused else None
            self.strange = bool(grant.passed) and not grant.claims
            self.hungry = len(grant.claims) >= ask.count
            if self.strange:
                self._rest_until = now + self._rest
                self._rest = FIRST_REST if grant.passed >= PASSES else min(self._rest * 2, LONGEST_REST)
            else:
                self._rest = FIRST_REST
        return self._given(grant.claims, now, full=0 < ask.count <= len(grant.claims))

    def _given(self, claims: Sequence[Claim], now: float, *, full: bool) -> list[Action]:
        if claims:
            self._server_ahead = claims[-1].claimed_ms - now * 1000
            self._versions.look_at(claims)
        actions = self._supervisor.granted(claims, now, full=full)
        self._notice(now)
        return actions

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
        asked = [ended for each in self._open.copy() for ended in each.batch]
        return asked + self._refused.reports() + self._supervisor.ended.copy()

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


def _nothing(*_: object) -> None:
    """What is done before there is a loop."""
