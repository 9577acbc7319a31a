"""The statistics of SPATIAL: each runs one function, keeps its result in uns as a file takes it, and gives a table."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd

from rsc_core.gr._ligrec import NothingToTest, complexes, genes_of, ligrec, read_interactions, storable_ligrec, tidy
from rsc_core.gr._nhood import centrality_scores, interaction_matrix, nhood_enrichment
from rsc_core.gr._patterns import MODES, co_occurrence, ripley
from rsc_core.gr._sepal import stored_sepal
from rsc_core.gr._slots import coordinates_of

LIGREC_COLUMNS = ("source", "target", "cluster_1", "cluster_2", "mean", "p_value", "adjusted_p_value")


def between_clusters(names, **matrices) -> pd.DataFrame:
    """A row for each pair of clusters, with the values of the matrices."""
    first, second = np.repeat(names, len(names)), np.tile(names, len(names))
    return pd.DataFrame({"cluster_1": first, "cluster_2": second} | {name: matrix.ravel() for name, matrix in matrices.items()})


def run_nhood_enrichment(adata, key, options) -> pd.DataFrame:
    """Table: cluster_1, cluster_2, edges, z_score, p_value."""
    nhood_enrichment(adata, key, n_perms=options["n_perms"], seed=options["seed"])
    found = adata.uns[f"{key}_nhood_enrichment"]
    return between_clusters(adata.obs[key].cat.categories, edges=found["count"], z_score=found["zscore"], p_value=found["pvalue"])


def run_interaction_matrix(adata, key, options) -> pd.DataFrame:
    """Table: cluster_1, cluster_2, edges."""
    interaction_matrix(adata, key)
    return between_clusters(adata.obs[key].cat.categories, edges=adata.uns[f"{key}_interactions"])


def run_centrality_scores(adata, key, options) -> pd.DataFrame:
    """Table: cluster and the three scores."""
    centrality_scores(adata, key)
    return adata.uns[f"{key}_centrality_scores"].rename_axis("cluster").reset_index()


def run_co_occurrence(adata, key, options) -> pd.DataFrame:
    """Table: cluster_1 (that occurs), cluster_2 (near which), distance, ratio."""
    co_occurrence(adata, key)
    found, names = adata.uns[f"{key}_co_occurrence"], list(adata.obs[key].cat.categories)
    n, distances = len(names), found["interval"][1:]
    pairs = between_clusters(np.array(names, dtype=object))
    table = pairs.loc[pairs.index.repeat(len(distances))].reset_index(drop=True)
    return table.assign(distance=np.tile(distances, n * n), ratio=found["occ"].ravel())


def run_ripley(adata, key, options) -> pd.DataFrame:
    """Table: statistic (F, G, L), cluster, distance, value, p_value."""
    tables = []
    for mode in MODES:
        ripley(adata, key, mode=mode, n_simulations=options["n_perms"], seed=options["seed"])
        found = adata.uns[f"{key}_ripley_{mode}"]
        for name in (f"{mode}_stat", "sims_stat"):
            found[name].index = found[name].index.astype(str).astype(object)
        stat = found[f"{mode}_stat"]
        columns = {"statistic": mode, "cluster": stat[key].astype(str), "distance": stat["bins"], "value": stat["stats"]}
        tables.append(pd.DataFrame(columns | {"p_value": found["pvalues"].ravel()}))
    return pd.concat(tables, ignore_index=True)


def run_sepal(adata, key, options) -> pd.DataFrame:
    """Table: gene, sepal_score."""
    graph = adata.obsp["spatial_connectivities"]
    most = int(np.diff(graph.indptr).max())
    table = adata.uns["sepal_score"] = stored_sepal(options["values"], graph, coordinates_of(adata, "spatial"), most)
    return table.rename_axis("gene").reset_index()


def run_ligrec(adata, key, options) -> pd.DataFrame:
    """Table of the tested pairs, empty with a warning where there is nothing to test."""
    chosen = {name: options[name] for name in ("interactions", "n_perms", "seed", "complex_policy", "corr_axis")}
    axis = chosen.pop("corr_axis")
    try:
        genes = genes_of(complexes(read_interactions(chosen["interactions"]), adata.var_names))
        some = ad.AnnData(X=options["values"].of(genes), obs=adata.obs[[key]], var=adata.var.iloc[genes])
        result = ligrec(some, key, **chosen, copy=True)
    except NothingToTest as error:
        options["task"].warn(f"ligrec: {error.cause} The table is empty.", error.remedy)
        return pd.DataFrame(columns=list(LIGREC_COLUMNS))
    adata.uns[f"{key}_ligrec"] = storable_ligrec(result)
    return tidy(result, axis)


# What runs, and how many clusters it needs.
STATISTICS = {
    "nhood_enrichment": (run_nhood_enrichment, 2),
    "interaction_matrix": (run_interaction_matrix, 1),
    "centrality_scores": (run_centrality_scores, 1),
    "co_occurrence": (run_co_occurrence, 1),
    "ripley": (run_ripley, 1),
    "sepal": (run_sepal, 0),
    "ligrec": (run_ligrec, 1),
}
