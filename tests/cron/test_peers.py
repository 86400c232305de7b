"""Beside croniter and cronsim: same answers, but for a closed list of reasons.

Random expressions of the part of the grammar that the peers share are asked for the run after and before a random
moment, naive or in a zone. Every disagreement must be one of `REASONS`, and then the oracle must side with us.
"""

from __future__ import annotations

import random
import re
import signal
from collections import Counter
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import pytest
from croniter import CroniterBadDateError, CroniterError, croniter
from cronsim import CronSim, CronSimError

from tests.cron import oracle
from tests.cron.effort import nightly_only
from tests.cron.strategies import ZONES
from tm.cron import CronError, Exhausted, Expression

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Answer = datetime | str | None  # a run, None for "no run", "refused" or "hangs"


class Hangs(Exception):  # noqa: N818 -- reads better
    pass


@contextmanager
def patience(seconds: float) -> Iterator[None]:
    """Ends a peer that never returns; the virtual timer leaves pytest-timeout's alone."""

    def stop(*_: object) -> None:
        raise Hangs

    before = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def ours(text: str, at: datetime, back: bool) -> Answer:
    try:
        expression = Expression(text)
    except CronError:
        return "refused"
    try:
        return expression.prev(at) if back else expression.next(at)
    except Exhausted:
        return None


def ask_croniter(text: str, at: datetime, back: bool) -> Answer:
    try:
        # The daemon's rule for stars (the default differs, and says so).
        one = croniter(text, at, implement_cron_bug=True, second_at_beginning=True)
        with patience(3):
            return one.get_prev(datetime) if back else one.get_next(datetime)
    except CroniterBadDateError:
        return None
    except CroniterError:
        return "refused"
    except Hangs:
        return "hangs"


def ask_cronsim(text: str, at: datetime, back: bool) -> Answer:
    try:
        with patience(3):
            return next(CronSim(text, at, reverse=back))
    except StopIteration:
        return None
    except CronSimError:
        return "refused"
    except Hangs:
        return "hangs"


class Case:
    """One question and the two answers."""

    def __init__(self, text: str, at: datetime, back: bool, our: Answer, their: Answer) -> None:
        self.text, self.at, self.back, self.our, self.their = text, at, back, our, their
        fields = text.upper().split()
        self.six = len(fields) == 6
        self.minute, self.hour, self.dom, self.month, self.dow = fields[-5:]
        self.fields = fields

    def items(self) -> Iterator[str]:
        for field in self.fields:
            yield from field.split(",")

    def near_a_change(self) -> bool:
        """Whether the clock changes within a day of the question or of an answer."""
        zone = self.at.tzinfo
        if not isinstance(zone, ZoneInfo):
            return False
        day = timedelta(days=1, hours=3)
        for one in (self.at, self.our, self.their):
            if isinstance(one, datetime):
                wall = one.replace(tzinfo=None)
                if len({(wall + step * day).replace(tzinfo=zone).utcoffset() for step in (-1, 0, 1)}) > 1:
                    return True
        return False

    def same_value_range(self) -> bool:
        for item in self.items():
            low, dash, high = item.partition("/")[0].partition("-")
            if dash and NUMBERS.get(low, low).lstrip("0") == NUMBERS.get(high, high).lstrip("0"):
                return True
        return False


NUMBERS = {name.upper(): str(number) for table in oracle.NAMES.values() for name, number in table.items()}
Reason = tuple[str, "Callable[[Case], bool]"]

# Each line: what the peer does differently, and the only texts and moments where that is an excuse.
CRONITER: list[Reason] = [
    ("a-a is the whole field", Case.same_value_range),
    ("0-7 and 7-7 in dow are read modulo 7", lambda case: bool(re.search(r"(^|,)0*7|-0*7", case.dow))),
    ("dom is dropped beside d#n and dL", lambda case: case.dom != "*" and bool(re.search(r"#|L", case.dow))),
    ("n/step in dow ends at Saturday", lambda case: bool(re.search(r"(^|,)\w+/", case.dow))),
    ("nW beside dow is always AND", lambda case: "W" in case.dom and case.dow != "*"),
    ("31W falls back to the last weekday of short months", lambda case: bool(re.fullmatch(r"(29|3[01])W", case.dom))),
    ("a star later in a list of days counts as a star", lambda case: ",*" in case.dom or ",*" in case.dow),
    ("clock changes (twice in an overlap, wildcards after a gap)", Case.near_a_change),
]
CRONSIM: list[Reason] = [
    ("a-a/s is read as a/s", Case.same_value_range),
    ("sun never ends a range", lambda case: case.their == "refused" and "-SUN" in case.dow),
    ("hangs at a change", lambda case: case.their == "hangs" and case.near_a_change()),
    ("clock changes (imaginary and missed runs, six fields exempt)", Case.near_a_change),
]
PEERS = {"croniter": (ask_croniter, CRONITER), "cronsim": (ask_cronsim, CRONSIM)}


def field(chance: random.Random, low: int, high: int, names: list[str] | None = None) -> str:
    def spelled(number: int) -> str:
        return names[number - low] if names and number - low < len(names) and chance.random() < 0.3 else str(number)

    def item() -> str:
        kind = chance.choice(("value", "value", "range", "star", "steps", "from"))
        first, last = sorted((chance.randint(low, high), chance.randint(low, high)))
        step = chance.randint(1, max(2, high // 2))
        if kind == "value":
            return spelled(first)
        if kind == "star":
            return f"*/{step}"
        if kind == "from":
            return f"{first}/{step}"
        return f"{spelled(first)}-{spelled(last)}" + (f"/{step}" if kind == "steps" else "")

    return ",".join(item() for _ in range(chance.choice((1, 1, 1, 2, 3))))


def expression(chance: random.Random, at: datetime) -> str:
    """Any days for naive moments; near changes of clocks mostly every day, or hardly any run would be near them."""
    if at.tzinfo is not None and chance.random() < 0.7:
        return " ".join((field(chance, 0, 59), chance.choice(("*", field(chance, 0, 4))), "* * *"))
    dom = chance.choice(("*", "*", field(chance, 1, 31), "L", f"{chance.randint(1, 31)}W", "L,15"))
    dow = chance.choice(
        (
            "*",
            "*",
            field(chance, 0, 7, list(oracle.NAMES["dow"])),
            f"{chance.randint(0, 6)}#{chance.randint(1, 5)}",
            f"{chance.randint(1, 6)}L",
            "sat-sun",
        )
    )
    fields = [
        chance.choice(("*", field(chance, 0, 59), str(chance.randint(0, 59)))),
        chance.choice(("*", field(chance, 0, 23), str(chance.randint(0, 23)))),
        dom,
        chance.choice(("*", "*", field(chance, 1, 12, list(oracle.NAMES["month"])))),
        dow,
    ]
    if chance.random() < 0.2:
        fields.insert(0, field(chance, 0, 59))
    return " ".join(fields)


def moment(chance: random.Random) -> datetime:
    at = datetime(1990, 1, 1) + timedelta(seconds=chance.randrange(50 * 365 * 86400))
    if chance.random() < 0.5:
        return at
    zone = ZoneInfo(chance.choice(ZONES))
    if chance.random() < 0.5:
        return at.replace(tzinfo=zone)
    change = chance.choice(changes_of(str(zone)))
    instant = change.instant + timedelta(minutes=chance.randint(-300, 300))
    return zone.fromutc(instant.replace(tzinfo=zone))


_known_changes: dict[str, list[oracle.Change]] = {}


def changes_of(name: str) -> list[oracle.Change]:
    if name not in _known_changes:
        found = oracle.changes(ZoneInfo(name), datetime(2000, 1, 1), datetime(2025, 1, 1))
        _known_changes[name] = found or [oracle.Change(datetime(2010, 1, 1), timedelta(0), timedelta(0))]
    return _known_changes[name]


def translated(peer: str, text: str) -> str | None:
    """The text in the peer's dialect; None when it has no word for it."""
    fields = text.split()
    dom, dow = fields[-3], fields[-1]
    if peer == "croniter":
        # The last Friday is L5 there, and its seconds come first only on request.
        fields[-1] = re.sub(r"^(\d)L$", r"L\1", dow)
    elif "W" in dom:
        return None
    return " ".join(fields)


def utc(at: Answer) -> Answer:
    return at if not isinstance(at, datetime) or at.tzinfo is None else at.replace(tzinfo=None) - at.utcoffset()


def oracle_agrees(case: Case) -> bool:
    """Whether our answer is right by the definition: a run, and none between it and the question."""
    try:
        meaning = oracle.read(case.text)
    except oracle.Bad:
        return case.our == "refused"
    if not isinstance(case.our, datetime):
        return False
    zone = case.at.tzinfo
    at, our = utc(case.at), utc(case.our)
    # Between a far question and its answer only the days next to the answer are looked at.
    far, second = timedelta(days=40), timedelta(seconds=1)
    low, high = (our, min(at, our + far)) if case.back else (max(at, our - far), our + second)
    if isinstance(zone, ZoneInfo):
        runs = zoned_runs(meaning, zone, low, high)
    else:
        runs = list(oracle.naive_runs(meaning, low, high))
    return [one for one in runs if case.back or one > at] == [our]


def zoned_runs(meaning: oracle.Meaning, zone: ZoneInfo, start: datetime, end: datetime) -> list[datetime]:
    """By the walk around every change, with plain stretches between them."""
    day = timedelta(days=1)
    middles = oracle.changes(zone, start - 2 * day, end + 2 * day, timedelta(hours=12))
    runs: list[datetime] = []
    at = start
    for change in [*middles, None]:
        stop = end if change is None else min(end, change.instant - day - timedelta(hours=4))
        if at < stop:
            offset = zone.fromutc(at.replace(tzinfo=zone)).utcoffset()
            runs += [wall - offset for wall in oracle.naive_runs(meaning, at + offset, stop + offset)]
        if change is not None:
            low, high = change.instant - day - timedelta(hours=4), change.instant + day + timedelta(hours=4)
            around = oracle.runs_around(meaning, change, low, high)
            runs += [run for run in around if max(start, at) <= run < end]
            at = max(at, high)
    return runs


def run(pairs: int, seed: int) -> dict[str, Counter[str]]:
    """Compare; returns how often each reason was needed."""
    chance = random.Random(seed)
    needed: dict[str, Counter[str]] = {name: Counter() for name in PEERS}
    for _ in range(pairs):
        at, back = moment(chance), chance.random() < 0.4
        text = expression(chance, at)
        our = ours(text, at, back)
        for name, (ask, reasons) in PEERS.items():
            spelled = translated(name, text)
            if spelled is None:
                continue
            their = ask(spelled, at, back)
            if utc(their) == utc(our) or (our == "refused" and their is None):
                needed[name]["same"] += 1
                continue
            case = Case(text, at, back, our, their)
            reason = next((label for label, excuse in reasons if excuse(case)), None)
            assert reason, f"{name}: {text!r} {'before' if back else 'after'} {at}: we say {our}, they say {their}"
            assert oracle_agrees(case), f"{text!r} {'before' if back else 'after'} {at}: we say {our}, {name} {their}"
            needed[name][reason] += 1
    return needed


def test_a_few_thousand_pairs() -> None:
    needed = run(2_500, 1)
    for name in PEERS:
        assert needed[name]["same"] > 1_000


@nightly_only
@pytest.mark.timeout(7200)
def test_a_hundred_thousand_pairs() -> None:
    needed = run(100_000, 2)
    for name, (_, reasons) in PEERS.items():
        # The list is closed and none of it is idle.
        assert set(needed[name]) - {"same"} == {label for label, _ in reasons}, needed[name]
