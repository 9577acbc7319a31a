"""Products of multinomial regression with a sparse matrix; ``logreg.cu`` holds the same for CUDA.

Scores of a cell are added gene by gene in the order of its values, the gradient of a gene cell by cell: blocks of cells
change no bit. A last row of the weights is the intercept.
"""

import math

import numba
import numpy as np

from rsc_core.kernels.device import exp_double
from rsc_core.kernels.twin import twin

UNIT = 2.0**40  # of the integers that probabilities are added in


@twin("int64 int32 float32 float64 int64 int64 float64", per_item=32)
def class_scores(n_items, indptr, indices, values, weight, n_genes, n_classes, score):
    for cell in numba.prange(n_items):
        own = score[cell]
        for c in range(n_classes):
            own[c] = weight[n_genes, c]
        for k in range(indptr[cell], indptr[cell + 1]):
            value, gene = np.float64(values[k]), weight[indices[k]]
            for c in range(n_classes):
                own[c] += value * gene[c]


# Scores become probabilities less 1 for the cell's own class; loss is minus the logarithm of that one's probability.
@twin("int64 int64 float64 float64")
def residuals(n_items, label, n_classes, score, loss):
    for cell in numba.prange(n_items):
        own = score[cell]
        most = own[0]
        for c in range(1, n_classes):
            most = max(most, own[c])
        total, here = 0.0, own[label[cell]] - most
        for c in range(n_classes):
            own[c] = exp_double(own[c] - most)
            total += own[c]
        for c in range(n_classes):
            own[c] = own[c] / total
        own[label[cell]] -= 1.0
        loss[cell] = math.log(total) - here


# Sums of the residuals of each class, in integers: threads of CUDA add in any order. An item of CUDA is a cell.
@twin("float64 int64 int64")
def residual_sums(n_items, residual, n_classes, total):
    for c in numba.prange(n_classes):
        for cell in range(n_items):
            total[c] += np.int64(math.floor(residual[cell, c] * UNIT))


# indptr, cells, values: the transposed matrix. gradient goes on from what it holds.
@twin("int64 int32 float32 float64 int64 float64", per_item=32)
def gene_gradient(n_items, indptr, cells, values, residual, n_classes, gradient):
    for gene in numba.prange(n_items):
        own = gradient[gene]
        for k in range(indptr[gene], indptr[gene + 1]):
            value, cell = np.float64(values[k]), residual[cells[k]]
            for c in range(n_classes):
                own[c] += value * cell[c]
