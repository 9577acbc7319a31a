"""Values divided by a spread of their gene; ``scale.cu`` holds the same for CUDA."""

import numba

from rsc_core.kernels.twin import twin


# Cells outside the mask keep their values.
@twin("int64 int32 float32 int32 float64 float64 float32", per_item=32)
def scale_entries(n_items, indptr, indices, values, mask, spread, highest, out):
    for cell in numba.prange(n_items):
        for k in range(indptr[cell], indptr[cell + 1]):
            value = values[k] / spread[indices[k]]
            out[k] = min(value, highest) if mask[cell] else values[k]


@twin("int64 int32 float32 int32 float64 float64 float64 float64 int64 float32", per_item=32)
def scaled_rows(n_items, indptr, indices, values, mask, center, spread, lowest, highest, n_genes, out):
    for cell in numba.prange(n_items):
        for gene in range(n_genes):
            out[cell, gene] = min(max(-center[gene] / spread[gene], lowest), highest) if mask[cell] else 0.0
        for k in range(indptr[cell], indptr[cell + 1]):
            value = (values[k] - center[indices[k]]) / spread[indices[k]]
            out[cell, indices[k]] = min(max(value, lowest), highest) if mask[cell] else values[k]


@twin("float32 int32 float64 float64 float64 float64 int64 float32", per_item=32)
def scaled_dense(n_items, x, mask, center, spread, lowest, highest, n_genes, out):
    for cell in numba.prange(n_items):
        for gene in range(n_genes):
            value = (x[cell, gene] - center[gene]) / spread[gene]
            out[cell, gene] = min(max(value, lowest), highest) if mask[cell] else x[cell, gene]
