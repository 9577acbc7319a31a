"""Diffusion of genes over a grid; ``sepal.cu`` holds the same for CUDA."""

import numba
import numpy as np

from rsc_core.kernels.twin import twin

LANES = 128  # partial sums of the entropy, added up in a tree: the threads of a block of CUDA
NOTHING = 2.220446049250313e-16  # a smaller sum has no entropy
TILE = 8  # genes that the CPU takes together


@numba.njit(inline="always")
def logarithms(value_bits, mantissa, mantissa_bits, out):
    """log(x) of TILE positive numbers from their bits; x = 0 gives a finite number. ``mantissa`` is working space.

    log(x) = e log 2 + log(m), x = 2^e m, sqrt(1/2) < m <= sqrt(2), log(m) = 2 atanh(s), s = (m - 1) / (m + 1): series to
    s^21. Within 2 ulp, and the same bits on both backends, which libm does not give.
    """
    for g in range(TILE):
        mantissa_bits[g] = (value_bits[g] & 0xFFFFFFFFFFFFF) | 0x3FF0000000000000
    for g in range(TILE):
        e, m = float((value_bits[g] >> 52) - 1023), mantissa[g]
        large = m > 1.4142135623730951
        m = m * 0.5 if large else m
        e = e + 1.0 if large else e
        s = (m - 1.0) / (m + 1.0)
        z = s * s
        p = 1.0 / 21.0
        p = p * z + 1.0 / 19.0
        p = p * z + 1.0 / 17.0
        p = p * z + 1.0 / 15.0
        p = p * z + 1.0 / 13.0
        p = p * z + 1.0 / 11.0
        p = p * z + 1.0 / 9.0
        p = p * z + 1.0 / 7.0
        p = p * z + 1.0 / 5.0
        p = p * z + 1.0 / 3.0
        out[g] = e * 0.6931471805599453 + 2.0 * (s + s * z * p)


@twin("float64 int64 int64 int32 int32 int64 float64 float64 float64 float64 int64 float64 int64", threads=LANES, per_item=LANES)
def diffused(n_items, amount, n_cells, n_full, neighbors, source, n_neighbors, of_sum, of_own, step, threshold, n_steps, change, out):
    """Steps until the entropy of a gene changes by no more than the threshold; -1 where it does not within ``n_steps``.

    The first ``n_full`` cells have all their ``neighbors`` (cells, n_neighbors): ``of_sum`` times the neighbours' sum less
    ``of_own`` times the own value is the change; each other cell changes as the full cell ``source`` does. ``amount``
    (genes, cells) is the start; ``change`` of its shape is working space.

    Entropy = (log S - Q / S) / n_full with S = sum of x, Q = sum of x log x over the full cells.
    """
    for tile in numba.prange((n_items + TILE - 1) // TILE):
        width = min(TILE, n_items - tile * TILE)
        x, d = np.zeros((n_cells, TILE)), np.empty((n_full, TILE))
        for g in range(width):
            for cell in range(n_cells):
                x[cell, g] = amount[tile * TILE + g, cell]
        bits, mantissa, logs = x.view(np.int64), np.empty(TILE), np.empty(TILE)
        mantissa_bits, before, open_genes = mantissa.view(np.int64), np.ones(TILE), width
        for g in range(width):
            out[tile * TILE + g] = -1
        for number in range(n_steps):
            for s in range(n_full):
                for g in range(TILE):
                    d[s, g] = 0.0
                for k in range(n_neighbors):
                    other = neighbors[s, k]
                    for g in range(TILE):
                        d[s, g] += x[other, g]
                for g in range(TILE):
                    d[s, g] = of_sum * d[s, g] - of_own * x[s, g]
            sums = np.zeros((LANES, 2, TILE))
            for s in range(n_full):
                lane = sums[s % LANES]
                for g in range(TILE):
                    x[s, g] = max(x[s, g] + d[s, g] * step, 0.0)
                logarithms(bits[s], mantissa, mantissa_bits, logs)
                for g in range(TILE):
                    lane[0, g] += x[s, g]
                    lane[1, g] += x[s, g] * logs[g]
            for u in range(n_full, n_cells):
                for g in range(TILE):
                    x[u, g] = max(x[u, g] + d[source[u - n_full], g] * step, 0.0)
            half = LANES // 2
            while half > 0:
                for lane in range(half):
                    for g in range(TILE):
                        sums[lane, 0, g] += sums[lane + half, 0, g]
                        sums[lane, 1, g] += sums[lane + half, 1, g]
                half //= 2
            logarithms(sums[0, 0].view(np.int64), mantissa, mantissa_bits, logs)
            for g in range(width):
                total, entropy = sums[0, 0, g], 0.0
                if total >= NOTHING:
                    entropy = (logs[g] - sums[0, 1, g] / total) / n_full
                if out[tile * TILE + g] < 0 and abs(entropy - before[g]) <= threshold:
                    out[tile * TILE + g] = number
                    open_genes -= 1
                before[g] = entropy
            if open_genes == 0:
                break
