"""Sums of columns by panels of rows, transposition, running totals; ``panels.cu`` holds the same for CUDA.

A panel is a fixed number of rows that a thread block of CUDA adds up row after row, its threads taking the columns of a
row, which are distinct. So every sum has the order of the rows on both backends, without atomics, and is the same
however the rows were cut into blocks of whole panels. An item is a panel and a tile of its columns: CUDA keeps the sums of
a tile in shared memory. No result depends on the width of the tiles.
"""

import math

import numba
import numpy as np

from rsc_core.kernels.moments import residual
from rsc_core.kernels.twin import twin

TILE = 6144  # sums in the shared memory of a CUDA block: 48 KiB
STRIPE = 256  # columns of a dense matrix that one CUDA block takes


# Sums of the distances of a column's entries from a center, or of the squares of these.
@twin("int64 int64 int32 float32 int64 int64 int64 int64 float64 int32 float64 int32 float64", threads=512, per_item=512)
def panel_sums(n_items, first, indptr, indices, values, n_rows, n_columns, panel_rows, width, factor, take_expm1, center, squared, parts):
    n_tiles = -(-n_columns // width)
    for item in numba.prange(n_items):
        part, start, low = parts[item // n_tiles], first + item // n_tiles * panel_rows, item % n_tiles * width
        for k in range(indptr[start], indptr[min(n_rows, start + panel_rows)]):
            column = indices[k]
            if low <= column < low + width:
                value = math.expm1(values[k] * factor) if take_expm1 else values[k] * factor
                apart = value - center[column]
                part[0, column] += apart * apart if squared else apart


@twin("int64 float32 int64 int64 int64 float64 int32 float64 int32 float64", per_item=256)
def panel_sums_dense(n_items, first, values, n_rows, n_columns, panel_rows, factor, take_expm1, center, squared, parts):
    n_tiles = -(-n_columns // STRIPE)
    for item in numba.prange(n_items):
        part, start, low = parts[item // n_tiles, 0], first + item // n_tiles * panel_rows, item % n_tiles * STRIPE
        for row in range(start, min(n_rows, start + panel_rows)):
            for column in range(low, min(n_columns, low + STRIPE)):
                value = math.expm1(values[row, column] * factor) if take_expm1 else values[row, column] * factor
                apart = value - center[column]
                part[column] += apart * apart if squared else apart


# What the entries of a column change in the sums of residuals, and of their squares, of a column of zeros.
@twin("int64 int64 int32 float32 float64 float64 float64 float64 int64 int64 int64 int64 float64", threads=512, per_item=512)
def panel_residuals(n_items, first, indptr, indices, values, cell_total, share, theta, clip, n_rows, n_columns, panel_rows, width, parts):
    n_tiles = -(-n_columns // width)
    for item in numba.prange(n_items):
        part, start, low = parts[item // n_tiles], first + item // n_tiles * panel_rows, item % n_tiles * width
        for row in range(start, min(n_rows, start + panel_rows)):
            for k in range(indptr[row], indptr[row + 1]):
                column = indices[k]
                if low <= column < low + width:
                    expected = cell_total[row] * share[column]
                    zero, here = residual(0.0, expected, theta, clip), residual(values[k], expected, theta, clip)
                    part[0, column] += here - zero
                    part[1, column] += here * here - zero * zero


# Sums over rows of each column of the design times the value.
@twin("int64 int64 int32 float32 float64 int64 int64 int64 int64 int64 float64", threads=512, per_item=512)
def panel_products(n_items, first, indptr, indices, values, design, n_design, n_rows, n_columns, panel_rows, width, parts):
    n_tiles = -(-n_columns // width)
    for item in numba.prange(n_items):
        part, start, low = parts[item // n_tiles], first + item // n_tiles * panel_rows, item % n_tiles * width
        for row in range(start, min(n_rows, start + panel_rows)):
            for k in range(indptr[row], indptr[row + 1]):
                column = indices[k]
                if low <= column < low + width:
                    for j in range(n_design):
                        part[j, column] += design[row, j] * values[k]


@twin("int64 float32 float64 int64 int64 int64 int64 float64", per_item=256)
def panel_products_dense(n_items, first, values, design, n_design, n_rows, n_columns, panel_rows, parts):
    n_tiles = -(-n_columns // STRIPE)
    for item in numba.prange(n_items):
        part, start, low = parts[item // n_tiles], first + item // n_tiles * panel_rows, item % n_tiles * STRIPE
        for row in range(start, min(n_rows, start + panel_rows)):
            for j in range(n_design):
                for column in range(low, min(n_columns, low + STRIPE)):
                    part[j, column] += design[row, j] * values[row, column]


# How many entries, or positive ones, a column has. On the CPU one thread adds into one copy, CUDA spreads its atomics over them.
@twin("int64 int32 float32 int64 int64 int64 int64 int32 int64 int64", threads=512, per_item=512)
def entry_counts(n_items, indptr, indices, values, n_rows, n_columns, panel_rows, width, positive, n_copies, counts):
    n_tiles = -(-n_columns // width)
    for copy in numba.prange(n_copies):
        for item in range(copy * n_items // n_copies, (copy + 1) * n_items // n_copies):
            start, low = item // n_tiles * panel_rows, item % n_tiles * width
            for k in range(indptr[start], indptr[min(n_rows, start + panel_rows)]):
                column = indices[k]
                if low <= column < low + width and (positive == 0 or values[k] > 0):
                    counts[copy, column] += 1


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
