"""The kit for users' tests as they use it: their own pytest sessions, which pass, fail readably, and leave nothing."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.waiting import wait_for

pytest_plugins = ["pytester"]

PAGE = Path(__file__).parents[2] / "docs" / "testing.md"

GRAPHS = """
import time
from tm import Graph, task

@task(retries=1, retry_delay=3600)
def extract(rows=3):
    return list(range(rows))

@task()
def load(extract):
    print("loading", len(extract))
    if not extract:
        raise ValueError("nothing to load")
    return len(extract)

etl = Graph("etl")
etl.add_edges([extract], [load])

@task()
def wait_for_ever():
    while True:
        time.sleep(0.05)

endless = Graph("endless")
endless.add_edges(wait_for_ever)
"""

CONFTEST = """
import pytest
pytest_plugins = ["tm.testing.pytest"]

@pytest.fixture(scope="session")
def tm_graphs():
    return ["graphs.py"]
"""


def leftovers():
    """Directories of stacks and processes at home in them."""
    found = {str(path) for path in Path("/tmp").glob("tm-stack-*")}
    for entry in Path("/proc").iterdir():
        try:
            environ = (entry / "environ").read_bytes()
            if b"TM_HOME=/tmp/tm-stack-" in environ or str((entry / "cwd").readlink()).startswith("/tmp/tm-stack-"):
                found.add(f"{entry.name} {(entry / 'cmdline').read_bytes()!r}")
        except OSError:
            continue
    return found


@pytest.fixture
def nothing_left(monkeypatch):
    monkeypatch.delenv("TMPDIR", raising=False)
    monkeypatch.setattr("tempfile.tempdir", None)
    before = leftovers()
    yield
    # what was there before may go meanwhile
    wait_for(lambda: not leftovers() - before, f"nothing new to be left, there is {leftovers() - before}")


def session(pytester, **files):
    pytester.makepyfile(graphs=GRAPHS, **files)
    return pytester.runpytest_subprocess("-p", "no:cacheprovider", "-q", timeout=120)


@pytest.mark.usefixtures("nothing_left")
def test_the_examples_of_the_page_pass(pytester):
    blocks = re.findall(r"^```python\n# (\w+)\.py\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    assert len(blocks) == PAGE.read_text().count("```python")
    pytester.makepyfile(**dict(blocks))
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider", timeout=120)
    result.assert_outcomes(passed=sum(text.count("\ndef test_") + text.startswith("def test_") for _, text in blocks))


@pytest.mark.usefixtures("nothing_left")
def test_a_failing_test_says_which_tasks_ended_how_and_what_the_services_said(pytester):
    result = session(
        pytester,
        conftest=CONFTEST,
        test_it="""
        from graphs import etl

        def test_in_process(tm_run):
            tm_run(etl, rows=0).assert_success()

        def test_states(tm_run):
            tm_run(etl, results={"extract": KeyError("x")}).assert_states({"load": "success", "lod": "success"})

        def test_real(tm_stack):
            tm_stack.run(etl, rows=0).assert_success()
        """,
    )
    result.assert_outcomes(failed=3)
    result.stdout.re_match_lines(
        [
            r"E +ValueError: nothing to load",
            r"E +AssertionError: run etl-\w+ ended failed",
            r"E +extract  success  1 attempt",
            r"E +load     failed   1 attempt  ValueError: nothing to load \(graphs.py:12\)",
            r"E +AssertionError: states of run etl-\w+ are not as expected:",
            r"E +load     expected success, is blocked  by extract",
            r"E +lod      is no task of graph 'etl'",
            r"E +extract  failed   2 attempts  KeyError: 'x'",
            r"E +--- the services said:",
            r"E .*loading 0",
        ],
        consecutive=False,
    )


@pytest.mark.usefixtures("nothing_left")
def test_tests_of_one_session_share_a_stack_and_leave_each_other_no_open_runs(pytester):
    result = session(
        pytester,
        conftest=CONFTEST,
        test_it="""
        import os
        import pytest
        from graphs import endless, etl

        homes = set()

        def test_first(tm_stack):
            homes.add(tm_stack.home)
            endless.submit_many([{}, {}, {}])
            assert len(tm_stack.client.open_runs()) == 3
            assert os.environ["TM_HOME"] == str(tm_stack.home)

        def test_second(tm_stack):
            homes.add(tm_stack.home)
            assert len(homes) == 1
            assert tm_stack.client.open_runs() == []
            assert tm_stack.run(etl, rows=5).assert_success().value == 5

        def test_timeout(tm_stack):
            with pytest.raises(TimeoutError):
                tm_stack.run(endless, timeout=1)
            assert tm_stack.client.open_runs() == []

        def test_without(tm_run):
            assert "TM_HOME" not in os.environ
        """,
    )
    result.assert_outcomes(passed=4)


@pytest.mark.usefixtures("nothing_left")
def test_a_stack_without_graphs_or_with_a_broken_file_says_so(pytester):
    result = session(
        pytester,
        conftest='pytest_plugins = ["tm.testing.pytest"]',
        broken="import tm\nraise RuntimeError('half written')",
        test_it="""
        import pytest
        from tm.testing import EmbeddedStack
        from tm import TaskmasterError

        def test_broken():
            with pytest.raises(TaskmasterError, match="half written"):
                EmbeddedStack("broken.py").start()

        def test_no_graphs(tm_stack): ...
        """,
    )
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["*def tm_graphs():*"])


@pytest.mark.usefixtures("nothing_left")
def test_a_session_that_is_interrupted_leaves_no_process(pytester):
    pytester.makepyfile(
        graphs=GRAPHS,
        conftest=CONFTEST,
        test_it="""
        from pathlib import Path
        from graphs import endless
        def test_it(tm_stack):
            handle = endless.submit()
            while tm_stack.client.state(handle.id) != "running":
                pass
            Path("running").touch()
            handle.wait(60)
        """,
    )
    process = pytester.popen(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    wait_for((pytester.path / "running").exists, "the task to run", 30)
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == pytest.ExitCode.INTERRUPTED


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel ends the children of a process that is killed")
def test_a_session_that_is_killed_takes_its_stack_along(tmp_path):
    (tmp_path / "graphs.py").write_text(GRAPHS)
    code = (
        "import os, signal\n"
        "from tm.testing import EmbeddedStack\n"
        "stack = EmbeddedStack('graphs.py')\n"
        "stack.start()\n"
        "print(stack.home, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    home = Path(done.stdout.strip())
    try:
        wait_for(lambda: not [each for each in leftovers() if str(home) in living(each)], "its processes to be gone")
    finally:
        for path in sorted(home.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        home.rmdir()


def living(process):
    pid = process.split()[0]
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().decode(errors="replace") + str(
            Path(f"/proc/{pid}/cwd").readlink()
        )
    except OSError:
        return ""


def test_the_plugin_is_not_loaded_unless_it_is_named(pytester):
    pytester.makepyfile(
        test_it="""
        import sys
        def test_it():
            assert not [name for name in sys.modules if name == "tm" or name.startswith("tm.")]
        """
    )
    pytester.runpytest_subprocess("-p", "no:cacheprovider").assert_outcomes(passed=1)


ENDS = """
import sys
from tm import Fail, Graph, Skip, get_context, task

@task(retries=1)
def good(): return (1, {"a": b"b"})
@task(retries=1)
def again():
    if get_context().attempt == 1:
        raise ValueError("first")
    return get_context().attempt
@task(retries=2)
def bad(): raise ValueError("bad")
@task(retries=2, retry_on=OSError)
def other(): raise ValueError("other")
@task(retries=2)
def final(): raise Fail("final")
@task()
def nothing(): raise Skip("nothing to do")
@task(retries=2)
def unsendable(): return {"a": object()}
@task()
def large(): return "x" * (3 << 20)
@task(retries=2)
def exits(): sys.exit(4)
@task()
def after(**parents): return sorted(parents)

graphs = []
for each in (good, again, bad, other, final, nothing, unsendable, exits, large):
    graphs.append(Graph(f"ends-{each.name}"))
    graphs[-1].add_edges([good, each] if each is not good else [good], after)
"""


@pytest.mark.usefixtures("nothing_left", "nothing_stays_loaded")
def test_runs_in_process_and_on_a_stack_end_alike(tmp_path):
    from tm.loader import load
    from tm.testing import EmbeddedStack, run_graph

    path = tmp_path / "ends.py"
    path.write_text(ENDS)
    graphs = load(path).graphs.values()
    assert len(graphs) == 9
    with EmbeddedStack(path) as stack:
        for graph in graphs:
            here, there = run_graph(graph), stack.run(graph)
            for run in (here, there):
                assert run.state in {"success", "failed"}
            assert (here.state, here.states, here.value) == (there.state, there.states, there.value), graph
            assert here.params == there.params
            for name, task in here.tasks.items():
                assert task.attempts == there[name].attempts, (graph, name)
                assert task.value == there[name].value
                assert (task.error is None) == (there[name].error is None) or task.state == "success"


def test_a_stack_is_there_in_about_a_second(tmp_path):
    (tmp_path / "graphs.py").write_text(GRAPHS)
    from tm.testing import EmbeddedStack

    began = time.monotonic()
    with EmbeddedStack(tmp_path / "graphs.py") as stack:
        assert stack.output == ""
        assert time.monotonic() - began < 20, "0.6 s on an idle machine"
