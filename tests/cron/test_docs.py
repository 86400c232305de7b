"""docs/cron.md is true: its Python examples and its command lines are run."""

from __future__ import annotations

import doctest
import re
import shlex
from pathlib import Path

from click.testing import CliRunner

import tm.cron
from tm.cli.cron import cron_group

PAGE = Path(__file__).parents[2] / "docs" / "cron.md"
TEXT = PAGE.read_text(encoding="utf-8")


def test_the_python_examples() -> None:
    examples = "\n".join(re.findall(r"```pycon\n(.*?)```", TEXT, re.DOTALL))
    test = doctest.DocTestParser().get_doctest(examples, {}, "cron.md", str(PAGE), 0)
    assert len(test.examples) > 30
    said: list[str] = []
    failed, _ = doctest.DocTestRunner(optionflags=doctest.REPORT_NDIFF).run(test, out=said.append)
    assert not failed, "".join(said)


def test_the_command_lines() -> None:
    (session,) = re.findall(r"```console\n(.*?)```", TEXT, re.DOTALL)
    commands = re.findall(r"^\$ tm cron (.*)\n((?:[^$].*\n)*)", session, re.MULTILINE)
    assert len(commands) >= 5
    for command, expected in commands:
        assert CliRunner().invoke(cron_group, shlex.split(command)).stdout == expected, command


def test_every_public_name_and_method_is_there() -> None:
    for name in tm.cron.__all__:
        assert name in TEXT
    for name in vars(tm.cron.Expression):
        if not name.startswith("_"):
            assert f".{name}" in TEXT, name


def test_every_code_of_lint_is_there() -> None:
    source = "".join(
        Path(tm.cron.__file__).parents[1].joinpath(file).read_text(encoding="utf-8")
        for file in ("cron/traps.py", "cli/cron_lint.py")
    )
    for code in re.findall(r"""["']([a-z]+-[a-z]+)["']""", source):
        assert f"`{code}`" in TEXT, code


def test_seed_example_of_the_first_version() -> None:
    from datetime import datetime

    from tm.cron import Expression

    assert Expression("1-2,*/15 0 1 3 2").next(datetime(2024, 1, 31, 20)) == datetime(2024, 3, 1, 0, 0)
    for text in ("0-15 * * * *", "*/15 * * * *", "0-30/15 * * * *", "0 0,12 * * *", "0 0 1 1 *", "0 0 * * 0"):
        Expression(text)
    for text in ("0 0 1 jan-jun *", "0 0 1 * mon-thu", "40,0-30/15 * * * *", "* */12 2 jan,jun thu-sat"):
        Expression(text)
