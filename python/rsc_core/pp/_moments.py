"""Means and variances of genes, totals of cells and genes: what several functions start from."""

from __future__ import annotations

import numpy as np

from rsc_core import backend
from rsc_core.kernels import moments as kernels
from rsc_core.kernels.normalize import row_sums
from rsc_core.pp._normalize import _by_rows, _rows


def transposed(x):
    """Genes as rows: CSR of a sparse matrix (entries in the order of the cells), C-contiguous of a dense one."""
    return x.tocsc().T if hasattr(x, "tocsc") else backend.xp_of(x).ascontiguousarray(x.T)


def some_rows(x, rows):
    """The rows of a matrix at int64 positions of the host; as it is where these are all of them."""
    if len(rows) == x.shape[0] and (rows == np.arange(x.shape[0])).all():
        return x
    return _by_rows(x)[backend.xp_of(x.data if hasattr(x, "tocsr") else x).asarray(rows)]


def gene_mean_variance(x, factor: float = 1.0, take_expm1: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance (n - 1 in the denominator; 0 for one cell) of each column.

    Parameters
    ----------
    x
        CSR, CSC or dense (cells, genes).
    factor, take_expm1
        Moments of value · factor, or of exp(value · factor) - 1.

    Returns
    -------
    float64 (genes,) each, of the host, in two passes; a constant gene has variance exactly 0.
    """
    indptr, values = _rows(transposed(x))
    xp = backend.xp_of(values)
    mean, deviation = xp.empty(x.shape[1]), xp.empty(x.shape[1])
    kernels.column_moments(x.shape[1], indptr, values, x.shape[0], factor, take_expm1, mean, deviation)
    return backend.to_host(mean), backend.to_host(deviation) / max(x.shape[0] - 1, 1)


def totals(x, axis: int, expressed: bool = False) -> np.ndarray:
    """Sums of the rows (axis 1) or columns (axis 0), or how many of their values are above 0.

    Parameters
    ----------
    x
        CSR, CSC or dense.

    Returns
    -------
    float64, int64 where ``expressed``, of the host.
    """
    x = transposed(x) if axis == 0 else _by_rows(x)
    indptr, values = _rows(x)
    if expressed:
        values = (values > 0).astype(np.float32)
    total = backend.xp_of(values).empty(x.shape[0], dtype=np.float64)
    row_sums(total.size, indptr, values, total)
    total = backend.to_host(total)
    return total.astype(np.int64) if expressed else total
