"""The command line parses, answers in one way per audience, and ends with the documented exit codes."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from tm.cli.app import COMMANDS, cli, run

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

TWO = """
from tm import Graph, task
@task()
def hello(name="you"): return f"hello {name}"
first, second = Graph("first"), Graph("second", schedule="0 * * * *")
first.add_edges([hello])
second.add_edges([hello])
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty directory without any setting."""
    monkeypatch.chdir(tmp_path)
    for name in ("TM_URL", "TM_HOME", "TM_HISTORY", "TM_NAMESPACE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "two.py").write_text(TWO)
    return tmp_path


@pytest.fixture
def tm(here: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Call `tm` in this process: exit code, stdout, stderr."""

    def call(*words: str) -> tuple[int, str, str]:
        code = run(words)
        out, err = capsys.readouterr()
        return code, out, err

    return call


def test_help_lists_all_commands_without_importing_them(tm: Any) -> None:
    for name in [name for name in sys.modules if name.startswith("tm.cli.") and name != "tm.cli.app"]:
        if name not in ("tm.cli.face", "tm.cli.render"):
            del sys.modules[name]
    code, out, err = tm("--help")
    assert (code, err) == (0, "")
    for name in COMMANDS:
        assert f"\n  {name} " in out
    assert "Exit codes: 0 ok" in out
    assert "tm.cli.watch" not in sys.modules


def test_help_stays_light() -> None:
    """No server, database or terminal library just to say what there is."""
    code = (
        "import sys; from tm.cli.app import run; run(['--help']); "
        "print([name for name in ('redis', 'rq', 'sqlalchemy', 'rich', 'msgpack', 'asyncio') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_explains_itself(tm: Any, name: str) -> None:
    code, out, _ = tm(name, "--help")
    assert code == 0
    assert out.startswith(f"Usage: tm {name}")


def test_every_leaf_command_takes_json(here: Path) -> None:
    import click

    context = click.Context(cli)

    def leaves(command: click.Command) -> list[click.Command]:
        if isinstance(command, click.Group):
            return [leaf for each in command.commands.values() for leaf in leaves(each)]
        return [command]

    for name in COMMANDS:
        command = cli.get_command(context, name)
        assert command is not None
        for leaf in leaves(command):
            assert any("--json" in parameter.opts for parameter in leaf.params), f"{name} {leaf.name}"


def test_the_version_is_told(tm: Any) -> None:
    from tm import __version__

    assert tm("--version")[:2] == (0, f"taskmaster {__version__}\n")


def test_a_misspelt_command_is_a_usage_error_with_a_suggestion(tm: Any) -> None:
    code, _, err = tm("rnus")
    assert code == 2
    assert err.endswith("Error: no such command 'rnus'; did you mean 'runs'?\n")


def test_usage_errors_are_documents_with_json(tm: Any) -> None:
    code, out, err = tm("--json", "show")
    assert (code, out) == (2, "")
    error = json.loads(err)["error"]
    assert error["code"] == "usage"
    assert "Missing argument" in error["message"]


@pytest.mark.parametrize("words", [("--json", "runs"), ("runs", "--json")])
def test_nothing_to_list_is_an_empty_document(tm: Any, words: tuple[str, ...]) -> None:
    code, out, err = tm(*words)
    assert (code, err) == (0, "")
    assert json.loads(out) == {"schema": "tm.runs/1", "items": []}


def test_nothing_to_list_is_one_line_for_people(tm: Any) -> None:
    assert tm("runs") == (0, "no runs yet\n", "")
    assert tm("runs", "etl") == (0, "no runs of graph 'etl' yet\n", "")
    assert tm("graphs") == (0, "no graphs yet; run some with `tm up FILE`\n", "")


def test_a_home_that_is_not_there_is_named(tm: Any, tmp_path: Path) -> None:
    home = tmp_path / "misspelt"
    assert tm("--home", str(home), "runs") == (0, f"no runs yet in {home}, which does not exist\n", "")
    assert tm("--home", str(home), "graphs")[1].startswith(f"no graphs yet in {home}, which does not exist; run")
    assert not home.exists()


def test_looking_leaves_no_trace(tm: Any, here: Path) -> None:
    tm("runs")
    tm("graphs")
    assert [each.name for each in here.iterdir()] == ["two.py"]


def test_an_unknown_run_is_exit_code_3(tm: Any) -> None:
    code, out, err = tm("show", "etl-1")
    assert (code, out) == (3, "")
    assert err == "tm: there is no run or graph 'etl-1'; `tm runs` and `tm graphs` list those there are\n"
    code, _, err = tm("show", "etl-1", "--json")
    assert code == 3
    assert json.loads(err) == {
        "error": {
            "code": "not_found",
            "message": "there is no run or graph 'etl-1'",
            "hint": "`tm runs` and `tm graphs` list those there are",
        }
    }


@pytest.mark.parametrize("words", [("runs",), ("graphs",), ("show", "x"), ("run", "two.py:first")])
def test_a_server_that_is_away_is_one_line_and_exit_code_5(tm: Any, words: tuple[str, ...]) -> None:
    code, out, err = tm("--url", "redis://:hush@127.0.0.1:1", *words)
    assert (code, out) == (5, "")
    assert err.startswith("tm: cannot reach the server at redis://:***@127.0.0.1:1: ")
    assert err.count("\n") == 1
    assert "hush" not in err


@pytest.mark.parametrize("words", [(), ("--dry-run",), ("-y",)])
def test_a_backup_that_is_not_there_is_exit_code_3(tm: Any, words: tuple[str, ...]) -> None:
    assert tm("restore", "none.db", *words) == (3, "", "tm: there is no file none.db\n")


def test_a_bad_url_is_exit_code_2(tm: Any) -> None:
    code, _, err = tm("--url", "nonsense", "runs")
    assert code == 2
    assert "url='nonsense' will not do" in err


def test_a_file_that_does_not_import_shows_its_traceback(tm: Any, here: Path) -> None:
    (here / "broken.py").write_text("from tm import task\nimport nothing_of_this_name\n")
    for command in ("run", "up"):
        code, out, err = tm(command, "broken.py")
        assert (code, out) == (2, "")
        assert 'broken.py", line 2' in err
        assert "ModuleNotFoundError: No module named 'nothing_of_this_name'" in err


@pytest.mark.parametrize(
    ("source", "said"),
    [("x = 1\n", "defines no graph"), (TWO.replace('"second"', '"first"'), "two graphs are named 'first'")],
)
def test_a_file_without_a_graph_of_its_own_name_is_exit_code_2(tm: Any, here: Path, source: str, said: str) -> None:
    (here / "odd.py").write_text(source)
    code, _, err = tm("run", "odd.py")
    assert code == 2
    assert said in err


def test_several_graphs_and_none_named_lists_them(tm: Any) -> None:
    code, _, err = tm("run", "two.py")
    assert code == 2
    assert "two.py has 2 graphs; name one: two.py:first, two.py:second" in err


def test_a_graph_the_file_does_not_have_is_exit_code_3(tm: Any) -> None:
    code, _, err = tm("run", "two.py:third")
    assert code == 3
    assert err == "tm: there is no graph 'third', only: first, second\n"


def test_params_are_checked_before_anything_starts(tm: Any, here: Path) -> None:
    code, _, err = tm("run", "two.py:first", "-p", "colour=red")
    assert code == 2
    assert "has no parameter 'colour'; its roots take name" in err
    code, _, err = tm("run", "two.py:first", "-p", "name")
    assert code == 2
    assert "'name' is not KEY=VALUE" in err
    code, _, err = tm("run", "two.py:first", "-p", "name=a", "-p", "name=b")
    assert code == 2
    assert "'name' is given twice" in err
    assert not (here / ".tm").exists()


def test_params_are_json_where_they_parse() -> None:
    from tm.cli.options import params_of as _params

    given = ["a=1", "b=text", "c=[1, 2]", "d=", "e=null", 'f="1"', "g=a=b"]
    assert _params(given) == {"a": 1, "b": "text", "c": [1, 2], "d": "", "e": None, "f": "1", "g": "a=b"}


def test_detaching_needs_somebody_to_leave_the_run_to(tm: Any) -> None:
    code, out, err = tm("run", "two.py:first", "--detach")
    assert (code, out) == (4, "")
    assert "--detach needs somebody to leave the run to" in err


def test_a_reader_that_has_seen_enough_is_no_error(here: Path) -> None:
    done = subprocess.run(
        f"{sys.executable} -m tm.cli --help | head -1; exit ${{PIPESTATUS[0]}}",
        shell=True,
        executable="/bin/bash",
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0
    assert done.stderr == ""
