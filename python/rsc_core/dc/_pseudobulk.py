"""Sums of the counts of groups of cells."""

from __future__ import annotations

import numpy as np
import pandas as pd

from rsc_core import backend
from rsc_core.dc._read import values_of

MODES = ("sum", "mean")


def get_pseudobulk(data, sample_col, groups_col=None, *, layer=None, raw=False, mode="sum", min_cells=1, min_counts=0):
    """Sum or mean of each gene over the cells of each sample, or of each group of each sample.

    Parameters
    ----------
    data
        AnnData, (cells, genes), CSR (CSC and dense are converted), NumPy or CuPy inside.
    sample_col
        Column of obs with the samples; cells without one are left out.
    groups_col
        Column of obs with the groups, such as clusters or cell types; None: one row for each sample.
    layer, raw
        Where the values are, as for :func:`rsc_core.dc.ulm`: counts, for ``mode="sum"``.
    mode
        ``"sum"`` or ``"mean"``.
    min_cells, min_counts
        Rows with fewer cells, or a smaller sum of all values, are left out.

    Returns
    -------
    AnnData (rows, genes): X float64 on the host; obs: ``sample_col``, ``groups_col``, ``n_cells``, ``n_counts``; rows in the order of
    the samples' and groups' names, named ``<sample>_<group>``. Sums in the order of the cells: equal on both backends.

    Raises
    ------
    ValueError
        For an unknown mode, a column that is missing, and where no row is left.
    """
    import anndata as ad
    import scipy.sparse as sp

    if mode not in MODES:
        raise ValueError(f"mode is {mode!r}; it must be one of {', '.join(MODES)}")
    columns = [sample_col] if groups_col is None else [sample_col, groups_col]
    for column in columns:
        if column not in data.obs:
            raise ValueError(f"obs has no column {column!r}; it has {', '.join(map(str, data.obs.columns))}")
    x, _, var_names = values_of(data, layer, raw)
    labels = pd.DataFrame({column: pd.Categorical(data.obs[column]) for column in columns})
    whole = labels.notna().all(axis=1).to_numpy()
    groups = labels[whole].groupby(columns, observed=True, sort=True)
    number, obs = groups.ngroup().to_numpy(), groups.size().rename("n_cells").reset_index()
    indptr, indices, values = (backend.to_host(part) for part in backend.csr_parts(x))
    host = sp.csr_matrix((values.astype(np.float64), indices, indptr), shape=x.shape)
    membership = sp.csr_matrix((np.ones(number.size), (number, np.flatnonzero(whole))), shape=(len(obs), x.shape[0]))
    sums = (membership @ host).toarray()
    obs["n_counts"] = sums.sum(axis=1)
    obs.index = obs[columns].astype(str).agg("_".join, axis=1).to_numpy()
    kept = ((obs["n_cells"] >= min_cells) & (obs["n_counts"] >= min_counts)).to_numpy()
    if not kept.any():
        raise ValueError(f"no group has {min_cells} cells and a sum of {min_counts}; lower min_cells or min_counts")
    if mode == "mean":
        sums /= obs["n_cells"].to_numpy()[:, None]
    return ad.AnnData(X=sums[kept], obs=obs[kept], var=pd.DataFrame(index=var_names))
