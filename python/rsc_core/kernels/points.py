"""Loops over points in space; ``points.cu`` holds the same for CUDA. Distances are squares in float64, counts whole numbers."""

import numba
import numpy as np

from rsc_core.kernels.device import keep_nearest, sort_row
from rsc_core.kernels.twin import twin

TILE = 128  # points of one group that a block of CUDA takes, a thread each
BINS = 64  # distances that are counted in one pass
TABLE = 1 << 12  # entries of the table that finds a distance's bin
SLACK = 1e-6  # of a field's width: a point may lie in the next field by rounding


@numba.njit(inline="always")
def square_distance(query, i, x, j, n_dims):
    across, along = query[i, 0] - x[j, 0], query[i, 1] - x[j, 1]
    d = across * across + along * along
    if n_dims == 3:
        gap = query[i, 2] - x[j, 2]
        d += gap * gap
    return d


@twin("float64 int64 int64 int64 int64 int64 float64 int32 float64 int64 int64 int64", threads=TILE, per_item=TILE)
def pair_bins(n_items, x, n_dims, start, stop, first, last, limit, lowest, scale, first_bin, n_bins, count):
    """Pairs of a tile of points, ``start`` to ``stop``, with the points ``first`` to ``last``, by squared distance.

    Bin b takes those above ``limit[b - 1]`` and at most ``limit[b]``; ``lowest[int(d * scale)]`` is a bin not above that of d,
    for TABLE numbers. A point makes no pair with itself. To ``count`` (items, n_bins) the bins from ``first_bin`` on are added.
    """
    for item in numba.prange(n_items):
        own, above, largest = np.zeros(n_bins, dtype=np.int64), -1.0, limit[first_bin + n_bins - 1]
        if first_bin > 0:
            above = limit[first_bin - 1]
        for i in range(start[item], stop[item]):
            for j in range(first[item], last[item]):
                d = square_distance(x, i, x, j, n_dims)
                if d > above and d <= largest and i != j:
                    b = max(np.int64(lowest[min(np.int64(d * scale), TABLE - 1)]), first_bin)
                    while d > limit[b]:
                        b += 1
                    own[b - first_bin] += 1
        for b in range(n_bins):
            count[item, b] += own[b]


@numba.njit(inline="always")
def field_of(place, origin, width, n_fields):
    """The field of a coordinate along an axis; of one outside the nearest."""
    return np.int64(min(max(np.floor((place - origin) / width), 0.0), n_fields - 1.0))


@twin("float64 int64 float64 float64 float64 int64 int64 int64 int64")
def count_fields(n_items, x, n_dims, left, low, width, n_columns, n_rows, field, count):
    """The field of each point, a square of the plane of the first two dimensions, and how many points are in each."""
    for i in range(n_items):
        field[i] = field_of(x[i, 1], low, width, n_rows) * n_columns + field_of(x[i, 0], left, width, n_columns)
        count[field[i]] += 1


@twin("float64 int64 int64 int64 int32 float64")
def fill_fields(n_items, x, n_dims, field, next_place, member, sorted_x):
    """Points field by field: their numbers and coordinates. ``next_place``: the first free one of each field.

    Within a field the device puts them in any order: no result may depend on it.
    """
    for i in range(n_items):
        place = next_place[field[i]]
        next_place[field[i]] += 1
        member[place] = i
        for k in range(n_dims):
            sorted_x[place, k] = x[i, k]


@twin("float64 float64 int64 float64 float64 float64 int64 int64 int64 int32 int64 int64 int64 float64")
def nearest_in_fields(
    n_items, query, x, n_dims, left, low, width, n_columns, n_rows, start, member, not_itself, n_nearest, nearest, distance
):
    """The ``n_nearest`` points nearest to each query, in the order of (squared distance, index).

    ``x`` and ``member`` hold the points field by field (:func:`fill_fields`), those of field f from ``start[f]`` on. A query
    looks through rings of fields until what lies farther out cannot be nearer. ``not_itself``: query i is point i.
    """
    for item in numba.prange(n_items):
        i = np.int64(member[item]) if not_itself != 0 else np.int64(item)  # points of one field one after the other
        qx, qy, filled, ring, farther = query[i, 0], query[i, 1], 0, 0, True
        index, square = nearest[i], distance[i]
        column, row = field_of(qx, left, width, n_columns), field_of(qy, low, width, n_rows)
        while farther:
            for r in range(max(row - ring, 0), min(row + ring, n_rows - 1) + 1):
                whole = r == row - ring or r == row + ring
                c = column - ring
                while c <= column + ring:
                    end = column + ring if whole else c
                    first, last = max(c, 0), min(end, n_columns - 1)
                    if first <= last:
                        for m in range(start[r * n_columns + first], start[r * n_columns + last + 1]):
                            d = square_distance(query, i, x, m, n_dims)
                            if (filled < n_nearest or d <= square[n_nearest - 1]) and (not_itself == 0 or member[m] != i):
                                filled = keep_nearest(np.int64(member[m]), d, filled, index, square)
                    c = end + (1 if whole else 2 * ring)
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


@twin("float64 int64 float64 float64 float64 int64 int64 int64 int32 float64 int64")
def count_within(n_items, x, n_dims, left, low, width, n_columns, n_rows, start, member, radius, count):
    """How many other points lie within the radius of each; ``x`` and ``member``: see :func:`nearest_in_fields`."""
    reach, most = radius + SLACK * width, radius * radius
    for item in numba.prange(n_items):
        first, last = field_of(x[item, 0] - reach, left, width, n_columns), field_of(x[item, 0] + reach, left, width, n_columns)
        bottom, top = field_of(x[item, 1] - reach, low, width, n_rows), field_of(x[item, 1] + reach, low, width, n_rows)
        found = -1  # itself
        for r in range(bottom, top + 1):
            for m in range(start[r * n_columns + first], start[r * n_columns + last + 1]):
                if square_distance(x, item, x, m, n_dims) <= most:
                    found += 1
        count[member[item]] = found


@twin("float64 int64 float64 float64 float64 int64 int64 int64 int32 float64 int64 int32 float64")
def fill_within(n_items, x, n_dims, left, low, width, n_columns, n_rows, start, member, radius, indptr, neighbor, distance):
    """The points that :func:`count_within` counts and their squared distances, from ``indptr`` on, in any order."""
    reach, most = radius + SLACK * width, radius * radius
    for item in numba.prange(n_items):
        first, last = field_of(x[item, 0] - reach, left, width, n_columns), field_of(x[item, 0] + reach, left, width, n_columns)
        bottom, top = field_of(x[item, 1] - reach, low, width, n_rows), field_of(x[item, 1] + reach, low, width, n_rows)
        place = indptr[member[item]]
        for r in range(bottom, top + 1):
            for m in range(start[r * n_columns + first], start[r * n_columns + last + 1]):
                d = square_distance(x, item, x, m, n_dims)
                if d <= most and m != item:
                    neighbor[place], distance[place] = member[m], d
                    place += 1


@twin("int64 int32 float64")
def rows_by_index(n_items, indptr, neighbor, distance):
    """Each row in the order of its neighbours; squared distances become distances."""
    for item in numba.prange(n_items):
        sort_row(indptr[item], indptr[item + 1], neighbor, distance)
        for k in range(indptr[item], indptr[item + 1]):
            distance[k] = np.sqrt(distance[k])
