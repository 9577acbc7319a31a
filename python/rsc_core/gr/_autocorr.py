"""Moran's I and Geary's C: does a gene vary smoothly over the tissue?"""

from __future__ import annotations

import numpy as np
import pandas as pd
import scipy.sparse as sp

from rsc_core import backend, data
from rsc_core.errors import InvalidInput
from rsc_core.gr._pair_sums import degrees, sums_of
from rsc_core.gr._slots import graph_of, place_of
from rsc_core.gr._values import SLAB_NNZ
from rsc_core.kernels.autocorr import mutual_squares
from rsc_core.stats import benjamini_hochberg

TIE = 1e-10  # statistics that differ by less are the same but for rounding

# Column, order of the table, expectation, how many sums permutations change, and the statistic of the sums: w z z, (row + column sums
# of w) z^2 and z^2.
STATISTICS = {
    "moran": ("I", False, lambda n: -1 / (n - 1), 1, lambda n, w, spread, product, *_: n * product / (w * spread)),
    "geary": ("C", True, lambda n: 1.0, 2, lambda n, w, spread, product, weighted: (n - 1) * (weighted - 2 * product) / (2 * w * spread)),
}


def spatial_autocorr(
    adata, *, connectivity_key="spatial_connectivities", genes=None, mode="moran", transformation=True, n_perms=None,
    two_tailed=False, corr_method="fdr_bh", attr="X", layer=None, seed=0, copy=False,
):
    """Does a gene vary smoothly over the tissue?

    Moran's I = n/W sum w_ij z_i z_j / sum z_i^2,  Geary's C = (n-1)/2W sum w_ij (z_i - z_j)^2 / sum z_i^2,  z = x - mean,
    W = sum w_ij. Neighbours alike: I towards 1, C towards 0. No pattern: I = -1/(n-1), C = 1.

    Parameters
    ----------
    adata
        AnnData; X or the layer is (cells, genes), CSR or dense, of the host or the device; values are taken as float32.
    connectivity_key
        Graph in ``obsp``, CSR (cells, cells).
    genes
        Names; by default the genes with ``var['highly_variable']`` where it exists, else all. Of obs: names of columns, by
        default all of numbers; of obsm: positions of columns, by default all.
    mode
        ``"moran"`` or ``"geary"``.
    transformation
        Divide each row of the graph by its sum.
    n_perms
        Number of permutations of the cells; None: analytic p-values only.
    two_tailed
        Double the p-values (at most 1).
    corr_method
        ``"fdr_bh"`` (Benjamini-Hochberg) or None.
    attr
        ``"X"``, ``"obs"``, or ``"obsm"`` with its key as ``layer``.
    layer
        Layer to take instead of X.
    seed
        Of the permutations.
    copy
        Return the table instead of keeping it in ``uns['moranI']`` or ``uns['gearyC']``.

    Returns
    -------
    None, or a DataFrame (genes), strongest pattern first, float64:

    - ``I`` or ``C``.
    - ``pval_norm``, ``var_norm``: p-value and variance when values are normal (Cliff & Ord 1981, Spatial processes).
    - ``pval_sim``: (1 + permutations as far from no pattern, on the observed side) / (n_perms + 1); ``pval_z_sim``:
      normal approximation of it; ``var_sim``: variance over the permutations.
    - ``<p-value>_fdr_bh``: adjusted p-values.

    A gene that is the same in all cells, and every gene where the graph has no edges: NaN, which counts to no adjustment.

    Raises
    ------
    InvalidInput
        When there is no graph, or values are NaN or infinite: the message names the gene.

    Notes
    -----
    CPU and GPU give the same bits for the same float32 input, for any number of genes. Statistic and analytic columns
    equal squidpy 1.8.2 within 1e-10 where its input is float64 (with float32 it rounds weights and deviations, 1e-5).
    A permutation moves the values of cells, and a value meets the neighbours of its new place, as in esda. squidpy
    moves the rows of the graph alone, which gives a symmetric graph half of the variance: under no pattern its
    ``pval_sim`` and ``pval_z_sim`` call too many genes. ``two_tailed`` doubles all p-values here, in squidpy
    ``pval_norm`` alone. Moran 1950, Biometrika 37:17; Geary 1954, Inc. Statistician 5:115.
    """
    if mode not in STATISTICS:
        raise ValueError(f"mode is {mode!r}; it must be one of {', '.join(sorted(STATISTICS))}")
    if corr_method not in ("fdr_bh", None):
        raise ValueError(f"corr_method is {corr_method!r}; it must be 'fdr_bh' or None")
    if n_perms is not None and n_perms < 1:
        raise ValueError(f"n_perms is {n_perms}; it must be None or at least 1")
    x, positions, names = _features(adata, attr, genes, layer)
    graph = weights(graph_of(adata, connectivity_key), row_normalise=transformation)
    table = finished(autocorr(graph, x, positions, mode, n_perms or 0, seed), names, mode, two_tailed, corr_method)
    if copy:
        return table
    adata.uns[f"{mode}{STATISTICS[mode][0]}"] = table
    return None


def stored_autocorr(values, graph, *, genes=None, mode="moran", n_perms=None, seed=0, max_nnz=SLAB_NNZ):
    """The table of :func:`spatial_autocorr` for genes of a counts store, of which some are read at a time.

    Parameters
    ----------
    values
        :class:`rsc_core.gr._values.StoredValues` of the cells of the graph.
    graph
        CSR (cells, cells) of the host, as stored; its rows are divided by their sums.
    genes
        Positions; all by default.
    mode, n_perms, seed
        See :func:`spatial_autocorr`.
    max_nnz
        Non-zeros that are held at once, one gene's at least.

    Returns
    -------
    DataFrame; the same bytes for any ``max_nnz``, and for a gene the same statistics whatever other genes are asked for.
    """
    genes = np.arange(values.store.shape[1]) if genes is None else np.asarray(genes)
    graph, parts = weights(graph, row_normalise=True), []
    for some, x in values.slabs(genes, max_nnz):
        parts.append(autocorr(graph, x, np.arange(len(some)), mode, n_perms or 0, seed))
    columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return finished(columns, values.store.var.index[genes], mode)


def finished(columns, names, mode, two_tailed=False, corr_method="fdr_bh") -> pd.DataFrame:
    """The table of :func:`spatial_autocorr` from the columns of :func:`autocorr`."""
    wrong = names[~np.isfinite(columns["mean"])]
    if len(wrong):
        raise InvalidInput(f"gene {wrong[0]} has NaN or infinite values ({len(wrong)} such genes).", "Take them out, or correct them.")
    table = {name: values for name, values in columns.items() if name != "mean"}
    for name in [name for name in table if name.startswith("pval")]:
        if two_tailed:
            table[name] = np.minimum(2 * table[name], 1)
        if corr_method is not None:
            table[f"{name}_{corr_method}"] = benjamini_hochberg(table[name])
    column, ascending, *_ = STATISTICS[mode]
    order = np.argsort(table[column] if ascending else -table[column], kind="stable")  # NaN comes last
    return pd.DataFrame({name: values[order] for name, values in table.items()}, index=names[order])


def _features(adata, attr, genes, layer):
    """Matrix (cells, features), positions and names of the wanted ones."""
    if attr == "X":
        positions = gene_positions(adata, genes)
        return data.matrix(adata, layer), positions, adata.var_names[positions]
    if attr == "obs":
        names = list(adata.obs.select_dtypes("number")) if genes is None else [genes] if isinstance(genes, str) else list(genes)
        unknown = [name for name in names if name not in adata.obs]
        if unknown:
            raise InvalidInput(f"genes: no column {unknown[0]!r}; obs has {', '.join(adata.obs)}.", "Name columns of obs.")
        x = place_of(adata).asarray(adata.obs[names].to_numpy(dtype=np.float32))
    elif attr == "obsm":
        if layer not in adata.obsm:
            raise InvalidInput(f"layer: there is no obsm[{layer!r}]; obsm has {', '.join(map(repr, adata.obsm))}.", "Name one of these.")
        x = adata.obsm[layer]
        names = list(range(x.shape[1])) if genes is None else [int(i) for i in np.ravel(genes)]
        x = x.to_numpy(dtype=np.float32) if hasattr(x, "to_numpy") else x
        x = x[:, backend.xp_of(x).asarray(names, dtype=np.int64)]
    else:
        raise ValueError(f"attr is {attr!r}; it must be 'X', 'obs' or 'obsm'")
    return x, np.arange(len(names)), pd.Index(names)


def gene_positions(adata, genes) -> np.ndarray:
    if genes is None:
        return np.flatnonzero(adata.var["highly_variable"]) if "highly_variable" in adata.var else np.arange(adata.n_vars)
    names = pd.Index([genes] if isinstance(genes, str) else list(genes))
    places = adata.var_names.get_indexer(names)
    unknown = names[places < 0]
    if len(unknown):
        raise InvalidInput(f"genes: {', '.join(map(repr, unknown[:3]))} not in the data ({len(unknown)} such).", "Name genes of var_names.")
    return places


def weights(graph, row_normalise: bool):
    """A graph as CSR float64 of the host, each row divided by the sum of its absolute weights if asked for."""
    graph = sp.csr_matrix(graph, dtype=np.float64)
    if row_normalise:
        total = np.add.reduceat(np.r_[np.abs(graph.data), 0.0], np.minimum(graph.indptr[:-1], graph.nnz))
        values = graph.data / np.repeat(np.where(total > 0, total, 1), np.diff(graph.indptr))
        graph = sp.csr_matrix((values, graph.indices, graph.indptr), shape=graph.shape)
    return graph


def autocorr(graph, x, genes, mode, n_perms=0, seed=0) -> dict[str, np.ndarray]:
    """The columns of :func:`spatial_autocorr` without adjustment, and each gene's mean.

    Parameters
    ----------
    graph
        CSR float64 of the host.
    x
        CSR or dense (cells, genes).
    genes
        Positions of the genes, (genes,).
    mode, n_perms, seed
        As there; 0 permutations: analytic p-values only.
    """
    n, w = x.shape[0], graph.data.sum()
    _, _, expectation, n_sums, formula = STATISTICS[mode]
    mean, sums, permuted = sums_of(graph, x, genes, n_perms, seed, n_sums)
    with np.errstate(divide="ignore", invalid="ignore"):
        score = formula(n, w, sums[2], *sums[:2])
        table = {"mean": mean, STATISTICS[mode][0]: score}
        variance = np.float64(analytic_variance(graph, mode))
        expected = expectation(n) if n > 1 else np.nan
        table |= {"pval_norm": _one_sided((score - expected) / np.sqrt(variance)), "var_norm": np.full(len(genes), variance)}
        if n_perms:
            simulated = formula(n, w, sums[2], *permuted)
            table |= _simulated(score, simulated)
    return table


def _simulated(score, simulated) -> dict[str, np.ndarray]:
    n_perms = len(simulated)
    at_least = (simulated >= score - TIE).sum(axis=0)
    at_most = (simulated <= score + TIE).sum(axis=0)
    p = (np.minimum(at_least, at_most) + 1) / (n_perms + 1)
    # Gene by gene in memory: the order of the sums must not depend on how many genes there are.
    by_gene = np.ascontiguousarray(simulated.T)
    spread = by_gene.std(axis=1)
    deviation = (score - by_gene.mean(axis=1)) / np.where(spread > TIE, spread, np.nan)
    return {"pval_z_sim": _one_sided(deviation), "pval_sim": np.where(np.isnan(score), np.nan, p), "var_sim": by_gene.var(axis=1)}


def _one_sided(z):
    """p-value of a standard normal deviate, on its own side."""
    from scipy.special import ndtr

    return ndtr(-np.abs(z))


def analytic_variance(graph, mode) -> float:
    """Variance of the statistic where values are independent and normal (Cliff & Ord 1981); NaN without edges."""
    n, s0 = graph.shape[0], graph.data.sum()
    if s0 == 0 or n < 2:
        return np.nan
    s1, s2 = mutual_squares(*backend.csr_parts(graph)), (degrees(graph) ** 2).sum()
    if mode == "geary":
        return ((2 * s1 + s2) * (n - 1) - 4 * s0**2) / (2 * (n + 1) * s0**2)
    return (n**2 * s1 - n * s2 + 3 * s0**2) / ((n - 1) * (n + 1) * s0**2) - 1 / (n - 1) ** 2
