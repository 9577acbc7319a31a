"""Loops of spatial autocorrelation; ``autocorr.cu`` holds the same for CUDA.

Values lie cell by cell, so that a warp that takes neighbouring genes reads one line of memory for each neighbour; the
CPU takes ``TILE`` genes at a time for the same reason. Each sum has one owner, who adds in the order of the cells.
"""

import numba
import numpy as np

from rsc_core.kernels.twin import twin

TILE = 16  # genes: a line of the CPU's cache in float32


@twin("int64 int32 float32 int32 int64 float32", per_item=32)
def dense_columns(n_items, indptr, indices, values, column, n_columns, out):
    for cell in numba.prange(n_items):
        for k in range(indptr[cell], indptr[cell + 1]):
            if column[indices[k]] >= 0:
                out[cell, column[indices[k]]] = values[k]


@twin("float32 int64 int64 int64 float64 int64")
def gene_sums(n_items, x, n_cells, n_genes, chunk_rows, total, differing):
    for chunk in numba.prange(n_items // n_genes):
        for cell in range(chunk * chunk_rows, min(n_cells, (chunk + 1) * chunk_rows)):
            for gene in range(n_genes):
                total[chunk, gene] += x[cell, gene]
                differing[chunk, gene] += x[cell, gene] != x[0, gene]


@twin("int64 int32 float64 float64 float32 float64 int32 int64 int64 int64 int64 float64")
def pair_sums(n_items, indptr, indices, weight, degree, x, mean, order, n_cells, n_genes, n_chunks, chunk_rows, out):
    n_tiles = (n_genes + TILE - 1) // TILE
    for item in numba.prange(n_items // n_genes * n_tiles):
        part, first = item // n_tiles, item % n_tiles * TILE
        number, chunk = part // n_chunks, part % n_chunks
        width = min(TILE, n_genes - first)
        shift, here = mean[first : first + width], np.empty(width)
        lag, product, spread, weighted = np.empty(width), np.zeros(width), np.zeros(width), np.zeros(width)
        for i in range(chunk * chunk_rows, min(n_cells, (chunk + 1) * chunk_rows)):
            own = x[order[number, i], first : first + width]
            for g in range(width):
                here[g], lag[g] = own[g] - shift[g], 0.0
            for k in range(indptr[i], indptr[i + 1]):
                there, w = x[order[number, indices[k]], first : first + width], weight[k]
                for g in range(width):
                    lag[g] += w * (there[g] - shift[g])
            for g in range(width):
                product[g] += here[g] * lag[g]
                spread[g] += here[g] * here[g]
                weighted[g] += degree[i] * (here[g] * here[g])
        for g in range(width):
            out[0, number, chunk, first + g] = product[g]
            out[1, number, chunk, first + g] = spread[g]
            out[2, number, chunk, first + g] = weighted[g]


@twin("float64 int64 int64 float64")
def add_chunks(n_items, parts, n_chunks, n_genes, out):
    for item in numba.prange(n_items):
        row, gene = item // n_genes, item % n_genes
        total = 0.0
        for chunk in range(n_chunks):
            total += parts[row, chunk, gene]
        out[row, gene] = total
