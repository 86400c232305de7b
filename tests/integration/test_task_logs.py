"""What tasks print and log in real workers, however they do it, and what becomes of it on the server."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tests.waiting import wait_for
from tm.loglines import Line, Stream
from tm.store.logs import LogStream

if TYPE_CHECKING:
    from tests.workers import Site
    from tm.loglines import Chunk

pytestmark = pytest.mark.slow


def chunks(site: Site, run: str) -> list[Chunk]:
    return [chunk for _, chunk in LogStream(site.store).of_run(run)]


def lines(site: Site, run: str, task: str | None = None) -> list[Line]:
    return [line for chunk in chunks(site, run) if task in (None, chunk.task) for line in chunk.lines()]


def texts(site: Site, run: str, task: str | None = None) -> list[str]:
    return [line.text for line in lines(site, run, task)]


def test_all_ways_of_printing_are_captured_in_order_with_stream_and_level(site: Site) -> None:
    site.write("""
        import ctypes, logging, subprocess
        @task()
        def talk():
            print("printed")
            print("to stderr", file=sys.stderr)
            logging.getLogger("etl.load").info("rows: %d", 3)
            logging.warning("careful\\nsecond line")
            os.write(1, b"by number\\n")
            subprocess.run(["sh", "-c", "echo from a shell; echo its stderr >&2"])
            libc = ctypes.CDLL(None)
            libc.puts(b"from C"); libc.fflush(None)
            sys.stdout.buffer.write(b"bytes \\xff\\n"); sys.stdout.flush()
            print("no newline", end="")
        graph = Graph("talking")
        graph.add_edges([talk])
    """)
    worker = site.worker("--processes", "1")
    run = site.start("talking")
    site.ended(run)
    got = [(line.stream, line.level_name, line.logger, line.text) for line in lines(site, run)]
    assert [each for each in got if each[3] != "its stderr"] == [
        (Stream.STDOUT, "info", "", "printed"),
        (Stream.STDERR, "warning", "", "to stderr"),
        (Stream.LOG, "info", "etl.load", "rows: 3"),
        (Stream.LOG, "warning", "root", "careful"),
        (Stream.LOG, "warning", "root", "second line"),
        (Stream.STDOUT, "info", "", "by number"),
        (Stream.STDOUT, "info", "", "from a shell"),
        (Stream.STDOUT, "info", "", "from C"),
        (Stream.STDOUT, "info", "", "bytes \ufffd"),
        (Stream.STDOUT, "info", "", "no newline"),
    ]
    assert (Stream.STDERR, "warning", "", "its stderr") in got
    assert [chunk.last for chunk in chunks(site, run)][-1]
    assert worker.printed() == [
        "printed",
        "by number",
        "from a shell",
        "from C",
        "bytes \ufffd",
        "no newline",
    ]
    assert worker.said("WARNING root: careful")
