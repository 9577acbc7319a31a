"""k-means on arrays: the same clusters on both backends, bit for bit."""

from __future__ import annotations

import math

import numpy as np

from rsc_core import backend, rng
from rsc_core.kernels import kmeans as kernels


def fixed_point_scale(x) -> float:
    """The largest power of two for which the sum of all rows times it fits 62 bits; float64 (rows, dims)."""
    xp, n_rows = backend.xp_of(x), len(x)
    largest = xp.empty(n_rows)
    kernels.row_largest(n_rows, x, x.shape[1], largest)
    return 2.0 ** math.floor(61 - math.log2(n_rows * max(float(backend.to_host(largest).max()), np.finfo(np.float32).tiny)))


def assign(x, centroids):
    """The nearest centroid of each row and the squared distance to it.

    Parameters
    ----------
    x : float64 (rows, dims)
    centroids : float64 (clusters, dims)

    Returns
    -------
    label : int32 (rows,), ties to the lowest number
    square : float64 (rows,)
    """
    xp, n_rows = backend.xp_of(x, centroids), len(x)
    label, square = xp.empty(n_rows, dtype=np.int32), xp.empty(n_rows)
    kernels.nearest_centroid(n_rows, x, x.shape[1], xp.ascontiguousarray(centroids.T), len(centroids), label, square)
    return label, square


def lloyd(x, centroids, max_iter: int):
    """Lloyd's iterations until no label changes; a cluster that loses all rows keeps its centroid.

    Parameters
    ----------
    x : float64 (rows, dims)
    centroids : float64 (clusters, dims), where it starts

    Returns
    -------
    label, square, centroids, as :func:`assign` and of these centroids; the number of iterations; whether it converged.
    """
    xp, scale, before = backend.xp_of(x), fixed_point_scale(x), None
    for iteration in range(max_iter):
        label, square = assign(x, centroids)
        now = backend.to_host(label)
        if before is not None and (now == before).all():
            return label, square, centroids, iteration, True
        before = now
        sums, sizes = xp.zeros(centroids.shape, dtype=np.int64), xp.zeros(len(centroids), dtype=np.int64)
        kernels.cluster_sums(x.size, x, x.shape[1], label, scale, sums, sizes)
        sums, sizes = backend.to_host(sums), backend.to_host(sizes)[:, None]
        moved = np.where(sizes > 0, sums / scale / np.maximum(sizes, 1), backend.to_host(centroids))
        centroids = xp.asarray(moved)
    return *assign(x, centroids), centroids, max_iter, False


def spread_rows(x, n: int, seed: int, number: int) -> np.ndarray:
    """Rows to start at, drawn in proportion to the squared distance from those drawn before (Arthur & Vassilvitskii 2007).

    Parameters
    ----------
    number
        Which draw of this seed.

    Returns
    -------
    int64 (n,) of the host; distinct unless fewer than n rows are.
    """
    xp, n_rows = backend.xp_of(x), len(x)
    draws = rng.uniform(seed, "kmeans", np.arange(n, dtype=np.uint64) + np.uint64(number * n))
    chosen, square = [min(int(draws[0] * n_rows), n_rows - 1)], xp.full(n_rows, np.inf)
    for draw in draws[1:]:
        kernels.gap_to_row(n_rows, x, x.shape[1], chosen[-1], square)
        reach = np.cumsum(backend.to_host(square))  # on the host: one order of additions for both backends
        chosen.append(min(int(np.searchsorted(reach, reach[-1] * draw, side="right")), n_rows - 1))
    return np.array(chosen, dtype=np.int64)
