"""Graphs as pictures: tasks in layers from left to right, lines between them; text here, coordinates for other faces.

Layers by longest path, orders by barycentre, one row a task. Lines that meet lead to the same task; a line that crosses
another is interrupted by it.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

#: tasks beyond which nobody follows lines any more
MOST_DRAWN = 60
#: passes of ordering; more change nothing in graphs of a size that is drawn
_SWEEPS = 8
_UP, _DOWN, _LEFT, _RIGHT = 1, 2, 4, 8
_BOXES = " ╵╷│╴┘┐┤╶└┌├─┴┬┼"
_ASCII = "".join(
    "-" if shape in (4, 8, 12) else "|" if shape in (1, 2, 3) else "+" if shape else " " for shape in range(16)
)


@dataclass(frozen=True, slots=True)
class Spot:
    """A place in the layout: of a task, or where a long line passes through a layer."""

    node: int | None  #: None where a line passes
    layer: int
    row: int


@dataclass(frozen=True, slots=True)
class Layout:
    """Where everything is; layers count from the left, rows from the top."""

    spots: tuple[Spot, ...]  #: tasks first, in the order they were given
    edges: tuple[tuple[int, int], ...]  #: between spots of neighbouring layers
    layers: int
    rows: int


@dataclass(frozen=True, slots=True)
class Piece:
    """Part of a line of a drawing."""

    text: str
    node: int | None = None  #: the task this is the label of


Line = tuple[Piece, ...]


def layers_of(parents: Sequence[Sequence[int]]) -> list[int]:
    """The layer of each task: after the last of its parents; a task without parents stands next to its first child."""
    layers = [0] * len(parents)
    for node, above in enumerate(parents):  # in topological order
        layers[node] = 1 + max((layers[each] for each in above), default=-1)
    children = _children(parents)
    for node, above in enumerate(parents):
        if not above and children[node]:
            layers[node] = min(layers[child] for child in children[node]) - 1
    return layers


def layout(parents: Sequence[Sequence[int]]) -> Layout:
    """Places tasks; `parents` are indexes, tasks in topological order."""
    layers = layers_of(parents)
    where = list(layers)  # of every spot
    owner: list[int | None] = list(range(len(parents)))
    edges: list[tuple[int, int]] = []
    for node, above in enumerate(parents):
        for parent in above:
            last = parent
            for layer in range(layers[parent] + 1, layers[node]):
                where.append(layer)
                owner.append(None)
                edges.append((last, len(where) - 1))
                last = len(where) - 1
            edges.append((last, node))
    count = max(where, default=-1) + 1
    order = _ordered([[spot for spot in range(len(where)) if where[spot] == layer] for layer in range(count)], edges)
    rows = _rows(order, edges)
    used = {row: place for place, row in enumerate(sorted(set(rows.values())))}
    spots = tuple(Spot(owner[spot], where[spot], used[rows[spot]]) for spot in range(len(where)))
    return Layout(spots, tuple(edges), count, len(used))


def draw(
    parents: Sequence[Sequence[int]], labels: Sequence[str], width: int, *, plain: bool = False
) -> list[Line] | None:
    """The graph in text; None when it is too large or wider than `width`."""
    if len(labels) > MOST_DRAWN:
        return None
    plan = layout(parents)
    widths = [
        max(
            (width_of(labels[spot.node]) for spot in plan.spots if spot.layer == layer and spot.node is not None),
            default=1,
        )
        for layer in range(plan.layers)
    ]
    canvas = _Canvas(plan, widths, [width_of(label) for label in labels])
    if canvas.width > width:
        return None
    return canvas.lines(labels, plain=plain)


def listed(parents: Sequence[Sequence[int]], names: Sequence[str], states: Sequence[str], width: int) -> list[str]:
    """The graph as a list by layers, with counts by state; for what is too large to be drawn."""
    layers, lines = layers_of(parents), []
    for layer in range(max(layers, default=-1) + 1):
        inside = [node for node in range(len(names)) if layers[node] == layer]
        known = Counter(states[node] for node in inside if states[node])
        counts = ", ".join(f"{number} {state}" for state, number in known.items())
        lines.append(f"layer {layer + 1}: {len(inside)} task{'s' if len(inside) > 1 else ''}{counts and f', {counts}'}")
        for state in dict.fromkeys(states[node] for node in inside):
            group = [names[node] for node in inside if states[node] == state]
            lines.append(_some(f"  {state}: " if state else "  ", group, width))
    return lines


def width_of(text: str) -> int:
    """The cells a text takes on a terminal."""
    return sum(
        0 if unicodedata.combining(letter) else 2 if unicodedata.east_asian_width(letter) in "WF" else 1
        for letter in text
    )


def dot(name: str, parents: Sequence[Sequence[int]], names: Sequence[str], states: Sequence[str]) -> list[str]:
    """For Graphviz."""
    lines = [
        f"digraph {_quoted(name)} {{",
        "  rankdir=LR;",
        '  node [shape=box, style="rounded,filled", fillcolor=white];',
    ]
    for task, state in zip(names, states, strict=True):
        colour = f", fillcolor={_quoted(_FILLS.get(state, '#ffffff'))}" if state else ""
        label = f"{task}\n{state}" if state else task
        lines.append(f"  {_quoted(task)} [label={_quoted(label)}{colour}];")
    lines += [
        f"  {_quoted(names[parent])} -> {_quoted(names[node])};"
        for node, above in enumerate(parents)
        for parent in above
    ]
    return [*lines, "}"]


def mermaid(parents: Sequence[Sequence[int]], names: Sequence[str], states: Sequence[str]) -> list[str]:
    """For Mermaid, as many wikis and forges show it."""
    lines = ["graph LR"]
    for node, (task, state) in enumerate(zip(names, states, strict=True)):
        text = "".join(f"#{ord(letter)};" if letter in '"#;<>&' else letter for letter in task)
        lines.append(f'  t{node}["{text}{f"<br/>{state}" if state else ""}"]{f":::{state}" if state else ""}')
    lines += [f"  t{parent} --> t{node}" for node, above in enumerate(parents) for parent in above]
    return [*lines, *(f"  classDef {state} fill:{_FILLS[state]}" for state in dict.fromkeys(states) if state in _FILLS)]


_FILLS = {
    "success": "#c8e6c9",
    "running": "#b3e5fc",
    "queued": "#bbdefb",
    "retrying": "#fff3bf",
    "waiting": "#eeeeee",
    "failed": "#ffcdd2",
    "timed_out": "#ffcdd2",
    "quarantined": "#ffcdd2",
    "cancelled": "#e1bee7",
    "blocked": "#f5d5d8",
    "skipped": "#e0e0e0",
}


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


def _some(head: str, names: Sequence[str], width: int) -> str:
    """As many names as fit on a line, and how many more there are."""
    for shown in range(len(names), 0, -1):
        tail = f", and {len(names) - shown} more" if shown < len(names) else ""
        line = f"{head}{', '.join(names[:shown])}{tail}"
        if width_of(line) <= width or shown == 1:
            return line
    return head


def _children(parents: Sequence[Sequence[int]]) -> list[list[int]]:
    children: list[list[int]] = [[] for _ in parents]
    for node, above in enumerate(parents):
        for parent in above:
            children[parent].append(node)
    return children


def _ordered(order: list[list[int]], edges: Sequence[tuple[int, int]]) -> list[list[int]]:
    """Orders within layers with few crossings: the best that some sweeps of barycentres find."""
    before: dict[int, list[int]] = {}
    after: dict[int, list[int]] = {}
    for start, end in edges:
        before.setdefault(end, []).append(start)
        after.setdefault(start, []).append(end)
    best, fewest = [list(layer) for layer in order], _crossings(order, after)
    for sweep in range(_SWEEPS):
        if fewest == 0:
            break
        forwards = sweep % 2 == 0
        for layer in range(1, len(order)) if forwards else range(len(order) - 2, -1, -1):
            near = order[layer - 1] if forwards else order[layer + 1]
            places = {spot: place for place, spot in enumerate(near)}
            links = before if forwards else after
            own = {spot: place for place, spot in enumerate(order[layer])}
            weights = {spot: _mean([places[each] for each in links.get(spot, [])], own[spot]) for spot in order[layer]}
            order[layer] = sorted(order[layer], key=lambda spot: (weights[spot], own[spot]))
        if (crossings := _crossings(order, after)) < fewest:
            best, fewest = [list(layer) for layer in order], crossings
    return best


def _crossings(order: Sequence[Sequence[int]], after: dict[int, list[int]]) -> int:
    total = 0
    for left, right in pairwise(order):
        places = {spot: place for place, spot in enumerate(right)}
        ends = [place for spot in left for place in sorted(places[each] for each in after.get(spot, []))]
        total += sum(one > other for index, one in enumerate(ends) for other in ends[index + 1 :])
    return total


def _mean(values: Sequence[int], otherwise: float) -> float:
    return sum(values) / len(values) if values else otherwise


def _rows(order: Sequence[Sequence[int]], edges: Sequence[tuple[int, int]]) -> dict[int, int]:
    """A row for every spot. No spot stands on the row of a line that leads past it, so that lines never share a row."""
    parents: dict[int, list[int]] = {}
    leading = {start for start, _ in edges}
    for start, end in edges:
        parents.setdefault(end, []).append(start)
    rows: dict[int, int] = {}
    for number, layer in enumerate(order):
        taken = {rows[spot]: spot for spot in order[number - 1] if spot in leading} if number else {}
        last = -1
        for place, spot in enumerate(layer):
            mine = parents.get(spot, [])
            wanted = round(_mean([rows[each] for each in mine], place) - 0.01)
            row = max(last + 1, wanted)
            # its own parent's row is the best: the line is straight then
            while row in taken and taken[row] not in mine:
                row += 1
            rows[spot] = last = row
    return rows


@dataclass(frozen=True, slots=True)
class _Net:
    """Spots of one layer that lead to the same ones of the next: they share a vertical line."""

    sources: tuple[int, ...]  #: rows
    targets: tuple[int, ...]  #: rows

    @property
    def top(self) -> int:
        return min(self.sources + self.targets)

    @property
    def bottom(self) -> int:
        return max(self.sources + self.targets)

    @property
    def turns(self) -> bool:
        return self.top != self.bottom


class _Canvas:
    """Cells with lines in them. Between two layers is a channel with a vertical track for each net that turns."""

    def __init__(self, plan: Layout, widths: Sequence[int], labels: Sequence[int]) -> None:
        self._plan = plan
        self._cells: dict[tuple[int, int], int] = {}
        nets = [self._nets(layer) for layer in range(plan.layers - 1)]
        tracks = [_tracks(each) for each in nets]
        self._lefts, left = [], 0
        for layer, width in enumerate(widths):
            self._lefts.append(left)
            left += width + (2 * (max(tracks[layer].values(), default=-1) + 1) + 4 if layer < len(nets) else 0)
        self.width = left
        for layer, each in enumerate(nets):
            self._route(layer, each, tracks[layer], self._lefts[layer] + widths[layer], labels)

    def _nets(self, layer: int) -> list[_Net]:
        spots, leads = self._plan.spots, dict[int, set[int]]()
        for start, end in self._plan.edges:
            if spots[start].layer == layer:
                leads.setdefault(spots[start].row, set()).add(spots[end].row)
        together: dict[tuple[int, ...], list[int]] = {}
        for row, rows in sorted(leads.items()):
            together.setdefault(tuple(sorted(rows)), []).append(row)
        return [_Net(tuple(sources), targets) for targets, sources in together.items()]

    def _route(
        self, layer: int, nets: Sequence[_Net], tracks: dict[_Net, int], edge: int, labels: Sequence[int]
    ) -> None:
        begins = {
            spot.row: self._lefts[layer] + (labels[spot.node] + 1 if spot.node is not None else 0)
            for spot in self._plan.spots
            if spot.layer == layer
        }
        passing = {spot.row for spot in self._plan.spots if spot.layer == layer + 1 and spot.node is None}
        for net in nets:
            x = edge + 2 + 2 * tracks.get(net, 0)
            for row in net.sources:
                self._horizontal(row, begins[row], x)
            for row in net.targets:
                self._horizontal(row, x, self._lefts[layer + 1] - (1 if row in passing else 2))
        for net, track in tracks.items():
            # lines that come from the left lead to the same target: of nets that turn before this one, or after it
            joined = {row for other in nets if tracks.get(other, -1) < track for row in other.targets}
            joined |= {row for other in nets if tracks.get(other, -1) > track for row in other.sources}
            self._vertical(edge + 2 + 2 * track, net, joined)

    def _horizontal(self, row: int, start: int, end: int) -> None:
        for x in range(start, end + 1):
            # at its ends it joins a label, or the vertical line that is drawn there
            self._cells[row, x] = self._cells.get((row, x), 0) | _LEFT | _RIGHT

    def _vertical(self, x: int, net: _Net, joined: set[int]) -> None:
        for row in range(net.top, net.bottom + 1):
            shape = (_UP if row > net.top else 0) | (_DOWN if row < net.bottom else 0)
            if row in net.targets:
                shape |= _RIGHT | (_LEFT if row in joined else 0)
            if row in net.sources:
                shape |= _LEFT
            self._cells[row, x] = shape  # where another line comes by, that one is interrupted

    def lines(self, labels: Sequence[str], *, plain: bool) -> list[Line]:
        """The drawing, row by row."""
        glyphs = _ASCII if plain else _BOXES
        here = {(spot.row, self._lefts[spot.layer]): spot.node for spot in self._plan.spots if spot.node is not None}
        drawn = []
        for row in range(self._plan.rows):
            pieces: list[Piece] = []
            x, run = 0, ""
            while x < self.width:
                node = here.get((row, x))
                if node is None:
                    run += glyphs[self._cells.get((row, x), 0)]
                    x += 1
                else:
                    pieces += [Piece(run), Piece(labels[node], node)]
                    run, x = "", x + width_of(labels[node])
            pieces.append(Piece(run.rstrip()))
            drawn.append(tuple(piece for piece in pieces if piece.text))
        return drawn


def _tracks(nets: Sequence[_Net]) -> dict[_Net, int]:
    """Which vertical track each net has that turns, from the left."""
    turning = [net for net in nets if net.turns]
    # of those that lead down the lowest turn first, of those that lead up the highest: so they do not cross
    down = sorted((net for net in turning if net.targets[-1] > net.sources[0]), key=lambda net: -net.sources[0])
    up = sorted((net for net in turning if net not in down), key=lambda net: net.sources[0])
    tracks: dict[_Net, int] = {}
    for net in (*down, *up):
        beside = [track for other, track in tracks.items() if net.top <= other.bottom and other.top <= net.bottom]
        tracks[net] = max(beside, default=-1) + 1
    return tracks
