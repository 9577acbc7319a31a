"""Weights of a neighbour graph, and neighbours as CSR matrices with sorted indices."""

from __future__ import annotations

import math

import numpy as np

from rsc_core import backend
from rsc_core.kernels import graph as kernels
from rsc_core.scan import running_sums


def distance_matrix(nearest, distance):
    """Neighbours and distances (cells, n) as a CSR matrix, float32, zeros between duplicates stored."""
    xp = backend.xp_of(nearest, distance)
    n_cells, n_nearest = nearest.shape
    indptr = xp.arange(0, n_cells * n_nearest + 1, n_nearest, dtype=np.int64)
    indices, values = nearest.ravel().astype(np.int32), distance.ravel().astype(np.float32)
    kernels.sort_rows(n_cells, indptr, indices, values)
    return _csr(values, indices, indptr)


def umap_weights(nearest, distance):
    """UMAP's connectivities (McInnes 2018) of neighbours.

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
    # The mean is for cells whose neighbours are all their duplicates. fsum rounds once, whatever the order.
    has_duplicates = backend.to_host(rho).min(initial=1) == 0
    mean = math.fsum(backend.to_host(distance).ravel()) / (n_cells * (n_nearest + 1)) if has_duplicates else 0.0
    kernels.membership(n_cells, distance, rho, sigma, n_nearest, mean, weight)
    return _assembled(nearest, kernels.fuzzy_union, nearest, weight, n_nearest)


def gauss_weights(nearest, distance):
    """Weights of the diffusion maps of single cells (Haghverdi 2016), as scanpy has them; else as :func:`umap_weights`."""
    xp = backend.xp_of(nearest, distance)
    n_cells, n_nearest = nearest.shape
    square = xp.empty(n_cells)
    kernels.median_squares(n_cells, distance, n_nearest, square)
    return _assembled(nearest, kernels.gauss_weights, nearest, distance, square, n_nearest)


def jaccard_weights(nearest, distance):
    """PhenoGraph's weights (Levine 2015): the Jaccard index of neighbours, averaged over there and back."""
    return _assembled(nearest, kernels.jaccard_weights, nearest, nearest.shape[1])


METHODS = {"umap": umap_weights, "gauss": gauss_weights, "jaccard": jaccard_weights}


def _assembled(nearest, weigh, *arguments):
    """The symmetric matrix of the edges, each weighed by a kernel that also says whether the other cell goes back."""
    xp = backend.xp_of(nearest)
    n_cells, n_nearest = nearest.shape
    value, mutual = xp.empty(nearest.size, dtype=np.float32), xp.empty(nearest.size, dtype=np.uint8)
    weigh(nearest.size, *arguments, value, mutual)
    count, filled = xp.zeros(n_cells, dtype=np.int64), xp.zeros(n_cells, dtype=np.int64)
    kernels.count_edges(nearest.size, nearest, value, mutual, n_nearest, count)
    indptr = running_sums(count)
    n_entries = int(indptr[-1])
    indices, values = xp.empty(n_entries, dtype=np.int32), xp.empty(n_entries, dtype=np.float32)
    kernels.place_edges(nearest.size, nearest, value, mutual, n_nearest, indptr, filled, indices, values)
    kernels.sort_rows(n_cells, indptr, indices, values)
    return _csr(values, indices, indptr)


def trimmed(graph, n_kept: int):
    """The entries of a symmetric matrix that are among the ``n_kept`` largest both of their row and of their column.

    Entries as large as the last of these stay, too; CSR float32 above 0 on either backend.
    """
    xp = backend.xp_of(graph.data)
    indptr, indices, values = backend.csr_parts(graph, np.float32)
    bits, n_cells = values.view(np.int32), graph.shape[0]  # of numbers above 0: as bits, so values
    threshold, count = xp.empty(n_cells, dtype=np.int32), xp.empty(n_cells, dtype=np.int64)
    kernels.row_thresholds(n_cells, indptr, bits, n_kept, threshold)
    kernels.count_strong(n_cells, indptr, indices, bits, threshold, count)
    kept = running_sums(count)
    n_entries = int(kept[-1])
    new_indices, new_bits = xp.empty(n_entries, dtype=np.int32), xp.empty(n_entries, dtype=np.int32)
    kernels.keep_strong(n_cells, indptr, indices, bits, threshold, kept, new_indices, new_bits)
    return _csr(new_bits.view(np.float32), new_indices, kept)


def _csr(values, indices, indptr):
    wide = np.int32 if values.size < 2**31 else np.int64
    n_cells = len(indptr) - 1
    parts = (values, indices.astype(wide, copy=False), indptr.astype(wide))
    return backend.sparse_of(backend.xp_of(values)).csr_matrix(parts, shape=(n_cells, n_cells))
