"""What all commands have in common: help, exit codes, settings, JSON by lines, and errors as documents."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import click
import pytest

from tm.cli.app import COMMANDS, run
from tm.cli.face import Face
from tm.cli.help import EXIT_CODES
from tm.config import TABLE

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def tm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    monkeypatch.chdir(tmp_path)
    for each in TABLE:
        monkeypatch.delenv(each.variable, raising=False)

    def call(*words: str) -> tuple[int, str, str]:
        code = run(words)
        out, err = capsys.readouterr()
        return code, out, err

    return call


def test_exit_codes_are_a_table_and_the_errors_keep_to_it(tm: Any) -> None:
    from tm import errors

    code, out, _ = tm("help", "exit-codes")
    assert code == 0
    assert [int(line.split()[0]) for line in out.splitlines()[1:]] == list(EXIT_CODES)
    kinds = [each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, Exception)]
    assert {each.exit_code for each in kinds if hasattr(each, "exit_code")} <= set(EXIT_CODES)
    assert json.loads(tm("help", "exit-codes", "--json")[1])["schema"] == "tm.help.exit-codes/1"


def test_help_on_a_command_is_the_help_of_the_command(tm: Any) -> None:
    assert tm("help", "retry")[1] == tm("retry", "--help")[1]
    assert tm("help", "cron", "next")[1] == tm("cron", "next", "--help")[1]
    assert tm("help")[1] == tm("--help")[1]
    code, _, err = tm("help", "rtry")
    assert code == 2
    assert "no such command 'rtry'; did you mean 'retry'?" in err


@pytest.mark.parametrize("topic", ["exit-codes", "references", "times", "json", "settings"])
def test_topics_fit_a_narrow_terminal(tm: Any, monkeypatch: pytest.MonkeyPatch, topic: str) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    code, out, _ = tm("help", topic)
    assert code == 0
    assert [line for line in out.splitlines() if len(line) > 80] == []


def test_the_help_of_every_command_fits_a_narrow_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    from tm.cli.app import cli
    from tm_scheduler.cli import main
    from tm_worker.cli import worker

    monkeypatch.setenv("COLUMNS", "80")
    todo: list[tuple[click.Command, str, click.Context | None]] = [
        (cli, "tm", None),
        (main, "tm-scheduler", None),
        (worker, "tm-worker", None),
    ]
    wide, seen = [], 0
    while todo:
        command, name, parent = todo.pop()
        ctx = click.Context(command, info_name=name, parent=parent, obj=Face(), **command.context_settings)
        wide += [(ctx.command_path, line) for line in command.get_help(ctx).splitlines() if len(line) > 80]
        seen += 1
        if isinstance(command, click.Group):
            found = [(command.get_command(ctx, each), each) for each in command.list_commands(ctx)]
            todo += [(each, word, ctx) for each, word in found if each is not None]
    assert seen > len(COMMANDS) + 3
    assert wide == []


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_has_examples(tm: Any, name: str) -> None:
    text = tm(name, "--help")[1]
    assert f"tm {name}" in text.partition("\n")[2]


def test_settings_are_shown_with_where_they_come_from(tm: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TM_LEASE", "12")
    code, out, _ = tm("--url", "redis://:secret@db:6379/0", "config", "show", "--json")
    assert code == 0
    assert "secret" not in out
    found = {each["variable"]: (each["value"], each["source"]) for each in json.loads(out)["items"]}
    assert set(found) == {each.variable for each in TABLE}
    assert found["TM_URL"] == ("redis://:***@db:6379/0", "command line")
    assert found["TM_LEASE"] == ("12.0", "environment")
    assert found["TM_DRAIN_TIMEOUT"] == ("30.0", "default")
    assert tm("config", "show", "TM_LEASE")[1].splitlines()[1].split() == ["TM_LEASE", "12.0", "environment"]
    code, _, err = tm("config", "show", "TM_LAESE")
    assert (code, err) == (3, "tm: there is no setting 'TM_LAESE'; did you mean 'TM_LEASE'?\n")


def test_paths_are_for_scripts(tm: Any, tmp_path: Path) -> None:
    assert tm("config", "path", "history") == (0, f"{tmp_path}/.tm/history.db\n", "")
    assert tm("config", "path")[1].splitlines()[1].split() == ["home", f"{tmp_path}/.tm"]
    assert not (tmp_path / ".tm").exists()


def test_the_reference_has_every_setting(tm: Any) -> None:
    for each in TABLE:
        assert each.variable in tm("config", "reference")[1]
        assert f"| `{each.variable}` | " in tm("config", "reference", "--markdown")[1]


@pytest.mark.parametrize("words", [("--jsonl", "config", "path"), ("config", "path", "--jsonl")])
def test_by_lines_each_item_is_a_document(tm: Any, words: tuple[str, ...]) -> None:
    code, out, _ = tm(*words)
    assert code == 0
    items = [json.loads(line) for line in out.splitlines()]
    assert {each["schema"] for each in items} == {"tm.config.path/1"}
    assert [each["what"] for each in items] == ["home", "history", "socket", "log", "server"]


def test_a_hint_on_its_own_line_is_a_hint(capsys: pytest.CaptureFixture[str]) -> None:
    Face(as_json=True).complain("hour: 25 is not in 0-23\n    0 25\n  hint: the last hour is 23; not 24", code="usage")
    error = json.loads(capsys.readouterr().err)["error"]
    assert error["hint"] == "the last hour is 23; not 24"
    assert error["message"] == "hour: 25 is not in 0-23\n    0 25"


def test_completion_is_silent_where_nothing_is(tmp_path: Path) -> None:
    from tests.system.terminal import BIN, environment

    for words in ("tm show e", "tm logs etl@last/", "tm runs ''", "tm retry x --from ''"):
        done = subprocess.run(
            [str(BIN / "tm")],
            cwd=tmp_path,
            env=environment(
                _TM_COMPLETE="bash_complete", COMP_WORDS=words, COMP_CWORD="-1", TM_URL="redis://127.0.0.1:1/0"
            ),
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.stdout.strip(), done.stderr) == ("", "")
    assert list(tmp_path.iterdir()) == []


def test_scripts_of_all_shells_are_printed(tm: Any) -> None:
    for shell in ("bash", "zsh", "fish"):
        code, out, _ = tm("completion", shell)
        assert code == 0
        assert "_TM_COMPLETE" in out
    checked = subprocess.run(
        ["bash", "-n"], input=tm("completion", "bash")[1], text=True, capture_output=True, check=False
    )
    assert (checked.returncode, checked.stderr) == (0, "")


def test_help_imports_no_metadata() -> None:
    code = "import sys; from tm.cli.app import run; run(['--help']); print('importlib.metadata' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False"


def test_both_services_are_told_their_installation_by_the_same_options() -> None:
    from tm_scheduler.cli import main
    from tm_worker.cli import worker

    for service in (main, worker):
        options = {option for each in service.params for option in each.opts}
        assert options >= {
            "--url",
            "--home",
            "--namespace",
            "--metrics-port",
            "--log-level",
            "--log-format",
            "--version",
        }
