"""Quality of the cells, variation among them, integration, embeddings."""

from __future__ import annotations

import numpy as np
import pandas as pd

from rsc_core.report import figures, samples
from rsc_core.report.cells import METRICS
from rsc_core.report.page import Part, Section, as_table

TOP_ROWS = 50
MOST_QC_POINTS = 4_000  # of a sample
AXES = {"x": "total_counts", "y": "n_genes_by_counts"}
EMBEDDINGS = {
    "X_umap": "UMAP",
    "X_tsne": "t-SNE",
    "X_draw_graph_fa": "ForceAtlas2",
    "X_diffmap": "Diffusion map",
    "X_mde": "Minimum-distortion embedding",
}
HOW = {
    "X_umap": "Cells that are neighbours stay together; empty space between groups has no scale.",
    "X_tsne": "Cells that are neighbours stay together; sizes and distances of groups have no scale.",
    "X_draw_graph_fa": "Neighbours attract each other: a bridge is a gradual change from one group to the next.",
    "X_diffmap": "The slowest changes among the cells: tips of the arms are ends of trajectories.",
    "X_mde": "Neighbours are drawn close, other cells at least a little apart.",
}


def quality(qcs, look: dict[str, dict]) -> Section:
    """QC metrics of all cells before filtering with their limits, and why cells were removed."""
    parts, constant = [], []
    for key, metric in METRICS.items():
        values = {name: qc.obs[key].to_numpy(dtype=np.float64) for name, qc in qcs.items() if key in qc.obs and len(qc.obs)}
        if not values or key == "doublet_score":
            continue
        if not any(np.subtract(*np.quantile(v, [0.75, 0.25])) > 0 for v in values.values()):
            constant.append(metric.title)
            continue
        limits = {name: limits_of(qcs[name].uns.get("qc_thresholds", {}), metric.limits) for name in values}
        table = pd.DataFrame({name: np.quantile(v, [0, 0.25, 0.5, 0.75, 1]) for name, v in values.items()}).T
        table.columns = ["smallest", "25 %", "median", "75 %", "largest"]
        table["limits"] = [", ".join(f"{limit:.4g}" for limit in limits[name]) or "none" for name in table.index]
        figure = figures.violins(values, limits, {name: look[name]["colour"] for name in values}, metric.title, metric.log)
        note = "Width: how many cells; the box holds the middle half of them; dashed: the strictest limits."
        parts.append(Part(metric.title.capitalize(), figure, as_table(table.rename_axis("sample").reset_index()), note))
    parts += [part for name, qc in qcs.items() for part in (counts_and_genes(name, qc), doublets(name, qc)) if part]
    lost = samples.fates(qcs)
    if lost.shape[1] > 1:
        figure = figures.bars(lost, figures.styles(lost.columns), ("sample", "cells"), horizontal=True)
        table = as_table(lost.assign(removed=lost.sum(axis=1) - lost[samples.KEPT]).reset_index())
        note = "A removed cell counts for the first limit that it failed."
        parts.append(Part("Cells kept and removed", figure, table, note))
    how = (
        "Every cell that was read, before filtering: one bulge a sample is good, a second one near zero is debris. "
        "Dashed lines are limits; cells beyond them were removed."
    )
    if lost.shape[1] == 1:
        how += " No cell was removed."
    if constant:
        how += f" The same in half of the cells and more, and not drawn: {', '.join(constant)}."
    return Section("quality", "Quality of cells", how, parts)


def counts_and_genes(name: str, qc) -> Part | None:
    """Counts against genes of the cells of a sample, kept ones and removed ones; None for a sample without cells."""
    if not len(qc.obs):
        return None
    some = qc.obs.iloc[figures.sampled(len(qc.obs), MOST_QC_POINTS)]
    places = pd.DataFrame({"x": some["total_counts"] + 1, "y": some["n_genes_by_counts"] + 1}, index=some.index)
    kept = some["passes_qc"].to_numpy(dtype=bool)
    groups = [("kept", figures.COLOURS[0], places[kept]), ("removed", figures.COLOURS[5], places[~kept])]
    shapes = []
    limits = {axis: [limit + 1 for limit in limits_of(qc.uns.get("qc_thresholds", {}), METRICS[key].limits)] for axis, key in AXES.items()}
    ends = {axis: (min([places[axis].min(), *limits[axis]]), max([places[axis].max(), *limits[axis]])) for axis in AXES}
    for axis, other in (("x", "y"), ("y", "x")):
        for limit in limits[axis]:
            shapes.append(
                figures.dashed(**{f"{axis}0": limit, f"{axis}1": limit, f"{other}0": ends[other][0], f"{other}1": ends[other][1]})
            )
    x, y = ({"type": "log", "dtick": "D2", "title": {"text": title}} for title in ("1 + counts of a cell", "1 + expressed genes"))
    figure = figures.scatter([group for group in groups if len(group[2])], x, y, shapes)
    table = qc.obs.groupby("passes_qc", observed=True)[["total_counts", "n_genes_by_counts"]].median()
    table = table.rename(index={True: "kept", False: "removed"}).rename_axis("cells").reset_index()
    table.columns = ["cells", "median counts", "median genes"]
    note = "Cells at the lower left are empty droplets or debris; few genes for many counts is a cell of one product, or a broken one."
    note += "" if len(some) == len(qc.obs) else f" {len(some):,} of the sample's {len(qc.obs):,} cells are drawn."
    return Part(f"{name}: counts and genes", figure, as_table(table), note)


def doublets(name: str, qc) -> Part | None:
    """Histogram of the doublet scores of a sample; None where none were computed."""
    if "doublet_score" not in qc.obs:
        return None
    scores = qc.obs["doublet_score"].to_numpy(dtype=np.float64)
    limit = qc.uns.get("scrublet", {}).get("threshold")
    called = int(qc.obs["predicted_doublet"].astype(bool).sum()) if "predicted_doublet" in qc.obs else 0
    table = pd.DataFrame(
        {"cells": [len(scores)], "called doublets": [called], "threshold": [limit], "median score": [np.nanmedian(scores)]}
    )
    figure = figures.histogram(scores, limit, ("doublet score", "cells"))
    return Part(f"{name}: doublet scores", figure, as_table(table), "Two humps, with the dashed line between them, are a trustworthy call.")


def limits_of(thresholds: dict, names: tuple[str, ...]) -> list[float]:
    """The strictest lower and upper limit among those kept under some names, as values of the metric itself."""
    found = []
    for side, strictest in (("lower", max), ("upper", min)):
        values = [(np.expm1 if name.startswith("log1p_") else float)(thresholds.get(name, {}).get(side, np.nan)) for name in names]
        finite = [float(value) for value in values if np.isfinite(value) and (side == "upper" or value > 0)]
        found += [strictest(finite)] if finite else []
    return found


def variation(adata) -> Section:
    """Variable genes and the variance of the principal components."""
    parts = []
    spread = next((column for column in ("variances_norm", "residual_variances", "dispersions_norm") if column in adata.var), None)
    if spread and {"highly_variable", "means"} <= set(adata.var):
        seen = adata.var[(adata.var["means"] > 0) & adata.var[spread].notna()]
        points = pd.DataFrame({"x": np.log10(seen["means"]), "y": seen[spread]})
        chosen = seen["highly_variable"].to_numpy(dtype=bool)
        groups = [("other genes", "#7F7F7F", points[~chosen]), ("highly variable", figures.COLOURS[0], points[chosen])]
        axes = ({"title": {"text": "log10 of the mean count"}}, {"title": {"text": "variance beyond the expected"}})
        top = seen[chosen].sort_values(spread, ascending=False, kind="stable").head(TOP_ROWS)
        table = as_table(top[["means", spread]].rename_axis("gene").reset_index())
        note = f"{int(chosen.sum()):,} of {adata.n_vars:,} genes are highly variable. The table has the first {len(top)}."
        figure = figures.scatter([group for group in groups if len(group[2])], *axes)
        parts.append(Part("Variable genes", figure, table, note))
    ratio = np.asarray(adata.uns.get("pca", {}).get("variance_ratio", []))
    if ratio.size:
        number = np.arange(1, len(ratio) + 1)
        table = pd.DataFrame({"component": number, "share of variance": ratio, "sum of shares": np.cumsum(ratio)})
        figure = figures.curve(number, ratio, ("principal component", "share of variance"))
        note = "Components after the bend, where the curve gets flat, add little: --n_comps may end there."
        parts.append(Part("Variance of the principal components", figure, as_table(table), note))
    how = (
        "Genes high in the first figure differ more among cells than their abundance explains. The second curve should fall "
        "steeply and then flatten: components beyond the bend are mostly noise."
    )
    return Section("variation", "Variation", how, parts)


def embedding(adata, cells) -> Section:
    """Cells in the plane, to be coloured by what the reader wants to see."""
    parts, summary = [], as_table(medians(adata.obs))
    for key, title in EMBEDDINGS.items():
        if key in adata.obsm:
            places = np.asarray(adata.obsm[key], dtype=np.float64)
            places = places[:, 1:3] if key == "X_diffmap" and places.shape[1] > 2 else places[:, :2]  # the first is constant
            part = cells.part(title, summary, places, np.arange(adata.n_obs), cells.plane, (f"{title} 1", f"{title} 2"))
            part.note = f"{HOW[key]} {part.note}".strip()
            parts.append(part)
    how = (
        "Near cells are alike; distances between far groups and sizes of groups mean little. Colour by a column, or by a gene: "
        "type its name."
    )
    return Section("embedding", "Embedding", how, parts)


def medians(obs: pd.DataFrame, by: str = "leiden") -> pd.DataFrame:
    """Number of cells and medians of the QC metrics of each cluster."""
    groups = obs.groupby(by, observed=False)
    table = pd.DataFrame({"cells": groups.size()})
    for key, metric in METRICS.items():
        if key in obs:
            table[f"median {metric.title}"] = groups[key].median()
    return table.rename_axis("cluster").reset_index()
