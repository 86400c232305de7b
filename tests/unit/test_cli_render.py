"""Text for people and for pipes: aligned, on one line where it should be, never coloured where nobody looks."""

from __future__ import annotations

import io
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from tm.cli.render import STYLES, Render, aligned, duration, shorten
from tm.states import Outcome, RunState, TaskState


def render(terminal: bool = False, color: bool = True) -> tuple[Render, io.StringIO]:
    to = io.StringIO()
    return Render(as_json=False, terminal=terminal, color=color, zone=ZoneInfo("Europe/Berlin"), to=to), to


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (None, ""),
        (0, "0 ms"),
        (0.0034, "3 ms"),
        (0.9994, "999 ms"),
        (0.9999, "1.0 s"),
        (59.9, "59.9 s"),
        (59.97, "1 min 0 s"),
        (125, "2 min 5 s"),
        (3600, "1 h 0 min"),
        (90_000, "25 h 0 min"),
    ],
)
def test_durations_are_for_people(seconds: float | None, said: str) -> None:
    assert duration(seconds) == said


def test_columns_are_aligned_without_trailing_blanks() -> None:
    assert aligned([["RUN", "TIME"], ["a", "1 s"], ["long", "10 s"]], ["RUN", ">TIME"]) == [
        "RUN   TIME",
        "a      1 s",
        "long  10 s",
    ]


def test_a_table_on_a_pipe_is_plain_text() -> None:
    face, to = render()
    face.table(("RUN", "STATE"), [["a[bold]", "success"], ["b", "failed"]], states=("STATE",))
    assert to.getvalue() == "RUN      STATE\na[bold]  success\nb        failed\n"


def test_a_table_on_a_terminal_has_colours_and_no_markup(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("FORCE_COLOR", "1")
    face, to = render(terminal=True)
    face.table(("RUN", "STATE"), [["a[bold]", "success"]], states=("STATE",))
    assert "a[bold]" in to.getvalue()
    assert "\x1b[32msuccess" in to.getvalue()


def test_colour_can_be_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    face, to = render(terminal=True, color=False)
    face.table(("RUN", "STATE"), [["a", "success"]], states=("STATE",))
    assert "\x1b[3" not in to.getvalue()


@pytest.mark.parametrize(("variable", "no_color", "color"), [("", False, True), ("1", False, False), ("", True, False)])
def test_no_color_is_honoured(variable: str, no_color: bool, color: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    from tm.cli.face import Face

    monkeypatch.setenv("NO_COLOR", variable)
    monkeypatch.setattr(Face, "is_terminal", True)
    face = Face()
    face.no_color = no_color
    assert face.render().color is color


def test_every_state_has_a_look() -> None:
    states = {str(state) for kind in (RunState, TaskState, Outcome) for state in kind} - {"rejected"}
    assert states - STYLES.keys() == set()


def test_times_name_the_day_when_it_is_not_today() -> None:
    face, _ = render()
    now = datetime(2026, 11, 24, 3, 0, tzinfo=UTC)
    assert face.clock(datetime(2026, 11, 24, 4, 5, tzinfo=UTC), now=now) == "05:05:00"
    assert face.clock(datetime(2026, 11, 22, 4, 5, tzinfo=UTC), now=now) == "Sun 22 Nov 05:05:00"
    assert face.clock(datetime(2025, 11, 22, 4, 5, tzinfo=UTC), now=now) == "2025-11-22 05:05:00"
    assert face.clock(None) == ""


def test_long_text_is_one_line_with_an_ellipsis() -> None:
    assert shorten("a\nb  c") == "a b c"
    assert shorten("x" * 20, 10) == "xxxxxxxxx…"


def test_a_text_beside_others_keeps_its_column_on_a_terminal_and_is_one_line_on_a_pipe(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("NO_COLOR", "1")
    said = "valkey at unix:///var/lib/some-where/redis.sock, answers"
    face, to = render(terminal=True, color=False)
    face.beside([("ok", "success"), ("  server  ", "")], said)
    assert [line.rstrip() for line in to.getvalue().splitlines()] == [
        "ok  server  valkey at",
        "            unix:///var/lib/some-where/redis.sock,",
        "            answers",
    ]
    face, to = render()
    face.beside([("ok", "success"), ("  server  ", "")], said)
    assert to.getvalue() == f"ok  server  {said}\n"
