"""Products of multinomial regression with a sparse matrix, and its vectors; ``logreg.cu`` holds the same for CUDA.

The matrix is read with directions and residuals in float32 beside it; sums are float64 in a stated order: the scores of a
cell gene by gene, those of a gene cell by cell within panels of cells, then panel by panel. Blocks of cells, threads and the
backend change no bit. A last row of directions and sums is of the intercepts.
"""

import numba
import numpy as np

from rsc_core.kernels.device import exp_double
from rsc_core.kernels.twin import twin


@twin("int64 int32 float32 float32 int64 int64 float64", per_item=32)
def class_scores(n_items, indptr, indices, values, direction, n_genes, n_classes, score):
    """Values times a direction, (cells, classes)."""
    for cell in numba.prange(n_items):
        own = score[cell]
        for c in range(n_classes):
            own[c] = np.float64(direction[n_genes, c])
        for k in range(indptr[cell], indptr[cell + 1]):
            value, gene = values[k], direction[indices[k]]
            for c in range(n_classes):
                own[c] += np.float64(value * gene[c])


@twin("int64 float64 float64 float64 int64 float64")
def slopes(n_items, label, score, step, length, n_classes, out):
    """First and second derivative by length of each cell's loss at score + length * step, (cells, 2)."""
    for cell in numba.prange(n_items):
        most = score[cell, 0] + length * step[cell, 0]
        for c in range(1, n_classes):
            most = max(most, score[cell, c] + length * step[cell, c])
        total, mean, square = 0.0, 0.0, 0.0
        for c in range(n_classes):
            along = step[cell, c]
            share = exp_double(score[cell, c] + length * along - most)
            total += share
            mean += share * along
            square += share * (along * along)
        mean = mean / total
        out[cell, 0] = mean - step[cell, label[cell]]
        out[cell, 1] = square / total - mean * mean


@twin("int64 float64 float64 float64 int64 float32")
def residuals(n_items, label, score, step, length, n_classes, residual):
    """Move the scores by length * step; probability of each class, less 1 for the cell's own."""
    for cell in numba.prange(n_items):
        own = score[cell]
        for c in range(n_classes):
            own[c] += length * step[cell, c]
        most = own[0]
        for c in range(1, n_classes):
            most = max(most, own[c])
        here, total, others = label[cell], 0.0, 0.0
        for c in range(n_classes):
            share = exp_double(own[c] - most)
            total += share
            if c != here:
                others += share
        for c in range(n_classes):
            residual[cell, c] = np.float32((-others if c == here else exp_double(own[c] - most)) / total)


@twin("int64 int32 int64 int64 int64 int64")
def panel_starts(n_items, indptr, cells, first_cell, panel, n_panels, start):
    """The place of each gene's first value in each panel, of the transposed matrix of cells from first_cell on."""
    for item in numba.prange(n_items):
        gene, part = item // (n_panels + 1), item % (n_panels + 1)
        border = (first_cell // panel + part) * panel - first_cell
        low, high = indptr[gene], indptr[gene + 1]
        while low < high:
            middle = (low + high) // 2
            if cells[middle] < border:
                low = middle + 1
            else:
                high = middle
        start[part, gene] = low


@twin("int64 int32 float32 int64 float32 int64 int64 int64 int64 int64 float64", per_item=32)
def gene_panels(n_items, start, cells, values, squared, residual, first_cell, n_cells, panel, n_genes, n_classes, partial):
    """Add values (or their squares) times residuals to a panel's sum for each gene, (panels, genes + 1, classes)."""
    for item in numba.prange(n_items):
        part, gene = item // (n_genes + 1), item % (n_genes + 1)
        own = partial[part, gene]
        if gene == n_genes:
            border = (first_cell // panel + part) * panel - first_cell
            for cell in range(max(border, 0), min(border + panel, n_cells)):
                for c in range(n_classes):
                    own[c] += np.float64(residual[cell, c])
        else:
            for k in range(start[part, gene], start[part + 1, gene]):
                value, cell = values[k], residual[cells[k]]
                if squared:
                    value = value * value
                for c in range(n_classes):
                    own[c] += np.float64(value * cell[c])


@twin("float64 int64 float64")
def panel_sums(n_items, partial, n_panels, total):
    """Add panels to the total, one after the other."""
    for item in numba.prange(n_items):
        for part in range(n_panels):
            total[item] += partial[part, item]


@twin("float64 float64 int64 int64 int64 float64", per_item=32)
def class_dots(n_items, vectors, other, n_rows, n_classes, chunk, out):
    """Products of vectors (vectors, rows, classes) with another one, (vectors, chunks of rows, classes)."""
    n_chunks = (n_rows + chunk - 1) // chunk
    for item in numba.prange(n_items):
        vector, first = item // n_chunks, item % n_chunks * chunk
        own = out[vector, item % n_chunks]
        for c in range(n_classes):
            own[c] = 0.0
        for row in range(first, min(first + chunk, n_rows)):
            for c in range(n_classes):
                own[c] += vectors[vector, row, c] * other[row, c]


@twin("float64 float64 int64 float64")
def combination(n_items, vectors, factor, n_vectors, out):
    """Add vectors (vectors, entries) times their factors to out."""
    for item in numba.prange(n_items):
        for vector in range(n_vectors):
            out[item] += factor[vector] * vectors[vector, item]
