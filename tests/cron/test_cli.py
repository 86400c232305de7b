"""`tm cron`: what it prints, as text and as JSON, and its exit codes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click
import pytest
from click.testing import CliRunner, Result

from tm.cli.cron import cron_group

if TYPE_CHECKING:
    from pathlib import Path


def tm_cron(*words: str, text: str | None = None) -> Result:
    result = CliRunner().invoke(cron_group, list(words), input=text, catch_exceptions=False)
    assert "\x1b" not in result.output
    return result


def document(*words: str, text: str | None = None) -> dict[str, object]:
    return json.loads(tm_cron(*words, "--json", text=text).stdout)


def test_it_is_a_group() -> None:
    assert isinstance(cron_group, click.Group)
    assert set(cron_group.commands) == {"next", "prev", "match", "explain", "lint"}


def test_next() -> None:
    result = tm_cron("next", "30 2 * * *", "-n", "2", "--tz", "America/New_York", "--from", "2026-03-07T12:00")
    assert result.stdout == "Sun 2026-03-08 03:00:00-04:00\nMon 2026-03-09 02:30:00-04:00\n"
    assert result.exit_code == 0


def test_next_as_json() -> None:
    assert document("next", "0 0 * * *", "-n", "2", "--from", "2026-01-01T00:00:00Z") == {
        "schema": "tm.cron.next/1",
        "expression": "0 0 * * *",
        "timezone": "UTC",
        "items": [{"at": "2026-01-02T00:00:00Z"}, {"at": "2026-01-03T00:00:00Z"}],
    }
    times = document("next", "0 0 * * *", "-n", "1", "--from", "2026-01-01T00:00:00Z", "--tz", "Asia/Kolkata")
    assert times["items"] == [{"at": "2026-01-02T00:00:00+05:30"}]


def test_next_begins_now() -> None:
    assert len(document("next", "* * * * *")["items"]) == 5


def test_times_of_offsets_with_seconds_are_given_in_utc() -> None:
    items = document("next", "0 12 * * *", "-n", "1", "--tz", "America/New_York", "--from", "1850-01-01")["items"]
    assert items == [{"at": "1850-01-01T16:56:02Z"}]


def test_prev() -> None:
    assert document("prev", "0 0 L * *", "-n", "2", "--from", "2026-03-01")["items"] == [
        {"at": "2026-02-28T00:00:00Z"},
        {"at": "2026-01-31T00:00:00Z"},
    ]


def test_an_end_of_the_runs_is_said() -> None:
    result = tm_cron("next", "0 0 0 1 1 * 2027", "--from", "2026-06-01")
    assert result.stdout == "Fri 2027-01-01 00:00:00+00:00\n"
    assert result.stderr == "no further run\n"
    result = tm_cron("next", "0 0 0 1 1 * 2020", "--from", "2026-06-01")
    assert (result.stdout, result.stderr, result.exit_code) == ("", "no run is left in that direction\n", 0)


def test_match() -> None:
    yes = tm_cron("match", "0 0 1 1 *", "2026-01-01T00:00")
    assert (yes.stdout, yes.exit_code) == ("yes: Thu 2026-01-01 00:00:00+00:00\n", 0)
    no = tm_cron("match", "0 0 1 1 *", "2026-01-01T00:01")
    assert (no.stdout, no.exit_code) == ("no: Thu 2026-01-01 00:01:00+00:00\n", 1)
    assert document("match", "0 0 1 1 *", "2026-01-01T00:01")["items"] == [
        {"at": "2026-01-01T00:01:00Z", "matches": False},
    ]
    assert tm_cron("match", "* * * * *").exit_code == 0
    # 02:30 in Berlin is 01:30 in UTC.
    assert tm_cron("match", "30 2 * * *", "2026-01-01T01:30:00Z", "--tz", "Europe/Berlin").exit_code == 0


def test_explain() -> None:
    lines = tm_cron("explain", "30 2 LW * *", "--tz", "America/New_York", "--from", "2026-01-01").stdout.splitlines()
    assert lines[0] == "At 02:30 on the last weekday of the month"
    assert lines[-1].startswith("Note:")  # no last weekday of a month is a day of change
    lines = tm_cron("explain", "30 2 * * *", "--tz", "America/New_York", "--from", "2026-01-01").stdout.splitlines()
    assert lines[-1] == (
        "America/New_York, 2026-03-08: the clock skips from 02:00 to 03:00; the run of 02:30 comes at 03:00"
    )
    (item,) = document("explain", "*/7 * * * *")["items"]
    assert item["summary"].startswith("At minutes 0, 7, 14")
    assert item["notes"][0] == "*/7 is uneven: after minute 56 comes 0, 4 instead of 7 later"
    assert item["clock_changes"] == []


def test_keys_and_day_rules() -> None:
    first = document("next", "H H * * *", "--key", "a", "-n", "1", "--from", "2026-01-01")
    assert first == document("next", "H H * * *", "--key", "a", "-n", "1", "--from", "2026-01-01")
    both = document("next", "0 0 13 * 5", "--day-rule", "and", "-n", "1", "--from", "2026-01-01")
    assert both["items"] == [{"at": "2026-02-13T00:00:00Z"}]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["next", "0 24 * * *"], "hour: 24 is not in 0-23"),
        (["match", "0 24 * * *"], "hour: 24 is not in 0-23"),
        (["explain", "* * 30 2 *"], "it can never occur"),
        (["next", "* * * * *", "--tz", "Mars/Base"], "no time zone 'Mars/Base'"),
        (["next", "* * * * *", "--from", "soon"], "not a time such as"),
        (["next", "* * * * *", "-n", "0"], "0"),
        (["next"], "EXPRESSION"),
        (["next", "*", "*", "*", "*", "*"], "unexpected extra argument"),
        (["lint", "no-such-file"], "neither a file nor an expression"),
        (["lint"], "FILE|EXPRESSION"),
        (["lint", "a" * 5000], "neither a file nor an expression"),
    ],
)
def test_usage_and_bad_expressions_are_exit_code_2(words: list[str], message: str) -> None:
    result = tm_cron(*words)
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stdout == ""


# --- lint ---------------------------------------------------------------------------------------------------------


def findings(*words: str, text: str | None = None) -> list[tuple[int, int, str]]:
    items = document("lint", *words, text=text)["items"]
    return [(item["line"], item["column"], item["code"]) for item in items]


def test_lint_is_content() -> None:
    result = tm_cron("lint", "*/5 * * * *", "0 9 * * mon-fri", "@daily", "H H * * *")
    assert (result.stdout, result.stderr, result.exit_code) == ("", "nothing found\n", 0)
    assert document("lint", "*/5 * * * *") == {"schema": "tm.cron.lint/1", "items": []}


@pytest.mark.parametrize(
    ("text", "codes"),
    [
        ("*/7 * * * *", ["uneven-step"]),
        ("0 */5 * * *", ["uneven-step"]),
        ("0 0 */2 * *", ["uneven-step"]),
        ("0 0 1 */5 *", ["uneven-step"]),
        ("*/60 * * * *", ["beyond-range"]),
        ("5/99 * * * *", ["beyond-range"]),
        ("* 2 * * *", ["every-minute"]),
        ("0 0 13 * 5", ["either-day"]),
        ("0 0 1-31 * 5", ["either-day"]),
        ("0 0 */10 * 5", ["uneven-step", "both-days"]),
        ("0 0 13 * +5", []),
        ("0 0 31 * *", ["short-months"]),
        ("0 0 31 1,3 *", []),
        ("0 0 30 * *", ["short-months"]),
        ("0 0 29 2 *", ["leap-years"]),
        ("0 0 31W * *", ["short-months"]),
        ("0 0 L * *", []),
        ("0 0 * * 5#5", ["fifth-weekday"]),
        ("0 0-23 * * *", ["clock-change"]),
        ("0 0 0 1 1 * 2020", ["no-run-left"]),
        ("0 24 * * *", ["error"]),
        ("@reboot", ["error"]),
    ],
)
def test_lint_of_expressions(text: str, codes: list[str]) -> None:
    assert [code for _, _, code in findings(text)] == codes
    assert tm_cron("lint", text).exit_code == (6 if codes else 0)


CRONTAB = """\
# m h dom mon dow command
MAILTO = me@example.org
SHELL=/bin/sh

*/5 * * * * /usr/bin/true # fine
  0 24 * * *\tbad hour
@daily /usr/bin/true
@reboot /usr/bin/true
1 2 3
0 0 13 * fri /usr/bin/true
CRON_TZ=America/New_York
30 2 * * * /usr/bin/true
*/15 * * * * /usr/bin/true
CRON_TZ=Mars/Base
"""


def test_lint_of_a_crontab(tmp_path: Path) -> None:
    file = tmp_path / "crontab"
    file.write_text(CRONTAB)
    expected = [
        (6, 5, "error"),
        (8, 1, "error"),
        (9, 1, "error"),
        (10, 1, "either-day"),
        (12, 1, "clock-change"),
        (14, 9, "error"),
    ]
    assert findings(str(file), "--from", "2026-01-01") == expected
    assert findings("-", "--from", "2026-01-01", text=CRONTAB) == expected
    result = tm_cron("lint", str(file))
    assert f"{file}:6:5: error: hour: 24 is not in 0-23 (hint: midnight is hour 0)" in result.stdout.splitlines()
    assert result.exit_code == 6


GRAPHS = """\
import tm
from tm import Graph, no_such_name

raise SystemExit("never imported")
one = Graph("one", schedule="61 * * * *")
two = tm.Graph(name="two", schedule="*/7 * * * *", timezone="Europe/Berlin")
three = Graph("three", schedule="manual")
four = Graph("four", schedule=text)
five = Graph("five", schedule="30 2 * * *", timezone="Europe/Berlin")
six = Graph("six")
seven = Graph("seven", schedule="0 0 * * *", timezone="Mars/Base")
eight = dict(schedule="not for us")
"""


def test_lint_of_a_graph_file(tmp_path: Path) -> None:
    file = tmp_path / "graphs.py"
    file.write_text(GRAPHS)
    assert findings(str(file), "--from", "2026-01-01") == [
        (5, 30, "error"),
        (6, 38, "uneven-step"),
        (9, 32, "clock-change"),
        (9, 32, "clock-change"),  # Berlin skips 02:30 in spring and shows it twice in autumn
        (11, 55, "error"),
    ]
    file.write_text("def :")
    assert findings(str(file)) == [(1, 5, "error")]


def test_lint_with_a_zone() -> None:
    assert findings("30 2 * * *", "--tz", "America/New_York", "--from", "2026-01-01") == [(1, 1, "clock-change")]
    assert findings("30 12 * * *", "--tz", "America/New_York", "--from", "2026-01-01") == []


def test_lint_of_what_cannot_be_read(tmp_path: Path) -> None:
    file = tmp_path / "binary"
    file.write_bytes(b"\xff\xfe\x00")
    result = tm_cron("lint", str(file))
    assert result.exit_code == 2
    assert "cannot be read" in result.stderr
