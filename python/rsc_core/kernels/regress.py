"""What a linear model leaves of each value; ``regress.cu`` holds the same for CUDA."""

import numba
import numpy as np

from rsc_core.kernels.twin import twin


@twin("int64 float32 float64 int64 float64 int64 int64 float32", per_item=256)
def left_dense(n_items, n_rows, values, design, n_design, coefficients, n_columns, strip_rows, out):
    """values - design · coefficients; an item is a strip of rows."""
    for item in numba.prange(n_items):
        fitted = np.empty(n_columns)
        for row in range(item * strip_rows, min(n_rows, (item + 1) * strip_rows)):
            fitted[:] = 0.0
            for j in range(n_design):
                for column in range(n_columns):
                    fitted[column] += design[row, j] * coefficients[j, column]
            for column in range(n_columns):
                out[row, column] = values[row, column] - fitted[column]


@twin("int64 int32 float32 float64 int64 float64 int64 float32", per_item=32)
def left_sparse(n_items, indptr, indices, values, design, n_design, coefficients, n_columns, out):
    for row in numba.prange(n_items):
        fitted = np.zeros(n_columns)
        for j in range(n_design):
            for column in range(n_columns):
                fitted[column] += design[row, j] * coefficients[j, column]
        for column in range(n_columns):
            out[row, column] = -fitted[column]
        for k in range(indptr[row], indptr[row + 1]):
            out[row, indices[k]] = values[k] - fitted[indices[k]]
