"""docs/getting-started.md is played from top to bottom: its file, its commands, and what it shows of their output."""

from __future__ import annotations

import re
import shlex
from contextlib import ExitStack
from pathlib import Path

from tests.system.terminal import Terminal, run

PAGE = Path(__file__).parents[2] / "docs" / "getting-started.md"
BLOCK = re.compile(r"^```(bash|text|python)\n(.*?)^```", re.DOTALL | re.MULTILINE)
#: what differs from one time to the next: ids, times of day, days, durations
VARYING = (
    (r"\borders-[0-9a-z]{10}", "ID"),
    (r"\b\d\d:\d\d:\d\d(\.\d+)?", "TIME"),
    (r"\b\w{3} \d\d \w{3} ", ""),
    (r"\b\d+(\.\d+)? m?s\b", "LONG"),
    (r" +", " "),
)


def alike(text: str) -> list[str]:
    for pattern, same in VARYING:
        text = re.sub(pattern, same, text)
    return [line.rstrip() for line in text.splitlines() if line.strip()]


def assert_shown(shown: str, printed: str) -> None:
    """Every line the page shows was printed, in that order."""
    lines = iter(alike(printed))
    for line in alike(shown):
        assert any(line == each for each in lines), f"{line!r} is not in\n{printed}"


def test_the_page_does_what_it_shows(tmp_path: Path) -> None:
    printed = ""
    with ExitStack() as stack:
        terminal: Terminal | None = None
        for language, text in BLOCK.findall(PAGE.read_text()):
            if language == "python":
                (tmp_path / "orders.py").write_text(text)
            elif language == "text":
                assert_shown(text, printed)
            for line in text.splitlines() if language == "bash" else ():
                command, _, comment = line.partition(" #")
                words = shlex.split(command)
                if words[0] == "mkdir":
                    (tmp_path / words[1]).mkdir()
                elif words[:2] == ["tm", "up"]:
                    terminal = stack.enter_context(Terminal(tmp_path, *words))
                    terminal.shows("up; Ctrl-C waits")
                    printed = terminal.text
                else:
                    done = run(tmp_path, *words)
                    printed = done.stdout + done.stderr
                    expected = re.search(r"ends with (\d+)", comment)
                    assert done.returncode == int(expected[1] if expected else 0), f"{line}\n{printed}"
        assert terminal is not None
        assert terminal.interrupt() == 0
    assert run(tmp_path, "tm", "runs").stdout.count("orders-") == 3
