"""A sign of life on this machine: a locked file in the home directory, while a worker or a process of it lives.

With an embedded server, whoever starts after a hard stop finds the files of those who did not come through, unlocked.
The kernel vouches for it, so what they held is given back at once and no lease has to lapse.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import time
from typing import TYPE_CHECKING

from tm.logs import get_logger

if TYPE_CHECKING:
    from pathlib import Path

    from tm.store.store import Store

log = get_logger("worker")

#: seconds after the death of a worker in which its executors end as well
LAST_BREATH = 0.5


class Presence:
    """The file of this worker, and those beside it.

    Take it before the nursery is forked: executors hold it too, so it is free only when the last of them is gone.

    Args:
        home: of the installation, on a local disk.
    """

    def __init__(self, home: Path) -> None:
        self._folder = home / "workers"
        self._path = self._folder / secrets.token_hex(8)
        self._descriptor = -1
        with contextlib.suppress(OSError):  # a home that takes no files: leases do without us
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
            self._descriptor = os.open(self._path, flags, 0o600)
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def call(self, worker: str) -> None:
        """Say what this worker is called on the server."""
        if self._descriptor >= 0:
            with contextlib.suppress(OSError):
                os.pwrite(self._descriptor, worker.encode(), 0)

    def give_back_of_the_dead(self, store: Store) -> int:
        """Have the server take back what workers held whose file nobody holds; returns how many attempts that were."""
        dead, until = self._dead(), time.monotonic() + LAST_BREATH
        while self._others() > len(dead) and time.monotonic() < until:
            time.sleep(0.02)  # its executors may be about to end
            dead = self._dead()
        names = sorted(filter(None, dead.values()))
        lost = store.lost(names) if names else 0
        for path in dead:
            with contextlib.suppress(OSError):
                path.unlink()
        if lost:
            log.info("attempts of workers that were killed are given back", attempts=lost, workers=", ".join(names))
        return lost

    def leave(self) -> None:
        """This worker ends in good order and holds nothing."""
        if self._descriptor >= 0:
            with contextlib.suppress(OSError):
                self._path.unlink()
            os.close(self._descriptor)
            self._descriptor = -1

    def _others(self) -> int:
        try:
            return len(os.listdir(self._folder)) - 1  # noqa: PTH208 - names are all we need
        except OSError:
            return 0

    def _dead(self) -> dict[Path, str]:
        """The files nobody holds, and the worker each was of."""
        found: dict[Path, str] = {}
        with contextlib.suppress(OSError):
            for path in self._folder.iterdir():
                with contextlib.suppress(OSError):
                    if path != self._path and (name := _name_of_dead(path)) is not None:
                        found[path] = name
        return found


def _name_of_dead(path: Path) -> str | None:
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.pread(descriptor, 1000, 0).decode("utf-8", "replace")
    except BlockingIOError:
        return None
    finally:
        os.close(descriptor)
