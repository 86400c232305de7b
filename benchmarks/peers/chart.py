"""Charts as SVG, readable on light and dark pages, without a library. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

STYLE = """\
text { font: 12px system-ui, -apple-system, "Segoe UI", sans-serif; fill: #1f2933 }
.title { font-weight: 600; font-size: 13px } .small { font-size: 11px; fill: #52606d }
.ours { fill: #0b7285 } .peer { fill: #9aa5b1 } .grid { stroke: #cbd2d9; stroke-width: 1 }
.line { fill: none; stroke-width: 2 } .line.a { stroke: #0b7285 } .line.b { stroke: #c05621 }
.dot.a { fill: #0b7285 } .dot.b { fill: #c05621 } .label.a { fill: #0b7285 } .label.b { fill: #c05621 }
@media (prefers-color-scheme: dark) {
  text { fill: #e4e7eb } .small { fill: #9aa5b1 } .ours { fill: #3bc9db } .peer { fill: #616e7c }
  .grid { stroke: #3e4c59 }
  .line.a { stroke: #3bc9db } .line.b { stroke: #f6ad55 }
  .dot.a, .label.a { fill: #3bc9db } .dot.b, .label.b { fill: #f6ad55 }
}"""


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar: longer is faster."""

    name: str
    speed: float  #: decides the length
    label: str
    ours: bool = False


@dataclass(frozen=True, slots=True)
class Panel:
    """Bars that share a scale."""

    title: str
    bars: Sequence[Bar]


@dataclass(frozen=True, slots=True)
class Series:
    """One line: points on logarithmic axes."""

    name: str
    points: Sequence[tuple[float, float]]
    kind: str = "a"  #: a | b, the colour


ROW, NAME, WIDTH, GAP = 18, 136, 410, 28


def bars(panels: Sequence[Panel], caption: str, columns: int = 2) -> str:
    """Panels of horizontal bars, side by side."""
    parts: list[str] = []
    heights = [24 + ROW * len(panel.bars) + GAP for panel in panels]
    tops = [0] * columns
    for number, (panel, height) in enumerate(zip(panels, heights, strict=True)):
        column = number % columns
        x, y = column * (WIDTH + GAP), tops[column]
        tops[column] += height
        parts.append(_text(x, y + 14, panel.title, "title"))
        longest = max((bar.speed for bar in panel.bars), default=1.0) or 1.0
        for row, bar in enumerate(panel.bars):
            top = y + 24 + row * ROW
            length = max(1.0, (WIDTH - NAME - 110) * bar.speed / longest)
            kind = "ours" if bar.ours else "peer"
            parts += [
                _text(x + NAME - 8, top + 12, bar.name, anchor="end"),
                f'<rect class="{kind}" x="{x + NAME}" y="{top + 2}" width="{length:.1f}" height="13" rx="2"/>',
                _text(x + NAME + length + 6, top + 12, bar.label, "small"),
            ]
    width, height = columns * (WIDTH + GAP) - GAP, max(tops) + 8
    parts.append(_text(0, height, caption, "small"))
    return _svg(width, height + 10, parts)


def lines(title: str, x_name: str, y_name: str, series: Sequence[Series], *, from_zero: bool = False) -> str:
    """Lines on logarithmic axes (powers of ten, or of two for small ranges of x).

    Args:
        from_zero: a plain y axis that begins at 0 instead.
    """
    width, height = 420, 260
    left, right, top, bottom = 56, 84, 44, 40
    xs = [x for each in series for x, _ in each.points]
    ys = [y for each in series for _, y in each.points]
    x_ticks = _powers(min(xs), max(xs), 10 if max(xs) / min(xs) > 100 else 2)
    y_ticks = _steps(max(ys)) if from_zero else _powers(min(ys), max(ys), 10)
    inner_width, inner_height = width - left - right, height - top - bottom

    def at_x(x: float) -> float:
        return left + inner_width * _share(x, x_ticks[0], x_ticks[-1])

    def at_y(y: float) -> float:
        share = y / y_ticks[-1] if from_zero else _share(y, y_ticks[0], y_ticks[-1])
        return top + inner_height * (1 - share)

    parts = [
        _text(0, 14, title, "title"),
        _text(0, 32, y_name, "small"),
        _text(left + inner_width / 2, height - 6, x_name, "small", "middle"),
    ]
    parts += [_text(at_x(x), height - bottom + 16, _brief(x), "small", "middle") for x in x_ticks]
    for y in y_ticks:
        parts.append(
            f'<line class="grid" x1="{left}" x2="{left + inner_width}" y1="{at_y(y):.1f}" y2="{at_y(y):.1f}"/>'
        )
        parts.append(_text(left - 6, at_y(y) + 4, _brief(y), "small", "end"))
    for each in series:
        path = " ".join(f"{at_x(x):.1f},{at_y(y):.1f}" for x, y in each.points)
        parts.append(f'<polyline class="line {each.kind}" points="{path}"/>')
        parts += [
            f'<circle class="dot {each.kind}" cx="{at_x(x):.1f}" cy="{at_y(y):.1f}" r="3"/>' for x, y in each.points
        ]
        last_x, last_y = each.points[-1]
        parts.append(_text(at_x(last_x) + 8, at_y(last_y) + 4, each.name, f"label {each.kind}"))
    return _svg(width, height, parts)


def beside(charts: Sequence[str], columns: int = 2) -> str:
    """Several charts of one size in one file, in rows."""
    parts, width, height = [], 0, 0
    for number, drawn in enumerate(charts):
        head, _, body = drawn.partition("</style>")
        across, down = (int(size) for size in head.split('viewBox="0 0 ')[1].split('"')[0].split())
        x, y = number % columns * (across + GAP), number // columns * (down + GAP)
        parts.append(f'<g transform="translate({x} {y})">{body.removesuffix("</svg>")}</g>')
        width, height = max(width, x + across), max(height, y + down)
    return _svg(width, height, parts)


def _powers(low: float, high: float, base: int) -> list[float]:
    first, last = math.floor(math.log(low, base) + 1e-9), math.ceil(math.log(high, base) - 1e-9)
    return [float(base) ** power for power in range(first, max(last, first + 1) + 1)]


def _steps(high: float) -> list[float]:
    """From 0 in four to six even steps to at least `high`."""
    rough = (high or 1.0) / 4
    size = 10.0 ** math.floor(math.log10(rough))
    step = next(size * each for each in (1, 2, 2.5, 5, 10) if size * each >= rough)
    return [step * number for number in range(math.ceil((high or 1.0) / step - 1e-9) + 1)]


def _share(value: float, low: float, high: float) -> float:
    return math.log(value / low) / math.log(high / low)


def _brief(value: float) -> str:
    for unit, size in (("M", 1e6), ("k", 1e3)):
        if value >= size:
            return f"{value / size:g}{unit}"
    return f"{value:g}"


def _text(x: float, y: float, text: str, kind: str = "", anchor: str = "start") -> str:
    style = f' class="{kind}"' if kind else ""
    return f'<text x="{x:g}" y="{y:g}"{style} text-anchor="{anchor}">{escape(text)}</text>'


def _svg(width: float, height: float, parts: Sequence[str]) -> str:
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" width="{width:g}">'
    return f"{head}<style>{STYLE}</style>" + "\n".join(parts) + "</svg>"
