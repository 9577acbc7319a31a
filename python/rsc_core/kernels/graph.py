"""Loops over a nearest-neighbour graph; ``graph.cu`` holds the same for CUDA."""

import math

import numba
import numpy as np

from rsc_core.kernels.device import exp_double
from rsc_core.kernels.twin import twin

# The constants of umap-learn.
STEPS = 64
TOLERANCE = 1e-5
SMALLEST_WIDTH = 1e-3
NO_EDGE = np.iinfo(np.int64).max


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


@twin("float64 int64 int64 int64 int64 float64")
def squared_distances(n_items, x, n_dims, candidates, first_cell, n_candidates, out):
    """Squared Euclidean distance of each cell (from ``first_cell`` on) to each of its candidates, dimension after dimension."""
    for item in numba.prange(n_items):
        row, place, total = item // n_candidates, item % n_candidates, 0.0
        cell, other = first_cell + row, candidates[row, place]
        for d in range(n_dims):
            gap = x[cell, d] - x[other, d]
            total += gap * gap
        out[row, place] = total


@twin("int64 float64 int64 int64 int64 int64 float64 float64")
def nearest_candidates(n_items, candidates, distance, first_cell, n_candidates, n_nearest, nearest, nearest_distance, farthest):
    """The ``n_nearest`` candidates of each cell in the order of (distance, index), without the cell itself.

    ``farthest`` takes the largest distance among all candidates.
    """
    for item in numba.prange(n_items):
        filled, farthest[item] = 0, 0.0
        for c in range(n_candidates):
            other, d = candidates[item, c], distance[item, c]
            farthest[item] = max(farthest[item], d)
            if other == first_cell + item:
                continue
            place = filled
            while place > 0 and (d, other) < (nearest_distance[item, place - 1], nearest[item, place - 1]):
                place -= 1
            if place >= n_nearest:
                continue
            filled = min(filled + 1, n_nearest)
            for k in range(filled - 1, place, -1):
                nearest[item, k], nearest_distance[item, k] = nearest[item, k - 1], nearest_distance[item, k - 1]
            nearest[item, place], nearest_distance[item, place] = other, d


@twin("float64 int64 int64 int64 int64 int64 float64")
def nearest_of_all(n_items, x, n_cells, n_dims, cells, n_nearest, nearest, nearest_distance):
    """The ``n_nearest`` cells nearest to each of ``cells`` among all, in the order of (distance, index), without the cell itself."""
    for item in numba.prange(n_items):
        cell, filled = cells[item], 0
        for other in range(n_cells):
            d = 0.0
            for k in range(n_dims):
                gap = x[cell, k] - x[other, k]
                d += gap * gap
            place = filled
            while place > 0 and d < nearest_distance[item, place - 1]:
                place -= 1
            if other == cell or place >= n_nearest:
                continue
            filled = min(filled + 1, n_nearest)
            for k in range(filled - 1, place, -1):
                nearest[item, k], nearest_distance[item, k] = nearest[item, k - 1], nearest_distance[item, k - 1]
            nearest[item, place], nearest_distance[item, place] = other, d


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


@twin("int64 float64 int64 int64 int64 float32")
def union_edges(n_items, neighbor, weight, n_nearest, n_cells, key, value):
    """Both directions of each edge with the weight a + b - ab; key = row * n_cells + column, NO_EDGE where another item has it.

    Item e is the edge from cell e // n_nearest; it fills the places 2e (forward) and 2e + 1 (backward, if nobody goes back).
    """
    for item in numba.prange(n_items):
        cell, place = item // n_nearest, item % n_nearest
        other, forth = neighbor[cell, place], weight[cell, place]
        back, mutual = 0.0, False
        for k in range(n_nearest):
            if neighbor[other, k] == cell:
                back, mutual = weight[other, k], True
        union = np.float32((forth + back) - forth * back)
        value[2 * item], value[2 * item + 1] = union, union
        key[2 * item] = cell * n_cells + other if union > 0 else NO_EDGE
        key[2 * item + 1] = other * n_cells + cell if union > 0 and not mutual else NO_EDGE
