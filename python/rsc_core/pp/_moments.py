"""Means and variances of genes, totals of cells and genes: what several functions start from."""

from __future__ import annotations

import numpy as np

from rsc_core import backend
from rsc_core.kernels import panels as kernels
from rsc_core.kernels.normalize import positive_sizes, row_sums
from rsc_core.pp._blocks import RowBlocks, row_blocks
from rsc_core.pp._normalize import _by_rows, _rows

PANEL = 512  # rows that are added up one after the other; the last bits of a result depend on it
PANELS = 512  # panels at once; no result depends on it
COPIES = 8  # tables of numbers that are added into side by side; no result depends on it


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
    x = _by_rows(x)
    (n_cells, n_genes), transform = x.shape, (factor, take_expm1)
    first = None if hasattr(x, "indptr") else next(iter(row_blocks(x)))[1][:1].copy()
    center, sums, stored = np.zeros(n_genes), np.zeros(n_genes), np.full(n_genes, n_cells)
    if first is None or hasattr(first, "indptr"):
        sums, stored = column_sums(x, center, *transform, counted=True)
    full = stored == n_cells
    if full.any():
        # Distances from the first value where no zero is left out, so that a constant column has no variance at all.
        center = np.where(full, column_sums(x[:1] if first is None else first, center, *transform), 0.0)
        sums = column_sums(x, center, *transform)
    mean = center + sums / max(n_cells, 1)
    squares = column_sums(x, mean, *transform, squared=True) + (n_cells - stored) * mean * mean
    return mean, squares / max(n_cells - 1, 1)


def column_sums(x, center=None, factor: float = 1.0, take_expm1: bool = False, squared: bool = False, counted: bool = False):
    """Sums over the entries of each column of their distances from ``center``, or of the squares of these.

    Parameters
    ----------
    center
        float64 (genes,) of the host; by default 0.
    factor, take_expm1
        Of value · factor, or of exp(value · factor) - 1.
    counted
        Return how many entries each column has, too.

    Returns
    -------
    float64 (genes,) of the host, and int64 (genes,) where ``counted``. Every sum has the order of the rows within a panel, then
    that of the panels.
    """
    xp, n_genes = backend.xp_of(x), x.shape[1]
    center = xp.zeros(n_genes) if center is None else xp.ascontiguousarray(xp.asarray(center))
    total, number = xp.zeros((1, n_genes)), xp.zeros((COPIES, n_genes), dtype=np.int64)
    for _, block in row_blocks(x):
        n_rows, is_sparse = block.shape[0], hasattr(block, "indptr")
        parts = backend.csr_parts(block, np.float32) if is_sparse else (xp.ascontiguousarray(block, dtype=np.float32),)
        size = (n_rows, n_genes, PANEL)
        if counted:
            _count(block, number)

        def add(first, n_panels, sums, parts=parts, size=size, is_sparse=is_sparse):
            if is_sparse:
                items, width = tiles(n_panels, n_genes, xp)
                kernels.panel_sums(items, first, *parts, *size, width, factor, take_expm1, center, squared, sums)
            else:
                items = n_panels * -(-n_genes // kernels.STRIPE)
                kernels.panel_sums_dense(items, first, *parts, *size, factor, take_expm1, center, squared, sums)

        by_panels(add, n_rows, total)
    total = backend.to_host(total)[0]
    return (total, backend.to_host(number).sum(axis=0)) if counted else total


def tiles(n_panels: int, n_columns: int, xp, n_sums: int = 1) -> tuple[int, int]:
    """Items of a kernel that takes panels of a sparse matrix by tiles of columns, and how many columns a tile has."""
    width = max(1, n_columns if xp is np else min(n_columns, int(kernels.TILE / n_sums)))
    return n_panels * -(-n_columns // width), width


def _count(block, number, positive: bool = False) -> None:
    """Add how many entries, or positive ones, each column of a block has to ``number``, int64 (COPIES, columns)."""
    if not hasattr(block, "indptr"):
        number[0] += (block > 0).sum(axis=0) if positive else block.shape[0]
        return
    (n_rows, n_genes), xp = block.shape, backend.xp_of(number)
    items, width = tiles(-(-n_rows // PANEL), n_genes, xp, 0.5)
    kernels.entry_counts(items, *backend.csr_parts(block, np.float32), n_rows, n_genes, PANEL, width, positive, COPIES, number)


def by_panels(add, n_rows: int, total) -> None:
    """Add the sums of all panels of a block to ``total``, (n, genes) on its backend.

    Parameters
    ----------
    add
        Function of (first row, number of panels, zeros (panels, n, genes)) that fills these.
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
    if axis == 1:
        return backend.to_host(rows_of(x, expressed))
    if not expressed:
        return column_sums(x)
    number = backend.xp_of(x).zeros((COPIES, x.shape[1]), dtype=np.int64)
    for _, block in row_blocks(x):
        _count(block, number, positive=True)
    return backend.to_host(number).sum(axis=0)


def rows_of(x, expressed: bool):
    """Sums of the rows, float64, or how many of their values are above 0, int64: on the backend of x."""
    xp, found = backend.xp_of(x), []
    for _, block in row_blocks(x):
        indptr, values = _rows(block)
        out = xp.empty(block.shape[0], dtype=np.int64 if expressed else np.float64)
        (positive_sizes if expressed else row_sums)(out.size, indptr, values, out)
        found.append(out)
    return found[0] if len(found) == 1 else xp.concatenate(found)
