"""A person at a terminal: a command in a directory, what it prints, and Ctrl-C."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tests.waiting import wait_for

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

BIN = Path(sys.executable).parent


def environment(**more: str) -> dict[str, str]:
    """That of somebody who has activated this virtual environment and set nothing of ours."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("TM_", "PYTEST_", "PYTHON"))}
    return kept | {"PATH": f"{BIN}:{os.environ['PATH']}"} | more


def run(directory: Path, *command: str, timeout: float = 60, **more: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(
        [str(BIN / command[0]), *command[1:]],
        cwd=directory,
        env=environment(**more),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def announced(directory: Path) -> None:
    """Wait until the scheduler of a stack that is up has announced its graphs, which takes it another moment."""

    def there() -> bool:
        done = run(directory, "tm", "--json", "graphs")
        # a graph that only history knows has no schedule
        return done.returncode == 0 and any(each["schedule"] for each in json.loads(done.stdout)["items"])

    wait_for(there, "the scheduler to announce its graphs", 20, 0.1)


class Terminal:
    """A command that goes on until it is interrupted."""

    def __init__(self, directory: Path, *command: str, **more: str) -> None:
        self.directory, self.command = directory, command
        self._log = directory / "terminal.log"
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [str(BIN / command[0]), *command[1:]],
                cwd=directory,
                env=environment(**more),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # a terminal sends Ctrl-C to everybody in it
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if error is not None:
            error.add_note(f"--- {' '.join(self.command)}\n{self.text[-4000:]}")
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    @property
    def text(self) -> str:
        """All that was printed so far."""
        return self._log.read_text(errors="replace")

    @property
    def lines(self) -> list[str]:
        """The same by lines."""
        return self.text.splitlines()

    def shows(self, text: str, timeout: float = 20) -> None:
        """Wait until a text is printed."""

        def seen() -> bool:
            if text in self.text:
                return True
            assert self.process.poll() is None, f"{self.command} ended with {self.process.poll()}:\n{self.text[-4000:]}"
            return False

        try:
            wait_for(seen, f"{text!r} to be printed", timeout)
        except AssertionError as error:
            error.add_note(f"--- {' '.join(self.command)}\n{self.text[-4000:]}")
            raise

    def interrupt(self, timeout: float = 30) -> int:
        """Ctrl-C, and wait for the end; returns the exit code."""
        os.killpg(self.process.pid, signal.SIGINT)
        return self.process.wait(timeout)

    def left(self) -> list[int]:
        """Processes of this terminal that are still there."""
        found = []
        for entry in os.scandir("/proc") if Path("/proc/self").exists() else ():
            if entry.name.isdigit():
                try:
                    fields = Path(entry.path, "stat").read_text().rpartition(")")[2].split()
                except OSError:
                    continue
                if int(fields[3]) == self.process.pid and fields[0] != "Z":
                    found.append(int(entry.name))
        return found
