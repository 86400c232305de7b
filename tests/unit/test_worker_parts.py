"""Spool, patience, failures in words, queues, and a command line that stays light."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any

import click
import pytest

from tm import codec
from tm.errors import CodecError, SettingsError
from tm.graph import Graph, task
from tm.states import Outcome
from tm.store.records import Report
from tm_worker.cli import worker
from tm_worker.faults import MAX_TEXT, MAX_TRACEBACK, describe, fault, keep_sources
from tm_worker.outage import FIRST_DELAY, LONGEST_DELAY, Outage
from tm_worker.service import check_queues, queues_of
from tm_worker.spool import Spool

if TYPE_CHECKING:
    from pathlib import Path

REPORT = Report("run_0_1", "tok-en_1.1", Outcome.FAILED, b"", b"\x81", retry=False, ms=7, chance=0.5)


def test_what_was_spooled_is_found_by_the_next(tmp_path: Path) -> None:
    Spool(tmp_path, "a").keep([REPORT])
    again = Spool(tmp_path, "a")
    assert again.left_behind() == [REPORT]
    again.forget([REPORT])
    assert Spool(tmp_path, "a").left_behind() == []


def test_results_go_to_no_other_server(tmp_path: Path) -> None:
    Spool(tmp_path, "a").keep([REPORT])
    assert Spool(tmp_path, "b").left_behind() == []


def test_the_spool_is_private(tmp_path: Path) -> None:
    Spool(tmp_path, "a").keep([REPORT])
    assert (tmp_path / "spool" / "a").stat().st_mode & 0o077 == 0
    assert all(path.stat().st_mode & 0o077 == 0 for path in (tmp_path / "spool" / "a").iterdir())


@pytest.mark.parametrize("rubbish", [b"", b"\xc1", b"\x90", b"\x98" + b"\x01" * 8])
def test_a_damaged_file_is_set_aside(tmp_path: Path, rubbish: bytes) -> None:
    spool = Spool(tmp_path, "a")
    spool.keep([REPORT])
    (tmp_path / "spool" / "a" / "other").write_bytes(rubbish)
    assert Spool(tmp_path, "a").left_behind() == [REPORT]
    assert (tmp_path / "spool" / "a" / "other.bad").exists()
    assert Spool(tmp_path, "a").left_behind() == [REPORT]


def test_a_disk_that_refuses_does_not_stop_the_worker(tmp_path: Path) -> None:
    (tmp_path / "spool").write_text("in the way")
    Spool(tmp_path, "a").keep([REPORT])


def test_patience_grows_and_begins_anew() -> None:
    outage = Outage("redis://u:secret@h/0")
    assert "secret" not in outage.where
    assert outage.may_try(0.0)
    pauses = []
    for _ in range(12):
        outage.failed(ConnectionError("gone"), 100.0)
        assert outage.retry_at is not None
        pauses.append(outage.retry_at - 100.0)
    assert FIRST_DELAY / 2 <= pauses[0] <= FIRST_DELAY
    assert LONGEST_DELAY / 2 <= pauses[-1] <= LONGEST_DELAY
    assert not outage.may_try(100.0)
    outage.over()
    outage.failed(ConnectionError("gone"), 100.0)
    assert outage.retry_at is not None
    assert outage.retry_at - 100.0 <= FIRST_DELAY


def test_an_outage_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    outage = Outage("redis://h/0")
    with caplog.at_level("INFO", "tm.worker"):
        for _ in range(3):
            outage.failed(ConnectionError("gone"), 0.0)
        outage.over()
        outage.over()
    assert [record.getMessage() for record in caplog.records] == [
        "server away, trying again until it is back",
        "server back",
    ]


def test_an_exception_becomes_type_message_and_traceback() -> None:
    error = KeyError("x")
    error.__cause__ = OSError("cause")
    fields = codec.decode(describe(error))
    assert (fields["type"], fields["message"]) == ("KeyError", "'x'")
    assert "OSError: cause" in fields["traceback"]


def test_a_codec_error_names_its_path() -> None:
    try:
        codec.encode({"a": object()})
    except CodecError as error:
        fields = codec.decode(describe(error))
    assert fields["path"] == 'result["a"]'
    assert fields["type"] == "tm.errors.CodecError"


def test_no_exception_is_too_odd() -> None:
    class OddError(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    assert codec.decode(describe(OddError()))["message"] == "(its message cannot be shown)"
    assert codec.decode(describe(ValueError("half \udc80")))["message"] == "half \\udc80"
    large = codec.decode(fault("T", "m" * 10**6, "t" * 10**6))
    assert (len(large["message"]), len(large["traceback"])) == (MAX_TEXT, MAX_TRACEBACK)


def test_a_traceback_shows_the_lines_that_ran_also_when_the_file_was_edited_since(tmp_path: Path) -> None:
    file = tmp_path / "edited.py"
    file.write_text("def fail():\n    raise RuntimeError(1 / 1)\n")
    made: dict[str, Any] = {}
    exec(compile(file.read_text(), str(file), "exec"), made)
    keep_sources([made["fail"], print])
    file.write_text("def fail():\n    return 'all is well, and this line is longer'\n")
    with pytest.raises(RuntimeError) as caught:
        made["fail"]()
    assert "raise RuntimeError(1 / 1)" in codec.decode(describe(caught.value))["traceback"]


def test_all_queues_of_the_graphs_the_default_one_first() -> None:
    @task(queue="b")
    def one() -> None: ...
    @task()
    def two() -> None: ...
    @task(queue="a")
    def three() -> None: ...

    graph = Graph("g")
    graph.add_edges([one, two, three])
    assert queues_of([graph]) == ["default", "a", "b"]


def test_a_queue_that_can_be_none_is_refused() -> None:
    check_queues(["a", "b.c"])
    with pytest.raises(SettingsError, match="'a b'"):
        check_queues(["a b"])


def test_the_command_line_loads_no_client_before_the_fork() -> None:
    code = "import sys, tm_worker.cli, tm_worker.service; print(*(set(sys.modules) & {'redis', 'rq', 'sqlalchemy', 'hiredis'}))"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.split() == []


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90.0), ("0.2", 0.2), ("0", 0.0), ("500ms", 0.5), ("10m", 600.0), ("1h30m", 5400.0)]
)
@pytest.mark.parametrize(("option", "field"), [("--drain-timeout", "drain"), ("--lease", "lease")])
def test_durations_are_written_as_elsewhere_and_plain_numbers_are_seconds(
    text: str, seconds: float, option: str, field: str
) -> None:
    context = worker.make_context("tm-worker", ["my_graph.py", option, text])
    assert context.params[field] == seconds


def test_what_is_no_duration_is_a_usage_error() -> None:
    with pytest.raises(click.BadParameter, match="'soon' is no duration; write 10s, 5m, 1h30m or 2d"):
        worker.make_context("tm-worker", ["my_graph.py", "--lease", "soon"])


def test_help_shows_examples() -> None:
    done = subprocess.run([sys.executable, "-m", "tm_worker", "--help"], check=True, capture_output=True, text=True)
    assert "tm-worker my_graph.py" in done.stdout
    assert "SIGTERM" in done.stdout
