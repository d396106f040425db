#!/usr/bin/env python3
"""Draws the dashboards from what a Prometheus said of a cluster under test, for the manual:

    DASHBOARD_DATA=FOLDER cargo test --test it cluster::dashboards::five
    deploy/grafana/draw.py FOLDER docs/images overview sessions delivery upstreams backends node
"""

import json
import sys
from html import escape
from pathlib import Path

BOARDS = Path(__file__).parent
COLUMN, LINE = 50, 30  # a cell of Grafana's grid, in pixels
COLORS = ["#3f7fbf", "#d9822b", "#4a9a4a", "#c23030", "#8e63b5", "#7a6652", "#c2569b", "#6b7280", "#a3a832", "#2fa3a8"]
UNITS = {"s": " s", "percentunit": " %", "reqps": "/s", "cps": "/s", "eps": "/s", "ops": "/s", "bytes": " B"}


def said(value, unit):
    value *= 100 if unit == "percentunit" else 1
    for limit, letter in [(1e9, " G"), (1e6, " M"), (1e3, " k")]:
        if value >= 10 * limit:
            return f"{value / limit:.0f}{letter}{UNITS.get(unit, '').strip()}"
    return f"{value:.3g}{UNITS.get(unit, '')}"


def text(x, y, words, size=11, color="#333", anchor="start", weight="normal"):
    return f'<text x="{x:.0f}" y="{y:.0f}" font-size="{size}" fill="{color}" text-anchor="{anchor}" font-weight="{weight}">{escape(words)}</text>'


def lines_of(data):
    """The lines of a panel: legend and points, without gaps of no number."""
    found = []
    for target in data["series"]:
        for one in target["result"]:
            legend = target["legend"]
            for label, value in one["metric"].items():
                legend = legend.replace("{{" + label + "}}", value)
            points = [(float(at), float(value)) for at, value in one["values"] if value not in ("NaN", "+Inf", "-Inf")]
            if points:
                found.append((legend, points))
    return found


def graph(panel, data, x, y, width, height):
    defaults = panel["fieldConfig"]["defaults"]
    unit, drawn = defaults["unit"], lines_of(data)
    if len(drawn) > 6:
        drawn = [line for line in drawn if any(value for _, value in line[1])] or drawn
    names = "  ".join(name for name, _ in drawn)
    rows = 1 + len(names) * 6 // (width - 20)
    left, top, wide, tall = x + 42, y + 26, width - 54, height - 44 - 13 * rows
    stacked = defaults.get("custom", {}).get("stacking", {}).get("mode") == "normal"
    if stacked:
        below = {}
        for index, (name, points) in enumerate(drawn):
            points = [(at, below.get(at, 0) + value) for at, value in points]
            below |= dict(points)
            drawn[index] = (name, points)
    every = [point for _, points in drawn for point in points] or [(0, 0), (1, 1)]
    begin, end = min(at for at, _ in every), max(at for at, _ in every)
    high = max(value for _, value in every) * 1.1 or 1
    place = lambda at, value: f"{left + (at - begin) / max(end - begin, 1) * wide:.0f},{top + tall - value / high * tall:.1f}"
    parts = [f'<path d="M{left},{top}v{tall}h{wide}" fill="none" stroke="#bbb"/>']
    parts += [text(left - 4, top + 8, said(high, unit), 9, "#777", "end"), text(left - 4, top + tall, "0", 9, "#777", "end")]
    for step in defaults["thresholds"]["steps"][1:]:
        if panel["type"] == "timeseries" and step["value"] < high:
            at = top + tall - step["value"] / high * tall
            parts.append(f'<path d="M{left},{at:.1f}h{wide}" stroke="{step["color"]}" stroke-dasharray="4 3"/>')
    across, down = left, top + tall + 16
    for index, (name, points) in reversed(list(enumerate(drawn))) if stacked else enumerate(drawn):
        color = COLORS[index % len(COLORS)]
        parts.append(f'<polyline points="{" ".join(place(*point) for point in points)}" fill="none" stroke="{color}" stroke-width="1.4"/>')
        if across + len(name) * 6 > x + width - 10 and across > left:
            across, down = left, down + 13
        parts.append(text(across, down, name, 10, color))
        across += len(name) * 6 + 12
    return parts


def heat(panel, data, x, y, width, height):
    """A row for each bucket, the darker the more came in it."""
    bounds = sorted(((float(one["metric"]["le"]), dict(one["values"])) for one in data["series"][0]["result"]), key=lambda one: one[0])
    moments = sorted(bounds[-1][1])[::3]
    left, top, wide, tall = x + 42, y + 26, width - 54, height - 44
    cells, below = {}, dict.fromkeys(moments, 0.0)
    for row, (_, values) in enumerate(bounds):
        for column, at in enumerate(moments):
            value = float(values.get(at, 0))
            cells[row, column] = value - below[at]
            below[at] = value
    high, across, down = max(cells.values()) or 1, wide / len(moments), tall / len(bounds)
    parts = [text(left - 4, top + tall - row * down, f"{bound:g} s", 8, "#777", "end") for row, (bound, _) in enumerate(bounds)]
    for (row, column), value in cells.items():
        if value > high / 1000:
            place = f'x="{left + column * across:.0f}" y="{top + tall - (row + 1) * down:.0f}" width="{across:.0f}" height="{down:.0f}"'
            parts.append(f'<rect {place} fill="#d9822b" opacity="{0.15 + 0.85 * value / high:.2f}"/>')
    return parts


def number(panel, data, x, y, width, height):
    shown = [points[-1][1] for _, points in lines_of(data)]
    defaults = panel["fieldConfig"]["defaults"]
    color = next((step["color"] for step in reversed(defaults["thresholds"]["steps"]) if shown and (step["value"] is None or shown[0] >= step["value"])), "green")
    by_name = panel["options"].get("textMode") == "name"
    said_of = [name for name, _ in lines_of(data)] if by_name else [said(value, defaults["unit"]) for value in shown]
    words = "  ".join(said_of) or "–"
    return [text(x + width / 2, y + height / 2 + 18, words, 30, color, "middle", "bold")]


def listing(panel, data, x, y, width, height):
    unit = panel["fieldConfig"]["defaults"].get("unit")
    found = [(" ".join(one["metric"].values()), said(float(one["values"][-1][1]), unit)) for target in data["series"] for one in target["result"]]
    parts = []
    for line, (words, value) in enumerate(found[: int(height / 15) - 3]):
        parts += [text(x + 12, y + 42 + 15 * line, words), text(x + width - 12, y + 42 + 15 * line, value, anchor="end")]
    return parts


def draw(name, folder):
    board = json.loads((BOARDS / f"{name}.json").read_text())
    parts, bottom = [], 0
    for panel in board["panels"]:
        grid = panel["gridPos"]
        x, y, width, height = grid["x"] * COLUMN, grid["y"] * LINE + 40, grid["w"] * COLUMN - 6, grid["h"] * LINE - 6
        bottom = max(bottom, y + height)
        if panel["type"] == "row":
            parts.append(text(x + 4, y + 18, panel["title"], 14, "#111", weight="bold"))
            continue
        data = json.loads((folder / f"{name}-{panel['id']}.json").read_text())
        parts.append(f'<rect x="{x}" y="{y}" width="{width}" height="{height}" fill="#fff" stroke="#ddd"/>')
        parts.append(text(x + 10, y + 17, panel["title"], 12, weight="bold"))
        kind = {"stat": number, "table": listing, "heatmap": heat}.get(panel["type"], graph)
        parts += kind(panel, data, x, y, width, height)
    size = f"{24 * COLUMN} {bottom + 10}"
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size}" font-family="sans-serif"><rect width="100%" height="100%" fill="#f5f5f5"/>'
    return "\n".join([head, text(4, 26, board["title"], 18, "#111", weight="bold"), *parts, "</svg>\n"])


if __name__ == "__main__":
    source, target = Path(sys.argv[1]), Path(sys.argv[2])
    for board_name in sys.argv[3:]:
        (target / f"{board_name}.svg").write_text(draw(board_name, source))
