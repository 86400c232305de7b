"""What the numbers were measured on."""

from __future__ import annotations

import os
import platform
from pathlib import Path

#: load average above which somebody else is at work
QUIET = 0.7


def describe() -> dict[str, object]:
    """Processor, memory, system and how busy it was."""
    models = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    total = int(Path("/proc/meminfo").read_text().split()[1]) / (1 << 20)
    return {
        "processor": models[0].partition(":")[2].strip() if models else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(total, 1),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "load_before": round(os.getloadavg()[0], 2),
    }


def busy(machine: dict[str, object]) -> bool:
    """Whether others were at work when the measurement began."""
    load = machine["load_before"]
    return isinstance(load, float) and load > QUIET
