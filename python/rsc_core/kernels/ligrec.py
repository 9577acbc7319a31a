"""Loops of the ligand-receptor test; ``ligrec.cu`` holds the same for CUDA.

Values are integers (fixed point), so that sums are exact and the same in any order.
"""

import numba
import numpy as np

from rsc_core.kernels.twin import twin

ORDERS, SLICES = 128, 4  # permutations that a block of CUDA takes together, and blocks that share a gene
PARTS = 8  # of the genes, on the CPU: each reads all values and keeps those of its own genes


@twin("int64 int32 float32 int32 int64 int32", per_item=32)
def gene_sizes(n_items, indptr, indices, values, column, size, largest):
    """Of each gene the number of values that are not 0, and the bits of the largest magnitude, which rise as it does; NaN is above all."""
    for part in numba.prange(PARTS):
        for cell in range(n_items):
            for k in range(indptr[cell], indptr[cell + 1]):
                gene = column[indices[k]]
                if gene >= 0 and gene % PARTS == part and values[k] != 0:
                    size[gene] += 1
                    largest[gene] = max(largest[gene], np.float32(values[k]).view(np.int32) & 0x7FFFFFFF)


@twin("int64 int32 float32 int32 float64 int64 int32 int64", per_item=32)
def gene_entries(n_items, indptr, indices, values, column, scale, cursor, cell_of, amount):
    for part in numba.prange(PARTS):
        for cell in range(n_items):
            for k in range(indptr[cell], indptr[cell + 1]):
                gene = column[indices[k]]
                if gene >= 0 and gene % PARTS == part and values[k] != 0:
                    to = cursor[gene]
                    cursor[gene] = to + 1
                    cell_of[to] = cell
                    amount[to] = np.int64(np.rint(values[k] * scale))


@twin("int64 int32 int64 int16 int64 int64 int64", threads=ORDERS, per_item=ORDERS)
def group_sums(n_items, starts, cell_of, amount, label, n_groups, n_orders, out):
    """Sum of a gene's amounts in each group, for at most ORDERS orders of the labels (cells, orders); (orders, genes, groups).

    SLICES items share a gene's entries and add to what is there.
    """
    for gene in numba.prange(n_items // SLICES):
        sums = np.zeros((n_groups, n_orders), dtype=np.int64)
        for entry in range(starts[gene], starts[gene + 1]):
            here, value = label[cell_of[entry]], amount[entry]
            for order in range(n_orders):
                sums[here[order], order] += value
        for order in range(n_orders):
            for group in range(n_groups):
                out[order, gene, group] += sums[group, order]


@twin("int32 int32 int32 int32 uint8 float64 float64 int64 int64 int64 int64 int64")
def exceeding(n_items, source, target, first, second, tested, observed, mean, n_pairs, n_genes, n_groups, n_orders, count):
    """Orders whose sum of the two means (orders, genes, groups) is above the observed one, for tested interactions and pairs of groups."""
    for interaction in numba.prange(n_items // n_pairs):
        ligand, receptor = source[interaction], target[interaction]
        for order in range(n_orders):
            here, there = mean[order, ligand], mean[order, receptor]
            for pair in range(n_pairs):
                if tested[interaction, pair]:
                    level = observed[ligand, first[pair]] + observed[receptor, second[pair]]
                    count[interaction, pair] += (here[first[pair]] + there[second[pair]]) > level
