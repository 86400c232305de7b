"""Durations, instants and questions on command lines."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import click
import pytest

from tm.cli.face import Face
from tm.cli.options import allowed, instant_of, seconds_of, when, who

BERLIN = ZoneInfo("Europe/Berlin")
NOW = datetime(2026, 11, 24, 4, 5, tzinfo=UTC)  # 5:05 in Berlin


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 90),
        ("0.5", 0.5),
        ("10s", 10),
        ("100ms", 0.1),
        ("5m", 300),
        ("1h30m", 5400),
        ("2d", 172_800),
        ("1w", 604_800),
    ],
)
def test_durations(text: str, seconds: float) -> None:
    assert seconds_of(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "soon", "-5", "5x", "m5", "1h 30m", "5:30"])
def test_what_is_no_duration(text: str) -> None:
    assert seconds_of(text) is None


@pytest.mark.parametrize(
    ("text", "last", "right"),
    [
        ("2026-11-02", False, "2026-11-01T23:00:00+00:00"),
        ("2026-11-02", True, "2026-11-02T22:59:59.999999+00:00"),
        ("2026-11-02 06:00", True, "2026-11-02T05:00:00+00:00"),
        ("2026-11-02T06:00:00Z", False, "2026-11-02T06:00:00+00:00"),
        ("2026-11-02T06:00:00-05:00", False, "2026-11-02T11:00:00+00:00"),
        ("04:00", False, "2026-11-24T03:00:00+00:00"),
        ("04:00", True, "2026-11-25T03:00:00+00:00"),
        ("06:00", True, "2026-11-24T05:00:00+00:00"),
        ("now", False, "2026-11-24T04:05:00+00:00"),
    ],
)
def test_instants(text: str, last: bool, right: str) -> None:
    found = instant_of(text, BERLIN, now=NOW, last=last)
    assert found is not None
    assert found.astimezone(UTC).isoformat() == right


@pytest.mark.parametrize("text", ["", "yesterday", "25:00", "2026-13-01", "24.11.2026"])
def test_what_is_no_instant(text: str) -> None:
    with pytest.raises(click.BadParameter):
        when(text, BERLIN, "--from")


def test_without_a_terminal_only_yes_answers() -> None:
    face = Face()
    allowed(face, "Really?", yes=True)
    with pytest.raises(click.UsageError, match=r"Really\? Say -y where nobody can be asked"):
        allowed(face, "Really?", yes=False)


def test_who_asks_is_a_user_on_a_host() -> None:
    user, _, host = who().partition("@")
    assert user
    assert host
