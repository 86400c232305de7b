"""docs/how-to/alerts.md does what it says: its graph runs on a real stack, its receiver knows our signatures."""

from __future__ import annotations

import os
import re
import shlex
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.system.terminal import Terminal, announced, run
from tests.unit.test_webhook import ALERT, receiving
from tests.waiting import wait_for
from tm.config import DEFAULT_ALERTS, Settings
from tm_scheduler import webhook

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE = (Path(__file__).parents[2] / "docs" / "how-to" / "alerts.md").read_text()
GRAPH, RECEIVER = re.findall(r"^```python\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
COMMANDS, EXPORTS = re.findall(r"^```bash\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    directory = tmp_path_factory.mktemp("alerts")
    (directory / "graphs.py").write_text(GRAPH)
    with Terminal(directory, "tm", "up", "graphs.py", "--processes", "2", TM_LEASE="3", TM_GRACE="1") as terminal:
        terminal.shows("Ctrl-C waits")
        announced(directory)
        yield directory


def test_the_commands_do_what_they_say_and_the_callbacks_are_called(here: Path) -> None:
    for line in COMMANDS.splitlines():
        command, _, comment = line.partition(" #")
        expected = re.search(r"ends with (\d+)", comment)
        done = run(here, *shlex.split(command))
        assert done.returncode == int(expected[1] if expected else 0), f"{line}\n{done.stdout}{done.stderr}"

    def told() -> list[str]:
        path = here / "told.txt"
        return [re.sub(r"run \S+:", "run:", line) for line in path.read_text().splitlines()] if path.exists() else []

    wait_for(lambda: len(told()) == 3, "the callbacks to be called")
    assert sorted(told()) == [
        "failure of charge, run: failed no such customer",
        "failure of charge, run: failed no such customer",
        "retry of charge, run: retrying no such customer",
    ]

    def shown() -> str:
        return run(here, "tm", "show", "billing@failed").stdout

    for what in ("on_retry of charge", "on_failure of charge", "on_failure "):
        wait_for(lambda what=what: re.search(rf"callback +{what} +success", shown()), f"tm show to name {what}")


def test_the_settings_it_shows_are_the_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    for line in EXPORTS.splitlines():
        name, value = line.removeprefix("export ").split("=", 1)
        monkeypatch.setenv(name, value)
    assert Settings.from_environment().webhook_events == DEFAULT_ALERTS
    assert os.environ["TM_WEBHOOK_SECRET"] in EXPORTS


def test_its_receiver_knows_our_signature_from_another() -> None:
    names: dict[str, Any] = {}
    exec(RECEIVER, names)
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    with receiving() as receiver:
        webhook.send(receiver.url, webhook.key_of(secret), ALERT, int(time.time()))
        webhook.send(receiver.url, webhook.key_of(secret), ALERT, int(time.time()) - 3600)
    (headers, body), (old_headers, old_body) = receiver.got
    assert names["verify"](headers, body, secret)
    assert not names["verify"](headers, body + b" ", secret)
    assert not names["verify"](headers, body, "whsec_" + "A" * 32)
    assert not names["verify"](old_headers, old_body, secret), "an hour old: somebody plays it again"


def test_every_alert_there_is_has_its_name_on_the_page() -> None:
    from tm.config import ALERTS

    assert not [name for name in ALERTS if f"`{name}`" not in PAGE and name not in EXPORTS]
