"""Pearson residuals and zeros of a Poisson model; ``moments.cu`` holds the same for CUDA.

A warp of CUDA owns a share: lane l adds the values l, l + 32, ... in order, and a tree joins the lanes. The CPU adds in
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


@numba.njit(inline="always")
def residual(count, expected, theta, clip):
    if expected <= 0.0:
        return 0.0
    value = (count - expected) / math.sqrt(expected + expected * expected / theta)
    return min(max(value, -clip), clip)


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


@twin("float64 int64 float64 int64 float64 float64 float64 float64", per_item=32)
def zero_residuals(n_items, distinct, times, share, n_distinct, theta, clip, sums, squares):
    for item in numba.prange(n_items):
        some, some_squares = np.zeros(32), np.zeros(32)
        for d in range(n_distinct):
            zero = residual(0.0, distinct[d] * share[item], theta, clip)
            some[d % 32] += times[d] * zero
            some_squares[d % 32] += times[d] * (zero * zero)
        sums[item] = joined(some)
        squares[item] = joined(some_squares)
