"""Puts the table of what was played into docs/reliability.md: `python -m tests.rig.report LINES [DOCUMENT]`."""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

BEGIN, END = "<!-- faults: begin -->", "<!-- faults: end -->"
DOCUMENT = Path(__file__).parents[2] / "docs" / "reliability.md"


def table(lines: list[dict[str, Any]]) -> str:
    """One row for each test of a fault, over all its seeds."""
    grouped: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for line in lines:
        grouped[line["fault"], line["test"]].append(line)
    rows = [
        "| Fault | What happens | Seeds | Injections | Invariants I1-I12 | Longest recovery |",
        "|---|---|---|---|---|---|",
    ]
    for (fault, test), played in sorted(grouped.items()):
        seeds = ", ".join(sorted({str(each["seed"]) for each in played}))
        slowest: dict[str, float] = {}
        for each in played:
            for what, seconds in each["recoveries"].items():
                slowest[what] = max(seconds, slowest.get(what, 0.0))
        held = "hold" if all(each["held"] for each in played) else "**broken**"
        recovery = "; ".join(f"{what}: {seconds:g} s" for what, seconds in slowest.items())
        rows.append(f"| {fault} | {test} | {seeds} | {sum(each['times'] for each in played)} | {held} | {recovery} |")
    return "\n".join(rows)


def caption(lines: list[dict[str, Any]]) -> str:
    """What was played, in a sentence."""
    seeds = sorted({each["seed"] for each in lines})
    full = all(each.get("full") for each in lines)
    soaks = sorted((each["minutes"] for each in lines if each.get("minutes")), reverse=True)
    played = f"{len({(each['fault'], each['test']) for each in lines})} tests of faults"
    size = "in full size" if full else "in the size of `make test`"
    which = f"seeds {', '.join(map(str, seeds))}" if len(seeds) > 1 else f"one seed ({seeds[0]})"
    soaked = f", soaks of {' and '.join(f'{each:g}' for each in soaks)} min" if soaks else ""
    hours = sum(each["seconds"] for each in lines) / 3600
    broken = sum(not each["held"] for each in lines)
    verdict = "all held" if not broken else f"**{broken} did not hold**"
    return f"{played}, {which}, {size}{soaked}; {hours:.1f} hours; {verdict}."


def main(arguments: list[str]) -> None:
    source = Path(arguments[0])
    document = Path(arguments[1]) if len(arguments) > 1 else DOCUMENT
    lines = [json.loads(line) for line in source.read_text().splitlines()]
    text = document.read_text()
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    document.write_text(f"{before}{BEGIN}\n{caption(lines)}\n\n{table(lines)}\n{END}{after}")


if __name__ == "__main__":
    main(sys.argv[1:])
