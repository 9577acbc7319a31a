"""Diffusion of genes over a grid; ``sepal.cu`` holds the same for CUDA."""

import numba
import numpy as np

from rsc_core.kernels.device import log_double
from rsc_core.kernels.twin import twin

LANES = 128  # partial sums of the entropy, added up in a tree: the threads of a block of CUDA
NOTHING = 2.220446049250313e-16  # a smaller sum has no entropy
TILE = 8  # genes that a thread of the CPU takes together: one vector of the processor, or two
SHARE, PARTS = 128, 8  # genes that one thread works through where there are many; threads that few genes are shared by


# Divisors are not checked (error_model): the check would keep a loop from becoming one of vectors.
@numba.njit(error_model="numpy")
def changes(x, n_full, neighbors, n_neighbors, of_sum, of_own, d):
    """d = of_sum times the sum of the neighbours (4 or 6) less of_own times the own value; x and d are (cells, TILE).

    Written out for both numbers, so that the compiler keeps a sum in registers and makes vectors of the genes.
    """
    if n_neighbors == 4:
        for s in range(n_full):
            own, out = x[s], d[s]
            a, b, c, e = x[neighbors[s, 0]], x[neighbors[s, 1]], x[neighbors[s, 2]], x[neighbors[s, 3]]
            for g in range(TILE):
                out[g] = of_sum * (a[g] + b[g] + c[g] + e[g]) - of_own * own[g]
    else:
        for s in range(n_full):
            own, out = x[s], d[s]
            a, b, c, e = x[neighbors[s, 0]], x[neighbors[s, 1]], x[neighbors[s, 2]], x[neighbors[s, 3]]
            f, h = x[neighbors[s, 4]], x[neighbors[s, 5]]
            for g in range(TILE):
                out[g] = of_sum * (a[g] + b[g] + c[g] + e[g] + f[g] + h[g]) - of_own * own[g]


@numba.njit(error_model="numpy")
def advance(x, d, step, mass, plogp):
    """One step of full cells, x and d (cells x TILE,); sums of x and x log x, (TILE,), come to lie at the start of mass and plogp."""
    mass[:], plogp[:] = 0.0, 0.0
    for start in range(0, len(d), LANES * TILE):
        here, change = x[start : start + LANES * TILE], d[start : start + LANES * TILE]
        for j in range(len(change)):
            value = max(here[j] + change[j] * step, 0.0)
            here[j] = value
            mass[j] += value
            plogp[j] += value * log_double(value)
    half = LANES * TILE // 2
    while half >= TILE:
        upper, weighted = mass[half : 2 * half], plogp[half : 2 * half]
        for j in range(half):
            mass[j] += upper[j]
            plogp[j] += weighted[j]
        half //= 2


@numba.njit(error_model="numpy")
def follow(first, stride, n_items, amount, n_cells, n_full, neighbors, source, n_neighbors, of_sum, of_own, step, threshold, n_steps, out):
    """Every ``stride``-th gene from ``first`` on, ``TILE`` of them under way; where one ends, the next begins in its place."""
    x, d = np.zeros((n_cells, TILE)), np.empty((n_full, TILE))
    full_x, full_d = x[:n_full].reshape(-1), d.reshape(-1)
    mass, plogp = np.empty(LANES * TILE), np.empty(LANES * TILE)
    gene, number, before = np.full(TILE, -1), np.zeros(TILE, dtype=np.int64), np.empty(TILE)
    coming, n_open = np.int64(first), 0
    while True:
        for g in range(TILE):
            if gene[g] < 0 and coming < n_items:
                for cell in range(n_cells):
                    x[cell, g] = amount[coming, cell]
                gene[g], number[g], before[g] = coming, 0, 1.0
                coming += stride
                n_open += 1
        if n_open == 0:
            break
        changes(x, n_full, neighbors, n_neighbors, of_sum, of_own, d)
        advance(full_x, full_d, step, mass, plogp)
        for u in range(n_full, n_cells):
            s = source[u - n_full]
            for g in range(TILE):
                x[u, g] = max(x[u, g] + d[s, g] * step, 0.0)
        for g in range(TILE):
            if gene[g] >= 0:
                entropy = (log_double(mass[g]) - plogp[g] / mass[g]) / n_full if mass[g] >= NOTHING else 0.0
                ended = abs(entropy - before[g]) <= threshold
                before[g] = entropy
                number[g] += 1
                if ended or number[g] == n_steps:
                    out[gene[g]] = number[g] - 1 if ended else -1
                    gene[g] = -1
                    n_open -= 1


@twin("float64 int64 int64 int32 int32 int64 float64 float64 float64 float64 int64 float64 int64", threads=LANES, per_item=LANES)
def diffused(n_items, amount, n_cells, n_full, neighbors, source, n_neighbors, of_sum, of_own, step, threshold, n_steps, change, out):
    """Steps until the entropy of a gene changes by no more than the threshold; -1 where it does not within ``n_steps``.

    The first ``n_full`` cells have all their ``neighbors`` (cells, n_neighbors): ``of_sum`` times the neighbours' sum less
    ``of_own`` times the own value is the change; each other cell changes as the full cell ``source`` does. ``amount``
    (genes, cells) is the start; ``change`` of its shape is working space.

    Entropy = (log S - Q / S) / n_full with S = sum of x, Q = sum of x log x over the full cells.
    """
    n_parts = max((n_items + SHARE - 1) // SHARE, min(PARTS, (n_items + TILE - 1) // TILE))
    for part in numba.prange(n_parts):
        args = (amount, n_cells, n_full, neighbors, source, n_neighbors, of_sum, of_own, step, threshold, n_steps)
        follow(part, n_parts, n_items, *args, out)
