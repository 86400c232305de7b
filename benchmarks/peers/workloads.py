"""The workloads: how much work each is, and how its figure is told."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """One kind of work."""

    name: str
    method: str  #: of the adapters
    about: str
    unit: str
    size: int
    quick: int
    better: str = "low"  #: "high" for rates
    scale: float = 1.0  #: of one task's seconds, for times; `whole` figures are not divided by the size
    whole: bool = False  #: the figure is the time of all of it, scaled to the full size when a peer gets less
    processes: int = 2  #: worker processes; 0 for work inside the client
    repeat: int = 1  #: times in a row for one measurement, for what is over quickly
    rounds: int = 99  #: at most
    factor: int = 1  #: tasks for each unit of size
    extra: int = 0  #: tasks beyond the size (root and collector of a fan)
    quantile: float | None = None  #: of samples, instead of a time for all
    ours_only: bool = False
    target: str = ""  #: what the project wants to reach

    def figure(self, seconds: float, size: int) -> float:
        """The figure of a run of `size` that took so long."""
        if self.better == "high":
            return size * self.factor / seconds
        if self.whole:
            return seconds * self.scale * self.size / size
        return seconds * self.scale / size

    def tasks(self, size: int) -> int:
        """How many tasks one repetition of `size` runs."""
        return size * self.factor + self.extra


WORKLOADS = [
    Workload(
        name="flat",
        method="flat",
        about="10,000 runs of a one-task graph that returns a small dict, submitted in bulk",
        unit="tasks/s",
        better="high",
        size=10_000,
        quick=500,
        target="4.5x Huey",
    ),
    Workload(
        name="flat, one by one",
        method="single",
        about="the same, one submission after the other",
        unit="tasks/s",
        better="high",
        size=10_000,
        quick=300,
        target="2x Huey",
    ),
    Workload(
        name="chain",
        method="chain",
        about="100 tasks in a row, a dict passed on",
        unit="ms/hop",
        scale=1e3,
        size=100,
        quick=30,
        repeat=3,
        target="2.2x Huey, 4x Celery",
    ),
    Workload(
        name="fan",
        method="fan",
        about="1 task, then 1,000, then 1 that receives all their results",
        unit="s",
        whole=True,
        size=1000,
        quick=60,
        extra=2,
        target="10x the fastest",
    ),
    Workload(
        name="diamonds",
        method="diamonds",
        about="500 runs of a diamond of 4 tasks",
        unit="tasks/s",
        better="high",
        size=500,
        quick=30,
        factor=4,
        target="17x the fastest",
    ),
    Workload(
        name="wide",
        method="wide",
        about="one run of 10,000 tasks: 1, then 9,998, then 1 that receives all",
        unit="tasks/s",
        better="high",
        size=10_000,
        quick=100,
        rounds=3,
    ),
    Workload(
        name="payload",
        method="payload",
        about="20 tasks in a row, 256 KiB of text passed on",
        unit="ms/hop",
        scale=1e3,
        size=20,
        quick=5,
        repeat=2,
    ),
    Workload(
        name="start p50",
        method="start_latency",
        about="from submitting to the first line of the task, on idle workers: half are quicker",
        unit="ms",
        scale=1e3,
        size=60,
        quick=20,
        quantile=0.5,
        target="0.8 ms",
    ),
    Workload(
        name="start p99",
        method="start_latency",
        about="the same: 99 of 100 are quicker",
        unit="ms",
        scale=1e3,
        size=60,
        quick=20,
        quantile=0.99,
        target="2 ms",
    ),
    Workload(
        name="light",
        method="light",
        about="40 tasks in a row of fib(10) on one worker process; beyond the time of fib(10) itself",
        unit="ms/task",
        scale=1e3,
        size=40,
        quick=10,
        processes=1,
        repeat=3,
        target="0.40 ms",
    ),
    Workload(
        name="long",
        method="long",
        about="10 tasks in a row of fib(33) on one worker process",
        unit="s",
        whole=True,
        size=10,
        quick=2,
        processes=1,
        rounds=1,
    ),
    Workload(
        name="in process",
        method="inprocess",
        about="a chain of 100 in the calling process, without a server",
        unit="us/task",
        scale=1e6,
        size=100,
        quick=100,
        processes=0,
        repeat=5,
        target="15 us",
    ),
    Workload(
        name="tick first",
        method="tick",
        about="1,000 graphs due at one instant: from the instant until the first is queued",
        unit="ms",
        scale=1e3,
        size=1000,
        quick=50,
        rounds=1,
        processes=0,
        quantile=0.0,
        ours_only=True,
        target="5 ms",
    ),
    Workload(
        name="tick last",
        method="tick",
        about="the same: until all are queued",
        unit="ms",
        scale=1e3,
        size=1000,
        quick=50,
        rounds=1,
        processes=0,
        quantile=1.0,
        ours_only=True,
        target="250 ms",
    ),
]
#: measured with an append-only file as well
DURABLE = ("flat", "flat, one by one", "chain", "fan", "diamonds", "payload")


def chosen(names: str | None) -> list[Workload]:
    """The workloads of a comma-separated list; a name stands for all that begin with it."""
    if not names:
        return WORKLOADS
    wanted = [name.strip() for name in names.split(",")]
    found = [each for each in WORKLOADS if any(each.name.startswith(name) for name in wanted)]
    if unknown := [name for name in wanted if not any(each.name.startswith(name) for each in WORKLOADS)]:
        raise SystemExit(f"no workload begins with {unknown[0]!r}; there are: {', '.join(w.name for w in WORKLOADS)}")
    return found
