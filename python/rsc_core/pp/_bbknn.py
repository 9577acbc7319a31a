"""Batch-balanced neighbours: from each batch the same number."""

from __future__ import annotations

import numpy as np

from rsc_core import backend, data
from rsc_core.kernels import search as kernels
from rsc_core.pp._harmony import batch_codes
from rsc_core.pp._neighbors import store_graph
from rsc_core.pp._search import METRICS, Space, nearest_among
from rsc_core.pp._weights import distance_matrix, trimmed, umap_weights


def bbknn(
    adata,
    batch_key="batch",
    *,
    use_rep=None,
    n_pcs=None,
    neighbors_within_batch=3,
    trim=None,
    metric="euclidean",
    random_state=0,
    key_added=None,
):
    """Which cells of each batch are nearest to each cell? (BBKNN, Polański et al. 2020, doi:10.1093/bioinformatics/btz625)

    Each cell gets its ``neighbors_within_batch`` nearest cells in every batch, itself counted in its own; UMAP's weights of
    all of them together; then only edges that are among the ``trim`` strongest of both their cells are kept.

    Parameters
    ----------
    adata
        With the representation on the backend that is to do the work.
    batch_key
        Column of obs.
    use_rep, n_pcs, metric, key_added
        As in :func:`rsc_core.pp.neighbors`. The search is exact.
    neighbors_within_batch
        Neighbours of a cell in each batch, itself counted in its own.
    trim
        Edges that a cell keeps, and those as strong as the last; by default 10 times the number of its neighbours. 0: all.
    random_state
        Recorded; nothing is drawn.

    Returns
    -------
    None. Sets the slots of :func:`rsc_core.pp.neighbors`; ``params`` also has ``batch_key`` and ``trim``.

    Raises
    ------
    ValueError
        A batch of fewer than ``neighbors_within_batch`` cells, or fewer than two neighbours in all; a value that is not finite.

    Notes
    -----
    CPU = GPU bit for bit from equal coordinates. The reference's, with its exact search: the same neighbours and, but for
    duplicated cells, weights within 1e-5 (it computes them in float32). Of equally distant cells the smaller index comes first.
    """
    if metric not in METRICS:
        raise ValueError(f"metric is {metric!r}; it must be one of {METRICS}")
    use_rep = use_rep or data.default_representation(adata)
    x = data.representation(adata, use_rep, n_pcs)
    batch = batch_codes(adata.obs, batch_key)
    sizes = np.bincount(batch)
    n_neighbors = neighbors_within_batch * len(sizes)
    if sizes.min() < neighbors_within_batch:
        row = int(np.flatnonzero(batch == sizes.argmin())[0])
        raise ValueError(
            f"the batch {adata.obs[batch_key].iloc[row]!r} of obs[{batch_key!r}] has {sizes.min()} cells, "
            f"fewer than neighbors_within_batch={neighbors_within_batch}"
        )
    if neighbors_within_batch < 1 or n_neighbors < 2:
        raise ValueError(f"neighbors_within_batch is {neighbors_within_batch} with {len(sizes)} batches; a cell needs another cell")
    trim = 10 * n_neighbors if trim is None else trim
    nearest, distance = balanced_neighbors(x, batch, neighbors_within_batch, metric)
    weights = umap_weights(nearest, distance)
    params = {"n_neighbors": n_neighbors, "method": "umap", "metric": metric, "random_state": random_state, "use_rep": use_rep}
    params |= ({"n_pcs": n_pcs} if n_pcs else {}) | {"algorithm": "exact", "batch_key": batch_key}
    params |= {"neighbors_within_batch": neighbors_within_batch, "trim": trim}
    store_graph(adata, key_added, distance_matrix(nearest, distance), trimmed(weights, trim) if trim else weights, params)


def balanced_neighbors(x, batch: np.ndarray, n_within: int, metric: str = "euclidean"):
    """The nearest cells of each batch to each cell.

    Parameters
    ----------
    x
        (cells, dimensions).
    batch
        int64 (cells,) of the host, every batch from 0 on present, each of at least ``n_within`` cells.
    n_within
        Cells of each batch; one fewer of the cell's own.

    Returns
    -------
    nearest : int64 (cells, n_within * batches - 1), in the order of (distance, index)
    distance : float64, of the same shape
    """
    xp, space = backend.xp_of(x), Space.of(x, metric)
    n_cells, n_batches = len(batch), int(batch.max()) + 1
    found = xp.empty((n_cells, n_batches * n_within), dtype=np.int64)
    square = xp.empty(found.shape)
    for b in range(n_batches):
        members, places = xp.asarray(np.flatnonzero(batch == b)), slice(b * n_within, (b + 1) * n_within)
        found[:, places], square[:, places] = nearest_among(space, space.cells, members, n_within)
        found[members, places.stop - 1] = -1  # of its own batch a cell has one fewer
    n_nearest = found.shape[1] - 1
    nearest, ordered, farthest = xp.empty((n_cells, n_nearest), dtype=np.int64), xp.empty((n_cells, n_nearest)), xp.empty(n_cells)
    kernels.nearest_candidates(n_cells, space.cells, found, square, found.shape[1], n_nearest, nearest, ordered, farthest)
    return nearest, xp.sqrt(ordered) if metric == "euclidean" else ordered / 2
