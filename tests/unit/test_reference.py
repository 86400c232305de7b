"""The pages that are made from the code are as the code is, wherever they are made, and people find all pages."""

from __future__ import annotations

import inspect
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import tm
import tm.cron
import tm.testing
from docs.generate import __main__ as generate
from docs.generate import pages
from docs.generate.documents import DOCUMENTS
from docs.generate.json_page import SAMPLES
from docs.generate.judge import problems

if TYPE_CHECKING:
    from types import ModuleType

ROOT = Path(__file__).parents[2]
PAGES = sorted(generate.PAGES)


def made(*arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "docs.generate", *arguments],
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", **more},
        capture_output=True,
        text=True,
        check=False,
    )


def test_no_page_is_stale() -> None:
    names = ", ".join(path.name for path in generate.stale())
    assert not names, f"the code says otherwise than {names}: run `make docs`"


def test_a_stale_page_is_named_and_ends_the_check_with_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "docs" / "reference"
    monkeypatch.setattr(generate, "FOLDER", folder)
    assert generate.main(["--check"]) == 1
    assert not folder.exists()
    assert generate.main([]) == 0
    assert generate.main(["--check"]) == 0
    with (folder / "cli.md").open("a") as page:
        page.write("one more line\n")
    capsys.readouterr()
    assert generate.main(["--check"]) == 1
    assert capsys.readouterr().err == "docs/reference/cli.md is not what the code says; run `make docs`\n"


def test_pages_are_the_same_on_any_terminal_for_anybody() -> None:
    for more in ({"COLUMNS": "40", "TM_LEASE": "7", "USER": "ann", "NO_COLOR": "1"}, {"COLUMNS": "300", "LC_ALL": "C"}):
        done = made("--check", **more)
        assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("name", PAGES)
def test_a_page_begins_with_what_is_on_it(name: str) -> None:
    text = (generate.FOLDER / name).read_text()
    text = re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
    head, _, _ = text.partition("\n## ")
    headings = re.findall(r"^## (.+)$", text, re.MULTILINE)
    assert len(headings) > 2
    deep = re.findall(r"^### (.+)$", text, re.MULTILINE)
    for heading in deep or headings:
        assert f"(#{pages.anchor(heading)})" in head, heading
    found = [pages.anchor(each) for each in re.findall(r"^#+ (.+)$", text, re.MULTILINE)]
    assert len(found) == len(set(found)), "two headings have one anchor"


def test_every_schema_in_the_code_is_on_the_page() -> None:
    texts = [path.read_text() for part in ("tm", "scheduler", "workers") for path in (ROOT / part).rglob("*.py")]
    found = {each for text in texts for each in re.findall(r'"(tm\.[a-z.-]+/\d+)"', text)}
    assert found <= {*DOCUMENTS}, "name it in docs/generate/documents.py"
    assert {each for each in DOCUMENTS if not each.startswith("tm.cron.")} <= found


def test_the_samples_are_what_the_page_says() -> None:
    samples = json.loads(SAMPLES.read_text())
    assert {*samples} == {*DOCUMENTS}, "play tests/system/test_json_reference.py with TM_SAMPLES=1"
    assert {name: found for name, each in samples.items() if (found := problems(each))} == {}


def test_a_document_that_is_otherwise_is_found() -> None:
    (run,) = json.loads(SAMPLES.read_text())["tm.runs/1"]["items"]
    assert problems({"schema": "tm.runs/1", "items": [run | {"colour": "red"}]}) == [
        "tm.runs/1 items[0].colour is not on the page"
    ]
    assert problems({"schema": "tm.runs/1", "items": [run | {"tick": "soon"}]}) == [
        "tm.runs/1 items[0].tick is not instant: 'soon'"
    ]
    assert problems({"schema": "tm.runs/1"} | {name: each for name, each in run.items() if name != "id"}) == [
        "tm.runs/1 has no id"
    ]
    assert problems({"schema": "tm.runs/9", "items": []}) == ["schema 'tm.runs/9' is not on the page"]


def test_text_of_the_code_is_no_markup_by_accident() -> None:
    assert pages.prose("*/5 <x> [y] `a*b` --dry-run") == r"\*/5 \<x> \[y\] `a*b` `--dry-run`"
    assert pages.prose("TM_URL, docs/cron.md") == ("[`TM_URL`](configuration.md#tm_url), [docs/cron.md](../cron.md)")
    assert pages.table(["a"], [["x|y\nz"]]) == "| a |\n| --- |\n| x\\|y z |"


def test_every_page_is_in_the_index() -> None:
    index = (ROOT / "docs" / "README.md").read_text()
    pages_there = {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")}
    assert {name for name in pages_there - {"README.md"} if f"({name})" not in index} == set()


def test_every_link_between_documents_leads_to_a_file() -> None:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode:
        pytest.skip("not a git repository: which files are ours is not known")
    broken = [
        f"{name}: {target}"
        for name in listed.stdout.splitlines()
        if (ROOT / name).exists()
        for target in re.findall(
            r"\]\(([^)\s#]+)", re.sub(r"^```.*?^```$", "", (ROOT / name).read_text(), flags=re.DOTALL | re.MULTILINE)
        )
        if not re.match(r"[a-z]+:", target) and not ((ROOT / name).parent / target).exists()
    ]
    assert broken == []


def test_every_command_has_examples_and_exit_codes_on_its_page() -> None:
    text = (generate.FOLDER / "cli.md").read_text().partition("\n## tm\n")[2]
    sections = re.split(r"^#{3,4} (.+)$", text, flags=re.MULTILINE)[1:]
    named = dict(zip(sections[::2], sections[1::2], strict=True))
    groups = {name.rpartition(" ")[0] for name in named} - {"tm", ""}
    assert {name for name, section in named.items() if "\nExamples:\n\n```bash\n" not in section} == set()
    assert {name for name, section in named.items() if "\nExit codes: " not in section} <= groups


@pytest.mark.parametrize("module", [tm, tm.cron, tm.testing])
def test_the_page_has_every_public_name(module: ModuleType) -> None:
    text = (generate.FOLDER / "python-api.md").read_text()
    for name in module.__all__:
        assert name.startswith("_") or f"[`{name}`](#" in text


def test_every_function_of_the_api_says_what_its_arguments_are() -> None:
    """Where there is more than one; a docstring of one sentence may say it all."""
    for module in (tm, tm.cron, tm.testing):
        for name in module.__all__:
            thing = getattr(module, name)
            if inspect.isfunction(thing):
                text = inspect.getdoc(thing) or ""
                missing = [each for each in inspect.signature(thing).parameters if each not in text]
                assert not missing, f"{module.__name__}.{name} does not say what {', '.join(missing)} is"
