"""Loops of spatial autocorrelation; ``autocorr.cu`` holds the same for CUDA.

Values are float32 (groups, cells, GENES), genes of one group together: a line of memory for each cell. A permutation
scatters the values over the tissue, so that a neighbour's is as far away as any: the tissue is cut into tiles, and what a
tile's cells and their neighbours have is fetched once. Each sum has one owner, who adds in one order.
"""

import numba
import numpy as np

from rsc_core.kernels.twin import twin

GENES, LANES = 32, 8  # genes that a block of CUDA takes together, and partial sums of each: together its threads
ROWS = 192  # cells whose values a block holds: 48 KB as float64


@twin("int64 int32 float32 int32 int64 float32", per_item=32)
def dense_columns(n_items, indptr, indices, values, column, width, out):
    """Columns of a sparse matrix, ``column`` saying which comes where (-1: nowhere), ``width`` together: (groups, cells, width)."""
    for cell in numba.prange(n_items):
        for k in range(indptr[cell], indptr[cell + 1]):
            to = column[indices[k]]
            if to >= 0:
                out[to // width, cell, to % width] = values[k]


@twin("float32 int64 int64 int64 float64 int64")
def gene_sums(n_items, x, n_cells, n_genes, chunk_rows, total, differing):
    for chunk in numba.prange(n_items // n_genes):
        for group in range(n_genes // GENES):
            for cell in range(chunk * chunk_rows, min(n_cells, (chunk + 1) * chunk_rows)):
                for g in range(GENES):
                    total[chunk, group * GENES + g] += x[group, cell, g]
                    differing[chunk, group * GENES + g] += x[group, cell, g] != x[group, 0, g]


@numba.njit(cache=True)
def grown_tiles(indptr, indices, cells, tile_of, cell_start):
    """Cut the cells of a graph into tiles that lie together: each grows from a cell to its neighbours until it has ROWS rows.

    ``cells`` (cells,) becomes the cells, tile by tile; ``cell_start`` (cells + 1,) where each tile begins; ``tile_of`` (cells,)
    is -1 before. The result is the number of tiles.
    """
    n = len(cells)
    queue, waiting, row_of = np.empty(n, dtype=np.int32), np.full(n, -1, dtype=np.int32), np.full(n, -1, dtype=np.int32)
    tile, n_rows, filled, head, tail, following = 0, 0, 0, 0, 0, 0
    cell_start[0] = 0
    while filled < n:
        while head < tail and tile_of[queue[head]] >= 0:
            head += 1
        if head == tail:
            while tile_of[following] >= 0:
                following += 1
            head, tail, queue[0] = 0, 1, following
        cell = queue[head]
        new = int(row_of[cell] != tile)
        for k in range(indptr[cell], indptr[cell + 1]):
            new += row_of[indices[k]] != tile
        if n_rows + new > ROWS and filled > cell_start[tile]:
            tile += 1
            cell_start[tile], n_rows = filled, 0
            queue[0], head, tail = cell, 0, 1
            continue
        head += 1
        cells[filled], tile_of[cell] = cell, tile
        filled, n_rows, row_of[cell] = filled + 1, n_rows + new, tile
        for k in range(indptr[cell], indptr[cell + 1]):
            other = indices[k]
            row_of[other] = tile
            if waiting[other] != tile and tile_of[other] < 0:
                waiting[other] = tile
                queue[tail] = other
                tail += 1
    cell_start[tile + 1] = n
    return tile + 1


@numba.njit(cache=True)
def rows_of_tiles(indptr, indices, weight, cells, cell_start, row_start, rows, edge_start, local, weight_of):
    """The rows of each tile: its own cells, then their neighbours, ROWS at most; and where among them each edge leads.

    Edges lie in the order of ``cells``, those of a cell from ``edge_start`` on: ``weight_of``, and ``local``, an edge's row, or
    -1 - cell where the tile has no room for it.
    """
    place = np.full(len(cells), -1, dtype=np.int32)
    edge, filled = 0, 0
    edge_start[0] = 0
    for tile in range(len(cell_start) - 1):
        row_start[tile] = first = filled
        for i in range(cell_start[tile], cell_start[tile + 1]):
            rows[filled], place[cells[i]] = cells[i], filled - first
            filled += 1
        for i in range(cell_start[tile], cell_start[tile + 1]):
            for k in range(indptr[cells[i]], indptr[cells[i] + 1]):
                other = indices[k]
                if place[other] < 0 and filled - first < ROWS:
                    rows[filled], place[other] = other, filled - first
                    filled += 1
                local[edge] = place[other] if place[other] >= 0 else -1 - other
                weight_of[edge] = weight[k]
                edge += 1
            edge_start[i + 1] = edge
        for row in range(first, filled):
            place[rows[row]] = -1
    row_start[len(cell_start) - 1] = filled


@numba.njit(cache=True)
def mutual_squares(indptr, indices, weight):
    """Sum of w_ij (w_ij + w_ji) over the edges of a graph."""
    n = len(indptr) - 1
    start = np.zeros(n + 2, dtype=np.int64)  # of the edges that lead to a cell, one place too far until they are filled in
    for k in range(len(indices)):
        start[indices[k] + 2] += 1
    for i in range(n):
        start[i + 2] += start[i + 1]
    source, from_source = np.empty(len(indices), dtype=np.int32), np.empty(len(indices))
    for i in range(n):
        for k in range(indptr[i], indptr[i + 1]):
            place = start[indices[k] + 1]
            source[place], from_source[place] = i, weight[k]
            start[indices[k] + 1] += 1
    row, total = np.zeros(n), 0.0
    for i in range(n):
        for k in range(indptr[i], indptr[i + 1]):
            row[indices[k]] += weight[k]
        for k in range(indptr[i], indptr[i + 1]):
            total += row[indices[k]] * weight[k]
        for e in range(start[i], start[i + 1]):
            total += row[source[e]] * from_source[e]
        for k in range(indptr[i], indptr[i + 1]):
            row[indices[k]] = 0.0
    return total


# Rows are named by numbers, not cut out as arrays: counting who holds an array costs as much as adding up a row of it.
@numba.njit
def add_three(z, a, b, c, u, v, w, lag):
    for g in range(GENES):
        lag[g] = lag[g] + u * z[a, g] + v * z[b, g] + w * z[c, g]


@numba.njit
def fetch(x, group, order, number, rows, first, last, mean, z):
    """z = x - mean, of the rows."""
    for row in range(last - first):
        cell = order[number, rows[first + row]]
        for g in range(GENES):
            z[row, g] = x[group, cell, g] - mean[group * GENES + g]


@numba.njit
def lags(x, group, order, number, start, stop, local, weight, mean, z, lag):
    """Sum of w z over the edges of a cell; three at a time where all lead to rows of the tile."""
    for g in range(GENES):
        lag[g] = 0.0
    k = start
    while k < stop:
        if k + 2 < stop and min(local[k], local[k + 1], local[k + 2]) >= 0:
            add_three(z, local[k], local[k + 1], local[k + 2], weight[k], weight[k + 1], weight[k + 2], lag)
            k += 3
            continue
        w = weight[k]
        if local[k] >= 0:
            for g in range(GENES):
                lag[g] += w * z[local[k], g]
        else:
            cell = order[number, -1 - local[k]]
            for g in range(GENES):
                lag[g] += w * (x[group, cell, g] - mean[group * GENES + g])
        k += 1


@numba.njit
def add_sums(z, i, lag, degree, n_sums, sums):
    lane = i % LANES
    for g in range(GENES):
        sums[0, lane, g] += z[i, g] * lag[g]
    if n_sums > 1:
        for g in range(GENES):
            sums[1, lane, g] += degree * (z[i, g] * z[i, g])
    if n_sums > 2:
        for g in range(GENES):
            sums[2, lane, g] += z[i, g] * z[i, g]


@twin("int64 int64 int32 int64 int32 float64 float64 float32 float64 int32 int64 int64 int64 int64 int64 float64", per_item=256)
def pair_sums(
    n_items, cell_start, row_start, rows, indptr, local, weight, degree, x, mean, order, n_cells, n_genes, n_tiles, n_orders, n_sums, out
):
    """Sums of a tile for GENES genes and an order of the cells.

    The first ``n_sums`` (1 to 3) of w z z, degree z^2 and z^2; ``out`` is (sums, orders, tiles, genes).
    """
    for item in numba.prange(n_items):
        group, number, tile = item // (n_orders * n_tiles), item // n_tiles % n_orders, item % n_tiles
        z, lag, sums, first = np.empty((ROWS, GENES)), np.empty(GENES), np.zeros((3, LANES, GENES)), group * GENES
        fetch(x, group, order, number, rows, row_start[tile], row_start[tile + 1], mean, z)
        for i in range(cell_start[tile], cell_start[tile + 1]):
            lags(x, group, order, number, indptr[i], indptr[i + 1], local, weight, mean, z, lag)
            add_sums(z, i - cell_start[tile], lag, degree[i], n_sums, sums)
        for part in range(n_sums):
            for g in range(GENES):
                total = 0.0
                for lane in range(LANES):
                    total += sums[part, lane, g]
                out[part, number, tile, first + g] = total


@twin("float64 int64 int64 float64")
def add_chunks(n_items, parts, n_chunks, n_genes, out):
    for item in numba.prange(n_items):
        row, gene = item // n_genes, item % n_genes
        total = 0.0
        for chunk in range(n_chunks):
            total += parts[row, chunk, gene]
        out[row, gene] = total
