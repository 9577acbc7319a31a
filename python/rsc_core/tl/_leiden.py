"""Leiden clustering of the neighbour graph."""

from __future__ import annotations

import random

import numpy as np

from rsc_core import backend
from rsc_core.tl._communities import igraph_of, write_communities
from rsc_core.tl._partition import partition

LEVELS = 100  # of cuGraph's hierarchy; it stops by itself before


def leiden(
    adata,
    resolution=1.0,
    *,
    random_state=0,
    restrict_to=None,
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
        Above 0; 1 is the classical modularity. A list: one column for each, ``<key_added>_<resolution>``, and ``key_added`` is
        the first of them.
    random_state
        Seed; the same gives the same labels with the same flavor.
    restrict_to
        ``(column, categories)``: cluster only the cells of these categories, as scanpy does. They are named
        ``a-b,0``, the others keep their category, and ``_R`` is added to the name of the column.
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
    The deterministic flavor gives the same labels on both backends, for any number of threads; every community is
    connected. Up to 20,000 cells it is the best of four starts. Mean modularity of 5 seeds against igraph's with 2
    iterations, resolutions 0.5, 1 and 2: pancreas +0.02 to +0.17 %, prostate up to +0.65 %; a manifold of 20,000 cells,
    resolution 1: +0.07 %. cuGraph's was 0.7 % below igraph's on pancreas and 2.8 % on noise. Partitions of different flavors
    differ as those of different seeds do.
    Weights are rounded to multiples of 2^-10: edges below 2^-11 of the largest count as none.
    """
    write_communities(
        adata,
        FLAVORS,
        flavor,
        resolution,
        random_state=random_state,
        restrict_to=restrict_to,
        key_added=key_added,
        neighbors_key=neighbors_key,
        obsp=obsp,
        use_weights=use_weights,
        n_iterations=int(n_iterations),
    )


def _igraph(indptr, indices, weight, resolution, seed, n_iterations):
    """int64 (cells,) of the host; a graph of the device is copied."""
    import igraph

    graph, weights = igraph_of(indptr, indices, weight)
    igraph.set_random_number_generator(random.Random(seed))
    try:
        parts = graph.community_leiden(objective_function="modularity", weights=weights, resolution=resolution, n_iterations=n_iterations)
    finally:
        igraph.set_random_number_generator(random)
    return np.array(parts.membership)


def _cugraph(indptr, indices, weight, resolution, seed, n_iterations):
    """int64 (cells,) of the host. pylibcugraph alone: importing cugraph costs seconds."""
    from pylibcugraph import GraphProperties, ResourceHandle, SGGraph
    from pylibcugraph import leiden as pylibcugraph_leiden

    xp = backend.xp_of(indptr, indices, weight)
    n_cells = len(indptr) - 1
    rows = xp.asarray(np.repeat(np.arange(n_cells, dtype=np.int32), np.diff(backend.to_host(indptr))))
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
