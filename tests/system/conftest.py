"""What the fault suite shares: seeds, sizes, the record of every fault, and the clusters to break.

`make test` plays one seed of each fault, small. TM_CHAOS=1 (`make chaos`) plays three seeds, in full size; TM_CHAOS_SEED
is the first of them, TM_CHAOS_REPORT the file that gets one JSON line for each fault that was played.
"""

from __future__ import annotations

import json
import os
import re
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.rig.cluster import Cluster

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

FULL = os.environ.get("TM_CHAOS", "") not in ("", "0")
FIRST_SEED = int(os.environ.get("TM_CHAOS_SEED", "1"))
SEEDS = [FIRST_SEED + number for number in range(3 if FULL else 1)]

#: for variations that cost more than they add to the short set
sweep_only = pytest.mark.skipif(not FULL, reason="part of the sweep: make chaos")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "seed" in metafunc.fixturenames:
        metafunc.parametrize("seed", SEEDS, ids=[f"seed{seed}" for seed in SEEDS], scope="module")


@dataclass
class Fault:
    """One fault being played: whether it struck, and how long it took to get over it."""

    name: str
    seed: int
    full: bool = FULL
    minutes: float = 0.0  #: that a soak took
    struck: list[str] = field(default_factory=list)
    recoveries: dict[str, float] = field(default_factory=dict)

    def mark(self, what: str) -> None:
        """The injection has fired. A test of a fault that never does this fails."""
        self.struck.append(what)

    def recovered(self, what: str, seconds: float, within: float) -> None:
        """It took so long; fails when that is beyond the number that was promised."""
        self.recoveries[what] = max(seconds, self.recoveries.get(what, 0.0))
        assert seconds <= within, f"{what} took {seconds:.2f} s, promised are {within:g} s"

    def size(self, short: float, full: float) -> Any:
        """How often, in the short set and in the sweep."""
        return full if self.full else short


_failed = pytest.StashKey[bool]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    report = yield
    if report.when == "call":
        item.stash[_failed] = report.failed
    elif report.failed and (about := _about(item.name)) is not None:
        # the fixture that writes the line has not been reached, or knew nothing of what others found at the end
        name, test = about
        record(Fault(name, item.callspec.params["seed"]), test, held=False, seconds=call.duration)  # type: ignore[attr-defined]
    return report


def _about(test: str) -> tuple[str, str] | None:
    """The faults and the title in the name of a test."""
    match = re.match(r"test((?:_f\d\d)+)_(.+?)(\[|$)", test)
    return None if match is None else (match[1].strip("_").upper().replace("_", ", "), match[2].replace("_", " "))


def record(fault: Fault, test: str, *, held: bool, seconds: float) -> None:
    """Write a line at once, where a file for lines is set: what is played later may never end."""
    if (path := os.environ.get("TM_CHAOS_REPORT")) is None:
        return
    line = {
        "fault": fault.name,
        "test": test,
        "seed": fault.seed,
        "held": held,
        "full": fault.full,
        "minutes": fault.minutes,
        "struck": fault.struck[:3],
        "times": len(fault.struck),
        "recoveries": {what: round(taken, 2) for what, taken in fault.recoveries.items()},
        "seconds": round(seconds, 1),
    }
    with Path(path).open("a") as file:
        file.write(json.dumps(line) + "\n")


@pytest.fixture
def fault(request: pytest.FixtureRequest, seed: int) -> Iterator[Fault]:
    """The record of the fault that the test's name begins with: test_f03_..."""
    about = _about(request.node.name)
    assert about is not None, "tests of faults are called test_fNN_what_happens"
    fault = Fault(about[0], seed)
    print(f"{fault.name}, seed {seed}")
    began = time.monotonic()
    yield fault
    failed = request.node.stash.get(_failed, True)
    record(fault, about[1], held=not failed and bool(fault.struck), seconds=time.monotonic() - began)
    assert failed or fault.struck, f"{fault.name} was never injected"


@pytest.fixture(scope="module")
def clusters(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Cluster]]:
    """Makes clusters that live as long as the file of tests."""
    made: list[Cluster] = []

    def make(**options: object) -> Cluster:
        cluster = Cluster(tmp_path_factory.mktemp("cluster"), **options)
        made.append(cluster)
        return cluster

    yield make
    for each in made:
        each.close()


@pytest.fixture
def own(tmp_path: Path, seed: int) -> Iterator[Callable[..., Cluster]]:
    """Makes clusters of one test's own."""
    made: list[Cluster] = []

    def make(**options: object) -> Cluster:
        folder = tmp_path / f"cluster-{len(made)}"
        folder.mkdir()
        cluster = Cluster(folder, **{"seed": seed, **options})
        made.append(cluster)
        return cluster

    yield make
    for each in made:
        each.close()
