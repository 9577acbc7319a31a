"""Figures of the report as plotly specifications: plain dicts that the page's script draws in the colours of its theme."""

from __future__ import annotations

import base64
import gzip
import io

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
RISING = DIVERGING[2:]  # of values that are never below 0: from white
MOST_FOLDS = 4  # log2 fold changes beyond are drawn as this one
MOST_POINTS = 50_000
MOST_QUANTILES = 1_000  # of a violin
HEIGHT = 440
LEVEL = 6  # of gzip: a third of the time of 9 for a page as small


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
            shapes.append(dashed(x0=position - 0.45, x1=position + 0.45, y0=scale(limit), y1=scale(limit)))
    y = {"title": {"text": axis}}
    if log:
        ticks = [tick for power in range(8) for tick in (10**power, 2 * 10**power, 5 * 10**power)]
        y |= {"tickvals": numbers(np.log1p(ticks)), "ticktext": [f"{tick:,}" for tick in ticks]}
    return figure(data, {"type": "category"}, y, shapes=shapes, showlegend=False)


def scatter(groups: list[tuple[str, str, pd.DataFrame]], x: dict, y: dict, shapes=()) -> dict:
    """Points of named groups: (name, colour, table with ``x``, ``y``, and names in the index); shapes of plotly over them."""
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
    return figure(data, x, y, shapes=list(shapes))


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
        height = max(260, 110 + 22 * len(table), min(700, 80 + 20 * table.shape[1]))  # the legend needs as much
        return figure(data, titles[1], {"type": "category", "autorange": "reversed"}, height=height, **stack)
    return figure(data, category, titles[1], height=380, **stack)


def scale_of(values, most: float = np.inf) -> tuple[list, float, float]:
    """Colours with their lowest and highest value: red and blue around 0, or from white to red where nothing is below 0."""
    reach = min(most, float(np.nanmax(np.abs(values), initial=0))) or 1.0
    if np.nanmin(values, initial=0) >= 0:
        return [[2 * (place - 0.5), colour] for place, colour in RISING], 0.0, reach
    return DIVERGING, -reach, reach


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
    colours, low, high = scale_of(values, MOST_FOLDS)
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
            "colorscale": colours,
            "cmin": low,
            "cmax": high,
            "colorbar": {"title": {"text": titles[3]}},
            "line": {"width": 0.5, "color": "#7F7F7F"},
        },
    }
    x = {"type": "category", "title": {"text": titles[0]}, "tickangle": -90, "automargin": True}
    y = {"type": "category", "title": {"text": titles[1]}, "autorange": "reversed"}
    return figure([trace], x, y, height=max(300, 170 + 24 * len(size)))


def heat_map(table: pd.DataFrame, marks: pd.DataFrame | None, titles: tuple[str, str, str]) -> dict:
    """A table as coloured cells; ``marks`` (the same shape, bool) puts a star into them. Titles: columns, rows, colour."""
    values = table.to_numpy(dtype=np.float64)
    colours, low, high = scale_of(values)
    trace = {
        "type": "heatmap",
        "z": [numbers(row) for row in values],
        "x": [str(name) for name in table.columns],
        "y": [str(name) for name in table.index],
        "colorscale": colours,
        "zmin": low,
        "zmax": high,
        "colorbar": {"title": {"text": titles[2]}},
        "hovertemplate": f"{titles[1]} %{{y}}<br>%{{x}}<br>{titles[2]}: %{{z:.3g}}<extra></extra>",
        "xgap": 1,
        "ygap": 1,
    }
    if marks is not None:
        trace |= {"text": np.where(marks.to_numpy(dtype=bool), "*", "").tolist(), "texttemplate": "%{text}"}
    x = {"type": "category", "title": {"text": titles[0]}, "automargin": True}
    y = {"type": "category", "title": {"text": titles[1]}, "autorange": "reversed"}
    names = max((len(str(name)) for name in table.columns), default=0)  # upright, and within the height
    return figure([trace], x, y, height=max(280, 130 + 24 * len(table) + min(7 * names, 300)))


def points(places: np.ndarray, rows: np.ndarray, axes=("", ""), *, n_colours: int, tissue: bool = False, image: dict | None = None) -> dict:
    """Cells in the plane, to be coloured by any column or gene that the page holds; the page has menus for them.

    Parameters
    ----------
    places
        Coordinates (points, 2).
    rows
        Where each point stands among the cells whose colours the page holds.
    n_colours
        Number of those cells.
    tissue
        Equal scales, and the second axis downwards as in an image.
    image
        Of :func:`picture`, drawn below the points.
    """
    layout = figure([], *axes, height=560 if tissue else 520)["layout"]
    if image is not None:
        layout["images"] = [image]
    same = len(rows) == n_colours and (rows == np.arange(n_colours)).all()
    x, y = (packed(places[:, i], np.float32) for i in (0, 1))
    return {
        "points": {"x": x, "y": y, "n": len(rows), "rows": None if same else packed(rows, np.int32)},
        "layout": layout,
        "tissue": tissue,
    }


def picture(pixels: np.ndarray, scale: float) -> dict:
    """An image of the tissue as a layer: uint8 or 0-1 float (height, width, 3); ``scale`` is its pixels per unit of the coordinates."""
    import matplotlib.image

    file = io.BytesIO()
    matplotlib.image.imsave(file, pixels, format="png", metadata={"Software": None})
    source = "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
    place = {"xref": "x", "yref": "y", "x": 0, "y": 0, "sizex": pixels.shape[1] / scale, "sizey": pixels.shape[0] / scale}
    return {"source": source, **place, "sizing": "stretch", "layer": "below", "yanchor": "top"}


def lines(table: pd.DataFrame, titles: tuple[str, str]) -> dict:
    """One line for each column of a table over its index."""
    data = [
        {
            "type": "scatter",
            "mode": "lines",
            "name": look["name"],
            "x": numbers(table.index),
            "y": numbers(table[column]),
            "line": {"color": look["colour"]},
        }
        for look, column in zip(styles(table.columns), table.columns, strict=True)
    ]
    return figure(data, *titles, height=380)


def histogram(values: np.ndarray, limit: float | None, titles: tuple[str, str]) -> dict:
    """Counts of values in 60 bins, with a limit as a dashed line."""
    count, edges = np.histogram(values[np.isfinite(values)], bins=60)
    trace = {
        "type": "bar",
        "x": numbers((edges[1:] + edges[:-1]) / 2),
        "y": numbers(count),
        "width": numbers(np.diff(edges)),
        "marker": {"color": COLOURS[0]},
    }
    shapes = [] if limit is None or not np.isfinite(limit) else [dashed(x0=limit, x1=limit, y0=0, y1=float(count.max()))]
    return figure([trace], *titles, height=320, shapes=shapes)


def dashed(**ends) -> dict:
    """A dashed line between two points, as a limit is drawn."""
    return {"type": "line", **{key: float(value) for key, value in ends.items()}, "line": {"color": "#D55E00", "width": 2, "dash": "dash"}}


def gantt(table: pd.DataFrame) -> dict:
    """Tasks over time: columns task, start, start-up and work, in seconds since the first task began."""
    look = styles(["start-up", "work"])[::-1]
    data, base = [], table["start"].to_numpy(dtype=np.float64)
    for part, style in zip(("start-up", "work"), look, strict=True):
        seconds = table[part].to_numpy(dtype=np.float64)
        marker = {"color": style["colour"]}
        data.append(
            {
                "type": "bar",
                "orientation": "h",
                "name": part,
                "y": list(table["task"]),
                "x": numbers(seconds),
                "base": numbers(base),
                "marker": marker,
            }
        )
        base = base + seconds
    y = {"type": "category", "autorange": "reversed"}
    return figure(data, "seconds since the first task began", y, height=max(260, 110 + 22 * len(table)), barmode="overlay")


def tree(labels: pd.DataFrame) -> dict:
    """Clusters at several resolutions: one row of circles each, lines where cells go from one to the next.

    Parameters
    ----------
    labels
        A categorical column for each resolution, coarse ones first.
    """
    data, places = [], {}
    for level, column in enumerate(labels):
        names = list(labels[column].cat.categories)
        if level:  # below those that they come from, so that few lines cross
            upper = labels.columns[level - 1]
            flow = pd.crosstab(labels[upper], labels[column])
            middle = {name: np.average([places[upper, n][0] for n in flow.index], weights=flow[name]) for name in flow}
            names.sort(key=lambda name: middle.get(name, 1.0))
        places |= {(column, name): ((i + 0.5) / len(names), -level) for i, name in enumerate(names)}
    for upper, lower in zip(labels.columns[:-1], labels.columns[1:], strict=True):
        flow = pd.crosstab(labels[upper], labels[lower])
        share = flow / flow.sum()
        for a, b in zip(*np.nonzero(share.to_numpy() >= 0.05), strict=True):
            ends = [places[upper, flow.index[a]], places[lower, flow.columns[b]]]
            width = 1 + 5 * float(share.to_numpy()[a, b])
            data.append(
                {
                    "type": "scatter",
                    "mode": "lines",
                    "x": numbers([e[0] for e in ends]),
                    "y": numbers([e[1] for e in ends]),
                    "line": {"color": "#9AA4AF", "width": float(f"{width:.3g}")},
                    "hoverinfo": "skip",
                    "showlegend": False,
                }
            )
    most = max(int(labels[column].value_counts().max()) for column in labels)
    for column in labels:
        size = labels[column].value_counts(sort=False)
        at = [places[column, name] for name in size.index]
        data.append(
            {
                "type": "scatter",
                "mode": "markers+text",
                "name": column,
                "x": numbers([a[0] for a in at]),
                "y": numbers([a[1] for a in at]),
                "text": [str(name) for name in size.index],
                "customdata": [int(n) for n in size],
                "hovertemplate": f"{column} %{{text}}: %{{customdata}} cells<extra></extra>",
                "marker": {"size": numbers(12 + 28 * np.sqrt(size / most)), "color": COLOURS[4], "line": {"width": 1, "color": COLOURS[0]}},
                "textfont": {"color": "#111111"},
            }
        )
    ticks = {"tickvals": [-level for level in range(labels.shape[1])], "ticktext": list(labels.columns)}
    x = {"visible": False, "range": [0, 1]}
    return figure(data, x, {"showgrid": False, "zeroline": False, **ticks}, height=140 + 110 * labels.shape[1], showlegend=False)


def packed(values, dtype) -> str:
    """Little-endian values, gzip, base64: what the page's script unpacks."""
    return base64.b64encode(gzip.compress(np.ascontiguousarray(values, dtype=dtype).tobytes(), LEVEL, mtime=0)).decode()
