"""Multinomial logistic regression of groups of cells on the expression of all genes, sparse throughout."""

from __future__ import annotations

import collections
import dataclasses

import numpy as np

from rsc_core import backend
from rsc_core.kernels import logreg as kernels
from rsc_core.pp._moments import some_rows

MEMORY = 20  # steps and changes of the gradient that L-BFGS remembers
ARMIJO, SHRINK, MAX_HALVINGS = 1e-4, 0.5, 30


@dataclasses.dataclass
class Fit:
    """Coefficients (classes, genes) and intercepts (classes,) of the host, steps, and norm of the gradient.

    The objective is 1 / C convex in the coefficients, therefore they are within C times the norm of those of the optimum.
    """

    coef: np.ndarray
    intercept: np.ndarray
    n_iter: int
    gradient_norm: float
    converged: bool


def logistic(blocks, group, n_groups: int, n_genes: int, *, C=1.0, tol=1e-3, max_iter=1000):
    """Scores (groups, genes) of the groups against each other, as rank_genes_groups wants them, and the :class:`Fit`.

    Parameters
    ----------
    blocks
        As for :func:`fit`, of all cells.
    group
        uint16 (cells,) of the host: the group, ``n_groups`` or more for cells that are left out.

    Returns
    -------
    Coefficients; of two groups those of the binary model with this C, w for the first and -w for the second.
    """
    if n_groups < 2:
        raise ValueError("logreg compares groups with each other; there is one, name two or more")
    inside = group < n_groups
    label = group[inside].astype(np.int64)

    def chosen():
        row = 0
        for x in blocks():
            yield some_rows(x, np.flatnonzero(inside[row : row + x.shape[0]]))
            row += x.shape[0]

    held = blocks()
    kept = list(chosen()) if isinstance(held, list) else None
    result = fit(
        (lambda: kept) if kept is not None else chosen, label, n_genes, C=C / 2 if n_groups == 2 else C, tol=tol, max_iter=max_iter
    )
    return (result.coef - result.coef[::-1] if n_groups == 2 else result.coef), result


def fit(blocks, label, n_genes: int, *, C=1.0, tol=1e-3, max_iter=1000) -> Fit:
    """Minimise sum_i -log softmax(x_i W + b)_label + |W|^2 / (2 C) over W (genes, classes) and b (classes,).

    L-BFGS (Liu & Nocedal 1989, doi:10.1007/BF01589116), started at 0, with genes centred and scaled by the diagonal of the
    Hessian there; the matrix stays as it is, the intercept takes the means up.

    Parameters
    ----------
    blocks
        Function that returns the blocks of the cells in order, CSR (cells, genes); called for each evaluation.
        A block returned alone is kept with its transpose.
    label
        int64 (cells,) of the host: 0 to classes - 1, each present.
    C
        Inverse of the penalty, as in scikit-learn.
    tol
        Largest Euclidean norm of the gradient of the objective (a sum over cells, not a mean).
    max_iter
        Steps at most.

    Notes
    -----
    Two classes have coefficients w and -w here, half of those of scikit-learn's binary model with C twice as large.
    """
    n_classes = int(label.max()) + 1
    problem = _Problem(blocks, label, n_genes, n_classes, C)
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):  # dot products whose bits do not depend on the number of threads
        unknown, n_iter, norm = _lbfgs(problem, tol, max_iter)
    weight = backend.to_host(problem.weights(unknown))
    return Fit(np.ascontiguousarray(weight[:n_genes].T), weight[n_genes], n_iter, norm, norm <= tol)


def transposed(x):
    """Genes as rows: the CSR of a sparse matrix's columns, entries in the order of the cells; C-contiguous of a dense one."""
    return x.tocsc().T if hasattr(x, "tocsc") else backend.xp_of(x).ascontiguousarray(x.T)


class _Problem:
    """The objective and its gradient in scaled unknowns."""

    def __init__(self, blocks, label, n_genes, n_classes, C):
        first = blocks()
        first = first if isinstance(first, list) else None
        self.blocks = (lambda: first) if first is not None else blocks
        self.kept = transposed(first[0]) if first is not None and len(first) == 1 else None
        self.n_genes, self.n_classes, self.C, self.labels = n_genes, n_classes, C, label
        self.shape = (n_genes + 1, n_classes)
        total = squares = None
        for x in self.blocks():
            indptr, cells, values = backend.csr_parts(self._transposed(x), np.float32)
            self.xp = xp = backend.xp_of(values)
            if total is None:
                total, squares = xp.zeros((n_genes, 1)), xp.zeros((n_genes, 1))
            ones = xp.ones((x.shape[0], 1))
            kernels.gene_gradient(n_genes, indptr, cells, values, ones, 1, total)
            kernels.gene_gradient(n_genes, indptr, cells, values * values, ones, 1, squares)
        self.mean = total / len(label)
        share = np.bincount(label, minlength=n_classes) / len(label)
        share = xp.asarray(share * (1 - share))
        curvature = xp.empty(self.shape)
        curvature[:n_genes] = xp.maximum(squares - total * self.mean, 0) * share + 1 / C
        curvature[n_genes] = len(label) * share
        self.scale = 1 / xp.sqrt(curvature)

    def _transposed(self, x):
        return transposed(x) if self.kept is None else self.kept

    def weights(self, unknown):
        """W with b as its last row, from the unknowns, whose intercept is that of centred genes."""
        weight = unknown.reshape(self.shape) * self.scale
        weight[self.n_genes] -= self.mean[:, 0] @ weight[: self.n_genes]
        return weight

    def evaluate(self, unknown):
        """Objective, its gradient in the unknowns, and the norm of its gradient in the weights."""
        xp, n_genes = self.xp, self.n_genes
        weight = self.weights(unknown)
        gradient, sums = xp.zeros(self.shape), xp.zeros(self.n_classes, dtype=np.int64)
        losses, row = [], 0
        for x in self.blocks():
            indptr, indices, values = backend.csr_parts(x, np.float32)
            label = xp.asarray(self.labels[row : row + x.shape[0]])
            score, loss = xp.empty((x.shape[0], self.n_classes)), xp.empty(x.shape[0])
            kernels.class_scores(x.shape[0], indptr, indices, values, weight, n_genes, self.n_classes, score)
            kernels.residuals(x.shape[0], label, self.n_classes, score, loss)
            kernels.residual_sums(x.shape[0], score, self.n_classes, sums)
            indptr, cells, values = backend.csr_parts(self._transposed(x), np.float32)
            kernels.gene_gradient(n_genes, indptr, cells, values, score, self.n_classes, gradient)
            losses.append(backend.to_host(loss))
            row += x.shape[0]
        gradient[n_genes] = (sums + len(self.labels) * 0.5) / kernels.UNIT  # floor takes half a unit of each
        gradient[:n_genes] += weight[:n_genes] / self.C - self.mean * gradient[n_genes]
        coef = weight[:n_genes].ravel()
        objective = float(np.concatenate(losses).sum()) + float(coef @ coef) / (2 * self.C)
        flat = gradient.ravel()
        return objective, (gradient * self.scale).ravel(), float(flat @ flat) ** 0.5


def _lbfgs(problem, tol, max_iter):
    """The unknowns at which the gradient's norm is at most tol, number of steps, norm."""
    xp = problem.xp
    unknown = xp.zeros(problem.shape[0] * problem.shape[1])
    value, gradient, norm = problem.evaluate(unknown)
    memory = collections.deque(maxlen=MEMORY)
    n_iter = 0
    while norm > tol and n_iter < max_iter:
        step = -_inverse_hessian_times(gradient, memory)
        slope, length = float(step @ gradient), 1.0
        for _ in range(MAX_HALVINGS):
            tried = unknown + length * step
            new_value, new_gradient, new_norm = problem.evaluate(tried)
            # Near the optimum the objective has no digits left to tell; the slope along the step has.
            flat = abs(new_value - value) <= 1e-12 * abs(value) and abs(float(step @ new_gradient)) <= abs(slope)
            if new_value <= value + ARMIJO * length * slope or flat:
                break
            length *= SHRINK
        else:
            break
        change, difference = tried - unknown, new_gradient - gradient
        curvature = float(change @ difference)
        if curvature > 0:
            memory.append((change, difference, curvature, float(difference @ difference)))
        unknown, value, gradient, norm = tried, new_value, new_gradient, new_norm
        n_iter += 1
    return unknown, n_iter, norm


def _inverse_hessian_times(vector, memory):
    """The two loops of L-BFGS; without memory the scaled unknowns have the identity."""
    result, factors = vector.copy(), []
    for change, difference, curvature, _ in reversed(memory):
        factor = float(change @ result) / curvature
        result -= factor * difference
        factors.append(factor)
    if memory:
        result *= memory[-1][2] / memory[-1][3]
    for (change, difference, curvature, _), factor in zip(memory, reversed(factors), strict=True):
        result += (factor - float(difference @ result) / curvature) * change
    return result
