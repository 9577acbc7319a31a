"""Which clusters lie beside which: edges between clusters, against permuted clusters; centralities of clusters."""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np
import pandas as pd
import scipy.sparse as sp

from rsc_core import backend
from rsc_core.errors import InvalidInput
from rsc_core.gr._permute import orders
from rsc_core.gr._slots import graph_of, groups_of, libraries_of, place_of
from rsc_core.kernels import nhood as kernels

SCORES = ("closeness_centrality", "average_clustering", "degree_centrality")
ORDER_SIZE = 1 << 25  # labels of the permutations that are held at once
CACHED_SIZE = 1 << 21  # those on the host, whose caches hold so many
LEVELS_AT_ONCE = 1 << 27  # steps of cells that are held at once


class NhoodEnrichmentResult(NamedTuple):
    """Result of :func:`nhood_enrichment`: arrays (clusters, clusters)."""

    zscore: np.ndarray
    counts: np.ndarray
    pvalues: np.ndarray


def nhood_enrichment(adata, cluster_key, *, library_key=None, connectivity_key="spatial_connectivities", n_perms=1000, seed=0, copy=False):
    """Do cells of two clusters lie side by side more often than chance would have it?

    z = (count - mean of the permuted counts) / their standard deviation, count: edges from cluster i to cluster j.
    Above 0: more often than chance; below 0: less often.

    Parameters
    ----------
    adata
        AnnData with a graph; where X lies decides where the work runs. Cells without a cluster are left out.
    cluster_key
        Column of obs with the clusters.
    library_key
        Column of obs with the libraries: clusters are permuted within each.
    connectivity_key
        Graph in ``obsp``, CSR (cells, cells); its stored edges count, whatever their weights.
    n_perms, seed
        Of the permutations.
    copy
        Return the result instead of keeping it in ``uns['<cluster_key>_nhood_enrichment']`` (zscore, count, pvalue).

    Returns
    -------
    None, or :class:`NhoodEnrichmentResult`: ``zscore`` float64, NaN where the permuted counts do not vary; ``counts``
    int64; ``pvalues`` = (1 + permutations as far out, on the observed side) / (n_perms + 1). Rows and columns are the
    clusters in the order of their categories; those without a cell are left out.

    Raises
    ------
    InvalidInput
        When the graph or a column is missing, or there are fewer than two clusters.

    Notes
    -----
    Counts are whole numbers and permutations come from counters: equal bytes on CPU and GPU. Counts equal squidpy 1.8; its
    z-scores are of other permutations. Palla et al. 2022, Nat. Methods 19:171.
    """
    if n_perms < 1:
        raise ValueError(f"n_perms is {n_perms}; it must be at least 1")
    graph, clusters, kept = _labelled(adata, cluster_key, connectivity_key)
    if len(clusters.categories) < 2:
        raise InvalidInput(
            f"{cluster_key} has {len(clusters.categories)} cluster; neighbourhoods of at least two are compared.",
            "Raise the resolution of the clusters, or name another column.",
        )
    libraries = libraries_of(adata, library_key)
    result = enrichment(
        graph, clusters.codes, len(clusters.categories), n_perms, seed, None if libraries is None else libraries[kept], place_of(adata)
    )
    if copy:
        return result
    adata.uns[f"{cluster_key}_nhood_enrichment"] = {"zscore": result.zscore, "count": result.counts, "pvalue": result.pvalues}
    return None


def _labelled(adata, cluster_key, connectivity_key):
    """The graph of the cells that have a cluster, their clusters, and which cells they are."""
    graph, clusters = graph_of(adata, connectivity_key), groups_of(adata, cluster_key)
    kept = clusters.codes >= 0
    if not kept.all():
        graph, clusters = graph[kept][:, kept], clusters[kept]
    return graph, clusters, kept


def enrichment(graph, codes, n_groups, n_perms, seed, libraries=None, xp=np) -> NhoodEnrichmentResult:
    """See :func:`nhood_enrichment`.

    Parameters
    ----------
    graph
        CSR of the host.
    codes
        Number of each cell's cluster, (cells,) of the host.
    libraries
        Number of each cell's library, or None.
    xp
        ``numpy`` or ``cupy``: where the work is done.
    """
    indptr, indices, _ = backend.csr_parts(graph)
    edges, codes = (xp.asarray(indptr), xp.asarray(indices)), xp.asarray(codes, dtype=np.int16)
    n_cells = len(codes)
    count = _counts(edges, codes.reshape(1, -1), n_groups)[0]
    permuted, batch = [], _batch(n_cells, xp)
    for first in range(0, n_perms, batch):
        some = orders(seed, "nhood", n_cells, first, min(batch, n_perms - first), xp, libraries)
        labels = xp.empty(some.shape, dtype=np.int16)
        kernels.labels_in_order(some.size, codes, some, n_cells, labels)
        permuted.append(_counts(edges, labels, n_groups))
    permuted = np.concatenate(permuted)
    above, below = (permuted >= count).sum(axis=0), (permuted <= count).sum(axis=0)
    spread = permuted.std(axis=0)
    z = (count - permuted.mean(axis=0)) / np.where(spread > 0, spread, np.nan)
    return NhoodEnrichmentResult(z, count, (np.minimum(above, below) + 1) / (n_perms + 1))


def _batch(n_cells, xp) -> int:
    """How many permutations are held at once; each thread of the host has some."""
    if xp is not np:
        return max(1, ORDER_SIZE // max(n_cells, 1))
    return max(kernels.TOGETHER * numba.get_num_threads(), CACHED_SIZE // max(n_cells, 1))


def _counts(edges, labels, n_groups) -> np.ndarray:
    """Edges between groups for each order of the labels: int64 (orders, groups, groups) of the host."""
    out = backend.xp_of(labels).zeros((len(labels), n_groups, n_groups), dtype=np.int64)
    kernels.pair_counts(len(labels), *edges, labels, labels.shape[1], n_groups, out)
    return backend.to_host(out)


def interaction_matrix(adata, cluster_key, *, connectivity_key="spatial_connectivities", normalized=False, weights=False, copy=False):
    """Edges from each cluster to each other.

    Parameters
    ----------
    adata, cluster_key, connectivity_key
        See :func:`nhood_enrichment`.
    normalized
        Divide each row by its sum (a row without edges: NaN).
    weights
        Add up the weights of the edges instead of counting them.
    copy
        Return the matrix instead of keeping it in ``uns['<cluster_key>_interactions']``.

    Returns
    -------
    None, or (clusters, clusters): int64 for a graph of whole numbers, else float64, as squidpy 1.8 (whose values they equal;
    sums of weights within 1e-12).

    Notes
    -----
    One pass over the edges on the host for both backends, in the order of the cells: equal bytes.
    """
    graph, clusters, _ = _labelled(adata, cluster_key, connectivity_key)
    indptr, indices, weight = backend.csr_parts(graph, np.float64) if weights else (*backend.csr_parts(graph)[:2], np.empty(0))
    matrix = np.zeros((len(clusters.categories),) * 2)
    kernels.edges_between(indptr, indices, weight, clusters.codes.astype(np.int64), matrix)
    matrix = matrix.astype(np.int64 if graph.dtype.kind in "biu" else np.float64)
    if normalized:
        total = matrix.sum(axis=1, keepdims=True)
        matrix = np.divide(matrix, total, out=np.full(matrix.shape, np.nan), where=total != 0)
    if copy:
        return matrix
    adata.uns[f"{cluster_key}_interactions"] = matrix
    return None


def centrality_scores(adata, cluster_key, *, score=None, connectivity_key="spatial_connectivities", copy=False):
    """How near, how dense and how connected is a cluster in the graph?

    - closeness_centrality: number of cells outside the cluster / sum of their numbers of steps to it (cells that cannot
      reach it add nothing). High: the cluster is near to all others.
    - average_clustering: mean share of the pairs of a cell's neighbours that are neighbours themselves. High: dense.
    - degree_centrality: share of the cells outside the cluster that have a neighbour in it.

    Parameters
    ----------
    adata, cluster_key, connectivity_key
        See :func:`nhood_enrichment`. An edge in one direction counts for both.
    score
        One of the three names, or several; all by default.
    copy
        Return the table instead of keeping it in ``uns['<cluster_key>_centrality_scores']``.

    Returns
    -------
    None, or DataFrame (clusters, scores), float64. A cluster of all cells: closeness and degree 0; a cell with fewer than
    two neighbours has the clustering 0.

    Notes
    -----
    Steps and triangles are whole numbers: equal bytes on CPU and GPU. Equal to squidpy 1.8 (networkx) within 1e-12, which
    divides by 0 for a cluster of all cells. Everett & Borgatti 1999, J. Math. Sociol. 23:181.
    """
    chosen = list(SCORES) if score is None else [score] if isinstance(score, str) else list(score)
    unknown = [name for name in chosen if name not in SCORES]
    if unknown:
        raise ValueError(f"score is {unknown[0]!r}; it must be one of {', '.join(SCORES)}")
    graph, clusters, _ = _labelled(adata, cluster_key, connectivity_key)
    table = centralities(graph, clusters.codes, len(clusters.categories), chosen, place_of(adata))
    table = pd.DataFrame(table, index=list(clusters.categories), columns=chosen)
    if copy:
        return table
    adata.uns[f"{cluster_key}_centrality_scores"] = table
    return None


def centralities(graph, codes, n_groups, scores=SCORES, xp=np) -> dict[str, np.ndarray]:
    """float64 (groups,) for each score; see :func:`centrality_scores`."""
    loops = sp.csr_matrix((np.ones(graph.nnz, dtype=bool), graph.indices, graph.indptr), shape=graph.shape)
    both = (loops + loops.T).tocsr()
    both.setdiag(False)
    both.eliminate_zeros()
    both.sort_indices()
    indptr, indices, _ = backend.csr_parts(both)
    size, result = np.bincount(codes, minlength=n_groups), {}
    outside = len(codes) - size
    if "closeness_centrality" in scores:
        steps = _steps((xp.asarray(indptr), xp.asarray(indices)), codes, n_groups, xp)
        result["closeness_centrality"] = np.divide(outside, steps, out=np.zeros(n_groups), where=steps > 0)
    if "average_clustering" in scores:
        count, degree = xp.zeros(len(codes), dtype=np.int64), np.diff(indptr)
        kernels.triangles(len(codes), xp.asarray(indptr), xp.asarray(indices), count)
        pairs = degree * (degree - 1) // 2
        share = np.divide(backend.to_host(count), pairs, out=np.zeros(len(codes)), where=pairs > 0)
        result["average_clustering"] = np.bincount(codes, share, n_groups) / size
    if "degree_centrality" in scores:
        near = sp.csr_matrix((np.ones(both.nnz), codes[both.indices], both.indptr), shape=(len(codes), n_groups))
        near.sum_duplicates()
        touched = np.bincount(near.indices, minlength=n_groups) - np.bincount(
            near.indices[np.repeat(codes, np.diff(near.indptr)) == near.indices], minlength=n_groups
        )
        result["degree_centrality"] = np.divide(touched, outside, out=np.zeros(n_groups), where=outside > 0)
    return result


def _steps(edges, codes, n_groups, xp) -> np.ndarray:
    """Sum over the cells of their steps to each group, int64 (groups,); cells that cannot reach it add nothing."""
    n, batch, total = len(codes), max(1, LEVELS_AT_ONCE // max(len(codes), 1)), []
    for first in range(0, n_groups, batch):
        groups = np.arange(first, min(first + batch, n_groups))
        level = xp.asarray(np.where(codes == groups[:, None], 0, -1), dtype=np.int32)
        found, number = xp.ones(len(groups), dtype=np.uint8), 0
        while backend.to_host(found).any():
            number += 1
            found = xp.zeros(len(groups), dtype=np.uint8)
            kernels.next_level(level.size, *edges, level, n, number, found)
        total.append(np.maximum(backend.to_host(level), 0).sum(axis=1, dtype=np.int64))
    return np.concatenate(total)
