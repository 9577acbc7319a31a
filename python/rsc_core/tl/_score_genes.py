"""Scores of gene sets against genes of like expression."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd

from rsc_core import data, rng
from rsc_core.pp._moments import gene_mean_variance, totals
from rsc_core.pp._normalize import _by_rows
from rsc_core.pp._pca import select_genes


def score_genes(
    adata, gene_list, *, ctrl_as_ref=True, ctrl_size=50, gene_pool=None, n_bins=25, score_name="score", random_state=0, layer=None
):
    """Mean of a set of genes minus the mean of control genes of like mean expression, for each cell.

    Genes of the pool are ranked by mean and cut into about ``n_bins`` bins of equal number; from each bin that holds a gene
    of the set ``ctrl_size`` controls are drawn. 0: the set is as active as its like; above: more.

    Parameters
    ----------
    adata
        AnnData or CunnData; X or the layer is (cells, genes), CSR, CSC or dense, usually logarithmised.
    gene_list
        Names; those that are absent are left out, with a warning.
    ctrl_as_ref
        Draw controls among all genes of a bin, then leave the set out (scanpy's and Seurat's way); False: leave it out before.
    ctrl_size
        Controls drawn from a bin.
    gene_pool
        Names to draw from, which must hold the set; all genes by default.
    n_bins
        Bins of mean expression.
    score_name
        Column of obs that is written, float64.
    random_state
        Seed of the controls.
    layer
        Layer to use instead of X.

    Notes
    -----
    Bins are those of scanpy, and where no bin has more than ``ctrl_size`` genes, so are the controls: scores agree within
    1e-6 (1e-12 of float64). Otherwise controls are drawn by counters of the gene's position: the same on both backends and for
    every set, but not those of scanpy. Tirosh et al. 2016, Science 352:189.

    Raises
    ------
    ValueError
        When no gene of the set, or no control, is there.
    """
    names, x = adata.var_names, _by_rows(data.matrix(adata, layer))
    if not names.is_unique:
        raise ValueError("var_names are not unique: a name in gene_list has several meanings; make them unique")
    listed = pd.Index([gene_list] if isinstance(gene_list, str) else list(gene_list)).unique()
    absent = listed.difference(names, sort=False)
    if len(absent):
        warnings.warn(f"{len(absent)} genes of {score_name!r} are not in var_names and left out: {list(absent[:5])}", stacklevel=2)
    genes = np.sort(names.get_indexer(listed.intersection(names)))
    pool = np.arange(len(names)) if gene_pool is None else np.sort(names.get_indexer(pd.Index(gene_pool).unique().intersection(names)))
    if not genes.size or not pool.size:
        raise ValueError(f"no gene of {'gene_list' if pool.size else 'gene_pool'} is in var_names")
    outside = np.setdiff1d(genes, pool)
    if outside.size:
        raise ValueError(f"gene {names[outside[0]]!r} of gene_list is not in gene_pool ({outside.size} such genes)")
    controls = control_genes(gene_mean_variance(x)[0], genes, pool, ctrl_size, n_bins, ctrl_as_ref, random_state)
    if not controls.size:
        raise ValueError("there is no control gene in any bin; enlarge gene_pool" + (" or set ctrl_as_ref=False" if ctrl_as_ref else ""))
    adata.obs[score_name] = set_mean(x, genes) - set_mean(x, controls)


def control_genes(mean, genes, pool, ctrl_size: int, n_bins: int, ctrl_as_ref: bool, seed: int) -> np.ndarray:
    """Positions of the control genes, rising.

    Parameters
    ----------
    mean
        float64 (genes,) of the host.
    genes, pool
        Positions, rising.
    """
    pool = pool[np.isfinite(mean[pool])]
    size = max(1, int(np.round(len(pool) / (n_bins - 1))))
    cut = pd.Series(mean[pool]).rank(method="min").to_numpy() // size
    in_set = np.isin(pool, genes)
    key = rng.bits(seed, "score_genes", pool.astype(np.uint64))
    drawn = []
    for number in np.unique(cut[in_set]):
        among = np.flatnonzero((cut == number) & (ctrl_as_ref | ~in_set))
        drawn.append(pool[among[np.argsort(key[among], kind="stable")[:ctrl_size]]])
    return np.setdiff1d(np.concatenate(drawn), genes) if drawn else np.empty(0, dtype=np.int64)


def set_mean(x, genes) -> np.ndarray:
    """Mean over some genes of each cell: float64 (cells,) of the host."""
    return totals(select_genes(x, genes), 1) / len(genes)


def score_genes_cell_cycle(adata, *, s_genes, g2m_genes, **options):
    """Scores of the S and the G2/M phase, and the phase that they say.

    Writes ``obs['S_score']``, ``obs['G2M_score']`` and ``obs['phase']``: G1 where both are below 0, else the phase of the
    larger score (S where they are equal).

    Parameters
    ----------
    adata
        AnnData or CunnData.
    s_genes, g2m_genes
        Names of the genes of each phase.
    options
        Of :func:`score_genes`; ``ctrl_size`` is the length of the shorter list, as in scanpy.
    """
    size = min(len(s_genes), len(g2m_genes))
    for genes, name in ((s_genes, "S_score"), (g2m_genes, "G2M_score")):
        score_genes(adata, genes, score_name=name, ctrl_size=size, **options)
    s, g2m = adata.obs["S_score"].to_numpy(), adata.obs["G2M_score"].to_numpy()
    phase = np.where((s < 0) & (g2m < 0), "G1", np.where(g2m > s, "G2M", "S"))
    adata.obs["phase"] = pd.Categorical(phase, categories=["G1", "G2M", "S"])
