"""The flowchart of README as an SVG for the site: it needs no network and takes the colours of the page, light or dark.

README has it as Mermaid, which code hosts draw; here the same text is drawn from top to bottom, so that it fits a column of text. Of
Mermaid it knows what is there: ``A[text<br/>text]``, ``A & B --> C & D``, ``-.->``, ``subgraph name [title]`` to ``end``.
"""

from __future__ import annotations

import dataclasses
import html
import itertools
import re
from pathlib import Path

NODE, EDGE, GROUP = re.compile(r"(\w+)(?:\[([^\]]*)\])?"), re.compile(r"\s*(-->|-\.->)\s*"), re.compile(r"subgraph \w+ \[(.*)\]")
LETTER, CAPITAL, LINE, PAD = 6.6, 8.6, 15, 9  # width of a letter and of a capital, height of a line, space around a text
RANK, GAP, TRACK = 34, 18, 26  # space between ranks, between nodes of a rank; width of a line that passes a rank
MARGIN = 14
FILL, EDGES, TEXT = "var(--color-background-secondary, #f3f5f7)", "var(--color-foreground-muted, #6b6f76)", "currentColor"


@dataclasses.dataclass
class Chart:
    """Texts of the nodes in lines, edges (from, to, dashed), and groups: title and nodes."""

    texts: dict[str, list[str]]
    edges: list[tuple[str, str, bool]]
    groups: list[tuple[str, list[str]]]


def write(readme: Path, file: Path) -> None:
    """Draw the flowchart of a text; a file that stays the same is not touched."""
    drawn = svg(readme.read_text().split("```mermaid")[1].split("```")[0], "The stages of a run and what each hands on")
    if not file.exists() or file.read_text() != drawn:
        file.write_text(drawn)


def parse(text: str) -> Chart:
    """Read a flowchart of Mermaid."""
    chart, open_group = Chart({}, [], []), None
    for line in filter(None, map(str.strip, text.splitlines())):
        if line.startswith("flowchart"):
            continue
        if found := GROUP.fullmatch(line):
            open_group = (found[1], [])
            chart.groups.append(open_group)
        elif line == "end":
            open_group = None
        else:
            parts = EDGE.split(line)
            sides = [[_node(name, chart, open_group) for name in side.split(" & ")] for side in parts[::2]]
            for (left, right), arrow in zip(itertools.pairwise(sides), parts[1::2], strict=True):
                chart.edges += [(a, b, arrow == "-.->") for a in left for b in right]
    return chart


def _node(text: str, chart: Chart, group) -> str:
    found = NODE.fullmatch(text.strip())
    if not found:
        raise ValueError(f"{text!r} is no node that this script can draw")
    name, label = found.groups()
    if label or name not in chart.texts:
        chart.texts[name] = (label or name).split("<br/>")
    if group and name not in group[1]:
        group[1].append(name)
    return name


def ranks_of(chart: Chart) -> dict[str, int]:
    """The longest way from a node without predecessors."""
    rank = dict.fromkeys(chart.texts, 0)
    for _ in chart.texts:
        for a, b, _dashed in chart.edges:
            rank[b] = max(rank[b], rank[a] + 1)
    if max(rank.values()) >= len(rank):
        raise ValueError("the flowchart goes in a circle")
    return rank


def rows_of(chart: Chart) -> tuple[list[list], dict[tuple, list]]:
    """Nodes by rank, with a place ``(a, b, rank)`` for each edge that passes a rank; and the way of each edge through them."""
    rank = ranks_of(chart)
    rows = [[name for name in chart.texts if rank[name] == number] for number in range(max(rank.values()) + 1)]
    ways = {}
    for a, b, _dashed in chart.edges:
        passed = [(a, b, number) for number in range(rank[a] + 1, rank[b])]
        for place in passed:
            rows[place[2]].append(place)
        ways[a, b] = [a, *passed, b]
    before = {}
    for way in ways.values():
        for one, two in itertools.pairwise(way):
            before.setdefault(two, []).append(one)
    for upper, row in itertools.pairwise(rows):  # each below those that it comes from, so that few lines cross
        place = {item: (number + 0.5) / len(upper) for number, item in enumerate(upper)}
        row.sort(key=lambda item: sum(place[p] for p in before.get(item, [])) / max(1, len(before.get(item, []))))
    return rows, ways


def svg(text: str, title: str) -> str:
    """The flowchart as an SVG element."""
    chart = parse(text)
    rows, ways = rows_of(chart)
    width = {name: max(map(width_of, lines)) + 2 * PAD for name, lines in chart.texts.items()}
    widths = [[width.get(item, TRACK) for item in row] for row in rows]
    whole = max(sum(row) + GAP * (len(row) - 1) for row in widths) + 4 * MARGIN
    centre, top, height, y = {}, {}, {}, MARGIN
    for row, sizes in zip(rows, widths, strict=True):
        x = (whole - sum(sizes) - GAP * (len(sizes) - 1)) / 2
        high = max(LINE * len(chart.texts[item]) for item in row if item in chart.texts) + 2 * PAD
        for item, size in zip(row, sizes, strict=True):
            own = LINE * len(chart.texts[item]) + 2 * PAD if item in chart.texts else high
            centre[item], top[item], height[item] = x + size / 2, y + (high - own) / 2, own
            x += size + GAP
        y += high + RANK
    total = y - RANK + MARGIN
    said = "; ".join(f"{a} to {b}{', optional' if dashed else ''}" for a, b, dashed in chart.edges)
    parts = [
        f'<svg class="stages" role="img" aria-labelledby="stages-title stages-said" viewBox="0 0 {whole:.0f} {total:.0f}" '
        f'style="max-width: {whole:.0f}px; width: 100%; height: auto; display: block; margin: 1rem auto">',
        f'<title id="stages-title">{html.escape(title)}</title><desc id="stages-said">{html.escape(said)}</desc>',
        f'<defs><marker id="stages-end" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        f'<path d="M0 0 L8 4 L0 8 z" style="fill: {EDGES}"/></marker></defs>',
    ]
    for name, members in chart.groups:
        left, right = min(centre[m] - width[m] / 2 for m in members), max(centre[m] + width[m] / 2 for m in members)
        high, low = min(top[m] for m in members), max(top[m] + height[m] for m in members)
        label = width_of(name) + PAD
        parts.append(
            f'<rect x="{left - 10 - label:.1f}" y="{high - 10:.1f}" width="{right - left + 20 + label:.1f}" height="{low - high + 20:.1f}" '
            f'rx="6" style="fill: none; stroke: {EDGES}; stroke-dasharray: 3 3"/>'
        )
        parts.append(_text(left - 10 - label / 2, (high + low) / 2, [name], "font-style: italic"))
    for a, b, dashed in chart.edges:
        style = f"fill: none; stroke: {EDGES}; stroke-width: 1.4{'; stroke-dasharray: 5 4' if dashed else ''}"
        parts.append(f'<path d="{_way(ways[a, b], centre, top, height)}" style="{style}" marker-end="url(#stages-end)"/>')
    for item, lines in chart.texts.items():
        box = f'x="{centre[item] - width[item] / 2:.1f}" y="{top[item]:.1f}" width="{width[item]:.1f}" height="{height[item]:.1f}"'
        parts.append(f'<rect {box} rx="5" style="fill: {FILL}; stroke: {EDGES}"/>')
        parts.append(_text(centre[item], top[item] + height[item] / 2, lines))
    return "\n".join([*parts, "</svg>"]) + "\n"


def width_of(text: str) -> float:
    """Roughly, in the sans serif of most systems."""
    return sum(CAPITAL if letter.isupper() else LETTER for letter in text)


def _way(way, centre, top, height) -> str:
    """A line down through the places of an edge, smooth between ranks and straight through them."""
    x, y = centre[way[0]], top[way[0]] + height[way[0]]
    path = f"M{x:.1f} {y:.1f}"
    for item in way[1:]:
        x2, y2 = centre[item], top[item]
        middle = (y + y2) / 2
        path += f" C{x:.1f} {middle:.1f} {x2:.1f} {middle:.1f} {x2:.1f} {y2:.1f}"
        x, y = x2, y2 + (height[item] if item != way[-1] else 0)
        if item != way[-1]:
            path += f" V{y:.1f}"
    return path


def _text(x: float, y: float, lines: list[str], style: str = "") -> str:
    first = y - LINE * (len(lines) - 1) / 2 + 4
    spans = ""
    for number, line in enumerate(lines):
        weight = 600 if number == 0 and len(lines) > 1 else 400
        spans += f'<tspan x="{x:.1f}" y="{first + LINE * number:.1f}" font-weight="{weight}">{html.escape(line)}</tspan>'
    return f'<text text-anchor="middle" style="fill: {TEXT}; font-size: 12px; font-family: system-ui, sans-serif; {style}">{spans}</text>'
