"""What tasks print and log in real workers, however they do it, and what becomes of it on the server."""

from __future__ import annotations

import json
import re
import signal
from typing import TYPE_CHECKING

import pytest

from tests.waiting import wait_for
from tests.workers import site_at
from tm.loglines import Line, Stream
from tm.store.logs import LogStream
from tm.store.store import Store

if TYPE_CHECKING:
    from pathlib import Path

    from tests.servers import Server
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


def test_lines_of_attempts_that_follow_each_other_in_one_process_are_kept_apart(site: Site) -> None:
    site.write("""
        import subprocess
        @task()
        def one(): print("print of one"); subprocess.run(["echo", "echo of one"]); os.write(2, b"err of one\\n")
        @task()
        def two(one): os.write(1, b"number of two\\n")
        @task()
        def three(two): return 3
        @task()
        def four(three): print("print of four", end="")
        graph = Graph("chain")
        graph.add_edges([one], [two]); graph.add_edges([two], [three]); graph.add_edges([three], [four])
    """)
    site.worker("--processes", "1")
    runs = [site.start("chain") for _ in range(20)]
    for run in runs:
        site.ended(run)
    for run in runs:
        assert sorted(texts(site, run, "one")) == ["echo of one", "err of one", "print of one"]
        assert texts(site, run, "two") == ["number of two"]
        assert texts(site, run, "three") == []
        assert texts(site, run, "four") == ["print of four"]


def test_two_executors_that_print_at_once_are_kept_apart(site: Site) -> None:
    site.write("""
        def talker(name):
            @task(name=name)
            def talk():
                for number in range(300): print(name, number)
                return number
            return talk
        graph = Graph("choir")
        @task()
        def end(**all): return len(all)
        graph.add_edges([talker(f"t{n}") for n in range(6)], [end])
    """)
    site.worker("--processes", "2")
    run = site.start("choir")
    site.ended(run)
    for n in range(6):
        assert texts(site, run, f"t{n}") == [f"t{n} {number}" for number in range(300)]


def test_a_flood_is_cut_in_the_middle_and_holds_up_nobody(site: Site) -> None:
    site.write("""
        @task()
        def flood():
            for number in range(120_000): print(f"{number:06} " + "x" * 80)
        @task()
        def quick(n): return n
        graph = Graph("flooding"); graph.add_edges([flood])
        other = Graph("calm"); other.add_edges([quick])
    """)
    site.worker("--processes", "2")
    run = site.start("flooding")
    began = [site.start("calm", n=number) for number in range(20)]
    for each in began:
        site.ended(each)
    site.ended(run, 60)
    got = lines(site, run)
    size = sum(len(line.text) + 1 for line in got)
    assert 600_000 < size <= 1 << 20
    (cut,) = [line for line in got if line.stream is Stream.TM]
    at = got.index(cut)
    assert got[0].text.startswith("000000 ")
    assert got[-1].text.startswith("119999 ")
    last_of_head, first_of_tail = int(got[at - 1].text[:6]), int(got[at + 1].text[:6])
    assert f"[{first_of_tail - last_of_head - 1:,} lines, " in cut.text
    assert "TM_LOG_LIMIT" in cut.text


def test_a_smaller_limit(site: Site) -> None:
    site.write("""
        @task()
        def many():
            for number in range(1000): print("line", number)
        graph = Graph("limited"); graph.add_edges([many])
    """)
    site.worker("--processes", "1", TM_LOG_LIMIT="2KiB")
    run = site.start("limited")
    site.ended(run)
    got = texts(site, run)
    assert len(got) < 60
    assert (got[0], got[-1]) == ("line 0", "line 999")


def test_nothing_is_kept_with_limit_0_and_nothing_shown_with_output_off(site: Site) -> None:
    site.write("""
        @task()
        def one(): print("hello")
        graph = Graph("silent"); graph.add_edges([one])
    """)
    worker = site.worker("--processes", "1", TM_LOG_LIMIT="0", TM_TASK_OUTPUT="off")
    run = site.start("silent")
    site.ended(run)
    assert chunks(site, run) == []
    assert worker.printed() == []


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (
            "os.kill(os.getpid(), signal.SIGKILL)",
            r"the process was ended by SIGKILL \(out of memory\?\); it had used \d",
        ),
        ("os._exit(3)", "the process ended itself with exit code 3"),
        ("import ctypes; ctypes.string_at(0)", "the process was ended by SIGSEGV; it had used"),
    ],
)
def test_a_process_that_died_says_so_after_its_last_line(site: Site, body: str, words: str) -> None:
    site.write(f"""
        @task()
        def dies():
            print("before")
            sys.stdout.write("half a line"); sys.stdout.flush()
            {body}
        graph = Graph("dying"); graph.add_edges([dies])
    """)
    site.worker("--processes", "1")
    run = site.start("dying")
    site.ended(run, 40)
    first = [line for chunk in chunks(site, run) if chunk.attempt == 1 for line in chunk.lines()]
    assert [line.text for line in first[:2]] == ["before", "half a line"]
    assert (first[2].stream, first[2].level_name) == (Stream.TM, "error")
    assert re.search(words, first[2].text)


def test_a_silent_death_and_a_failure_have_their_lines_too(site: Site) -> None:
    site.write("""
        @task()
        def dies(): os.kill(os.getpid(), signal.SIGKILL)
        @task()
        def fails(): raise SystemExit("enough")
        @task(timeout=0.3)
        def hangs(): time.sleep(60)
        for each in (dies, fails, hangs):
            globals()[each.name + "_graph"] = graph = Graph(each.name); graph.add_edges([each])
    """)
    site.worker("--processes", "1", TM_GRACE="0.2")
    runs = {name: site.start(name) for name in ("dies", "fails", "hangs")}
    for run in runs.values():
        site.ended(run, 40)
    assert texts(site, runs["dies"])[0].endswith("; it had printed nothing")
    assert texts(site, runs["fails"])[-1] == "SystemExit: enough"
    assert "timeout of 0.3 s" in texts(site, runs["hangs"])[-1]


def test_a_task_that_forks_and_one_that_leaves_a_child_behind(site: Site) -> None:
    site.write("""
        import subprocess
        @task()
        def forks():
            print("parent")
            if (pid := os.fork()) == 0:
                print("child"); os._exit(0)
            os.waitpid(pid, 0)
        @task()
        def leaves(forks):
            subprocess.Popen(["sh", "-c", "echo early; sleep 30; echo late"])
            time.sleep(0.3)
        @task()
        def after(leaves): print("after")
        graph = Graph("forking"); graph.add_edges([forks], [leaves]); graph.add_edges([leaves], [after])
    """)
    site.worker("--processes", "1")
    run = site.start("forking")
    site.ended(run)
    assert texts(site, run, "forks") == ["parent", "child"]
    assert texts(site, run, "leaves") == ["early"]
    assert texts(site, run, "after") == ["after"]


def test_lines_without_an_end_are_shown_after_a_while(site: Site) -> None:
    site.write("""
        @task()
        def waits():
            print("working ...", end="", flush=True)
            while not (notes / "go").exists(): time.sleep(0.02)
            print("done")
        graph = Graph("waiting"); graph.add_edges([waits])
    """)
    worker = site.worker("--processes", "1")
    run = site.start("waiting")
    wait_for(lambda: texts(site, run) == ["working ..."], "the beginning of a line", 10)
    wait_for(lambda: worker.printed() == ["working ..."], "it to be shown", 10)
    (site.folder / "notes" / "go").touch()
    site.ended(run)
    assert texts(site, run) == ["working ...", "done"]


def test_logging_as_the_user_has_set_it_up_keeps_its_format_and_is_there_once(site: Site) -> None:
    site.write("""
        import logging
        logging.basicConfig(level=logging.DEBUG, format="%(name)s says %(message)s")
        @task()
        def talk():
            logging.getLogger("a.b").debug("hello")
            tm.get_context().logger.info("from the context")
        graph = Graph("told"); graph.add_edges([talk])
    """)
    site.worker("--processes", "1")
    run = site.start("told")
    site.ended(run)
    got = [(line.level_name, line.logger, line.text) for line in lines(site, run)]
    assert got == [
        ("debug", "a.b", "a.b says hello"),
        ("info", "told.talk", "told.talk says from the context"),
    ]


def test_the_password_of_our_own_server_is_not_passed_on(site: Site) -> None:
    site.write("""
        @task()
        def tells(): print("url:", "redis://user:geh3im@host:1/0"); print("word: geh3im")
        graph = Graph("telling"); graph.add_edges([tells])
    """)
    worker = site.worker("--processes", "1", TM_HISTORY="postgresql://user:geh3im@nowhere/db")
    run = site.start("telling")
    site.ended(run)
    assert texts(site, run) == worker.printed() == ["url: redis://user:***@host:1/0", "word: geh3im"]


def test_printing_goes_on_while_the_server_is_away_and_nothing_is_lost(tmp_path: Path, own_server: Server) -> None:
    with own_server.client() as client, site_at(tmp_path, own_server.url, Store(client)) as site:
        site.write("""
            @task()
            def talks():
                print("first")
                while not (notes / "go").exists(): time.sleep(0.02)
                for number in range(1000): print("away", number)
                (notes / "printed").touch()
                return "done"
            graph = Graph("away"); graph.add_edges([talks])
        """)
        worker = site.worker("--processes", "1", TM_LEASE="60")
        run = site.start("away")
        wait_for(lambda: texts(site, run) == ["first"], "the first line", 10)
        own_server.kill()
        (site.folder / "notes" / "go").touch()
        wait_for(lambda: site.noted("printed") == "" and (site.folder / "notes" / "printed").exists(), "the rest", 20)
        wait_for(lambda: worker.printed()[-1:] == ["away 999"], "all of it on the worker's own output", 20)
        own_server.start()
        site.ended(run, 60)
        assert texts(site, run) == ["first", *(f"away {number}" for number in range(1000))]


def test_output_for_machines_and_with_prefixes(site: Site) -> None:
    site.write("""
        import logging
        @task(retries=1, retry_delay=0)
        def talk():
            print("hello")
            logging.warning("careful")
            if tm.get_context().attempt == 1: raise ValueError("again")
        graph = Graph("shown"); graph.add_edges([talk])
    """)
    worker = site.worker("--processes", "1", TM_TASK_OUTPUT="prefixed")
    site.ended(site.start("shown"))
    assert worker.printed() == ["shown/talk | hello", "shown/talk #2 | hello"]
    assert worker.said("shown/talk #2 | WARNING root: careful\n")
    worker.signal(signal.SIGTERM)
    worker.end()
    other = site.worker("--processes", "1", "--log-format", "json")
    run = site.start("shown")
    site.ended(run)
    first = json.loads(other.printed()[0])
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", first.pop("at"))
    assert first == {
        "level": "info",
        "part": "task",
        "event": "hello",
        "run": run,
        "graph": "shown",
        "task": "talk",
        "attempt": 1,
        "stream": "stdout",
    }
    for line in other.log.read_text().splitlines():
        json.loads(line)
