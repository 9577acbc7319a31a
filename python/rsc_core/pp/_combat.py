"""ComBat: batches get the same mean and variance of each gene, by empirical Bayes."""

from __future__ import annotations

import numpy as np
import pandas as pd

from rsc_core import backend, data
from rsc_core.pp._harmony import batch_codes

CHANGE = 1e-4  # relative, of the estimates, at which the iteration ends, as in scanpy
MAX_ROUNDS = 10_000


def combat(adata, key="batch", *, covariates=None, inplace=True):
    """Take additive and multiplicative effects of batches off each gene (Johnson et al. 2007, doi:10.1093/biostatistics/kxj037).

    x_ij = a_j + (covariates b)_ij + s_j (g_bj + d_bj e_ij): a, b and s of all cells; g and d of batch b, each shrunk to a
    distribution over the genes of the batch (normal; inverse gamma), whose parameters are from moments.

    Parameters
    ----------
    adata
        X (cells, genes), log-normalised, dense, CSR or CSC, on the backend that is to do the work; it becomes dense.
    key
        Column of obs with the batch.
    covariates
        Columns of obs whose effects are to stay: numbers as they are, others by their levels, less the first.
    inplace
        Replace X, or return the corrected matrix.

    Returns
    -------
    None, or float64 (cells, genes) on the backend of X. With one batch the values are returned as they are, dense.

    Raises
    ------
    KeyError
        No such column.
    ValueError
        A cell without batch or covariate, a value that is not finite, a batch of one cell, covariates that name the batch, or that
        cannot be told from the batches.

    Notes
    -----
    scanpy agrees within 1e-6 where it works: a gene without variance stops its iteration after one round, and levels of a covariate
    make its design singular. Here such a gene stays as it is, and the others converge.
    """
    batch = batch_codes(adata.obs, key)
    design = _design(adata.obs, key, batch, list(covariates or []))
    x = adata.X.toarray() if hasattr(adata.X, "toarray") else adata.X
    data.check_finite(x, "X")
    corrected = without_batches(x, batch, design)
    if not inplace:
        return corrected
    adata.X = corrected
    return None


def _design(obs, key: str, batch, covariates) -> np.ndarray:
    """(cells, batches + covariates): 1 for the batch of a cell, then the covariates."""
    if key in covariates or len(set(covariates)) < len(covariates):
        raise ValueError(f"covariates are {covariates}; they must be unique and not have the batch {key!r}")
    columns = [batch[:, None] == np.arange(batch.max() + 1)]
    for name in covariates:
        if name not in obs:
            raise KeyError(f"covariates: there is no column {name!r} in obs; it has {list(obs)}")
        if obs[name].isna().any():
            raise ValueError(f"obs[{name!r}] has no value for the cell {obs.index[obs[name].isna()][0]!r}; fill it or remove the cell")
        numeric = pd.api.types.is_numeric_dtype(obs[name]) and not pd.api.types.is_bool_dtype(obs[name])
        columns.append(obs[[name]].to_numpy(dtype=np.float64) if numeric else pd.get_dummies(obs[name].astype(str)).to_numpy()[:, 1:])
    design = np.concatenate([column.astype(np.float64) for column in columns], axis=1)
    if np.linalg.matrix_rank(design) < design.shape[1]:
        raise ValueError(f"covariates {covariates} cannot be told from the batches of {key!r}: leave one out")
    return design


def without_batches(x, batch: np.ndarray, design: np.ndarray):
    """ComBat on arrays.

    Parameters
    ----------
    x
        (cells, genes), dense.
    batch
        int64 (cells,) of the host, from 0.
    design
        float64 (cells, batches + covariates) of the host, the batches first.

    Returns
    -------
    float64 (cells, genes), on the backend of x.
    """
    xp, sizes = backend.xp_of(x), np.bincount(batch)
    x = x.astype(np.float64)
    if len(sizes) == 1:
        return x
    if sizes.min() < 2:
        raise ValueError(f"batch number {int(sizes.argmin())} (in sorted order) has one cell: no variance can be taken; leave it out")
    cells = [xp.asarray(np.flatnonzero(batch == b)) for b in range(len(sizes))]
    inverse = np.linalg.inv(design.T @ design)
    effects = backend.to_host(xp.asarray(inverse @ design.T) @ x)
    mean = (sizes / sizes.sum()) @ effects[: len(sizes)]
    covariates, effects_of = xp.asarray(design[:, len(sizes) :]), xp.asarray(effects[len(sizes) :])
    fixed = [xp.asarray(mean) + covariates[rows] @ effects_of for rows in cells]
    spread = np.zeros(x.shape[1])
    for rows, b, expected in zip(cells, range(len(sizes)), fixed, strict=True):
        gap = x[rows] - expected + xp.asarray(mean - effects[b])
        spread += _column_sums(gap * gap)
    deviation = np.sqrt(spread / sizes.sum())
    deviation[spread <= 1e-24 * sizes.sum() * np.maximum(mean * mean, 1e-300)] = 0  # what rounding leaves of a constant gene
    varies = deviation > 0
    scale = xp.asarray(np.where(varies, deviation, 1))
    for rows, expected in zip(cells, fixed, strict=True):
        z = (x[rows] - expected) / scale
        shift, width = _posterior(_column_sums(z)[varies], _column_sums(z * z)[varies], len(rows))
        whole = np.zeros(x.shape[1]), np.ones(x.shape[1])
        whole[0][varies], whole[1][varies] = shift, np.sqrt(width)
        corrected = (z - xp.asarray(whole[0])) / xp.asarray(whole[1]) * scale + expected
        x[rows] = xp.where(xp.asarray(varies), corrected, x[rows])
    return x


def _column_sums(x) -> np.ndarray:
    """Sums over the cells, of the host."""
    xp = backend.xp_of(x)
    return backend.to_host(xp.ones(len(x)) @ x)


def _posterior(total, squares, n: int):
    """Shift and variance of each gene in a batch of n cells, from sums of its standardised values and their squares."""
    shift_0 = total / n
    variance_0 = np.maximum(squares - total * shift_0, 0) / (n - 1)
    center, spread = shift_0.mean(), shift_0.var()
    m, s2 = variance_0.mean(), variance_0.var(ddof=1) if len(variance_0) > 1 else 0.0
    if spread == 0 or s2 == 0:  # one gene, or all alike: nothing to shrink to
        return shift_0, np.where(variance_0 > 0, variance_0, 1)
    a, b = (2 * s2 + m**2) / s2, (m * s2 + m**3) / s2
    shift, variance = shift_0, variance_0
    for _ in range(MAX_ROUNDS):
        new_shift = (spread * n * shift_0 + variance * center) / (spread * n + variance)
        around = squares - 2 * new_shift * total + n * new_shift * new_shift
        new_variance = (0.5 * around + b) / (n / 2 + a - 1)
        with np.errstate(divide="ignore", invalid="ignore"):
            change = np.nanmax([np.abs((new_shift - shift) / shift), np.abs((new_variance - variance) / variance)])
        shift, variance = new_shift, new_variance
        if change <= CHANGE:
            break
    return shift, variance
