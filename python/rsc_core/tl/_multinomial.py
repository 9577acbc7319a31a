"""The multinomial regression as its solver sees it: products with the matrix, slopes along a direction, curvature."""

from __future__ import annotations

import numpy as np

from rsc_core import backend
from rsc_core.kernels import logreg as kernels

PANEL = 2048  # cells that are added up one after the other, at least; the last bits of a result depend on it
PARTIAL = 1 << 25  # sums of panels that are held at once
CHUNK = 512  # rows that a product of vectors adds up one after the other


def transposed(x):
    """Genes as rows: the CSR of a sparse matrix's columns, entries in the order of the cells."""
    return x.tocsc().T


def dots(vectors, other):
    """Products over rows: of vectors (vectors, rows, classes) with one (rows, classes), float64 (vectors, classes) of the host.

    Parts of the sums come from the backend, and are added one after the other.
    """
    n_vectors, n_rows, n_classes = vectors.shape
    n_chunks = -(-n_rows // CHUNK)
    parts = backend.xp_of(other).empty((n_vectors, n_chunks, n_classes))
    kernels.class_dots(n_vectors * n_chunks, vectors, other, n_rows, n_classes, CHUNK, parts)
    return np.cumsum(backend.to_host(parts), axis=1)[:, -1]  # a sum over an axis has no stated order


class Multinomial:
    """sum_i -log softmax(x_i W + b)_label + |W|^2 / (2 C), at weights (genes + 1, classes) whose last row is b.

    Starts at W = 0 and b = log of the classes' shares. Scores (cells, classes) are kept: a step along a direction costs no
    product with the matrix once the scores of the direction are there.
    """

    def __init__(self, blocks, label, n_genes, n_classes, C):
        first = blocks()
        first = first if isinstance(first, list) else None
        self.blocks = (lambda: first) if first is not None else blocks
        self.n_cells, self.n_genes, self.n_classes, self.C = len(label), n_genes, n_classes, C
        self.panel = max(PANEL, -(-self.n_cells // max(1, PARTIAL // ((n_genes + 1) * n_classes))))
        self.xp = xp = backend.xp_of(next(iter(self.blocks())).data)
        self.kept = self._genes(first[0], 0) if first is not None and len(first) == 1 else None
        self.label = xp.asarray(label)
        self.weight = xp.zeros((n_genes + 1, n_classes))
        self.weight[n_genes] = xp.asarray(np.log(np.bincount(label, minlength=n_classes) / self.n_cells))
        self.score = xp.zeros((self.n_cells, n_classes)) + self.weight[n_genes]
        self.step, self.direction = xp.zeros(self.score.shape), xp.zeros(self.weight.shape)
        self.residual = xp.empty(self.score.shape, dtype=np.float32)
        self._ones, self.n_products = xp.ones((self.n_cells, 2)), 0
        self.move(0.0)

    def turn(self, direction):
        """Look along a direction, rounded to float32; the scores of its step."""
        rounded = direction.astype(np.float32)
        self.direction, row = rounded.astype(np.float64), 0
        self.n_products += 1
        for x in self.blocks():
            indptr, indices, values = backend.csr_parts(x, np.float32)
            here = self.step[row : row + x.shape[0]]
            kernels.class_scores(x.shape[0], indptr, indices, values, rounded, self.n_genes, self.n_classes, here)
            row += x.shape[0]
        penalised = self.direction[: self.n_genes]
        self._along = [dots(one[None, : self.n_genes], penalised).sum() / self.C for one in (self.weight, self.direction)]

    def slope(self, length):
        """First and second derivative of the objective by the length of the step."""
        out = self.xp.empty((self.n_cells, 2))
        kernels.slopes(self.n_cells, self.label, self.score, self.step, length, self.n_classes, out)
        first, second = dots(out[None], self._ones)[0]
        return first + self._along[0] + length * self._along[1], second + self._along[1]

    def move(self, length):
        """Take a step along the direction."""
        self.weight = self.weight + length * self.direction
        kernels.residuals(self.n_cells, self.label, self.score, self.step, length, self.n_classes, self.residual)

    def gradient(self):
        """The gradient of the objective by the weights."""
        gradient = self._gene_sums(self.residual, False)
        gradient[: self.n_genes] += self.weight[: self.n_genes] / self.C
        return gradient

    def curvature(self):
        """Diagonal of the Hessian for genes centred by class, (genes + 1, classes), and the means, (genes, classes).

        A class weighs a cell by p (1 - p), p its probability.
        """
        size = self.xp.abs(self.residual)
        spread = size * (1 - size)
        sums, diagonal = (self._gene_sums(spread, squared) for squared in (False, True))
        total = self.xp.maximum(sums[self.n_genes], np.finfo(np.float32).tiny)
        mean = sums[: self.n_genes] / total
        diagonal[: self.n_genes] = self.xp.maximum(diagonal[: self.n_genes] - mean * mean * total, 0)
        return diagonal + 1 / self.C, mean

    def _genes(self, x, first_cell):
        """A block of cells gene by gene: where panels begin, cells, values, number of panels."""
        indptr, cells, values = backend.csr_parts(transposed(x), np.float32)
        n_panels = (first_cell + x.shape[0] - 1) // self.panel - first_cell // self.panel + 1
        start = self.xp.empty((n_panels + 1, self.n_genes), dtype=np.int64)
        kernels.panel_starts(self.n_genes * (n_panels + 1), indptr, cells, first_cell, self.panel, n_panels, start)
        return start, cells, values, n_panels

    def _gene_sums(self, table, squared):
        """Values, or their squares, times a table (cells, classes); the last row is the table's own sum."""
        size, row, partial = self.weight.shape, 0, None
        total = self.xp.zeros(size)
        self.n_products += 1
        for x in self.blocks():
            start, cells, values, n_panels = self.kept or self._genes(x, row)
            stop = row + x.shape[0]
            begun = partial  # the last panel of the block before, where it was cut
            partial = self.xp.zeros((n_panels, *size))
            if begun is not None:
                partial[0] = begun
            kernels.gene_panels(
                n_panels * size[0], start, cells, values, squared, table[row:stop], row, x.shape[0], self.panel, self.n_genes,
                self.n_classes, partial,
            )  # fmt: skip
            whole = n_panels if stop % self.panel == 0 or stop == self.n_cells else n_panels - 1
            kernels.panel_sums(total.size, partial.reshape(n_panels, -1), whole, total.reshape(-1))
            partial, row = (partial[n_panels - 1] if whole < n_panels else None), stop
        return total
