"""Every example runs: in process, and once, now, through the real stack."""

from __future__ import annotations

import ast
import json
import re
import shutil
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from tests.system.terminal import run
from tm import loader

pytestmark = pytest.mark.usefixtures("nothing_stays_loaded")

EXAMPLES = Path(__file__).parents[2] / "examples"

#: file, graph, the value of its last task
GRAPHS = [
    ("01_hello.py", "hello", "hello"),
    ("02_messages.py", "messages", "goodbye"),
    ("03_retries.py", "retries", 7),
    ("04_config.py", "greetings", 2),
    ("05_several_graphs.py", "slow", "thought"),
    ("05_several_graphs.py", "quick", True),
    ("06_manual_and_nested.py", "rooms", 41),
]


@pytest.fixture
def examples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of them in the working directory, so that what they write goes elsewhere."""
    monkeypatch.chdir(tmp_path)
    copied = tmp_path / "examples"
    shutil.copytree(EXAMPLES, copied, ignore=shutil.ignore_patterns("__pycache__", ".tm", "weather-report"))
    return copied


def test_all_examples_are_tested() -> None:
    tested = {file for file, *_ in GRAPHS} | {"07_cron.py", "08_submit.py"}
    assert {path.name for path in EXAMPLES.glob("[0-9]*.py")} == tested


@pytest.mark.parametrize("path", sorted(EXAMPLES.rglob("*.py")), ids=lambda path: path.name)
def test_an_example_begins_with_what_it_shows(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text()))


@pytest.mark.parametrize(("file", "name", "value"), GRAPHS)
def test_in_process(examples: Path, file: str, name: str, value: object) -> None:
    assert loader.load(examples / file).graph(name)() == value


@pytest.mark.slow
@pytest.mark.parametrize(("file", "name", "value"), GRAPHS)
def test_tm_run(examples: Path, file: str, name: str, value: object) -> None:
    done = run(examples.parent, "tm", "--json", "run", f"examples/{file}:{name}")
    assert done.returncode == 0, done.stderr
    (document,) = json.loads(done.stdout)["items"]
    assert (document["graph"], document["state"]) == (name, "success")


def test_the_cron_example(examples: Path) -> None:
    done = run(examples, "python", "07_cron.py")
    assert done.returncode == 0
    promised = re.findall(r"# (\d{4}-.*)$", (examples / "07_cron.py").read_text(), re.MULTILINE)
    said = [line.partition(":")[2].strip() for line in done.stdout.splitlines()]
    assert said[:2] == promised
    assert said[2] == "2026-03-29 03:00:00+02:00"
    assert done.stdout.splitlines()[-1].strip() == "^^"


@pytest.mark.slow
def test_the_runs_that_a_task_submits_are_run_too(examples: Path) -> None:
    done = run(examples.parent, "tm", "run", "examples/08_submit.py:month end")
    assert done.returncode == 0, done.stderr
    listed = run(examples.parent, "tm", "--json", "runs", "invoice")
    assert [item["state"] for item in json.loads(listed.stdout)["items"]] == ["success"] * 5


# The ETL graph


def check_report(folder: Path) -> None:
    """Two charts that are XML with a shape for every month, and a page that shows them."""
    page = (folder / "index.html").read_text()
    assert "2,922 days, 0 rows rejected" in page
    for name in ("temperature", "rain"):
        assert f'src="{name}.svg"' in page
        chart = ET.parse(folder / f"{name}.svg").getroot()
        shapes = [each for each in chart.iter() if each.tag.endswith(("polygon", "rect"))]
        assert len(shapes) == (3 if name == "temperature" else 25)


def test_etl_in_process(examples: Path, capsys: pytest.CaptureFixture[str]) -> None:
    value = loader.load(examples / "etl" / "etl.py").graph()()
    assert value == {"report": str(Path.cwd() / "weather-report" / "index.html"), "days": 2922, "rejected": 0}
    check_report(Path("weather-report"))
    assert "extract: 2922 rows of 2012 to 2015" in capsys.readouterr().out


def test_etl_puts_rows_aside_that_make_no_sense(examples: Path) -> None:
    table = examples / "etl" / "data" / "weather.csv"
    lines = table.read_text().splitlines()
    lines[1:1] = [
        "Seattle,2012-02-30,0.0,12.8,5.0,4.7,sun",
        "Seattle,2012-01-01,0.0,5.0,12.8,4.7,sun",
        "Seattle,2012-01-02,-1,12.8,5.0,4.7,sun",
    ]
    lines.append(lines[-1])
    table.write_text("\n".join(lines))
    assert loader.load(examples / "etl" / "etl.py").graph()()["rejected"] == 4
    page = Path("weather-report", "index.html").read_text()
    for reason in ("day is out of range", "is above high", "negative rain", "second row for New York"):
        assert reason in page


def test_etl_reads_its_config_at_every_run(examples: Path) -> None:
    graph = loader.load(examples / "etl" / "etl.py").graph()
    config = examples / "etl" / "config.json"
    config.write_text(config.read_text().replace("[2012, 2015]", "[2014, 2014]"))
    assert graph()["days"] == 2 * 365
    config.write_text(config.read_text().replace("[2014, 2014]", "[2014, 2015]"))
    assert graph()["days"] == 4 * 365


@pytest.mark.slow
def test_the_demo(examples: Path) -> None:
    done = run(examples.parent, "python", "examples/demo.py", timeout=100)
    assert done.returncode == 0, done.stdout + done.stderr
    report = Path(done.stdout.splitlines()[-1].removeprefix("report: "))
    check_report(report.parent)
    table = done.stdout[done.stdout.rindex("weather-report-") :]
    for name in ("folder", "extract", "validate", "temperature", "rain", "sky", "report"):
        assert re.search(rf"\b{name}\b.*\bsuccess\b", table), table

    # the station refused once, and the attempt after that was the good one
    listed = run(examples.parent, "tm", "--json", "runs", "weather report")
    first = json.loads(listed.stdout)["items"][-1]
    shown = json.loads(run(examples.parent, "tm", "--json", "show", first["id"]).stdout)["items"][0]
    outcomes = {task["name"]: [attempt["outcome"] for attempt in task["attempts"]] for task in shown["tasks"]}
    assert outcomes["extract"] == ["failed", "success"]
    assert outcomes["report"] == ["success"]
