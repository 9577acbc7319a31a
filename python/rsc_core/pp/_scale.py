"""Genes on one scale: unit variance, or the residuals of a negative binomial."""

from __future__ import annotations

import numpy as np

from rsc_core import backend, data
from rsc_core.kernels import moments as residuals
from rsc_core.kernels import scale as kernels
from rsc_core.pp._blocks import row_blocks
from rsc_core.pp._hvg_flavors import model
from rsc_core.pp._moments import gene_mean_variance, some_rows
from rsc_core.pp._normalize import _by_rows, _like, _replace, _rows, changed


def scale(adata, *, zero_center=True, max_value=None, mask_obs=None, layer=None):
    """Shift and stretch every gene to mean 0 and variance 1.

    value = (x - mean) / sd, clipped to ± ``max_value``; without ``zero_center`` x / sd, at most ``max_value``.

    Parameters
    ----------
    adata
        AnnData or CunnData; X or the layer is (cells, genes), CSR, CSC or dense, any numeric dtype.
    zero_center
        Take the mean off. The result is dense then.
    max_value
        Limit of the values; None: none.
    mask_obs
        Column of obs or boolean mask: only these cells are taken into means and variances, and only they are scaled.
    layer
        Layer to scale instead of X.

    Notes
    -----
    Replaces the matrix, float32, and writes ``var['mean']`` and ``var['std']`` (``'mean of COLUMN'``, ``'mean with mask'``
    where there is a mask), float64. Variances have n - 1 in the denominator. A constant gene has standard deviation 1, as in
    scanpy, and is 0 everywhere. Everything is computed in float64 and rounded once: CPU and GPU give the same bits; scanpy,
    which subtracts in the dtype of X, agrees within 1e-5 of float32 input.
    """
    suffix = "" if mask_obs is None else f" of {mask_obs}" if isinstance(mask_obs, str) else " with mask"
    mask = _mask(adata, mask_obs)
    if max_value is not None and max_value <= 0:
        raise ValueError(f"max_value is {max_value}; it must be above 0")
    x = data.matrix(adata, layer)
    mean, variance = gene_mean_variance(some_rows(x, np.flatnonzero(mask)))
    spread = np.sqrt(variance)
    spread[spread == 0] = 1.0
    adata.var[f"mean{suffix}"], adata.var[f"std{suffix}"] = mean, spread
    _replace(adata, layer, scaled(x, mask, mean if zero_center else None, spread, np.inf if max_value is None else max_value))


def _mask(adata, mask_obs) -> np.ndarray:
    if mask_obs is None:
        return np.ones(adata.n_obs, dtype=bool)
    if isinstance(mask_obs, str):
        if mask_obs not in adata.obs:
            raise KeyError(f"mask_obs: obs has no column {mask_obs!r}; it has {list(adata.obs)}")
        mask_obs = adata.obs[mask_obs]
    mask = np.asarray(mask_obs)
    if mask.shape != (adata.n_obs,) or mask.dtype != bool:
        raise ValueError(f"mask_obs is {mask.dtype} of shape {mask.shape}; bool of shape ({adata.n_obs},) is needed")
    if not mask.any():
        raise ValueError("mask_obs takes no cell")
    return mask


def scaled(x, mask, center, spread, highest: float):
    """(x - center) / spread in float64, clipped, rounded to float32; see :func:`scale`.

    Parameters
    ----------
    x
        CSR, CSC or dense.
    mask
        bool (cells,) of the host.
    center
        float64 (genes,) of the host; None: the form of x is kept, and there is no lower limit.
    spread
        float64 (genes,) of the host.
    """
    xp = backend.xp_of(x)
    mask, spread = xp.asarray(mask, dtype=np.int32), xp.asarray(spread)
    middle = None if center is None else xp.asarray(center)

    def change(start, block):
        return _scaled_block(block, mask[start : start + block.shape[0]], middle, spread, highest)

    return changed(_by_rows(x), change)


def _scaled_block(x, mask, center, spread, highest: float):
    """:func:`scaled` of one block; mask int32, the others float64, on its backend."""
    indptr, values = _rows(x)
    xp, (n_cells, n_genes) = backend.xp_of(values), x.shape
    lowest = -np.inf if center is None else -highest
    middle = xp.zeros(n_genes) if center is None else center
    if not hasattr(x, "indptr"):
        out = xp.empty(x.shape, dtype=np.float32)
        kernels.scaled_dense(n_cells, values.reshape(x.shape), mask, middle, spread, lowest, highest, n_genes, out)
        return out
    indices = x.indices.astype(np.int32, copy=False)
    if center is None:
        out = xp.empty_like(values)
        kernels.scale_entries(n_cells, indptr, indices, values, mask, spread, highest, out)
        return _like(x, out)
    out = xp.empty(x.shape, dtype=np.float32)
    kernels.scaled_rows(n_cells, indptr, indices, values, mask, middle, spread, lowest, highest, n_genes, out)
    return out


def normalize_pearson_residuals(adata, *, theta=100.0, clip=None, layer=None, inplace=True):
    """Replace counts by their Pearson residuals under a negative binomial of the cell's and the gene's totals.

    r = (x - mu) / sqrt(mu + mu² / theta), mu = cell total · gene total / total, clipped to ± ``clip``.

    Parameters
    ----------
    adata
        AnnData or CunnData; X or the layer holds raw counts (cells, genes), CSR, CSC or dense.
    theta
        Overdispersion, above 0; inf: Poisson.
    clip
        Limit of the residuals; by default sqrt(cells).
    layer
        Layer to use instead of X.
    inplace
        Replace the matrix, or return ``{"X": residuals, "theta": theta, "clip": clip}``.

    Returns
    -------
    None, or the dict; residuals are dense float32 (cells, genes).

    Notes
    -----
    Writes ``uns['pearson_residuals_normalization']`` (theta, clip, computed_on). Computed in float64 and rounded once: CPU
    and GPU give the same bits; ``scanpy.experimental`` agrees within 1e-5. A cell or gene without counts has residuals 0
    (scanpy: NaN). Lause et al. 2021, Genome Biol 22:258.
    """
    if theta <= 0 or (clip is not None and clip < 0):
        raise ValueError(f"theta={theta} must be above 0, clip={clip} at least 0 or None")
    counts = data.csr(adata, layer)
    if any(bool((block.data < 0).any()) for _, block in row_blocks(counts)):
        raise ValueError(f"Pearson residuals take counts; {'X' if layer is None else layer} has negative values")
    clip = float(np.sqrt(adata.n_obs) if clip is None else clip)
    out = pearson_residuals(counts, theta, clip)
    if not inplace:
        return {"X": out, "theta": theta, "clip": clip}
    _replace(adata, layer, out)
    adata.uns["pearson_residuals_normalization"] = {"theta": theta, "clip": clip, "computed_on": layer or "adata.X"}
    return None


def pearson_residuals(counts, theta: float, clip: float):
    """Residuals of CSR counts, dense float32, or in row blocks; see :func:`normalize_pearson_residuals`."""
    xp, n_genes = backend.xp_of(counts), counts.shape[1]
    cell_total, share = map(xp.asarray, model(counts))

    def change(start, block):
        here, out = cell_total[start : start + block.shape[0]], xp.empty(block.shape, dtype=np.float32)
        residuals.residual_rows(block.shape[0], *backend.csr_parts(block, np.float32), here, share, n_genes, theta, clip, out)
        return out

    return changed(counts, change)
