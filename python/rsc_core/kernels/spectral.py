"""Loops of the Lanczos method on a sparse symmetric matrix; ``spectral.cu`` holds the same for CUDA.

Sums over cells are made in two steps: LANES x chunks partial sums, each over every 32nd cell of a chunk in order, then the
partial sums in order. That is the same for any number of threads and reads memory in a row on both backends.
"""

import math

import numba

from rsc_core.kernels.twin import twin

LANES = 32
CHUNK = 4096  # cells of a partial sum; last bits depend on it


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


@twin("int64 int32 float64 float64 float64")
def matrix_vector(n_items, indptr, indices, weight, x, out):
    for row in numba.prange(n_items):
        total = 0.0
        for e in range(indptr[row], indptr[row + 1]):
            total += weight[e] * x[indices[e]]
        out[row] = total


@twin("float64 float64 int64 int64 float64")
def product_parts(n_items, basis, x, n_cells, n_chunks, parts):
    """Parts of the scalar products of x with rows of ``basis``: (rows, chunks, LANES)."""
    for block in numba.prange(n_items // LANES):
        row, chunk = block // n_chunks, block % n_chunks
        first, last = chunk * CHUNK, min(n_cells, (chunk + 1) * CHUNK)
        sums, left, right = parts[row, chunk], basis[row, first:last], x[first:last]
        for lane in range(LANES):
            sums[lane] = 0.0
        for start in range(0, left.size, LANES):
            for lane in range(min(LANES, left.size - start)):
                sums[lane] += left[start + lane] * right[start + lane]


@twin("float64 int64 float64 float64")
def add_parts(n_items, parts, n_chunks, before, total):
    """Sums of the parts of each row; ``before`` grows by them."""
    for row in range(n_items):
        value = 0.0
        for chunk in range(n_chunks):
            for lane in range(LANES):
                value += parts[row, chunk, lane]
        total[row] = value
        before[row] += value


@twin("float64 float64 int64 int64 float64")
def subtract_rows(n_items, basis, factor, n_rows, n_cells, x):
    for chunk in numba.prange((n_items + CHUNK - 1) // CHUNK):
        here = x[chunk * CHUNK : min(n_items, (chunk + 1) * CHUNK)]
        for row in range(n_rows):
            other, by = basis[row, chunk * CHUNK : min(n_items, (chunk + 1) * CHUNK)], factor[row]
            for cell in range(here.size):
                here[cell] -= by * other[cell]


@twin("float64 float64 float64")
def divide_by_root(n_items, x, square, out):
    """x / sqrt(square); zeros where square is 0."""
    for cell in numba.prange(n_items):
        out[cell] = x[cell] / math.sqrt(square[0]) if square[0] > 0.0 else 0.0


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
