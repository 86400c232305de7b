"""Logs: constant events with fields, one clean line each, no passwords."""

from __future__ import annotations

import io
import json
import logging
import math
import re
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tm.logs import clean, configure, get_logger


@pytest.fixture
def said():
    """What was logged since `configure`, through the stream it was given."""
    root = logging.getLogger()
    before = root.handlers[:], logging.getLogger("tm").level

    class Said(io.StringIO):
        def configure(self, *args):
            configure(*args, stream=self)
            return self

        @property
        def lines(self):
            return self.getvalue().splitlines()

    yield Said()
    root.handlers[:] = before[0]
    logging.getLogger("tm").setLevel(before[1])


def test_a_line_of_text(said):
    said.configure("info", "text")
    get_logger("scheduler").info("tick started", graph="etl", run="etl-20261124T035200Z", ms=12)
    (line,) = said.lines
    assert re.fullmatch(
        r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} INFO  scheduler  tick started  "
        r"graph=etl run=etl-20261124T035200Z ms=12",
        line,
    )


def test_a_line_of_json(said):
    said.configure("info", "json")
    get_logger("worker").warning("lease lost", run="a", ms=1.5, level="x", queues=["a", 1], bad=math.nan, none=None)
    line = json.loads(said.getvalue())
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line.pop("at"))
    assert line == {
        "level": "warning",
        "part": "worker",
        "event": "lease lost",
        "run": "a",
        "ms": 1.5,
        "level_": "x",
        "queues": ["a", 1],
        "bad": "nan",
        "none": None,
    }


def test_the_level_decides_what_is_heard(said):
    said.configure("warning", "text")
    log = get_logger("worker")
    log.debug("one")
    log.info("two")
    log.warning("three")
    log.error("four")
    assert [line.split()[-1] for line in said.lines] == ["three", "four"]
    assert [line.split()[2] for line in said.lines] == ["WARN", "ERROR"]


def test_other_packages_are_heard_from_warnings_on_and_redacted(said):
    said.configure("debug", "text")
    other = logging.getLogger("somebody.else")
    other.info("chatter")
    other.warning("cannot reach %s", "redis://u:hunter2@h")
    (line,) = said.lines
    assert line.endswith("somebody.else  cannot reach redis://u:***@h")


def test_configuring_twice_says_things_once(said):
    said.configure("info", "json")
    said.configure("info", "text")
    get_logger("worker").info("hello")
    assert len(said.lines) == 1
    assert not said.getvalue().startswith("{")


def test_bound_fields_come_first_and_can_be_replaced(said):
    said.configure("info", "text")
    log = get_logger("worker").bind(worker="w1", run="a")
    log.info("claimed", run="b", task="load")
    assert said.lines[0].endswith("claimed  worker=w1 run=b task=load")


def test_event_may_hold_a_percent_sign_and_fields_any_name(said):
    said.configure("info", "text")
    get_logger("worker").info("disk 100% full", event="x", message="y", name="z", self=1)
    assert said.lines[0].endswith("disk 100% full  event=x message=y name=z self=1")


def test_with_json_whatever_python_itself_says_is_a_line_of_json_too():
    code = """
import sys, threading, warnings
from tm.logs import configure, get_logger
configure("info", "json")
warnings.warn("old", DeprecationWarning, stacklevel=1)
warnings.warn("look out", UserWarning, stacklevel=1)
def fail():
    raise ValueError("in a thread, redis://u:hunter2@h")
thread = threading.Thread(target=fail)
thread.start()
thread.join()
try:
    1 / 0
except ZeroDivisionError:
    get_logger("worker").exception("two\\nlines")
raise KeyError("at the end")
"""
    done = subprocess.run([sys.executable, "-W", "default", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "hunter2" not in done.stderr
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert [line["level"] for line in lines] == ["warning", "warning", "critical", "error", "critical"]
    assert "look out" in lines[1]["event"]
    assert lines[2]["traceback"].endswith("ValueError: in a thread, redis://u:***@h")
    assert lines[3]["event"] == "two\\nlines"
    assert "ZeroDivisionError" in lines[3]["traceback"]
    assert lines[4]["traceback"].endswith("KeyError: 'at the end'")


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_no_password_gets_out(said, log_format):
    said.configure("info", log_format)
    url = "redis://user:hunter2@h:6379"
    log = get_logger("worker")
    log.info("connected to redis://user:hunter2@h:6379", url=url, several=[url], error=ValueError(url))
    try:
        raise ConnectionError(f"no route to {url}")  # noqa: TRY301
    except ConnectionError:
        log.exception("connection lost")
    assert "hunter2" not in said.getvalue()
    assert said.getvalue().count("user:***@h") == 5


def test_nobody_can_forge_a_line(said):
    said.configure("info", "text")
    get_logger("worker").info("ended", reason="x\n2026-11-24 03:52:01.123 ERROR worker  all is lost\x1b[2J\u202e")
    (line,) = said.lines
    assert r'reason="x\n2026' in line
    assert r"\x1b[2J\u202e" in line


@given(st.text())
def test_clean_leaves_printable_text_alone_and_the_rest_readable(text):
    assert len(clean(text).splitlines()) <= 1
    clean(text).encode()
    if text.isprintable() and "\u2066" not in text:
        assert clean(text) == text


def test_a_traceback_is_indented_under_its_line(said):
    said.configure("info", "text")
    try:
        raise KeyError("x")  # noqa: TRY301
    except KeyError:
        get_logger("worker").exception("task failed", task="load")
    first, *rest = said.lines
    assert first.endswith("task failed  task=load")
    assert rest[0] == "    Traceback (most recent call last):"
    assert rest[-1] == "    KeyError: 'x'"


def test_values_with_blanks_are_quoted(said):
    said.configure("info", "text")
    get_logger("worker").info("x", a="b c", d='say "hi"', e="", f="k=v")
    assert said.lines[0].endswith(r'a="b c" d="say \"hi\"" e="" f="k=v"')


def test_the_record_carries_fields_and_place_for_other_handlers(said, caplog):
    said.configure("info", "text")
    get_logger("worker").info("claimed", task="load")
    record = caplog.records[-1]
    assert (record.message, record.fields, record.name) == ("claimed", {"task": "load"}, "tm.worker")
    assert record.filename == "test_logs.py"


def test_by_default_logs_go_to_stderr_and_load_nothing_heavy():
    code = (
        "from tm.logs import configure, get_logger; configure(); get_logger('worker').info('up', n=1)\n"
        "import sys; print(sorted(sys.modules.keys() & {'json', 'redis', 'rich', 'asyncio'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
    assert done.stderr.endswith("INFO  worker     up  n=1\n")
