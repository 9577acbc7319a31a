"""Leiden clustering of the neighbour graph."""

from __future__ import annotations

import random

import numpy as np
import pandas as pd

from rsc_core import backend, data, metrics
from rsc_core.tl._partition import partition, rows_of

LEVELS = 100  # of cuGraph's hierarchy; it stops by itself before


def leiden(
    adata,
    resolution=1.0,
    *,
    random_state=0,
    key_added="leiden",
    neighbors_key=None,
    obsp=None,
    n_iterations=4,
    use_weights=True,
    flavor="deterministic",
):
    """Communities of the graph with the highest modularity (Traag, Waltman & van Eck 2019, doi:10.1038/s41598-019-41695-z).

    Q = sum over communities of (weight inside / total weight - resolution (share of the degrees)^2); a higher
    resolution gives more and smaller communities.

    Parameters
    ----------
    adata
        With a symmetric neighbour graph; where it lies decides where the work runs.
    resolution
        Above 0; 1 is the classical modularity.
    random_state
        Seed; the same gives the same labels with the same flavor.
    key_added
        Column of obs and key of uns.
    neighbors_key, obsp
        Another graph than ``obsp['connectivities']``: its entry in uns, or its key in obsp.
    n_iterations
        Passes over the algorithm's own result; cuGraph runs until it gains nothing.
    use_weights
        False: every edge weighs 1.
    flavor
        ``"deterministic"`` (:mod:`rsc_core.tl._partition`), ``"igraph"`` on the host, or ``"cugraph"`` on the device.

    Returns
    -------
    None. Sets ``obs[key_added]``, categorical of '0', '1', ... by falling size, then by the smallest member, and
    ``uns[key_added]``: params, modularity.

    Notes
    -----
    The deterministic flavor gives the same labels on both backends, for any number of threads. Modularity: with 4 passes
    above that of igraph with 2 on the tested graphs, with 2 passes within 0.1 % of it. cuGraph's was 0.7 % below igraph's
    on pancreas and 2.8 % on noise. Partitions of different flavors differ as those of different seeds do.
    Weights are rounded to multiples of 2^-10: edges below 2^-11 of the largest count as none.
    """
    graph, _ = data.connectivities(adata, neighbors_key, obsp)
    if resolution <= 0:
        raise ValueError(f"resolution is {resolution}; it must be above 0")
    if flavor not in FLAVORS:
        raise ValueError(f"flavor is {flavor!r}; it must be one of {sorted(FLAVORS)}")
    if flavor == "cugraph" and backend.xp_of(graph.data) is np:
        raise ValueError("flavor 'cugraph' needs a graph on the device; move it there, or use 'deterministic' or 'igraph'")
    indptr, indices, weight = backend.csr_parts(graph, np.float32)
    if not use_weights:
        weight = backend.xp_of(weight).ones_like(weight)
    found = FLAVORS[flavor](indptr, indices, weight, float(resolution), int(random_state), int(n_iterations))
    labels = ordered_labels(found)
    n_labels = int(labels.max()) + 1
    adata.obs[key_added] = pd.Categorical.from_codes(labels, [str(i) for i in range(n_labels)])
    parts = (backend.to_host(part) for part in (indptr, indices, weight))
    adata.uns[key_added] = {
        "params": {"resolution": resolution, "random_state": random_state, "n_iterations": n_iterations, "flavor": flavor},
        "modularity": metrics.modularity(*parts, labels, resolution),
    }


def ordered_labels(labels: np.ndarray) -> np.ndarray:
    """Labels 0, 1, ... by falling size, then by the smallest member; any integers (cells,) to int64 (cells,)."""
    _, first, codes, sizes = np.unique(labels, return_index=True, return_inverse=True, return_counts=True)
    rank = np.empty(len(sizes), dtype=np.int64)
    rank[np.lexsort((first, -sizes))] = np.arange(len(sizes))
    return rank[codes]


def _igraph(indptr, indices, weight, resolution, seed, n_iterations):
    """int64 (cells,) of the host; a graph of the device is copied."""
    import igraph

    indptr, indices, weight = (backend.to_host(part) for part in (indptr, indices, weight))
    rows = np.repeat(np.arange(len(indptr) - 1), np.diff(indptr))
    once = rows < indices  # each edge stands in the matrix twice
    graph = igraph.Graph(n=len(indptr) - 1, edges=np.column_stack([rows[once], indices[once]]))
    igraph.set_random_number_generator(random.Random(seed))
    try:
        parts = graph.community_leiden(
            objective_function="modularity", weights=weight[once].astype(float).tolist(), resolution=resolution, n_iterations=n_iterations
        )
    finally:
        igraph.set_random_number_generator(random)
    return np.array(parts.membership)


def _cugraph(indptr, indices, weight, resolution, seed, n_iterations):
    """int64 (cells,) of the host. pylibcugraph alone: importing cugraph costs seconds."""
    from pylibcugraph import GraphProperties, ResourceHandle, SGGraph
    from pylibcugraph import leiden as pylibcugraph_leiden

    xp = backend.xp_of(indptr, indices, weight)
    n_cells = len(indptr) - 1
    rows = rows_of(indptr, len(indices)).astype(xp.int32)
    handle = ResourceHandle()
    graph = SGGraph(
        handle,
        GraphProperties(is_symmetric=True, is_multigraph=False),
        rows,
        indices,
        weight_array=weight,
        store_transposed=False,
        renumber=False,
        do_expensive_check=False,
        vertices_array=xp.arange(n_cells, dtype=xp.int32),
    )
    vertices, labels, _ = pylibcugraph_leiden(handle, seed, graph, LEVELS, resolution, 1.0, False)
    by_cell = np.empty(n_cells, dtype=np.int64)
    by_cell[backend.to_host(xp.asarray(vertices))] = backend.to_host(xp.asarray(labels))
    return by_cell


FLAVORS = {"deterministic": partition, "igraph": _igraph, "cugraph": _cugraph}
