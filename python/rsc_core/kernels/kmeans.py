"""Steps of k-means; ``kmeans.cu`` holds the same for CUDA. Sums are of integers: multiples of a power of two."""

import numba
import numpy as np

from rsc_core.kernels.twin import twin


@twin("float64 int64 float64")
def row_largest(n_items, x, n_dims, out):
    """The largest absolute value of each row."""
    for row in numba.prange(n_items):
        largest = 0.0
        for d in range(n_dims):
            largest = max(largest, abs(x[row, d]))
        out[row] = largest


@twin("float64 int64 float64 int64 int32 float64")
def nearest_centroid(n_items, x, n_dims, columns, n_clusters, label, square):
    """The nearest centroid of each row, ties to the lowest number, and the squared distance; ``columns`` (dims, clusters)."""
    for row in numba.prange(n_items):
        total = np.zeros(n_clusters)
        for d in range(n_dims):  # clusters innermost: each sum keeps its order, and the compiler adds several at once
            here = x[row, d]
            for c in range(n_clusters):
                gap = here - columns[d, c]
                total[c] += gap * gap
        best = 0
        for c in range(1, n_clusters):
            if total[c] < total[best]:
                best = c
        label[row], square[row] = best, total[best]


@twin("float64 int64 int32 float64 int64 int64")
def cluster_sums(n_items, x, n_dims, label, scale, sums, sizes):
    """Sums of round(x * scale) over the rows of each cluster, and their numbers; item: one value of x."""
    for item in range(n_items):
        row, d = item // n_dims, item % n_dims
        sums[label[row], d] += np.int64(np.rint(x[row, d] * scale))
        if d == 0:
            sizes[label[row]] += 1


@twin("float64 int64 int64 float64")
def gap_to_row(n_items, x, n_dims, row, square):
    """Squared distance of each row to one of them, where that is less than ``square`` says."""
    for item in numba.prange(n_items):
        total = 0.0
        for d in range(n_dims):
            gap = x[item, d] - x[row, d]
            total += gap * gap
        square[item] = min(square[item], total)
