"""What `tm completion` prints works in zsh and fish too, where these are installed: typed into the real shells."""

from __future__ import annotations

import re
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.store.stage import SINGLE, plan
from tests.system.terminal import environment, run
from tm.store.records import NewRun

if TYPE_CHECKING:
    from pathlib import Path

    from tests.servers import Server
    from tm.store.store import Store

#: types a line and Tab into an interactive zsh; what the line is then goes to a file, by a widget on Ctrl-X
ZSH = """
zmodload zsh/zpty
zpty z zsh -f -i
zpty -w z 'autoload -U compinit; compinit -u -D; source ./tm.zsh; bindkey "^I" complete-word; setopt nolistbeep'
zpty -w z 'told() { print -r -- "$BUFFER" > told.new; mv told.new told; BUFFER= }; zle -N told; bindkey "^X" told'
zpty -w -n z "$1"$'\\t'$'\\x18'
for (( n = 0; n < 600; n++ )); do [[ -e told ]] && break; zpty -r -t z x; sleep 0.05; done
zpty -d z
cat told
"""

WORDS = {
    "tm tri": "tm trigger",
    "tm trigger wea": "tm trigger weather report",
    "tm wait weather-r": "tm wait weather-run-1",
    "tm show weather-run-1/o": "tm show weather-run-1/only",
    "tm queues pau": "tm queues pause",
    "tm queues pause gp": "tm queues pause gpu",
    "tm workers drain bo": "tm workers drain box.1",
}


@pytest.fixture
def here(tmp_path: Path, server: Server, store: Store) -> Path:
    drawn = plan(SINGLE, graph="weather report", queue="gpu")
    store.define(drawn, {"schedule": "manual"})
    store.start(drawn, [NewRun(id="weather-run-1")])
    store.announce("box.1", ["weather report"], {"host": "box", "queues": "gpu"}, 10**6)
    for shell in ("zsh", "fish"):
        done = run(tmp_path, "tm", "completion", shell)
        assert done.returncode == 0
        (tmp_path / f"tm.{shell}").write_text(done.stdout)
    (tmp_path / "url").write_text(server.url)
    return tmp_path


def ask(here: Path, *command: str) -> str:
    env = environment(TM_URL=(here / "url").read_text(), HOME=str(here), TERM="xterm")
    done = subprocess.run(
        command,
        cwd=here,
        env=env,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.skipif(shutil.which("fish") is None, reason="there is no fish here")
def test_words_go_on_in_fish(here: Path) -> None:
    for line, whole in WORDS.items():
        offered = ask(here, "fish", "-c", f"source tm.fish; complete -C '{line}'").splitlines()
        first = [each.partition("\t")[0] for each in offered]
        assert any(whole == f"{line.rpartition(' ')[0]} {each}" for each in first), (line, offered)


@pytest.mark.skipif(shutil.which("zsh") is None, reason="there is no zsh here")
@pytest.mark.parametrize(("line", "whole"), WORDS.items())
def test_words_go_on_in_zsh(here: Path, line: str, whole: str) -> None:
    typed = ask(here, "zsh", "-f", "-c", ZSH, "zsh", line)
    assert re.sub(r"\\(.)", r"\1", typed).strip() == whole
