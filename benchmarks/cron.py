"""Speed of `tm.cron` beside croniter and cronsim: one process, paired rounds, medians and ratios.

Run `python benchmarks/cron.py` (about a minute) or `--quick`. Every round gives the same work to the three libraries
one after the other, in an order that turns, so that a slow moment of the machine hits all of them; a ratio is the
median of the rounds' ratios against the faster peer of that row. The results go to benchmarks/results/cron.json.

What is counted: `next` rows follow a chain from one object of each library, or ask for the first run after random
instants (cronsim can only start from an instant by parsing again, and croniter is moved with `set_current`). Parse rows
use texts that no library has seen before in the process, since croniter remembers texts.
"""

from __future__ import annotations

import gc
import json
import platform
import random
import statistics
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from functools import partial
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict
from zoneinfo import ZoneInfo

from croniter import croniter
from cronsim import CronSim

from tm.cron import Expression

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LIBRARIES = ("tm", "croniter", "cronsim")
NEW_YORK = ZoneInfo("America/New_York")
START = datetime(2024, 1, 1, 0, 2)  # noqa: DTZ001 -- naive times are a row of their own
HEAVY = "1,2,7,9,14,33-59/3 0-5,9-17/2,23 1-15,20,25-28 1-6,9,12 mon-fri"
TARGETS = {"next geometric mean": 10.0, "next worst row": 2.5, "parse": 2.0, "parse and first next": 3.0, "gap": 1.0}


class Row(TypedDict):
    """One line of the table; times in microseconds for one call."""

    kind: str
    name: str
    tm: float
    croniter: float
    cronsim: float
    ratio: float


Work = dict[str, "Callable[[], object]"]


def chain(text: str, start: datetime, count: int) -> Work:
    """`count` runs in a row from objects made beforehand."""

    def ours() -> None:
        ask, at = Expression(text).next, start
        for _ in range(count):
            at = ask(at)

    def theirs() -> None:
        ask = croniter(text, start).get_next
        for _ in range(count):
            ask(datetime)

    def sims() -> None:
        ask = CronSim(text, start).__next__
        for _ in range(count):
            ask()

    return {"tm": ours, "croniter": theirs, "cronsim": sims}


def random_starts(text: str, tz: ZoneInfo | None, count: int, chance: random.Random) -> Work:
    """The first run after `count` instants of 40 years."""
    starts = [
        datetime(2000, 1, 1, tzinfo=tz) + timedelta(seconds=chance.randrange(40 * 365 * 86400)) for _ in range(count)
    ]

    def ours() -> None:
        ask = Expression(text).next
        for at in starts:
            ask(at)

    def theirs() -> None:
        one = croniter(text, starts[0])
        for at in starts:
            one.set_current(at, force=True)
            one.get_next(datetime)

    def sims() -> None:
        for at in starts:
            next(CronSim(text, at))

    return {"tm": ours, "croniter": theirs, "cronsim": sims}


def new_texts(count: int, chance: random.Random) -> Iterator[list[str]]:
    """Lists of expressions of all sorts; none is given twice."""
    seen: set[str] = set()
    while True:
        texts: list[str] = []
        while len(texts) < count:
            text = " ".join(
                (
                    new_field(chance, 0, 59),
                    new_field(chance, 0, 23),
                    chance.choice(("*", "*", new_field(chance, 1, 28))),
                    chance.choice(("*", "*", new_field(chance, 1, 12), "jan-jun", "mar,oct")),
                    chance.choice(("*", "*", new_field(chance, 0, 6), "mon-fri", "sat,sun")),
                )
            )
            if text not in seen:
                seen.add(text)
                texts.append(text)
        yield texts


def new_field(chance: random.Random, low: int, high: int) -> str:
    first, second = sorted((chance.randint(low, high), chance.randint(low, high)))
    return chance.choice(
        (
            str(first),
            f"*/{chance.randint(2, 15)}",
            f"{first}-{second}" if first < second else str(first),
            f"{first},{second}" if first < second else str(first),
            ",".join(map(str, sorted(chance.sample(range(low, high + 1), 4)))),
        )
    )


def parse(texts: list[str]) -> Work:
    return {
        "tm": lambda: [Expression(text) for text in texts],
        "croniter": lambda: [croniter(text, START) for text in texts],
        "cronsim": lambda: [CronSim(text, START) for text in texts],
    }


def parse_and_next(texts: list[str], start: datetime) -> Work:
    return {
        "tm": lambda: [Expression(text).next(start) for text in texts],
        "croniter": lambda: [croniter(text, start).get_next(datetime) for text in texts],
        "cronsim": lambda: [next(CronSim(text, start)) for text in texts],
    }


def rounds(work: Callable[[], Work], calls: int, number: int) -> tuple[dict[str, float], float]:
    """Median microseconds of one call for each library, and the median ratio of the faster peer to ours."""
    times: dict[str, list[float]] = {name: [] for name in LIBRARIES}
    ratios = []
    for turn in range(number):
        task = work()
        gc.collect()
        for place in range(3):
            name = LIBRARIES[(turn + place) % 3]
            begin = time.perf_counter()
            task[name]()
            times[name].append((time.perf_counter() - begin) / calls * 1e6)
        ratios.append(min(times["croniter"][-1], times["cronsim"][-1]) / times["tm"][-1])
    return {name: statistics.median(values) for name, values in times.items()}, statistics.median(ratios)


def measure(number: int, scale: float) -> list[Row]:
    """All rows; `scale` shortens every one of them."""
    chance = random.Random(20261124)
    rows: list[Row] = []

    def add(kind: str, name: str, work: Callable[[], Work], calls: int) -> None:
        times, ratio = rounds(work, calls, number)
        rows.append({"kind": kind, "name": name, **times, "ratio": ratio})  # type: ignore[typeddict-item]
        line = f"{name:38}" + "".join(f"{times[library]:11.2f}" for library in LIBRARIES)
        print(f"{kind:21}{line}{ratio:9.1f}x", flush=True)

    many, few = max(40, int(1500 * scale)), max(20, int(300 * scale))
    aware = START.replace(tzinfo=NEW_YORK)
    print(f"{'':21}{'microseconds a call':38}" + "".join(f"{library:>11}" for library in LIBRARIES) + "    ratio")
    for text, count in (
        ("*/5 * * * *", many),
        ("* * * * *", many),
        ("30 4 * * *", many),
        ("0 9 * * 1-5", many),
        ("30 4 1,15 * 5", many),
        (HEAVY, many),
        ("0 0 29 2 *", few),
        ("0 0 13 * 5", few),
    ):
        add("next, chain", text if text != HEAVY else "heavy list", partial(chain, text, START, count), count)
    for text in ("*/5 * * * *", "30 4 * * *", "0 9 * * 1-5"):
        add("next, chain", f"{text}, New York", partial(chain, text, aware, many), many)
    for text in ("*/5 * * * *", "0 9 * * 1-5", HEAVY, "0 0 29 2 *"):
        label = text if text != HEAVY else "heavy list"
        add("next, random starts", label, partial(random_starts, text, None, few, chance), few)
    for text in ("*/5 * * * *", "30 4 * * *"):
        add("next, random starts", f"{text}, New York", partial(random_starts, text, NEW_YORK, few, chance), few)

    texts = new_texts(few, chance)
    add("parse", "texts never seen before", lambda: parse(next(texts)), few)
    add("parse and first next", "texts never seen before", lambda: parse_and_next(next(texts), START), few)
    add("parse and first next", "the same, New York", lambda: parse_and_next(next(texts), aware), few)

    before_gap = datetime(2024, 3, 9, 12, tzinfo=NEW_YORK)
    for text in ("30 2 * * *", "*/15 * * * *"):
        start = before_gap if text.startswith("30") else datetime(2024, 3, 10, 1, 45, tzinfo=NEW_YORK)
        one = partial(parse_and_next, [text] * few, start)
        add("gap", f"{text}, parse and next", one, few)
        add("gap", f"{text}, next", partial(repeated_next, text, start, few), few)
    return rows


def repeated_next(text: str, start: datetime, count: int) -> Work:
    """The same step again and again; the peers are put back to the start, which is not counted."""
    expression, one = Expression(text), croniter(text, start)
    sims = [CronSim(text, start) for _ in range(count)]

    def theirs() -> None:
        for _ in range(count):
            one.get_next(datetime, start_time=start)

    return {
        "tm": lambda: [expression.next(start) for _ in range(count)],
        "croniter": theirs,
        "cronsim": lambda: [next(sim) for sim in sims],
    }


def import_time() -> float:
    """Milliseconds that `import tm.cron` adds to the start of Python (median of 9 paired processes)."""
    command = [sys.executable, "-I", "-c"]
    differences = []
    for _ in range(9):
        moments = [time.perf_counter()]
        for code in ("pass", "import tm.cron"):
            subprocess.run([*command, code], check=True)
            moments.append(time.perf_counter())
        plain, ours = (after - before for before, after in pairwise(moments))
        differences.append((ours - plain) * 1000)
    return statistics.median(differences)


def verdict(rows: list[Row], milliseconds: float) -> tuple[dict[str, float], bool]:
    """The figures that were promised, and whether all hold."""
    nexts = [row["ratio"] for row in rows if row["kind"].startswith("next")]
    figures = {"next geometric mean": statistics.geometric_mean(nexts), "next worst row": min(nexts)}
    for kind in ("parse", "parse and first next", "gap"):
        figures[kind] = min(row["ratio"] for row in rows if row["kind"] == kind)
    good = all(figures[name] >= target for name, target in TARGETS.items())
    figures["import milliseconds"] = milliseconds
    return figures, good and milliseconds < 20


def main() -> int:
    quick = "--quick" in sys.argv
    rows = measure(5, 0.2) if quick else measure(15, 1.0)
    figures, good = verdict(rows, import_time())
    print()
    for name, value in figures.items():
        promised = f">= {TARGETS[name]:g}x" if name in TARGETS else "< 20"
        print(f"{name:25}{value:8.1f}   promised {promised}")
    if not quick:
        result = {
            "schema": "tm.benchmark.cron/1",
            "measured_at": datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
            "python": platform.python_version(),
            "versions": {name: version(name) for name in ("croniter", "cronsim")},
            "figures": {name: round(value, 2) for name, value in figures.items()},
            "holds": good,
            "rows": [
                {name: round(value, 3) if isinstance(value, float) else value for name, value in row.items()}
                for row in rows
            ],
        }
        target = Path(__file__).parent / "results" / "cron.json"
        target.parent.mkdir(exist_ok=True)
        target.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
