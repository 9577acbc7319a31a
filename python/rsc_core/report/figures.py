"""Figures of the report as HTML pieces; plotly's library is put into the page once, by the template."""

from __future__ import annotations

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from rsc_core import rng

# Okabe & Ito's colours, told apart with every kind of colour blindness; repeated with other symbols past eight.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#999999")
SYMBOLS = ("circle", "square", "diamond", "cross")
MOST_POINTS = 50_000


def html(figure: go.Figure, name: str) -> str:
    """A figure as a piece of HTML with a fixed id, so that the same data give the same page."""
    figure.update_layout(template="plotly_white", margin={"l": 60, "r": 20, "t": 30, "b": 50}, height=460, paper_bgcolor="rgba(0,0,0,0)")
    # plotly's toolbar has, by default, a button that sends the figure's data to plotly's server.
    config = {"displaylogo": False, "responsive": True, "showSendToCloud": False}
    return figure.to_html(full_html=False, include_plotlyjs=False, div_id=f"figure-{name}", config=config)


def sampled(n_points: int) -> np.ndarray:
    """Positions of at most ``MOST_POINTS`` points, always the same ones, in rising order."""
    if n_points <= MOST_POINTS:
        return np.arange(n_points)
    return np.sort(rng.permutation(0, "sample", n_points, 0)[:MOST_POINTS])


def histogram(values: dict[str, np.ndarray], name: str, title: str, limits: dict[str, list[float]]) -> str:
    """Histograms of one quantity, a trace a sample, with the sample's thresholds as dashed lines of its colour."""
    figure = go.Figure()
    for number, (sample, numbers) in enumerate(values.items()):
        colour = COLOURS[number % len(COLOURS)]
        figure.add_histogram(x=numbers, name=sample, opacity=0.6, nbinsx=60, marker_color=colour)
        for limit in limits.get(sample, []):
            figure.add_vline(x=limit, line_dash="dash", line_color=colour)
    figure.update_layout(barmode="overlay", xaxis_title=title, yaxis_title="cells")
    return html(figure, name)


def categories(places: np.ndarray, labels: pd.Series, name: str, axes=("UMAP 1", "UMAP 2"), equal=False) -> str:
    """Cells in the plane, coloured by a categorical column."""
    kept = sampled(len(places))
    places, labels = places[kept], labels.iloc[kept].astype("category")
    figure = go.Figure()
    for number, category in enumerate(labels.cat.categories):
        mine = (labels == category).to_numpy()
        marker = {"size": 4, "color": COLOURS[number % 8], "symbol": SYMBOLS[number // 8 % 4], "opacity": 0.75}
        figure.add_scattergl(x=places[mine, 0], y=places[mine, 1], mode="markers", name=str(category), marker=marker)
    figure.update_layout(xaxis_title=axes[0], yaxis_title=axes[1], legend={"itemsizing": "constant"})
    if equal:
        figure.update_yaxes(scaleanchor="x", autorange="reversed" if np.nanmin(places[:, 1]) >= 0 else True)
    return html(figure, name)


def heat_map(table: pd.DataFrame, name: str, colour: str, diverging=False) -> str:
    """A table as coloured cells; diverging scales have their middle at 0."""
    scale = {"colorscale": "RdBu_r", "zmid": 0} if diverging else {"colorscale": "Viridis"}
    figure = go.Figure(
        go.Heatmap(
            z=table.to_numpy(), x=[str(c) for c in table.columns], y=[str(i) for i in table.index], colorbar={"title": colour}, **scale
        )
    )
    figure.update_xaxes(type="category")
    figure.update_yaxes(type="category", autorange="reversed")
    return html(figure, name)


def lines(x, y, name: str, titles: tuple[str, str]) -> str:
    """One line with markers."""
    figure = go.Figure(go.Scatter(x=x, y=y, mode="lines+markers", line_color=COLOURS[0]))
    figure.update_layout(xaxis_title=titles[0], yaxis_title=titles[1])
    return html(figure, name)


def bars(table: pd.DataFrame, name: str, titles: tuple[str, str]) -> str:
    """Stacked bars: a bar for each row, a part for each column."""
    figure = go.Figure()
    for number, column in enumerate(table.columns):
        figure.add_bar(x=[str(i) for i in table.index], y=table[column], name=str(column), marker_color=COLOURS[number % 8])
    figure.update_layout(barmode="stack", xaxis_title=titles[0], yaxis_title=titles[1])
    figure.update_xaxes(type="category")
    return html(figure, name)
