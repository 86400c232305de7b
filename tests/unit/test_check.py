"""`tm check` says of every broken file exactly what is wrong, and of good ones nothing."""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tm.checks import CODES, Finding, check
from tm.checks.compose import commands_in, offered_queues
from tm.checks.hints import clash
from tm.cli.app import run
from tm.errors import LoadError

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[2]
HEAD = "import tm\nfrom tm import Executor, Graph, task\n"
CORPUS: dict[str, tuple[str, str]] = {
    name: (text, expected.strip())
    for name, text, expected in re.findall(
        r"^=== (\S+)\n(.*?)^---\n(.*?)(?=^=== |\Z)",
        (Path(__file__).parent / "check_corpus.txt").read_text(),
        re.DOTALL | re.MULTILINE,
    )
}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return tmp_path


@pytest.fixture
def tm(here: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    def call(*words: str) -> tuple[int, str, str]:
        code = run(words)
        out, err = capsys.readouterr()
        return code, out, err

    return call


def found(text: str, name: str = "file.py", **options: Any) -> list[str]:
    Path(name).write_text(text if "from __future__" in text else HEAD + text)
    return [str(each) for each in check([name], **options).findings]


# What is wrong --------------------------------------------------------------------------------------------------


def test_the_corpus_is_large_and_plays_nearly_every_code() -> None:
    assert len(CORPUS) >= 60
    played = {code for _, expected in CORPUS.values() for code in re.findall(r"\[([\w-]+)\]$", expected, re.MULTILINE)}
    played = {"cron" if code.startswith("cron-") else code for code in played}
    elsewhere = {"load", "queue"}  # tested below
    assert played | elsewhere == set(CODES)


@pytest.mark.parametrize("name", CORPUS)
def test_a_broken_file_is_told_exactly(name: str, here: Path) -> None:
    (here / "broken.json").write_text('{\n  "a": 1,\n  "b" 2\n}\n')
    (here / "empty.json").write_text("")
    text, expected = CORPUS[name]
    said = "\n".join(found(text, name, patience=1.5 if name == "hangs_on_import.py" else 30.0))
    said = re.sub(r" at 0x[0-9a-f]+", " at 0x0", said)
    assert re.sub(r" \(/\S+/tm/__init__.py\)", "", said) == expected


def test_two_files_may_not_define_one_graph(here: Path) -> None:
    for name in ("one", "two"):
        (here / f"{name}.py").write_text(HEAD + "@task()\ndef a(): ...\ng = Graph('etl')\ng.add_edges([a])\n")
    assert [str(each) for each in check(["."]).findings] == [
        (
            "two.py:5:5: error: two graphs are named 'etl', the other one is at one.py:5:5; rename one, for they cannot run "
            "together  [duplicate-graph]"
        )
    ]
    assert check(["one.py"]).findings == ()


def test_a_file_that_cannot_be_opened_is_told(here: Path) -> None:
    os.mkfifo(here / "graph.py")
    assert [str(each) for each in check(["graph.py"]).findings] == ["graph.py: error: it is no regular file  [load]"]


def test_what_is_no_target_is_an_error(here: Path) -> None:
    with pytest.raises(LoadError, match=r"cannot check nowhere\.py: no such file or directory"):
        check(["nowhere.py"])
    (here / "empty").mkdir()
    with pytest.raises(LoadError, match="cannot check empty: no Python file in it defines a graph"):
        check(["empty"])


# What is not wrong ----------------------------------------------------------------------------------------------


def test_the_examples_are_in_order() -> None:
    report = check([ROOT / "examples"])
    assert report.findings == ()
    assert report.graphs >= 10


def test_files_of_the_first_version_are_in_order_but_for_the_one_that_is_refused() -> None:
    report = check([ROOT / "tests" / "seed"])
    assert [(Path(each.file).name, each.code) for each in report.findings] == [
        ("manual_refused.py", "manual-in-executor")
    ]
    assert report.graphs >= 10


GOOD = {
    "keys that may be there": """
@task()
def a(day="monday"):
    if day == "monday":
        return {"rows": 1}
    return {"rows": 2, "late": True}
@task()
def b(a):
    if "late" in a:
        print(a["late"])
    print(a["late"] if len(a) > 1 else a["rows"])
    return a["rows"]
@task()
def c(a):
    if "nothing" not in a:
        return None
    return a["nothing"]
@task()
def d(a):
    a = {"other": 1, **a}
    return a["other"]
@task()
def e(a):
    fill(a)
    return a["filled"]
@task()
def f(a):
    try:
        return a["nothing"]
    except KeyError:
        return 0
@task()
def h(**parents):
    return [parents["a"]["rows"], parents.get("zzz")]
def fill(a):
    a["filled"] = True
g = Graph("g")
g.add_edges([a], [b, c, d, e, f, h])
""",
    "keys that are computed": """
import functools
names = ["x", "y"]
@task()
def a(): return {name: 1 for name in names}
@task()
def more(): return {"x": 1, **dict.fromkeys(names)}
def decorated(function):
    @functools.wraps(function)
    def wrapper(*args, **kwargs): return {"y": function(*args, **kwargs)}
    return wrapper
@task()
@decorated
def wrapped() -> int: return 1
@task()
def b(a, more, wrapped: dict): return a["x"], more["y"], wrapped["y"]
g = Graph("g", "@daily")
g.add_edges([a, more, wrapped], [b])
""",
    "annotations that agree": """
from __future__ import annotations
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime
from tm import Graph, task
from typing import TYPE_CHECKING, Any, Literal, NewType, Optional, TypedDict, TypeVar
if TYPE_CHECKING:
    from somewhere import Nowhere
T = TypeVar("T")
Name = NewType("Name", str)
class Rows(TypedDict):
    count: int
    day: str
class Less(TypedDict):
    count: float
@task()
def a() -> int: return 1
@task()
def b(a: float) -> list[int]: return [1]
@task()
def c(b: Sequence[float]) -> Optional[str]: return "x"
@task()
def d(c: Literal["x"], b: Iterable) -> Rows: return {"count": 1, "day": "x"}
@task()
def e(d: Mapping[str, Any], c: Name | None) -> datetime: return datetime.now()
@task()
def f(e: date, d: Less) -> Nowhere: return 1
@task()
def h(f: int, e: object, d: dict) -> T: return 1
@task()
def i(h: str, **more: Any) -> float: return 1
@task()
def j(i: int) -> bool: return True
@task()
def k(j: int, limit: int | None = None, share: float = 1): ...
g = Graph("g", "@daily")
g.add_edges([a], [b]); g.add_edges([b], [c]); g.add_edges([b, c], [d]); g.add_edges([c, d], [e])
g.add_edges([d, e], [f]); g.add_edges([d, e, f], [h]); g.add_edges([h, f], [i]); g.add_edges([i], [j])
g.add_edges([j], [k])
""",
    "objects in process": """
from dataclasses import dataclass
@dataclass
class Rows:
    count: int
@task()
def a() -> Rows: return Rows(1)
@task()
def b(a: Rows): return a.count
g = Graph("g")
g.add_edges([a], [b])
""",
    "tasks made in a function": """
def made(city):
    @task(name=f"load_{city}")
    def load():
        return city
    return load
g = Graph("g")
for city in ["Rome", "Oslo"]:
    g.add_edges([made(city)])
for number in range(3):
    @task(name=f"n{number}")
    def given(number=number): return number
    g.add_edges([given])
""",
    "a task that is called as a function": """
@task()
def helper(number=1): return number
@task()
def a(): return helper(2)
g = Graph("g")
g.add_edges([a])
if __name__ == "__main__":
    g.submit()
""",
    "settings that make sense": """
@task(retries=3, retry_delay=1, backoff=1, max_retry_delay=2, jitter=0.1, retry_on=(OSError, ValueError), timeout=5)
def a(day=None, size: float = 1, names=("a", "b")): ...
g = Graph("g", "0 6 * * *", timezone="Asia/Kolkata", misfire="all", overlap="skip", max_active_runs=2, timeout=60)
g.add_edges([a])
Executor([g]).start()
""",
}


@pytest.mark.parametrize("name", GOOD)
def test_nothing_is_said_of_what_may_be_right(name: str, here: Path) -> None:
    assert found(GOOD[name]) == []


def test_a_comment_waves_a_finding_through(here: Path) -> None:
    text = "@task()\ndef a(seen=[]): return len(seen){}\ng = Graph('g')\ng.add_edges([a])\n"
    assert len(found(text.format(""))) == 1
    assert found(text.format("  # tm: ignore"), "two.py") == []
    assert found(text.format("  # tm: ignore[unused-task, mutable-default]"), "three.py") == []
    assert len(found(text.format("  # tm: ignore[unused-task]"), "four.py")) == 1


def test_a_task_that_another_file_of_the_directory_uses_is_used(here: Path) -> None:
    (here / "tasks.py").write_text(
        HEAD + "@task()\ndef a(): ...\n@task()\ndef b(): ...\ng = Graph('own')\ng.add_edges([a])\n"
    )
    (here / "graphs.py").write_text(HEAD + "from tasks import b\ng = Graph('other')\ng.add_edges([b])\n")
    assert [each.code for each in check(["tasks.py"]).findings] == ["unused-task"]
    assert check(["."]).findings == ()


def test_of_a_directory_only_files_with_graphs_count(here: Path) -> None:
    (here / "helpers.py").write_text(HEAD + "one = task(name='one')(lambda: 1)\n")
    (here / "graphs.py").write_text(HEAD + "from helpers import one\ng = Graph('g')\ng.add_edges([one])\n")
    report = check(["."])
    assert (report.files, report.findings) == (1, ())
    assert {each.code for each in check(["helpers.py"]).findings} == {"lambda-task"}


# Nothing is run -------------------------------------------------------------------------------------------------


def test_nothing_is_run_and_nothing_is_left_behind(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TM_URL", "redis://127.0.0.1:1/0")
    said = found(
        "import pathlib\n@task()\ndef a(): pathlib.Path('ran').touch()\n"
        "g = Graph('g', '* * * * *')\ng.add_edges([a])\nprint('loud')\nExecutor([g]).start()\n"
    )
    assert said == []
    assert sorted(each.name for each in here.iterdir()) == ["file.py"]
    assert "file" not in sys.modules


# The compose file -----------------------------------------------------------------------------------------------

COMPOSE = """
services:
  worker:
    command: [tm-worker, /app/graphs, --queue, default]
  gpu:
    command: tm-worker /app/graphs --queue=gpu   # the big one
  block:
    command:
      - tm-worker
      - /app/graphs
      - "--queue"
      - bulk
    environment: {TM_URL: "redis://valkey"}
"""


def test_a_queue_that_no_worker_of_the_compose_file_offers(here: Path) -> None:
    (here / "compose.yaml").write_text(COMPOSE)
    text = "@task(queue='{}')\ndef a(): ...\ng = Graph('g')\ng.add_edges([a])\n"
    assert found(text.format("gpu")) == []
    assert found(text.format("bulk"), "two.py") == []
    assert found(text.format("gpus"), "three.py") == [
        (
            "three.py:4:1: warning: no worker in compose.yaml takes from queue 'gpus', only from bulk, default, gpu; add --queue "
            "gpus to a tm-worker there  [queue]"
        )
    ]


@pytest.mark.parametrize("command", ["[tm-worker, /app]", "tm-worker $FILES --queue gpu", "[sleep, infinity]"])
def test_nothing_is_said_when_the_queues_cannot_be_told(here: Path, command: str) -> None:
    (here / "compose.yaml").write_text(f"services:\n  a:\n    command: {command}\n")
    assert offered_queues(here / "file.py") is None


def test_commands_of_a_compose_file() -> None:
    assert commands_in(COMPOSE) == [
        ["tm-worker", "/app/graphs", "--queue", "default"],
        ["tm-worker", "/app/graphs", "--queue=gpu"],
        ["tm-worker", "/app/graphs", "--queue", "bulk"],
    ]


# The command ----------------------------------------------------------------------------------------------------


def test_the_command_and_its_exit_codes(tm: Any, here: Path) -> None:
    (here / "good.py").write_text(HEAD + "@task()\ndef a(): ...\ng = Graph('good')\ng.add_edges([a])\n")
    (here / "odd.py").write_text(HEAD + "@task()\ndef a(x=[]): ...\ng = Graph('odd')\ng.add_edges([a])\n")
    (here / "bad.py").write_text(HEAD + "g = Graph('bad')\n")
    assert tm("check", "good.py") == (0, "1 file, 1 graph: nothing found\n", "")
    code, out, err = tm("check", "odd.py")
    assert (code, err) == (0, "")
    assert out.splitlines()[-1] == "1 file, 1 graph: 0 errors, 1 warning"
    assert tm("check", "odd.py", "--strict")[0] == 6
    code, out, err = tm("check", ".")
    assert (code, err) == (6, "")
    assert out.splitlines()[-1] == "3 files, 3 graphs: 1 error, 1 warning"
    assert tm("-q", "check", "good.py") == (0, "", "")
    assert tm("check", "no.py") == (2, "", "tm: cannot check no.py: no such file or directory\n")
    assert tm("check")[0] == 2


def test_the_document(tm: Any, here: Path) -> None:
    (here / "bad.py").write_text(HEAD + "g = Graph('bad')\n")
    for words in (("check", "bad.py", "--json"), ("check", "bad.py", "--format", "json")):
        code, out, _ = tm(*words)
        assert code == 6
        assert json.loads(out) == {
            "schema": "tm.check/1",
            "items": [
                {
                    "severity": "error",
                    "file": "bad.py",
                    "line": 3,
                    "column": 5,
                    "code": "empty-graph",
                    "message": "graph 'bad' has no tasks",
                    "hint": "add some with graph.add_edges([parent], [child])",
                }
            ],
        }


def test_annotations_for_a_page_of_changes(tm: Any, here: Path) -> None:
    (here / "bad.py").write_text(HEAD + "g = Graph('bad')\n")
    assert tm("check", "bad.py", "--format", "github")[:2] == (
        6,
        (
            "::error file=bad.py,line=3,col=5,title=tm check%3A empty-graph::graph 'bad' has no tasks; add some with "
            "graph.add_edges([parent], [child])\n"
        ),
    )
    finding = Finding(file="a,b.py", line=1, code="import", message="50 %\nmore")
    assert finding.github() == "::error file=a%2Cb.py,line=1,title=tm check%3A import::50 %25%0Amore"


def test_the_codes_are_listed(tm: Any) -> None:
    code, out, _ = tm("check", "--codes")
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()[1:]] == list(CODES)


# Annotations ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "wanted", "right"),
    [
        (int, str, True),
        (int, float, False),
        (float, int, False),  # an int may stand where a float is written
        (bool, int, False),
        (int, bool, False),  # a bool is an int
        (bytearray, bytes, False),  # is how it arrives
        (int | None, str | None, False),
        (int | str, str, False),
        (list[int], list[int | str], False),
        (list, list[int], False),
        (list[int], tuple[int, ...], True),
        (dict[str, int], dict[str, str], True),
        (dict[str, int], dict[int, int], True),
        (tuple[int, ...], tuple[int, int], False),
        (int, Any, False),
        (Any, int, False),
        (None, int, True),
    ],
)
def test_annotations_clash_only_when_no_value_is_both(given: Any, wanted: Any, right: bool) -> None:
    assert clash(given, wanted) is right
