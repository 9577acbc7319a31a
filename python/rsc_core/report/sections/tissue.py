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
TITLES = {
    "moran": "Moran's I",
    "geary": "Geary's C",
    "sepal": "sepal scores",
    "nhood_enrichment": "neighbourhood enrichment",
    "interaction_matrix": "edges between clusters",
    "centrality_scores": "centrality of the clusters",
    "co_occurrence": "co-occurrence",
    "ripley": "Ripley's L",
    "ligrec": "ligand-receptor pairs",
}
HOW = {
    "moran": "Genes with the smoothest pattern over the tissue: 1 is smooth, 0 is none.",
    "geary": "Genes whose neighbours are most alike: 0 is smooth, 1 is no pattern.",
    "sepal": "Genes that a diffusion would need longest to even out: a higher score is a clearer pattern.",
    "nhood_enrichment": "Red: cells of the two clusters are neighbours more often than in shuffled tissue; blue: more seldom.",
    "interaction_matrix": "How many edges of the graph lead from cells of the row's cluster to cells of the column's.",
    "centrality_scores": "Closeness: few steps to all other cells; clustering: neighbours know each other; degree: touches many cells.",
    "co_occurrence": "Above 1: the first cluster is found more often than elsewhere within this distance of a cell of the second.",
    "ripley": "A curve that rises faster than the others is a cluster whose cells lie together.",
    "ligrec": "A large dot: higher than between shuffled clusters (small p); red: strongly expressed.",
}
TOP_GENES = 20
ORDER = list(HOW)


def spatial(adata, cells, tables: dict[str, pd.DataFrame]) -> Section | None:
    """Sections of tissue by cluster, and what varies over them; None without coordinates."""
    parts = []
    for sample, (rows, drawn) in cells.sections.items():
        sizes = adata.obs.iloc[rows]["leiden"].value_counts(sort=False).rename_axis("cluster").rename("cells").reset_index()
        image = image_of(adata.uns.get("spatial", {}).get(sample))
        heading = f"{sample}: clusters in the tissue"
        part = cells.part(heading, as_table(sizes), cells.tissue[:, :2], rows, drawn, tissue=True, image=image)
        part.note = f"Every cell at its place. Colour by a gene or a source to see where it is high. {part.note}".strip()
        parts.append(part)
    place = {kind: number for number, kind in enumerate(ORDER)}
    found = [(*name.rpartition(".")[::2], name) for name, table in tables.items() if len(table)]
    order = list(cells.sections)
    for sample, kind, name in sorted((f for f in found if f[0] in order), key=lambda f: (order.index(f[0]), place.get(f[1], len(place)))):
        parts += statistic(sample, kind, name, tables[name])
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
    rows = f"The table has the first {len(best):,} of {len(table):,} rows of tables/{name}.csv." if len(best) < len(table) else ""
    figure = FIGURES.get(kind, lambda table: None)(table)
    return [Part(heading, figure, as_table(best), f"{HOW.get(kind, '')} {rows}".strip())]


def genes(table: pd.DataFrame) -> dict:
    """The first genes of a table by its first number."""
    column = table.columns[1]
    some = table.head(TOP_GENES).set_index("gene")[[column]]
    return figures.bars(some, figures.styles([column]), ("gene", column.replace("_", " ")), horizontal=True)


def edges(table: pd.DataFrame) -> dict:
    """Edges between clusters as a heat map."""
    wide = table.pivot(index="cluster_1", columns="cluster_2", values="edges")
    order = list(dict.fromkeys(table["cluster_1"]))
    return figures.heat_map(wide.loc[order, order], None, ("cluster", "cluster", "edges"))


def centrality(table: pd.DataFrame) -> dict:
    """The three scores of each cluster as a heat map."""
    scores = table.set_index("cluster").rename(columns=lambda name: name.replace("_", " "))
    return figures.heat_map(scores, None, ("score", "cluster", "score"))


def ripley(table: pd.DataFrame) -> dict | None:
    """L of each cluster over the distance; None where only F and G were computed."""
    mine = table[table["statistic"] == "L"]
    if not len(mine):
        return None
    wide = mine.pivot(index="distance", columns="cluster", values="value")
    return figures.lines(wide[list(dict.fromkeys(mine["cluster"]))], ("distance", "Ripley's L"))


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


FIGURES = {
    "ligrec": pairs,
    "nhood_enrichment": enrichment,
    "co_occurrence": occurrence,
    "interaction_matrix": edges,
    "centrality_scores": centrality,
    "ripley": ripley,
    **dict.fromkeys(("moran", "geary", "sepal"), genes),
}
