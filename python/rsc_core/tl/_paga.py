"""Partition-based graph abstraction: how strongly are groups of cells connected?"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from rsc_core import backend


def paga(adata, groups, *, neighbors_key=None):
    """Connections between groups of cells beyond those expected by chance (Wolf 2019, doi:10.1186/s13059-019-1663-x; model v1.2).

    With e_ij the neighbours in group j of the cells of group i, n_i cells and e_i the neighbours of all of them, the
    connectivity is (e_ij + e_ji) / ((e_i n_j + e_j n_i) / (n - 1)), at most 1: as many as by chance, or more. 0: none.

    Parameters
    ----------
    adata
        With a neighbour graph.
    groups
        Column of obs with categories.
    neighbors_key
        Key of uns with the graph; by default ``neighbors``.

    Returns
    -------
    None. Sets ``uns['paga']`` with ``connectivities`` (CSR float64, symmetric, groups x groups in the order of the categories),
    ``connectivities_tree`` (the strongest edges that join all, upper or lower half) and ``groups``, and
    ``uns[groups + '_sizes']``. scanpy's within 1e-12. A group without cells has no connections.

    Raises
    ------
    ValueError
        The column is missing, not categorical, or has cells without a category.
    """
    if groups not in adata.obs or adata.obs[groups].dtype.name != "category":
        raise ValueError(f"obs[{groups!r}] must be a column with categories; obs has {sorted(adata.obs.columns)}")
    key = neighbors_key or "neighbors"
    if key not in adata.uns:
        raise KeyError(f"there is no uns[{key!r}]; run pp.neighbors first")
    codes = adata.obs[groups].cat.codes.to_numpy().astype(np.int64)
    if (codes < 0).any():
        raise ValueError(f"obs[{groups!r}] has no category for the cell in row {int(np.argmax(codes < 0))}; give every cell one")
    graph = adata.obsp[adata.uns[key]["distances_key"]]
    connected, sizes = group_connectivities(*(backend.to_host(part) for part in (graph.indptr, graph.indices)), codes)
    adata.uns["paga"] = {"connectivities": connected, "connectivities_tree": strongest_tree(connected), "groups": groups}
    adata.uns[f"{groups}_sizes"] = sizes


def group_connectivities(indptr, indices, codes):
    """The connectivities of groups 0, 1, ..., CSR, and their sizes, from a graph with an entry for each neighbour, on the host."""
    sizes = np.bincount(codes)
    n_groups, n_cells = len(sizes), len(codes)
    pair = np.repeat(codes, np.diff(indptr)) * n_groups + codes[indices]
    edges = np.bincount(pair, minlength=n_groups**2).reshape(n_groups, n_groups).astype(np.float64)
    total = edges.sum(axis=1)
    both = edges + edges.T
    np.fill_diagonal(both, 0)
    by_chance = (np.outer(total, sizes) + np.outer(sizes, total)) / max(n_cells - 1, 1)
    share = np.divide(both, by_chance, out=np.zeros_like(both), where=by_chance > 0)
    return sp.csr_matrix(np.minimum(share, 1)), sizes


def strongest_tree(connected):
    """The spanning tree (forest) of the smallest sum of 1 / connectivity, with the connectivities as its entries."""
    inverse = connected.copy()
    inverse.data = 1 / inverse.data
    return sp.csr_matrix(connected.multiply(sp.csgraph.minimum_spanning_tree(inverse).astype(bool)))
