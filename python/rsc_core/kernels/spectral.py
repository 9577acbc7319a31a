"""Loops of the Lanczos method on a sparse symmetric matrix; ``spectral.cu`` holds the same for CUDA.

Sums over cells are made in two steps: first over each chunk of ``width`` cells (every 32nd by one lane, then halves of the lanes onto
halves), then over the chunks in order. That is the same for any number of threads and reads memory in a row on both backends.
"""

import math

import numba
import numpy as np

from rsc_core.kernels.twin import twin

LANES = 32
ROW_LANES = 4  # sums over a row's entries: lane l takes every 4th from the l-th on
THREADS = 256
CHUNK = 4096  # cells that combine_rows takes at a time on the host


@twin("int64 float64 float64")
def row_sums(n_items, indptr, weight, out):
    for row in numba.prange(n_items):
        total = 0.0
        for e in range(indptr[row], indptr[row + 1]):
            total += weight[e]
        out[row] = total


@twin("int64 int32 float64 float64 float64")
def scaled_entries(n_items, indptr, indices, weight, factor, out):
    """Each entry times the factors of its row and its column."""
    for row in numba.prange(n_items):
        for e in range(indptr[row], indptr[row + 1]):
            out[e] = weight[e] * (factor[row] * factor[indices[e]])


@twin("int64 int32 float64 float64 float64", per_item=ROW_LANES)
def matrix_vector(n_items, indptr, indices, weight, x, out):
    for row in numba.prange(n_items):
        part0 = part1 = part2 = part3 = 0.0
        first, last = indptr[row], indptr[row + 1]
        whole = first + (last - first) // ROW_LANES * ROW_LANES
        for e in range(first, whole, ROW_LANES):
            part0 += weight[e] * x[indices[e]]
            part1 += weight[e + 1] * x[indices[e + 1]]
            part2 += weight[e + 2] * x[indices[e + 2]]
            part3 += weight[e + 3] * x[indices[e + 3]]
        if whole < last:
            part0 += weight[whole] * x[indices[whole]]
        if whole + 1 < last:
            part1 += weight[whole + 1] * x[indices[whole + 1]]
        if whole + 2 < last:
            part2 += weight[whole + 2] * x[indices[whole + 2]]
        out[row] = 0.0 + part0 + part1 + part2 + part3


@numba.njit
def chunk_product(left, right, sums):
    """Scalar product of two chunks; ``sums``: room for LANES."""
    sums[:] = 0.0
    whole = left.size // LANES * LANES
    for start in range(0, whole, LANES):
        for lane in range(LANES):
            sums[lane] += left[start + lane] * right[start + lane]
    for lane in range(left.size - whole):
        sums[lane] += left[whole + lane] * right[whole + lane]
    for step in (16, 8, 4, 2, 1):
        for lane in range(step):
            sums[lane] += sums[lane + step]
    return sums[0]


@twin("float64 float64 int64 int64 int64 float64", threads=THREADS, per_item=THREADS)
def dot_parts(n_items, basis, x, n_rows, n_cells, width, parts):
    """Parts of the scalar products of x with rows of ``basis``: (chunks, rows). An item is a chunk."""
    for chunk in numba.prange(n_items):
        first, last, sums = chunk * width, min(n_cells, (chunk + 1) * width), np.empty(LANES)
        for row in range(n_rows):
            parts[chunk * n_rows + row] = chunk_product(basis[row, first:last], x[first:last], sums)


@twin("float64 float64 int64 int64 int64 int64 float64 float64 float64", threads=THREADS, per_item=THREADS)
def subtract_rows(n_items, basis, before, n_rows, n_cells, width, own, record, x, parts):
    """Take the rows of ``basis`` from x, as often as ``before``, the parts of the products with them, says; ``record`` grows by that.

    ``parts`` takes the parts of the products of what is left: with the rows again, or with itself (``own``).
    """
    factor = np.zeros(n_rows)
    for chunk in range(n_items):
        for row in range(n_rows):
            factor[row] += before[chunk * n_rows + row]
    for row in range(n_rows):
        record[row] += factor[row]
    for chunk in numba.prange(n_items):
        first, last, sums = chunk * width, min(n_cells, (chunk + 1) * width), np.empty(LANES)
        here = x[first:last]
        for row in range(n_rows):
            other, by = basis[row, first:last], factor[row]
            for cell in range(here.size):
                here[cell] -= by * other[cell]
        if own:
            parts[chunk] = chunk_product(here, here, sums)
        else:
            for row in range(n_rows):
                parts[chunk * n_rows + row] = chunk_product(basis[row, first:last], here, sums)


@twin("float64 float64 int64 float64 float64")
def divide_by_root(n_items, x, parts, n_chunks, square, out):
    """x / sqrt(square), square the sum of its parts; zeros where that is 0."""
    total = 0.0
    for chunk in range(n_chunks):
        total += parts[chunk]
    square[0] = total
    for cell in numba.prange(n_items):
        out[cell] = x[cell] / math.sqrt(total) if total > 0.0 else 0.0


@twin("float64 float64 int64 int64 float64")
def combine_rows(n_items, basis, factor, n_rows, n_out, out):
    """out[j] = sum over i of factor[j, i] basis[i]."""
    for chunk in numba.prange((n_items + CHUNK - 1) // CHUNK):
        first, last = chunk * CHUNK, min(n_items, (chunk + 1) * CHUNK)
        for j in range(n_out):
            here = out[j, first:last]
            for cell in range(here.size):
                here[cell] = 0.0
            for row in range(n_rows):
                other, by = basis[row, first:last], factor[j, row]
                for cell in range(here.size):
                    here[cell] += by * other[cell]
