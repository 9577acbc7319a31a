"""Loops of the exact search among all cells by tiles, blocks of cells that lie near each other.

For the host alone: the device searches by cuVS's products of matrices, which leave its memory no faster in tiles.

Half a squared distance is |x|^2/2 + |y|^2/2 - xy. The rows ``left`` (x, 1, -|x|^2/2) and ``right`` (y, -|y|^2/2, 1) make minus
that a product of float32 matrices, which serves both cells at once. It only rules out: what it leaves is summed in float64,
dimension after dimension as by :func:`rsc_core.kernels.search.squared_distances`, and kept by (distance, index). No result
depends on the tiles, on the order of the pairs, or on how the products are added up.
"""

import math

import numba
import numpy as np

from rsc_core.kernels.device import keep_nearest

COLUMNS = 64  # products that are looked through at once
ROUND_DOWN = 1.0 + 2.0**-22  # times a negative number: below it in float32, too
UNDERFLOW = 1e-36  # above what float32 can lose below its normal numbers, of coordinates up to 1


@numba.njit(cache=True)
def squared_distance(x, cell, other):
    total = 0.0
    for d in range(x.shape[1]):
        gap = x[cell, d] - x[other, d]
        total += gap * gap
    return total


@numba.njit(cache=True)
def keep(cell, other, d, unit, index, found):
    """``other`` among the nearest of ``cell``, if it is; ``reach``: the least product at which another may still be."""
    nearest, square, reach = found
    last = square.shape[1] - 1
    if d <= square[cell, last]:
        keep_nearest(index[other], d, last + 1, nearest[cell], square[cell])
        reach[cell] = np.float32(square[cell, last] * (-0.5 * unit * unit * ROUND_DOWN) - UNDERFLOW)


@numba.njit(cache=True)
def any_reaches(product, reach, own_reach):
    """Does a product of a row reach what it or a column needs? NaN does."""
    found = 0
    for j in range(product.size):
        least = reach[j] if reach[j] < own_reach else own_reach
        found |= not (product[j] < least)
    return found


@numba.njit(cache=True)
def rows_of(matrix, cells, out):
    """Rows of a matrix, one after another."""
    for i in range(cells.size):
        for d in range(matrix.shape[1]):
            out[i, d] = matrix[cells[i], d]
    return out[: cells.size]


@numba.njit(cache=True)
def meet(rows, columns, left, right, points, found, room):
    """Cells become each other's neighbours where they are near enough, by their rows of ``left`` and ``right``; each pair counts once."""
    (x, unit, _, _, index), reach = points, found[2]
    least, product = np.empty(columns.size, np.float32), room[0][: rows.size * columns.size].reshape(rows.size, columns.size)
    for j in range(columns.size):
        least[j] = reach[columns[j]]
    np.dot(left, right.T, product)
    for i in range(rows.size):
        cell = rows[i]
        for start in range(0, columns.size, COLUMNS):
            stop = min(columns.size, start + COLUMNS)
            if not any_reaches(product[i, start:stop], least[start:stop], reach[cell]):
                continue
            for j in range(start, stop):
                other = columns[j]
                if cell < other and not (product[i, j] < reach[cell] and product[i, j] < reach[other]):
                    d = squared_distance(x, cell, other)
                    keep(cell, other, d, unit, index, found)
                    keep(other, cell, d, unit, index, found)


@numba.njit(cache=True)
def mark_near(place, boundary, start, unit, margin, square, near):
    """Which cells of a tile, at places along a line, have a neighbour farther than the boundary of another tile; how many."""
    n_near, last = 0, square.shape[1] - 1
    for i in range(place.size):
        gap = (np.float64(boundary) - np.float64(place[i])) - margin
        near[start + i] = not (gap > 0.0 and gap * gap > square[start + i, last] * (unit * unit))
        n_near += near[start + i]
    return n_near


@numba.njit(cache=True)
def tiles_may_meet(here, there, bounds, points, square, near):
    """Mark the cells of two tiles that may have a neighbour in the other; how many products that takes.

    Between the tiles along the line of their centres lies a gap that no distance is below.
    """
    starts, centre, length = bounds
    unit, left = points[1], points[2]
    a, b, c, d = starts[here], starts[here + 1], starts[there], starts[there + 1]
    line = centre[there] - centre[here]
    norm = 0.0
    for k in range(line.size):
        norm += np.float64(line[k]) * np.float64(line[k])
    norm = math.sqrt(norm)
    for k in range(line.size):
        line[k] = line[k] / norm if norm > 0.0 else 0.0
    first, second = np.dot(left[a:b], line), np.dot(left[c:d], line)
    margin = 4.0 * (line.size + 8) * 2.0**-24 * (length[here] + length[there])
    n_first = mark_near(first, second.min(), a, unit, margin, square, near)
    n_second = mark_near(-second, -first.max(), c, unit, margin, square, near)
    return n_first * (d - c) + (b - a - n_first) * n_second


@numba.njit(cache=True)
def cells_that(wanted, start, stop, near):
    """Cells of a tile by their mark."""
    cells, n = np.empty(stop - start, np.int64), 0
    for cell in range(start, stop):
        if near[cell] == wanted:
            cells[n] = cell
            n += 1
    return cells[:n]


@numba.njit(cache=True)
def tiles_meet(here, there, starts, points, found, near, room):
    """Cells of a tile that may have neighbours in another meet all of the other; the rest those that may have some among them."""
    left, right = points[2], points[3]
    a, b, c, d = starts[here], starts[here + 1], starts[there], starts[there + 1]
    rows = cells_that(1, a, b, near)
    if rows.size:
        meet(rows, np.arange(c, d), rows_of(left, rows, room[1]), right[c:d], points, found, room)
    columns = cells_that(1, c, d, near)
    if rows.size < b - a and columns.size:
        rows = cells_that(0, a, b, near)
        meet(rows, columns, rows_of(left, rows, room[1]), rows_of(right, columns, room[2]), points, found, room)


@numba.njit(parallel=True, cache=True)
def look_inside(n_shares, starts, points, found, rooms):
    """The pairs of each tile."""
    n_tiles = starts.size - 1
    for share in numba.prange(n_shares):
        for tile in range(n_tiles * share // n_shares, n_tiles * (share + 1) // n_shares):
            a, b = starts[tile], starts[tile + 1]
            cells = np.arange(a, b)
            meet(cells, cells, points[2][a:b], points[3][a:b], points, found, (rooms[0][share], rooms[1][share], rooms[2][share]))


@numba.njit(parallel=True, cache=True)
def look_between(n_shares, step, bounds, points, found, near, rooms):
    """Tiles t and t ^ step, each in one pair, so that no two threads write to the same cell."""
    starts, square = bounds[0], found[1]
    n_tiles = starts.size - 1
    work = np.zeros(n_tiles + 1, np.int64)
    for tile in numba.prange(n_tiles):
        if tile < tile ^ step:
            work[tile + 1] = tiles_may_meet(tile, tile ^ step, bounds, points, square, near)
    work = np.cumsum(work)
    for share in numba.prange(n_shares):
        room = (rooms[0][share], rooms[1][share], rooms[2][share])
        low, high = work[n_tiles] * share // n_shares, work[n_tiles] * (share + 1) // n_shares
        for tile in range(n_tiles):
            if low < work[tile + 1] <= high and work[tile + 1] > work[tile]:
                tiles_meet(tile, tile ^ step, starts, points, found, near, room)


@numba.njit(cache=True)
def nearest_by_tiles(n_shares, starts, centre, length, x, unit, left, right, index, nearest, square):
    """The nearest other cells of each cell.

    Parameters
    ----------
    n_shares
        Threads.
    starts
        int64 (tiles + 1,): the first cell of each tile; the tiles are a power of two, and those whose numbers share the higher
        bits lie near each other.
    centre, length
        float32 (tiles, dimensions + 2), zeros at the end; float64, the length of the longest row of ``left`` in a tile.
    x
        float64 (cells, dimensions), tile after tile.
    unit
        ``left`` and ``right`` hold ``x``, centred, times this; a power of two.
    left, right
        float32 (cells, dimensions + 2); half the squares already reduced by what float32 may lose.
    index
        int64: the number by which a cell is known, and ties are decided.
    nearest, square
        (cells, neighbours), int64 and float64, to be filled.
    """
    n_cells, n_dims = left.shape
    n_tiles, most = starts.size - 1, np.diff(starts).max()
    rooms = (
        np.empty((n_shares, most * most), np.float32),
        np.empty((n_shares, most, n_dims), np.float32),
        np.empty((n_shares, most, n_dims), np.float32),
    )
    nearest[:], square[:] = -1, np.inf
    bounds, points = (starts, centre, length), (x, unit, left, right, index)
    found, near = (nearest, square, np.full(n_cells, -np.inf, np.float32)), np.empty(n_cells, np.uint8)
    np.dot(left[:1], right[:1].T)  # BLAS is found by the first call, which must not be that of a thread
    np.dot(left[:1], centre[0])
    look_inside(n_shares, starts, points, found, rooms)
    for step in range(1, n_tiles):
        look_between(n_shares, step, bounds, points, found, near, rooms)
