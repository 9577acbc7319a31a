"""Loops over cells and the targets of a network's sources; ``network.cu`` holds the same for CUDA."""

import math

import numba
import numpy as np

from rsc_core.kernels.device import random_bits
from rsc_core.kernels.twin import twin


def row_bytes(rows, at, source_indptr, weight, length, *_):
    """Shared memory of a block that keeps its cell's row there."""
    return 4 * length


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


@twin("uint64 uint64 uint64")
def random_keys(n_items, seed, purpose, keys):
    for item in numba.prange(n_items):
        keys[item] = random_bits(seed, purpose, np.uint64(item))


# Permutations of the genes that are seen: the weight of gene i goes to the gene whose place is the rank of key i in its row.
@twin("uint64 int64 int32")
def permute(n_items, keys, n_seen, place):
    for o in numba.prange(n_items // n_seen):
        ascending = np.argsort(keys[o * n_seen : (o + 1) * n_seen], kind="mergesort")
        for rank in range(n_seen):
            place[o, ascending[rank]] = rank


# A cell's values in a dense row (0 before), at the places of the genes, as whole numbers: times the power of two that
# brings the largest between 2^(bits-1) and 2^bits. Equal values stay equal, and sums of products with other whole numbers
# are exact. The row goes on with its beginning.
@twin("int64 int32 float64 int32 int64 int64 int64 int32", per_item=32)
def fill_rows(n_items, indptr, indices, values, home, bits, n_seen, length, rows):
    for cell in numba.prange(n_items):
        largest = 0.0
        for k in range(indptr[cell], indptr[cell + 1]):
            largest = max(largest, abs(values[k]))
        exponent = math.frexp(largest)[1]
        for k in range(indptr[cell], indptr[cell + 1]):
            if values[k] != 0:
                place, whole = home[indices[k]], np.int32(np.rint(math.ldexp(values[k], bits - exponent)))
                rows[cell, place] = whole
                if place < length - n_seen:
                    rows[cell, n_seen + place] = whole


# Of each cell and source: how many permuted sums are at least, at most the observed one; sum and sum of squares of the
# differences. Permutation o moves the targets, whose places are in row 1 + o / width, on by o % width; row 0 has the observed
# places; ``width`` divides 32. A source's targets are a multiple of 4 (of weight 0 where they were not). Whole numbers: exact
# in any order; the moments are added by permutations 32 apart, and these 32 sums in pairs.
@twin("int32 int32 int64 int32 int64 int64 int64 int64 int64 int32 int32 float64 float64", threads=512, per_item=512, shared=row_bytes)
def permuted_moments(n_items, rows, at, source_indptr, weight, length, width, n_orders, n_edges, n_sources, above, below, total, squares):
    for cell in numba.prange(n_items):
        row, sums = rows[cell], np.empty((-(-n_orders // width)) * width, dtype=np.int64)
        for s in range(n_sources):
            start, end, observed = source_indptr[s], source_indptr[s + 1], 0
            for e in range(start, end):
                observed += weight[e] * row[at[0, e]]
            for o in range(0, n_orders, width):
                mine, place = sums[o : o + width], at[1 + o // width]
                mine[:] = -observed
                for e in range(start, end, 4):  # four targets at a time: the sums are read and written once for four
                    t0, t1, t2, t3 = row[place[e] :], row[place[e + 1] :], row[place[e + 2] :], row[place[e + 3] :]
                    w0, w1, w2, w3 = weight[e], weight[e + 1], weight[e + 2], weight[e + 3]
                    for c in range(width):
                        mine[c] += (w0 * t0[c] + w1 * t1[c]) + (w2 * t2[c] + w3 * t3[c])
            n_above, n_below, sum_, sum_of_squares = 0, 0, np.zeros(32), np.zeros(32)
            for o in range(n_orders):
                difference = float(sums[o])
                n_above += difference >= 0
                n_below += difference <= 0
                sum_[o % 32] += difference
                sum_of_squares[o % 32] += difference * difference
            half = 16
            while half > 0:
                for c in range(half):
                    sum_[c] += sum_[c + half]
                    sum_of_squares[c] += sum_of_squares[c + half]
                half //= 2
            above[cell, s], below[cell, s], total[cell, s], squares[cell, s] = n_above, n_below, sum_[0], sum_of_squares[0]
