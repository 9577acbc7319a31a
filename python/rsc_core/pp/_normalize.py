"""Library sizes and logarithms."""

from __future__ import annotations

import numpy as np

from rsc_core import backend, data
from rsc_core.kernels import normalize as kernels

PIECE = 4096  # values of a matrix that one item of a kernel takes where rows do not matter


def normalize_total(adata, *, target_sum=None, layer=None, inplace=True, key_added=None):
    """Divide every cell by its size factor, so that all cells have the same total.

    size factor = total of the cell / target,  value = count / size factor.

    Parameters
    ----------
    adata
        AnnData; X or the layer is (cells, genes), CSR, CSC or dense, any numeric dtype.
    target_sum
        Total of every cell afterwards; by default the median of the totals above 0.
    layer
        Layer to normalise instead of X.
    inplace
        Replace the matrix, or return ``{"X": matrix, "norm_factor": size factors}``.
    key_added
        Column of obs that takes the size factors.

    Returns
    -------
    None, or the dict: float32 matrix (CSR, dense where the input was), float64 (cells,) on the host.

    Notes
    -----
    Computed in float64 and rounded once to float32; CPU and GPU give the same bits for counts. A cell whose total is 0
    keeps its zeros and has size factor 1. scanpy agrees within 1e-6 relative (it divides in float32), but
    takes cells of total 0 into the median where the matrix is CSR (1.11).
    """
    x = _by_rows(data.matrix(adata, layer))
    factor = size_factors(x, target_sum)
    scaled = scale_rows(x, factor, take_log=False)
    if not inplace:
        return {"X": scaled, "norm_factor": factor}
    if key_added is not None:
        adata.obs[key_added] = factor
    _replace(adata, layer, scaled)
    return None


def log1p(adata, *, layer=None):
    """Replace X or a layer by log(1 + x).

    Parameters
    ----------
    adata
        AnnData; X or the layer is (cells, genes), CSR, CSC or dense, any numeric dtype. ``uns['log1p']`` marks it.
    layer
        Layer to transform instead of X.

    Notes
    -----
    Natural logarithm in float64, rounded once to float32; scanpy agrees within 2 units of the last place of float32.
    """
    x = _by_rows(data.matrix(adata, layer))
    _, values = _rows(x)
    xp, out = backend.xp_of(values), backend.xp_of(values).empty_like(values)
    pieces = xp.minimum(xp.arange(0, values.size + PIECE, PIECE, dtype=np.int64), values.size)
    kernels.scale_rows(pieces.size - 1, pieces, values, xp.ones(pieces.size - 1), 1, out)
    _replace(adata, layer, _like(x, out))
    adata.uns["log1p"] = {}


def _replace(adata, layer, matrix):
    """Put a matrix in the place of X or of a layer."""
    if layer is None:
        adata.X = matrix
    else:
        adata.layers[layer] = matrix


def size_factors(counts, target_sum=None) -> np.ndarray:
    """Total of each row over the target.

    Parameters
    ----------
    counts
        CSR or dense (cells, genes).
    target_sum
        By default the median of the totals above 0.

    Returns
    -------
    float64 (cells,) on the host; 1 where the total is 0. Totals are exact for counts (sums below 2^53).
    """
    indptr, values = _rows(counts)
    total = backend.xp_of(values).empty(counts.shape[0], dtype=np.float64)
    kernels.row_sums(total.size, indptr, values, total)
    total = backend.to_host(total)
    some = total > 0
    if target_sum is None:
        target_sum = np.median(total[some]) if some.any() else 1.0
    return np.where(some, total / target_sum, 1.0)


def lognorm(counts, size_factor):
    """log(1 + count / size factor of the cell).

    Parameters
    ----------
    counts
        CSR (cells, genes), float32.
    size_factor
        float64 (cells,), above 0, of the host or of the counts' device.

    Returns
    -------
    CSR float32 that shares ``indices`` and ``indptr`` with the counts: computed in float64 and rounded once, so that CPU
    and GPU differ in a last bit at most where their logarithms (exact to 1 unit of float64) straddle a rounding border.
    """
    return scale_rows(counts, size_factor, take_log=True)


def scale_rows(x, size_factor, take_log: bool):
    """x / size factor of the row, or log(1 + that): float32, computed in float64. See :func:`lognorm`."""
    indptr, values = _rows(x)
    xp, out = backend.xp_of(values), backend.xp_of(values).empty_like(values)
    kernels.scale_rows(x.shape[0], indptr, values, xp.asarray(size_factor, dtype=np.float64), take_log, out)
    return _like(x, out)


def _by_rows(x):
    """A CSC matrix as CSR; any other as it is."""
    return x.tocsr() if hasattr(x, "tocsr") else x


def _rows(x):
    """int64 offsets of the rows and float32 values of a CSR or dense matrix."""
    if hasattr(x, "indptr"):
        indptr, _, values = backend.csr_parts(x, np.float32)
        return indptr, values
    xp = backend.xp_of(x)
    return xp.arange(x.shape[0] + 1, dtype=np.int64) * x.shape[1], xp.ascontiguousarray(x, dtype=np.float32).ravel()


def _like(x, values):
    """A matrix of the layout of ``x`` with other values."""
    if not hasattr(x, "indptr"):
        return values.reshape(x.shape)
    return backend.sparse_of(backend.xp_of(values)).csr_matrix((values, x.indices, x.indptr), shape=x.shape)
