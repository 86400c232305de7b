"""The client starts runs, waits for them without polling, and explains what went wrong."""

from __future__ import annotations

import os
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

import tm
from tests.waiting import wait_for
from tm import Graph, codec, task
from tm.client import Client, RunHandle, wait_all
from tm.errors import CodecError, ConfigError, NotFoundError, RunFailedError, SpillError, UnavailableError
from tm.spill import Spill
from tm.states import Outcome, RunState
from tm.store.records import Ask, Claim, Report
from tm.store.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import redis

    from tests.servers import Server


@task()
def first(size: int = 1) -> dict[str, int]:
    return {"size": size}


@task()
def second(first: dict[str, int]) -> int:
    return first["size"] + 1


@pytest.fixture
def graph() -> Graph:
    graph = Graph("sums")
    graph.add_edges([first], [second])
    return graph


@pytest.fixture
def face(store: Store) -> Client:
    return Client(store, where="the test server")


class Hand:
    """A worker made of two hands: takes what is queued and reports what the test says."""

    def __init__(self, store: Store, graph: Graph, name: str = "hand") -> None:
        self.store = store
        self.graph = graph
        self.name = name
        self.asked = 0
        store.announce(name, [graph.name], {"host": "here"}, 60_000)

    def _ask(self, count: int) -> Ask:
        self.asked += 1
        return Ask(worker=self.name, lease_ms=30_000, token=f"t{self.asked}", queues=("default",), count=count)

    def take(self, count: int = 1) -> list[Claim]:
        return self.store.take(self._ask(count)).claims

    def report(self, claim: Claim, value: Any = None, error: dict[str, Any] | None = None) -> list[Claim]:
        from tm import codec

        outcome = Outcome.SUCCESS if error is None else Outcome.FAILED
        report = Report(
            claim.job,
            claim.token,
            outcome,
            value=codec.encode(value) if error is None else b"",
            error=b"" if error is None else codec.encode(error),
        )
        return self.store.finish(self._ask(1), [report])[1].claims

    def run_all(self) -> None:
        claims = self.take()
        while claims:
            claims = self.report(claims[0], self.value(claims[0]))

    def value(self, claim: Claim) -> Any:
        from tm import codec

        params = codec.decode(claim.params) if claim.params else {}
        inputs = {name: codec.decode(value) for name, value in claim.inputs}
        return self.graph.tasks[claim.task](**params, **inputs)


@pytest.fixture
def hand(store: Store, graph: Graph) -> Hand:
    return Hand(store, graph)


@pytest.fixture
def later() -> Iterator[Any]:
    """Run something in a thread meanwhile; joined at the end of the test."""
    threads: list[threading.Thread] = []

    def start(function: Any) -> None:
        threads.append(threading.Thread(target=function))
        threads[-1].start()

    yield start
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()


def test_a_run_that_is_submitted_is_queued_and_gives_its_result(face: Client, graph: Graph, hand: Hand) -> None:
    handle = face.submit(graph, {"size": 4})
    assert handle.state is RunState.QUEUED
    assert handle.id.startswith("sums-")
    assert handle.id in repr(handle)
    hand.run_all()
    assert handle.wait(5) is RunState.SUCCESS
    assert handle.result(5) == 5
    assert handle.state is RunState.SUCCESS


def test_many_runs_get_handles_in_the_order_of_their_params(face: Client, graph: Graph, hand: Hand) -> None:
    handles = face.submit_many(graph, [{"size": size} for size in range(120)])
    assert len({handle.id for handle in handles}) == 120
    hand.run_all()
    assert wait_all(handles, 5) == [RunState.SUCCESS] * 120
    assert [handle.result(1) for handle in handles] == [size + 1 for size in range(120)]


def test_waiting_ends_as_soon_as_the_run_ends(face: Client, graph: Graph, hand: Hand, later: Any) -> None:
    handle = face.submit(graph)
    woken: list[float] = []

    def wait() -> None:
        handle.wait(10)
        woken.append(time.monotonic())

    later(wait)
    subscribed(face.store.client, handle)
    hand.run_all()
    ended = time.monotonic()
    wait_for(lambda: woken, "the waiter to wake up")
    assert woken[0] - ended < 0.5  # the safety net looks again after 5 s only


@pytest.mark.parametrize("each", [False, True], ids=["all of them", "each of them"])
def test_one_connection_waits_for_many_runs(face: Client, graph: Graph, hand: Hand, later: Any, each: bool) -> None:
    handles = face.submit_many(graph, [{}] * 30)
    states: list[RunState] = []
    runs = [handle.id for handle in handles]
    later(
        lambda: (
            states.extend(state for _, state in face.wait(runs, 10)) if each else states.extend(face.wait_all(runs, 10))
        )
    )
    listening = wait_for(lambda: listeners(face.store.client), "the waiter to listen")
    # when it is only the end of all that counts, a few stand for the others
    assert [int(client["sub"]) for client in listening] == [30 if each else 16]
    hand.run_all()
    wait_for(lambda: len(states) == 30, "all states")
    assert states == [RunState.SUCCESS] * 30
    wait_for(lambda: not listeners(face.store.client), "nobody to listen any more")


def test_waiting_gives_up_after_its_timeout(face: Client, graph: Graph) -> None:
    handle = face.submit(graph)
    with pytest.raises(TimeoutError, match=f"run {handle.id} is still open after 0.05 s"):
        handle.wait(0.05)
    with pytest.raises(TimeoutError, match="2 runs are still open"):
        wait_all([handle, face.submit(graph)], 0.05)


def test_the_end_is_told_in_the_order_of_the_ends(face: Client, graph: Graph, hand: Hand) -> None:
    runs = [handle.id for handle in face.submit_many(graph, [{}] * 3)]
    waiting = face.wait(runs, 5)
    face.cancel(runs[2])
    assert next(waiting) == (runs[2], RunState.CANCELLED)
    face.cancel(runs[0])
    assert next(waiting) == (runs[0], RunState.CANCELLED)
    hand.run_all()
    assert list(waiting) == [(runs[1], RunState.SUCCESS)]


def test_results_come_in_the_order_of_the_handles_however_the_runs_end(
    face: Client, graph: Graph, store: Store, later: Any
) -> None:
    count = 1200  # more than one lot
    handles = face.submit_many(graph, [{"size": size} for size in range(count)])
    values: list[Any] = []
    later(lambda: values.extend(tm.results(handles, 30)))
    wait_for(lambda: listeners(store.client), "the waiter to listen")
    end_all(store, graph, backwards=True)
    wait_for(lambda: len(values) == count, "all values", timeout=20)
    assert values == [size + 1 for size in range(count)]
    assert tm.results([handles[7], handles[3], handles[7]], 1) == [8, 4, 8]
    assert tm.results([]) == []


def test_results_of_many_runs_take_few_round_trips(face: Client, graph: Graph, store: Store) -> None:
    handles = face.submit_many(graph, [{"size": size} for size in range(1000)])
    end_all(store, graph)
    store.client.config_resetstat()
    assert tm.results(handles, 5) == [size + 1 for size in range(1000)]
    assert wait_all(handles, 5) == [RunState.SUCCESS] * 1000
    assert store.client.info("commandstats")["cmdstat_fcall_ro"]["calls"] == 4
    assert store.client.info("stats")["total_connections_received"] == 1


def test_large_results_come_in_calls_of_bounded_size(face: Client, store: Store) -> None:
    large = task(name="large")(lambda number: f"{number:08d}" * 32_768)
    graph = Graph("large")
    graph.add_edges(large)
    handles = face.submit_many(graph, [{"number": number} for number in range(10)])  # 2.5 MiB
    end_all(store, graph)
    store.client.config_resetstat()
    assert tm.results(handles, 5) == [f"{number:08d}" * 32_768 for number in range(10)]
    assert store.client.info("commandstats")["cmdstat_fcall_ro"]["calls"] == 3


def test_a_large_result_is_read_from_where_large_values_are(
    face: Client, graph: Graph, hand: Hand, client: redis.Redis, tmp_path: Path
) -> None:
    spill = Spill(tmp_path / "spill")
    handle = face.submit(graph)
    claims = hand.report(hand.take()[0], {"size": 1})
    reference = spill.keep(handle.id, codec.encode("large"))
    hand.store.finish(hand._ask(0), [Report(claims[0].job, claims[0].token, Outcome.SUCCESS, value=reference)])
    assert Client(Store(client, spill=spill)).results([handle.id], 5) == ["large"]
    with pytest.raises(SpillError, match="set TM_SPILL"):
        handle.result(5)
    assert [type(each) for each in tm.results([handle], 5, return_exceptions=True)] == [SpillError]


def test_the_first_that_failed_is_raised_or_stands_in_its_place(face: Client, graph: Graph, hand: Hand) -> None:
    handles = face.submit_many(graph, [{"size": size} for size in range(5)])
    face.cancel(handles[3].id)
    face.cancel(handles[1].id)
    hand.run_all()
    with pytest.raises(RunFailedError, match=f"run {handles[1].id} ended cancelled: cancelled by hand"):
        tm.results(handles, 5)
    face.store.client.delete(face.store.keys.out(handles[4].id))
    unknown = face.handle("nobody-knows-it")
    found = tm.results([*handles, unknown], 5, return_exceptions=True)
    assert found[0::2] == [1, 3, found[4]]
    assert [type(each) for each in found] == [int, RunFailedError, int, RunFailedError, NotFoundError, NotFoundError]
    assert "no longer kept" in str(found[4])
    with pytest.raises(NotFoundError, match="there is no run 'nobody-knows-it'"):
        tm.results([unknown], 5)


def test_a_failure_is_told_before_those_that_come_much_later_have_ended(face: Client, graph: Graph) -> None:
    handles = face.submit_many(graph, [{}] * 600)
    for handle in handles[:500]:
        face.cancel(handle.id)
    with pytest.raises(RunFailedError, match=handles[0].id):
        tm.results(handles, 30)


def test_when_the_time_is_up_those_that_have_ended_are_not_counted(face: Client, graph: Graph, store: Store) -> None:
    handles = face.submit_many(graph, [{}] * 1100)
    for handle in handles[3:]:
        face.cancel(handle.id)
    for wait in (tm.results, tm.wait_all):
        with pytest.raises(TimeoutError, match="3 runs are still open after 0 s"):
            wait(handles, 0) if wait is wait_all else wait(handles, 0, return_exceptions=True)
    for handle in handles[:3]:
        face.cancel(handle.id)
    assert tm.wait_all(handles, 0) == [RunState.CANCELLED] * 1100


def test_waiting_again_and_again_takes_one_connection(face: Client, graph: Graph, hand: Hand, later: Any) -> None:
    face.store.client.ping()
    face.store.client.config_resetstat()
    for size in range(20):
        handle = face.submit(graph, {"size": size})
        hand.run_all()
        assert handle.result(5) == size + 1
    assert face.store.client.info("stats")["total_connections_received"] == 1


def test_a_connection_that_was_cut_while_it_rested_is_replaced(face: Client, graph: Graph, hand: Hand) -> None:
    for _ in range(2):
        handle = face.submit(graph)
        hand.run_all()
        assert handle.result(5) == 2
        for client in face.store.client.client_list():
            if int(client["id"]) != face.store.client.client_id():
                face.store.client.client_kill_filter(_id=client["id"])


@pytest.mark.parametrize("trouble", ["cut", "functions lost"])
def test_a_waiter_hears_of_the_end_after_trouble(
    face: Client, graph: Graph, hand: Hand, later: Any, trouble: str
) -> None:
    handle = face.submit(graph, {"size": 3})
    values: list[Any] = []
    later(lambda: values.append(handle.result(10)))
    client = face.store.client
    waiter = wait_for(lambda: listeners(client), "the waiter to listen")[0]
    if trouble == "cut":
        client.client_kill_filter(_id=waiter["id"])
        wait_for(lambda: [each["id"] for each in listeners(client)] not in ([], [waiter["id"]]), "a new connection")
    else:
        client.function_flush()
    began = time.monotonic()
    hand.run_all()
    wait_for(lambda: values == [4], "the value")
    assert time.monotonic() - began < 3  # not by the look after 5 s


def test_an_end_that_was_not_announced_is_found_by_looking_again(
    face: Client, graph: Graph, later: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tm.waiting.LOOK_AGAIN", 0.2)
    handles = face.submit_many(graph, [{}] * 40)  # more than are listened to
    states: list[RunState] = []
    later(lambda: states.extend(wait_all(handles, 20)))
    wait_for(lambda: listeners(face.store.client), "the waiter to listen")
    for handle in handles:
        face.store.client.hset(face.store.keys.run(handle.id), "state", "cancelled")  # as if the message were lost
    wait_for(lambda: states == [RunState.CANCELLED] * 40, "the waiter to look again")


def test_a_fork_does_not_share_the_connection(face: Client, graph: Graph, hand: Hand) -> None:
    handles = face.submit_many(graph, [{"size": 5}] * 2)
    hand.run_all()
    assert handles[0].result(5) == 6
    child = os.fork()
    if not child:
        try:
            os._exit(0 if handles[1].result(5) == 6 else 1)
        finally:
            os._exit(2)
    assert os.waitpid(child, 0)[1] == 0
    assert handles[1].result(5) == 6


def test_a_failed_run_says_which_task_and_why(face: Client, graph: Graph, hand: Hand) -> None:
    handle = face.submit(graph)
    hand.report(hand.take()[0], error={"type": "ZeroDivisionError", "message": "division by zero", "traceback": "..."})
    assert handle.wait(5) is RunState.FAILED
    with pytest.raises(
        RunFailedError, match="ended failed: task 'first', attempt 1: ZeroDivisionError: division by zero"
    ):
        handle.result(5)


def test_a_cancelled_run_ends_at_once(face: Client, graph: Graph) -> None:
    handle = face.submit(graph)
    assert handle.cancel()
    assert handle.wait(5) is RunState.CANCELLED
    assert not handle.cancel()
    with pytest.raises(RunFailedError, match="ended cancelled: cancelled by hand"):
        handle.result(5)


def test_a_run_the_server_has_forgotten_says_so(face: Client, graph: Graph, hand: Hand, client: redis.Redis) -> None:
    handle = face.submit(graph)
    hand.run_all()
    client.delete(face.store.keys.out(handle.id))
    with pytest.raises(NotFoundError, match="its result is no longer kept"):
        handle.result(5)
    client.delete(face.store.keys.run(handle.id))
    with pytest.raises(NotFoundError, match="the server forgets runs"):
        handle.wait(5)


def test_params_are_checked_before_anything_starts(face: Client, graph: Graph) -> None:
    with pytest.raises(TypeError, match="has no parameter 'colour'"):
        face.submit_many(graph, [{}, {"colour": 1}])
    with pytest.raises(CodecError, match=r"params\['size'\]|params.*size"):
        face.submit_many(graph, [{}, {"size": object()}])
    assert face.store.open_runs() == []


def test_a_broken_config_starts_nothing(face: Client, tmp_path: Path) -> None:
    @task()
    def root(config: Any) -> None: ...

    (tmp_path / "config.json").write_text('{"a": ')
    graph = Graph("configured", config=tmp_path / "config.json")
    graph.add_edges([root])
    with pytest.raises(ConfigError, match="line 1"):
        face.submit(graph)
    assert face.store.open_runs() == []


def test_an_absent_server_is_one_plain_sentence_without_the_password(tmp_path: Path, graph: Graph) -> None:
    from tm.config import Settings
    from tm.wiring import open_client

    settings = Settings(url="redis://:hush@127.0.0.1:1/0", home=tmp_path)
    with pytest.raises(UnavailableError) as caught:
        open_client(settings).submit(graph)
    assert "cannot reach the server at redis://:***@127.0.0.1:1/0: connection refused" in str(caught.value).lower()
    assert "hush" not in str(caught.value)


def test_waiting_survives_a_restart_of_the_server(own_server: Server, graph: Graph, later: Any) -> None:
    store = Store(own_server.client())
    face = Client(store)
    handle = face.submit(graph)
    states: list[RunState] = []
    later(lambda: states.append(handle.wait(20)))
    subscribed(store.client, handle)
    own_server.stop()
    own_server.start()
    Hand(store, graph).run_all()
    wait_for(lambda: states == [RunState.SUCCESS], "the waiter to hear of the end")


def listeners(client: redis.Redis) -> list[Any]:
    """The connections that listen to anything."""
    return [each for each in client.client_list() if int(each["sub"]) > 0]


def end_all(store: Store, graph: Graph, *, backwards: bool = False) -> None:
    """Do all that is queued, many at a time."""
    hand = Hand(store, graph, "quick")
    while claims := hand.take(250):
        reports = [
            Report(claim.job, claim.token, Outcome.SUCCESS, value=codec.encode(hand.value(claim))) for claim in claims
        ]
        store.finish(hand._ask(0), reports[::-1] if backwards else reports)


def subscribed(client: redis.Redis, handle: RunHandle) -> None:
    channel = handle.client.store.ended_channel(handle.id)
    wait_for(lambda: client.pubsub_numsub(channel)[0][1] == 1, "the waiter to listen")
