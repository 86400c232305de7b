"""What processes cost, read from /proc: CPU seconds of whole families, and their memory."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_TICKS = os.sysconf("SC_CLK_TCK")
_PROC = Path("/proc")


def _stat(pid: int) -> list[str] | None:
    with contextlib.suppress(OSError):
        return (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    return None


def family(roots: Iterable[int]) -> list[int]:
    """These processes and all that descend from them."""
    children: dict[int, list[int]] = {}
    for entry in os.listdir(_PROC):  # noqa: PTH208 - thousands of entries, names are enough
        if entry.isdigit() and (fields := _stat(int(entry))) is not None:
            children.setdefault(int(fields[1]), []).append(int(entry))
    found: list[int] = []
    waiting = [pid for pid in roots if _stat(pid) is not None]
    while waiting:
        pid = waiting.pop()
        found.append(pid)
        waiting += children.get(pid, [])
    return found


def cpu_seconds(pids: Iterable[int]) -> float:
    """CPU time used by these processes, and by children of theirs that have ended."""
    total = 0
    for pid in pids:
        if (fields := _stat(pid)) is not None:
            total += sum(map(int, fields[11:15]))  # utime, stime, cutime, cstime
    return total / _TICKS


def pss(pids: Iterable[int]) -> int:
    """Bytes these processes hold in memory, what they share divided among those who share it."""
    return sum(_field(pid, "smaps_rollup", "Pss:") for pid in pids)


def peak_rss(pid: int) -> int:
    """The largest resident size of one process since `forget_peak`, in bytes."""
    return _field(pid, "status", "VmHWM:")


def forget_peak(pid: int) -> None:
    """Begin anew for `peak_rss`."""
    with contextlib.suppress(OSError):
        (_PROC / str(pid) / "clear_refs").write_text("5")


def _field(pid: int, file: str, name: str) -> int:
    with contextlib.suppress(OSError):
        for line in (_PROC / str(pid) / file).read_text().splitlines():
            if line.startswith(name):
                return int(line.split()[1]) * 1024
    return 0
