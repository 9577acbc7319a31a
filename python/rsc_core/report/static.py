"""The report's figures as files for slides: the same specifications drawn by matplotlib."""

from __future__ import annotations

import base64
import contextlib
import io
import multiprocessing
import re
from pathlib import Path

import numba
import numpy as np
import pandas as pd

from rsc_core.report import figures

DOTS = 150  # per inch of the png
MARKERS = dict(zip(figures.SYMBOLS, ("o", "s", "D", "P", "^", "X"), strict=True))
HATCHES = dict(zip(figures.PATTERNS, ("", "//", "xx", "..", "--", "++"), strict=True))


def prepare() -> None:
    """Import what draws, which takes a while."""
    import matplotlib

    matplotlib.use("agg")
    matplotlib.rcParams.update(
        {"svg.hashsalt": "rsc-flow", "svg.fonttype": "none", "font.size": 9, "axes.spines.top": False, "axes.spines.right": False}
    )
    from matplotlib import pyplot  # noqa: F401 - here, and not once in each process


def save_all(folder, sections, cells, formats=("png", "svg")) -> list[Path]:
    """Write every figure of the sections into a folder, as :func:`saving`; returns the files."""
    with saving(folder, sections, cells, formats) as files:
        pass
    return files


@contextlib.contextmanager
def saving(folder, sections, cells, formats=("png", "svg")):
    """Write every figure of the sections into a folder while the block runs; yields a list that has the files in the end.

    Embeddings and tissue are coloured by cluster and hold **all** cells, also where the page draws a sample. The figures are
    drawn by as many processes as the task has threads.
    """
    prepare()
    Path(folder).mkdir(parents=True, exist_ok=True)
    shown = [(section.key, part) for section in sections for part in section.parts if part.figure is not None]
    stems = [Path(folder) / re.sub(r"[^A-Za-z0-9]+", "-", f"{key}-{part.heading}").strip("-").lower() for key, part in shown]
    # A process is a copy of this one: it has the figures already, and is sent their numbers alone.
    held = [part for _, part in shown], cells, stems, formats
    files = []
    with multiprocessing.get_context("fork").Pool(numba.get_num_threads(), _take, held) as pool:
        drawn = pool.map_async(_save, range(len(shown)), chunksize=1)
        yield files
        files += [file for some in drawn.get() for file in some]


def _take(*given) -> None:
    global _taken
    _taken = given


def _save(number: int) -> list[Path]:
    """Write one figure in each format."""
    from matplotlib import pyplot

    parts, cells, stems, formats = _taken
    part, files = parts[number], [stems[number].with_name(f"{stems[number].name}.{kind}") for kind in formats]
    canvas, axes = pyplot.subplots(figsize=size_of(part.figure), layout="constrained")
    if "points" in part.figure:
        draw_cells(axes, part, (cells.colourings.get(part.colour, cells.obs["leiden"])).astype("category"))
    else:
        draw(axes, part.figure)
    axes.set_title(part.heading, fontsize=10)
    for kind, file in zip(formats, files, strict=True):
        canvas.savefig(file, dpi=DOTS, metadata={"Date": None} if kind == "svg" else {"Software": None})
    pyplot.close(canvas)
    return files


def size_of(figure: dict) -> tuple[float, float]:
    """Width and height in inches; wider for many categories."""
    layout = figure["layout"]
    names = {str(x) for trace in figure.get("data", []) if isinstance((trace.get("x") or [0])[0], str) for x in trace["x"]}
    return (6 if figure.get("tissue") else max(7, 2 + 0.18 * len(names)), layout["height"] / 80)


def draw(axes, figure: dict) -> None:
    """Traces of one specification."""
    stacked, labelled = {}, False
    for trace in figure["data"]:
        {"violin": violin, "bar": lambda *a: bar(*a, stacked), "heatmap": heat_map, "scatter": scatter, "scattergl": scatter}[
            trace["type"]
        ](axes, trace)
        labelled = labelled or (trace["type"] != "heatmap" and trace.get("name") and trace.get("showlegend", True))
    layout = figure["layout"]
    for shape in layout.get("shapes", []):
        axes.plot([shape["x0"], shape["x1"]], [shape["y0"], shape["y1"]], color=shape["line"]["color"], lw=1.2, ls="--")
    for name in "xy":
        axis = layout[f"{name}axis"]
        getattr(axes, f"set_{name}label")(axis.get("title", {}).get("text", ""))
        if axis.get("type") == "log":
            getattr(axes, f"set_{name}scale")("log")
        if "tickvals" in axis:
            low, high = getattr(axes, f"get_{name}lim")()
            ticks = [(v, t) for v, t in zip(axis["tickvals"], axis["ticktext"], strict=True) if low <= v <= high]
            getattr(axes, f"set_{name}ticks")([v for v, _ in ticks], [t for _, t in ticks])
        if axis.get("visible") is False:
            getattr(axes, f"{name}axis").set_visible(False)
        if axis.get("autorange") == "reversed":
            getattr(axes, f"invert_{name}axis")()
    if layout["xaxis"].get("tickangle") == -90 or figure["data"][0]["type"] == "heatmap":
        axes.tick_params("x", rotation=90)
    if labelled and layout.get("showlegend", True) and len(figure["data"]) > 1:
        axes.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False, fontsize=8)


def violin(axes, trace) -> None:
    """One violin; its place is the number of those before it."""
    names = [] if not axes.collections else [text.get_text() for text in axes.get_xticklabels()]
    values = np.asarray(trace["y"], dtype=float)
    body = axes.violinplot(values[np.isfinite(values)], [len(names)], widths=0.8, showextrema=False, showmedians=True)["bodies"][0]
    body.set(facecolor=trace["line"]["color"], alpha=0.5)
    axes.set_xticks(range(len(names) + 1), [*names, trace["name"]])


def bar(axes, trace, stacked) -> None:
    """Bars on those drawn before, or from a base of their own."""
    lying = trace.get("orientation") == "h"
    names, values = (trace["y"], trace["x"]) if lying else (trace["x"], trace["y"])
    values = np.asarray(values, dtype=float)
    bottom = np.asarray(trace["base"], dtype=float) if "base" in trace else np.array([stacked.get(name, 0.0) for name in names])
    stacked.update({name: b + v for name, b, v in zip(names, bottom, values, strict=True)})
    marker = trace["marker"]
    look = {"color": marker["color"], "hatch": HATCHES[marker.get("pattern", {}).get("shape", "")], "label": trace.get("name")}
    if lying:
        axes.barh(names, values, left=bottom, **look)
    else:
        axes.bar(names, values, trace.get("width", 0.8), bottom=bottom, **look)


def heat_map(axes, trace) -> None:
    """Coloured cells with their stars."""
    low, high = trace["zmin"], trace["zmax"]
    image = axes.imshow(np.array(trace["z"], dtype=float), cmap=colours_from(low), vmin=low, vmax=high, aspect="auto", origin="lower")
    axes.set_xticks(range(len(trace["x"])), trace["x"], fontsize=7)
    axes.set_yticks(range(len(trace["y"])), trace["y"], fontsize=7)
    for row, texts in enumerate(trace.get("text", [])):
        for column, text in enumerate(texts):
            axes.text(column, row, text, ha="center", va="center", fontsize=7)
    axes.figure.colorbar(image, ax=axes, label=trace["colorbar"]["title"]["text"])


def colours_from(low: float) -> str:
    """The colours of matplotlib that :func:`rsc_core.report.figures.scale_of` has."""
    return "RdBu_r" if low < 0 else "Reds"


def scatter(axes, trace) -> None:
    """Lines, or markers with sizes, colours and texts of their own."""
    if "lines" in trace["mode"]:
        line = trace["line"]
        axes.plot(
            trace["x"],
            trace["y"],
            color=line.get("color"),
            lw=line.get("width", 1.5),
            marker="." if "markers" in trace["mode"] else None,
            label=trace.get("name"),
            zorder=1,
        )
        return
    marker = trace["marker"]
    colour = marker["color"]
    scale = {"cmap": colours_from(marker["cmin"]), "vmin": marker["cmin"], "vmax": marker["cmax"]} if "cmin" in marker else {}
    sizes = np.square(marker["size"]) * (0.6 if np.ndim(marker["size"]) else 0.3)
    drawn = axes.scatter(
        trace["x"],
        trace["y"],
        s=sizes,
        c=colour,
        label=trace.get("name"),
        linewidths=0,
        rasterized=len(trace["x"]) > 2000,
        zorder=2,
        **scale,
    )
    if scale:
        axes.figure.colorbar(drawn, ax=axes, label=marker["colorbar"]["title"]["text"])
        axes.tick_params(labelsize=7)
    if "text" in trace["mode"]:
        for x, y, text in zip(trace["x"], trace["y"], trace["text"], strict=True):
            axes.text(x, y, text, ha="center", va="center", fontsize=7, zorder=3)


def draw_cells(axes, part, labels: pd.Series) -> None:
    """All cells of a figure of the plane or of a section of tissue, coloured by cluster."""
    (places, rows), figure = part.whole, part.figure
    labels = labels.iloc[rows]
    size = max(0.3, min(12, 30_000 / max(1, len(rows))))
    for image in figure["layout"].get("images", []):
        pixels = image_pixels(image["source"])
        axes.imshow(pixels, extent=(0, image["sizex"], image["sizey"], 0))
    for look, name in zip(figures.styles(labels.cat.categories), labels.cat.categories, strict=True):
        mine = (labels == name).to_numpy()
        if mine.any():
            dots = {"c": look["colour"], "marker": MARKERS[look["symbol"]], "label": str(name)}
            axes.scatter(*places[mine].T, s=size, linewidths=0, rasterized=True, **dots)
    for name in "xy":
        getattr(axes, f"set_{name}label")(figure["layout"][f"{name}axis"]["title"]["text"])
        getattr(axes, f"set_{name}ticks")([])
    if figure["tissue"]:
        axes.set_aspect("equal")
        axes.set_ylim(places[:, 1].max() + 1, places[:, 1].min() - 1)
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False, fontsize=8, markerscale=max(1, 4 / size**0.5))


def image_pixels(source: str) -> np.ndarray:
    """The pixels of a png in a data URL."""
    import matplotlib.image

    return matplotlib.image.imread(io.BytesIO(base64.b64decode(source.partition(",")[2])))
