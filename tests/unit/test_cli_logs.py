"""`tm logs` on stderr: who is told that a task had nothing to print."""

from __future__ import annotations

import pytest

from tm.cli.face import Face
from tm.cli.logs import _warn
from tm.logbook import Entry, Found, Logbook, Note, Wanted
from tm.loglines import Line, Stream
from tm.lookup import Lookup

LINE = Entry("load", 1, Line(0, Stream.STDOUT, 20, "", "rows: 3"))
ONE = Note("a", 1, "it ended as success and printed nothing", is_silence=True)
TWO = Note("b", 1, "it ended as skipped and printed nothing", is_silence=True)
LOST = Note("c", 1, "its last lines may be missing; it was lost")

TOLD_ONE = "tm: a, attempt 1: it ended as success and printed nothing\n"
TOLD_TWO = "tm: b, attempt 1: it ended as skipped and printed nothing\n"
TOLD_LOST = "tm: c, attempt 1: its last lines may be missing; it was lost\n"


@pytest.mark.parametrize(
    ("entries", "notes", "task", "told"),
    [
        ([LINE], [ONE, TWO], None, ""),
        ([LINE], [ONE, LOST, TWO], None, TOLD_LOST),
        ([LINE], [ONE], "a", TOLD_ONE),
        ([], [ONE], "a", TOLD_ONE),
        ([], [ONE], None, TOLD_ONE),
        ([], [ONE, TWO], None, "tm: 2 attempts ended well and printed nothing\n"),
        ([], [ONE, LOST, TWO], None, f"{TOLD_LOST}tm: 2 attempts ended well and printed nothing\n"),
        ([], [], None, ""),
    ],
)
def test_silence_is_told_to_those_who_ask_for_it(
    entries: list[Entry], notes: list[Note], task: str | None, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    _warn(Face(), Logbook(Lookup(None)), Found(entries, notes), Wanted(task=task))
    assert capsys.readouterr().err == told


def test_verbose_tells_all_and_quiet_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    face, found = Face(), Found([LINE], [ONE, LOST, TWO])
    face.verbose = True
    _warn(face, Logbook(Lookup(None)), found, Wanted())
    assert capsys.readouterr().err == TOLD_ONE + TOLD_LOST + TOLD_TWO
    face.quiet = True
    _warn(face, Logbook(Lookup(None)), found, Wanted(task="a"))
    assert capsys.readouterr().err == ""
