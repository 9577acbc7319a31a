"""Library sizes and logarithms."""

from __future__ import annotations

import numpy as np

from rsc_core import backend, data
from rsc_core.kernels import normalize as kernels
from rsc_core.pp._blocks import RowBlocks, row_blocks

PIECE = 4096  # values of a matrix that one item of a kernel takes where rows do not matter


def normalize_total(adata, *, target_sum=None, exclude_highly_expressed=False, max_fraction=0.05, layer=None, inplace=True, key_added=None):
    """Divide every cell by its size factor, so that all cells have the same total.

    size factor = total of the cell / target,  value = count / size factor.

    Parameters
    ----------
    adata
        AnnData; X or the layer is (cells, genes), CSR, CSC or dense, any numeric dtype.
    target_sum
        Total of every cell afterwards; by default the median of the totals above 0.
    exclude_highly_expressed
        Leave genes out of the totals (not out of the matrix) that make up more than ``max_fraction`` of a cell's counts in
        any cell.
    max_fraction
        See ``exclude_highly_expressed``.
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
    if target_sum is None or exclude_highly_expressed or isinstance(x, RowBlocks):
        factor = _size_factors(without_dominant_genes(x, max_fraction) if exclude_highly_expressed else x, target_sum)
        scaled = scale_rows(x, factor, take_log=False)
    else:
        scaled, factor = _shares(x, target_sum)
    if not inplace:
        return {"X": scaled, "norm_factor": backend.to_host(factor)}
    if key_added is not None:
        adata.obs[key_added] = backend.to_host(factor)
    _replace(adata, layer, scaled)
    return None


def _shares(x, target_sum: float):
    """Every row over its size factor, and these: the target is known, so that one pass does for both."""
    indptr, values = _rows(x)
    xp, out = backend.xp_of(values), backend.xp_of(values).empty_like(values)
    factor = xp.empty(x.shape[0])
    kernels.shares_of_rows(factor.size, indptr, values, target_sum, factor, out)
    return _like(x, out), factor


def without_dominant_genes(x, max_fraction: float):
    """The matrix with zeros for every gene that makes up more than a fraction of the total of any cell.

    Parameters
    ----------
    x
        CSR or dense (cells, genes), values of at least 0.
    max_fraction
        Between 0 and 1.
    """
    if not 0 < max_fraction < 1:
        raise ValueError(f"max_fraction is {max_fraction}; it must lie between 0 and 1")
    xp = backend.xp_of(x)
    dominant = xp.zeros(x.shape[1], dtype=np.int32)
    for _, block in row_blocks(x):
        indptr, values = _rows(block)
        total = xp.empty(block.shape[0], dtype=np.float64)
        kernels.row_sums(total.size, indptr, values, total)
        if hasattr(block, "indptr"):
            columns = block.indices.astype(np.int32, copy=False)
            kernels.dominant_columns(block.shape[0], indptr, columns, values, total * max_fraction, dominant)
        else:
            dominant |= (block > total[:, None] * max_fraction).any(axis=0)

    def without(_, block):
        if not hasattr(block, "indptr"):
            return xp.where(dominant[None, :] > 0, xp.float32(0), block)
        return _like(block, xp.where(dominant[block.indices] > 0, xp.float32(0), _rows(block)[1]))

    return changed(x, without)


def sqrt(adata, *, layer=None):
    """Replace X or a layer by its square root: float64 rounded once to float32, the same on both backends.

    Parameters
    ----------
    adata
        AnnData; X or the layer is (cells, genes), CSR, CSC or dense, any numeric dtype, values of at least 0 (else NaN).
    layer
        Layer to transform instead of X.
    """
    x = _by_rows(data.matrix(adata, layer))
    _replace(adata, layer, changed(x, lambda _, block: _like(block, backend.xp_of(block).sqrt(_rows(block)[1]))))


def log1p(adata, *, base=None, layer=None):
    """Replace X or a layer by log(1 + x).

    Parameters
    ----------
    adata
        AnnData; X or the layer is (cells, genes), CSR, CSC or dense, any numeric dtype. ``uns['log1p']`` marks it,
        with the base.
    base
        Base of the logarithm, above 0 and not 1; by default e.
    layer
        Layer to transform instead of X.

    Notes
    -----
    Logarithm in float64, rounded once to float32: the same bits on CPU and GPU (of base e); scanpy agrees within 2 units of the
    last place of float32.
    """
    if base is not None and (base <= 0 or base == 1):
        raise ValueError(f"base is {base}; it must be above 0 and not 1")
    _replace(adata, layer, changed(_by_rows(data.matrix(adata, layer)), lambda _, block: _logarithms(block, base)))
    adata.uns["log1p"] = {} if base is None else {"base": base}


def _logarithms(x, base):
    _, values = _rows(x)
    xp, out = backend.xp_of(values), backend.xp_of(values).empty_like(values)
    pieces = xp.minimum(xp.arange(0, values.size + PIECE, PIECE, dtype=np.int64), values.size)
    kernels.scale_rows(pieces.size - 1, pieces, values, xp.ones(pieces.size - 1), 1, out)
    return _like(x, out if base is None else (out / np.log(base)).astype(np.float32))


def changed(x, change, n_columns: int | None = None):
    """A matrix after a change, a function of (first row, block): at once, or of row blocks whenever they are read."""
    return x.mapped(change, n_columns) if isinstance(x, RowBlocks) else change(0, x)


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
    return backend.to_host(_size_factors(counts, target_sum))


def _size_factors(counts, target_sum):
    """:func:`size_factors` on the backend of the counts: nothing waits for the device but a median."""
    from rsc_core.pp._moments import rows_of

    return over_target(rows_of(counts, expressed=False), target_sum)


def over_target(total, target_sum=None):
    """Totals of rows over the target, by default their median; 1 where there is nothing. See :func:`size_factors`."""
    xp = backend.xp_of(total)
    if target_sum is None:
        some = backend.to_host(total)
        some = some[some > 0]
        target_sum = np.median(some) if some.size else 1.0
    return xp.where(total > 0, total / target_sum, 1.0)


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
    CSR float32 that shares ``indices`` and ``indptr`` with the counts: computed in float64 (within 3
    units of its last place) and rounded once; CPU and GPU give the same bits.
    """
    return scale_rows(counts, size_factor, take_log=True)


def scale_rows(x, size_factor, take_log: bool):
    """x / size factor of the row, or log(1 + that): float32, computed in float64. See :func:`lognorm`."""
    size_factor = backend.xp_of(x).asarray(size_factor, dtype=np.float64)

    def divided(start, block):
        indptr, values = _rows(block)
        out = backend.xp_of(values).empty_like(values)
        kernels.scale_rows(block.shape[0], indptr, values, size_factor[start : start + block.shape[0]], take_log, out)
        return _like(block, out)

    return changed(x, divided)


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
    return x._with_data(values, copy=False)  # SciPy's and CuPy's: does not look through the offsets once more
