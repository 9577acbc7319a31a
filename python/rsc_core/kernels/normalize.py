"""Sums of rows, and values divided by a factor of their row; ``normalize.cu`` holds the same for CUDA."""

import numba

from rsc_core.kernels.device import log1p_double
from rsc_core.kernels.twin import twin


@twin("int64 float32 float64", per_item=32)
def row_sums(n_items, indptr, values, out):
    for row in numba.prange(n_items):
        total = 0.0
        for k in range(indptr[row], indptr[row + 1]):
            total += values[k]
        out[row] = total


@twin("int64 float32 int64", per_item=32)
def positive_sizes(n_items, indptr, values, out):
    for row in numba.prange(n_items):
        found = 0
        for k in range(indptr[row], indptr[row + 1]):
            if values[k] > 0:
                found += 1
        out[row] = found


@twin("int64 float32 float64 int32 float32", per_item=32)
def scale_rows(n_items, indptr, values, size_factor, take_log, out):
    for row in numba.prange(n_items):
        factor = size_factor[row]
        if take_log:
            for k in range(indptr[row], indptr[row + 1]):
                out[k] = log1p_double(values[k] / factor)
        else:
            for k in range(indptr[row], indptr[row + 1]):
                out[k] = values[k] / factor


@twin("int64 float32 float64 float64 float32", per_item=256)
def shares_of_rows(n_items, indptr, values, target, size_factor, out):
    """value / size factor of the row, total / target, which is 1 where the total is not above 0."""
    for row in numba.prange(n_items):
        total = 0.0
        for k in range(indptr[row], indptr[row + 1]):
            total += values[k]
        factor = total / target if total > 0.0 else 1.0
        for k in range(indptr[row], indptr[row + 1]):
            out[k] = values[k] / factor
        size_factor[row] = factor


# Every cell that finds a dominant gene writes the same 1.
@twin("int64 int32 float32 float64 int32", per_item=32)
def dominant_columns(n_items, indptr, indices, values, limit, dominant):
    for row in numba.prange(n_items):
        for k in range(indptr[row], indptr[row + 1]):
            if values[k] > limit[row]:
                dominant[indices[k]] = 1
