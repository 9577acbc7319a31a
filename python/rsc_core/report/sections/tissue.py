"""Sections of tissue: clusters in place, and what varies over them."""

from __future__ import annotations

import numpy as np
import pandas as pd

from rsc_core.report import figures
from rsc_core.report.page import Part, Section, as_table

TOP_ROWS = 50
TOP_PAIRS = 20  # ligand-receptor pairs in the dot plot
MOST_CLUSTER_PAIRS = 40
NOT_SHOWN = ("var_norm", "var_sim", "pval_z_sim", "pval_z_sim_fdr_bh")
TITLES = {"moran": "Moran's I", "geary": "Geary's C", "ligrec": "ligand-receptor pairs"}


def spatial(adata, cells, tables: dict[str, pd.DataFrame]) -> Section | None:
    """Sections of tissue by cluster, and what varies over them; None without coordinates."""
    parts = []
    for sample, (rows, drawn) in cells.sections.items():
        sizes = adata.obs.iloc[rows]["leiden"].value_counts(sort=False).rename_axis("cluster").rename("cells").reset_index()
        image = image_of(adata.uns.get("spatial", {}).get(sample))
        heading = f"{sample}: clusters in the tissue"
        parts.append(cells.part(heading, as_table(sizes), cells.tissue[:, :2], rows, drawn, tissue=True, image=image))
    for name, table in tables.items():
        sample, _, kind = name.rpartition(".")
        if sample in cells.sections and len(table):
            parts += statistic(sample, kind, name, table)
    how = (
        "Clusters that follow the tissue are its anatomy. Moran's I near 1 is a smooth pattern, near 0 none. A ligand-receptor pair has a "
        "small p-value where its mean is higher between these two clusters than between clusters of shuffled cells."
    )
    return Section("spatial", "Tissue", how, parts) if parts else None


def image_of(library) -> dict | None:
    """The low-resolution image of a section as a layer; None where there is none."""
    if not library or "lowres" not in library.get("images", {}):
        return None
    scale = float(library.get("scalefactors", {}).get("tissue_lowres_scalef", 1))
    return figures.picture(np.asarray(library["images"]["lowres"]), scale)


def statistic(sample: str, kind: str, name: str, table: pd.DataFrame) -> list[Part]:
    """The figure and table of one statistic of one section."""
    heading = f"{sample}: {TITLES.get(kind, kind.replace('_', ' '))}"
    best = table.head(TOP_ROWS)[[column for column in table if column not in NOT_SHOWN]]
    note = f"The first {len(best):,} of {len(table):,} rows of tables/{name}.csv."
    figure = {"ligrec": pairs, "nhood_enrichment": enrichment, "co_occurrence": occurrence}.get(kind, lambda table: None)(table)
    return [Part(heading, figure, as_table(best), note)]


def pairs(table: pd.DataFrame) -> dict | None:
    """Ligand-receptor pairs by pairs of clusters: size by p-value, colour by mean."""
    named = table.assign(pair=table["source"] + " - " + table["target"], between=table["cluster_1"] + " to " + table["cluster_2"]).dropna(
        subset=["p_value", "mean"]
    )
    best = named.sort_values(["p_value", "mean"], ascending=[True, False], kind="stable")
    wanted = list(dict.fromkeys(best["pair"]))[:TOP_PAIRS]
    some = named[named["pair"].isin(wanted)]
    where = list(dict.fromkeys(best.loc[best["pair"].isin(wanted), "between"]))[:MOST_CLUSTER_PAIRS]
    some = some[some["between"].isin(where)]
    if not len(some):
        return None
    size = (-np.log10(some["p_value"].clip(lower=1e-3)) / 3).rename("size")
    wide = [some.assign(value=v).pivot(index="pair", columns="between", values="value").loc[wanted, where] for v in (size, some["mean"])]
    return figures.dots(*wide, ("clusters of ligand and receptor", "pair", "-log10 p over 3", "mean"))


def enrichment(table: pd.DataFrame) -> dict:
    """z of the neighbourhoods: red where cells of two clusters are neighbours more often than by chance."""
    z = table.pivot(index="cluster_1", columns="cluster_2", values="z_score")
    order = list(dict.fromkeys(table["cluster_1"]))
    return figures.heat_map(z.loc[order, order], None, ("cluster", "cluster", "z"))


def occurrence(table: pd.DataFrame) -> dict:
    """For the largest deviation of each cluster, its curve over the distance."""
    wide = table.assign(pair=table["cluster_1"] + " given " + table["cluster_2"]).pivot(index="distance", columns="pair", values="ratio")
    most = (wide - 1).abs().max().sort_values(ascending=False, kind="stable").index[:8]
    return figures.lines(wide[list(most)], ("distance", "co-occurrence over that of chance"))
