"""Loading graph files: what is found, what a file may rely on, and how its faults are told."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tm import loader
from tm.errors import LoadError, NotFoundError
from tm.loader import load, load_all, loading, split_target

HEAD = "from tm import Graph, Executor, task\n@task()\ndef one(): return 1\n"
GRAPH = HEAD + "graph = Graph('g', schedule='* * * * *')\ngraph.add_edges([one])\n"


def graph_named(name, schedule="* * * * *", variable="graph"):
    return f"{HEAD}{variable} = Graph({name!r}, schedule={schedule!r})\n{variable}.add_edges([one])\n"


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Write a file below a fresh working directory; afterwards nothing of it stays loaded."""
    before, path = dict(sys.modules), sys.path[:]
    known = dict(loader._modules), loader._executors[:], set(loader._folders)
    monkeypatch.chdir(tmp_path)

    def write(name, text=GRAPH):
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(textwrap.dedent(text))
        return file

    yield write
    for name in set(sys.modules) - set(before):
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]
    sys.path[:] = path
    loader._modules, loader._executors, loader._folders = known


def refused(target):
    with pytest.raises(LoadError) as error:
        load(target)
    assert error.value.exit_code == 2
    return str(error.value)


def test_a_file(write):
    file = write("etl.py")
    loaded = load("etl.py")
    assert list(loaded.graphs) == ["g"]
    assert loaded.scheduled == ("g",)
    assert loaded.files == (file,)
    assert loaded.graph() is loaded.graph("g") is load(file).graph("g")
    assert loaded.graph().file == file


def test_a_file_without_a_suffix_or_with_an_odd_name(write):
    write("2nd graph-file.py")
    write("script")
    assert list(load("2nd graph-file.py").graphs) == ["g"]
    assert list(load("script").graphs) == ["g"]


def test_the_file_sees_what_it_would_see_as_a_script_but_for_main(write, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["tm-worker", "sub/etl.py"])
    write(
        "sub/etl.py",
        GRAPH
        + """
import sys, os
seen = (__name__, __file__, sys.argv, sys.path[0], os.getcwd())
if __name__ == "__main__": raise AssertionError("run as main")
""",
    )
    load("sub/etl.py")
    here = str(Path.cwd())
    assert sys.modules["etl"].seen == ("etl", f"{here}/sub/etl.py", ["tm-worker", "sub/etl.py"], f"{here}/sub", here)


def test_graphs_are_found_in_globals_containers_and_executors(write):
    write(
        "many.py",
        HEAD
        + """
def make(name):
    graph = Graph(name, schedule="@hourly" if False else "0 * * * *")
    graph.add_edges([one])
    return graph
first = make("first")
several = [make("second"), make("third")]
by_name = {"fourth": make("fourth")}
Executor(graphs=[make("fifth")]).start()
""",
    )
    loaded = load("many.py")
    assert list(loaded.graphs) == ["first", "second", "third", "fourth", "fifth"]
    assert loaded.scheduled == ("fifth",)


def test_without_an_executor_every_graph_with_a_schedule_is_scheduled(write):
    write("two.py", graph_named("timed") + graph_named("by_hand", "manual", "other"))
    loaded = load("two.py")
    assert list(loaded.graphs) == ["timed", "by_hand"]
    assert loaded.scheduled == ("timed",)


def test_start_does_nothing_while_loading_and_graphs_added_later_count(write):
    write(
        "main.py",
        GRAPH
        + """
executor = Executor(graphs=[])
executor.add(graph)
import threading
starter = threading.Thread(target=executor.start)  # nothing is told by thread or context
starter.start()
starter.join()
executor.start()
reached = True
""",
    )
    loaded = load("main.py")
    assert loaded.scheduled == ("g",)
    assert sys.modules["main"].reached
    assert not loading()


def test_loading_is_over_after_a_failure(write):
    write("bad.py", "from tm.loader import loading\nassert loading()\n1/0")
    refused("bad.py")
    assert not loading()


def test_siblings_are_imported_as_with_python_file(write):
    write("flows/other.py", graph_named("inner", "manual"))
    write("flows/main.py", graph_named("outer") + "from other import graph as inner\n")
    loaded = load("flows/main.py")
    assert list(loaded.graphs) == ["outer", "inner"]
    assert loaded.scheduled == ("outer",)
    assert loaded.graphs["inner"].file.name == "other.py"


def test_a_module_is_executed_once_whoever_asks_for_it(write):
    write("flows/a.py", graph_named("a") + "import b\n")
    write("flows/b.py", graph_named("b") + "import c\nprint('b is run')\n")
    write("flows/c.py", graph_named("c"))
    loaded = load_all(["flows/c.py", "flows", "flows/b.py", "flows/a.py"])
    assert sorted(loaded.graphs) == ["a", "b", "c"]
    assert [file.name for file in loaded.files] == ["c.py", "a.py", "b.py"]


def test_helpers_of_one_name_in_two_folders_stay_apart(write):
    for folder in ("x", "y"):
        write(f"{folder}/helpers.py", f"where = {folder!r}")
        write(f"{folder}/flow.py", "import helpers\n" + graph_named(folder) + "graph.seen = helpers.where\n")
        write(f"{folder}/late.py", "import helpers\n" + graph_named(f"{folder}-late") + "graph.seen = helpers.where\n")
    loaded = load_all(["x/flow.py", "y", "x/late.py", "x/flow.py"])
    assert {name: graph.seen for name, graph in loaded.graphs.items()} == {
        "x": "x",
        "y": "y",
        "y-late": "y",
        "x-late": "x",
    }


def test_a_file_named_like_an_existing_module_leaves_that_alone(write):
    import json

    write("json.py")
    assert list(load("json.py").graphs) == ["g"]
    assert sys.modules["json"] is json


def test_a_file_that_would_hide_a_package_we_need_is_refused(write, monkeypatch):
    monkeypatch.delitem(sys.modules, "sqlalchemy", raising=False)
    write("etl.py")
    write("sqlalchemy.py", "x = 1")
    assert refused("etl.py") == (
        "cannot load from .: sqlalchemy.py would hide the package 'sqlalchemy', which Taskmaster needs; rename it"
    )


def test_the_present_text_is_executed_not_a_cached_one(write):
    file = write("etl.py", graph_named("aa"))
    stamp = file.stat().st_mtime_ns
    code = "import sys; from tm.loader import load; print(*load(sys.argv[1]).graphs)"
    for name in ("aa", "bb"):  # same size, same second
        write("etl.py", graph_named(name))
        os.utime(file, ns=(stamp, stamp))
        done = subprocess.run([sys.executable, "-c", code, file], capture_output=True, text=True, check=True)
        assert done.stdout == f"{name}\n"


def test_a_directory(write):
    write("flows/b.py", graph_named("b"))
    write("flows/a.py", graph_named("a"))
    write("flows/deep/c.py", graph_named("c"))
    write("flows/helper.py", "raise AssertionError('mentions nothing of interest')")
    write("flows/without.py", "import tm")
    write("flows/notes.txt", "graph")
    for hidden in (".hidden/x.py", "__pycache__/x.py", "node_modules/x.py", ".x.py", "env/x.py"):
        write(f"flows/{hidden}", "import tm; raise AssertionError('a graph from a hidden place')")
    write("flows/env/pyvenv.cfg", "")
    loaded = load("flows")
    assert list(loaded.graphs) == ["a", "b", "c"]
    assert [file.name for file in loaded.files] == ["a.py", "b.py", "c.py"]
    assert sorted(load("flows/").graphs) == ["a", "b", "c"]


def test_a_package_inside_a_directory_may_use_relative_imports(write):
    write("flows/main.py", "from lib.more import graph\n")
    write("flows/lib/__init__.py", "")
    write("flows/lib/helpers.py", "size = 3")
    write("flows/lib/more.py", "from .helpers import size\n" + graph_named("packed"))
    write("flows/lib/another.py", "from . import helpers\n" + graph_named("another"))
    assert sorted(load("flows").graphs) == ["another", "packed"]


def test_a_module_name(write):
    write("pkg/__init__.py", "")
    write("pkg/flows.py", "from .helpers import size\n" + GRAPH)
    write("pkg/helpers.py", "size = 3")
    loaded = load("pkg.flows")
    assert list(loaded.graphs) == ["g"]
    assert load("pkg.flows").graph() is loaded.graph()


def test_a_package_without_graphs_of_its_own_gives_those_of_its_modules(write):
    write("lib/pkgs/__init__.py", "")
    write("lib/pkgs/a.py", graph_named("a"))
    write("lib/pkgs/sub/__init__.py", "")
    write("lib/pkgs/sub/b.py", "from ..a import one\n" + graph_named("b"))
    write("lib/pkgs/__main__.py", "raise AssertionError")
    sys.path.insert(0, "lib")  # as when it is installed: no directory of the name lies here
    assert list(load("pkgs").graphs) == ["a", "b"]


@pytest.mark.parametrize("target", ["nothing.py", "no/where", "no.such.module", "nothing", "no such", ""])
def test_what_does_not_exist(write, target):
    message = refused(target)
    assert "\n" not in message
    assert f"cannot load {target}: no such file" in message


def test_a_module_that_misses_another_module_says_which(write):
    write("asks.py", "import graph_of_nobody\n")
    message = refused("asks")
    assert message.startswith("cannot load asks: ModuleNotFoundError: No module named 'graph_of_nobody'\n")


@pytest.mark.parametrize("target", ["empty.py", "folder"])
def test_nothing_in_it(write, target):
    write("empty.py", "x = 1")
    write("folder/readme.txt", "")
    message = refused(target)
    assert message.startswith(f"cannot load {target}: ")
    assert "no Python file" in message or "defines no graph" in message


def test_two_graphs_of_one_name_are_named_with_their_places(write):
    write("a.py", graph_named("etl"))
    write("b.py", graph_named("etl", variable="flow"))
    with pytest.raises(LoadError) as error:
        load_all(["a.py", "b.py"])
    assert str(error.value) == "two graphs are named 'etl': a.py (graph) and b.py (flow); rename one of them"
    write("c.py", graph_named("etl") + graph_named("etl", variable="again"))
    assert refused("c.py") == "two graphs are named 'etl': c.py (graph) and c.py (again); rename one of them"


def test_a_graph_that_cannot_run_is_named_with_its_place(write):
    write("etl.py", "from tm import Graph\nflow = Graph('hollow')\n")
    assert refused("etl.py").startswith("cannot load etl.py (flow): graph 'hollow' has no tasks")


def test_an_exception_shows_the_users_frames_and_none_of_ours(write):
    write("sub/helper.py", "def f():\n    return 1 / 0\n")
    write("sub/etl.py", "import helper\nhelper.f()\n")
    message = refused("sub/etl.py")
    here = Path.cwd()
    assert message.splitlines()[:8] == [
        "cannot load sub/etl.py: ZeroDivisionError: division by zero",
        "Traceback (most recent call last):",
        f'  File "{here}/sub/etl.py", line 2, in <module>',
        "    helper.f()",
        f'  File "{here}/sub/helper.py", line 2, in f',
        "    return 1 / 0",
        "           ~~^~~",
        "ZeroDivisionError: division by zero",
    ]


def test_a_badly_drawn_graph_shows_where_in_the_users_file(write):
    write("etl.py", HEAD + "graph = Graph('g')\ngraph.add_edges([one], [one])\n")
    first, *rest = refused("etl.py").splitlines()
    assert first.startswith("cannot load etl.py: graph 'g'")
    assert [line for line in rest if line.startswith("  File")] == [
        f'  File "{Path.cwd()}/etl.py", line 5, in <module>'
    ]
    assert "graph.add_edges([one], [one])" in rest[1]
    assert not any("Traceback" in line or "Error: " in line for line in rest)


def test_causes_and_groups_are_trimmed_too(write):
    write(
        "etl.py",
        """
        import importlib
        try:
            importlib.import_module("not_there")
        except ImportError as error:
            raise ExceptionGroup("several", [error, ValueError(1)]) from error
        """,
    )
    message = refused("etl.py")
    assert message.count("No module named 'not_there'") >= 2
    assert "importlib" not in message.replace('importlib.import_module("not_there")', "")
    assert "loader.py" not in message


def test_a_syntax_error_shows_line_and_caret(write):
    write("etl.py", "graph = Graph(\n  name='x'\n")
    message = refused("etl.py")
    assert message.startswith("cannot load etl.py: '(' was never closed (etl.py, line 1)\n")
    assert "^" in message
    assert f'File "{Path.cwd()}/etl.py", line 1' in message


@pytest.mark.parametrize("code", ["import sys; sys.exit(3)", "raise SystemExit('enough')", "exit()"])
def test_a_file_that_exits(write, code):
    write("etl.py", code)
    message = refused("etl.py")
    assert message.startswith("cannot load etl.py: it called sys.exit(")
    assert 'if __name__ == "__main__":' in message
    assert f'"{Path.cwd()}/etl.py", line 1' in message


def test_a_relative_import_in_a_file_hints_at_the_module_name(write):
    write("pkg/__init__.py", "")
    write("pkg/etl.py", "from .x import y\n")
    assert "name the module (package.module)" in refused("pkg/etl.py")


@pytest.mark.parametrize("data", [b"\xff\xfe", b"x = '\0'", "# coding: latin-9\nx = '€'".encode()])
def test_bytes_that_are_no_source(write, tmp_path, data):
    (tmp_path / "etl.py").write_bytes(data)
    assert refused("etl.py").startswith("cannot load etl.py: ")


def test_a_source_encoding_is_honoured(write, tmp_path):
    text = "# coding: latin-1\n" + GRAPH + "name = 'é'\n"
    (tmp_path / "etl.py").write_bytes(text.encode("latin-1"))
    load("etl.py")
    assert sys.modules["etl"].name == "é"


def test_a_file_that_failed_can_be_mended_and_loaded(write):
    write("etl.py", "graph = 1 / 0")
    refused("etl.py")
    write("etl.py")
    assert list(load("etl.py").graphs) == ["g"]


def test_ctrl_c_while_loading_is_no_fault_of_the_file(write):
    write("etl.py", "raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        load("etl.py")


def test_a_device_is_no_graph_file(write):
    assert "no regular file" in refused("/dev/null")


def test_which_graph(write):
    write("etl.py", graph_named("a") + graph_named("b", variable="other"))
    loaded = load("etl.py")
    assert loaded.graph("b").name == "b"
    with pytest.raises(NotFoundError, match="there is no graph 'c', only: a, b"):
        loaded.graph("c")
    with pytest.raises(NotFoundError, match="there are 2 graphs, name one as FILE:GRAPH: a, b"):
        loaded.graph()


def test_split_target(write):
    write("odd:name.py")
    assert split_target("etl.py") == ("etl.py", None)
    assert split_target("etl.py:load data") == ("etl.py", "load data")
    assert split_target("pkg.flows:g") == ("pkg.flows", "g")
    assert split_target("odd:name.py") == ("odd:name.py", None)
    assert split_target("odd:name.py:g") == ("odd:name.py", "g")
    for bad in ("etl.py:", ":g"):
        with pytest.raises(LoadError, match="write FILE:GRAPH"):
            split_target(bad)


def test_loading_is_light(write):
    write("etl.py", GRAPH + "Executor(graphs=[graph]).start()\n")
    code = (
        "import sys; from tm.loader import load; load('etl.py');"
        "print(sorted(sys.modules.keys() & {'redis', 'rq', 'sqlalchemy', 'msgpack', 'click', 'rich', 'subprocess'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
