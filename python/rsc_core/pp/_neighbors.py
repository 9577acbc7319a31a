"""The nearest-neighbour graph: exact neighbours, and UMAP's weights."""

from __future__ import annotations

import math
import warnings

import numpy as np

from rsc_core import backend, data
from rsc_core.kernels import graph as kernels

SURPLUS = 16  # candidates beyond the neighbours asked for, so that float32's rounding seldom leaves one out
BLOCK_ROWS = 1 << 16  # cells whose candidates are in memory at once; no result depends on it
METRICS = ("euclidean", "cosine")
METHODS = ("umap",)


def neighbors(adata, n_neighbors=15, *, n_pcs=None, use_rep=None, metric="euclidean", method="umap", random_state=0, key_added=None):
    """Which cells are nearest to each cell, and how strongly are they connected?

    The neighbours are exact: the order of (squared distance, index), the distances summed in float64 from the stored
    coordinates. A float32 search proposes candidates; every cell whose candidates cannot be proved to hold its nearest
    ones is searched again in float64. Distances: Euclidean, or cosine 1 - cos (half the squared distance of the rows at
    length one; a row of zeros is 0.5 from every other).

    Weights (McInnes 2018): w_ij = exp(-(d_ij - rho_i) / sigma_i) with rho_i the smallest distance above 0 and sigma_i
    such that the weights of cell i (itself counted as umap-learn does) sum to log2(n_neighbors); made symmetric by
    w_ij + w_ji - w_ij w_ji. 1: certainly connected; near 0: barely.

    Parameters
    ----------
    adata
        With the representation on the backend that is to do the work.
    n_neighbors
        Neighbours of a cell, itself counted, as in scanpy. With fewer cells than that: 1 + half the cells, and a warning.
    n_pcs
        Use only that many columns of the representation.
    use_rep
        Key of obsm, or ``"X"``. By default ``X_pca``, or X where there are at most 50 genes.
    metric
        ``"euclidean"`` or ``"cosine"``.
    method
        ``"umap"``.
    random_state
        Recorded; an exact search draws no random numbers.
    key_added
        Prefix of the slots; by default scanpy's names.

    Returns
    -------
    None. Sets ``obsp['distances']`` (n_neighbors - 1 entries a row, zeros between duplicates stored) and
    ``obsp['connectivities']`` (symmetric), CSR float32 with sorted indices on the backend of the representation, and
    ``uns['neighbors']``.

    Raises
    ------
    ValueError
        Fewer than 3 cells, or a value that is not finite; the message names the row.

    Notes
    -----
    CPU = GPU bit for bit from equal coordinates. scanpy with an exact search: the same neighbours, weights within 1e-5
    (it computes them in float32). Different from it: a cell is kept out of its own neighbours by its identity, not as
    the first of its list, so duplicated cells are neighbours of each other.
    """
    if metric not in METRICS:
        raise ValueError(f"metric is {metric!r}; it must be one of {METRICS}")
    if method not in METHODS:
        raise ValueError(f"method is {method!r}; it must be one of {METHODS}")
    if n_neighbors < 2:
        raise ValueError(f"n_neighbors is {n_neighbors}; it counts the cell itself and must be at least 2")
    use_rep = use_rep or data.default_representation(adata)
    x = data.representation(adata, use_rep, n_pcs)
    n_cells = x.shape[0]
    if n_cells < 3:
        raise ValueError(f"there are {n_cells} cells; a neighbour graph needs at least 3")
    if n_cells < n_neighbors:
        reduced = 1 + n_cells // 2
        warnings.warn(f"n_neighbors={n_neighbors} exceeds the {n_cells} cells; {reduced} are used", stacklevel=2)
        n_neighbors = reduced
    nearest, distance = nearest_neighbors(x, n_neighbors - 1, metric)
    prefix = f"{key_added}_" if key_added else ""
    adata.obsp[prefix + "distances"] = distance_matrix(nearest, distance)
    adata.obsp[prefix + "connectivities"] = fuzzy_union(nearest, distance)
    params = {"n_neighbors": n_neighbors, "method": method, "metric": metric, "random_state": random_state, "use_rep": use_rep}
    adata.uns[key_added or "neighbors"] = {
        "connectivities_key": prefix + "connectivities",
        "distances_key": prefix + "distances",
        "params": params | ({"n_pcs": n_pcs} if n_pcs else {}) | {"algorithm": "exact"},
    }


def nearest_neighbors(x, n_nearest: int, metric: str = "euclidean"):
    """The exact nearest other cells of each cell.

    Parameters
    ----------
    x
        (cells, dimensions), floating.
    n_nearest
        Below the number of cells.

    Returns
    -------
    nearest : int64 (cells, n_nearest), in the order of (distance, index)
    distance : float64 (cells, n_nearest)
    """
    xp = backend.xp_of(x)
    data.check_finite(x, "the representation")
    x = xp.ascontiguousarray(x, dtype=xp.float64)
    n_cells, n_dims = x.shape
    if metric == "cosine":
        unit = xp.empty_like(x)
        kernels.unit_rows(n_cells, x, n_dims, unit)
        x = unit
    nearest = xp.empty((n_cells, n_nearest), dtype=xp.int64)
    square, farthest = xp.empty((n_cells, n_nearest)), xp.empty(n_cells)
    n_candidates = min(n_cells, n_nearest + 1 + SURPLUS)
    centred = xp.ascontiguousarray(x - xp.ones(n_cells) @ x / n_cells, dtype=xp.float32)
    search = _searcher(centred, n_candidates)
    for start in range(0, n_cells, BLOCK_ROWS):
        here = slice(start, min(n_cells, start + BLOCK_ROWS))
        candidates = search(centred[here])
        exact = xp.empty(candidates.shape)
        kernels.squared_distances(candidates.size, x, n_dims, candidates, start, n_candidates, exact)
        out = nearest[here], square[here], farthest[here]
        kernels.nearest_candidates(len(candidates), candidates, exact, start, n_candidates, n_nearest, *out)
    if n_candidates < n_cells:
        # |float32 - exact| of a squared distance is below unit * (|x| + |y|)^2, and |y| <= |x| + distance.
        unit = 2 * (n_dims + 8) * 2.0**-24
        length = xp.sqrt((centred * centred) @ xp.ones(n_dims, dtype=xp.float32))
        unsure = square[:, -1] >= farthest - 2 * unit * (2 * length + xp.sqrt(farthest)) ** 2
        cells = xp.asarray(np.flatnonzero(backend.to_host(unsure)))
        if cells.size:
            near, far = nearest[cells], square[cells]
            kernels.nearest_of_all(len(cells), x, n_cells, n_dims, cells, n_nearest, near, far)
            nearest[cells], square[cells] = near, far
    return nearest, square / 2 if metric == "cosine" else xp.sqrt(square)


def _searcher(x, n_candidates):
    """A function from rows to the indices of their nearest ``n_candidates`` in float32: faiss, or cuVS on the device."""
    xp = backend.xp_of(x)
    if xp is np:
        import faiss

        index = faiss.IndexFlatL2(x.shape[1])
        index.add(x)
        return lambda rows: index.search(rows, n_candidates)[1]
    from cuvs.neighbors import brute_force

    backend.synchronize()  # cuVS works on a stream of its own
    index = brute_force.build(x, metric="sqeuclidean")

    def search(rows):
        found = xp.empty((len(rows), n_candidates), dtype=xp.int64)
        brute_force.search(index, rows, n_candidates, neighbors=found, distances=xp.empty(found.shape, dtype=xp.float32))
        return found

    return search


def distance_matrix(nearest, distance):
    """Neighbours and distances (cells, n) as a CSR matrix, float32, sorted indices."""
    xp = backend.xp_of(nearest, distance)
    n_cells, n_nearest = nearest.shape
    order = xp.argsort(nearest, axis=1) + xp.arange(n_cells)[:, None] * n_nearest
    indptr = xp.arange(0, n_cells * n_nearest + 1, n_nearest)
    return _csr(distance.ravel()[order.ravel()].astype(xp.float32), nearest.ravel()[order.ravel()], indptr, n_cells)


def fuzzy_union(nearest, distance):
    """UMAP's connectivities of exact neighbours.

    Parameters
    ----------
    nearest : int64 (cells, n)
    distance : float64 (cells, n), ascending in each row

    Returns
    -------
    CSR float32 (cells, cells), symmetric, sorted indices, no stored zeros.
    """
    xp = backend.xp_of(nearest, distance)
    n_cells, n_nearest = nearest.shape
    rho, sigma, weight = xp.empty(n_cells), xp.empty(n_cells), xp.empty(distance.shape)
    kernels.smooth_widths(n_cells, distance, n_nearest, math.log2(n_nearest + 1), rho, sigma)
    # fsum rounds once, whatever the order.
    mean = math.fsum(backend.to_host(distance).ravel()) / (n_cells * (n_nearest + 1))
    kernels.membership(n_cells, distance, rho, sigma, n_nearest, mean, weight)
    key, value = xp.empty(2 * nearest.size, dtype=xp.int64), xp.empty(2 * nearest.size, dtype=xp.float32)
    kernels.union_edges(nearest.size, nearest, weight, n_nearest, n_cells, key, value)
    order = xp.argsort(key)
    key = key[order]
    starts = xp.searchsorted(key, xp.arange(n_cells + 1, dtype=xp.int64) * n_cells)
    n_edges = int(starts[-1])
    return _csr(value[order[:n_edges]], key[:n_edges] % n_cells, starts, n_cells)


def _csr(values, indices, indptr, n_cells):
    xp = backend.xp_of(values)
    wide = np.int32 if values.size < 2**31 else np.int64
    parts = (values, indices.astype(wide), indptr.astype(wide))
    return backend.sparse_of(xp).csr_matrix(parts, shape=(n_cells, n_cells))
