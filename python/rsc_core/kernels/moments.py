"""Moments of columns and of Pearson residuals, zeros of a Poisson model; ``moments.cu`` holds the same for CUDA.

A warp of CUDA owns a column: lane l adds the values l, l + 32, ... in order, and a tree joins the lanes. The CPU adds in
the same order, so that the bits are equal where the functions of the values are.
"""

import math

import numba
import numpy as np

from rsc_core.kernels.device import exp_double
from rsc_core.kernels.twin import twin


@numba.njit(inline="always")
def joined(lanes):
    for step in (16, 8, 4, 2, 1):
        for lane in range(step):
            lanes[lane] += lanes[lane + step]
    return lanes[0]


# Offsets from the first value where no zero is left out, so that a constant column has no variance at all.
@twin("int64 float32 int64 float64 int32 float64 float64", per_item=32)
def column_moments(n_items, indptr, values, n_rows, factor, take_expm1, mean, deviation):
    for column in numba.prange(n_items):
        start, stop = indptr[column], indptr[column + 1]
        zeros = n_rows - (stop - start)
        lanes, offset = np.zeros(32), 0.0
        if zeros == 0 and n_rows > 0:
            offset = math.expm1(values[start] * factor) if take_expm1 else values[start] * factor
        for k in range(start, stop):
            value = math.expm1(values[k] * factor) if take_expm1 else values[k] * factor
            lanes[(k - start) % 32] += value - offset
        center = offset + joined(lanes) / max(n_rows, 1)
        lanes[:] = 0.0
        for k in range(start, stop):
            value = math.expm1(values[k] * factor) if take_expm1 else values[k] * factor
            lanes[(k - start) % 32] += (value - center) * (value - center)
        mean[column] = center
        deviation[column] = joined(lanes) + zeros * center * center


@numba.njit(inline="always")
def residual(count, expected, theta, clip):
    if expected <= 0.0:
        return 0.0
    value = (count - expected) / math.sqrt(expected + expected * expected / theta)
    return min(max(value, -clip), clip)


# The residual of a zero depends on the total of its cell alone: once for each distinct total, as often as it occurs.
@twin("int64 int32 float32 float64 float64 int64 int64 float64 float64 float64 int64 float64", per_item=32)
def residual_variance(n_items, indptr, indices, values, cell_total, distinct, times, n_distinct, share, theta, clip, n_cells, variance):
    for gene in numba.prange(n_items):
        sums, squares, start = np.zeros(32), np.zeros(32), indptr[gene]
        for d in range(n_distinct):
            zero = residual(0.0, distinct[d] * share[gene], theta, clip)
            sums[d % 32] += times[d] * zero
            squares[d % 32] += times[d] * (zero * zero)
        for k in range(start, indptr[gene + 1]):
            expected = cell_total[indices[k]] * share[gene]
            zero, here = residual(0.0, expected, theta, clip), residual(values[k], expected, theta, clip)
            sums[(k - start) % 32] += here - zero
            squares[(k - start) % 32] += here * here - zero * zero
        center = joined(sums) / n_cells
        variance[gene] = joined(squares) / n_cells - center * center


@twin("int64 int32 float32 float64 float64 int64 float64 float64 float32", per_item=32)
def residual_rows(n_items, indptr, indices, values, cell_total, share, n_genes, theta, clip, out):
    for cell in numba.prange(n_items):
        for gene in range(n_genes):
            out[cell, gene] = residual(0.0, cell_total[cell] * share[gene], theta, clip)
        for k in range(indptr[cell], indptr[cell + 1]):
            out[cell, indices[k]] = residual(values[k], cell_total[cell] * share[indices[k]], theta, clip)


@twin("float64 int64 float64 int64 float64", per_item=32)
def expected_zeros(n_items, distinct, times, share, n_distinct, out):
    for gene in numba.prange(n_items):
        lanes = np.zeros(32)
        for d in range(n_distinct):
            lanes[d % 32] += times[d] * exp_double(-share[gene] * distinct[d])
        out[gene] = joined(lanes)
