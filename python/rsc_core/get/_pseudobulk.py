"""Sums of the counts of each sample and group of cells, for tests between samples."""

from __future__ import annotations

import numpy as np
import pandas as pd

from rsc_core import backend
from rsc_core.get._aggregate import group_table
from rsc_core.kernels.markers import joined
from rsc_core.tl._group_moments import MAX_CODES, scales_of, sums_of, values_of


def pseudobulk(adata, sample_col, groups_col=None, *, layer=None, min_cells=1):
    """Add up the counts of each gene over the cells of each sample, or of each group of each sample.

    Parameters
    ----------
    adata
        AnnData with counts in X or the layer, (cells, genes), CSR (CSC and dense are converted), NumPy or CuPy inside; used as float32.
    sample_col
        Column of obs with the samples.
    groups_col
        Column of obs with the groups, such as clusters; None: one row for each sample. Cells without a value of either are left out.
    layer
        Layer to use instead of X.
    min_cells
        Rows with fewer cells are left out.

    Returns
    -------
    AnnData of the host (rows, genes): X float64; obs: ``sample_col``, ``groups_col``, all columns of obs that have one value in each
    sample (condition, donor, ...), ``n_cells``, ``n_counts``; rows in the order of the categories, named ``<sample>_<group>``.

    Raises
    ------
    KeyError
        No such column.
    ValueError
        A value that is not finite, no row left, or more than 65,534 rows.

    Notes
    -----
    Sums are exact for counts, and the same on both backends. decoupler's ``pp.pseudobulk`` has the same sums.
    """
    import anndata as ad

    x, genes = values_of(adata, layer)
    sums, obs = pseudobulk_blocks(lambda: [x], adata.obs, len(genes), sample_col, groups_col, min_cells)
    return ad.AnnData(X=sums, obs=obs, var=adata.var.copy())


def pseudobulk_blocks(blocks, obs, n_genes: int, sample_col, groups_col=None, min_cells=1) -> tuple[np.ndarray, pd.DataFrame]:
    """Sums (rows, genes) and table of the rows from blocks of cells, see :func:`rsc_core.tl._group_moments.summarize_blocks`."""
    columns = [sample_col] if groups_col is None else [sample_col, groups_col]
    code, rows = group_table(obs, columns)
    if len(rows) >= MAX_CODES:
        raise ValueError(f"there are {len(rows)} samples and groups; at most {MAX_CODES - 1} can be added up")
    sizes = np.bincount(code[code >= 0], minlength=len(rows))
    kept = sizes >= min_cells
    if not kept.any():
        raise ValueError(f"no sample and group has {min_cells} cells; lower min_cells")
    place = np.full(len(rows) + 1, kept.sum(), dtype=np.uint16)  # the last, code -1, is of cells of no row
    place[:-1][kept] = np.arange(kept.sum())
    scales = scales_of(blocks, len(code))
    table = backend.to_host(sums_of(blocks, place[code], int(kept.sum()) + 1, n_genes, scales))[:-1]
    sums = joined(table[..., 1], table[..., 2], scales[0])
    rows = rows[kept]
    samples = obs.loc[code >= 0].groupby(pd.Categorical(obs.loc[code >= 0, sample_col]), observed=True)
    for column in obs.columns.difference(columns, sort=False):
        if (samples[column].nunique(dropna=False) == 1).all():
            rows[column] = samples[column].first().reindex(rows[sample_col].astype(object)).to_numpy()
    return sums, rows.assign(n_cells=sizes[kept], n_counts=sums.sum(axis=1))
