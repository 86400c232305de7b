"""The clockwork, the leader, the sweep and the server's clock, on time that tests make pass."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
import redis.exceptions

from tm import Graph, task
from tm.clock import from_ms, to_ms
from tm.events import AttemptEnded
from tm.ids import tick_run_id
from tm.states import Outcome, RunState, TaskState, Trigger
from tm.store.records import Leadership, Pause, TickAnswer
from tm_scheduler import leader as leading
from tm_scheduler import sweep as sweeping
from tm_scheduler.archiving import RetryWatch
from tm_scheduler.clock import ServerClock
from tm_scheduler.leader import Leader
from tm_scheduler.sweep import Sweep
from tm_scheduler.ticks import TICKS_PER_CALL, TickMaker

NOON = to_ms(datetime(2026, 3, 10, 12, tzinfo=UTC))
MINUTE = 60_000
ME = Leadership(who="me", token=1)


class Time:
    """Monotonic seconds of this machine, and the server's clock beside them."""

    def __init__(self, server_ms=NOON + 30_000):
        self.seconds = 1000.0
        self.ahead = server_ms - 1_000_000

    def monotonic(self):
        return self.seconds

    def server_ms(self):
        return round(self.seconds * 1000) + self.ahead

    def run_until(self, server_ms):
        self.seconds += (server_ms - self.server_ms()) / 1000


class FakeStore:
    """The server as far as ticks go: cursors, held ticks, open runs; and troubles to order."""

    def __init__(self, time):
        self.time = time
        self.made = {}  # run -> DueTick, as created or recorded
        self.cursor_of, self.held_of, self.open = {}, {}, {}
        self.paused, self.settled = {}, []
        self.calls = []
        self.trouble = []
        self.leader = ME

    def server_ms(self):
        return self.time.server_ms()

    def cursors(self):
        return dict(self.cursor_of)

    def held(self):
        return dict(self.held_of)

    def open_count(self, graph):
        return len(self.open.get(graph, ()))

    def pauses(self):
        return dict(self.paused)

    def settle(self, pause):
        assert pause.ended_ms(self.server_ms()) is not None
        self.settled.append(pause.graph)
        return self.paused.pop(pause.graph, None) is not None

    def set_cursor_if_absent(self, graph, at_ms):
        return self.cursor_of.setdefault(graph, at_ms)

    def tick_many(self, leader, due):
        self.calls.append([(plan.graph, len(ticks)) for plan, ticks in due])
        if self.trouble:
            trouble = self.trouble[0]
            if isinstance(trouble, Exception):
                self.trouble.pop(0)
                raise trouble
            if any(plan.graph == trouble for plan, _ in due):
                raise redis.exceptions.ResponseError("no luck")
        if leader != self.leader:
            return [[TickAnswer.FENCED] * len(ticks) for _, ticks in due]
        return [[self.tick(plan.graph, each) for each in ticks] for plan, ticks in due]

    def tick(self, graph, due):
        found = [self.paused[key] for key in (graph, "") if key in self.paused]
        if any(each.ended_ms(self.server_ms()) is None for each in found):
            return TickAnswer.PAUSED
        mine = self.held_of.get(graph) == due.at_ms
        if due.run in self.made or (due.at_ms <= self.cursor_of.get(graph, -1) and not mine):
            return TickAnswer.EXISTS
        self.cursor_of[graph] = max(self.cursor_of.get(graph, -1), due.at_ms)
        busy = due.born is RunState.QUEUED and len(self.open.get(graph, ())) >= max(due.most, 1)
        if busy and due.overlap == "queue" and (mine or graph not in self.held_of):
            self.held_of[graph] = due.at_ms
            return TickAnswer.HELD
        if mine:
            del self.held_of[graph]
        self.made[due.run] = due
        return TickAnswer.OVERLAPPED if busy and due.overlap != "allow" else TickAnswer.CREATED

    def runs(self, graph):
        """The minutes past noon of the ticks that became runs."""
        name = f"{graph.name}-"
        return [
            (each.at_ms - NOON) / MINUTE
            for run, each in self.made.items()
            if run.startswith(name) and each.born is RunState.QUEUED
        ]


@task()
def root(config=None):
    return config


def make_graph(name="g", schedule="* * * * *", **more):
    graph = Graph(name, schedule, **more)
    graph.add_edges([root])
    return graph


@pytest.fixture
def time():
    return Time()


@pytest.fixture
def store(time):
    return FakeStore(time)


@pytest.fixture
def maker(time, store):
    def build(*graphs, zone=UTC):
        found = TickMaker(store, graphs, ServerClock(store, monotonic=time.monotonic), zone, monotonic=time.monotonic)
        found.start()
        return found

    return build


# Pauses


def paused(store, graph="g", **more):
    store.paused[graph] = Pause(graph=graph, by="ann@host", reason="why", since_ms=store.server_ms(), **more)


def resumed(store, graph="g", **more):
    store.paused[graph] = replace(store.paused[graph], resumed_ms=store.server_ms(), **more)


def test_a_paused_graph_is_off_the_clock_and_its_cursor_stays(maker, store, time):
    clockwork = maker(make_graph(), make_graph("other"))
    paused(store)
    time.run_until(NOON + MINUTE)
    assert clockwork.one_pass(ME)
    assert list(store.made) == ["other-20260310T120100Z"]
    assert store.cursor_of["g"] == NOON + 30_000
    time.run_until(NOON + 2 * MINUTE)
    asked = len(store.calls)
    clockwork.one_pass(ME)
    assert list(store.calls[asked:]) == [[("other", 1)]], "nobody asks for its ticks any more"


@pytest.mark.parametrize(
    ("catch_up", "ran", "skipped"),
    [("skip", [], [1, 2, 3]), ("latest", [3], [1, 2]), ("all", [1, 2, 3], []), ("", [3], [1, 2])],
)
def test_ticks_missed_in_a_pause_are_made_up_for_as_somebody_said(maker, store, time, catch_up, ran, skipped):
    graph = make_graph(misfire_window=1 if catch_up else 3600)
    clockwork = maker(graph)
    paused(store)
    time.run_until(NOON + MINUTE)
    clockwork.one_pass(ME)
    time.run_until(NOON + 3 * MINUTE + 5_000)
    resumed(store, catch_up=catch_up)
    assert clockwork.seconds_left() <= 0.5
    clockwork.one_pass(ME)
    assert store.runs(graph) == ran
    records = [each for each in store.made.values() if each.born is RunState.SKIPPED]
    assert [(each.at_ms - NOON) / MINUTE for each in records] == skipped
    assert all(each.reason.startswith("paused by ann@host (why): ") for each in records)
    assert {each.trigger for each in store.made.values()} <= {Trigger.CATCHUP}, "even 5 s late"
    assert store.settled == ["g"]
    time.run_until(NOON + 4 * MINUTE)
    clockwork.one_pass(ME)
    assert store.runs(graph) == [*ran, 4]


def test_a_pause_ends_by_itself(maker, store, time):
    graph = make_graph()
    clockwork = maker(graph)
    paused(store, until_ms=NOON + 2 * MINUTE + 30_000)
    for minute in (1, 2, 3):
        time.run_until(NOON + minute * MINUTE)
        clockwork.one_pass(ME)
    assert store.runs(graph) == [3]
    skips = [each.reason for each in store.made.values() if each.born is RunState.SKIPPED]
    assert skips == [
        "paused by ann@host (why): 120 s late, a later tick runs instead",
        "paused by ann@host (why): 60 s late, a later tick runs instead",
    ]


def test_a_new_leader_knows_who_is_paused_and_who_was(maker, store, time):
    here, was = make_graph("here"), make_graph("was", misfire="skip")
    store.cursor_of = {"here": NOON - 5 * MINUTE, "was": NOON - 90_000}
    paused(store, "here")
    paused(store, "was")
    resumed(store, "was")
    clockwork = maker(here, was)
    clockwork.one_pass(ME)
    assert store.runs(here) == []
    assert [each.reason for each in store.made.values()] == [
        "paused by ann@host (why): 90 s late, not caught up",
        "paused by ann@host (why): 30 s late, not caught up",
    ]


def test_all_graphs_at_once(maker, store, time):
    graphs = [make_graph(name) for name in ("a", "b")]
    clockwork = maker(*graphs)
    paused(store, "", until_ms=NOON + MINUTE + 30_000)
    time.run_until(NOON + MINUTE)
    clockwork.one_pass(ME)
    assert not store.made
    time.run_until(NOON + 2 * MINUTE)
    clockwork.one_pass(ME)
    assert [store.runs(graph) for graph in graphs] == [[2], [2]]
    assert store.settled == [""]


def test_a_held_tick_of_a_paused_graph_goes_on_waiting(maker, store, time):
    graph = make_graph(overlap="queue")
    clockwork = maker(graph)
    store.open["g"] = ["x"]
    time.run_until(NOON + MINUTE)
    clockwork.one_pass(ME)
    assert store.held_of == {"g": NOON + MINUTE}
    paused(store)
    store.open.clear()
    time.run_until(NOON + MINUTE + 1_000)
    clockwork.one_pass(ME)
    assert store.runs(graph) == []
    resumed(store)
    time.run_until(NOON + MINUTE + 2_000)
    clockwork.one_pass(ME)
    assert store.runs(graph) == [1]


def test_as_many_runs_as_may_be_are_open_before_a_tick_waits(maker, store, time):
    graph = make_graph(max_active_runs=2)
    clockwork = maker(graph)
    store.open["g"] = ["x"]
    time.run_until(NOON + MINUTE)
    clockwork.one_pass(ME)
    store.open["g"] = ["x", "y"]
    time.run_until(NOON + 2 * MINUTE)
    clockwork.one_pass(ME)
    assert store.runs(graph) == [1]
    assert store.held_of == {"g": NOON + 2 * MINUTE}
    store.open["g"] = ["y"]
    time.run_until(NOON + 2 * MINUTE + 1_000)
    clockwork.one_pass(ME)
    assert store.runs(graph) == [1, 2]


# The clock


def test_it_sleeps_exactly_until_the_next_tick_and_makes_it(maker, store, time):
    graph = make_graph()
    clockwork = maker(graph)
    assert clockwork.seconds_left() == pytest.approx(30)
    clockwork.one_pass(ME)
    assert not store.calls, "nothing was due, so nothing was asked"
    time.run_until(NOON + MINUTE)
    assert clockwork.seconds_left() == 0
    assert clockwork.one_pass(ME)
    [made] = store.made.values()
    assert (made.run, made.at_ms, made.trigger, made.born) == (
        "g-20260310T120100Z",
        NOON + MINUTE,
        Trigger.SCHEDULE,
        RunState.QUEUED,
    )
    assert clockwork.seconds_left() == pytest.approx(60)


def test_a_new_graph_begins_now(maker, store):
    clockwork = maker(make_graph())
    clockwork.one_pass(ME)
    assert not store.made
    assert store.cursor_of == {"g": NOON + 30_000}


def test_a_manual_graph_is_not_on_the_clock(maker, store):
    clockwork = maker(make_graph(schedule="manual"))
    assert clockwork.seconds_left() > 1000
    assert not store.cursor_of


def test_schedules_are_read_in_the_zone_of_the_graph_or_else_the_scheduler(maker):
    clockwork = maker(
        make_graph("own", "0 22 * * *", timezone="Asia/Tokyo"),
        make_graph("default", "0 14 * * *"),
        zone=ZoneInfo("Europe/Berlin"),
    )
    assert {graph.name: at - NOON for graph, at in clockwork.upcoming()} == {
        "own": 60 * MINUTE,
        "default": 60 * MINUTE,
    }


def test_what_was_missed_is_caught_up_by_the_rule_of_the_graph(maker, store):
    store.cursor_of.update(latest=NOON - 5 * MINUTE, all=NOON - 3 * MINUTE, skip=NOON - 2 * MINUTE)
    graphs = [make_graph(rule, misfire=rule) for rule in ("latest", "all", "skip")]
    maker(*graphs).one_pass(ME)
    assert [store.runs(graph) for graph in graphs] == [[0], [-2, -1, 0], []]
    assert {each.trigger for each in store.made.values()} == {Trigger.CATCHUP}
    skipped = [each for each in store.made.values() if each.born is RunState.SKIPPED]
    assert len(skipped) == 4 + 2
    assert skipped[0].reason == "misfire: 270 s late, a later tick runs instead"


def test_many_records_of_one_graph_go_in_calls_of_bounded_size(maker, store):
    store.cursor_of["g"] = NOON - 500 * MINUTE
    maker(make_graph(misfire="all", misfire_window=1e9)).one_pass(ME)
    assert [size for call in store.calls for _, size in call] == [TICKS_PER_CALL] * 4 + [1]
    assert len(store.runs(make_graph())) == 100


def test_a_crowded_instant_goes_out_in_growing_batches_the_first_one_small(maker, store, time):
    clockwork = maker(*(make_graph(f"g{number}") for number in range(1000)))
    time.run_until(NOON + MINUTE)
    assert clockwork.one_pass(ME)
    assert [len(call) for call in store.calls] == [8, 16, 32, 64, 128, 256, 256, 240]
    assert len(store.made) == 1000


def test_a_schedule_that_ends_leaves_the_clock(maker, store, time):
    clockwork = maker(make_graph(schedule="0 1 12 10 3 * 2026"))
    time.run_until(NOON + MINUTE)
    clockwork.one_pass(ME)
    assert len(store.made) == 1
    assert clockwork.seconds_left() > 1000


# The server's clock


def test_a_wall_clock_of_this_machine_plays_no_part_and_the_server_s_is_followed(store, time):
    clock = ServerClock(store, monotonic=time.monotonic)
    assert clock.measure() == 0
    time.seconds += 5
    assert clock.now_ms() == NOON + 35_000
    time.ahead += 90_000
    assert clock.now_ms() == NOON + 35_000, "not known yet"
    assert clock.measure() == 90_000
    assert clock.seconds_until(NOON + 3 * MINUTE) == pytest.approx(55)


def test_a_clock_that_went_back_makes_no_tick_twice(maker, store, time):
    graph = make_graph()
    clockwork = maker(graph)
    for minute in (1, 2):
        time.run_until(NOON + minute * MINUTE)
        clockwork.one_pass(ME)
    time.ahead -= 10 * MINUTE
    clockwork.start()
    clockwork._clock.measure()
    for minute in range(-8, 4):
        time.run_until(NOON + minute * MINUTE)
        clockwork.one_pass(ME)
    assert store.runs(graph) == [1, 2, 3]
    assert len(store.calls) == 3, "minutes that were done were not even asked for"


# Configs


def test_the_config_is_read_at_the_tick(maker, store, time, tmp_path):
    file = tmp_path / "config.json"
    file.write_text('{"a": 1}')
    graph = make_graph(config=file)
    clockwork = maker(graph)
    for minute in (1, 2):
        file.write_text(json.dumps({"minute": minute}))
        time.run_until(NOON + minute * MINUTE)
        clockwork.one_pass(ME)
    assert [each.config for each in store.made.values()] == ['{"minute": 1}', '{"minute": 2}']


def test_a_broken_config_is_a_failed_run_with_file_line_and_reason_and_the_clock_goes_on(
    maker, store, time, tmp_path, caplog
):
    file = tmp_path / "config.json"
    file.write_text('{\n  "a": 1,\n}')
    graph, other = make_graph(config=file), make_graph("other")
    clockwork = maker(graph, other)
    time.run_until(NOON + MINUTE)
    clockwork.one_pass(ME)
    file.write_text("{}")
    time.run_until(NOON + 2 * MINUTE)
    clockwork.one_pass(ME)
    first, second = (store.made[tick_run_id("g", from_ms(NOON + minute * MINUTE))] for minute in (1, 2))
    assert first.born is RunState.FAILED
    assert str(file) in first.reason
    assert "line 3" in first.reason
    [said] = [each for each in caplog.records if each.levelname == "WARNING"]
    assert "tick failed" in said.getMessage(), "on the terminal of `tm up` too"
    assert second.born is RunState.QUEUED
    assert store.runs(other) == [1, 2]


def test_nothing_a_config_file_may_hold_stops_the_clock(maker, store, time, tmp_path, monkeypatch):
    file = tmp_path / "config.json"
    file.write_text("9" * 5000)
    graph, other = make_graph(config=file), make_graph("other")
    clockwork = maker(graph, other)

    def unforeseen():
        raise ValueError("Exceeds the limit (4300 digits) for integer string conversion")

    monkeypatch.setattr(graph, "read_config", unforeseen)
    time.run_until(NOON + MINUTE)
    clockwork.one_pass(ME)
    made = store.made["g-20260310T120100Z"]
    assert made.born is RunState.FAILED
    assert "4300 digits" in made.reason
    assert str(file) in made.reason
    assert store.runs(other) == [1]


# Overlaps


def test_a_tick_that_must_wait_is_asked_again_once_no_run_is_open(maker, store, time):
    graph = make_graph(overlap="queue")
    clockwork = maker(graph)
    store.open["g"] = ["g-other"]
    time.run_until(NOON + MINUTE)
    clockwork.one_pass(ME)
    assert store.held_of == {"g": NOON + MINUTE}
    assert clockwork.seconds_left() == pytest.approx(0.25)
    time.seconds += 0.3
    clockwork.one_pass(ME)
    assert len(store.calls) == 1, "a run is open: not asked"
    time.run_until(NOON + 2 * MINUTE)
    clockwork.one_pass(ME)
    assert store.made["g-20260310T120200Z"].overlap == "queue", "recorded by the server as skipped"
    store.open["g"] = []
    time.seconds += 0.3
    clockwork.one_pass(ME)
    assert "g-20260310T120100Z" in store.made
    assert clockwork.seconds_left() > 10, "nothing is held, so nothing is asked often"


def test_the_config_of_a_waiting_tick_is_read_when_it_starts(maker, store, time, tmp_path):
    file = tmp_path / "config.json"
    file.write_text("1")
    clockwork = maker(make_graph(config=file, overlap="queue"))
    store.open["g"] = ["g-other"]
    time.run_until(NOON + MINUTE)
    clockwork.one_pass(ME)
    file.write_text("2")
    store.open["g"] = []
    time.seconds += 0.3
    clockwork.one_pass(ME)
    [made] = store.made.values()
    assert made.config == "2"


@pytest.mark.parametrize(
    ("late_minutes", "open_runs", "state"),
    [(5, [], RunState.QUEUED), (90, [], RunState.SKIPPED), (90, ["g-other"], None)],
)
def test_a_tick_an_earlier_leader_left_waiting(maker, store, time, late_minutes, open_runs, state):
    tick = NOON - late_minutes * MINUTE
    store.held_of["g"], store.cursor_of["g"], store.open["g"] = tick, NOON, open_runs
    clockwork = maker(make_graph(overlap="queue"))
    clockwork.one_pass(ME)
    made = store.made.get(tick_run_id("g", from_ms(tick)))
    assert (made and made.born) == state
    assert ("g" in store.held_of) == (state is None)


# Troubles


def test_a_leader_that_was_replaced_is_told_and_nothing_is_lost(maker, store, time):
    graph = make_graph()
    clockwork = maker(graph)
    store.leader = Leadership(who="somebody", token=2)
    time.run_until(NOON + MINUTE)
    assert not clockwork.one_pass(ME)
    assert not store.made
    clockwork.start()
    assert clockwork.one_pass(store.leader)
    assert store.runs(graph) == [1]


def test_a_full_server_holds_ticks_and_makes_them_when_it_has_room(maker, store, time):
    graph = make_graph()
    clockwork = maker(graph)
    store.trouble = [redis.exceptions.OutOfMemoryError("command not allowed")] * 2
    time.run_until(NOON + MINUTE)
    assert clockwork.one_pass(ME)
    assert clockwork.seconds_left() == pytest.approx(1)
    assert clockwork.one_pass(ME)
    assert len(store.calls) == 1, "not asked before the pause is over"
    for _ in range(2):
        time.seconds += 1.1
        assert clockwork.one_pass(ME)
    assert store.runs(graph) == [1]


def test_a_server_that_is_away_is_the_caller_s_to_wait_for_and_nothing_is_lost(maker, store, time):
    graph = make_graph()
    clockwork = maker(graph)
    store.trouble = [redis.exceptions.ConnectionError("gone")]
    time.run_until(NOON + MINUTE)
    with pytest.raises(redis.exceptions.ConnectionError):
        clockwork.one_pass(ME)
    time.seconds += 3
    clockwork.start()
    clockwork.one_pass(ME)
    assert store.runs(graph) == [1]


def test_a_reply_that_was_lost_makes_no_second_run(maker, store, time):
    graph = make_graph()
    clockwork = maker(graph)
    time.run_until(NOON + MINUTE)
    store.tick("g", clockwork._due_ticks(clockwork._hands[0], time.server_ms())[0])
    assert clockwork.one_pass(ME)
    assert store.runs(graph) == [1]
    assert clockwork.seconds_left() == pytest.approx(60)


def test_one_graph_the_server_refuses_does_not_hold_up_the_others(maker, store, time):
    graphs = [make_graph(f"g{number}") for number in range(5)]
    clockwork = maker(*graphs)
    store.trouble = ["g3"]
    time.run_until(NOON + MINUTE)
    assert clockwork.one_pass(ME)
    assert sorted(store.cursor_of[graph.name] == NOON + MINUTE for graph in graphs) == [False] + [True] * 4
    assert clockwork.seconds_left() == pytest.approx(5)
    store.trouble = []
    time.seconds += 5.1
    assert clockwork.one_pass(ME)
    assert store.runs(graphs[3]) == [1]


# The leader


class FakeLease:
    def __init__(self):
        self.answer = ME
        self.asked, self.resigned = [], []

    def lead(self, _who, ttl_ms):
        self.asked.append(ttl_ms)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def resign(self, leader):
        self.resigned.append(leader)


def test_the_numbers_of_the_promise():
    assert leading.TTL_MS == 10_000
    assert leading.TTL_MS * leading.RENEW_AFTER == 3000
    assert leading.TTL_MS * (1 + leading.ASK_AFTER) <= 12_000, "a standby takes over within 12 s"
    assert sweeping.REAP_EVERY == 1.0


def test_the_service_knows_the_numbers_too():
    from tm_scheduler import service

    assert service.TTL_MS == leading.TTL_MS


def test_a_leader_renews_after_three_seconds_and_a_standby_asks_often(time):
    lease = FakeLease()
    leader = Leader(lease, "me", monotonic=time.monotonic)
    assert leader.one_pass() == ME
    assert leader.seconds_left() == pytest.approx(3)
    leader.one_pass()
    assert len(lease.asked) == 1
    time.seconds += 3
    lease.answer = None
    assert leader.one_pass() is None
    assert leader.seconds_left() == pytest.approx(0.5)


def test_a_leader_that_cannot_renew_stops_believing_when_the_server_does(time):
    lease = FakeLease()
    leader = Leader(lease, "me", monotonic=time.monotonic)
    leader.one_pass()
    lease.answer = redis.exceptions.ConnectionError("gone")
    time.seconds += 9.9
    with pytest.raises(redis.exceptions.ConnectionError):
        leader.one_pass()
    assert leader.current == ME
    time.seconds += 0.1
    assert leader.current is None


def test_resigning_gives_the_lease_back_once_and_only_if_held(time):
    lease = FakeLease()
    leader = Leader(lease, "me", monotonic=time.monotonic)
    leader.resign()
    assert not lease.resigned
    leader.one_pass()
    leader.resign()
    leader.resign()
    assert lease.resigned == [ME]


# The sweep


class FakeSweepStore:
    def __init__(self):
        self.calls = []
        self.next_due = None
        self.broken = ""

    def _called(self, name):
        self.calls.append(name)
        if name == self.broken:
            raise redis.exceptions.ResponseError("WRONGTYPE")
        return 0

    def promote(self, _limit=200):
        return self._called("promote"), self.next_due

    def reap(self, _limit=200, *, asked_ms=None):  # noqa: ARG002 - the signature of the Store
        return self._called("reap")

    def ring(self, _limit=200):
        return self._called("ring")

    def expire(self, _limit=200):
        return self._called("expire")

    def alarm(self, _limit=200):
        return self._called("alarm")


def passes(sweep, time, seconds):
    """Go round as the scheduler does."""
    until = time.seconds + seconds
    while True:
        sweep.one_pass()
        if time.seconds + sweep.seconds_left() > until:
            time.seconds = until
            return
        time.seconds += sweep.seconds_left()


def test_each_duty_has_its_pace(time):
    store = FakeSweepStore()
    sweep = Sweep(store, lease=30, monotonic=time.monotonic)
    passes(sweep, time, 35)
    store.calls.clear()
    for _ in range(10):
        sweep.told_of_retries(None)
        passes(sweep, time, 1)
    counts = {name: store.calls.count(name) for name in ("promote", "reap", "expire", "ring")}
    assert counts == {
        "promote": pytest.approx(10, abs=2),
        "reap": pytest.approx(10, abs=2),
        "expire": pytest.approx(10, abs=2),
        "ring": pytest.approx(2, abs=1),
    }


def test_retries_are_looked_for_more_often_while_nobody_tells_of_them(time):
    store = FakeSweepStore()
    passes(Sweep(store, lease=30, monotonic=time.monotonic), time, 10)
    assert store.calls.count("promote") == pytest.approx(40, abs=2)


def test_a_retry_is_promoted_when_it_is_due(time):
    store = FakeSweepStore()
    sweep = Sweep(store, lease=30, monotonic=time.monotonic)
    store.next_due = 40
    sweep.one_pass()
    assert sweep.seconds_left() == pytest.approx(0.04)


def test_a_retry_that_somebody_tells_of_is_promoted_when_it_is_due(time):
    store = FakeSweepStore()
    sweep = Sweep(store, lease=30, monotonic=time.monotonic)
    sweep.one_pass()
    sweep.told_of_retries(time.seconds + 0.2)
    assert sweep.seconds_left() == pytest.approx(0.2)
    time.seconds += 0.21
    store.calls.clear()
    sweep.one_pass()
    assert store.calls == ["promote"]


def test_retries_are_told_of_as_their_events_pass():
    told = []
    watch = RetryWatch(FakeEvents([attempt(due=300), attempt(due=None), attempt(due=200)]), told.append)
    assert len(watch.events("0")) == 3
    assert watch.instance() == "here"
    RetryWatch(FakeEvents([attempt(due=None)]), told.append).events("0")
    assert told == [200, None]


def attempt(due):
    return AttemptEnded(
        run="r",
        graph="g",
        node=0,
        task="t",
        attempt=1,
        outcome=Outcome.FAILED,
        state=TaskState.RETRYING,
        worker="w",
        claimed=1,
        at=2,
        ms=1,
        error=b"",
        due=due,
    )


class FakeEvents:
    def __init__(self, events):
        self.entries = [(f"{number}-0", event) for number, event in enumerate(events)]

    def instance(self):
        return "here"

    def ack(self, upto):
        pass

    def plan(self, _):
        return None

    def events(self, *_):
        return self.entries


def test_nobody_is_declared_dead_before_a_lease_and_a_bit_have_passed(time):
    store = FakeSweepStore()
    sweep = Sweep(store, lease=30, monotonic=time.monotonic)
    passes(sweep, time, 34.9)
    assert "reap" not in store.calls
    passes(sweep, time, 1)
    assert "reap" in store.calls


def test_after_a_freeze_nobody_is_declared_dead_either(time):
    store = FakeSweepStore()
    sweep = Sweep(store, lease=30, monotonic=time.monotonic)
    passes(sweep, time, 40)
    time.seconds += 20  # the process was stopped, or a call took so long
    store.calls.clear()
    passes(sweep, time, 34)
    assert "reap" not in store.calls


def test_a_duty_that_the_server_refuses_does_not_hold_up_the_others(time):
    store = FakeSweepStore()
    sweep = Sweep(store, lease=1, monotonic=time.monotonic)
    store.broken = "promote"
    passes(sweep, time, 10)
    assert {"promote", "reap", "expire", "ring"} <= set(store.calls)


def test_a_replica_is_an_outage(time):
    store = FakeSweepStore()
    store.expire = lambda _limit=200: (_ for _ in ()).throw(redis.exceptions.ReadOnlyError("READONLY"))
    sweep = Sweep(store, lease=1, monotonic=time.monotonic)
    with pytest.raises(redis.exceptions.ReadOnlyError):
        sweep.one_pass()
