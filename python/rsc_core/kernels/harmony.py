"""Steps of Harmony; ``harmony.cu`` holds the same for CUDA. Each sum has one owner and one order: rows of a tile, then tiles."""

import math

import numba
import numpy as np

from rsc_core.kernels.device import exp_double, log_double
from rsc_core.kernels.twin import twin

LANES = 32  # partial sums over the clusters, which a warp adds up
THREADS = 256
WARPS = THREADS // LANES  # partial sums over the rows of a tile
SPREAD = 256  # partial sums over the cells; the choice of the first centroids depends on it
LEAST_WEIGHT = 1e-30  # of a cluster, so that no row of R is 0 / 0 in float32


@numba.njit(inline="always")
def tile_start(item, tiles_per_block, block_rows, tile_rows):
    """Position of the first row of a tile: a block is cut into tiles, the last of which may be short or empty."""
    return (item // tiles_per_block) * block_rows + (item % tiles_per_block) * tile_rows


@numba.njit(inline="always")
def tile_stop(item, tiles_per_block, block_rows, tile_rows, n_cells):
    """Position after the last row of a tile."""
    start, end = tile_start(item, tiles_per_block, block_rows, tile_rows), (item // tiles_per_block + 1) * block_rows
    return min(start + tile_rows, end, n_cells)


@numba.njit(inline="always")
def added_up(part):
    """The sum of LANES values as a warp adds them up."""
    half = LANES // 2
    while half > 0:
        for lane in range(half):
            part[lane] += part[lane + half]
        half //= 2
    return part[0]


@twin("int64 int64 int64 int64 int64 int32 float32 int64 int64 float64", threads=THREADS, per_item=THREADS)
def held_sums(n_items, tiles_per_block, block_rows, tile_rows, n_cells, order, code, r, n_combinations, n_clusters, sums):
    """Of each tile of rows: the sum of R by combination of batches and cluster."""
    for item in numba.prange(n_items):
        sums[item] = 0.0
        start = tile_start(item, tiles_per_block, block_rows, tile_rows)
        for position in range(start, tile_stop(item, tiles_per_block, block_rows, tile_rows, n_cells)):
            cell = order[position]
            total, row = sums[item, code[cell]], r[cell]
            for k in range(n_clusters):
                total[k] += row[k]


@twin(
    "int64 int64 int64 int64 int64 int64 int32 float32 float32 float32 float64 int64 int64 float32 float64 float64",
    threads=THREADS,
    per_item=THREADS,
)
def choose_clusters(
    n_items,
    first,
    tiles_per_block,
    block_rows,
    tile_rows,
    n_cells,
    order,
    code,
    close,
    offset,
    weight,
    sigma,
    n_combinations,
    n_clusters,
    r,
    sums,
    entropy,
):
    """R of the rows of some tiles: closeness times the weight of the cell's combination, as shares of their sum.

    ``sums``: as of :func:`held_sums`, of the new R. ``entropy``: over the rows, the logarithm of their sum times sum_k R sigma.
    """
    for i in numba.prange(n_items):
        item, whole = first + i, n_clusters // LANES * LANES
        part, soft, of_warp = np.empty(LANES, dtype=np.float32), np.empty(LANES), np.zeros(WARPS)
        sums[item] = 0.0
        start = tile_start(item, tiles_per_block, block_rows, tile_rows)
        for position in range(start, tile_stop(item, tiles_per_block, block_rows, tile_rows, n_cells)):
            cell = order[position]
            own = code[cell]
            part[:] = 0.0
            soft[:] = 0.0
            near, wanted, row, total_here = close[cell], weight[own], r[cell], sums[item, own]
            for k in range(n_clusters):
                row[k] = near[k] * wanted[k]
            for k in range(0, whole, LANES):
                for lane in range(LANES):
                    part[lane] += row[k + lane]
            for k in range(whole, n_clusters):
                part[k - whole] += row[k]
            total = added_up(part)
            inverse = np.float32(1.0) / total
            for k in range(n_clusters):
                row[k] *= inverse
                total_here[k] += row[k]
            for k in range(0, whole, LANES):
                for lane in range(LANES):
                    soft[lane] += row[k + lane] * sigma[k + lane]
            for k in range(whole, n_clusters):
                soft[k - whole] += row[k] * sigma[k]
            of_warp[(position - start) % WARPS] += (log_double(float(total)) + offset[cell]) * added_up(soft)
        entropy[item] = 0.0
        for warp in range(WARPS):
            entropy[item] += of_warp[warp]


@twin(
    "float64 int64 float64 int64 float64 int64 int64 float64 float64 float64 int32 float64 float64 float32 float64 float64 float64",
    threads=64,
    per_item=64,
)
def settle_clusters(
    n_items,
    gained,
    n_gained,
    held,
    n_held,
    member,
    n_batches,
    n_combinations,
    share,
    theta,
    sigma,
    original,
    observed,
    weight,
    narrow,
    ratio,
    change,
    gain,
):
    """Cells of each combination in a cluster when one block has chosen and the next is taken out; the weights for that.

    Adds the tiles of ``gained`` to ``observed`` (combinations, clusters), and sum_c change sigma log weight to ``gain``; takes the
    tiles of ``held`` off; then the ratio of expected to observed cells of each batch to the power of theta, and its sum over
    the batches of a combination, ``weight``.
    """
    for k in numba.prange(n_items):
        for c in range(n_combinations):
            more, less = 0.0, 0.0
            for tile in range(n_gained):
                more += gained[tile, c, k]
            for tile in range(n_held):
                less += held[tile, c, k]
            change[c, k] = more
            observed[c, k] = (observed[c, k] + more) - less
        whole = 0.0
        for c in range(n_combinations):
            gain[k] += change[c, k] * sigma[k] * log_double(weight[c, k])
            whole += observed[c, k]
        for b in range(n_batches):
            there = 0.0
            for c in range(n_combinations):
                there += member[b, c] * observed[c, k]
            there, expected = max(there, 0.0), max(share[b] * whole, 0.0)
            quotient = (expected + 1.0) / (there + 1.0) if original else (2.0 * expected + 1.0) / (there + expected + 1.0)
            ratio[b, k] = exp_double(theta[b] * log_double(quotient))
        for c in range(n_combinations):
            total = 0.0
            for b in range(n_batches):
                total += member[b, c] * ratio[b, k]
            weight[c, k] = max(total, LEAST_WEIGHT)
            narrow[c, k] = weight[c, k]


@twin("float32 int64 int64 float64 int64 float32 float32", threads=SPREAD, per_item=SPREAD)
def spread_centroids(n_items, columns, n_cells, n_dims, draws, n_clusters, gap, centroids):
    """k-means++ on the sphere: each centroid a cell, drawn in proportion to its squared distance from the nearest before.

    ``columns`` (dims, cells); ``centroids`` (starts, dims, clusters). Cells are added up by their number modulo SPREAD.
    """
    for start in numba.prange(n_items):
        reach = np.empty(SPREAD)
        dot = np.empty(n_cells, dtype=np.float32)
        gap[start] = 1.0
        for k in range(n_clusters):
            whole = 0.0
            for t in range(SPREAD):
                total = 0.0
                for cell in range(t, n_cells, SPREAD):
                    total += gap[start, cell]
                reach[t] = total
                whole += total
            target, before, t = whole * draws[start, k], 0.0, 0
            while t < SPREAD - 1 and before + reach[t] <= target:
                before += reach[t]
                t += 1
            chosen = t
            for cell in range(t, n_cells, SPREAD):
                chosen = cell
                before += gap[start, cell]
                if before > target:
                    break
            chosen = min(chosen, n_cells - 1)
            dot[:] = 0.0
            for d in range(n_dims):
                here = columns[d, chosen]
                centroids[start, d, k] = here
                for cell in range(n_cells):
                    dot[cell] += columns[d, cell] * here
            for cell in range(n_cells):
                apart = max(np.float32(2.0) - np.float32(2.0) * dot[cell], np.float32(0.0))
                gap[start, cell] = apart if k == 0 else min(gap[start, cell], apart)


@twin("float32 int64 int64 float32 int64 int32 float32")
def closest_centroids(n_items, columns, n_cells, n_dims, centroids, n_clusters, label, closeness):
    """The centroid with the largest product with each cell, ties to the lowest number; item: a start's cell."""
    for item in numba.prange(n_items):
        start, cell = item // n_cells, item % n_cells
        dot = np.zeros(n_clusters, dtype=np.float32)
        for d in range(n_dims):
            here = columns[d, cell]
            for k in range(n_clusters):
                dot[k] += here * centroids[start, d, k]
        best = 0
        for k in range(1, n_clusters):
            if dot[k] > dot[best]:
                best = k
        label[start, cell], closeness[start, cell] = best, dot[best]


@twin("float32 int64 int64 int32 int64 float64 float32", threads=64, per_item=64)
def mean_centroids(n_items, columns, n_cells, n_dims, label, n_clusters, total, centroids):
    """The direction of the sum of each cluster's cells; a cluster without cells keeps its centroid. item: a start's cluster."""
    for start in numba.prange(n_items // n_clusters):
        total[start] = 0.0
        size = np.zeros(n_clusters, dtype=np.int64)
        for cell in range(n_cells):
            size[label[start, cell]] += 1
        for d in range(n_dims):
            for cell in range(n_cells):
                total[start, d, label[start, cell]] += columns[d, cell]
        for k in range(n_clusters):
            square = 0.0
            for d in range(n_dims):
                square += total[start, d, k] * total[start, d, k]
            length = max(math.sqrt(square), 1e-30)
            for d in range(n_dims):
                if size[k] > 0:
                    centroids[start, d, k] = total[start, d, k] / length
