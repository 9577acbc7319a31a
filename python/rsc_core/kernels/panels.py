"""Sums of columns by panels of rows, transposition, running totals; ``panels.cu`` holds the same for CUDA.

A panel is a fixed number of rows that one thread block of CUDA adds up row after row, its threads taking the columns of a
row, which are distinct. So every sum has the order of the rows on both backends, without atomics, and is the same
however the rows were cut into blocks of whole panels.
"""

import math

import numba
import numpy as np

from rsc_core.kernels.moments import residual
from rsc_core.kernels.twin import twin


# Of each column: number of entries, their sum, the sums of their distances from a center, and of the squares of these.
@twin("int64 int64 int32 float32 int64 int64 int64 float64 int32 float64 float64", per_item=256)
def panel_moments(n_items, first, indptr, indices, values, n_rows, n_columns, panel_rows, factor, take_expm1, center, parts):
    for panel in numba.prange(n_items):
        part, start = parts[panel], first + panel * panel_rows
        for k in range(indptr[start], indptr[min(n_rows, start + panel_rows)]):
            column = indices[k]
            value = math.expm1(values[k] * factor) if take_expm1 else values[k] * factor
            apart = value - center[column]
            part[column, 0] += 1.0
            part[column, 1] += value
            part[column, 2] += apart
            part[column, 3] += apart * apart


@twin("int64 float32 int64 int64 int64 float64 int32 float64 float64", per_item=256)
def panel_moments_dense(n_items, first, values, n_rows, n_columns, panel_rows, factor, take_expm1, center, parts):
    for panel in numba.prange(n_items):
        part, start = parts[panel], first + panel * panel_rows
        for row in range(start, min(n_rows, start + panel_rows)):
            for column in range(n_columns):
                value = math.expm1(values[row, column] * factor) if take_expm1 else values[row, column] * factor
                apart = value - center[column]
                part[column, 0] += 1.0
                part[column, 1] += value
                part[column, 2] += apart
                part[column, 3] += apart * apart


# What the entries of a column change in the sums of residuals, and of their squares, of a column of zeros.
@twin("int64 int64 int32 float32 float64 float64 float64 float64 int64 int64 int64 float64", per_item=256)
def panel_residuals(n_items, first, indptr, indices, values, cell_total, share, theta, clip, n_rows, n_columns, panel_rows, parts):
    for panel in numba.prange(n_items):
        part, start = parts[panel], first + panel * panel_rows
        for row in range(start, min(n_rows, start + panel_rows)):
            for k in range(indptr[row], indptr[row + 1]):
                column = indices[k]
                expected = cell_total[row] * share[column]
                zero, here = residual(0.0, expected, theta, clip), residual(values[k], expected, theta, clip)
                part[column, 0] += here - zero
                part[column, 1] += here * here - zero * zero


@twin("float64 int64 float64")
def add_panels(n_items, parts, n_panels, total):
    for item in numba.prange(n_items):
        for panel in range(n_panels):
            total[item] += parts[panel, item]


@twin("int64 int64 int64", threads=1024, per_item=1024)
def running_total(n_items, sizes, n_sizes, out):
    out[0] = 0
    for i in range(n_sizes):
        out[i + 1] = out[i] + sizes[i]


@twin("int64 int32 int64 int64 int64 int32", per_item=256)
def column_counts(n_items, indptr, indices, n_rows, n_columns, panel_rows, counts):
    for panel in numba.prange(n_items):
        start = panel * panel_rows
        for k in range(indptr[start], indptr[min(n_rows, start + panel_rows)]):
            counts[panel, indices[k]] += 1


# counts become the number of entries of the column in earlier panels.
@twin("int64 int64 int32 int64")
def column_offsets(n_items, n_panels, n_columns, counts, sizes):
    for column in numba.prange(n_items):
        before = np.int64(0)
        for panel in range(n_panels):
            here = counts[panel, column]
            counts[panel, column] = before
            before += here
        sizes[column] = before


@twin("int64 int32 int64 int64 int64 int64 int32 int64 int32", per_item=256)
def column_entries(n_items, indptr, indices, n_rows, n_columns, panel_rows, starts, counts, entry, row_of):
    for panel in numba.prange(n_items):
        start = panel * panel_rows
        for row in range(start, min(n_rows, start + panel_rows)):
            for k in range(indptr[row], indptr[row + 1]):
                column = indices[k]
                place = starts[column] + counts[panel, column]
                counts[panel, column] += 1
                entry[place] = k
                row_of[place] = row
