"""Loops over cells and the targets of a network's sources; ``network.cu`` holds the same for CUDA."""

import math

import numba
import numpy as np

from rsc_core.kernels.device import random_bits
from rsc_core.kernels.twin import twin


# Several threads may set one flag: all set it to 1.
@twin("int64 int32 float64 uint8", per_item=32)
def mark_genes(n_items, indptr, indices, values, seen):
    for cell in numba.prange(n_items):
        for k in range(indptr[cell], indptr[cell + 1]):
            if values[k] != 0:
                seen[indices[k]] = 1


# Sum, sum of squares and, of each source, the weighted sum of a cell's values; added in the order of the stored genes.
@twin("int64 int32 float64 int64 int32 float64 int64 float64 float64 float64", per_item=32)
def weighted_sums(n_items, indptr, indices, values, gene_indptr, source, weight, n_sources, total, squares, product):
    for cell in numba.prange(n_items):
        sum_, sum_of_squares = 0.0, 0.0
        for k in range(indptr[cell], indptr[cell + 1]):
            gene, value = indices[k], values[k]
            sum_ += value
            sum_of_squares += value * value
            for s in range(gene_indptr[gene], gene_indptr[gene + 1]):
                product[cell, source[s]] += weight[s] * value
        total[cell] = sum_
        squares[cell] = sum_of_squares


# A cell's values as whole numbers: times the power of two that brings the largest between 2^(bits-1) and 2^bits. Equal
# values stay equal, and sums of products with other whole numbers are exact.
@twin("int64 float64 int64 float64")
def whole_numbers(n_items, indptr, values, bits, out):
    for cell in numba.prange(n_items):
        largest = 0.0
        for k in range(indptr[cell], indptr[cell + 1]):
            largest = max(largest, abs(values[k]))
        exponent = math.frexp(largest)[1]
        for k in range(indptr[cell], indptr[cell + 1]):
            out[k] = np.rint(math.ldexp(values[k], bits - exponent))


@twin("uint64 uint64 uint64")
def random_keys(n_items, seed, purpose, keys):
    for item in numba.prange(n_items):
        keys[item] = random_bits(seed, purpose, np.uint64(item))


# Permutations of the genes that are seen: order[o, where[r]] takes where[i] for the i whose key is the r-th of its row.
@twin("uint64 int64 int64 int32 int32")
def permute(n_items, keys, n_seen, n_genes, where, order):
    for o in numba.prange(n_items // n_seen):
        ascending = np.argsort(keys[o * n_seen : (o + 1) * n_seen], kind="mergesort")
        for rank in range(n_seen):
            order[o, where[rank]] = where[ascending[rank]]


# Sums of a cell under permutations: gene g takes the edges from first[o, g] (-1: none) to the last of its row. An edge is
# weight * 2^16 + source * 2 + (1 if the last). Whole numbers: exact in any order. ``bits``: of the largest value, for
# CUDA, which adds the lower and the upper half of a product apart.
@twin("int64 int32 float64 int32 int64 int64 int64 int64 int64 int64 float64", per_item=32)
def permuted_sums(n_items, indptr, indices, values, first, edges, n_cells, n_genes, n_orders, n_sources, bits, sums):
    for item in numba.prange(n_items):
        o, cell = item // n_cells, item % n_cells
        for s in range(n_sources):
            sums[cell, o, s] = 0.0
        for k in range(indptr[cell], indptr[cell + 1]):
            e = first[o, indices[k]]
            while e >= 0:
                edge = edges[e]
                sums[cell, o, (edge >> 1) & 0x7FFF] += (edge >> 16) * values[k]
                e = -1 if edge & 1 else e + 1


# The same where few sources make a dense table (genes, columns) of the permuted weights faster.
@twin("int64 int32 float64 float32 int64 float64")
def table_sums(n_items, indptr, indices, values, table, n_columns, sums):
    for cell in numba.prange(n_items // n_columns):
        row = np.zeros(n_columns)
        k, end = indptr[cell], indptr[cell + 1]
        while k + 4 <= end:  # four genes at a time: the sums are read and written once for four
            v0, v1, v2, v3 = values[k], values[k + 1], values[k + 2], values[k + 3]
            t0, t1, t2, t3 = table[indices[k]], table[indices[k + 1]], table[indices[k + 2]], table[indices[k + 3]]
            for column in range(n_columns):
                row[column] += (v0 * t0[column] + v1 * t1[column]) + (v2 * t2[column] + v3 * t3[column])
            k += 4
        while k < end:
            value, weights = values[k], table[indices[k]]
            for column in range(n_columns):
                row[column] += value * weights[column]
            k += 1
        for column in range(n_columns):
            sums[cell, column] = row[column]


# Of each cell and source: how many permuted sums are at least, at most the observed one; sum and sum of squares of the
# differences, added in the order of the permutations.
@twin("float64 float64 int64 int64 int64 int64 float64 float64")
def add_moments(n_items, sums, observed, n_orders, n_sources, above, below, total, squares):
    for cell in numba.prange(n_items // n_sources):
        for o in range(n_orders):
            for s in range(n_sources):
                difference = sums[cell, o, s] - observed[cell, s]
                above[cell, s] += difference >= 0
                below[cell, s] += difference <= 0
                total[cell, s] += difference
                squares[cell, s] += difference * difference
