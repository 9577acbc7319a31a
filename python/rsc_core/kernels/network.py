"""Loops over cells and the targets of a network's sources; ``network.cu`` holds the same for CUDA."""

import math

import numba
import numpy as np

from rsc_core.kernels.device import random_bits
from rsc_core.kernels.twin import twin

TILE = 64  # cells that lie side by side


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


# Values as dense tiles (tiles, genes, cells of a tile), where all is 0 before.
@twin("int64 int32 float64 int64 float32", per_item=32)
def fill_tiles(n_items, indptr, indices, values, n_genes, tiles):
    for cell in numba.prange(n_items):
        for k in range(indptr[cell], indptr[cell + 1]):
            tiles[cell // TILE, indices[k], cell % TILE] = values[k]


# Sums of the cells of tiles under permutations: target t's weight goes to gene place[o, t]. Whole numbers: exact in any order.
@twin("float32 int32 int64 int32 float64 int64 int64 int64 int64 float64")
def tile_sums(n_items, tiles, place, source_indptr, target, weight, n_cells, n_genes, n_orders, n_sources, sums):
    for tile in numba.prange(n_items // (n_orders * n_sources * TILE)):
        mine = np.empty(TILE)
        for o in range(n_orders):
            for s in range(n_sources):
                mine[:] = 0.0
                e, end = source_indptr[s], source_indptr[s + 1]
                while e + 4 <= end:  # four targets at a time: the sums are read and written once for four
                    t0, t1 = tiles[tile, place[o, target[e]]], tiles[tile, place[o, target[e + 1]]]
                    t2, t3 = tiles[tile, place[o, target[e + 2]]], tiles[tile, place[o, target[e + 3]]]
                    w0, w1, w2, w3 = weight[e], weight[e + 1], weight[e + 2], weight[e + 3]
                    for c in range(TILE):
                        mine[c] += (w0 * t0[c] + w1 * t1[c]) + (w2 * t2[c] + w3 * t3[c])
                    e += 4
                while e < end:
                    t0, w0 = tiles[tile, place[o, target[e]]], weight[e]
                    for c in range(TILE):
                        mine[c] += w0 * t0[c]
                    e += 1
                for c in range(min(TILE, n_cells - tile * TILE)):
                    sums[tile * TILE + c, o, s] = mine[c]


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
