"""A stage for the server functions: a clock the test moves, graphs in one line, and a look at what is stored."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import msgpack

from tm.records import Plan, TaskPlan
from tm.retry import RetryPolicy
from tm.states import Outcome
from tm.store import Library, Store
from tm.store.records import Ask, Claim, Grant, NewRun, Report, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable

    import redis

    from tm.events import Event

CLOCK = "local function server_now() return tonumber(redis.call('GET', 'test:clock')) end"
NOON = 1_790_000_000_000  # some instant, in ms
LEASE = 30_000
_versions = itertools.count(1)


def plan(
    tasks: dict[str, Iterable[str]],
    *,
    graph: str = "g",
    version: str = "",
    timeout: float | None = None,
    deadline: float | None = None,
    calls: Iterable[str] = (),
    task_calls: Iterable[str] = (),
    **rules: Any,
) -> Plan:
    """A plan from names and their parents, in order; `rules` (retries, queue, timeout_of_tasks...) hold for all tasks."""
    names = list(tasks)
    queue, task_timeout = rules.pop("queue", "default"), rules.pop("task_timeout", None)
    queues = queue if isinstance(queue, dict) else dict.fromkeys(names, queue)
    return Plan(
        graph=graph,
        version=version or f"v{next(_versions)}",
        timeout=timeout,
        deadline=deadline,
        calls=tuple(calls),
        tasks=tuple(
            TaskPlan(
                name=name,
                parents=tuple(names.index(parent) for parent in tasks[name]),
                children=tuple(names.index(child) for child in names if name in tasks[child]),
                queue=queues[name],
                timeout=task_timeout,
                calls=tuple(task_calls),
                retry=RetryPolicy(**rules),
            )
            for name in names
        ),
    )


SINGLE: dict[str, list[str]] = {"only": []}
CHAIN: dict[str, list[str]] = {"a": [], "b": ["a"], "c": ["b"]}
DIAMOND: dict[str, list[str]] = {"top": [], "left": ["top"], "right": ["top"], "join": ["left", "right"]}


def fan(width: int) -> dict[str, list[str]]:
    """One task, `width` children, one child of all of these."""
    middle = [f"m{n}" for n in range(width)]
    return {"first": [], **{name: ["first"] for name in middle}, "last": middle}


class Stage:
    """A store whose clock stands still until the test moves it, and short words for what tests do."""

    def __init__(self, client: redis.Redis, namespace: str = "default", library: Library | None = None) -> None:
        self.client: Any = client
        self.library = library or Library(clock=CLOCK)
        self.store = Store(client, namespace, library=self.library)
        self.keys = self.store.keys
        self._tokens = itertools.count(1)
        self.at(NOON)

    def at(self, ms: int) -> None:
        """Set the clock."""
        self.now = ms
        self.client.set("test:clock", ms)

    def later(self, ms: int) -> None:
        """Let time pass."""
        self.at(self.now + ms)

    def offer(self, *graphs: str, worker: str = "w") -> None:
        """Let a worker have loaded these graphs."""
        self.store.announce(worker, graphs, {"host": "here"}, 10**9)

    def start(self, which: Plan, run: str = "r", **more: Any) -> str:
        """Start one run, and have worker `w` offer its graph."""
        assert self.store.start(which, [NewRun(id=run, **more)]) == [True]
        self.offer(which.graph)
        return run

    def ask(self, count: int = 1, **more: Any) -> Ask:
        """A fresh ask of worker `w` for the default queue."""
        defaults = {"worker": "w", "lease_ms": LEASE, "token": f"ask{next(self._tokens)}", "queues": ("default",)}
        return Ask(**{**defaults, "count": count, **more})

    def take(self, count: int = 1, **more: Any) -> list[Claim]:
        """What a fresh ask is given."""
        return self.store.take(self.ask(count, **more)).claims

    def take_one(self, **more: Any) -> Claim:
        """The one claim there must be."""
        [claim] = self.take(1, **more)
        return claim

    def finish(
        self, claim: Claim, outcome: Outcome = Outcome.SUCCESS, value: bytes = b"v", count: int = 0, **more: Any
    ) -> tuple[Verdict, Grant]:
        """Report one outcome, and ask for `count` attempts."""
        report = Report(claim.job, claim.token, outcome, value if outcome is Outcome.SUCCESS else b"", **more)
        [verdict], grant = self.store.finish(self.ask(count), [report])
        return verdict, grant

    def work(self, most: int = 1000, outcome: Outcome = Outcome.SUCCESS) -> list[str]:
        """Work through what is queued; returns the tasks in the order of their claims."""
        done = []
        while len(done) < most and (claims := self.take()):
            done.append(claims[0].task)
            self.finish(claims[0], outcome, value=b"value of " + claims[0].task.encode())
        return done

    def events(self) -> list[Event]:
        """All that history was told."""
        return [event for _, event in self.store.events(count=100_000)]

    def told(self, kind: type) -> list[Any]:
        """The events of one kind."""
        return [event for event in self.events() if isinstance(event, kind)]

    def states(self, run: str = "r") -> dict[str, str]:
        """State of each task of a run."""
        view = self.store.run(run)
        assert view is not None
        return {task.task: task.state.value for task in view.tasks}

    def state(self, run: str = "r") -> str:
        """State of a run."""
        state = self.store.state(run)
        assert state is not None
        return state.value

    def bells(self, queue: str = "default") -> list[str]:
        """The doorbells of a queue, the next one first."""
        return [bell.decode() for bell in self.client.lrange(self.keys.bell(queue), 0, -1)]

    def queued(self, queue: str = "default") -> list[str]:
        """The attempts that wait in a queue."""
        return [job.decode() for job in self.client.zrange(self.keys.queued(queue), 0, -1)]

    def call(self, name: str, *args: Any) -> Any:
        """A server function with raw arguments, as somebody might who does not use `Store`."""
        return self.library.call(self.client, name, self.store.prefix, *args)

    def snapshot(self) -> dict[str, Any]:
        """Everything stored but the clock, to see that a call changed nothing."""
        return dump(self.client)


def dump(client: Any) -> dict[str, Any]:
    """All keys with their values and whether they expire."""
    readers = {
        b"string": client.get,
        b"hash": client.hgetall,
        b"list": lambda key: client.lrange(key, 0, -1),
        b"set": client.smembers,
        b"zset": lambda key: client.zrange(key, 0, -1, withscores=True),
        b"stream": client.xrange,
    }
    return {
        key.decode(): (readers[client.type(key)](key), client.pttl(key) >= 0)
        for key in sorted(client.keys("*"))
        if key != b"test:clock"
    }


def pack(value: Any) -> bytes:
    """As workers pack errors."""
    packed: bytes = msgpack.packb(value)
    return packed
