"""What columns of obs explain of the genes, taken off."""

from __future__ import annotations

import numpy as np
import pandas as pd

from rsc_core import backend, data
from rsc_core.kernels import panels
from rsc_core.kernels import regress as kernels
from rsc_core.pp._blocks import row_blocks
from rsc_core.pp._moments import PANEL, by_panels, gene_mean_variance, some_rows, tiles
from rsc_core.pp._normalize import _by_rows, _replace, changed
from rsc_core.pp._scale import scaled
from rsc_core.tl._sums import products

STRIP_ROWS = 64  # rows that an item of a kernel takes; no result depends on it
SAME = 1e-12  # eigenvalue, of the correlations of the regressors, below which a direction repeats others


def regress_out(adata, keys, *, layer=None):
    """Replace every gene by what is left of it after a linear regression on columns of obs.

    residual = x - mean - R β with β = (RᵀR)⁻¹ Rᵀ x, R the numerical columns, centred and of length one. One categorical
    column: x minus the mean of the cell's group.

    Parameters
    ----------
    adata
        AnnData or CunnData; X or the layer is (cells, genes), CSR, CSC or dense, any numeric dtype.
    keys
        Numerical columns of obs, or one categorical (category, string or bool) column.
    layer
        Layer to use instead of X.

    Notes
    -----
    The matrix becomes dense float32. RᵀR, Rᵀx and β are float64: columns of very different size, as totals, do no harm.
    A constant column, or one that others determine, changes nothing. Sums have the order of the cells within panels of a
    constant size: CPU and GPU give the same bits, and scanpy agrees within 1e-4 of the gene's standard deviation (it solves with
    the raw columns).

    Raises
    ------
    KeyError
        No such column.
    ValueError
        A value that is missing or not finite (the message names the cell), a categorical column beside others.
    """
    _replace(adata, layer, regressed(_by_rows(data.matrix(adata, layer)), adata.obs, [keys] if isinstance(keys, str) else list(keys)))


def regressed(x, obs, keys):
    """What is left of a matrix, or of row blocks, after columns of a table are regressed out; see :func:`regress_out`."""
    missing = [key for key in keys if key not in obs]
    if missing or not keys:
        raise KeyError(f"keys: obs has no column {missing[0]!r}; it has {list(obs)}" if missing else "keys: at least one is needed")
    columns = {key: obs[key] for key in keys}
    numbers = {key: column.to_numpy(dtype=np.float64, na_value=np.nan) for key, column in columns.items() if _is_number(column)}
    for key, column in columns.items():
        lacking = ~np.isfinite(numbers[key]) if key in numbers else column.isna().to_numpy()
        if lacking.any():
            wrong = np.flatnonzero(lacking)
            raise ValueError(f"obs[{key!r}] has no finite value for the cell {obs.index[wrong[0]]!r} ({wrong.size} such cells)")
    groups = [key for key in columns if key not in numbers]
    if groups and len(keys) > 1:
        raise ValueError(f"obs[{groups[0]!r}] is categorical; such a column is regressed out alone, but {len(keys)} keys came")
    if groups:
        return without_group_means(x, pd.factorize(columns[groups[0]], sort=True)[0])
    return without_columns(x, np.array(list(numbers.values())))


def _is_number(column) -> bool:
    return pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column)


def without_group_means(x, group):
    """x minus the mean of the row's group: dense float32. ``group`` is int64 (cells,) of the host."""
    xp, ones = backend.xp_of(x), np.ones(x.shape[1])
    numbers = range(int(group.max(initial=-1)) + 1)
    means = [gene_mean_variance(some_rows(x, np.flatnonzero(group == number)))[0] for number in numbers]

    def change(start, block):
        out = xp.empty(block.shape, dtype=np.float32)
        for number, mean in zip(numbers, means, strict=True):
            rows = np.flatnonzero(group[start : start + block.shape[0]] == number)
            out[xp.asarray(rows)] = scaled(some_rows(block, rows), np.ones(rows.size, dtype=bool), mean, ones, np.inf)
        return out

    return changed(x, change)


def without_columns(x, regressors):
    """x minus its mean and its regression on the rows of ``regressors``: dense float32.

    Parameters
    ----------
    x
        CSR or dense (cells, genes).
    regressors
        float64 (k, cells) of the host.
    """
    xp, n_genes = backend.xp_of(x), x.shape[1]
    design, solve = _design(xp.asarray(regressors))
    found, coefficients = _products(x, design), xp.zeros((len(solve), n_genes))
    for j in range(len(solve)):
        coefficients += solve[:, j : j + 1] * found[j]

    def change(start, block):
        here, out = design[start : start + block.shape[0]], xp.empty(block.shape, dtype=np.float32)
        if hasattr(block, "indptr"):
            left = (*backend.csr_parts(block, np.float32), here, design.shape[1], coefficients, n_genes, out)
            kernels.left_sparse(block.shape[0], *left)
        else:
            values = xp.ascontiguousarray(block, dtype=np.float32)
            left = (len(block), values, here, design.shape[1], coefficients, n_genes, STRIP_ROWS, out)
            kernels.left_dense(-(-len(block) // STRIP_ROWS), *left)
        return out

    return changed(x, change)


def _design(regressors):
    """A column of one length and the regressors, centred and of length one: float64 (cells, 1 + k); (design' design)^-1."""
    xp, (k, n_cells) = backend.xp_of(regressors), regressors.shape
    rows = xp.ones((k + 1, n_cells))
    rows[1:] = regressors
    before = products(rows, rows)
    rows[1:] -= xp.asarray(before[1:, :1] / n_cells)
    sums = products(rows, rows)
    left = sums[0] / n_cells  # what rounding of large means left
    left[0] = 0.0
    centred = sums - n_cells * np.outer(left, left)
    length = np.sqrt(centred.diagonal())
    length[1:][length[1:] <= SAME * np.sqrt(before.diagonal()[1:])] = np.inf
    size, vectors = np.linalg.eigh(centred[1:, 1:] / np.outer(length[1:], length[1:]))
    solve = np.zeros((k + 1, k + 1))
    solve[0, 0], solve[1:, 1:] = 1.0, (vectors / np.where(size > SAME, size, np.inf)) @ vectors.T
    left, length, solve = (xp.asarray(part) for part in (left[:, None], length[:, None], solve))
    return xp.ascontiguousarray(((rows - left) / length).T), solve


def _products(x, design):
    """Sums over the cells of each column of the design times each gene: float64 (columns, genes), in the order of the rows."""
    xp, n_genes, n_design = backend.xp_of(design), x.shape[1], design.shape[1]
    total = xp.zeros((n_design, n_genes))
    for start, block in row_blocks(x):
        n_rows, is_sparse = block.shape[0], hasattr(block, "indptr")
        parts = backend.csr_parts(block, np.float32) if is_sparse else (xp.ascontiguousarray(block, dtype=np.float32),)
        size = (design[start : start + n_rows], n_design, n_rows, n_genes, PANEL)

        def add(first, n_panels, sums, parts=parts, size=size, is_sparse=is_sparse):
            if is_sparse:
                items, width = tiles(n_panels, n_genes, xp, n_design)
                panels.panel_products(items, first, *parts, *size, width, sums)
            else:
                panels.panel_products_dense(n_panels * -(-n_genes // panels.STRIPE), first, *parts, *size, sums)

        by_panels(add, n_rows, total)
    return total
