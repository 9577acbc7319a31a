"""Means and variances of genes, totals of cells and genes: what several functions start from."""

from __future__ import annotations

import numpy as np

from rsc_core import backend
from rsc_core.kernels import panels as kernels
from rsc_core.kernels.normalize import row_sums
from rsc_core.pp._blocks import RowBlocks, row_blocks
from rsc_core.pp._normalize import _by_rows, _rows

PANEL = 512  # rows that are added up one after the other; the last bits of a result depend on it
PANELS = 128  # panels at once; no result depends on it
STORED, SUM, APART, SQUARES = range(4)


def some_rows(x, rows):
    """The rows of a matrix at int64 positions of the host; as it is where these are all of them."""
    if len(rows) == x.shape[0] and (rows == np.arange(x.shape[0])).all():
        return x
    return x[rows] if isinstance(x, RowBlocks) else _by_rows(x)[backend.xp_of(x).asarray(rows)]


def gene_mean_variance(x, factor: float = 1.0, take_expm1: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance (n - 1 in the denominator; 0 for one cell) of each column.

    Parameters
    ----------
    x
        CSR, CSC, dense or :class:`~rsc_core.pp._blocks.RowBlocks` (cells, genes).
    factor, take_expm1
        Moments of value · factor, or of exp(value · factor) - 1.

    Returns
    -------
    float64 (genes,) each, of the host, in two passes; a constant gene has variance exactly 0.
    """
    n_cells, n_genes = x.shape
    first = np.zeros((n_genes, 4))
    for _, block in row_blocks(x):
        first = moments(block[:1], np.zeros(n_genes), factor, take_expm1)
        break
    # Distances from the first value where no zero is left out, so that a constant column has no variance at all.
    sums = moments(x, first[:, SUM], factor, take_expm1)
    full = sums[:, STORED] == n_cells
    mean = np.where(full, first[:, SUM] + sums[:, APART] / max(n_cells, 1), sums[:, SUM] / max(n_cells, 1))
    squares = moments(x, mean, factor, take_expm1)[:, SQUARES] + (n_cells - sums[:, STORED]) * mean * mean
    return mean, squares / max(n_cells - 1, 1)


def moments(x, center, factor: float = 1.0, take_expm1: bool = False) -> np.ndarray:
    """Of each column: number of entries, their sum, sum of their distances from ``center``, sum of the squares of these.

    Parameters
    ----------
    center
        float64 (genes,) of the host.

    Returns
    -------
    float64 (genes, 4) of the host. Every sum has the order of the rows within a panel, then that of the panels.
    """
    xp, n_genes = backend.xp_of(x), x.shape[1]
    center, total = xp.ascontiguousarray(xp.asarray(center)), xp.zeros((n_genes, 4))
    for _, block in row_blocks(x):
        is_sparse, n_rows = hasattr(block, "indptr"), block.shape[0]
        indptr, values = _rows(block)
        entries = (indptr, block.indices.astype(np.int32, copy=False), values) if is_sparse else (values.reshape(block.shape),)
        kernel = kernels.panel_moments if is_sparse else kernels.panel_moments_dense

        def add(first, n_panels, parts, kernel=kernel, entries=entries, n_rows=n_rows):
            kernel(n_panels, first, *entries, n_rows, n_genes, PANEL, factor, take_expm1, center, parts)

        by_panels(add, n_rows, total)
    return backend.to_host(total)


def by_panels(add, n_rows: int, total) -> None:
    """Add the sums of all panels of a block to ``total``, (genes, n) on its backend.

    Parameters
    ----------
    add
        Function of (first row, number of panels, zeros (panels, genes, n)) that fills these.
    """
    xp = backend.xp_of(total)
    for first in range(0, n_rows, PANEL * PANELS):
        n_panels = -(-min(n_rows - first, PANEL * PANELS) // PANEL)
        parts = xp.zeros((n_panels, *total.shape))
        add(first, n_panels, parts)
        kernels.add_panels(total.size, parts.reshape(n_panels, -1), n_panels, total.reshape(-1))


def totals(x, axis: int, expressed: bool = False) -> np.ndarray:
    """Sums of the rows (axis 1) or columns (axis 0), or how many of their values are above 0.

    Parameters
    ----------
    x
        CSR, CSC, dense or :class:`~rsc_core.pp._blocks.RowBlocks`.

    Returns
    -------
    float64, int64 where ``expressed``, of the host.
    """
    if expressed:
        x = _positive(x)
    total = _sums_of_rows(x) if axis == 1 else moments(x, np.zeros(x.shape[1]))[:, SUM]
    return total.astype(np.int64) if expressed else total


def _positive(x):
    """1 where a value is above 0, else 0."""
    if isinstance(x, RowBlocks):
        return x.mapped(lambda _, block: _positive(block))
    if not hasattr(x, "tocsr"):
        return (x > 0).astype(np.float32)
    x = _by_rows(x)
    return backend.sparse_of(backend.xp_of(x)).csr_matrix(((x.data > 0).astype(np.float32), x.indices, x.indptr), shape=x.shape)


def _sums_of_rows(x) -> np.ndarray:
    sums = []
    for _, block in row_blocks(x):
        indptr, values = _rows(block)
        total = backend.xp_of(values).empty(block.shape[0], dtype=np.float64)
        row_sums(total.size, indptr, values, total)
        sums.append(backend.to_host(total))
    return np.concatenate(sums)
