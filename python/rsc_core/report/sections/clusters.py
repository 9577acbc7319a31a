"""Clusters: sizes, composition, resolutions, markers, activities."""

from __future__ import annotations

import pandas as pd

from rsc_core.report import figures
from rsc_core.report.page import Part, Section, as_table

TOP_MARKERS = 5  # genes of a cluster in the dot plot
MOST_DOTS = 75  # genes in the dot plot
TABLE_MARKERS = 20  # genes of a cluster in the table
MOST_SOURCES = 60
SIGNIFICANT = 0.05


def clusters(adata, look: dict[str, dict]) -> Section:
    """Sizes of the clusters, of what samples they consist, and how they split with the resolution."""
    order = list(adata.obs["sample"].astype("category").cat.categories)
    count = pd.crosstab(adata.obs["leiden"], adata.obs["sample"].astype("category"), dropna=False)[order]
    share = 100 * count / count.sum()
    table = count.rename_axis(None, axis=1).rename_axis("cluster").reset_index()
    shares = share.rename_axis(None, axis=1).rename_axis("cluster").reset_index()
    parts = [
        Part(
            "Cells of each cluster",
            figures.bars(count, [look[str(name)] for name in order], ("cluster", "cells")),
            as_table(table),
            "The parts of a bar are the samples.",
        ),
        Part(
            "Clusters of each sample (%)",
            figures.bars(share.T, figures.styles(count.index), ("sample", "share of the sample's cells (%)"), horizontal=True),
            as_table(shares),
            "Replicates should look alike; a cluster that only one of them has wants a look at its quality and its batch.",
        ),
        *resolutions(adata),
    ]
    how = "Clusters are numbered by size. One that consists of a single sample may be that sample's own cell type, or a batch effect."
    return Section("clusters", "Clusters", how, parts)


def resolutions(adata) -> list[Part]:
    """A table of all clusterings, and for each method the tree of those with several resolutions."""
    keys = [key for key in adata.obs if key in adata.uns and "params" in adata.uns[key] and key.startswith(("leiden", "louvain", "kmeans"))]
    rows = [(key, adata.uns[key]["params"].get("resolution"), adata.obs[key].nunique(), adata.uns[key].get("modularity")) for key in keys]
    if not rows:
        return []
    table = as_table(pd.DataFrame(rows, columns=["column of obs", "resolution", "clusters", "modularity"]))
    parts = []
    for method in ("leiden", "louvain"):
        several = sorted((row for row in rows if row[0].startswith(f"{method}_") and row[1] is not None), key=lambda row: row[1])
        if len(several) > 1:
            labels = adata.obs[[row[0] for row in several]]
            note = "A line is drawn where at least 5 % of the lower cluster come from the upper one; its width is that share."
            parts.append(Part(f"{method.capitalize()} clusters from coarse to fine", figures.tree(labels), table, note))
    return parts or [Part("Resolutions", table=table)]


def best_genes(tables: dict[str, pd.DataFrame], most: int) -> list[str]:
    """Marker genes, the best ones of every cluster first."""
    found = [table.sort_values("rank", kind="stable")["gene"] for name, table in sorted(tables.items()) if name.startswith("markers_")]
    return list(dict.fromkeys(pd.concat(found)))[:most] if found else []


def markers(tables: dict[str, pd.DataFrame], means: pd.DataFrame) -> Section | None:
    """The best genes of each cluster; None where there is no table."""
    parts = []
    for name in sorted((n for n in tables if n.startswith("markers_") and len(tables[n])), key=lambda n: n != "markers_wilcoxon"):
        table, method = tables[name], name.removeprefix("markers_")
        kinds = list(dict.fromkeys(table["group"]))
        n_top = max(1, min(TOP_MARKERS, MOST_DOTS // len(kinds)))
        ranked = table.sort_values("rank", kind="stable").groupby("group", sort=False)
        first = ranked.head(n_top)
        genes = list(dict.fromkeys(gene for kind in kinds for gene in first.loc[first["group"] == kind, "gene"]))[:MOST_DOTS]
        top = ranked.head(TABLE_MARKERS)
        top = top.assign(place=top["group"].map({kind: i for i, kind in enumerate(kinds)})).sort_values(["place", "rank"], kind="stable")
        shown = as_table(top.drop(columns="place"))
        some = table[table["gene"].isin(genes)]
        note = f"The table has the first {TABLE_MARKERS} genes of each cluster, tables/{name}.csv has all."
        figure = None
        if {"pct_in", "log2_fold_change"} <= set(table):
            share, change = (
                some.pivot(index="group", columns="gene", values=value).loc[kinds, genes] for value in ("pct_in", "log2_fold_change")
            )
            titles = ("gene", "cluster", "share of the cluster's cells that express the gene", "log2 fold change")
            figure = figures.dots(share, change, titles)
            note = f"{n_top} genes of each cluster, {len(genes)} in all; colours end at a log2 fold change of {figures.MOST_FOLDS}. {note}"
        parts.append(Part(method, figure, shown, note))
    if parts and len(means.columns) and len(means) > 1:
        genes = [gene for gene in best_genes(tables, MOST_DOTS) if gene in means]
        genes.sort(key=lambda gene: means[gene].to_numpy().argmax())  # stable: a diagonal, the best gene of a cluster first
        scaled = ((means[genes] - means[genes].mean()) / means[genes].std(ddof=0).replace(0, 1)).fillna(0)
        figure = figures.heat_map(scaled, None, ("gene", "cluster", "z of the mean"))
        table = as_table(means[genes].rename_axis("cluster").reset_index())
        parts.append(
            Part(
                "Mean expression of the best genes",
                figure,
                table,
                "Means of log-normalised values; colours compare the clusters of a gene.",
            )
        )
    how = (
        "A good marker is a large red dot in its own cluster and small or blue in the others. A large dot: many cells of the cluster "
        "express the gene; red: more than the other cells do. P-values are computed on the cells that made the clusters: they only rank."
    )
    return Section("markers", "Marker genes", how, parts) if parts else None


def activity(tables: dict[str, pd.DataFrame]) -> Section | None:
    """Mean activity of each source in each cluster; None where there is no table."""
    parts = []
    for name in sorted(n for n in tables if n.startswith("activity_") and len(tables[n])):
        table = tables[name]
        order = list(dict.fromkeys(table["cluster"]))
        scores = table.pivot(index="cluster", columns="source", values="mean_score").loc[order]
        kept = scores.var().fillna(0).sort_values(ascending=False, kind="stable").index[:MOST_SOURCES]
        note = "Sources that differ most between the clusters come first."
        note += "" if len(kept) == scores.shape[1] else f" {len(kept)} of {scores.shape[1]} are drawn."
        marks = None
        if "adjusted_p_value" in table:
            marks = table.pivot(index="cluster", columns="source", values="adjusted_p_value").loc[order, kept] < SIGNIFICANT
        figure = figures.heat_map(scores[kept], marks, ("source", "cluster", "mean score"))
        parts.append(Part(name.removeprefix("activity_"), figure, as_table(table), note))
    how = (
        f"Red: the source's targets go up in the cluster's cells, blue: down. A star: the cluster differs from the other cells "
        f"(adjusted p below {SIGNIFICANT}). Embeddings and tissue can be coloured by a source: type its name."
    )
    return Section("activity", "Activity", how, parts) if parts else None
