"""Loops over counts in CSR: sums of cells and genes, choice of genes, dense blocks; ``counts.cu`` holds the same for CUDA.

Counts are integers that float32 holds exactly, so every sum here is an int64 and the same in any order. Sums of genes
have several copies: on the CPU one thread adds into one copy, CUDA spreads its integer atomics over them.
"""

import numba
import numpy as np

from rsc_core.kernels.twin import twin


@twin("int64 int32 float32 int32 int64 int64 int64 int64 int64 int64 int64 int64 int64", per_item=32)
def cell_and_gene_sums(
    n_items,
    indptr,
    indices,
    values,
    gene_class,
    n_genes,
    n_classes,
    n_copies,
    cell_total,
    cell_genes,
    cell_class,
    cell_wrong,
    gene_total,
    gene_cells,
):
    for copy in numba.prange(n_copies):
        for cell in range(copy * n_items // n_copies, (copy + 1) * n_items // n_copies):
            for k in range(indptr[cell], indptr[cell + 1]):
                gene, count = indices[k], np.int64(values[k])
                if count != values[k] or count < 0:
                    cell_wrong[cell] += 1
                if count != 0:
                    cell_total[cell] += count
                    cell_genes[cell] += 1
                    gene_total[copy, gene] += count
                    gene_cells[copy, gene] += 1
                    if gene_class[gene] != 0:
                        for c in range(n_classes):
                            if gene_class[gene] >> c & 1:
                                cell_class[cell, c] += count


# Whether some value is negative or not whole: every piece that has one writes the same 1.
@twin("float32 int64 int64 int32", per_item=32)
def uncountable(n_items, values, piece, n_values, wrong):
    for item in numba.prange(n_items):
        found = False
        for k in range(item * piece, min(n_values, (item + 1) * piece)):
            found |= not (values[k] >= 0 and values[k] == np.rint(values[k]))
        if found:
            wrong[0] = 1


# CUDA finds the value of the top-th largest count by bisection, for it cannot sort a row in place.
@twin("int64 float32 int64 int64 int64", per_item=32)
def top_sums(n_items, indptr, values, top, n_tops, out):
    for cell in numba.prange(n_items):
        rising = np.sort(values[indptr[cell] : indptr[cell + 1]])
        for t in range(n_tops):
            total = np.int64(0)
            for k in range(max(0, rising.size - top[t]), rising.size):
                total += np.int64(rising[k])
            out[cell, t] = total


@twin("int64 int64 int32 float32 float64 int64 int64 int64 int64 int64", per_item=32)
def gene_moments(n_items, rows, indptr, indices, values, clip, n_genes, n_copies, total, squares, above):
    for copy in numba.prange(n_copies):
        for item in range(copy * n_items // n_copies, (copy + 1) * n_items // n_copies):
            for k in range(indptr[rows[item]], indptr[rows[item] + 1]):
                gene, count = indices[k], np.int64(values[k])
                if values[k] > clip[gene]:
                    above[copy, gene] += 1
                else:
                    total[copy, gene] += count
                    squares[copy, gene] += count * count


@twin("int64 int32 int32 int64", per_item=32)
def chosen_sizes(n_items, indptr, indices, column, size):
    for row in numba.prange(n_items):
        found = 0
        for k in range(indptr[row], indptr[row + 1]):
            if column[indices[k]] >= 0:
                found += 1
        size[row] = found


@twin("int64 int32 float32 int32 int64 int32 float32", per_item=32)
def chosen_values(n_items, indptr, indices, values, column, new_indptr, new_indices, new_values):
    for row in numba.prange(n_items):
        to = new_indptr[row]
        for k in range(indptr[row], indptr[row + 1]):
            if column[indices[k]] >= 0:
                new_indices[to] = column[indices[k]]
                new_values[to] = values[k]
                to += 1


@twin("int64 int64 int32 float32 int64 float64", per_item=32)
def dense_rows(n_items, first, indptr, indices, values, n_columns, out):
    for item in numba.prange(n_items):
        for k in range(indptr[first + item], indptr[first + item + 1]):
            out[item, indices[k]] = values[k]


# Genes from both ends in turn: a gene's row of the triangle is the shorter the later it comes.
@twin("int64 int64 int32 int64 int32 float32 int64 float64 float64", per_item=256)
def gram_rows(n_items, starts, entry, row, indptr, indices, values, n_genes, total, gram):
    for item in numba.prange(n_items):
        gene = n_genes - 1 - item // 2 if item % 2 else item // 2
        products = gram[gene]
        for e in range(starts[gene], starts[gene + 1]):
            first = entry[e]
            stop = indptr[row[e] + 1]
            here, others, their_values = np.float64(values[first]), indices[first:stop], values[first:stop]
            total[gene] += here
            for k in range(stop - first):
                products[np.uint32(others[k])] += here * their_values[k]  # unsigned: no test for negative indices


@twin("int64 int32 float32 float64 float64 int64 float32", per_item=32)
def scores_of_rows(n_items, indptr, indices, values, loadings, shift, n_comps, out):
    """values · loadings - shift, each entry of a row after the other."""
    for row in numba.prange(n_items):
        score = np.zeros(n_comps)
        for k in range(indptr[row], indptr[row + 1]):
            value, gene = np.float64(values[k]), np.uint32(indices[k])
            for c in range(n_comps):
                score[c] += value * loadings[gene, c]
        for c in range(n_comps):
            out[row, c] = score[c] - shift[c]
