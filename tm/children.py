"""Forking service processes from a light main process: signals, clean ends, nothing left behind."""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator
    from types import FrameType

_PR_SET_PDEATHSIG, _PR_SET_NAME, _PR_SET_CHILD_SUBREAPER = 1, 15, 36


def fork(body: Callable[[], int | None], name: str) -> int:
    """Run `body` in a child process and return its pid; its return value is the exit code.

    The child dies with this process (Linux), has default signal handlers except that it ignores Ctrl-C, which the
    terminal sends to everybody: this process decides what it means.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    parent = os.getpid()
    if pid := os.fork():
        return pid
    code = 1
    try:
        signal.set_wakeup_fd(-1)
        for number in _WATCHED:
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        die_with(parent)
        _prctl(_PR_SET_NAME, name[:15].encode())
        code = body() or 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except KeyboardInterrupt:
        code = 130
    except BaseException:  # noqa: BLE001 - whatever it was, this copy of the user's script must not go on
        sys.excepthook(*sys.exc_info())
    finally:
        _flush_and_exit(code)
    raise AssertionError("unreachable")


def _flush_and_exit(code: int) -> None:
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except (OSError, ValueError):
        pass  # the terminal is gone
    finally:
        os._exit(code)


def die_with(parent: int) -> None:
    """Have the kernel end this process when its parent dies (Linux); at once if it is dead already."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before the line above
        os._exit(1)


def adopt_orphans() -> None:
    """Become the parent of descendants whose own parent dies (Linux), so that `end_descendants` finds them."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def _prctl(option: int, value: int | bytes) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def end_descendants(keep: frozenset[int] = frozenset(), timeout: float = 5.0) -> None:
    """SIGKILL every descendant of this process but `keep`, and wait until they are gone.

    With `adopt_orphans`, what a killed service leaves behind turns up here as a child of ours and goes the same way.
    """
    until = time.monotonic() + timeout
    while (left := children() - keep) and time.monotonic() < until:
        for pid in left:
            kill(pid, signal.SIGKILL)
        for pid in left:
            _reap(pid)


def children() -> frozenset[int]:
    """Pids of the direct children of this process; none where there is no /proc."""
    mine = os.getpid()
    return frozenset(pid for pid, parent in _everybody() if parent == mine)


def descendants(pid: int) -> list[int]:
    """Pids of all that a process has forked, directly or not; none where there is no /proc."""
    below: dict[int, list[int]] = {}
    for each, parent in _everybody():
        below.setdefault(parent, []).append(each)
    found, left = [], below.get(pid, [])[:]
    while left:
        found.append(each := left.pop())
        left += below.get(each, ())
    return found


def reap_orphans(known: Collection[int]) -> None:
    """Collect ended descendants that came to us with `adopt_orphans` and that nobody waits for by pid."""
    if sys.platform != "linux":
        return
    while True:
        try:
            ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return
        if ended is None or ended.si_pid in known:
            return
        _reap(ended.si_pid)


def _everybody() -> Iterator[tuple[int, int]]:
    for entry in os.scandir("/proc") if Path("/proc/self").is_dir() else ():
        if entry.name.isdigit():
            try:
                # the name in parentheses may hold anything; state and parent follow its last one
                yield int(entry.name), int(Path(entry.path, "stat").read_text().rpartition(")")[2].split()[1])
            except (OSError, ValueError, IndexError):
                continue  # ended meanwhile


def _reap(pid: int) -> None:
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, 0)


def kill(pid: int, number: int) -> None:
    """Send a signal; a process that is gone already is fine."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def exit_code(pid: int) -> int | None:
    """How child `pid` ended (negative: by that signal), or None while it runs."""
    try:
        ended, status = os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return 1  # somebody else has reaped it
    return os.waitstatus_to_exitcode(status) if ended else None


def describe_exit(code: int) -> str:
    """An exit code in words."""
    if code < 0:
        return f"killed by {signal.Signals(-code).name}"
    return f"exit code {code}"


_WATCHED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD, signal.SIGUSR1)


class Signals:
    """Signals as a stream to wait on, in order, without handlers that interrupt anything.

    Usable in the main thread only. Handlers and wake-up descriptor are put back on exit.
    """

    def __enter__(self) -> Self:
        self._reader, writer = os.pipe()
        self._writer = writer
        os.set_blocking(self._reader, False)
        os.set_blocking(writer, False)
        self._before = {number: signal.signal(number, _noted) for number in _WATCHED}
        self._wakeup_before = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        return self

    def __exit__(self, *_: object) -> None:
        signal.set_wakeup_fd(self._wakeup_before)
        for number, handler in self._before.items():
            signal.signal(number, handler)
        os.close(self._reader)
        os.close(self._writer)

    def wait(self, timeout: float | None = None) -> Iterator[int]:
        """Signal numbers that came in, in order; after `timeout` seconds none."""
        ready, _, _ = select.select([self._reader], [], [], timeout)
        return iter(os.read(self._reader, 512) if ready else b"")


def _noted(number: int, frame: FrameType | None) -> None:
    """Python's own handler must exist for the wake-up descriptor to be written."""
