"""What the documents say is so: commands and files exist, links lead somewhere, code runs."""

from __future__ import annotations

import ast
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent
DOCUMENTS = sorted(
    path
    for path in [
        *ROOT.glob("*.md"),
        *ROOT.glob("docs/**/*.md"),
        *ROOT.glob("examples/**/*.md"),
        *ROOT.glob("tests/**/*.md"),
    ]
    if not any(part.startswith(".") for part in path.relative_to(ROOT).parts)
)
LINK = re.compile(r"\]\(([^)\s]+)\)")
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)


def of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def blocks(path: Path, language: str) -> list[str]:
    return [text for found, text in BLOCK.findall(path.read_text()) if found == language]


def anchors(path: Path) -> set[str]:
    """Of headings, as they are made by the usual renderers."""
    headings = re.findall(r"^#+ (.+)$", BLOCK.sub("", path.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", DOCUMENTS, ids=of)
def test_links_lead_somewhere(path: Path) -> None:
    for link in LINK.findall(BLOCK.sub("", path.read_text())):
        if re.match(r"[a-z]+:", link):
            continue
        file, _, anchor = link.partition("#")
        target = path.parent / file if file else path
        assert target.exists(), f"{of(path)} links to {link}"
        assert not anchor or anchor in anchors(target), f"{of(path)} links to {link}"


@pytest.mark.parametrize("path", DOCUMENTS, ids=of)
def test_code_compiles(path: Path) -> None:
    for text in blocks(path, "python"):
        if not text.startswith(">>>"):
            ast.parse(text)


README = ROOT / "README.md"


def test_the_fifteen_lines_are_about_fifteen_and_run(tmp_path: Path) -> None:
    (source,) = blocks(README, "python")
    assert len([line for line in source.splitlines() if line.strip()]) <= 15
    file = tmp_path / "my_graph.py"
    file.write_text(source)
    code = "import my_graph; my_graph.graph()"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == "loaded 3 rows\n"


def test_both_commands_are_in_the_first_screen() -> None:
    first = "\n".join(README.read_text().splitlines()[:24])
    assert "make demo" in first
    assert "make test" in first


def shell_lines() -> list[str]:
    return [
        command
        for path in (README, ROOT / "CONTRIBUTING.md", ROOT / "examples" / "README.md")
        for text in [
            *blocks(path, "bash"),
            "\n".join(re.findall(r"`((?:make|tm|tm-\w+|python|rq|docker) [^`]+)`", path.read_text())),
        ]
        for line in text.splitlines()
        if (command := line.partition("#")[0].strip())
    ]


@pytest.mark.parametrize("line", sorted(set(shell_lines())))
def test_commands_exist(line: str) -> None:
    """Programs, make targets, sub-commands and options; files are checked where they are paths of ours."""
    words = shlex.split(line)
    if words[0] == "export":
        assert re.fullmatch(r"TM_[A-Z]+=.+", words[1])
        return
    assert words[0] in {"make", "tm", "tm-worker", "tm-scheduler", "python", "pip", "rq", "docker"}
    for word in words[1:]:
        if "/" in word and "://" not in word and "=" not in word:
            assert (ROOT / word).exists(), word
    if words[0] == "make":
        targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
        assert {word for word in words[1:] if "=" not in word} <= targets
    if words[0].startswith("tm"):
        command = words[:2] if words[0] == "tm" and len(words) > 1 and not words[1].startswith("-") else words[:1]
        shown = subprocess.run([BIN / command[0], *command[1:], "--help"], capture_output=True, text=True, check=False)
        assert shown.returncode == 0, shown.stderr
        for option in (word.partition("=")[0] for word in words if word.startswith("--")):
            assert option in shown.stdout


def test_settings_in_the_table_are_settings() -> None:
    from tm.config import TABLE

    known = {each.variable for each in TABLE}
    assert set(re.findall(r"`(TM_[A-Z_]+)`", README.read_text())) <= known


def test_files_named_in_documents_exist() -> None:
    for path in DOCUMENTS:
        for name in re.findall(
            r"`((?:tm|tests|examples|workers|scheduler|docs|benchmarks)/[\w./-]+)`", path.read_text()
        ):
            assert (ROOT / name).exists(), f"{of(path)} names {name}"


def test_every_example_is_in_the_list() -> None:
    listed = (ROOT / "examples" / "README.md").read_text()
    for path in (ROOT / "examples").glob("[0-9]*.py"):
        assert f"({path.name})" in listed


def test_no_document_names_a_machine_or_a_person() -> None:
    for path in DOCUMENTS:
        assert not re.search(r"/(home|root|work|tmp)/", path.read_text()), of(path)
