"""Multinomial logistic regression of groups of cells on the expression of all genes, sparse throughout."""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from rsc_core import backend
from rsc_core.pp._moments import some_rows
from rsc_core.tl._multinomial import Multinomial, dots
from rsc_core.tl._quasi_newton import Memory

MEMORY = 10  # steps and changes of the gradient that L-BFGS remembers
REFRESH = 5  # step at which the diagonal is computed anew, and again whenever their number has doubled
FLAT, MAX_LENGTHS = 0.01, 20  # of the slope at its begin that is left at the end of a step; lengths that are tried


@dataclasses.dataclass
class Fit:
    """Coefficients (classes, genes) and intercepts (classes,) of the host.

    ``gradient_norm``: the largest entry of the gradient of the objective divided by the number of cells; ``n_passes``: products
    with the matrix, of the cells' or of the genes' side, divided by two.
    """

    coef: np.ndarray
    intercept: np.ndarray
    n_iter: int
    n_passes: float
    gradient_norm: float
    C: float
    tol: float

    @property
    def converged(self) -> bool:
        """Whether the gradient fell to tol."""
        return self.gradient_norm <= self.tol


def logistic(blocks, group, n_groups: int, n_genes: int, *, C=1.0, tol=1e-4, max_iter=1000):
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


def fit(blocks, label, n_genes: int, *, C=1.0, tol=1e-4, max_iter=1000) -> Fit:
    """Minimise sum_i -log softmax(x_i W + b)_label + |W|^2 / (2 C) over W (genes, classes) and b (classes,).

    L-BFGS with exact steps: the scores of a direction are computed once, and the best length found without the matrix. Its
    first inverse is the diagonal of the Hessian with genes centred by class, at the start and after 5, 10, 20, ... steps; the
    matrix stays as it is, the intercepts take the means up.

    Parameters
    ----------
    blocks
        Function that returns the blocks of the cells in order, CSR (cells, genes); called for each product.
        A block returned alone is kept with its transpose.
    label
        int64 (cells,) of the host: 0 to classes - 1, each present.
    C
        Inverse of the penalty, as in scikit-learn.
    tol
        Largest entry of the gradient of the objective divided by the number of cells, as scikit-learn's lbfgs. The objective
        is 1 / C convex in W: W is within C times the Euclidean norm of the undivided gradient of the optimum.
    max_iter
        Steps at most.

    Notes
    -----
    CPU and GPU give the same bits, for any cut into blocks. Directions and residuals are rounded to float32 for the products with
    the matrix, so that a ``tol`` below 1e-9 is hardly reached.
    Two classes have coefficients w and -w here, half of those of scikit-learn's binary model with C twice as large.
    """
    if not (C > 0 and math.isfinite(C)):
        raise ValueError(f"C is {C}; it must be above 0")
    problem = Multinomial(blocks, label, n_genes, int(label.max()) + 1, C)
    memory = Memory(problem.xp, problem.weight.shape, MEMORY)
    gradient, n_iter, refresh = problem.gradient(), 0, 0
    while (norm := float(problem.xp.abs(gradient).max()) / problem.n_cells) > tol and n_iter < max_iter:
        if n_iter == refresh:
            memory.exchange(_centred_inverse(*problem.curvature()))
            refresh = 2 * n_iter or REFRESH
        problem.turn(memory.direction(gradient))
        length = _best_length(problem)
        if length == 0:
            break
        problem.move(length)
        before, gradient = gradient, problem.gradient()
        memory.add(length * problem.direction, gradient - before)
        n_iter += 1
    weight = backend.to_host(problem.weight)
    return Fit(np.ascontiguousarray(weight[:n_genes].T), weight[n_genes], n_iter, problem.n_products / 2, norm, C, tol)


def _centred_inverse(diagonal, mean):
    """The inverse of a diagonal that holds for centred genes, as a function of gradients by the weights."""
    xp, n_genes = backend.xp_of(diagonal), len(mean)

    def inverse(gradient):
        result = gradient.copy()
        result[:n_genes] -= mean * gradient[n_genes]
        result = result / diagonal
        result[n_genes] -= xp.asarray(dots(mean[None], result[:n_genes])[0])
        return result

    return inverse


def _best_length(problem) -> float:
    """The length at which the objective, convex along the direction, is flat: Newton's steps within a bracket; 0 if it rises at once."""
    start = problem.slope(0.0)[0]
    if not start < 0:
        return 0.0
    low, high, length = 0.0, math.inf, 1.0
    for _ in range(MAX_LENGTHS):
        slope, curvature = problem.slope(length)
        if abs(slope) <= -FLAT * start:
            break
        low, high = (length, high) if slope < 0 else (low, length)
        newton = length - slope / curvature if curvature > 0 else math.inf
        within = low < newton < high and newton <= 10 * length
        length = newton if within else (low + high) / 2 if high < math.inf else 2 * length
    return length
