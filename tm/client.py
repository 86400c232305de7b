"""Start, watch, cancel and inspect runs: what applications, the command line and the web page call."""

from __future__ import annotations

from itertools import repeat
from typing import TYPE_CHECKING, Any

from tm import codec
from tm.errors import NotFoundError, RefusedError, RunFailedError, SpillError, UnavailableError
from tm.ids import manual_run_id, manual_run_ids
from tm.states import RunState
from tm.store.records import NewRun
from tm.waiting import Waiting, reaching

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from tm.graph import Graph
    from tm.logbook import Entry
    from tm.lookup import Lookup
    from tm.runinfo import RunInfo
    from tm.store.line import Line, Seen
    from tm.store.store import Store


class Client:
    """One server, seen from outside.

    All methods may be called again after an error; only `submit` then starts another run. Errors of the connection
    arrive as UnavailableError.

    Args:
        store: of the server.
        lookup: reads what the server has forgotten too; by default only the server is asked.
        where: the server, redacted, for error messages.
    """

    def __init__(self, store: Store, lookup: Lookup | None = None, *, where: str = "the configured address") -> None:
        from tm.lookup import Lookup

        self.store = store
        self.lookup = lookup or Lookup(store, where=where)
        self.where = where
        self._spare_lines: list[Line] = []

    def submit(self, graph: Graph, params: dict[str, Any] | None = None, *, tick: datetime | None = None) -> RunHandle:
        """Start a run; see `submit_many`. One for a tick (an aware datetime) has the id of that tick's run.

        Raises:
            RefusedError: that tick has its run.
        """
        params = params or {}
        if tick is not None:
            return self._submit_tick(graph, params, tick)
        graph.bind(params)
        run = _new_run(manual_run_id(graph.name), params, graph.read_config())
        with reaching(self.where):
            self.store.start_one(graph.plan, run)
        return RunHandle(self, run.id)

    def _submit_tick(self, graph: Graph, params: dict[str, Any], tick: datetime) -> RunHandle:
        from tm.clock import to_ms
        from tm.ids import tick_run_id
        from tm.states import Trigger
        from tm.store.records import TriggerAnswer

        graph.bind(params)
        run = _new_run(tick_run_id(graph.name, tick), params, graph.read_config())
        try:
            state = self.state(run.id)
        except NotFoundError:
            with reaching(self.where):
                self.store.define(graph.plan)
                answer = self.store.trigger(graph.plan.version, run, Trigger.MANUAL, tick_ms=to_ms(tick), force=True)
            if answer is TriggerAnswer.CREATED:
                return RunHandle(self, run.id)
            state = self.state(run.id)
        raise RefusedError(
            f"the run of this tick is {run.id} ({state}); `tm retry {run.id}` repairs it, with --all it runs as a whole"
        )

    def submit_many(self, graph: Graph, params: Sequence[dict[str, Any]]) -> list[RunHandle]:
        """Start one run for each set of params, without waiting for each; handles come in the same order.

        Nothing is started unless all params are good. The config file is read once, for all of them.

        Raises:
            TypeError: a root lacks a required parameter, or no root knows a given one.
            CodecError: a param cannot become a message; names it.
            ConfigError: the graph's config file is missing or broken.
            UnavailableError: the server cannot be reached; some of the runs may have been started.
        """
        for each in params:
            graph.bind(each)
        config = graph.read_config()
        messages = [_message_of(each) for each in params]
        names = manual_run_ids(graph.name, len(params))
        with reaching(self.where):
            self.store.start(graph.plan, map(NewRun, names, messages, repeat(config or "")))
        return [RunHandle(self, run) for run in names]

    def handle(self, run: str) -> RunHandle:
        """A handle for a run that somebody else has started."""
        return RunHandle(self, run)

    def run(self, run: str) -> RunInfo:
        """All that is known of a run, by id, unique prefix, `GRAPH@last`, `GRAPH@failed` or `GRAPH@TICK`.

        Raises:
            NotFoundError: there is none, or several begin so.
        """
        return self.lookup.run(run)

    def state(self, run: str) -> RunState:
        """The state of a run now, by its whole id.

        Raises:
            NotFoundError: neither the server nor the history knows it.
        """
        with reaching(self.where):
            state = self.store.state(run)
        return self.lookup.forgotten(run).state if state is None else state

    def cancel(self, run: str, reason: str = "cancelled by hand", *, grace: float | None = None) -> bool:
        """End an open run: what is queued is dropped, what is running is stopped. False if it had ended before.

        With `grace`, in seconds, running tasks get so long to tidy up, in place of their worker's `TM_GRACE`.
        """
        with reaching(self.where):
            return self.store.cancel(run, reason=reason, grace=grace)

    def logs(
        self, run: str, *, task: str | None = None, attempt: int | None = None, follow: bool = False
    ) -> Iterator[Entry]:
        """What the attempts of a run printed and logged, by time: of all, of one task, of one attempt.

        With `follow` also what comes, as it comes, until all of that has ended; a server that is away for less than a
        minute is waited for. No line comes twice, and where some are lost a line says so.

        Raises:
            NotFoundError: there is no such run.
            UnavailableError: neither server nor history can be reached.
        """
        from tm.logbook import Logbook, Wanted

        book, wanted = Logbook(self.lookup), Wanted(task=task, attempt=attempt)
        found = self.run(run)
        if not follow:
            yield from book.read(found, wanted).entries
            return
        for batch in book.follow(found, wanted):
            yield from batch

    def open_runs(self, graph: str | None = None) -> list[str]:
        """Ids of open runs, oldest first within a graph."""
        with reaching(self.where):
            return self.store.open_runs(graph)

    def open_count(self, graph: str) -> int:
        """How many runs of a graph are open."""
        with reaching(self.where):
            return self.store.open_count(graph)

    def wait(self, runs: Sequence[str], timeout: float | None = None) -> Iterator[tuple[str, RunState]]:
        """Each run with its final state when it ends, in the order they end, through one connection.

        Raises:
            TimeoutError: not all of them ended within `timeout` seconds.
            NotFoundError: neither the server nor the history knows one of them.
            UnavailableError: the server cannot be reached, or was away for more than a minute.
        """
        waiting = self._waiting(timeout)
        try:
            for seen in waiting.ended(runs):
                yield seen.run, self._state_of(seen)
        finally:
            waiting.close()

    def wait_all(self, runs: Sequence[str], timeout: float | None = None) -> list[RunState]:
        """The final states of all runs, in the same order, when the last has ended; the cheapest way to wait for many.

        Raises as `wait` does.
        """
        waiting = self._waiting(timeout)
        states: dict[str, RunState] = {}
        try:
            for lot in waiting.all_ended(runs, results=False):
                states.update((seen.run, self._state_of(seen)) for seen in lot)
        finally:
            waiting.close()
        return [states[run] for run in runs]

    def results(
        self, runs: Sequence[str], timeout: float | None = None, *, return_exceptions: bool = False
    ) -> list[Any]:
        """The values of the last tasks of all runs, in the same order, when the last has ended.

        A few round trips for 500 runs. One that failed ends the waiting, though not before those that stand well before
        it in the order; with `return_exceptions` its error stands in its place, and nothing else of this is raised.

        Raises:
            RunFailedError: one of them did not succeed: the first in the order of those that are known by then.
            NotFoundError: neither the server nor the history knows one, or its value is forgotten (`TM_RESULT_TTL`).
            SpillError: a large value cannot be read from where large values are.
            TimeoutError: not all of them ended within `timeout` seconds. Raised in any case, as is the next.
            UnavailableError: the server cannot be reached, or was away for more than a minute.
        """
        waiting = self._waiting(timeout)
        found: dict[str, Any] = {}
        try:
            for lot in waiting.all_ended(runs, results=True):
                for seen in lot:
                    try:
                        found[seen.run] = self._value_of(seen)
                    except (RunFailedError, NotFoundError, SpillError) as error:
                        if not return_exceptions:
                            raise
                        found[seen.run] = error
        finally:
            waiting.close()
        return [found[run] for run in runs]

    def _waiting(self, timeout: float | None) -> Waiting:
        return Waiting(self.store, self.where, self._forgotten_state, self._spare_lines, timeout)

    def _forgotten_state(self, run: str) -> RunState | None:
        try:
            return self.lookup.forgotten(run).state
        except NotFoundError:
            return None

    def _state_of(self, seen: Seen) -> RunState:
        return self.lookup.forgotten(seen.run).state if seen.state is None else seen.state

    def watch(self, run: str, *, every: float = 0.1) -> Iterator[RunInfo]:
        """A run as it is, again and again, about every so many seconds, until it has ended; for live views.

        The last one is of the run that has ended. A server that is away for less than a minute is waited for.

        Raises:
            NotFoundError: the server does not know the run.
            UnavailableError: the server was away for more than a minute.
        """
        import time

        from tm.waiting import PATIENCE

        reached = time.monotonic()
        while True:
            try:
                info = self.lookup.current(run)
                reached = time.monotonic()
                yield info
                if not info.is_open:
                    return
            except UnavailableError:
                if time.monotonic() - reached > PATIENCE:
                    raise
            time.sleep(every)

    def result(self, run: str) -> Any:
        """The value of the last task of a run that has succeeded.

        Raises:
            RunFailedError: it ended otherwise, or is open; names the task, the error's type and its message.
            NotFoundError: the server has forgotten the value (`TM_RESULT_TTL`).
        """
        with reaching(self.where):
            seen = self.store.look(run)
        return self._value_of(seen)

    def _value_of(self, seen: Seen) -> Any:
        if (state := self._state_of(seen)) is not RunState.SUCCESS:
            raise RunFailedError(seen.run, state.value, self.lookup.why(seen.run))
        if seen.result is None:
            raise NotFoundError(
                f"run {seen.run} ended in success, but its result is no longer kept; the server holds results for "
                "TM_RESULT_TTL seconds after a run has ended"
            )
        return codec.decode(self.store.whole(seen.result))


def _new_run(run: str, params: dict[str, Any], config: str | None) -> NewRun:
    return NewRun(run, _message_of(params), config or "")


def _message_of(params: dict[str, Any]) -> bytes:
    return codec.encode(params, where="params") if params else b""


class RunHandle:
    """A run that was started: ask for its state, wait for it, get its result."""

    id: str  #: of the run, as commands take it

    def __init__(self, client: Client, run: str) -> None:
        self.id = run
        self.client = client

    def __repr__(self) -> str:
        return f"<run {self.id}>"

    @property
    def state(self) -> RunState:
        """The state now; asks the server each time.

        Raises:
            NotFoundError: neither the server nor the history knows the run.
            UnavailableError: the server cannot be reached.
        """
        return self.client.state(self.id)

    def wait(self, timeout: float | None = None) -> RunState:
        """Wait until the run has ended and return its final state; does not raise when the run failed.

        Args:
            timeout: seconds to wait; without end when it is None.

        Raises:
            TimeoutError: it is still open after `timeout` seconds.
            UnavailableError: the server was away for more than a minute; shorter outages are waited out.
        """
        return wait_all([self], timeout)[0]

    def result(self, timeout: float | None = None) -> Any:
        """Wait, then return the value of the last task.

        Args:
            timeout: seconds to wait; without end when it is None.

        Raises:
            RunFailedError: the run did not succeed; names the task, the error's type and its message.
            TimeoutError: it is still open after `timeout` seconds.
            NotFoundError: the server has forgotten the value (`TM_RESULT_TTL`).
            UnavailableError: the server was away for more than a minute; shorter outages are waited out.
        """
        return self.client.results([self.id], timeout)[0]

    def cancel(self) -> bool:
        """End the run; False if it had ended before."""
        return self.client.cancel(self.id)


def wait_all(handles: Sequence[RunHandle], timeout: float | None = None) -> list[RunState]:
    """Wait until all runs have ended; final states in the order of the handles. One connection for each client.

    Raises:
        TimeoutError: not all of them ended within `timeout` seconds.
        UnavailableError: the server was away for more than a minute; shorter outages are waited out.
    """
    states: dict[str, RunState] = {}
    for client, runs, rest in _by_client(handles, timeout):
        states.update(zip(runs, client.wait_all(runs, rest), strict=True))
    return [states[handle.id] for handle in handles]


def results(
    handles: Sequence[RunHandle], timeout: float | None = None, *, return_exceptions: bool = False
) -> list[Any]:
    """Wait until all runs have ended; the values of their last tasks, in the order of the handles.

    A few round trips for 500 runs, where `handle.result()` takes two or three for one.

    Args:
        handles: of the runs, from `submit` or `submit_many`.
        timeout: seconds for all of them together.
        return_exceptions: what would be raised for a run that failed, or that nobody knows any more, stands in its
            place, as with `asyncio.gather`; by default the first such run, in the order of the handles among those that
            have ended by then, ends the waiting. The other runs go on either way.

    Raises:
        RunFailedError: a run did not succeed; names the task, the error's type and its message.
        NotFoundError: the server has forgotten a value (`TM_RESULT_TTL`).
        TimeoutError: not all of them ended within `timeout` seconds.
        UnavailableError: the server was away for more than a minute; shorter outages are waited out.
    """
    values: dict[str, Any] = {}
    for client, runs, rest in _by_client(handles, timeout):
        values.update(zip(runs, client.results(runs, rest, return_exceptions=return_exceptions), strict=True))
    return [values[handle.id] for handle in handles]


def _by_client(handles: Sequence[RunHandle], timeout: float | None) -> Iterator[tuple[Client, list[str], float | None]]:
    """The runs of each client, and how long they may take."""
    import time

    until = None if timeout is None else time.monotonic() + timeout
    for client in dict.fromkeys(handle.client for handle in handles):
        runs = [handle.id for handle in handles if handle.client is client]
        yield client, runs, None if until is None else max(0.0, until - time.monotonic())
