"""`python -m benchmarks.peers`: measure, print, and keep the results as JSON and as a chart."""

from __future__ import annotations

import argparse
import json
import sys
import time
from datetime import UTC, datetime
from typing import Any

from benchmarks.peers import chart, environments, machine, registry, table
from benchmarks.peers.registry import OURS, Peer
from benchmarks.peers.runner import Measurement
from benchmarks.peers.statistics import shown
from benchmarks.peers.workloads import WORKLOADS, chosen

RESULTS = environments.ROOT / "benchmarks" / "results"
#: in the chart for the README
PICTURED = ("flat", "chain", "fan", "diamonds", "start p50", "light")
#: seconds that the rounds with an append-only file need
DURABLE_SHARE = 0.2


def main() -> None:
    """See --help."""
    options = _options()
    began = time.monotonic()
    peers = _peers(options.peers)
    workloads = chosen(options.workloads)
    for peer in peers:
        environments.python_of(peer)
    about = machine.describe()
    print(_introduction(about), file=sys.stderr)
    results: dict[str, Any] = {}
    version = ""
    for persistence in options.persistence.split(","):
        share = 1.0 if persistence != "none" or options.persistence == "none" else 1 - DURABLE_SHARE
        measurement = Measurement(
            peers,
            workloads,
            persistence=persistence,
            rounds=1 if options.quick else options.rounds,
            quick=options.quick,
            until=began + 60 * options.minutes * share,
        )
        results[persistence] = measurement.run()
        version = measurement.server_version
        _print(persistence, results[persistence])
    report = {
        "measured": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": about,
        "indicative": bool(options.quick or machine.busy(about)),
        "quick": options.quick,
        "server": version,
        "peers": {
            peer.name: {"title": peer.title, "setting": peer.setting, "versions": environments.versions(peer)}
            for peer in peers
        },
        "workloads": {each.name: {"about": each.about, "unit": each.unit, "better": each.better} for each in workloads},
        "results": results,
    }
    print(f"\n{_introduction(about)}\n{(time.monotonic() - began) / 60:.1f} minutes", file=sys.stderr)
    _keep(report, options.out)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=__doc__)
    parser.add_argument("--peers", metavar="A,B", help=f"of {', '.join(registry.names()[1:])}; ours is always there")
    parser.add_argument("--workloads", metavar="A,B", help=f"of {', '.join(each.name for each in WORKLOADS)}")
    parser.add_argument("--rounds", type=int, default=5, help="in which all take turns (5)")
    parser.add_argument("--persistence", default="none,everysec", help="none, everysec, or both (default)")
    parser.add_argument("--minutes", type=float, default=15, help="after which no further round is begun (15)")
    parser.add_argument("--quick", action="store_true", help="one round of small sizes, to see that everything works")
    parser.add_argument("--out", metavar="NAME", help="name of the files in benchmarks/results (peers; quick: none)")
    return parser.parse_args()


def _peers(names: str | None) -> list[Peer]:
    wanted = [name.strip() for name in names.split(",") if name.strip()] if names else registry.names()
    return [peer for name in dict.fromkeys([OURS, *wanted]) for peer in registry.load(name)]


def _introduction(about: dict[str, object]) -> str:
    text = f"{about['processor']}, {about['cores']} cores, {about['memory_gib']} GiB, Python {about['python']}"
    if machine.busy(about):
        text += f"\nThe machine was busy (load {about['load_before']}): these numbers are only indicative."
    return text


def _print(persistence: str, results: dict[str, Any]) -> None:
    print(f"\n==== persistence: {persistence} ====\n")
    for workload in WORKLOADS:
        if results.get(workload.name):
            print(table.block(workload.about, workload.name, results[workload.name], workload.better), end="\n\n")
    print(table.summary(results))
    print(f"\n{table.LEGEND}")


def _keep(report: dict[str, Any], name: str | None) -> None:
    if report["quick"] and name is None:
        return
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name or 'peers'}.json"
    path.write_text(json.dumps(report, indent=1) + "\n")
    path.with_suffix(".svg").write_text(picture(report))
    print(f"kept in {path.relative_to(environments.ROOT)} and {path.with_suffix('.svg').name}", file=sys.stderr)


def picture(report: dict[str, Any]) -> str:
    """The chart for the README."""
    results = report["results"].get("none") or next(iter(report["results"].values()))
    panels = []
    for workload in WORKLOADS:
        rows = {name: row for name, row in results.get(workload.name, {}).items() if "median" in row}
        if workload.name not in PICTURED or not rows:
            continue
        speeds = {
            name: row["median"] if workload.better == "high" else 1 / max(row["median"], 1e-9)
            for name, row in rows.items()
        }
        panels.append(
            chart.Panel(
                f"{workload.name}, {workload.unit}",
                [
                    chart.Bar(report["peers"][name]["title"], speeds[name], shown(rows[name]["median"]), name == OURS)
                    for name in sorted(speeds, key=lambda name: speeds[name], reverse=True)
                ],
            )
        )
    about = report["machine"]
    caption = (
        f"Longer is faster. {about['processor']}, {about['cores']} cores, {report['server']}, Python {about['python']}."
    )
    if report["indicative"]:
        caption += " Indicative: the machine was busy."
    return chart.bars(panels, caption)


if __name__ == "__main__":
    main()
