"""Documents of a running installation are what docs/reference/json.md says: all of them, and each field.

TM_SAMPLES=1 writes what was printed into docs/generate/samples.json; then `make docs`.
"""

from __future__ import annotations

import getpass
import json
import os
import re
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest

from docs.generate.documents import DOCUMENTS
from docs.generate.json_page import SAMPLES
from docs.generate.judge import problems
from tests.system.terminal import Terminal, announced, run
from tests.waiting import wait_for
from tm.config import ALERTS

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.slow

GRAPHS = """
import logging, time
from tm import Graph, task

def tell(event):
    raise OSError("the pager is off")

@task()
def extract(config, day="monday"):
    logging.getLogger("etl").warning("rows are late")
    return {"rows": 3, "day": day}

@task(retries=1, retry_delay=0.1, timeout=60, on_failure=tell)
def load(extract):
    print("loading", extract["rows"])
    if extract["day"] == "bad":
        raise ValueError("a bad day")
    return extract["rows"]

etl = Graph("etl", "0 4 * * *", "etl.json", timezone="Europe/Berlin")
etl.add_edges([extract], [load])

@task(queue="slow")
def wait_long():
    time.sleep(600)

slow = Graph("slow", deadline=0.2)
slow.add_edges([wait_long])
"""
#: each in its turn; what one does the next ones see. A word such as @bad stands for the id of a run
STEPS = """
trigger etl --run-id good --wait
trigger etl -p day=bad --run-id bad --wait
wait good
graphs
show etl
show good --messages --events
show bad
show bad/load
runs --state failed
logs bad
logs bad --jsonl
events
events bad --jsonl
why bad
why etl
plan etl
plan graphs.py:etl
check bad_graph.py
check --codes
doctor
retry bad --dry-run
retry bad --only load
wait bad-2
retry bad --all -p day=monday --wait
trigger etl -p day=bad --run-id ugly --wait
mark ugly/load success --reason seen
trigger slow --run-id long
workers
queues pause slow --reason repair --until 1h
trigger slow --run-id later
queues
queues purge slow -y
queues resume slow
cancel long --dry-run
cancel long
pause etl --reason move --until 1h
schedules etl --next 3d
graphs etl
resume etl --catch-up skip
backfill etl --from 2026-11-01 --to 2026-11-02 --dry-run
backfill etl --from 2026-11-01 --to 2026-11-02 -y
run graphs.py:etl
config show TM_LEASE TM_URL TM_HISTORY
config path
config reference
help exit-codes
cron next "*/15 9-17 * * mon-fri" --tz Europe/Berlin -n 2
cron prev "30 6 1 * *" -n 2 --from 2026-11-24
cron match "*/15 * * * *" 2026-11-24T04:30
cron explain "30 2 13 * fri" --tz Europe/Berlin --from 2026-11-24
cron lint "*/7 * * * *"
backup copy.db
workers drain --all --dry-run
workers stop --all --dry-run
prune --keep 1 --dry-run
"""


#: what a reader learns most from
_TOLD = {"tm.run/1": "show bad", "tm.workers/1": "workers"}


class _Receiver(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.bodies.append(json.loads(body))  # type: ignore[attr-defined]
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[tuple[str, dict[str, Any]]]]:
    """Each document with the command that printed it."""
    import shlex

    directory = tmp_path_factory.mktemp("documents")
    (directory / "graphs.py").write_text(GRAPHS)
    (directory / "etl.json").write_text('{"table": "sales"}')
    (directory / "bad_graph.py").write_text("from tm import Graph\ngraph = Graph('bad', '61 * * * *')\n")
    receiver = ThreadingHTTPServer(("127.0.0.1", 0), _Receiver)
    receiver.bodies = []  # type: ignore[attr-defined]
    thread = threading.Thread(target=receiver.serve_forever)
    thread.start()
    settings = {
        "TM_WEBHOOK_URL": f"http://127.0.0.1:{receiver.server_port}/alerts",
        "TM_WEBHOOK_EVENTS": ",".join(ALERTS),
        "TM_LEASE": "6",
        "TM_GRACE": "1",
    }
    found: list[tuple[str, dict[str, Any]]] = []

    def ask(line: str) -> None:
        words = shlex.split(line)
        done = run(directory, "tm", "--json", *words, timeout=90)
        assert done.stdout, f"tm {line}: {done.stderr}"
        texts = done.stdout.splitlines() if "--jsonl" in words else [done.stdout]
        found.extend((line, json.loads(text)) for text in texts)

    try:
        with Terminal(directory, "tm", "up", "graphs.py", "--processes", "2", **settings) as terminal:
            terminal.shows("Ctrl-C waits")
            announced(directory)
            for line in STEPS.strip().splitlines():
                ask(line)
                if line == "trigger slow --run-id long":
                    wait_for(lambda: '"running"' in run(directory, "tm", "--json", "show", "long").stdout, "it runs")
            expected = {"run.failed", "run.success", "task.retrying", "callback.failed", "deadline.missed"}
            bodies = receiver.bodies  # type: ignore[attr-defined]
            wait_for(lambda: expected <= {each["type"] for each in bodies}, "alerts of all kinds are sent", 60)
            found.extend(("an alert", each) for each in list(bodies))
        ask("restore copy.db -y")
    finally:
        receiver.shutdown()
        thread.join()
        receiver.server_close()
    if os.environ.get("TM_SAMPLES"):
        _keep(found, str(directory))
    return found


def _keep(found: list[tuple[str, dict[str, Any]]], directory: str) -> None:
    """One document of each schema, the fullest, cut to one item; without what is of this machine."""
    samples: dict[str, Any] = {}
    for schema in DOCUMENTS:
        mine = [each for _, each in found if each["schema"] == schema]
        if not mine:
            continue
        mine = [each for line, each in found if line == _TOLD.get(schema) and each["schema"] == schema] or mine
        best = max(mine, key=lambda each: min(len(json.dumps(each.get("items", [each])[:1])), 2500))
        samples[schema] = best | ({"items": best["items"][:1]} if "items" in best else {})
    text = json.dumps(samples, ensure_ascii=False, indent=1)
    for ours, theirs in {directory: "/srv/etl", f"{getpass.getuser()}@": "ann@", socket.gethostname(): "box"}.items():
        text = text.replace(ours, theirs)
    SAMPLES.write_text(text + "\n")


def test_no_document_has_a_field_that_the_page_does_not_name(printed: list[tuple[str, dict[str, Any]]]) -> None:
    assert {line: found for line, each in printed if (found := problems(each))} == {}


def test_every_schema_on_the_page_was_seen(printed: list[tuple[str, dict[str, Any]]]) -> None:
    seen = {each["schema"] for _, each in printed if each.get("items", True)}
    assert {*DOCUMENTS} - seen == set()


def test_every_field_was_seen_with_a_value_or_may_be_null(printed: list[tuple[str, dict[str, Any]]]) -> None:
    """A list or an object that was always empty would prove nothing of what is in it."""
    from docs.generate.shapes import SHAPES

    seen: set[str] = set()

    def walk(value: Any) -> None:
        if isinstance(value, dict):
            seen.update(name for name, each in value.items() if each not in (None, [], {}))
            for each in value.values():
                walk(each)
        elif isinstance(value, list):
            for each in value:
                walk(each)

    walk([each for _, each in printed])
    shapes = {name for each in SHAPES.values() for name, (kind, _) in each.fields.items() if re.search("[A-Z]", kind)}
    assert shapes - seen == set()
