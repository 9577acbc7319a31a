"""Negative binomial counts of synthetic cells; ``draw.cu`` holds the same for CUDA."""

import numba
import numpy as np

from rsc_core.kernels.device import random_bits
from rsc_core.kernels.twin import twin

PURPOSE = np.uint64(1000)  # apart from those of rsc_core.rng
LARGEST = 65535


# mu = library · batch factor · sum of (weight · table row) over the cell's rows; size r = 2^(log_size - 1). A count is the
# smallest k with u < P(0) + ... + P(k), P(0) = (1 + mu/r)^-r, P(k+1) = P(k) (k + r)/(k + 1) mu/(mu + r): square root,
# products and quotients only, which round alike everywhere. P(0) >= 1 - mu settles most entries without a quotient.
@twin("int64 int64 uint64 float32 int32 float64 int32 float32 float64 int32 int64 uint16", per_item=32)
def draw_counts(n_items, n_genes, first_cell, seed, table, table_row, weight, batch, batch_factor, library, log_size, n_rows, out):
    for cell in numba.prange(n_items):
        for gene in range(n_genes):
            mix = 0.0
            for row in range(n_rows):
                mix += weight[cell, row] * table[table_row[cell, row], gene]
            mu = library[cell] * batch_factor[batch[cell], gene] * mix
            index = (np.uint64(first_cell) + np.uint64(cell)) * np.uint64(n_genes) + np.uint64(gene)
            u = np.float64(random_bits(seed, PURPOSE, index) >> np.uint64(11)) * 2.0**-53
            count = 0
            if u >= 1.0 - mu:
                size = 0.5 * (1 << log_size[gene])
                base = 1.0 / (1.0 + mu / size)
                p = np.sqrt(base) if log_size[gene] == 0 else base
                for _ in range(log_size[gene] - 1):
                    p = p * p
                total, step = p, mu / (mu + size)
                while u >= total and count < LARGEST:
                    p = p * ((count + size) / (count + 1.0)) * step
                    count += 1
                    if p == 0.0:
                        break
                    total += p
            out[cell, gene] = count


@twin("int64 uint16 int64", per_item=32)
def row_nonzeros(n_items, n_genes, dense, n_nonzero):
    for cell in numba.prange(n_items):
        found = 0
        for gene in range(n_genes):
            if dense[cell, gene] != 0:
                found += 1
        n_nonzero[cell] = found


@twin("int64 uint16 int64 int32 uint16", per_item=32)
def compact(n_items, n_genes, dense, indptr, indices, values):
    for cell in numba.prange(n_items):
        at = indptr[cell]
        for gene in range(n_genes):
            if dense[cell, gene] != 0:
                indices[at] = gene
                values[at] = dense[cell, gene]
                at += 1
