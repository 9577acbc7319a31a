"""Cells, and sums of two, on the scale of the observed cells; ``doublets.cu`` holds the same for CUDA."""

import numba
import numpy as np

from rsc_core.kernels.twin import twin


# A row is written three times: counts of one cell, counts of both, and what they become.
@twin("int64 int64 int64 int32 float32 float64 float64 float64 int64 float32", per_item=32)
def standard_sums(n_items, first, second, indptr, indices, values, target, center, spread, n_genes, out):
    """(x / total · target - center) / spread of the sums x of two cells, or of one where ``second`` is negative.

    The quotient is rounded to float32, as normalised counts are stored.
    """
    for item in numba.prange(n_items):
        row, total = out[item], 0.0
        row[:] = 0.0
        for k in range(indptr[first[item]], indptr[first[item] + 1]):
            row[indices[k]] = values[k]
            total += values[k]
        if second[item] >= 0:
            for k in range(indptr[second[item]], indptr[second[item] + 1]):
                row[indices[k]] += values[k]
                total += values[k]
        factor = total / target if total > 0.0 else 1.0
        for gene in range(n_genes):
            row[gene] = (np.float32(row[gene] / factor) - center[gene]) / spread[gene]


@numba.njit(cache=True)
def smoothed(counts, most):
    """A histogram, float32, averaged over three neighbours until it has fewer than three modes, and where these are.

    Sums are carried on from place to place in float64, and a border is its own neighbour, as in SciPy's uniform_filter1d.
    """
    n = counts.size
    padded, modes = np.empty(n + 2), np.empty(n, dtype=np.int64)
    smooth, found = counts, 0
    for _ in range(most):
        padded[1:-1] = smooth
        padded[0], padded[-1] = padded[1], padded[-2]
        smooth, total = np.empty_like(smooth), padded[0] + padded[1] + padded[2]
        smooth[0] = total / 3
        for i in range(1, n):
            total += padded[i + 2] - padded[i - 1]
            smooth[i] = total / 3
        found, rises = 0, True
        for i in range(n - 1):
            if smooth[i + 1] < smooth[i]:
                if rises:
                    modes[found] = i
                    found += 1
                rises = False
            elif smooth[i + 1] > smooth[i]:
                rises = True
        if found < 3:
            break
    return smooth, modes[:found]
