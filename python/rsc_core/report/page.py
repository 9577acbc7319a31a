"""The page: sections of figures and tables, put together so that it needs no network."""

from __future__ import annotations

import dataclasses
import json
from importlib import resources
from pathlib import Path

import jinja2
import markupsafe
import numpy as np
import pandas as pd
import plotly.offline

from rsc_core import __version__

TEXT_COLUMNS = ("group", "cluster", "cluster_1", "cluster_2", "gene", "source", "target", "sample", "niche")


@dataclasses.dataclass
class Table:
    """Names of the columns, whether each is text, and cells as text."""

    columns: list[dict]
    rows: list[list[str]]


@dataclasses.dataclass
class Part:
    """A figure, a table, or both under a heading.

    ``colour`` is the column that cells are coloured by at first; empty: the clusters. ``paragraphs`` is text to be read or
    copied; ``whole`` are places (n, 2) and rows of all cells of a figure that may draw only some of them.
    """

    heading: str
    figure: dict | None = None
    table: Table | None = None
    note: str = ""
    paragraphs: list[str] = dataclasses.field(default_factory=list)
    whole: tuple[np.ndarray, np.ndarray] | None = None
    colour: str = ""


@dataclasses.dataclass
class Section:
    """A part of the page."""

    key: str
    title: str
    how: str
    parts: list[Part] = dataclasses.field(default_factory=list)
    warnings: list[str] = dataclasses.field(default_factory=list)


def as_table(frame: pd.DataFrame) -> Table:
    """A DataFrame as text: floats with four significant digits, nothing for what is missing."""
    is_text = [not pd.api.types.is_numeric_dtype(dtype) for dtype in frame.dtypes]
    columns = [{"name": str(name), "is_text": text} for name, text in zip(frame.columns, is_text, strict=True)]
    return Table(columns, [[_shown(value) for value in row] for row in frame.itertuples(index=False, name=None)])


def _shown(value) -> str:
    if isinstance(value, (float, np.floating)):
        if np.isnan(value):
            return ""
        return f"{value:,.0f}" if abs(value) >= 1e4 else f"{value:.4g}"
    if isinstance(value, (int, np.integer)) and not isinstance(value, (bool, np.bool_)):
        return f"{value:,}"
    return "" if value is None or value is pd.NA else str(value)


def as_json(value: dict) -> markupsafe.Markup:
    """A value for a script element: no text in it can close the element or start another."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return markupsafe.Markup(text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e"))


def render(title: str, sections: list[Section], cells: dict) -> str:
    """The whole page, self-contained; ``cells`` is :meth:`rsc_core.report.cells.Cells.data`."""
    folder = resources.files("rsc_core.report") / "templates"
    style, script, page = ((folder / f"report.{end}").read_text(encoding="utf-8") for end in ("css", "js", "html.j2"))
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, undefined=jinja2.StrictUndefined)
    environment.filters["as_json"] = as_json
    template = environment.from_string(page)
    texts = {"css": style, "js": script, "plotly": plotly.offline.get_plotlyjs(), "version": __version__}
    return template.render(title=title, sections=sections, cells=cells, **texts)


def read_tables(folder) -> dict[str, pd.DataFrame]:
    """The csv tables of a folder by name, names of clusters and genes as text."""
    text = dict.fromkeys(TEXT_COLUMNS, str)
    return {path.stem: pd.read_csv(path, dtype=text, keep_default_na=False, na_values=[""]) for path in sorted(Path(folder).glob("*.csv"))}
