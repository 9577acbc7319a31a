"""Loops over cells and the targets of a network's sources; ``network.cu`` holds the same for CUDA."""

import numba

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
