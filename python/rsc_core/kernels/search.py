"""Loops of the search for nearest neighbours; ``search.cu`` holds the same for CUDA."""

import math

import numba
import numpy as np

from rsc_core.kernels.device import keep_nearest
from rsc_core.kernels.twin import BLOCK, twin

NOBODY = -1  # a place that the search could not fill


@twin("float64 int64 float64")
def unit_rows(n_items, x, n_dims, out):
    """Each row divided by its length; a row of zeros stays."""
    for row in numba.prange(n_items):
        square = 0.0
        for d in range(n_dims):
            square += x[row, d] * x[row, d]
        length = math.sqrt(square)
        for d in range(n_dims):
            out[row, d] = x[row, d] / length if length > 0.0 else 0.0


@twin("float64 int64 float64")
def centred_rows(n_items, x, n_dims, out):
    """Each row without its mean; a constant row becomes zeros."""
    for row in numba.prange(n_items):
        total, low, high = 0.0, x[row, 0], x[row, 0]
        for d in range(n_dims):
            total += x[row, d]
            low, high = min(low, x[row, d]), max(high, x[row, d])
        mean = total / n_dims
        for d in range(n_dims):
            out[row, d] = x[row, d] - mean if low < high else 0.0


@twin("float64 int64 int64 int64 int64 float64")
def squared_distances(n_items, x, n_dims, cells, candidates, n_candidates, out):
    """Squared Euclidean distance of each of ``cells`` to each of its candidates, dimension after dimension."""
    for item in numba.prange(n_items):
        row, place, total = item // n_candidates, item % n_candidates, 0.0
        cell, other = cells[row], candidates[row, place]
        if other >= 0:
            for d in range(n_dims):
                gap = x[cell, d] - x[other, d]
                total += gap * gap
        out[row, place] = total


@twin("int64 int64 float64 int64 int64 int64 float64 float64")
def nearest_candidates(n_items, cells, candidates, distance, n_candidates, n_nearest, nearest, nearest_distance, farthest):
    """The ``n_nearest`` candidates of each of ``cells`` in the order of (distance, index), without the cell itself.

    ``farthest`` takes the largest distance among all candidates. Places that no candidate fills: NOBODY, infinitely far.
    """
    for item in numba.prange(n_items):
        filled, farthest[item] = 0, 0.0
        for c in range(n_candidates):
            other, d = candidates[item, c], distance[item, c]
            farthest[item] = max(farthest[item], d)
            if other >= 0 and other != cells[item]:
                filled = keep_nearest(other, d, filled, nearest[item], nearest_distance[item])
        for k in range(filled, n_nearest):
            nearest[item, k], nearest_distance[item, k] = NOBODY, np.inf


@twin("float32 float32 int64 int64 int64 float32 int32", per_item=32, shared=lambda *args: 8 * BLOCK // 32 * args[4])
def keep_least(n_items, product, half, n_columns, first, n_kept, value, place):
    """Of half - product in each row and what was kept before, the ``n_kept`` least in the order of (value, place), as they rise.

    The place of a column is ``first`` and its number; kept places are smaller.
    """
    for item in numba.prange(n_items):
        for column in range(n_columns):
            other = half[column] - product[item, column]
            k = n_kept
            while k > 0 and other < value[item, k - 1]:
                k -= 1
            if k < n_kept:
                for later in range(n_kept - 1, k, -1):
                    value[item, later], place[item, later] = value[item, later - 1], place[item, later - 1]
                value[item, k], place[item, k] = other, first + column


@twin("float64 int64 int64 int64 int64 int64 int64 float64")
def nearest_of_all(n_items, x, n_dims, cells, members, n_members, n_nearest, nearest, nearest_distance):
    """The ``n_nearest`` of ``members`` nearest to each of ``cells``, in the order of (distance, index), without the cell itself."""
    for item in numba.prange(n_items):
        cell, filled = cells[item], 0
        for m in range(n_members):
            other, d = members[m], 0.0
            if other == cell:
                continue
            for k in range(n_dims):
                gap = x[cell, k] - x[other, k]
                d += gap * gap
            filled = keep_nearest(other, d, filled, nearest[item], nearest_distance[item])
        for k in range(filled, n_nearest):
            nearest[item, k], nearest_distance[item, k] = NOBODY, np.inf
