"""The results as text: one block for each workload, then one line for each. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from benchmarks.peers.registry import OURS
from benchmarks.peers.runner import fastest
from benchmarks.peers.statistics import shown, times_better
from benchmarks.peers.workloads import WORKLOADS

if TYPE_CHECKING:
    from collections.abc import Sequence

HEAD = ("", "median", "min - max", "ours is", "reads", "commands", "workers", "server", "client", "PSS", "RSS")
LEGEND = """\
"ours is": how many times as good as this peer (2.0x: twice as fast). reads: how often the server read from a connection
for one task, a pipeline counting once, which is a round trip. commands: run by the server for one task, those inside
functions and scripts included. workers, server, client: CPU time for one task in us. PSS: MiB of all worker processes
after the run, shared pages divided among them. RSS: peak MiB of the server,
including what it has kept from earlier peers. (n): got n, not all."""


def block(about: str, name: str, results: dict[str, dict[str, Any]], better: str) -> str:
    """One workload, all peers, the best first."""
    ours = results.get(OURS, {}).get("median")
    measured = {peer: row for peer, row in results.items() if "median" in row}
    order = sorted(measured, key=lambda peer: measured[peer]["median"], reverse=better == "high")
    rows = [HEAD]
    for peer in order:
        row = measured[peer]
        label = f"{peer} ({row['size']:,})" if row["scaled"] else peer
        factor = "" if ours is None or peer == OURS else f"{shown(times_better(ours, row['median'], better))}x"
        cpu = row["cpu_us_per_task"]
        rows.append(
            (
                label,
                f"{shown(row['median'])} {row['unit']}",
                f"{shown(row['low'])} - {shown(row['high'])}",
                factor,
                *(shown(row[each]) for each in ("reads_per_task", "commands_per_task")),
                *(shown(cpu[each]) for each in ("workers", "server", "client")),
                *(shown(row[each]) for each in ("workers_pss_mib", "server_rss_mib")),
            )
        )
    lines = [f"{name}: {about}", *_aligned(rows)]
    lines += [f"  {peer}: {row['note']}" for peer, row in results.items() if "note" in row]
    return "\n".join(lines)


def summary(results: dict[str, dict[str, dict[str, Any]]]) -> str:
    """One line for each workload: ours, the fastest peer, the factor, and what is wanted."""
    rows = [("workload", "ours", "fastest peer", "", "ours is", "wanted")]
    for workload in WORKLOADS:
        found = results.get(workload.name, {})
        if "median" not in found.get(OURS, {}):
            continue
        ours = found[OURS]["median"]
        best = fastest(found, workload.better, [name for name in found if name != OURS])
        theirs = found[best]["median"] if best else None
        rows.append(
            (
                workload.name,
                f"{shown(ours)} {workload.unit}",
                best or "",
                "" if theirs is None else shown(theirs),
                "" if theirs is None else f"{shown(times_better(ours, theirs, workload.better))}x",
                workload.target,
            )
        )
    return "\n".join(_aligned(rows))


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(
            text.ljust(width) if column == 0 else text.rjust(width)
            for column, (text, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
