"""Draws the report: two small SVG charts and the page around them. Nothing but string formatting."""

from html import escape

MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
COLORS = ["#c2410c", "#0f766e", "#4338ca", "#a16207"]
WIDTH, HEIGHT, LEFT, TOP, BOTTOM = 640, 280, 44, 40, 28


def bands(title, series):
    """For each name a band between the low and the high of twelve (low, high) pairs."""
    low = min(pair[0] for pairs in series.values() for pair in pairs)
    high = max(pair[1] for pairs in series.values() for pair in pairs)
    scale = Scale(min(low, 0), high)
    shapes = []
    for (name, pairs), color in zip(series.items(), COLORS, strict=False):
        upper = [f"{scale.x(month)},{scale.y(pair[1])}" for month, pair in enumerate(pairs)]
        lower = [f"{scale.x(month)},{scale.y(pair[0])}" for month, pair in enumerate(pairs)]
        shapes.append(
            f'<polygon points="{" ".join(upper + lower[::-1])}" fill="{color}" fill-opacity="0.25" '
            f'stroke="{color}" stroke-width="1.5"><title>{escape(name)}</title></polygon>'
        )
    return chart(title, scale, series, shapes)


def bars(title, series):
    """For each name twelve bars, side by side with those of the other names."""
    scale = Scale(0, max(max(values) for values in series.values()))
    width = 32 / len(series)
    shapes = []
    for number, (values, color) in enumerate(zip(series.values(), COLORS, strict=False)):
        for month, value in enumerate(values):
            x = scale.x(month) - 16 + number * width
            y = scale.y(value)
            shapes.append(
                f'<rect x="{x:.1f}" y="{y}" width="{width - 1:.1f}" height="{scale.y(0) - y:.1f}" fill="{color}" '
                f'fill-opacity="0.8"><title>{MONTHS[month]}: {value:.0f}</title></rect>'
            )
    return chart(title, scale, series, shapes)


class Scale:
    """From months and values to pixels, with round values for the grid."""

    def __init__(self, low, high):
        step = next(step for step in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000) if (high - low) / step <= 6)
        self.low, self.high = low // step * step, -(-high // step) * step
        self.grid = [self.low + step * line for line in range(int((self.high - self.low) / step) + 1)]

    def x(self, month):
        return round(LEFT + (month + 0.5) * (WIDTH - LEFT) / 12, 1)

    def y(self, value):
        return round(TOP + (self.high - value) / (self.high - self.low) * (HEIGHT - TOP - BOTTOM), 1)


def chart(title, scale, series, shapes):
    """A frame with title, legend, grid and months around some shapes."""
    lines = [
        f'<line x1="{LEFT}" x2="{WIDTH}" y1="{scale.y(value)}" y2="{scale.y(value)}" stroke="#d4d4d4"/>'
        f'<text x="{LEFT - 6}" y="{scale.y(value) + 4}" text-anchor="end">{value:g}</text>'
        for value in scale.grid
    ]
    months = [
        f'<text x="{scale.x(month)}" y="{HEIGHT - 8}" text-anchor="middle">{name}</text>'
        for month, name in enumerate(MONTHS)
    ]
    legend = [
        f'<text x="{WIDTH}" y="{14 + 15 * line}" text-anchor="end" fill="{color}">{escape(name)}</text>'
        for line, (name, color) in enumerate(zip(series, COLORS, strict=False))
    ]
    body = "\n".join([*lines, *shapes, *months, *legend])
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
        f'font-family="sans-serif" font-size="11" role="img" aria-label="{escape(title)}">\n'
        f'<rect width="100%" height="100%" fill="white"/>\n'
        f'<text x="{LEFT}" y="18" font-size="14">{escape(title)}</text>\n{body}\n</svg>\n'
    )


def html(sky, rain, *, days, rejected):
    """The page."""
    kinds = sorted({kind for counts in sky.values() for kind in counts})
    head = "".join(f"<th>{escape(kind)}</th>" for kind in kinds)
    rows = "".join(
        f"<tr><th>{escape(city)}</th>"
        + "".join(f"<td>{counts.get(kind, 0) / sum(counts.values()):.0%}</td>" for kind in kinds)
        + f"<td>{sum(rain[city]):.0f} mm</td></tr>"
        for city, counts in sky.items()
    )
    notes = "".join(f"<li>{escape(each['reason'])}</li>" for each in rejected)
    return f"""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>Weather report</title>
<style>
  body {{ font-family: sans-serif; max-width: 42rem; margin: 2rem auto; line-height: 1.5 }}
  table {{ border-collapse: collapse }} th, td {{ padding: 0.2rem 0.8rem; text-align: right }}
  img {{ max-width: 100% }}
</style>
<h1>Weather report</h1>
<p>{days:,} days, {len(rejected)} rows rejected. Data: NOAA Climate Data Online.</p>
<img src="temperature.svg" alt="Mean low and high of each month, by city">
<img src="rain.svg" alt="Rain in a mean month, by city">
<h2>The sky</h2>
<table><tr><th></th>{head}<th>rain a year</th></tr>{rows}</table>
{f"<h2>Rejected</h2><ul>{notes}</ul>" if notes else ""}
</html>
"""
