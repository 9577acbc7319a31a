"""Weights of a nearest-neighbour graph, and its assembly as a CSR matrix; ``graph.cu`` holds the same for CUDA."""

import math

import numba
import numpy as np

from rsc_core.kernels.device import exp_double, sort_row
from rsc_core.kernels.twin import twin

# The constants of umap-learn.
STEPS = 64
TOLERANCE = 1e-5
SMALLEST_WIDTH = 1e-3


@twin("float64 int64 float64 float64 float64")
def smooth_widths(n_items, distance, n_nearest, target, rho, sigma):
    """rho: the smallest distance above 0; sigma: the width for which a cell's weights sum to ``target``."""
    for cell in numba.prange(n_items):
        nearest = 0.0
        for k in range(n_nearest):
            if distance[cell, k] > 0.0:
                nearest = distance[cell, k]
                break
        low, high, width = 0.0, np.inf, 1.0
        for _ in range(STEPS):
            total = 0.0
            for k in range(n_nearest):
                gap = distance[cell, k] - nearest
                total += exp_double(-(gap / width)) if gap > 0.0 else 1.0
            if abs(total - target) < TOLERANCE:
                break
            if total > target:
                high = width
                width = (low + high) / 2.0
            else:
                low = width
                width = width * 2.0 if high == np.inf else (low + high) / 2.0
        rho[cell], sigma[cell] = nearest, width


@twin("float64 float64 float64 int64 float64 float64")
def membership(n_items, distance, rho, sigma, n_nearest, mean_distance, weight):
    """Weight of each edge: 1 up to rho, then exp(-(distance - rho) / sigma), with sigma kept above a share of the mean distance."""
    for cell in numba.prange(n_items):
        own_mean = 0.0
        for k in range(n_nearest):
            own_mean += distance[cell, k]
        own_mean /= n_nearest + 1.0
        width = max(sigma[cell], SMALLEST_WIDTH * (own_mean if rho[cell] > 0.0 else mean_distance))
        for k in range(n_nearest):
            gap = distance[cell, k] - rho[cell]
            weight[cell, k] = exp_double(-(gap / width)) if gap > 0.0 and width > 0.0 else 1.0


@numba.njit
def place_of(cell, neighbors):
    """Where a cell stands among neighbours, or -1."""
    for k in range(neighbors.size):
        if neighbors[k] == cell:
            return k
    return -1


@twin("int64 float64 int64 float32 uint8")
def fuzzy_union(n_items, nearest, weight, n_nearest, value, mutual):
    """a + b - ab of each edge's weights there and back; mutual: the other cell has this one among its neighbours, too."""
    for item in numba.prange(n_items):
        cell, place = item // n_nearest, item % n_nearest
        other, forth = nearest[cell, place], weight[cell, place]
        there = place_of(cell, nearest[other])
        back = weight[other, there] if there >= 0 else 0.0
        value[item], mutual[item] = np.float32((forth + back) - forth * back), there >= 0


@twin("float64 int64 float64")
def median_squares(n_items, distance, n_nearest, square):
    """Median of the squared distances of each cell; distances ascend."""
    for cell in numba.prange(n_items):
        low, high = distance[cell, (n_nearest - 1) // 2], distance[cell, n_nearest // 2]
        square[cell] = (low * low + high * high) / 2.0


@twin("int64 float64 float64 int64 float32 uint8")
def gauss_weights(n_items, nearest, distance, square, n_nearest, value, mutual):
    """sqrt(2 s_i s_j / (s_i^2 + s_j^2)) exp(-d^2 / (s_i^2 + s_j^2)), with s^2 the median of the squares; 1 where both are 0."""
    for item in numba.prange(n_items):
        cell, place = item // n_nearest, item % n_nearest
        other, d = nearest[cell, place], distance[cell, place]
        both, found = square[cell] + square[other], 1.0
        if both > 0.0:
            found = math.sqrt(2.0 * (math.sqrt(square[cell]) * math.sqrt(square[other])) / both) * exp_double(-(d * d / both))
        value[item], mutual[item] = np.float32(found), place_of(cell, nearest[other]) >= 0


@twin("int64 int64 float32 uint8")
def jaccard_weights(n_items, nearest, n_nearest, value, mutual):
    """Shared neighbours by all neighbours of the two cells, halved where only one has the other."""
    for item in numba.prange(n_items):
        cell, place = item // n_nearest, item % n_nearest
        other, shared = nearest[cell, place], 0
        for k in range(n_nearest):
            shared += place_of(nearest[cell, k], nearest[other]) >= 0
        mutual[item] = place_of(cell, nearest[other]) >= 0
        ratio = np.float64(shared) / np.float64(2 * n_nearest - shared)
        value[item] = np.float32(ratio if mutual[item] else ratio / 2.0)


@twin("int64 float32 uint8 int64 int64")
def count_edges(n_items, nearest, value, mutual, n_nearest, count):
    """Entries of each row of the symmetric matrix of edges that weigh above 0."""
    for item in range(n_items):
        cell, place = item // n_nearest, item % n_nearest
        if value[item] > 0:
            count[cell] += 1
            if mutual[item] == 0:
                count[nearest[cell, place]] += 1


@twin("int64 float32 uint8 int64 int64 int64 int32 float32")
def place_edges(n_items, nearest, value, mutual, n_nearest, indptr, filled, indices, values):
    """Entries into their rows, in no order; ``filled`` counts those of each row and starts at 0."""
    for item in range(n_items):
        cell, place = item // n_nearest, item % n_nearest
        other = nearest[cell, place]
        if value[item] > 0:
            to = indptr[cell] + filled[cell]
            filled[cell] += 1
            indices[to], values[to] = other, value[item]
            if mutual[item] == 0:
                to = indptr[other] + filled[other]
                filled[other] += 1
                indices[to], values[to] = cell, value[item]


@twin("int64 int32 float32")
def sort_rows(n_items, indptr, indices, values):
    """The entries of each row by column, in place."""
    for row in numba.prange(n_items):
        sort_row(indptr[row], indptr[row + 1], indices, values)


@twin("int64 int32 int64 int32")
def row_thresholds(n_items, indptr, bits, n_kept, threshold):
    """The bits of the ``n_kept``-th largest float32 of each row, 0 for a row that is not longer; as many bits, as large a value."""
    for row in numba.prange(n_items):
        found = 0
        if indptr[row + 1] - indptr[row] > n_kept:
            for bit in range(30, -1, -1):
                larger, reach = 0, found | (1 << bit)
                for e in range(indptr[row], indptr[row + 1]):
                    larger += bits[e] >= reach
                if larger >= n_kept:
                    found = reach
        threshold[row] = found


@twin("int64 int32 int32 int32 int64")
def count_strong(n_items, indptr, indices, bits, threshold, count):
    """Entries of each row that reach the thresholds of their row and of their column."""
    for row in numba.prange(n_items):
        kept = 0
        for e in range(indptr[row], indptr[row + 1]):
            kept += bits[e] >= max(threshold[row], threshold[indices[e]])
        count[row] = kept


@twin("int64 int32 int32 int32 int64 int32 int32")
def keep_strong(n_items, indptr, indices, bits, threshold, new_indptr, new_indices, new_bits):
    """The entries that :func:`count_strong` counts."""
    for row in numba.prange(n_items):
        to = new_indptr[row]
        for e in range(indptr[row], indptr[row + 1]):
            if bits[e] >= max(threshold[row], threshold[indices[e]]):
                new_indices[to], new_bits[to] = indices[e], bits[e]
                to += 1
