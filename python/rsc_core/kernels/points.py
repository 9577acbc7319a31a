"""Loops over points in space; ``points.cu`` holds the same for CUDA. Distances are squares in float64, counts whole numbers."""

import numba
import numpy as np

from rsc_core.kernels.device import keep_nearest
from rsc_core.kernels.twin import twin

TILE = 128  # points of one group that a block of CUDA takes, a thread each
BINS = 64  # distances that are counted in one pass
SLACK = 1e-6  # of a field's width: a point may lie in the next field by rounding


@twin("float64 int64 int64 int64 int64 int64 float64 int64 int32 int64 float64 int64 int64 int64", threads=TILE, per_item=TILE)
def pair_bins(n_items, x, n_dims, start, stop, first, last, limit, n_limits, lowest, n_table, scale, first_bin, n_bins, count):
    """Pairs of a tile of points, ``start`` to ``stop``, with the points ``first`` to ``last``, by squared distance.

    Bin b takes those above ``limit[b - 1]`` and at most ``limit[b]``; ``lowest[int(d * scale)]`` is a bin not above that of d.
    A point makes no pair with itself. ``count`` (items, n_bins) takes the bins from ``first_bin`` on.
    """
    for item in numba.prange(n_items):
        own, most = np.zeros(n_bins, dtype=np.int64), limit[n_limits - 1]
        for i in range(start[item], stop[item]):
            for j in range(first[item], last[item]):
                d = 0.0
                for k in range(n_dims):
                    gap = x[i, k] - x[j, k]
                    d += gap * gap
                if d <= most and i != j:
                    b = np.int64(lowest[min(np.int64(d * scale), n_table - 1)])
                    while d > limit[b]:
                        b += 1
                    if b >= first_bin and b - first_bin < n_bins:
                        own[b - first_bin] += 1
        for b in range(n_bins):
            count[item, b] = own[b]


@twin("float64 float64 int64 float64 float64 float64 int64 int64 int64 int64 int64 int64 int64 float64")
def nearest_in_fields(
    n_items, query, x, n_dims, left, low, width, n_columns, n_rows, start, member, not_itself, n_nearest, nearest, distance
):
    """The ``n_nearest`` points of ``x`` nearest to each query, in the order of (squared distance, index).

    The plane of the first two dimensions is cut into square fields; ``member[start[f]]`` ... are the points of field f. A
    query looks through rings of fields until what lies farther out cannot be nearer. ``not_itself``: query i is point i.
    """
    for item in numba.prange(n_items):
        qx, qy, filled, ring, farther = query[item, 0], query[item, 1], 0, 0, True
        index, square = nearest[item], distance[item]
        column = min(max(np.int64(np.floor((qx - left) / width)), 0), n_columns - 1)
        row = min(max(np.int64(np.floor((qy - low) / width)), 0), n_rows - 1)
        while farther:
            for r in range(max(row - ring, 0), min(row + ring, n_rows - 1) + 1):
                whole = r == row - ring or r == row + ring
                c = column - ring
                while c <= column + ring:
                    if c >= 0 and c < n_columns:
                        field = r * n_columns + c
                        for m in range(start[field], start[field + 1]):
                            other = member[m]
                            if not_itself != 0 and other == item:
                                continue
                            d = 0.0
                            for k in range(n_dims):
                                gap = query[item, k] - x[other, k]
                                d += gap * gap
                            filled = keep_nearest(other, d, filled, index, square)
                    c += 1 if whole or ring == 0 else 2 * ring
            reach, farther = np.inf, False
            if column - ring > 0:
                reach, farther = min(reach, qx - (left + (column - ring) * width)), True
            if column + ring < n_columns - 1:
                reach, farther = min(reach, left + (column + ring + 1) * width - qx), True
            if row - ring > 0:
                reach, farther = min(reach, qy - (low + (row - ring) * width)), True
            if row + ring < n_rows - 1:
                reach, farther = min(reach, low + (row + ring + 1) * width - qy), True
            reach -= SLACK * width
            if filled == n_nearest and reach > 0.0 and square[n_nearest - 1] < reach * reach:
                farther = False
            ring += 1
