"""Which cells lie within a limit of a cell, and which of them are nearest; ``within.cu`` holds the same for CUDA."""

import numba
import numpy as np

from rsc_core.kernels.twin import twin

SAMPLE = 32_768  # values of a row that a CUDA block of 1024 threads holds in registers
BYTES, SUMS = 12, 8  # of shared memory for a candidate, its distance and its index, and for two sums


def _shared(x, n_dims, first_cell, candidates, filled, room, *_):
    return room * BYTES + SUMS


@twin("float32 int64 int64 float32", threads=1024, per_item=1024)
def row_quantiles(n_items, values, n_columns, place, out):
    """The value at a place of each sorted row; rows of at most SAMPLE values."""
    for row in numba.prange(n_items):
        out[row] = np.sort(values[row])[place]


# The order of the candidates is that in which threads find them: only as a set are they the same on both backends. ``filled`` counts
# on where there is no room.
@twin("float32 int64 int64 int64 int64 float32 int64 int32 int32", per_item=32)
def within_limits(n_items, values, n_rows, n_columns, piece, first_column, limit, room, candidates, filled):
    """Adds the columns, from ``first_column`` on, whose value is at most the row's limit; an item is a row's piece of columns."""
    for row in numba.prange(n_rows):
        for column in range(n_columns):
            if values[row, column] <= limit[row]:
                if filled[row] < room:
                    candidates[row, filled[row]] = first_column + column
                filled[row] += 1


@twin("float64 int64 int64 int32 int32 int64 int64 int64 float64 int64", per_item=256, shared=_shared)
def nearest_from(n_items, x, n_dims, first_cell, candidates, filled, room, n_nearest, from_cell, kth, among):
    """Of each cell's nearest others, by (squared distance, index): the largest squared distance, and how many are ``from_cell`` or later.

    Infinite where there are fewer candidates than neighbours, more than room, or no shared memory for as many as there is room for.
    """
    for item in numba.prange(n_items):
        cell, n = first_cell + item, filled[item]
        distance, others, found = np.empty(room), np.empty(room, dtype=np.int64), 0
        for c in range(n if n <= room else 0):
            other = np.int64(candidates[item, c])
            if other != cell:
                total = 0.0
                for d in range(n_dims):
                    gap = x[cell, d] - x[other, d]
                    total += gap * gap
                distance[found], others[found] = total, other
                found += 1
        kth[item], among[item] = np.inf, 0
        if found >= n_nearest:
            limit = np.sort(distance[:found])[n_nearest - 1]
            below = 0
            for c in range(found):
                if distance[c] < limit:
                    below += 1
                    among[item] += others[c] >= from_cell
            ties = np.sort(others[:found][distance[:found] == limit])
            for other in ties[: n_nearest - below]:
                among[item] += other >= from_cell
            kth[item] = limit
