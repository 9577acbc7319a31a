"""Figures of the report as plotly specifications: plain dicts that the page's script draws in the colours of its theme."""

from __future__ import annotations

import base64

import numpy as np
import pandas as pd

from rsc_core import rng

# Okabe & Ito's colours (yellow darkened), told apart with every kind of colour blindness; past eight they return darker, then
# lighter, each with another symbol or pattern.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#B8A800", "#7F7F7F")
SHADES = ((0.0, 0), (0.45, 0), (0.5, 255))  # of a mixture with black or white: its share, its level
SYMBOLS = ("circle", "square", "diamond", "cross", "triangle-up", "x")
PATTERNS = ("", "/", "x", ".", "-", "+")
DIVERGING = [[0, "#2166AC"], [0.25, "#92C5DE"], [0.5, "#F7F7F7"], [0.75, "#F4A582"], [1, "#B2182B"]]
MOST_FOLDS = 4  # log2 fold changes beyond are drawn as this one
MOST_POINTS = 50_000
MOST_QUANTILES = 1_000  # of a violin
HEIGHT = 440


def numbers(values) -> list:
    """Numbers with six significant digits; None for what is not finite."""
    return [float(f"{x:.6g}") if np.isfinite(x) else None for x in np.asarray(values, dtype=np.float64)]


def sampled(n_points: int, most: int = MOST_POINTS) -> np.ndarray:
    """Positions of at most ``most`` points, always the same ones, in rising order."""
    if n_points <= most:
        return np.arange(n_points)
    return np.sort(rng.permutation(0, "sample", n_points, 0)[:most])


def styles(labels) -> list[dict]:
    """Name, colour, symbol and pattern of each category."""
    found = []
    for number, label in enumerate(labels):
        turn, place = divmod(number, len(COLOURS))
        share, level = SHADES[turn % len(SHADES)]
        parts = [round((1 - share) * int(COLOURS[place][i : i + 2], 16) + share * level) for i in (1, 3, 5)]
        colour = "#" + "".join(f"{part:02X}" for part in parts)
        found.append({"name": str(label), "colour": colour, "symbol": SYMBOLS[turn % 6], "pattern": PATTERNS[turn % 6]})
    return found


def figure(data: list[dict], x: str | dict, y: str | dict, **layout) -> dict:
    """Traces with a title (or a dict of properties) for each axis."""
    axes = {f"{name}axis": {"title": {"text": axis}} if isinstance(axis, str) else axis for name, axis in (("x", x), ("y", y))}
    return {"data": data, "layout": {"height": HEIGHT, "margin": {"l": 60, "r": 20, "t": 30, "b": 65}, **axes, **layout}}


def violins(values: dict[str, np.ndarray], limits: dict[str, list[float]], colours: dict[str, str], axis: str, log: bool = False) -> dict:
    """The distribution of a quantity in each sample, with its limits as dashed lines.

    Parameters
    ----------
    values
        Values of the cells of each sample; more than ``MOST_QUANTILES`` are drawn by that many quantiles.
    limits
        Finite limits of each sample.
    colours
        Colour of each sample.
    log
        Draw log(1 + value), with the values themselves at the ticks.
    """
    scale = np.log1p if log else np.asarray
    data, shapes = [], []
    for position, (sample, all_values) in enumerate(values.items()):
        drawn = np.sort(all_values)
        if len(drawn) > MOST_QUANTILES:
            drawn = drawn[np.linspace(0, len(drawn) - 1, MOST_QUANTILES).round().astype(np.int64)]
        look = {"line": {"color": colours[sample]}, "box": {"visible": True}, "points": False, "spanmode": "hard", "hoverinfo": "y+name"}
        data.append({"type": "violin", "y": numbers(scale(drawn)), "x": [str(sample)] * len(drawn), "name": str(sample), **look})
        for limit in limits.get(sample, []):
            ends = {"x0": position - 0.45, "x1": position + 0.45, "y0": float(scale(limit)), "y1": float(scale(limit))}
            shapes.append({"type": "line", **ends, "line": {"color": "#D55E00", "width": 2, "dash": "dash"}})
    y = {"title": {"text": axis}}
    if log:
        ticks = [tick for power in range(8) for tick in (10**power, 2 * 10**power, 5 * 10**power)]
        y |= {"tickvals": numbers(np.log1p(ticks)), "ticktext": [f"{tick:,}" for tick in ticks]}
    return figure(data, {"type": "category"}, y, shapes=shapes, showlegend=False)


def scatter(groups: list[tuple[str, str, pd.DataFrame]], x: dict, y: dict) -> dict:
    """Points of named groups: (name, colour, table with ``x``, ``y``, and names in the index)."""
    data = [
        {
            "type": "scattergl" if len(table) > 3000 else "scatter",
            "mode": "markers",
            "name": name,
            "x": numbers(table["x"]),
            "y": numbers(table["y"]),
            "text": [str(label) for label in table.index],
            "marker": {"size": 4, "color": colour, "opacity": 0.7},
            "hovertemplate": "%{text}<br>%{x:.3g}, %{y:.3g}<extra></extra>",
        }
        for name, colour, table in groups
    ]
    return figure(data, x, y)


def curve(x, y, titles: tuple[str, str]) -> dict:
    """One line with markers."""
    trace = {"type": "scatter", "mode": "lines+markers", "x": numbers(x), "y": numbers(y), "line": {"color": COLOURS[0]}}
    return figure([trace], *titles, height=320)


def bars(table: pd.DataFrame, looks: list[dict], titles: tuple[str, str], horizontal: bool = False) -> dict:
    """Stacked bars: a bar for each row, a part in a look of :func:`styles` for each column. Titles: rows, values."""
    data = []
    for look, column in zip(looks, table.columns, strict=True):
        ends = {"x": [str(name) for name in table.index], "y": numbers(table[column])}
        if horizontal:
            ends = {"x": ends["y"], "y": ends["x"], "orientation": "h"}
        marker = {"color": look["colour"], "pattern": {"shape": look["pattern"]}}
        data.append({"type": "bar", "name": str(column), "marker": marker, **ends})
    category = {"type": "category", "title": {"text": titles[0]}}
    stack = {"barmode": "stack", "legend": {"traceorder": "normal"}}
    if horizontal:
        height = max(260, 110 + 22 * len(table))
        return figure(data, titles[1], {"type": "category", "autorange": "reversed"}, height=height, **stack)
    return figure(data, category, titles[1], height=380, **stack)


def dots(size: pd.DataFrame, colour: pd.DataFrame, titles: tuple[str, str, str, str]) -> dict:
    """A dot for each row and column of two tables of the same shape: area from the first (0 to 1), colour from the second.

    Parameters
    ----------
    titles
        Of columns, rows, size and colour. Where size or colour is missing there is no dot.
    """
    shares, values = (table.to_numpy(dtype=np.float64) for table in (size, colour))
    rows, columns = np.nonzero(np.isfinite(shares) & np.isfinite(values))
    shares, values = shares[rows, columns], values[rows, columns]
    reach = min(MOST_FOLDS, float(np.nanmax(np.abs(values), initial=0))) or 1.0
    trace = {
        "type": "scatter",
        "mode": "markers",
        "x": [str(size.columns[i]) for i in columns],
        "y": [str(size.index[i]) for i in rows],
        "customdata": [[float(f"{a:.3g}"), b] for a, b in zip(shares, numbers(values), strict=True)],
        "hovertemplate": f"%{{x}}, %{{y}}<br>{titles[2]}: %{{customdata[0]}}<br>{titles[3]}: %{{customdata[1]}}<extra></extra>",
        "marker": {
            "size": numbers(2 + 14 * np.sqrt(shares)),
            "color": numbers(values),
            "colorscale": DIVERGING,
            "cmin": -reach,
            "cmax": reach,
            "colorbar": {"title": {"text": titles[3]}},
            "line": {"width": 0.5, "color": "#7F7F7F"},
        },
    }
    x = {"type": "category", "title": {"text": titles[0]}, "tickangle": -90, "automargin": True}
    y = {"type": "category", "title": {"text": titles[1]}, "autorange": "reversed"}
    return figure([trace], x, y, height=max(300, 170 + 24 * len(size)))


def heat_map(table: pd.DataFrame, marks: pd.DataFrame | None, titles: tuple[str, str, str]) -> dict:
    """A table as coloured cells around 0; ``marks`` (the same shape, bool) puts a star into cells. Titles: columns, rows, colour."""
    values = table.to_numpy(dtype=np.float64)
    reach = float(np.nanmax(np.abs(values), initial=0)) or 1.0
    trace = {
        "type": "heatmap",
        "z": [numbers(row) for row in values],
        "x": [str(name) for name in table.columns],
        "y": [str(name) for name in table.index],
        "colorscale": DIVERGING,
        "zmin": -reach,
        "zmax": reach,
        "colorbar": {"title": {"text": titles[2]}},
        "hovertemplate": f"{titles[1]} %{{y}}<br>%{{x}}<br>{titles[2]}: %{{z:.3g}}<extra></extra>",
        "xgap": 1,
        "ygap": 1,
    }
    if marks is not None:
        trace |= {"text": np.where(marks.to_numpy(dtype=bool), "*", "").tolist(), "texttemplate": "%{text}"}
    x = {"type": "category", "title": {"text": titles[0]}, "automargin": True}
    y = {"type": "category", "title": {"text": titles[1]}, "autorange": "reversed"}
    return figure([trace], x, y, height=max(280, 150 + 24 * len(table)))


def points(places: np.ndarray, columns: dict[str, pd.Series], axes=("", ""), tissue: bool = False, most: int = MOST_POINTS) -> dict:
    """Cells in the plane, to be coloured by any of some columns; the page has a menu for them.

    Parameters
    ----------
    places
        Coordinates (cells, 2).
    columns
        Name -> values of the cells: categories or numbers. The first is shown at first.
    tissue
        Equal scales, and the second axis downwards as in an image.
    most
        Number of cells drawn, see :func:`sampled`.
    """
    kept = sampled(len(places), most)
    colourings = []
    for name, values in columns.items():
        if isinstance(values.dtype, pd.CategoricalDtype):
            codes = values.cat.codes.to_numpy()[kept]
            colourings.append({"name": name, "labels": styles(values.cat.categories), "codes": _text(codes, np.int16)})
        else:
            colourings.append({"name": name, "values": _text(values.to_numpy()[kept], np.float32)})
    return {
        "points": {"x": _text(places[kept, 0], np.float32), "y": _text(places[kept, 1], np.float32), "n": len(kept)},
        "colourings": colourings,
        "layout": figure([], *axes, height=560 if tissue else 520)["layout"],
        "tissue": tissue,
    }


def _text(values, dtype) -> str:
    return base64.b64encode(np.ascontiguousarray(values, dtype=dtype).tobytes()).decode()
